"""``linnaea adapt FOLDER --output HEAD``: fit a head for your own classes to a few photographs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from linnaea.cli import Commands
from linnaea.cli.console import report_failed, say, tell
from linnaea.cli.parsing import refuse_given, values_of
from linnaea.counting import count
from linnaea.model.folders import DEFAULT_MODEL
from linnaea.taxonomy.taxon import TextType


@dataclass(frozen=True, kw_only=True)
class OfFolder:
    """The options of a head for class folders."""

    folder: tyro.conf.Positional[Path | None] = None
    """A folder with one folder of photographs per class, named after the taxon. If it has splits, train is fitted and
    test is scored. Photographs of one burst are validated together."""
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


@dataclass(frozen=True, kw_only=True)
class OfDecisions:
    """The options of labels that are adapted to reviewed photographs."""

    decisions: tuple[Path, ...] = ()
    """Instead of FOLDER, files of reviewers' decisions (linnaea review): the labels that answered are adapted, and all
    of them are kept. Before and after are compared on events that were held out."""
    labels: str | None = None
    """The labels that answered, with --decisions. Default: the model's own."""
    root: Path | None = None
    """Folder that the photographs of --decisions must lie in. Default: looked for here and beside the decisions."""


@dataclass(frozen=True, kw_only=True)
class OfBoth:
    """The options that both have."""

    output: Path
    """Folder of the head."""
    model: str = DEFAULT_MODEL
    """Folder or name of the model; nano comes with this package."""
    preprocess: Literal["crop", "squash"] | None = None
    """crop: the middle square; squash: the whole photograph. Default: as the model was trained. The head records
    it, and answers with it."""
    device: str = "auto"
    """cpu, cuda, mps or auto."""
    batch_size: int = 32
    """Photographs that the model encodes at once."""
    workers: int = 2
    """Number of threads that decode images."""


@dataclass(frozen=True, kw_only=True)
class Adapt(OfDecisions, OfFolder, OfBoth):
    """Fit a head to labelled photographs, or labels to reviewed ones; use it as `linnaea predict --labels HEAD`."""

    def __post_init__(self) -> None:
        if (self.folder is None) == (not self.decisions):
            raise ValueError("give either FOLDER, with a folder per class, or --decisions FILE")
        if self.decisions:
            refuse_given(self, OfFolder, "FOLDER")
        else:
            refuse_given(self, OfDecisions, "--decisions")


def adapt(options: Adapt) -> int:
    """Fit a head, or adapt labels, and print how it did on photographs that were held out."""
    return _adapt_reviewed(options) if options.decisions else _adapt_folder(options)


def _adapt_folder(options: Adapt) -> int:
    from linnaea.predict.adapt import IN_WORDS, adapt

    head = adapt(**values_of(options, OfFolder, OfBoth))
    for note in head.notes:
        say(note)
    for name in head.validations:
        say(f"{name:<12}{head.metrics[f'{name}/top1']:7.1%} right in cross-validation, {IN_WORDS[name]}")
    if head.tested is not None:
        say(
            f"{'test':<12}{head.tested.right:7.1%} right on"
            f" {count(len(head.tested.labels), 'photograph')} of split test"
        )
    say(f"report: {head.report_path}")
    tell(
        f"{count(len(head.labels), 'photograph', '')} of {count(len(head.bank), 'class', '')}: {options.output}",
        flush=True,
    )
    return report_failed(head.failed, len(head.labels) + len(head.failed))


def _adapt_reviewed(options: Adapt) -> int:
    from linnaea.predict.adapt_reviewed import adapt_reviewed

    given = values_of(options, OfDecisions, OfBoth)
    found = adapt_reviewed(*given.pop("decisions"), **given)
    examples = found.examples
    for line in (*examples.notes, *found.summary):
        say(line)
    say(f"report: {found.report_path}")
    n = len(examples.taxa)
    tell(
        f"{count(n, 'reviewed photograph', '')} of {count(examples.n_events, 'event', '')}: {options.output}",
        flush=True,
    )
    return report_failed(examples.failed, n + len(examples.failed))


COMMANDS: Commands = {"": (Adapt, adapt)}
