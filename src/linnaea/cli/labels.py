"""``linnaea labels``: banks of taxa with their vectors, made once and used by ``linnaea predict --labels BANK``."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from linnaea.cli import DONE, SOME_FAILED, Commands
from linnaea.cli.console import progress_bar, warn
from linnaea.cli.labels_calibrate import Calibrate, calibrate
from linnaea.errors import UsageError
from linnaea.model.folders import DEFAULT_MODEL
from linnaea.taxonomy.taxon import TextType

if TYPE_CHECKING:
    import polars as pl

    from linnaea.predict.labels import LabelBank


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

    def __post_init__(self) -> None:
        if self.taxa is not None and self.checklist:
            raise ValueError("give --taxa or --checklist, not both")
        if self.taxa is None and not self.checklist and not self.within:
            raise ValueError("give --taxa, --checklist or --within")


def build(options: Build) -> int:
    """Encode and save."""
    import numpy as np

    from linnaea.model.open import load_model
    from linnaea.predict.labels import make_bank, read_taxa, taxa_of_checklist
    from linnaea.predict.restrict import keep_taxa
    from linnaea.taxonomy.checklists.store import load_checklist

    if options.taxa is not None:
        taxa = read_taxa(options.taxa)
    else:
        taxa = taxa_of_checklist(load_checklist(options.checklist or "inat"))
    taxa = keep_taxa(taxa, options.within, options.exclude)
    model = load_model(options.model, pretrained=options.pretrained, device=options.device)
    with progress_bar("encoding labels", "labels") as on_progress:
        bank = make_bank(model, taxa, options.text_type, on_progress=on_progress)
    dtype_of: dict[str, type[np.floating[Any] | np.int8]] = {
        "fp16": np.float16, "int8": np.int8, "float32": np.float32,
    }  # fmt: skip
    bank.save(options.output, dtype=dtype_of[options.vectors])
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
    """Encode what is new, and merge it in depth-first order."""
    import polars as pl

    from linnaea.data.shards import make_taxa_table, taxa_from_table
    from linnaea.predict.labels import LabelBank, read_taxa

    bank = LabelBank.open(options.bank)
    both = pl.concat([bank.taxa, read_taxa(options.taxa)], how="diagonal")
    return _update(options, bank, make_taxa_table(taxa_from_table(both)))


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

    def __post_init__(self) -> None:
        if bool(self.old) != bool(self.new) or (self.taxa is None) != bool(self.old):
            raise ValueError("give --taxa, or --from and --to")


def update(options: Update) -> int:
    """Encode what changed."""
    from linnaea.predict.labels import LabelBank, read_taxa
    from linnaea.taxonomy.checklists.store import load_checklist
    from linnaea.taxonomy.migrate import Migration, migrate_taxa

    bank = LabelBank.open(options.bank)
    if options.taxa is not None:
        return _update(options, bank, read_taxa(options.taxa))
    migration = Migration.between(load_checklist(options.old), load_checklist(options.new))
    migrated = migrate_taxa(bank.taxa, migration)
    print(", ".join(f"{n:,} {status}" for status, n in migrated.counts.items()))
    return _update(options, bank, migrated.taxa)


def _update(options: Append | Update, bank: "LabelBank", taxa: "pl.DataFrame") -> int:
    from linnaea.model.open import load_model
    from linnaea.predict.labels import update_bank

    model = load_model(options.model, device=options.device)
    with progress_bar("encoding labels", "labels") as on_progress:
        updated, n_new = update_bank(model, bank, taxa, on_progress=on_progress)
    updated.save(options.output or options.bank, dtype=bank.vectors.dtype.type)
    print(f"{len(updated)} taxa, {n_new} captions encoded: {options.output or options.bank}", flush=True)
    return DONE


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
    """What a label bank holds."""

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


COMMANDS: Commands = {
    "build": (Build, build),
    "append": (Append, append),
    "update": (Update, update),
    "calibrate": (Calibrate, calibrate),
    "regions": (RegionsOf, regions),
    "show": (Show, show),
}
