"""Leakage of benchmarks into a data set: copies of their pictures, crops included, and their species under any name.

The benchmark's pictures are cut and grown, so a training picture is found if it is a benchmark picture with up to 5%
cut off each side, and if the benchmark picture was cut so from it. Mirrored copies and larger crops are found only with
an encoder (``min_cosine``).
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from linnaea.arrays import save_array
from linnaea.data.copies.hashes import CROP_STEPS, SIDE, HashTable, HashTask, both_ways, list_hash_tasks
from linnaea.data.copies.rules import REASON_SCHEMA
from linnaea.data.copies.search import THRESHOLD
from linnaea.data.images import ImageError, Picture, decode
from linnaea.data.naming import UNSURE, NameResolver
from linnaea.data.plan import DETAIL
from linnaea.data.read import count_rows
from linnaea.data.shards import DataSet
from linnaea.data.sources import Source, read_location
from linnaea.data.sources.folder import FolderSource
from linnaea.data.sources.table import TableSource
from linnaea.data.splits import BENCHMARK
from linnaea.errors import LinnaeaError
from linnaea.parquet import scan_parquet
from linnaea.taxonomy.ranks import RANK_LABELS
from linnaea.taxonomy.taxon import Taxon

Vectors = NDArray[np.float32]
"""Vectors ``[N, E]``; each row has length one."""

PICTURES_SCHEMA: dict[str, Any] = dict.fromkeys(("picture", "location", "label", "species"), pl.String)
"""Columns of a benchmark's pictures: the name in reasons, the location, the label, and the species if it is named."""


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A test set whose pictures must not be trained on."""

    name: str
    """The name of the benchmark in reasons and in the manifest."""
    path: Path
    """A folder of photographs (preferably class folders), a table, or a data set (its split ``benchmark`` if any)."""
    by_image: bool = True
    """Reject copies of the benchmark's pictures, including crops of up to 5% per side in either direction."""
    by_taxon: bool = False
    """Reject every picture of the benchmark's species."""
    split: str = ""
    """The split of a data set that is the benchmark."""
    path_column: str = "filepath"
    """Column of a table that holds the path, relative to the table's folder."""
    label_column: str = ""
    """Column of a table that holds the label; not needed with rank columns."""
    threshold: int = THRESHOLD
    """Maximum Hamming distance of a copy, of 256 bits."""
    min_cosine: float = 0.0
    """Also reject pictures with at least this cosine similarity by the encoder that is passed in; 0 turns this off."""


def describe_benchmark(benchmark: Benchmark) -> dict[str, str]:
    """Return what identifies a benchmark's content.

    Raises:
        LinnaeaError: its path does not exist.
    """
    if _is_data_set(benchmark.path):
        directory = DataSet.open(benchmark.path).directory
        return {"kind": "data set", "sha256": hashlib.sha256((directory / "manifest.json").read_bytes()).hexdigest()}
    return _source(benchmark).describe()


def read_benchmark(benchmark: Benchmark) -> pl.DataFrame:
    """Return the benchmark's pictures with :data:`PICTURES_SCHEMA`, including those without a readable name.

    Raises:
        LinnaeaError: it has no pictures.
    """
    rows = _data_set_pictures(benchmark) if _is_data_set(benchmark.path) else _source_pictures(benchmark)
    table = pl.DataFrame(rows, schema=PICTURES_SCHEMA, orient="row")
    if table.is_empty():
        raise LinnaeaError(f"{benchmark.path}: has no photographs; benchmark {benchmark.name!r} would remove nothing")
    return table


def _is_data_set(path: Path) -> bool:
    """Return whether a path is a data set, also an unfinished one.

    Opening an unfinished data set raises an error; read as a folder, its shards would be broken pictures.
    """
    return (path / "manifest.json").exists() or (path / ".build").exists()


def _source(benchmark: Benchmark) -> Source:
    path = benchmark.path
    if not path.exists():
        raise LinnaeaError(f"{path}: no such benchmark; give a folder of photographs, a table or a data set")
    if path.is_dir():
        return FolderSource(root=path)
    return TableSource(
        table=path, root=path.parent, path_column=benchmark.path_column, label_column=benchmark.label_column
    )


