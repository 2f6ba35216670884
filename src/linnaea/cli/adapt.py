"""``linnaea adapt FOLDER --output HEAD``: fit a head for your own classes to a few photographs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from linnaea.cli import Commands
from linnaea.cli.console import report_failed, say, tell
from linnaea.model.folders import DEFAULT_MODEL
from linnaea.taxonomy.taxon import TextType

_OF_DECISIONS = ("decisions", "labels", "root")
"""The options that go with --decisions only."""


@dataclass(frozen=True, kw_only=True)
class Adapt:
    """Fit a head to labelled photographs, or labels to reviewed ones; use it as `linnaea predict --labels HEAD`."""

    folder: tyro.conf.Positional[Path | None] = None
    """A folder with one folder of photographs per class, named after the taxon. If it has splits, train is fitted and
    test is scored. Photographs of one burst are validated together."""
    decisions: tuple[Path, ...] = ()
    """Instead of FOLDER, files of reviewers' decisions (linnaea review): the labels that answered are adapted, and
    stay all there. Before and after are compared on events that were held out."""
    labels: str | None = None
    """The labels that answered, with --decisions. Default: the model's own."""
    root: Path | None = None
    """Folder that the photographs of --decisions must lie in. Default: looked for here and beside the decisions."""
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

    def __post_init__(self) -> None:
        if (self.folder is None) == (not self.decisions):
            raise ValueError("give either FOLDER, with a folder per class, or --decisions FILE")
        if not self.decisions and (self.labels is not None or self.root is not None):
            raise ValueError("--labels and --root go with --decisions")


def adapt(options: Adapt) -> int:
    """Fit a head, or adapt labels, and print how it did on photographs that were held out."""
    if options.decisions:
        return _adapt_reviewed(options)
    from linnaea.predict.adapt import adapt

    head = adapt(**{key: value for key, value in vars(options).items() if key not in _OF_DECISIONS})
    for note in head.notes:
        say(note)
    for name in head.validations:
        say(f"{name:<12}{head.metrics[f'{name}/top1']:7.1%} right in cross-validation")
    if head.tested is not None:
        say(f"{'test':<12}{head.tested.right:7.1%} right on {len(head.tested.labels):,} photographs of split test")
    say(f"report: {head.report_path}")
    tell(f"{len(head.labels)} photographs of {len(head.bank)} classes: {options.output}", flush=True)
    return report_failed(head.failed, len(head.labels) + len(head.failed))


def _adapt_reviewed(options: Adapt) -> int:
    from linnaea.predict.adapt_reviewed import adapt_reviewed

    found = adapt_reviewed(*options.decisions, model=options.model, labels=options.labels, output=options.output,
                           root=options.root, preprocess=options.preprocess, device=options.device,
                           batch_size=options.batch_size, workers=options.workers)  # fmt: skip
    examples = found.examples
    for line in (*examples.notes, *found.summary):
        say(line)
    say(f"report: {found.report_path}")
    n = len(examples.taxa)
    tell(f"{n} reviewed photographs of {examples.n_events} events: {options.output}", flush=True)
    return report_failed(examples.failed, n + len(examples.failed))


COMMANDS: Commands = {"": (Adapt, adapt)}
