"""Label banks in their published form: ``txt_emb_NAME.npy`` with ``txt_emb_NAME.json`` beside it.

The array is float32 ``[E, K]``, a column per taxon; the list holds ``[[kingdom .. epithet], common name]`` in the same
order. TreeOfLife-200M's for BioCLIP 2 has 867,455 taxa and 2.7 GB. A Linnaea bank is depth-first, a row per taxon, fp16
and memory-mapped. A published bank is converted to one in the cache folder the first time it is used.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from linnaea.arrays import create_array, map_array
from linnaea.data.shards import TAXA_SCHEMA
from linnaea.errors import LinnaeaError
from linnaea.jobs import OnProgress
from linnaea.model.encode import encode_names
from linnaea.model.encoder import Encoder
from linnaea.model.hub import Published, fetch_file, fetch_pinned
from linnaea.predict.labels import FACTS_FILE, PREPROCESS, TAXA_FILE, VECTORS_FILE, LabelBank, openai_templates
from linnaea.progress import announce, progress_bar
from linnaea.storage import atomic_path, cache_dir, open_regular, write_atomically
from linnaea.taxonomy.columns import scientific_name
from linnaea.taxonomy.ranks import N_RANKS, RANK_LABELS
from linnaea.taxonomy.taxon import PHOTO_TEMPLATE, TextType
from linnaea.taxonomy.tree import depth_first

ARRAY_FILE, NAMES_FILE = "txt_emb_species.npy", "txt_emb_species.json"
COLUMNS_AT_ONCE = 65_536
"""Taxa that are transposed from columns to rows at once."""
IMAGE_TEMPLATE = "an image of {}."
"""The template of the banks of BioCLIP 2 and later (TreeOfLife-toolbox, ``processing/scripts/templates.py``)."""
N_CHECKED = 8
"""Taxa whose captions are encoded to see whether a bank was made with the model's weights."""
SAME = 0.98
"""The cosine from which a caption's vector counts as that of the bank. Weights in half precision give 0.999."""


def fetch_published_bank(published: Published) -> tuple[Path, str]:
    """Fetch the label bank of a published model; return its array, with its names beside it, and its source.

    Raises:
        LinnaeaError: the hub cannot be reached, or does not have it.
    """
    arrays = [f"{name}.npy" for name in published.bank_names]
    array, path, commit = fetch_pinned(published.bank_repo, arrays, published.bank_revision, kind="dataset")
    fetch_file(published.bank_repo, path.removesuffix(".npy") + ".json", commit, kind="dataset")
    return array, f"{published.bank_repo}@{commit}/{path}"


def fetch_published_names(published: Published) -> Path:
    """Fetch the names of the label bank of a published model, without its vectors.

    Raises:
        LinnaeaError: the hub cannot be reached, or does not have it.
    """
    names = [f"{name}.json" for name in published.bank_names]
    return fetch_pinned(published.bank_repo, names, published.bank_revision, kind="dataset")[0]


def open_published_bank(published: Published, encoder: Encoder) -> LabelBank:
    """Open the label bank of a published model; it is fetched and converted on first use."""
    array, source = fetch_published_bank(published)
    return open_bank_file(array, encoder, source)


def open_bank_file(array_path: Path, encoder: Encoder, source: str = "") -> LabelBank:
    """Open a published bank for a model (:func:`read_published_bank`).

    The captions of a few taxa are encoded once, to see whether the model's weights made the bank; if not, it warns.

    Raises:
        LinnaeaError: a file is missing or broken, the two do not match, or the vectors are of another width.
    """
    bank = read_published_bank(array_path, model=encoder.fingerprint, source=source)
    if bank.vectors.shape[1] != encoder.width:
        raise LinnaeaError(f"{array_path}: has vectors of {bank.vectors.shape[1]} numbers, {encoder.name} has"
                           f" {encoder.width}; it is another model's bank")  # fmt: skip
    if PREPROCESS not in bank.facts or ("cosine" not in bank.facts and encoder.has_text):
        bank.facts.update(compare_captions(bank, encoder) | {PREPROCESS: encoder.own_preprocess.to_json()})
        write_atomically(_cached(array_path, encoder.fingerprint) / FACTS_FILE, json.dumps(bank.facts, indent=1))
    if bank.facts.get("cosine", 1.0) < SAME:
        cosine, source = bank.facts["cosine"], bank.facts["published"]
        announce(f"{source}: was not made with the weights of {encoder.name} (captions of the same taxa agree at a"
                 f" cosine of {cosine:.2f}, not 1.00); answers are likely wrong")  # fmt: skip
    return bank


def open_bank(place: Path, encoder: Encoder) -> LabelBank:
    """Open the label bank of a model: a folder, or the array of a published bank.

    Raises:
        LinnaeaError: there is no bank, or it was built with another model.
    """
    if is_published_bank(place):
        return open_bank_file(place.with_suffix(".npy"), encoder)
    bank = LabelBank.open(place)
    if not bank.is_of(encoder):
        raise LinnaeaError(f"{place}: was built with another model; build it again with `linnaea labels build`")
    if bank.vectors.shape[1] != encoder.width:
        width = bank.vectors.shape[1]
        raise LinnaeaError(f"{place}: has vectors of {width} numbers, its model {encoder.width}; build it again")
    return bank