def _source_pictures(benchmark: Benchmark) -> Iterable[tuple[str, ...]]:
    for item in _source(benchmark).records():
        taxon: Taxon | None = getattr(item, "taxon", None)
        label = getattr(item, "facts", {}).get("label", "")
        yield item.record_id, item.location, label, _species(taxon) if taxon else ""


def _data_set_pictures(benchmark: Benchmark) -> Iterable[tuple[str, ...]]:
    dataset = DataSet.open(benchmark.path)
    splits = set(dataset.index["split"].unique())
    split = benchmark.split or (BENCHMARK if BENCHMARK in splits else "")
    part = dataset.split(split) if split else dataset
    species = [_species(taxon) for taxon in dataset.taxa_list]
    columns = part.index.select("key", "source", "shard", "offset", "size", "taxon_id")
    for key, source, shard, offset, size, taxon_id in columns.iter_rows():
        location = f"{dataset.directory / shard}::{offset}::{size}"
        yield f"{source} {key}", location, "", species[taxon_id]


def _species(taxon: Taxon) -> str:
    return taxon.scientific_name if taxon.species else ""


def find_copies(benchmark: Benchmark, pictures: Sequence[str], training: HashTable, hashes: HashTable,
                hits: Iterable[pl.DataFrame]) -> pl.DataFrame:  # fmt: skip
    """Return the training rows that occur in a benchmark as ``row, reason``.

    The reason names the nearest picture, the crop and the distance.
    """
    crops = both_ways(CROP_STEPS)
    found: dict[int, tuple[int, int, str]] = {}

    def note(row: int, distance: int, picture: int, how: str) -> None:
        if row not in found or (distance, picture) < found[row][:2]:
            found[row] = (distance, picture, how)

    for kind, how in (("sha256", "same bytes"), ("pixels", "same pixels")):
        for row, picture in find_exact(training.digests(kind), hashes.digests(kind)).iter_rows():
            note(row, -1, picture, how)
    for block in hits:
        for query, target, distance in block.iter_rows():
            where, variant = divmod(target, hashes.n_variants)
            how = f"{crops[variant] if variant else 'whole'}, distance {distance}"
            note(int(training.rows[query]), distance, int(hashes.rows[where]), how)
    reasons = [
        (row, f"occurs in benchmark {benchmark.name}{DETAIL}{pictures[picture]}, {how}")
        for row, (_, picture, how) in sorted(found.items())
    ]
    return pl.DataFrame(reasons, schema=REASON_SCHEMA, orient="row")


def find_similar(benchmark: Benchmark, pictures: Sequence[str], training: Vectors, vectors: Vectors) -> pl.DataFrame:
    """Return the training rows similar to a benchmark picture as ``row, reason``, with the most similar picture."""
    found = find_leaks_by_embedding(training, vectors, benchmark.min_cosine)
    nearest = found.sort("cosine", "benchmark_row", descending=[True, False]).unique("train_row", keep="first")
    reasons = [
        (row, f"similar to benchmark {benchmark.name}{DETAIL}{pictures[picture]}, cosine {cosine:.3f}")
        for row, picture, cosine in nearest.sort("train_row").iter_rows()
    ]
    return pl.DataFrame(reasons, schema=REASON_SCHEMA, orient="row")


@dataclass(frozen=True, kw_only=True)
class SpeciesNames:
    """The names of species in all their forms: as written, as parsed, and as in checklists."""

    forms: list[set[str]]
    """The forms of each name; an empty set if it does not name a species."""
    written: list[str]
    """The spelling of each name in the input."""


def species_names(labels: pl.Series, species: pl.Series, resolver: NameResolver | None) -> SpeciesNames:
    """Return the distinct names of ``labels`` and ``species`` (of equal length) with their accepted names, if known."""
    names = pl.DataFrame({"label": labels, "species": species}).unique().sort("label", "species")
    asked = names.select(pl.when(pl.col("species") != "").then("species").otherwise("label"))["species"]
    forms = [{name} if name else set[str]() for name in asked]
    if resolver is not None and len(asked):
        answers = resolver.resolve(asked)
        for form, status, rank, name in zip(forms, *answers.select("status", "rank", "scientific_name"), strict=True):
            if status not in UNSURE and rank == "species":
                form.add(name)
    return SpeciesNames(forms=forms, written=[label or one for label, one in names.iter_rows()])


