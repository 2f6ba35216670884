"""Label banks: the taxa that a model may answer with, and their vectors, in depth-first order of the tree.

In that order every taxon of every rank is one contiguous range of rows, so the probability of a genus or a family is a
segment sum.
"""

import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Bool, Float32, Float64, Int64
from numpy import ndarray
from numpy.typing import NDArray

from linnaea.arrays import map_array, write_array
from linnaea.counting import agree, count
from linnaea.data.shards import TAXA_SCHEMA, read_taxa_table, taxa_from_table
from linnaea.errors import LinnaeaError
from linnaea.exchange import replaced_folder
from linnaea.jobs import OnProgress, ignore_progress
from linnaea.model.encode import encode_names, encode_taxa
from linnaea.model.encoder import Encoder
from linnaea.model.folders import LABELS_FOLDER, find_model_folder
from linnaea.predict.int8 import Int8Rows
from linnaea.progress import announce_uncached, progress_bar
from linnaea.storage import cache_dir, read_json
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.taxon import PHOTO_TEMPLATE, Taxon, TextType
from linnaea.taxonomy.tree import RankGroups

TAXA_FILE, VECTORS_FILE, FACTS_FILE = "taxa.parquet", "embeddings.npy", "bank.json"

TRAINED = "trained"
"""Column of a bank's taxa: whether the model was trained on photographs of the taxon."""

N_PHOTOGRAPHS = "n_photographs"
"""Column of a bank's taxa: the number of photographs of the taxon that the model was trained on."""
LEARNED = "learned"
"""The key in ``bank.json`` for the number of vectors that were learned from photographs, too (:func:`take_vectors`)."""

OFFSET = "offset"
"""Column of a bank's taxa: a number that is added to each cosine with the row (:mod:`linnaea.predict.cut`)."""
HEADS_FOLDER = "heads"
"""The folder where a model that was trained with cross-entropy keeps its class heads, one bank per rank.

A head is the taxa it was trained on and its weights. The logits of training are the products of the weights with an
image's unit vector, times the model's logit scale.
"""
HEADS = "heads"
"""The key in ``bank.json`` for the ranks of a bank's heads, which are in its :data:`HEADS_FOLDER`."""
ADAPTED = "adapted"
"""The key in ``bank.json`` that marks a head made from photographs (:mod:`linnaea.predict.adapt`)."""
PREPROCESS = "preprocess"
"""The key of the preprocessing in ``bank.json``: for a head, how its photographs were seen; else the model's own."""

CACHE_FROM = 2_000
"""The number of captions from which :func:`load_cached_bank` keeps a bank; fewer are encoded in seconds."""
FEW = 32_768
"""The number of taxa up to which a bank's vectors are kept in memory as float32 (67 MB of width 512)."""
EXACT_BYTES = 256_000_000
"""Cached banks up to this size keep float32. Larger ones are rounded to fp16, as saved banks are."""


_BUILD = "build the bank again with `linnaea labels build`"


