"""``linnaea labels``: make and change label banks, which ``linnaea predict --labels BANK`` uses."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from linnaea.cli import DONE, SOME_FAILED, Commands
from linnaea.cli.console import progress_bar, say, tell, warn
from linnaea.cli.parsing import refuse_given, values_of
from linnaea.counting import agree, count
from linnaea.errors import UsageError
from linnaea.model.folders import DEFAULT_MODEL
from linnaea.taxonomy.taxon import TextType

if TYPE_CHECKING:
    from linnaea.predict.banks import UpdatedBank
    from linnaea.predict.calibration import Calibration


@dataclass(frozen=True, kw_only=True)
class Build:
    """Encode taxa into a label bank."""

    output: Path
    """Folder of the bank."""
    model: str = DEFAULT_MODEL
    """Folder or name of the model; nano comes with this package."""
    taxa: Path | None = None
    """The taxa: a data set, a table with columns named after ranks, or a file with a name per line."""
    checklist: str = ""
    """The species of a checklist instead of --taxa: inat, ncbi, or another's name or file."""
    within: tuple[str, ...] = ()
    """Only taxa of these clades, such as order:Rodentia (of the embedded checklist, if no other taxa are given)."""
    exclude: tuple[str, ...] = ()
    """No taxa of these clades."""
    resolve: bool = True
    """Resolve the names of a file of labels with the embedded checklist; --no-resolve keeps them as they are."""
    merge_by: Literal["class", "taxon"] = "class"
    """Labels over one taxon that differ in more than spelling, author or language (Danaus plexippus larva): class keeps
    them apart, taxon merges them."""
    text_type: TextType = TextType.TAXON_COM
    """Caption form."""
    vectors: Literal["fp16", "int8", "float32"] = "fp16"
    """Number format of the vectors on disk; int8 is half the size of fp16 and changes cosines by about 0.0004."""
    pretrained: str | None = None
    """open_clip's pretrained tag, if the model is the name of an architecture."""
    device: str = "auto"
    """cpu, cuda, mps or auto."""


def build(options: Build) -> int:
    """Build a bank, and print its size."""
    from linnaea.predict.banks import build_labels

    bank = build_labels(**vars(options))
    tell(f"{count(len(bank), 'taxon', '')}: {options.output}", flush=True)
    return DONE


@dataclass(frozen=True, kw_only=True)
class Append:
    """Add taxa to a label bank; only new captions are encoded."""

    bank: tyro.conf.Positional[Path]
    """Folder of the bank."""
    taxa: Path
    """The taxa to add: a data set, a table with columns named after ranks, or a file with a name per line."""
    model: str = DEFAULT_MODEL
    """Folder or name of the model that the bank was built with."""
    resolve: bool = True
    """Resolve the names of a file of labels with the embedded checklist; --no-resolve keeps them as they are."""
    merge_by: Literal["class", "taxon"] = "class"
    """Labels over one taxon that differ in more than spelling, author or language (Danaus plexippus larva): class keeps
    them apart, taxon merges them."""
    output: Path | None = None
    """Folder of the new bank; without it the bank itself is changed."""
    device: str = "auto"
    """cpu, cuda, mps or auto."""


def append(options: Append) -> int:
    """Add taxa to a bank, and print how many captions were new."""
    from linnaea.predict.banks import append_labels

    return _show_update(append_labels(**vars(options)))


def _show_update(updated: "UpdatedBank") -> int:
    if updated.migrated:
        tell(", ".join(f"{n:,} {status}" for status, n in updated.migrated.items()))
    tell(
        f"{count(len(updated.bank), 'taxon', '')}, {count(updated.n_encoded, 'caption', '')} encoded: {updated.path}",
        flush=True,
    )
    return DONE


