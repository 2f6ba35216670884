"""Label banks in their published form: ``txt_emb_species.npy`` with ``txt_emb_species.json`` beside it.

The array is float32 ``[E, K]``, a column per taxon; the list holds ``[[kingdom .. epithet], common name]`` in the same
order. TreeOfLife-200M's has 867,455 taxa and 2.7 GB. A Linnaea bank is depth-first, a row per taxon, fp16 and
memory-mapped.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from linnaea.data.shards import TAXA_SCHEMA
from linnaea.errors import LinnaeaError
from linnaea.jobs import OnProgress, ignore_progress
from linnaea.predict.labels import LabelBank
from linnaea.storage import atomic_path, check_regular, open_regular, write_atomically
from linnaea.taxonomy.ranks import N_RANKS, RANK_LABELS
from linnaea.taxonomy.tree import depth_first

ARRAY_FILE, NAMES_FILE = "txt_emb_species.npy", "txt_emb_species.json"
COLUMNS_AT_ONCE = 65_536
"""Taxa that are transposed from columns to rows at once."""


def read_published_bank(array_path: Path, *, model: str = "", on_progress: OnProgress = ignore_progress) -> LabelBank:
    """Read a published bank into depth-first order, as fp16; its names lie beside the array under the same name.

    ``model`` is the fingerprint of its model, if the caller knows it. Vectors of zeros (the published script leaves
    some at the end) are left out.

    Raises:
        LinnaeaError: a file is missing or broken, or the two do not match.
    """
    names_path = array_path.with_suffix(".json")
    try:
        check_regular(array_path)
        array = np.load(array_path, mmap_mode="r")
        with open_regular(names_path) as stream:
            names = json.loads(stream.read())
        rows = [[*(part or "" for part in lineage), common or ""] for lineage, common in names]
        columns = (*RANK_LABELS, "common_name")
        taxa = pl.DataFrame(rows, schema=dict.fromkeys(columns, pl.String), orient="row")
    except (OSError, ValueError, TypeError, EOFError, SyntaxError, pl.exceptions.PolarsError) as error:
        raise LinnaeaError(f"{array_path}: not a published label bank with its names beside it ({error})") from error
    if array.ndim != 2 or array.shape[1] != taxa.height:
        raise LinnaeaError(f"{array_path}: shape {array.shape}, but {taxa.height} names in {names_path.name}")
    vectors = np.empty((taxa.height, array.shape[0]), np.float16)
    for start in range(0, taxa.height, COLUMNS_AT_ONCE):
        vectors[start : start + COLUMNS_AT_ONCE] = array[:, start : start + COLUMNS_AT_ONCE].T
        on_progress(min(start + COLUMNS_AT_ONCE, taxa.height), taxa.height)
    order = depth_first(taxa.with_row_index("old").filter(pl.Series(vectors.any(axis=1))))
    return LabelBank(
        _taxa_table(order), vectors[order["old"].to_numpy()], {"model": model, "published": array_path.name}
    )


def _taxa_table(taxa: pl.DataFrame) -> pl.DataFrame:
    both = (pl.col("genus") != "") & (pl.col("species") != "")
    lowest = pl.coalesce(
        pl.when(pl.col(label) != "").then(label) for label in reversed(RANK_LABELS[: N_RANKS - 1])
    ).fill_null("")
    full = pl.when(both).then(pl.concat_str("genus", pl.lit(" "), "species")).otherwise(lowest)
    numbered = taxa.with_columns(
        pl.int_range(pl.len(), dtype=pl.Int32).alias("taxon_id"), full.alias("scientific_name")
    )
    return numbered.select(pl.col(name).cast(kind) for name, kind in TAXA_SCHEMA.items())


def write_published_bank(bank: LabelBank, directory: Path) -> Path:
    """Write a bank in its published form, for programs that read it, and return the array's path."""
    columns = [bank.taxa[label] for label in (*RANK_LABELS, "common_name")]
    names: list[Any] = [[list(row[:N_RANKS]), row[N_RANKS]] for row in zip(*columns, strict=True)]
    with atomic_path(directory / ARRAY_FILE) as partial, partial.open("wb") as stream:
        header = {"descr": "<f4", "fortran_order": True, "shape": (bank.vectors.shape[1], len(bank))}
        np.lib.format.write_array_header_1_0(stream, header)
        for start in range(0, len(bank), COLUMNS_AT_ONCE):  # columns in Fortran order are rows of the bank
            stream.write(np.ascontiguousarray(bank.vectors[start : start + COLUMNS_AT_ONCE], "<f4").tobytes())
    write_atomically(directory / NAMES_FILE, json.dumps(names, ensure_ascii=False))
    return directory / ARRAY_FILE
