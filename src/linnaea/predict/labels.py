"""Label banks: the taxa a model may answer with, and their vectors, in depth-first order of the tree.

In that order every taxon of every rank is one contiguous range of rows, so that the probability of a genus or a
family is a segment sum.
"""

import hashlib
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Float32
from numpy import ndarray
from numpy.typing import NDArray

from linnaea.data.shards import TAXA_SCHEMA, make_taxa_table, taxa_from_table
from linnaea.errors import LinnaeaError
from linnaea.model.encode import encode_names, encode_taxa
from linnaea.model.encoder import Encoder
from linnaea.model.folders import LABELS_FOLDER, find_model_folder
from linnaea.predict.int8 import Int8Rows
from linnaea.progress import progress_bar
from linnaea.storage import atomic_path, cache_dir, write_atomically
from linnaea.tables import find_column, is_table, read_list, read_table
from linnaea.taxonomy.checklists.store import Checklist
from linnaea.taxonomy.columns import NAME_COLUMNS
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.row import read_taxon
from linnaea.taxonomy.taxon import PHOTO_TEMPLATE, Taxon, TextType
from linnaea.taxonomy.tree import RankGroups

TAXA_FILE, VECTORS_FILE, FACTS_FILE = "taxa.parquet", "embeddings.npy", "bank.json"

TRAINED = "trained"
"""Column of a bank's taxa: whether the model was trained on photographs of the taxon."""

CACHE_FROM = 2_000
"""Captions from which on :func:`load_cached_bank` keeps a bank; fewer are encoded in seconds."""
EXACT_BYTES = 256_000_000
"""Cached banks up to this size keep float32; larger ones are rounded to fp16, as saved banks are."""


@dataclass(frozen=True)
class LabelBank:
    """Taxa and their unit vectors ``[K, E]``; row ``i`` of both belong together, rows are in depth-first order."""

    taxa: pl.DataFrame
    vectors: NDArray[Any] | Int8Rows
    """float32, fp16 or 8 bits; ``vectors[rows]`` and ``np.asarray(vectors)`` are arrays whichever it is."""
    facts: dict[str, Any]
    """Model fingerprint, text type, templates."""

    def __len__(self) -> int:
        return self.taxa.height

    def __repr__(self) -> str:
        form = self.facts.get("text_type", "unknown")
        return f"<LabelBank of {len(self):,} taxa, {self.vectors.shape[1]} wide, {self.vectors.dtype}, captions {form}>"

    @cached_property
    def taxa_list(self) -> list[Taxon]:
        return taxa_from_table(self.taxa)

    @cached_property
    def trained(self) -> Bool[ndarray, "K"]:  # noqa: F821
        """Which taxa the model was trained on photographs of; all, where the bank does not say."""
        return np.asarray(self.taxa[TRAINED]) if TRAINED in self.taxa.columns else np.ones(len(self), bool)

    @cached_property
    def groups(self) -> RankGroups:
        """The groups that the rows fall into at each rank."""
        return RankGroups.of(self.taxa)

    @cached_property
    def _columns(self) -> list[pl.Series]:
        return [self.taxa[label].fill_null("") for label in (*RANK_LABELS, "common_name")]

    def taxon(self, row: int) -> Taxon:
        """The taxon of one row; a bank of a million makes no list of them."""
        *lineage, common_name = (column[row] for column in self._columns)
        return Taxon(tuple(lineage), common_name=common_name)

    def group(self, rank: Rank, number: int) -> Taxon | None:
        """The taxon of a group of a rank; the row itself at species rank, for its common name.

        A group whose rows are not named at ``rank`` (a genus without species, say) is the lowest that is named;
        ``None`` where nothing is.
        """
        taxon = self.taxon(self.groups.rows(rank, number)[0])
        return taxon.at(rank) if rank == Rank.SPECIES or any(taxon.lineage[: rank + 1]) else None

    def save(self, directory: Path, *, dtype: type[np.floating[Any] | np.int8] = np.float16) -> None:
        """Write the bank; its facts come last, and without them there is no bank.

        A bank that is there stays whole until all of the new one is written.
        """
        with atomic_path(directory / VECTORS_FILE) as vectors, atomic_path(directory / TAXA_FILE) as taxa:
            self.taxa.write_parquet(taxa, compression="zstd", statistics=True)
            with vectors.open("wb") as stream:
                rounded = Int8Rows.of(self.vectors).packed if dtype is np.int8 else np.asarray(self.vectors, dtype)
                np.save(stream, rounded)
            (directory / FACTS_FILE).unlink(missing_ok=True)
        write_atomically(directory / FACTS_FILE, json.dumps(self.facts, indent=1))

    @classmethod
    def open(cls, directory: Path) -> "LabelBank":
        """Open a bank; the vectors are memory-mapped.

        Raises:
            LinnaeaError: the folder holds no bank.
        """
        try:
            taxa = pl.read_parquet(directory / TAXA_FILE)
            stored = np.load(directory / VECTORS_FILE, mmap_mode="c")
            facts = json.loads((directory / FACTS_FILE).read_text())
        except (OSError, ValueError, pl.exceptions.PolarsError) as error:
            raise LinnaeaError(f"{directory}: is no label bank ({error}); see `linnaea labels build`") from error
        if len(stored) != taxa.height:
            raise LinnaeaError(f"{directory}: {taxa.height} taxa, but {len(stored)} vectors; build the bank again")
        return cls(taxa, stored if stored.dtype.names is None else Int8Rows(stored), facts)