@dataclass(frozen=True, kw_only=True)
class Update:
    """Update a label bank after a change of taxonomy; only captions that changed are encoded."""

    bank: tyro.conf.Positional[Path]
    """Folder of the bank."""
    model: str = DEFAULT_MODEL
    """Folder or name of the model that the bank was built with."""
    taxa: Path | None = None
    """The new taxa (a migrated data set, a table); give either this or --from and --to."""
    old: Annotated[str, tyro.conf.arg(name="from", metavar="OLD")] = ""
    """The checklist that the bank's names come from, a name or a file."""
    new: Annotated[str, tyro.conf.arg(name="to", metavar="NEW")] = ""
    """The checklist to migrate them to."""
    output: Path | None = None
    """Folder of the new bank; without it the bank itself is changed."""
    device: str = "auto"
    """cpu, cuda, mps or auto."""


def update(options: Update) -> int:
    """Update a bank, and print how many captions were new."""
    from linnaea.predict.banks import update_labels

    return _show_update(update_labels(**vars(options)))


@dataclass(frozen=True, kw_only=True)
class RegionsOf:
    """Count a GBIF occurrence download per cell and month, for `linnaea predict --prior`."""

    occurrences: tyro.conf.Positional[Path]
    """The download's table (simple CSV, or occurrence.txt of a Darwin Core Archive), or a Parquet table."""
    output: Path
    """Parquet file to write."""
    resolution: int = 3
    """H3's resolution: hexagons are 320 km across at 2, 120 km at 3, 45 km at 4."""

    def __post_init__(self) -> None:
        if not 0 <= self.resolution <= 9:
            raise ValueError("--resolution must be between 0 and 9")


def regions(options: RegionsOf) -> int:
    """Count occurrences, and report how many rows were counted and how many were not."""
    from linnaea.predict.priors import make_regions

    if options.output.suffix.lower() != ".parquet":
        raise UsageError(f"--output {options.output}: must end in .parquet")
    with progress_bar("counting", "records") as on_progress:
        n_good, n_bad = make_regions(
            options.occurrences, options.output, resolution=options.resolution, on_progress=on_progress
        )
    if n_bad:
        warn(
            f"{options.occurrences}: {count(n_bad, 'row')} {agree(n_bad, 'is', 'are')}"
            " not counted: no coordinates, no species, absent or a fossil"
        )
    tell(f"{count(n_good, 'occurrence')}: {options.output}", flush=True)
    return SOME_FAILED if n_bad else DONE


@dataclass(frozen=True, kw_only=True)
class Show:
    """Show what a label bank contains."""

    bank: tyro.conf.Positional[Path]
    """Folder of the bank."""


def show(options: Show) -> int:
    """Print counts per rank, caption form, and the heads that are pooled with the labels."""
    from linnaea.predict.labels import LabelBank
    from linnaea.taxonomy.ranks import RANK_LABELS

    bank = LabelBank.open(options.bank)
    for label in RANK_LABELS:
        tell(f"{label:<10}{bank.taxa.filter(bank.taxa[label] != '')[label].n_unique():>10,} names")
    form = f"{bank.vectors.shape[1]} wide, {bank.vectors.dtype}"
    tell(f"{count(len(bank), 'taxon', '')}, {form}, text type {bank.facts.get('text_type', 'unknown')}")
    for rank, head in bank.heads.items():
        tell(f"class head for {rank.label}: {count(len(head), 'taxon', '')}")
    return DONE


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a label bank in the format that pybioclip reads: txt_emb_species.npy and .json."""

    bank: tyro.conf.Positional[Path]
    """Folder of the bank."""
    output: Path
    """Folder to write."""


def export(options: Export) -> int:
    """Export a bank, and print the path."""
    from linnaea.predict.labels import LabelBank
    from linnaea.predict.published import write_published_bank

    bank = LabelBank.open(options.bank)
    tell(f"{count(len(bank), 'taxon', '')}: {write_published_bank(bank, options.output)}", flush=True)
    return DONE


@dataclass(frozen=True, kw_only=True)
class OfData:
    """The options of a calibration on a data set."""

    data: Path | None = None
    """Data set with known names."""
    split: tuple[str, ...] = ("val",)
    """Splits to learn from; neither the training split nor the one that the result is measured on."""
    sources: tuple[str, ...] = ()
    """Sources to learn from; all if not given."""
    no_organism: Path | None = None
    """Folder of pictures without an organism, from which the model learns when to abstain."""
    organisms: tuple[str, ...] = ()
    """More splits that show what organisms look like, for --no-organism; the model may have been trained on them. At
    most 4,000 photographs are used."""
    strangers: bool = False
    """Use each photograph once more as if the labels lacked its species, or its genus. Answers become less confident,
    and more often right about species that the labels lack."""
    rehearsals: tuple[Path, ...] = ()
    """Runs of class heads (such as nano-eye), each trained without some --sources of the data. Their answers on these
    sources show how far --rank auto can trust an answer on photographs from elsewhere."""
    pretrained: str | None = None
    """open_clip's pretrained tag, if the model is the name of an architecture."""