@dataclass(frozen=True)
class LabelBank:
    """Taxa and their unit vectors ``[K, E]``, row by row, in depth-first order."""

    taxa: pl.DataFrame
    vectors: NDArray[Any] | Int8Rows
    """float32, fp16 or 8 bits; ``vectors[rows]`` and ``np.asarray(vectors)`` are arrays in each case."""
    facts: dict[str, Any]
    """Model fingerprint, text type, templates."""
    heads: Mapping[Rank, "LabelBank"] = field(default_factory=dict)
    """Class heads for ranks above species, trained with the image tower (:mod:`linnaea.predict.rank_heads`)."""
    folder: Path | None = field(default=None, init=False, compare=False)
    """The folder that the bank was opened from."""

    def __len__(self) -> int:
        return self.taxa.height

    def __repr__(self) -> str:
        form = self.facts.get("text_type", "unknown")
        return (
            f"<LabelBank of {count(len(self), 'taxon')}, {self.vectors.shape[1]}"
            f" wide, {self.vectors.dtype}, captions {form}>"
        )

    @cached_property
    def taxa_list(self) -> list[Taxon]:
        return taxa_from_table(self.taxa)

    @cached_property
    def has_only_organisms(self) -> bool:
        """Return whether every label has a lineage, so that none of them is a word such as ``empty cage``."""
        ranks = [pl.col(label).fill_null("") != "" for label in RANK_LABELS[: Rank.SPECIES]]
        return bool(self.taxa.select(pl.any_horizontal(ranks).all()).item())

    def is_of(self, model: Encoder) -> bool:
        """Return whether the vectors were made with this model."""
        return bool(self.facts.get("model") == model.fingerprint)

    @cached_property
    def trained(self) -> Bool[ndarray, "K"]:  # noqa: F821
        """Return which taxa the model was trained on photographs of; all, if the bank does not say."""
        return np.asarray(self.taxa[TRAINED]) if TRAINED in self.taxa.columns else np.ones(len(self), bool)

    @cached_property
    def n_photographs(self) -> Int64[ndarray, "K"]:  # noqa: F821
        """Return the number of photographs of each taxon that the model was trained on; 0 if the bank does not say."""
        if N_PHOTOGRAPHS not in self.taxa.columns:
            return np.zeros(len(self), np.int64)
        return self.taxa[N_PHOTOGRAPHS].fill_null(0).cast(pl.Int64).to_numpy()

    @cached_property
    def n_photographs_of(self) -> tuple[Int64[ndarray, "G"], ...]:  # noqa: F821
        """Return :attr:`n_photographs` of the groups of each rank."""
        return tuple(np.add.reduceat(self.n_photographs, starts) for starts in self.groups.starts)

    @cached_property
    def vectors_at_hand(self) -> NDArray[Any] | Int8Rows:
        """Return :attr:`vectors`, as float32 if they are few: a server would convert them for each photograph."""
        return np.asarray(self.vectors, np.float32) if len(self) <= FEW else self.vectors

    @cached_property
    def offsets(self) -> Float32[ndarray, "K"] | None:  # noqa: F821
        """Return the numbers to add to the cosines with the rows; ``None`` for a bank that was not cut."""
        return np.asarray(self.taxa[OFFSET], np.float32) if OFFSET in self.taxa.columns else None

    @cached_property
    def groups(self) -> RankGroups:
        """Return the groups that the rows form at each rank."""
        return RankGroups.of(self.taxa)

    @cached_property
    def matched_heads(self) -> Mapping[Rank, tuple[Float64[ndarray, "H E"], Int64[ndarray, "H"]]]:  # noqa: F821
        """Return for each head the vectors of the taxa that the bank has, too, and the bank's groups of these taxa."""
        found = {}
        for rank, head in self.heads.items():
            names = RANK_LABELS[: rank + 1]
            lineage = [pl.col(name).fill_null("") for name in names]
            groups = self.taxa[self.groups.starts[rank]].select(lineage).with_row_index("group")
            rows = head.taxa.select(lineage).with_row_index("row").filter(pl.col(rank.label) != "")
            both = rows.join(groups.unique(names, keep="first"), on=names).sort("row")
            vectors_HE = to_float32(head.vectors[both["row"].cast(pl.Int64).to_numpy()]).astype(np.float64)
            found[rank] = vectors_HE, both["group"].cast(pl.Int64).to_numpy()
        return found

    @cached_property
    def _columns(self) -> list[pl.Series]:
        return [self.taxa[label].fill_null("") for label in (*RANK_LABELS, "common_name")]

    def taxon(self, row: int) -> Taxon:
        """Return the taxon of one row, without making a list of all taxa."""
        *lineage, common_name = (column[row] for column in self._columns)
        try:
            return Taxon(tuple(lineage), common_name=common_name)
        except ValueError as error:
            raise LinnaeaError(f"{self.folder or 'the labels'}: row {row + 1} of its taxa: {error}") from error

    def group(self, rank: Rank, number: int) -> Taxon | None:
        """Return the taxon of a group of a rank; at species rank the row itself, with its common name.

        If the rows of a group have no name at ``rank`` (for example, a genus without species), the taxon is the lowest
        named one; ``None`` if there is no name.
        """
        taxon = self.taxon(self.groups.rows(rank, number)[0])
        return taxon.at(rank) if rank == Rank.SPECIES or any(taxon.lineage[: rank + 1]) else None

    def save(self, directory: Path, *, dtype: type[np.floating[Any] | np.int8] = np.float16) -> None:
        """Write the bank in one step; an existing bank stays whole until then, and its other files stay."""
        with replaced_folder(directory) as new:
            self._write(new, dtype)

    def _write(self, folder: Path, dtype: type[np.floating[Any] | np.int8]) -> None:
        self.taxa.write_parquet(folder / TAXA_FILE, compression="zstd", compression_level=9, statistics=True)
        rounded = Int8Rows.of(self.vectors).pack() if dtype is np.int8 else np.asarray(self.vectors, dtype)
        with (folder / VECTORS_FILE).open("wb") as stream:
            write_array(stream, rounded)
        facts = self.facts | ({HEADS: [rank.label for rank in self.heads]} if self.heads else {})
        (folder / FACTS_FILE).write_text(json.dumps(facts, indent=1))
        for rank, head in self.heads.items():
            place = folder / HEADS_FOLDER / rank.label
            place.mkdir(parents=True)
            head._write(place, np.int8)

    @classmethod
    def open(cls, directory: Path) -> "LabelBank":
        """Open a bank with memory-mapped vectors.

        Raises:
            LinnaeaError: the folder is not a bank.
        """
        taxa = read_taxa_table(
            directory / TAXA_FILE, kind=f"the taxa of a label bank: {_BUILD}",
            more={TRAINED: pl.Boolean, OFFSET: pl.Float32},
        )  # fmt: skip
        facts = read_json(directory / FACTS_FILE, kind=f"the facts of a label bank: {_BUILD}")
        stored = map_array(directory / VECTORS_FILE, kind=f"the vectors of a label bank: {_BUILD}")
        vectors = Int8Rows.unpack(stored) if Int8Rows.is_packed(stored) else stored
        is_number = isinstance(vectors, Int8Rows) or stored.dtype.kind == "f"
        if len(vectors.shape) != 2 or len(vectors) != taxa.height or not is_number:
            shape = f"{' x '.join(map(str, stored.shape))} vectors of {stored.dtype}"
            raise LinnaeaError(f"{directory}: {count(taxa.height, 'taxon', '')}, but {shape}; build the bank again")
        named = facts.pop(HEADS, [])
        heads = {rank: cls.open(directory / HEADS_FOLDER / rank.label) for rank in Rank if rank.label in named}
        if any(head.vectors.shape[1] != vectors.shape[1] for head in heads.values()):
            raise LinnaeaError(f"{directory}: its heads are of another width than its labels; build the bank again")
        bank = cls(taxa, vectors, facts, heads)
        object.__setattr__(bank, "folder", directory)
        return bank


