"""``linnaea labels``: banks of taxa with their vectors, made once and used by ``linnaea predict --labels BANK``."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from linnaea.cli import DONE, Commands
from linnaea.cli.console import progress_bar
from linnaea.cli.labels_calibrate import Calibrate, calibrate
from linnaea.taxonomy.taxon import TextType


@dataclass(frozen=True, kw_only=True)
class Build:
    """Encode taxa into a label bank."""

    output: Path
    """Folder of the bank."""
    model: str
    """Folder or name of the model."""
    taxa: Path
    """The taxa: a data set, a table with columns named after ranks, or a file with a name per line."""
    text_type: TextType = TextType.TAXON_COM
    """Caption form."""
    pretrained: str | None = None
    """open_clip's tag, where the model is an architecture's name."""
    device: str = "auto"
    """cpu, cuda, mps or auto."""


def build(options: Build) -> int:
    """Encode and save."""
    from linnaea.model.load import load_model
    from linnaea.predict.labels import make_bank, read_taxa

    taxa = read_taxa(options.taxa)
    model = load_model(options.model, pretrained=options.pretrained, device=options.device)
    with progress_bar("encoding labels", "labels") as on_progress:
        bank = make_bank(model, taxa, options.text_type, on_progress=on_progress)
    bank.save(options.output)
    print(f"{len(bank)} taxa: {options.output}", flush=True)
    return DONE


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
    print(f"{len(bank)} taxa, {bank.vectors.shape[1]} wide, text type {bank.facts.get('text_type', 'unknown')}")
    return DONE


COMMANDS: Commands = {"build": (Build, build), "calibrate": (Calibrate, calibrate), "show": (Show, show)}