@dataclass(frozen=True, kw_only=True)
class OfDecisions:
    """The options of a calibration on reviewed photographs."""

    decisions: tuple[Path, ...] = ()
    """Instead of --data, files of reviewers' decisions (linnaea review); before and after are compared on events that
    were held out. Review at random for this, not only the least sure."""
    root: Path | None = None
    """Folder that the photographs of --decisions must lie in. Default: looked for here and beside the decisions."""


@dataclass(frozen=True, kw_only=True)
class OfBoth:
    """The options that both have."""

    model: str
    """Folder or name of the model."""
    labels: Path | None = None
    """Label bank to calibrate (writes its bank.json). Default: the model's own taxa (writes linnaea.json)."""
    text_type: TextType = TextType.TAXON_COM
    """Caption form of the model's own taxa."""
    preprocess: Literal["crop", "squash"] | None = None
    """crop: the middle square; squash: the whole photograph. Default: as the model was trained. The
    calibration records it."""
    device: str = "auto"
    """cpu, cuda, mps or auto."""
    workers: int = 2
    """Number of threads that decode images."""


@dataclass(frozen=True, kw_only=True)
class Calibrate(OfDecisions, OfData, OfBoth):
    """Fit the confidence of predictions to photographs that the model was not trained on."""

    def __post_init__(self) -> None:
        if (self.data is None) == (not self.decisions):
            raise ValueError("give either --data or --decisions")
        if self.decisions:
            refuse_given(self, OfData, "--data")
        else:
            refuse_given(self, OfDecisions, "--decisions")


def calibrate(options: Calibrate) -> int:
    """Calibrate a model, and print what was learned."""
    return _calibrate_reviewed(options) if options.decisions else _calibrate_on_data(options)


def _calibrate_on_data(options: Calibrate) -> int:
    from linnaea.predict.calibrate import calibrate

    found = calibrate(**values_of(options, OfData, OfBoth))
    for note in found.notes:
        warn(note)
    _tell_calibration(found.calibration)
    tell(f"{count(found.n_images, 'photograph')}, {found.n_known:,} of"
        f" species among {count(found.n_labels, 'label')}: {found.path}",
          flush=True)  # fmt: skip
    return DONE


def _calibrate_reviewed(options: Calibrate) -> int:
    from linnaea.predict.calibrate_reviewed import calibrate_reviewed

    given = values_of(options, OfDecisions, OfBoth)
    found = calibrate_reviewed(*given.pop("decisions"), **given)
    for line in (*found.notes, *found.summary):
        say(line)
    _tell_calibration(found.calibration)
    tell(
        f"{count(found.n_images, 'reviewed photograph')} of {count(found.n_events, 'event')}: {found.path}", flush=True
    )
    return DONE


def _tell_calibration(learned: "Calibration") -> None:
    from linnaea.taxonomy.ranks import RANK_LABELS

    tell(f"temperature {learned.temperature:.3f}")
    if learned.untrained < 1:
        tell(f"labels that the model was not trained on: {learned.untrained:.3g} times as likely")
    for label, value in zip(RANK_LABELS, learned.sharpness, strict=True):
        tell(f"{label:<10}sharpness {value:.3f}")


COMMANDS: Commands = {
    "build": (Build, build),
    "append": (Append, append),
    "update": (Update, update),
    "calibrate": (Calibrate, calibrate),
    "regions": (RegionsOf, regions),
    "show": (Show, show),
    "export": (Export, export),
}