def is_published_bank(place: Path) -> bool:
    """Tell whether a path is that of a published bank: ``FILE.npy``, or the names beside it."""
    return place.suffix == ".npy" or (place.suffix == ".json" and place.with_suffix(".npy").exists())


def read_published_bank(array_path: Path, *, model: str = "", source: str = "") -> LabelBank:
    """Open a published bank in Linnaea's form, memory-mapped; the conversion is kept in the cache folder.

    ``model`` is the fingerprint of its model, if the caller knows it. ``source`` says where the file comes from.

    Raises:
        LinnaeaError: a file is missing or broken, or the two do not match.
    """
    folder = _cached(array_path, model)
    if not (folder / FACTS_FILE).exists():
        facts = {"model": model, "published": source or array_path.name}
        with progress_bar("converting the label bank", "taxa") as on_progress:
            _convert(array_path, folder, facts, on_progress)
    return LabelBank.open(folder)


def _cached(array_path: Path, model: str) -> Path:
    """Return the folder of a bank's conversion, named after the model and the place, size and time of the two files."""
    parts = [model]
    for path in (array_path, array_path.with_suffix(".json")):
        real = path.resolve()  # in the hub's cache, the name of this file is its checksum
        if not real.is_file():
            raise LinnaeaError(f"{path}: no such file; not a published label bank, which is FILE.npy and FILE.json")
        parts += [str(real), str(real.stat().st_size), str(real.stat().st_mtime_ns)]
    return cache_dir() / "banks" / f"published-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]}"


def compare_captions(bank: LabelBank, encoder: Encoder) -> dict[str, Any]:
    """Return facts about a bank: the templates that its captions were written in, and how well the model agrees.

    Empty for a model without a text tower, and without ``templates`` if no known ones give its vectors.
    """
    if not encoder.has_text:
        return {}
    rows = np.unique(np.linspace(0, len(bank) - 1, N_CHECKED).astype(int)).tolist()
    names = [bank.taxon(row).caption(TextType.TAXON_COM) for row in rows]
    unit = np.asarray(bank.vectors[rows], np.float32)
    unit /= np.maximum(np.linalg.norm(unit, axis=1, keepdims=True), 1e-6)
    best = -1.0
    for templates in ([IMAGE_TEMPLATE], [PHOTO_TEMPLATE], openai_templates()):
        cosine = float(np.median((encode_names(encoder, names, templates) * unit).sum(axis=1)))
        if cosine >= SAME:
            return {"text_type": str(TextType.TAXON_COM), "templates": templates, "cosine": cosine}
        best = max(best, cosine)
    return {"cosine": best}


def _convert(array_path: Path, folder: Path, facts: Mapping[str, Any], on_progress: OnProgress) -> None:
    """Write a published bank as a Linnaea bank, in memory that does not grow with the vectors.

    Vectors of zeros (the published script leaves some at the end) are left out.
    """
    array, taxa = _open_array(array_path), _read_names(array_path.with_suffix(".json"))
    if array.ndim != 2 or array.shape[1] != taxa.height:
        names = array_path.with_suffix(".json").name
        raise LinnaeaError(f"{array_path}: shape {array.shape}, but {taxa.height} names in {names}")
    blocks = [slice(start, start + COLUMNS_AT_ONCE) for start in range(0, taxa.height, COLUMNS_AT_ONCE)]
    filled = np.concatenate([np.asarray(array[:, block] != 0).any(axis=0) for block in blocks] or [np.ones(0, bool)])
    named = pl.any_horizontal(pl.col(*RANK_LABELS, "common_name") != "")
    order = depth_first(taxa.with_row_index("old").filter(pl.Series(filled) & taxa.select(named).to_series()))
    if order.is_empty():
        raise LinnaeaError(f"{array_path}: has no taxa with vectors")
    row_of = np.full(taxa.height, -1, np.int64)
    row_of[order["old"].to_numpy()] = np.arange(order.height)
    with atomic_path(folder / VECTORS_FILE) as vectors_path, atomic_path(folder / TAXA_FILE) as taxa_path:
        _taxa_table(order).write_parquet(taxa_path, compression="zstd", statistics=True)
        vectors = create_array(vectors_path, np.float16, (order.height, array.shape[0]))
        for block in blocks:
            rows = row_of[block]
            kept = rows >= 0
            vectors[rows[kept]] = np.asarray(array[:, block], np.float32).T[kept]
            on_progress(min(block.stop, taxa.height), taxa.height)
        vectors.flush()
    write_atomically(folder / FACTS_FILE, json.dumps(dict(facts), indent=1))


