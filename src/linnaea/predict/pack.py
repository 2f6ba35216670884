"""Pack models small, with the labels they answer with, or export them to run without PyTorch."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import torch
from jaxtyping import UInt8
from numpy import ndarray

from linnaea.data.naming import make_naming
from linnaea.data.no_organism import KINDS, draw
from linnaea.errors import LinnaeaError
from linnaea.exchange import hold_output, replaced_folder
from linnaea.model.create import at_image_size
from linnaea.model.encode import check_has_text
from linnaea.model.folders import LABELS_FOLDER, find_model_folder
from linnaea.model.hub import check_repo_name, push_folder
from linnaea.model.load import TaxonModel, save_model
from linnaea.model.onnx_export import export_onnx, write_graph
from linnaea.model.open import load_model
from linnaea.predict.card import make_card
from linnaea.predict.labels import TAXA_FILE, make_bank, mark_trained, read_taxa
from linnaea.progress import announce, progress_bar
from linnaea.storage import write_atomically
from linnaea.taxonomy.row import MergeBy
from linnaea.taxonomy.taxon import TextType


@dataclass(frozen=True, kw_only=True)
class PackedModel:
    """A model folder that :func:`pack` wrote."""

    folder: Path
    n_parameters: int
    n_labels: int
    n_bytes: int
    address: str = ""
    """Where it was pushed to."""

    def __repr__(self) -> str:
        return f"<PackedModel {self.folder}: {self.n_labels:,} labels, {self.n_bytes / 1e6:.1f} MB>"


def pack(
    run: str | Path,
    output: str | Path,
    *,
    labels: str | Path | None = None,
    species_only: bool = False,
    image_size: int = 0,
    text_type: TextType | str = TextType.TAXON_COM,
    resolve: bool = True,
    merge_by: MergeBy = "class",
    licence: str = "",
    push: str = "",
) -> PackedModel:
    """Write a small folder of a trained model together with its encoded labels, ready to predict.

    ``run`` is the folder of a run or of its model. The labels are the taxa it was trained on, or those of ``labels`` (a
    data set, a table, a file of names); with ``species_only``, taxa above species are left out. Their captions have the
    form ``text_type``. With ``resolve``, the embedded checklist gives the names of a file their lineages; ``merge_by``
    says whether labels over one taxon with different remarks ("Danaus plexippus larva") are each a ``"class"``, or
    merged by ``"taxon"``. A convolutional image tower can take another ``image_size``, in pixels.

    The image tower is also written as a graph over the same weights, if that gives the same vectors within 1e-5. It
    encodes photographs on a CPU without PyTorch.

    The folder gets a model card (``README.md``) with ``licence``, a name of the hub such as ``mit``. ``push`` is a
    repository of the hub, ``OWNER/NAME``, to upload the folder to.

    Raises:
        LinnaeaError: there is no such folder or labels, the image tower takes one size only, or the hub refuses.
    """
    if push:
        check_repo_name(push)
    folder = find_model_folder(str(run))
    if folder is None:
        raise LinnaeaError(f"{run}: no such folder; give the folder that `linnaea train` left")
    folder_out = Path(output)
    taxa = read_taxa(Path(labels) if labels else folder, make_naming(resolve=resolve, merge_by=merge_by))
    if species_only:
        taxa = taxa.filter(pl.col("species") != "")
    if (folder / TAXA_FILE).exists():
        taxa = mark_trained(taxa, read_taxa(folder))
    whole = load_model(str(folder), device="cpu")
    if image_size:
        whole = at_image_size(whole, image_size)
    facts = {key: Path(value).name if key == "data" else value for key, value in whole.facts.items()}
    with hold_output(folder_out, kind="command"), replaced_folder(folder_out) as new:
        save_model(replace(whole, facts=facts), new, dtype=torch.float16, repo=push)
        model = load_model(str(new), device="cpu")  # the bank must match the rounded weights
        _write_graph(model, new)
        with progress_bar("encoding labels", "labels") as on_progress:
            bank = make_bank(model, taxa, TextType(text_type), on_progress=on_progress)
        bank.save(new / LABELS_FOLDER)
        name = push.partition("/")[2] or folder_out.resolve().name
        write_atomically(new / "README.md", make_card(replace(model, facts=facts), bank, name, licence))
    address = push_folder(folder_out, push) if push else ""
    n_bytes = sum(path.stat().st_size for path in folder_out.rglob("*") if path.is_file())
    return PackedModel(folder=folder_out, n_parameters=model.parameter_count(), n_labels=len(bank), n_bytes=n_bytes,
                       address=address)  # fmt: skip


def _write_graph(model: TaxonModel, folder: Path) -> None:
    """Write the image tower as a graph; a tower that has none is encoded in PyTorch, as before."""
    try:
        write_graph(model, folder, _draw_pictures(model))
    except LinnaeaError as error:
        announce(f"{error}; PyTorch encodes its photographs")


def _draw_pictures(model: TaxonModel) -> UInt8[ndarray, "B 3 S S"]:
    rng = np.random.default_rng(0)
    pixels = [model.preprocess.pixels(draw(kind.__name__, rng, 256)) for kind in KINDS]
    return np.stack(pixels).astype(np.uint8)


@dataclass(frozen=True, kw_only=True)
class ExportedModel:
    """A model folder that :func:`export` wrote."""

    folder: Path
    n_bytes: int
    """The size of the towers."""
    difference: float
    """The largest difference between unit vectors of the exported model and the model itself, on random pictures."""

    def __repr__(self) -> str:
        return f"<ExportedModel {self.folder}: {self.n_bytes / 1e6:.1f} MB, within {self.difference:.1e}>"


def export(
    model: str | Path, output: str | Path, *, int8: bool = False, pretrained: str | None = None
) -> ExportedModel:
    """Write a model for ONNX Runtime, to run without PyTorch: both towers, and the model's labels.

    ``model`` is a name or a folder. With ``int8`` the weights are stored in 8 bits: the files take a quarter of the
    size and are as fast, but vectors differ slightly. ``pretrained`` is as in :func:`linnaea.model.open.load_model`.

    Raises:
        LinnaeaError: there is no such model, packages are missing, or the folder cannot be written.
    """
    loaded, folder = load_model(str(model), pretrained=pretrained, device="cpu"), Path(output)
    check_has_text(loaded, "be exported")
    pictures = _draw_pictures(loaded)
    with hold_output(folder, kind="command"), replaced_folder(folder) as new:
        difference = export_onnx(loaded, new, int8=int8, check=pictures)
    n_bytes = sum(path.stat().st_size for path in folder.glob("*.onnx"))
    return ExportedModel(folder=folder, n_bytes=n_bytes, difference=difference)