@dataclass(frozen=True, kw_only=True)
class SpeciesMatch:
    """The taxa that are among the named species."""

    rows: set[int]
    """Numbers of taxa."""
    unmatched: list[str]
    """Names that match no taxon, or do not name a species. Check them: a filter that matches nothing removes
    nothing."""


def match_species(names: SpeciesNames, taxa: Sequence[Taxon], also: Sequence[Taxon] = ()) -> SpeciesMatch:
    """Find the named species among ``taxa``; ``also`` holds other names of the same rows (as in the sources)."""
    every = {form for forms in names.forms for form in forms}
    rows: set[int] = set()
    missing = set(every)
    for side in (taxa, also):
        lineages = pl.DataFrame(
            [taxon.lineage for taxon in side], schema=dict.fromkeys(RANK_LABELS, pl.String), orient="row"
        )
        match = match_benchmark_taxa(lineages, every)
        rows |= {row for row, is_in in enumerate(match.is_in_benchmark) if is_in}
        missing &= set(match.unmatched)
    unmatched = [name for name, forms in zip(names.written, names.forms, strict=True) if forms <= missing]
    return SpeciesMatch(rows=rows, unmatched=unmatched)


def find_exact(train: Sequence[str] | pl.Series, benchmark: Sequence[str] | pl.Series) -> pl.DataFrame:
    """Return the training rows whose digest of bytes or pixels occurs in a benchmark: ``train_row, benchmark_row``.

    A null digest (a picture that cannot be read) matches nothing.
    """
    if not len(train) or not len(benchmark):
        return pl.DataFrame(schema={"train_row": pl.Int64, "benchmark_row": pl.Int64})
    sides = [pl.DataFrame({"digest": digests}) for digests in (train, benchmark)]
    return (
        sides[0]
        .with_row_index("train_row")
        .join(sides[1].with_row_index("benchmark_row"), on="digest")
        .select(pl.col("train_row", "benchmark_row").cast(pl.Int64))
        .sort("train_row", "benchmark_row")
    )


@dataclass(frozen=True, kw_only=True)
class TaxonMatch:
    """The taxa of a table that a benchmark holds. Check ``unmatched``: a filter without a match removes nothing."""

    is_in_benchmark: NDArray[np.bool_]
    """True for each row of the table of taxa that matches, ``[K]``."""
    unmatched: tuple[str, ...]
    """Names of the benchmark that match no taxon, or do not name a species."""


def match_benchmark_taxa(taxa: pl.DataFrame, names: Iterable[str]) -> TaxonMatch:
    """Find the species of a benchmark in a table of taxa, independent of the spelling of names and separators.

    BioCLIP's filter for Rare Species compared ``Animalia-Mollusca-...-Cyclonaias-tuberculata`` with
    ``Cyclonaias tuberculata`` and matched 0 of 400. Synonyms match only if ``names`` holds them: resolve the
    benchmark's names first (:mod:`linnaea.taxonomy`) and pass both the raw and the resolved ones.

    Args:
        taxa: columns ``genus`` and ``species`` (epithet; a subspecies after its first word is ignored).
        names: "Genus epithet", with spaces or underscores, in any case; or a lineage of seven ranks joined by
            hyphens, underscores or spaces, optionally with a number before it as in iNat21's folders.
    """
    wanted: dict[tuple[str, str], list[str]] = {}
    unreadable = []
    for name in names:
        key = species_key(name)
        if key is None:
            unreadable.append(name)
        else:
            wanted.setdefault(key, []).append(name)
    keys = [
        (genus.strip().lower(), species.split()[0].lower() if species.split() else "")
        for genus, species in taxa.select(pl.col("genus", "species").fill_null("")).iter_rows()
    ]
    present = set(keys)
    missing = [name for key, spelled in wanted.items() if key not in present for name in spelled]
    return TaxonMatch(
        is_in_benchmark=np.array([key in wanted for key in keys], dtype=np.bool_),
        unmatched=(*unreadable, *missing),
    )


