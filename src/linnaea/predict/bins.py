"""Labels that count towards bins, as pybioclip has them: "dog" and "cat" are pets, "wolf" is wild."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from linnaea.data.shards import TAXA_SCHEMA
from linnaea.errors import LinnaeaError
from linnaea.model.encode import encode_names
from linnaea.model.encoder import Encoder
from linnaea.predict.labels import LabelBank
from linnaea.progress import progress_bar
from linnaea.tables import read_table

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