def make_bank(
    model: Encoder,
    taxa: pl.DataFrame,
    text_type: TextType = TextType.TAXON_COM,
    templates: Sequence[str] = (PHOTO_TEMPLATE,),
    *,
    on_progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> LabelBank:
    """Encode the taxa of a table in depth-first order (:func:`linnaea.data.shards.make_taxa_table`)."""
    vectors: Float32[ndarray, "K E"] = encode_taxa(
        model, taxa_from_table(taxa), text_type, templates, on_progress=on_progress
    )
    facts = {"model": model.fingerprint, "text_type": str(text_type), "templates": list(templates)}
    return LabelBank(taxa, vectors, facts)


def update_bank(
    model: Encoder,
    bank: LabelBank,
    taxa: pl.DataFrame,
    *,
    on_progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> tuple[LabelBank, int]:
    """The bank of other taxa, in depth-first order: what the bank has under the same caption is not encoded again.

    Returns the new bank and how many captions were encoded. Appending, and following a change of taxonomy, are this.

    Raises:
        LinnaeaError: the bank was built with another model, or from photographs instead of names.
    """
    if bank.facts.get("model") != model.fingerprint:
        raise LinnaeaError("the bank was built with another model; build it again with `linnaea labels build`")
    if "adapted" in bank.facts or bank.facts["text_type"] not in set(TextType):
        raise LinnaeaError("the bank is a head made from photographs: names alone add no class to it; adapt again")
    text_type = TextType(bank.facts["text_type"])
    known = {taxon.caption(text_type): row for row, taxon in enumerate(bank.taxa_list)}
    captions = [taxon.caption(text_type) for taxon in taxa_from_table(taxa)]
    rows = np.array([known.get(caption, -1) for caption in captions], np.int64)
    dtype = np.float32 if isinstance(bank.vectors, Int8Rows) else bank.vectors.dtype
    vectors = np.empty((len(rows), bank.vectors.shape[1]), dtype)
    vectors[rows >= 0] = bank.vectors[rows[rows >= 0]]
    new = np.flatnonzero(rows < 0)
    if len(new):
        names = [captions[row] for row in new]
        vectors[new] = encode_names(model, names, bank.facts["templates"], on_progress=on_progress)
    if TRAINED in bank.taxa.columns:
        taxa = taxa.with_columns(pl.Series(TRAINED, (rows >= 0) & bank.trained[rows]))
    return LabelBank(taxa, vectors, dict(bank.facts)), len(new)


def load_cached_bank(
    model: Encoder,
    taxa: pl.DataFrame,
    text_type: TextType = TextType.TAXON_COM,
    templates: Sequence[str] = (PHOTO_TEMPLATE,),
    *,
    on_progress: Callable[[int, int | None], None] = lambda done, total: None,
) -> LabelBank:
    """As :func:`make_bank`, but what takes long is encoded once and lies in the cache folder from then on.

    The first call gives the same vectors as all later ones: those on disk.
    """
    if len(taxa) * len(templates) < CACHE_FROM:
        return make_bank(model, taxa, text_type, templates, on_progress=on_progress)
    question = [model.fingerprint, str(text_type), *templates, hash_taxa(taxa)]
    folder = cache_dir() / "banks" / hashlib.sha256(json.dumps(question).encode()).hexdigest()[:32]
    if (folder / FACTS_FILE).exists():
        try:
            return LabelBank.open(folder)
        except LinnaeaError:  # damaged: made again
            pass
    bank = make_bank(model, taxa, text_type, templates, on_progress=on_progress)
    bank.save(folder, dtype=np.float32 if bank.vectors.nbytes <= EXACT_BYTES else np.float16)
    return LabelBank.open(folder)


def mark_trained(taxa: pl.DataFrame, trained: pl.DataFrame) -> pl.DataFrame:
    """``taxa`` with the column ``TRAINED``: whether the table ``trained`` holds a taxon's lineage."""
    known = trained.select(*RANK_LABELS, pl.lit(value=True).alias(TRAINED)).unique()
    joined = taxa.drop(TRAINED, strict=False).join(
        known, on=RANK_LABELS, how="left", nulls_equal=True, maintain_order="left"
    )
    return joined.with_columns(pl.col(TRAINED).fill_null(value=False))


def to_float32(vectors: NDArray[Any], out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Vectors of a bank for arithmetic. PyTorch, where it is there already, converts ten times faster than NumPy.

    ``out`` of the same shape, used again and again, saves what the system takes to hand out new memory: most of it.
    """
    if out is None:
        out = np.empty(vectors.shape, np.float32)
    torch = sys.modules.get("torch")
    if torch is None:
        np.copyto(out, vectors)
    else:
        torch.from_numpy(out).copy_(torch.from_numpy(vectors))
    return out


def hash_taxa(taxa: pl.DataFrame) -> str:
    """What tells one list of labels from another: a checksum of its names, in their order."""
    names = taxa.select(*RANK_LABELS, "common_name")
    return hashlib.sha256(names.write_csv().encode()).hexdigest()


def read_taxa(path: Path) -> pl.DataFrame:
    """The taxa of a data set, a model folder, a bank, a table with rank columns, or a list of names, one a line.

    Raises:
        LinnaeaError: there is nothing, or no name in it.
    """
    if path.is_dir():
        if not (path / TAXA_FILE).exists():
            raise LinnaeaError(f"{path}: holds no {TAXA_FILE}; give a data set, a label bank or a file of labels")
        return _in_order(pl.read_parquet(path / TAXA_FILE).select(list(TAXA_SCHEMA)))
    if not path.exists():
        raise LinnaeaError(f"{path}: no such file; give a data set, a label bank or a file of labels")
    taxa = _taxa_of_table(path) if is_table(path) else _taxa_of_list(path)
    if not taxa:
        raise LinnaeaError(f"{path}: holds no label")
    return make_taxa_table(taxa)


def taxa_of_checklist(checklist: Checklist) -> pl.DataFrame:
    """The species of a checklist as a taxon table (:data:`linnaea.data.shards.TAXA_SCHEMA`), in depth-first order."""
    species = checklist.taxa.filter(pl.col("rank") == int(Rank.SPECIES))
    names = species.select(*(pl.col(name).cast(pl.String).fill_null("") for name in (*RANK_LABELS, "common_name")))
    names = names.filter((pl.col("genus") != "") & (pl.col("species") != "")).unique(RANK_LABELS, keep="first")
    names = names.sort(*RANK_LABELS, "common_name").with_row_index("taxon_id")
    full = pl.concat_str("genus", pl.lit(" "), "species").alias("scientific_name")
    return names.with_columns(full).select(pl.col(name).cast(kind) for name, kind in TAXA_SCHEMA.items())


def _in_order(taxa: pl.DataFrame) -> pl.DataFrame:
    """Depth-first: what another tool wrote may not be, and a taxon in two places would count as two."""
    names = taxa.select(*RANK_LABELS, "common_name").fill_null("")
    if names.equals(names.sort(names.columns)):
        return taxa
    return make_taxa_table(taxa_from_table(taxa))


def _taxa_of_list(path: Path) -> list[Taxon]:
    named = [read_taxon({}, line) for line in read_list(path).rows["name"]]
    return [taxon for taxon in named if isinstance(taxon, Taxon)]


def _taxa_of_table(path: Path) -> list[Taxon]:
    table = read_table(path, columns=NAME_COLUMNS).rows
    ranked = any(rank in table.columns for rank in RANK_LABELS)
    label = find_column(table.columns, "scientific_name", "label", "name", "common_name")
    if not ranked and not label:
        raise LinnaeaError(f"{path}: no column named after a rank, nor scientific_name, label or name;"
                           f" it has {', '.join(table.columns)}")  # fmt: skip
    if not ranked and label == "common_name":  # whatever it is called, a label may be a scientific name
        table = table.rename({label: "label"})
        label = "label"
    taxa = []
    for number, row in enumerate(table.iter_rows(named=True), start=2):
        taxon = read_taxon(row, row.get(label, ""))
        if isinstance(taxon, Taxon):
            taxa.append(taxon)
        elif ranked:
            raise LinnaeaError(f"{path}: row {number}: {taxon}")
    return taxa


HEADS_FOLDER = "heads"
"""Where a model that was trained with cross-entropy keeps its class heads, one bank per rank.

A head is the taxa it was trained on and its weights. Their products with an image's unit vector, times the model's
logit scale, are the logits of training.
"""
CLASS_HEAD = "class head"
"""The ``text_type`` of a bank that is a class head."""


def load_class_heads(model: str | Path) -> dict[Rank, LabelBank]:
    """The heads of a model folder (or of the run around it); none for a model that knows captions.

    Raises:
        LinnaeaError: a head is broken.
    """
    folder = find_model_folder(str(model))
    places = {} if folder is None else {rank: folder / HEADS_FOLDER / rank.label for rank in Rank}
    return {rank: LabelBank.open(place) for rank, place in places.items() if (place / FACTS_FILE).exists()}


def find_own_labels(model: str) -> Path | None:
    """What a model brings to answer with: its head for species, or its label bank, or its taxa."""
    folder = find_model_folder(model)
    if folder is None:
        return None
    for place in (folder / HEADS_FOLDER / Rank.SPECIES.label, folder / LABELS_FOLDER):
        if (place / FACTS_FILE).exists():
            return place
    return folder if (folder / TAXA_FILE).exists() else None


BIN = "bin"
"""The ``text_type`` of a bank of bins."""


def read_bins(path: Path) -> pl.DataFrame:
    """``label`` and ``bin``, in the order of the bins: the first two columns of a table, whatever they are called.

    Raises:
        LinnaeaError: there are no two columns; a label has no bin, or two.
    """
    table = read_table(path).rows
    if table.width < 2:
        raise LinnaeaError(f"{path}: bins need two columns, a label and its bin; it has {', '.join(table.columns)}")
    table = table.select(
        label=pl.nth(0).fill_null("").str.strip_chars(), bin=pl.nth(1).fill_null("").str.strip_chars()
    ).unique(maintain_order=True)
    table = table.filter((pl.col("label") != "") | (pl.col("bin") != ""))
    for row in table.filter((pl.col("bin") == "") | (pl.col("label") == "")).iter_rows():
        raise LinnaeaError(f"{path}: {' '.join(row)!r} lacks its label or its bin")
    for label in table.filter(pl.col("label").is_duplicated())["label"]:
        raise LinnaeaError(f"{path}: {label!r} stands in two bins")
    if table.is_empty():
        raise LinnaeaError(f"{path}: holds no label")
    return table.sort("bin", maintain_order=True)


def make_bin_bank(model: Encoder, bins: pl.DataFrame, templates: Sequence[str] = ()) -> LabelBank:
    """Return a bank with a row for each label under the name of its bin.

    Rows of one name are one group, whose probability is their sum. Labels
    stand in ``templates``, by default OpenAI's 80, as pybioclip asks them.
    """
    if not templates:
        from open_clip import OPENAI_IMAGENET_TEMPLATES

        templates = [template("{}") for template in OPENAI_IMAGENET_TEMPLATES]
    with progress_bar("encoding labels", "labels") as on_progress:
        vectors = encode_names(model, bins["label"].to_list(), templates, on_progress=on_progress)
    names = bins.select(common_name="bin").with_row_index("taxon_id")
    empty = [pl.lit("").alias(name) for name in TAXA_SCHEMA if name not in names.columns]
    taxa = names.with_columns(empty).select(pl.col(name).cast(kind) for name, kind in TAXA_SCHEMA.items())
    facts = {"model": model.fingerprint, "text_type": BIN, "templates": list(templates), "labels": bins.rows()}
    return LabelBank(taxa, vectors, facts)
