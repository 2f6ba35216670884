"""``linnaea pack RUN``: a model folder to hand on, in half precision, with the label bank it answers with."""

from dataclasses import dataclass, replace
from pathlib import Path

import tyro

from linnaea.cli import DONE, Commands
from linnaea.cli.console import progress_bar
from linnaea.errors import LinnaeaError
from linnaea.taxonomy.taxon import TextType


@dataclass(frozen=True, kw_only=True)
class Pack:
    """Make of a trained model a small folder that answers at once."""

    model: tyro.conf.Positional[str]
    """Folder of the run or of the model."""
    output: Path
    """Folder to write: weights in half precision, vocabulary, labels/."""
    labels: Path | None = None
    """Taxa it shall answer with (a data set, a table, a file of names); default: those it was trained on."""
    species_only: bool = False
    """Leave out labels that name no species."""
    image_size: int = 0
    """Input of the image tower, pixels, where it is convolutional and shall have another; 0: as it is."""
    text_type: TextType = TextType.TAXON_COM
    """Caption form of the labels."""


def pack(options: Pack) -> int:
    """Write weights, then the bank that these (not the unrounded ones) make."""
    import polars as pl
    import torch

    from linnaea.model.create import at_image_size
    from linnaea.model.folders import LABELS_FOLDER, find_model_folder
    from linnaea.model.load import save_model
    from linnaea.model.open import load_model
    from linnaea.predict.labels import TAXA_FILE, make_bank, mark_trained, read_taxa

    folder = find_model_folder(options.model)
    if folder is None:
        raise LinnaeaError(f"{options.model}: no such folder; give the folder that `linnaea train` left")
    taxa = read_taxa(options.labels or folder)
    if options.species_only:
        taxa = taxa.filter(pl.col("species") != "")
    if (folder / TAXA_FILE).exists():
        taxa = mark_trained(taxa, read_taxa(folder))
    whole = load_model(str(folder), device="cpu")
    if options.image_size:
        whole = at_image_size(whole, options.image_size)
    facts = {key: Path(value).name if key == "data" else value for key, value in whole.facts.items()}
    save_model(replace(whole, facts=facts), options.output, dtype=torch.float16)
    model = load_model(str(options.output), device="cpu")
    with progress_bar("encoding labels", "labels") as on_progress:
        bank = make_bank(model, taxa, options.text_type, on_progress=on_progress)
    bank.save(options.output / LABELS_FOLDER)
    n_bytes = sum(path.stat().st_size for path in options.output.rglob("*") if path.is_file())
    print(f"{model.parameter_count():,} parameters, {len(bank):,} labels, {n_bytes / 1e6:.1f} MB: {options.output}")
    return DONE


COMMANDS: Commands = {"": (Pack, pack)}
