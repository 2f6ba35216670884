"""Pack models small, with the labels they answer with, or export them to run without PyTorch."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from jaxtyping import UInt8
from numpy import ndarray

from linnaea.counting import count
from linnaea.data.naming import NamingRule, make_naming
from linnaea.data.no_organism import KINDS, draw
from linnaea.errors import LinnaeaError, UsageError
from linnaea.exchange import hold_output, replaced_folder
from linnaea.model.create import at_image_size
from linnaea.model.encode import check_has_text
from linnaea.model.folders import HUB, LABELS_FOLDER, find_model_folder
from linnaea.model.hub import check_repo_name, find_published, push_folder
from linnaea.model.load import TaxonModel, save_model
from linnaea.model.onnx import load_onnx
from linnaea.model.onnx_export import export_onnx, write_graph
from linnaea.model.open import load_model
from linnaea.parquet import read_parquet
from linnaea.predict.calibration import read_calibration
from linnaea.predict.card import make_card
from linnaea.predict.cut import cut_bank
from linnaea.predict.label_lists import read_taxa
from linnaea.predict.labels import TAXA_FILE, LabelBank, load_class_heads, make_bank, mark_trained, take_vectors
from linnaea.predict.open_labels import open_labels
from linnaea.predict.rank_heads import SHIPPED
from linnaea.predict.restrict import keep_rows
from linnaea.predict.rounding import write_judged_int8
from linnaea.progress import announce, progress_bar
from linnaea.storage import write_atomically
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.row import MergeBy
from linnaea.taxonomy.taxon import TextType

N_DRAWN = 12
"""Drawn pictures of each kind that the rows of what was cut are fitted to."""


@dataclass(frozen=True, kw_only=True)
class PackedModel:
    """A model folder that :func:`pack` wrote."""

    folder: Path
    n_parameters: int
    n_labels: int
    n_bytes: int
    address: str = ""
    """The address that it was pushed to."""

    def __repr__(self) -> str:
        return f"<PackedModel {self.folder}: {count(self.n_labels, 'label')}, {self.n_bytes / 1e6:.1f} MB>"


def pack(
    run: str | Path,
    output: str | Path,
    *,
    labels: str | Path | None = None,
    heads: str | Path | None = None,
    within: Sequence[str] = (),
    image_only: bool = False,
    int8: bool = False,
    group_rank: str = "genus",
    species_only: bool = False,
    image_size: int = 0,
    text_type: TextType | str = TextType.TAXON_COM,
    resolve: bool = True,
    merge_by: MergeBy = "class",
    licence: str = "",
    push: str = "",
    int8_photographs: str | Path | None = None,
) -> PackedModel:
    """Write a small folder of a trained model together with its encoded labels, ready to predict.

    ``run`` is the folder of a run or of its model. The labels are the taxa it was trained on, or those of ``labels`` (a
    data set, a table, a file of names); with ``species_only``, taxa above species are left out. Their captions have the
    form ``text_type``. ``heads`` is the run of class heads with the same image tower: its species then have the mean of
    the caption's vector and the head's, and the head for orders is kept beside the labels.

    With ``resolve``, the embedded checklist gives the names of a file their lineages; ``merge_by`` says whether labels
    over one taxon with different remarks ("Danaus plexippus larva") are each a ``"class"``, or merged by ``"taxon"``. A
    convolutional image tower can take another ``image_size``, in pixels.

    The image tower is also written as a graph over the same weights, for CPUs without PyTorch, and in 8 bits,
    calibrated on photographs of the folder ``int8_photographs``; each only if it answers alike.

    With ``image_only``, ``run`` may also be the name of a published or hub model. The folder then holds the image tower
    as ONNX (its weights in 8 bits with ``int8``) and the labels, for apps and machines without PyTorch. ``within`` cuts
    these labels to clades (:mod:`linnaea.predict.cut`); a row for each group of other taxa is at ``group_rank``.

    The folder gets a model card (``README.md``) with ``licence``, a name of the hub such as ``mit``. ``push`` is a
    repository of the hub, ``OWNER/NAME``, to upload the folder to.

    Raises:
        UsageError: ``within`` or ``int8`` is given without ``image_only``, or ``image_size`` or ``heads`` with it.
        LinnaeaError: the folder or the labels do not exist, the run ``heads`` has no head for species or has another
            image tower, the image tower takes one size only, or the hub refuses.
    """
    _check_pack(push, group_rank, within=within, image_only=image_only, int8=int8)
    rule, form = make_naming(resolve=resolve, merge_by=merge_by), TextType(text_type)
    if image_only:
        _check_image_only(image_size, int8_photographs, heads)
        loaded = load_model(str(run), device="cpu")
        bank = _keep_species(open_labels(loaded, str(run), labels, form, rule), only=species_only)
        write = partial(_write_image_tower, loaded, bank, _Cut(tuple(within), int8, Rank.parse(group_rank)))
    else:
        folder = _find_run(str(run))
        taxa = _read_marked(Path(labels) if labels else folder, folder, rule, species_only=species_only)
        loaded = load_model(str(folder), device="cpu")
        learned = {} if heads is None else _open_heads(Path(heads), loaded)
        loaded = at_image_size(loaded, image_size) if image_size else loaded
        write = partial(_write_towers, loaded, taxa, form, push, int8_photographs, learned)
    return _write_folder(write, Path(output), licence, push, image_only=image_only)


@dataclass(frozen=True)
class _Cut:
    """The settings by which a model is made small for apps."""

    within: tuple[str, ...]
    int8: bool
    group_rank: Rank


def _keep_species(bank: LabelBank, *, only: bool) -> LabelBank:
    return keep_rows(bank, np.flatnonzero(bank.taxa["species"] != "")) if only else bank


def _check_image_only(image_size: int, int8_photographs: str | Path | None, heads: str | Path | None) -> None:
    if image_size:
        raise UsageError("--image-size: the labels of --image-only are for the model as it is; leave one of them out")
    if int8_photographs is not None:
        raise UsageError("--int8-photographs: --image-only has its own --int8; leave one of them out")
    if heads is not None:
        raise UsageError("--heads: --image-only takes the labels of the model as they are; leave one of them out")


def _check_pack(push: str, group_rank: str, *, within: Sequence[str], image_only: bool, int8: bool) -> None:
    if push:
        check_repo_name(push)
    if (within or int8) and not image_only:
        raise UsageError("--within and --int8 need --image-only")
    if group_rank not in RANK_LABELS[:-1]:
        raise UsageError(f"--group-rank {group_rank}: write one of {', '.join(RANK_LABELS[:-1])}")


def _open_heads(run: Path, model: TaxonModel) -> Mapping[Rank, LabelBank]:
    """Return the heads of a run that has the model's image tower.

    Raises:
        LinnaeaError: the run has no head for species, or another image tower.
    """
    heads = load_class_heads(run)
    if Rank.SPECIES not in heads:
        raise LinnaeaError(f"{run}: has no class head for species; give the run that the model was started from")
    theirs, ours = (one.image_tower.state_dict() for one in (load_model(str(run), device="cpu"), model))
    if theirs.keys() != ours.keys() or not all(torch.equal(theirs[name], ours[name]) for name in ours):
        raise LinnaeaError(f"{run}: has another image tower than {model.name}; give the run that it was started from")
    return heads


def _read_marked(labels: Path, folder: Path, rule: NamingRule, *, species_only: bool) -> pl.DataFrame:
    """Read the taxa, and mark those that the model of a folder was trained on, if it says so."""
    taxa = read_taxa(labels, rule)
    taxa = taxa.filter(pl.col("species") != "") if species_only else taxa
    return mark_trained(taxa, read_parquet(folder / TAXA_FILE)) if (folder / TAXA_FILE).exists() else taxa


def _find_run(run: str) -> Path:
    folder = find_model_folder(run)
    if folder is None:
        hint = "; --image-only packs a model of the hub" if find_published(run) or run.startswith(HUB) else ""
        raise LinnaeaError(f"{run}: no such folder; give the folder that `linnaea train` left{hint}")
    return folder


def _write_folder(
    write: Callable[[Path], tuple[TaxonModel, LabelBank]], output: Path, licence: str, push: str, *, image_only: bool
) -> PackedModel:
    """Let ``write`` write the model and make its labels; add these, the card and the upload."""
    with hold_output(output, kind="command"), replaced_folder(output) as new:
        model, bank = write(new)
        bank.save(new / LABELS_FOLDER)
        name = push.partition("/")[2] or output.resolve().name
        write_atomically(new / "README.md", make_card(model, bank, name, licence, image_only=image_only))
    address = push_folder(output, push) if push else ""
    n_bytes = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    towers: Any = model.image_tower if image_only else model.clip
    n_parameters = sum(parameter.numel() for parameter in towers.parameters())
    return PackedModel(folder=output, n_parameters=n_parameters, n_labels=len(bank), n_bytes=n_bytes, address=address)


def _write_towers(
    whole: TaxonModel,
    taxa: pl.DataFrame,
    text_type: TextType,
    repo: str,
    photographs: str | Path | None,
    heads: Mapping[Rank, LabelBank],
    folder: Path,
) -> tuple[TaxonModel, LabelBank]:
    facts = {key: Path(value).name if key == "data" else value for key, value in whole.facts.items()}
    save_model(replace(whole, facts=facts), folder, dtype=torch.float16, repo=repo)
    model = load_model(str(folder), device="cpu")  # the bank must match the rounded weights
    _write_graph(model, folder)
    with progress_bar("encoding labels", "labels") as on_progress:
        bank = make_bank(model, taxa, text_type, on_progress=on_progress)
    if heads:
        shipped = {rank: heads[rank] for rank in SHIPPED if rank in heads}
        bank = replace(take_vectors(bank, heads[Rank.SPECIES]), heads=shipped)
    if photographs is not None:
        write_judged_int8(model, bank, folder, photographs)
    return replace(model, facts=facts), bank


def _write_image_tower(model: TaxonModel, bank: LabelBank, cut: _Cut, folder: Path) -> tuple[TaxonModel, LabelBank]:
    """Write the image tower as ONNX, and return the model with its labels, cut to the clades."""
    facts = {key: Path(value).name if key == "data" else value for key, value in model.facts.items()}
    small = replace(model, facts=facts, known_as=model.fingerprint)
    export_onnx(small, folder, int8=cut.int8, image_only=True, check=_draw_pictures(small))
    if cut.within:
        pictures = _draw_pictures(small, N_DRAWN)
        calibration = read_calibration(bank.facts, facts)
        bank = cut_bank(bank, cut.within, load_onnx(folder).encode_pixels(pictures), model.logit_scale,
                        calibration=calibration, group_rank=cut.group_rank)  # fmt: skip
    return small, replace(bank, facts={"text_type": str(TextType.TAXON_COM)} | bank.facts)


def _write_graph(model: TaxonModel, folder: Path) -> None:
    """Write the image tower as a graph; a tower that has none is encoded in PyTorch, as before."""
    try:
        write_graph(model, folder, _draw_pictures(model))
    except LinnaeaError as error:
        announce(f"{error}; PyTorch encodes its photographs")


def _draw_pictures(model: TaxonModel, n_each: int = 1) -> UInt8[ndarray, "B 3 S S"]:
    rng = np.random.default_rng(0)
    pixels = [model.preprocess.pixels(draw(kind.__name__, rng, 256)) for kind in KINDS for _ in range(n_each)]
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