def make_bank(
    model: Encoder,
    taxa: pl.DataFrame,
    text_type: TextType = TextType.TAXON_COM,
    templates: Sequence[str] = (PHOTO_TEMPLATE,),
    *,
    on_progress: OnProgress = ignore_progress,
) -> LabelBank:
    """Encode the taxa of a table in depth-first order (:func:`linnaea.data.shards.make_taxa_table`)."""
    vectors: Float32[ndarray, "K E"] = encode_taxa(
        model, taxa_from_table(taxa), text_type, templates, on_progress=on_progress
    )
    facts = {"model": model.fingerprint, "text_type": str(text_type), "templates": list(templates),
             PREPROCESS: model.own_preprocess.to_json()}  # fmt: skip
    return LabelBank(taxa, vectors, facts)


def take_vectors(bank: LabelBank, head: LabelBank) -> LabelBank:
    """Return the bank with the mean of caption and class head, at unit length, where a species has its lineage in both.

    The head learned from photographs, the caption also from its relatives; both are unit vectors before.
    """
    lineage = [pl.col(label).fill_null("") for label in RANK_LABELS]
    row_of = {names: row for row, names in enumerate(head.taxa.select(lineage).rows())}
    rows = np.array([row_of.get(names, -1) for names in bank.taxa.select(lineage).rows()])
    vectors = to_float32(bank.vectors[:]).copy()
    learned, named = to_float32(head.vectors[:])[rows[rows >= 0]], vectors[rows >= 0]
    both = sum(one / np.linalg.norm(one, axis=1, keepdims=True) for one in (learned, named))
    vectors[rows >= 0] = both / np.linalg.norm(both, axis=1, keepdims=True)
    return replace(bank, vectors=vectors, facts=dict(bank.facts) | {LEARNED: int((rows >= 0).sum())})


