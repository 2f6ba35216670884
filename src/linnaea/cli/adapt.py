"""``linnaea adapt FOLDER --output HEAD``: fit a head for your own classes to a few photographs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from linnaea.cli import Commands
from linnaea.cli.console import report_failed, say, tell
from linnaea.model.folders import DEFAULT_MODEL
from linnaea.taxonomy.taxon import TextType


@dataclass(frozen=True, kw_only=True)
class Adapt:
    """Fit a head to labelled photographs, blended with zero-shot; use it as `linnaea predict --labels HEAD`."""

    folder: tyro.conf.Positional[Path]
    """A folder with one folder of photographs per class, named after the taxon. If it has splits, train is fitted and
    test is scored. Photographs of one burst are validated together."""
    output: Path
    """Folder of the head."""
    model: str = DEFAULT_MODEL
    """Folder or name of the model; nano comes with this package."""
    class_level: int = 0
    """The folder level that holds the classes, starting at 1; 0 finds it by the names."""
    resolve: bool = True
    """Resolve the names of the classes with the embedded checklist (or --checklist); with --no-resolve they are kept as
    they are."""
    checklist: tuple[str, ...] = ()
    """Resolve names with these checklists: names or files, in order of preference."""
    merge_by: Literal["class", "taxon"] = "class"
    """Folders over one taxon that differ in more than spelling, author or language (Danaus plexippus larva): class
    keeps them apart, taxon merges them."""
    text_type: TextType = TextType.TAXON_COM
    """Caption form of the classes."""
    preprocess: Literal["crop", "squash"] | None = None
    """crop: the middle square; squash: the whole photograph. Default: as the model was trained. The head records
    it, and answers with it."""
    device: str = "auto"
    """cpu, cuda, mps or auto."""
    batch_size: int = 32
    """Photographs that the model encodes at once."""
    workers: int = 2
    """Number of threads that decode images."""


def adapt(options: Adapt) -> int:
    """Fit a head, and print the cross-validation."""
    from linnaea.predict.adapt import adapt

    head = adapt(**vars(options))
    for note in head.notes:
        say(note)
    for name in head.validations:
        say(f"{name:<12}{head.metrics[f'{name}/top1']:7.1%} right in cross-validation")
    if head.tested is not None:
        say(f"{'test':<12}{head.tested.right:7.1%} right on {len(head.tested.labels):,} photographs of split test")
    say(f"report: {head.report_path}")
    tell(f"{len(head.labels)} photographs of {len(head.bank)} classes: {options.output}", flush=True)
    return report_failed(head.failed, len(head.labels) + len(head.failed))


COMMANDS: Commands = {"": (Adapt, adapt)}
