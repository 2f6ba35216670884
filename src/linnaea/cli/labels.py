"""``linnaea labels``: banks of taxa with their vectors, made once and used by ``linnaea predict --labels BANK``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from linnaea.cli import DONE, SOME_FAILED, Commands
from linnaea.cli.console import progress_bar, warn
from linnaea.errors import UsageError
from linnaea.model.folders import DEFAULT_MODEL
from linnaea.taxonomy.taxon import TextType

if TYPE_CHECKING:
    from linnaea.predict.banks import UpdatedBank


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
    """Or the species of a checklist: inat, ncbi, or the name or file of another."""
    within: tuple[str, ...] = ()
    """Only taxa of these clades, such as order:Rodentia (of the embedded checklist, if no other taxa are given)."""
    exclude: tuple[str, ...] = ()
    """No taxa of these clades."""
    text_type: TextType = TextType.TAXON_COM
    """Caption form."""
    vectors: Literal["fp16", "int8", "float32"] = "fp16"
    """What the vectors are rounded to on disk: int8 halves fp16's size, and moves cosines by about 0.0004."""
    pretrained: str | None = None
    """open_clip's tag, where the model is an architecture's name."""
    device: str = "auto"
    """cpu, cuda, mps or auto."""


def build(options: Build) -> int:
    """Build a bank, and print its size."""
    from linnaea.predict.banks import build_labels

    bank = build_labels(**vars(options))
    print(f"{len(bank)} taxa: {options.output}", flush=True)
    return DONE


@dataclass(frozen=True, kw_only=True)
class Append:
    """Add taxa of one's own to a label bank; only they are encoded."""

    bank: tyro.conf.Positional[Path]
    """Folder of the bank."""
    taxa: Path
    """The taxa to add: a data set, a table with columns named after ranks, or a file with a name per line."""
    model: str = DEFAULT_MODEL
    """Folder or name of the model the bank was built with."""
    output: Path | None = None
    """Folder of the new bank; without it the bank itself is changed."""
    device: str = "auto"
    """cpu, cuda, mps or auto."""


def append(options: Append) -> int:
    """Add to a bank, and print how much was new."""
    from linnaea.predict.banks import append_labels

    return _show_update(append_labels(**vars(options)))


def _show_update(updated: "UpdatedBank") -> int:
    if updated.migrated:
        print(", ".join(f"{n:,} {status}" for status, n in updated.migrated.items()))
    print(f"{len(updated.bank)} taxa, {updated.n_encoded} captions encoded: {updated.path}", flush=True)
    return DONE


@dataclass(frozen=True, kw_only=True)
class Update:
    """Let a label bank follow a change of taxonomy; only captions that changed are encoded."""

    bank: tyro.conf.Positional[Path]
    """Folder of the bank."""
    model: str = DEFAULT_MODEL
    """Folder or name of the model the bank was built with."""
    taxa: Path | None = None
    """The taxa as they are now (a data set that was migrated, a table) ..."""
    old: Annotated[str, tyro.conf.arg(name="from", metavar="OLD")] = ""
    """... or the checklist the bank's names come from, a name or a file,"""
    new: Annotated[str, tyro.conf.arg(name="to", metavar="NEW")] = ""
    """and the checklist to carry them to."""
    output: Path | None = None
    """Folder of the new bank; without it the bank itself is changed."""
    device: str = "auto"
    """cpu, cuda, mps or auto."""


def update(options: Update) -> int:
    """Update a bank, and print how much was new."""
    from linnaea.predict.banks import update_labels

    return _show_update(update_labels(**vars(options)))


@dataclass(frozen=True, kw_only=True)
class RegionsOf:
    """Count a GBIF occurrence download per cell and month: a file for ``linnaea predict --prior``."""

    occurrences: tyro.conf.Positional[Path]
    """The download's table (simple CSV, or occurrence.txt of a Darwin Core Archive), or a Parquet table."""
    output: Path
    """Parquet file to write."""
    resolution: int = 3
    """H3's resolution: 3 are hexagons 120 km across, 4 of 45 km, 2 of 320 km."""

    def __post_init__(self) -> None:
        if not 0 <= self.resolution <= 9:
            raise ValueError("--resolution lies between 0 and 9")