def is_from_photographs(bank: LabelBank) -> bool:
    """Return whether a bank is a head that was made from photographs, whose vectors are not those of captions."""
    return ADAPTED in bank.facts or bank.facts.get("text_type") == CLASS_HEAD


def update_bank(
    model: Encoder,
    bank: LabelBank,
    taxa: pl.DataFrame,
    *,
    on_progress: OnProgress = ignore_progress,
) -> tuple[LabelBank, int]:
    """Return a bank of other taxa, in depth-first order, and the number of captions that had to be encoded.

    Captions that the bank already has are not encoded again. Appending taxa and updating taxonomy both use this.

    Raises:
        LinnaeaError: the bank was built with another model, or from photographs instead of names.
    """
    if not bank.is_of(model):
        raise LinnaeaError("the bank was built with another model; build it again with `linnaea labels build`")
    if is_from_photographs(bank):
        raise LinnaeaError("the bank is a head made from photographs; names cannot add classes to it, so adapt again")
    if bank.offsets is not None:
        raise LinnaeaError("the bank was cut (`linnaea pack --within`); change the whole bank and cut it again")
    if bank.facts.get("text_type") not in set(TextType):
        raise LinnaeaError("the bank does not say what captions it was made from; build it again")
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
    if N_PHOTOGRAPHS in bank.taxa.columns:
        taxa = taxa.with_columns(pl.Series(N_PHOTOGRAPHS, np.where(rows >= 0, bank.n_photographs[rows], 0)))
    return replace(bank, taxa=taxa, vectors=vectors, facts=dict(bank.facts)), len(new)


def load_cached_bank(
    model: Encoder,
    taxa: pl.DataFrame,
    text_type: TextType = TextType.TAXON_COM,
    *,
    on_progress: OnProgress = ignore_progress,
) -> LabelBank:
    """Return what :func:`make_bank` returns; a bank that takes long to encode is kept in the cache folder.

    The first call gives the same vectors as all later ones: those on disk.
    """
    if len(taxa) < CACHE_FROM:
        return make_bank(model, taxa, text_type, on_progress=on_progress)
    question = [model.fingerprint, str(text_type), PHOTO_TEMPLATE, hash_taxa(taxa)]
    folder = cache_dir() / "banks" / hashlib.sha256(json.dumps(question).encode()).hexdigest()[:32]
    if (folder / FACTS_FILE).exists():
        try:
            return LabelBank.open(folder)
        except LinnaeaError:  # the cached bank is damaged and is made again
            pass
    bank = make_bank(model, taxa, text_type, on_progress=on_progress)
    dtype = np.float32 if bank.vectors.nbytes <= EXACT_BYTES else np.float16
    try:
        bank.save(folder, dtype=dtype)
    except (LinnaeaError, OSError) as error:
        announce_uncached(error, f"{count(len(bank), 'label')} {agree(len(bank), 'is', 'are')}", "are encoded")
        return replace(bank, vectors=np.asarray(bank.vectors, dtype))
    return LabelBank.open(folder)