def _open_array(path: Path) -> Any:
    array = map_array(path, kind="a published label bank")
    if not np.issubdtype(array.dtype, np.floating):
        raise LinnaeaError(f"{path}: not a published label bank (numbers of type {array.dtype})")
    return array


def _read_names(path: Path) -> pl.DataFrame:
    """Read the names of a published bank, a column per rank and ``common_name``, cleaned as far as taxa need it."""
    columns = (*RANK_LABELS, "common_name")
    schema = dict.fromkeys(columns, pl.String)
    parts, rows = [pl.DataFrame(schema=schema)], list[list[str]]()
    try:
        for lineage, common in iter_published_names(path):
            rows.append([*lineage, common])
            if len(rows) == COLUMNS_AT_ONCE:
                parts.append(pl.DataFrame(rows, schema=schema, orient="row"))
                rows = []
        parts.append(pl.DataFrame(rows, schema=schema, orient="row"))
    except pl.exceptions.PolarsError as error:
        raise LinnaeaError(f"{path}: not the names of a published label bank ({error})") from error
    clean = (pl.col(name).str.replace_all(r"[\s\p{Cc}]+", " ").str.strip_chars() for name in columns)
    return _mend_species(pl.concat(parts).select(*clean))


def iter_published_names(path: Path) -> Iterator[tuple[list[str], str]]:
    """Yield the seven names of each taxon of a published bank, ``""`` where there is none, and its common name.

    Raises:
        LinnaeaError: the file cannot be read, or has another form.
    """
    try:
        with open_regular(path) as stream:
            text = stream.read().decode("utf-8")
        for lineage, common in _iter_json_list(text):
            names = [part or "" for part in lineage]
            if len(names) != N_RANKS or not all(isinstance(part, str) for part in (*names, common or "")):
                raise ValueError(f"not seven names and a common name: {str([lineage, common])[:100]}")
            yield names, common or ""
    except (OSError, ValueError, TypeError) as error:
        raise LinnaeaError(f"{path}: not the names of a published label bank ({error})") from error


def _mend_species(taxa: pl.DataFrame) -> pl.DataFrame:
    """Cut the genus off species that repeat it, and make a species without a genus a common name."""
    repeated = pl.col("species").str.strip_prefix(pl.concat_str("genus", pl.lit(" ")))
    lonely = (pl.col("genus") == "") & (pl.col("species") != "")
    common = pl.when(lonely & (pl.col("common_name") == "")).then("species").otherwise("common_name")
    species = pl.when(lonely).then(pl.lit("")).when(pl.col("genus") != "").then(repeated).otherwise("species")
    return taxa.with_columns(species=species, common_name=common)


def _iter_json_list(text: str) -> Iterator[Any]:
    """Yield the elements of a JSON list one by one, so that 867,455 of them are not in memory as Python's lists."""
    decoder, place = json.JSONDecoder(), _skip(text, 0, "[")
    while place < len(text) and text[place] != "]":
        element, place = decoder.raw_decode(text, place)
        yield element
        place = _skip(text, place, ",")
    if place >= len(text):
        raise ValueError("the list does not end")


def _skip(text: str, place: int, mark: str) -> int:
    """Return the place behind white space, one ``mark`` if it is there, and more white space."""
    while text[place : place + 1].isspace():
        place += 1
    if text[place : place + 1] == mark:
        place += 1
    elif mark == "[":
        raise ValueError("not a list")
    while text[place : place + 1].isspace():
        place += 1
    return place


def _taxa_table(taxa: pl.DataFrame) -> pl.DataFrame:
    numbered = taxa.with_columns(taxon_id=pl.int_range(pl.len(), dtype=pl.Int32), scientific_name=scientific_name())
    return numbered.select(pl.col(name).cast(kind) for name, kind in TAXA_SCHEMA.items())


def write_published_bank(bank: LabelBank, directory: Path) -> Path:
    """Write a bank in its published form, for programs that read it, and return the array's path.

    Raises:
        LinnaeaError: the bank was cut; the published form has no place for the offsets of its rows.
    """
    if bank.offsets is not None:
        raise LinnaeaError("the bank was cut (`linnaea pack --within`), which the published form cannot hold; export"
                           " the whole bank")  # fmt: skip
    columns = [bank.taxa[label] for label in (*RANK_LABELS, "common_name")]
    names: list[Any] = [[list(row[:N_RANKS]), row[N_RANKS]] for row in zip(*columns, strict=True)]
    with atomic_path(directory / ARRAY_FILE) as partial, partial.open("wb") as stream:
        header = {"descr": "<f4", "fortran_order": True, "shape": (bank.vectors.shape[1], len(bank))}
        np.lib.format.write_array_header_1_0(stream, header)
        for start in range(0, len(bank), COLUMNS_AT_ONCE):  # columns in Fortran order are rows of the bank
            stream.write(np.ascontiguousarray(bank.vectors[start : start + COLUMNS_AT_ONCE], "<f4").tobytes())
    write_atomically(directory / NAMES_FILE, json.dumps(names, ensure_ascii=False))
    return directory / ARRAY_FILE