def regions(options: RegionsOf) -> int:
    """Count, and account for every row."""
    from linnaea.predict.priors import make_regions

    if options.output.suffix.lower() != ".parquet":
        raise UsageError(f"--output {options.output}: must end in .parquet")
    with progress_bar("counting", "records") as on_progress:
        n_good, n_bad = make_regions(
            options.occurrences, options.output, resolution=options.resolution, on_progress=on_progress
        )
    if n_bad:
        warn(f"{options.occurrences}: {n_bad:,} rows have no coordinates or no species and are not counted")
    print(f"{n_good:,} occurrences: {options.output}", flush=True)
    return SOME_FAILED if n_bad else DONE


@dataclass(frozen=True, kw_only=True)
class Show:
    """Show what a label bank holds."""

    bank: tyro.conf.Positional[Path]
    """Folder of the bank."""


def show(options: Show) -> int:
    """Counts per rank, caption form, model."""
    from linnaea.predict.labels import LabelBank
    from linnaea.taxonomy.ranks import RANK_LABELS

    bank = LabelBank.open(options.bank)
    for label in RANK_LABELS:
        print(f"{label:<10}{bank.taxa.filter(bank.taxa[label] != '')[label].n_unique():>10,} names")
    form = f"{bank.vectors.shape[1]} wide, {bank.vectors.dtype}"
    print(f"{len(bank)} taxa, {form}, text type {bank.facts.get('text_type', 'unknown')}")
    return DONE


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a label bank in the form that pybioclip reads: txt_emb_species.npy and .json."""

    bank: tyro.conf.Positional[Path]
    """Folder of the bank."""
    output: Path
    """Folder to write."""


def export(options: Export) -> int:
    """Export a bank, and print where it is."""
    from linnaea.predict.labels import LabelBank
    from linnaea.predict.published import write_published_bank

    bank = LabelBank.open(options.bank)
    print(f"{len(bank)} taxa: {write_published_bank(bank, options.output)}", flush=True)
    return DONE


@dataclass(frozen=True, kw_only=True)
class Calibrate:
    """Fit the confidence of predictions on photographs that were not trained on."""

    model: str
    """Folder or name of the model."""
    data: Path
    """Data set with known names."""
    split: tuple[str, ...] = ("val",)
    """Splits to learn from; neither the one trained on nor the one the result is measured on."""
    sources: tuple[str, ...] = ()
    """Sources to learn from; none: all."""
    labels: Path | None = None
    """Label bank that is calibrated (its bank.json is written); default: the model's own taxa (linnaea.json)."""
    no_organism: Path | None = None
    """Folder of pictures that show no organism; teaches where recognition begins."""
    organisms: tuple[str, ...] = ()
    """Splits whose photographs show what organisms look like, beside those of --split, for --no-organism; the model may
    have been trained on them. 4,000 are taken, at most."""
    strangers: bool = False
    """Learn from each photograph once more as if the labels lacked its species, or its genus: surer less often, and
    right more often about what the labels lack."""
    text_type: TextType = TextType.TAXON_COM
    """Caption form of the model's own taxa."""
    pretrained: str | None = None
    """open_clip's tag, where the model is an architecture's name."""
    device: str = "auto"
    """cpu, cuda, mps or auto."""
    workers: int = 2
    """Threads that decode."""


def calibrate(options: Calibrate) -> int:
    """Calibrate, and print what was learned."""
    from linnaea.predict.calibrate import calibrate
    from linnaea.taxonomy.ranks import RANK_LABELS

    found = calibrate(**vars(options))
    for note in found.notes:
        warn(note)
    learned = found.calibration
    print(f"temperature {learned.temperature:.3f}")
    if learned.untrained < 1:
        print(f"labels that the model was not trained on: {learned.untrained:.3g} times as likely")
    for label, value in zip(RANK_LABELS, learned.sharpness, strict=True):
        print(f"{label:<10}sharpness {value:.3f}")
    print(f"{found.n_images:,} photographs, {found.n_known:,} of species among {found.n_labels:,} labels: {found.path}",
          flush=True)  # fmt: skip
    return DONE


COMMANDS: Commands = {
    "build": (Build, build),
    "append": (Append, append),
    "update": (Update, update),
    "calibrate": (Calibrate, calibrate),
    "regions": (RegionsOf, regions),
    "show": (Show, show),
    "export": (Export, export),
}