def mark_trained(taxa: pl.DataFrame, trained: pl.DataFrame) -> pl.DataFrame:
    """Return ``taxa`` with the columns ``TRAINED`` and, if ``trained`` has it, ``N_PHOTOGRAPHS``.

    A taxon is trained if the table ``trained`` has its lineage.
    """
    counts = [pl.col(N_PHOTOGRAPHS).sum()] if N_PHOTOGRAPHS in trained.columns else []
    known = trained.group_by(RANK_LABELS).agg(pl.lit(value=True).alias(TRAINED), *counts)
    joined = taxa.drop(TRAINED, N_PHOTOGRAPHS, strict=False).join(
        known, on=RANK_LABELS, how="left", nulls_equal=True, maintain_order="left"
    )
    filled = [pl.col(TRAINED).fill_null(value=False), *(pl.col(N_PHOTOGRAPHS).fill_null(0) for _ in counts)]
    return joined.with_columns(filled)


def to_float32(vectors: NDArray[Any], out: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
    """Convert a bank's vectors to float32. PyTorch, if it is already imported, is ten times as fast as NumPy.

    Reusing an ``out`` of the same shape avoids most of the cost, which is allocating new memory.
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
    """Return a checksum of the names in their order, which identifies a list of labels."""
    names = taxa.select(*RANK_LABELS, "common_name")
    return hashlib.sha256(names.write_csv().encode()).hexdigest()


CLASS_HEAD = "class head"
"""The ``text_type`` of a bank that is a class head."""


def load_class_heads(model: str | Path) -> dict[Rank, LabelBank]:
    """Return the heads of a model folder (or of the run around it); none for a model that encodes captions.

    Raises:
        LinnaeaError: a head is broken.
    """
    folder = find_model_folder(str(model))
    places = {} if folder is None else {rank: folder / HEADS_FOLDER / rank.label for rank in Rank}
    return {rank: LabelBank.open(place) for rank, place in places.items() if (place / FACTS_FILE).exists()}


def find_own_labels(model: str) -> Path | None:
    """Return the path of a model's default labels: its species head, its label bank, or its taxa."""
    folder = find_model_folder(model)
    if folder is None:
        return None
    for place in (folder / HEADS_FOLDER / Rank.SPECIES.label, folder / LABELS_FOLDER):
        if (place / FACTS_FILE).exists():
            return place
    return folder if (folder / TAXA_FILE).exists() else None


BIN = "bin"
"""The ``text_type`` of a bank of bins."""


def openai_templates() -> list[str]:
    """Return OpenAI's 80 templates, with ``{}`` for the label."""
    from open_clip import OPENAI_IMAGENET_TEMPLATES

    return [template("{}") for template in OPENAI_IMAGENET_TEMPLATES]


def make_bin_bank(model: Encoder, bins: pl.DataFrame) -> LabelBank:
    """Return a bank with a row for each label, under the name of its bin.

    Rows with the same name are one group, whose probability is their sum. Labels are put into OpenAI's 80 templates, as
    in pybioclip.
    """
    templates = openai_templates()
    with progress_bar("encoding labels", "labels") as on_progress:
        vectors = encode_names(model, bins["label"].to_list(), templates, on_progress=on_progress)
    names = bins.select(common_name="bin").with_row_index("taxon_id")
    empty = [pl.lit("").alias(name) for name in TAXA_SCHEMA if name not in names.columns]
    taxa = names.with_columns(empty).select(pl.col(name).cast(kind) for name, kind in TAXA_SCHEMA.items())
    facts = {"model": model.fingerprint, "text_type": BIN, "templates": templates, "labels": bins.rows(),
             PREPROCESS: model.own_preprocess.to_json()}  # fmt: skip
    return LabelBank(taxa, vectors, facts)