def species_key(name: str) -> tuple[str, str] | None:
    """Return (genus, epithet) in lower case of a species' name or lineage, or ``None`` if there is no epithet."""
    words = name.lower().replace("_", " ").split()
    if len(words) == 1 and words[0].count("-") >= 6:
        words = words[0].split("-", 6)  # a hyphen after the sixth belongs to the epithet (c-album)
    if words and words[0].isdigit():
        words = words[1:]
    match words:
        case [_, _, _, _, _, genus, species, *_] if genus and species:
            return genus, species
        case [genus, species] | [genus, species, _] | [genus, species, _, _] if genus and species:
            return genus, species
        case _:
            return None


# Vectors by an encoder that the caller passes in; they find crops and edits that hashes miss.


EncodePictures = Callable[[Sequence[Picture]], NDArray[np.float32]]
"""Returns the vectors ``[B, E]`` of pictures; a caller with a model provides it."""


def encode_pictures(pictures: Iterable[Picture], encode: EncodePictures, batch: int = 64) -> NDArray[np.float32]:
    """Return the unit vectors ``[N, E]`` of pictures, encoded ``batch`` pictures at a time."""
    made: list[NDArray[np.float32]] = []
    waiting: list[Picture] = []
    for picture in pictures:
        waiting.append(picture)
        if len(waiting) == batch:
            made.append(encode(waiting))
            waiting = []
    if waiting:
        made.append(encode(waiting))
    vectors = np.concatenate(made).astype(np.float32) if made else np.empty((0, 1), dtype=np.float32)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True).astype(np.float32)
    return np.asarray(vectors / np.maximum(lengths, 1e-12), dtype=np.float32)


def find_leaks_by_embedding(
    train: NDArray[np.float32], benchmark: NDArray[np.float32], min_cosine: float
) -> pl.DataFrame:
    """Return the pairs of unit vectors (:func:`encode_pictures`) with at least the given cosine similarity.

    This finds crops and edits that hashes miss, but also different photographs of one individual. The threshold
    depends on the encoder; check the hits before you choose it.

    Returns:
        Columns ``train_row, benchmark_row, cosine``, sorted by the first two.
    """
    found = [pl.DataFrame(schema={"train_row": pl.Int64, "benchmark_row": pl.Int64, "cosine": pl.Float32})]
    block = max(1, 20_000_000 // max(len(benchmark), 1))
    for start in range(0, len(train), block):
        cosine = train[start : start + block] @ benchmark.T
        rows, columns = np.nonzero(cosine >= min_cosine)
        found.append(
            pl.DataFrame({"train_row": rows + start, "benchmark_row": columns, "cosine": cosine[rows, columns]})
        )
    return pl.concat(found)


def embed_pictures(pictures: Path, encode: EncodePictures, folder: Path, part_size: int) -> NDArray[np.float32]:
    """Return the unit vectors ``[N, E]`` of a table of pictures, in parts that are each computed once.

    A file that is not a picture has a vector of zeros. The encoder runs in this process, with its model and device.
    """
    tasks = list_hash_tasks(pictures, count_rows(pictures), (), folder, part_size)
    parts = [_embed_part(task, encode) for task in tasks]
    width = max((part.shape[1] for part in parts), default=0)
    return np.concatenate([np.empty((0, width), dtype=np.float32), *(_widen(part, width) for part in parts)])


def _embed_part(task: HashTask, encode: EncodePictures) -> NDArray[np.float32]:
    path = task.part.with_suffix(".npy")
    if not path.exists():
        locations = scan_parquet(task.pictures).select("location").slice(task.start, task.length).collect()
        decoded = [_decode_small(location) for location in locations["location"]]
        there = [row for row, picture in enumerate(decoded) if picture is not None]
        vectors = encode_pictures((picture for picture in decoded if picture is not None), encode)
        part = np.zeros((task.length, vectors.shape[1] if there else 0), dtype=np.float32)
        part[there] = vectors[: len(there)]
        save_array(part, path)
    loaded: NDArray[np.float32] = np.load(path)
    return loaded


def _decode_small(location: str) -> Picture | None:
    try:
        return decode(read_location(location), min_short_side=SIDE)
    except ImageError:
        return None


def _widen(part: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    return np.pad(part, ((0, 0), (0, width - part.shape[1])))
