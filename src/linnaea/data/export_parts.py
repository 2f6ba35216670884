"""The writers of one part of an export, one per format; each is a pure function of its rows.

The rows are those of the index with names, ``licence_id``, ``attribution``, licence facts, and the columns of
:data:`FACTS_COLUMNS`; ``row`` is the row number in the index, by which the photograph is read.
"""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from linnaea.data.samples import make_texts
from linnaea.data.shards import DataSet, ShardWriter, iter_members, taxa_from_table
from linnaea.data.sources import LICENCE_FACTS
from linnaea.storage import parse_facts, write_atomically
from linnaea.tables import read_table
from linnaea.taxonomy.columns import NAME_COLUMNS
from linnaea.taxonomy.ranks import RANK_LABELS
from linnaea.taxonomy.taxon import Taxon, TextType

FACTS_COLUMNS = ("record_id", "location", "facts")
"""Columns of ``records.parquet`` that exports need; ``facts`` is JSON."""

PARQUET_COLUMNS = ("key", *NAME_COLUMNS, "source", "record_id", "group", "width", "height")

CATALOG_COLUMNS = (
    "split",
    "treeoflife_id",
    "eol_content_id",
    "eol_page_id",
    "bioscan_part",
    "bioscan_filename",
    "inat21_filename",
    "inat21_cls_name",
    "inat21_cls_num",
    *RANK_LABELS,
    "common",
)
"""Columns of TreeOfLife-10M's catalog.csv, in its order."""

MOST_CLASSES = 50_000
"""The number of taxa up to which Parquet files have a ``label`` and hold the names of all classes."""
ROW_GROUP_BYTES, MOST_ROWS = 16_000_000, 1000
"""Size of a row group, which a reader loads whole: small enough to stream, large enough to compress the names."""

_EOL_FILE = r"(\d+)_(\d+)_eol[^/]*$"
_INAT_CLASS = re.compile(r"^(\d{1,5})_[^_]+(?:_[^_]*){6}$")
_UNSAFE = re.compile(r"[/\\_\x00-\x1f:*?\"<>|]+")
_LONGEST_FOLDER = 200


def write_parquet_part(dataset: DataSet, table: pl.DataFrame, path: Path) -> None:
    """Write a Parquet file whose ``image`` column of bytes ``datasets`` and the Hub show as photographs."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    licences = [name for name in ("licence_id", "attribution", *LICENCE_FACTS) if name in table.columns]
    columns = [*PARQUET_COLUMNS, *licences]
    image = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    numbers = ("width", "height")
    fields = [(name, pa.int32() if name in numbers else pa.string()) for name in columns]
    features: dict[str, Any] = {"image": {"_type": "Image"}} | {
        name: {"dtype": "int32" if name in numbers else "string", "_type": "Value"} for name in columns
    }
    classes = name_classes(dataset) if dataset.taxa.height <= MOST_CLASSES else []
    if classes:  # a number, and its name in the file's metadata
        fields.append(("label", pa.int64()))
        features["label"] = {"names": classes, "_type": "ClassLabel"}
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    schema = pa.schema([("image", image), *fields], metadata=metadata)
    compression = {**dict.fromkeys(columns, "zstd"), "image.bytes": "none", "image.path": "zstd"}
    with path.open("wb") as stream, pq.ParquetWriter(stream, schema, compression=compression) as writer:
        for rows in _row_groups(table):
            pictures = [
                {"bytes": dataset.read(row), "path": f"{key}.jpg"} for row, key in rows.select("row", "key").iter_rows()
            ]
            columns_of = rows.with_columns(label=pl.col("taxon_id"))
            arrays = [pa.array(columns_of[name].fill_null("" if kind == pa.string() else 0).to_list(), type=kind)
                      for name, kind in fields]  # fmt: skip
            writer.write_table(pa.Table.from_arrays([pa.array(pictures, type=image), *arrays], schema=schema))


def name_classes(dataset: DataSet) -> list[str]:
    """Return a distinct name for each taxon of a data set, in the order of their ids, as ``ClassLabel`` needs them.

    That is the scientific name, with the lineage where several taxa have the same.
    """
    taxa = dataset.taxa_list
    plain = [taxon.name for taxon in taxa]
    counts = Counter(plain)
    longer = [name if counts[name] == 1 else f"{name} ({taxon.caption(TextType.TAXON_COM)})"
              for name, taxon in zip(plain, taxa, strict=True)]  # fmt: skip
    repeated = Counter(longer)
    return [name if repeated[name] == 1 else f"{name} #{number}" for number, name in enumerate(longer)]


def _row_groups(table: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Yield slices of at most about :data:`ROW_GROUP_BYTES` of photographs and :data:`MOST_ROWS` rows."""
    start = n_bytes = 0
    for row, size in enumerate(table["size"]):
        if row > start and (n_bytes + size > ROW_GROUP_BYTES or row - start == MOST_ROWS):
            yield table[start:row]
            start, n_bytes = row, 0
        n_bytes += size
    yield table[start:]


def write_catalog_part(dataset: DataSet, table: pl.DataFrame, path: Path) -> None:
    """Write rows of TreeOfLife-10M's catalog; every row has a name in ``common``, and the ids that its record has."""
    facts = [parse_facts(text, f"{dataset.directory}: {key}") if text else {}
             for key, text in table.select("key", "facts").iter_rows()]  # fmt: skip
    common = {number: taxon.caption(TextType.COM) for number, taxon in _taxa(dataset, table).items()}
    rows = [
        _catalog_row(row, fact, common[row["taxon_id"]])
        for row, fact in zip(table.iter_rows(named=True), facts, strict=True)
    ]
    pl.DataFrame(rows, schema=dict.fromkeys(CATALOG_COLUMNS, pl.String)).write_csv(path)


def _catalog_row(row: Mapping[str, Any], facts: Mapping[str, Any], common: str) -> dict[str, str]:
    found = {"split": row["split"], "treeoflife_id": row["key"], "common": common}
    found |= {label: row[label] for label in RANK_LABELS}
    name, label = row["record_id"].rpartition("/")[2], str(facts.get("label") or "")
    folder = label if _INAT_CLASS.match(label) else row["location"].rpartition("/")[0].rpartition("/")[2]
    if eol := re.search(_EOL_FILE, row["record_id"]):
        found |= {"eol_content_id": eol[1], "eol_page_id": eol[2]}
    elif "bioscan" in row["source"].lower():
        found["bioscan_filename"] = name
    elif inat := _INAT_CLASS.match(folder):
        found |= {"inat21_filename": name, "inat21_cls_name": folder, "inat21_cls_num": str(int(inat[1]))}
    # A column that the source itself provides takes precedence.
    found |= {column: str(facts[column]) for column in CATALOG_COLUMNS[1:9] if facts.get(column)}
    return {column: found.get(column, "") for column in CATALOG_COLUMNS}


def write_tar_part(dataset: DataSet, table: pl.DataFrame, path: Path) -> None:
    """Write a WebDataset shard with the texts for the trainers of open_clip and BioCLIP; the rest is unchanged."""
    shard = dataset.directory / table["shard"][0]
    places = {name: (offset, size) for name, offset, size in iter_members(shard) if name.endswith(".json")}
    texts = {number: make_texts(taxon) for number, taxon in _taxa(dataset, table).items()}
    with path.open("wb") as stream, shard.open("rb") as stored:
        writer = ShardWriter(stream)
        for row in table.iter_rows(named=True):
            offset, size = places[f"{row['key']}.json"]
            stored.seek(offset)
            facts = parse_facts(stored.read(size), f"{shard}: {row['key']}")
            writer.add(row["key"], dataset.read(row["row"]), facts, texts[row["taxon_id"]])
        writer.close()


def _taxa(dataset: DataSet, table: pl.DataFrame) -> dict[int, Taxon]:
    """Return the taxa of this part only; a data set may have a million."""
    taxa = dataset.taxa.join(table.select("taxon_id"), on="taxon_id", how="semi")
    return dict(zip(taxa["taxon_id"], taxa_from_table(taxa), strict=True))


def write_folders_part(dataset: DataSet, table: pl.DataFrame, output: Path) -> int:
    """Write files ``SPLIT/<idx>_Kingdom_..._epithet/<key>.jpg``, and their part of the split's ``metadata.csv``."""
    paths = []
    for row in table.iter_rows(named=True):
        relative = f"{folder_name(row['taxon_id'], row)}/{row['key']}.jpg"
        write_atomically(output / row["split"] / relative, dataset.read(row["row"]), sync=False)
        paths.append(relative)
    licences = [name for name in ("licence_id", "attribution", *LICENCE_FACTS) if name in table.columns]
    metadata = table.with_columns(pl.Series("file_name", paths)).select(
        "file_name", *NAME_COLUMNS, "source", "record_id", "group", *licences
    )
    target = output / ".export" / "metadata" / f"{table['shard'][0]}.csv"
    write_atomically(target, metadata.write_csv())
    return len(paths)


NO_VALUE = "none"
"""Written instead of an empty cell where a column would otherwise have another type in each split; read as no name."""
_NUMBER = r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$|^(?i:true|false|inf|infinity|nan)$"


def state_types(paths: Sequence[Path]) -> list[Path]:
    """Rewrite CSV files so that a reader that guesses types gives a column the same one in each; return those changed.

    A column that is a number or empty in one file and something else in another becomes words in all: an empty cell is
    ``none``, and a number starts with ``#``.
    """
    tables = {path: read_table(path).rows for path in paths}
    types = {
        name: {_guess_type(table[name]) for table in tables.values()} for name in next(iter(tables.values())).columns
    }
    changed = [name for name, found in types.items() if len(found) > 1 or found == {"mixed"}]
    if not changed:
        return []
    as_words = [
        pl.when(pl.col(name) == "").then(pl.lit(NO_VALUE))
        .when(pl.col(name).str.contains(_NUMBER)).then(pl.lit("#") + pl.col(name)).otherwise(name).alias(name)
        for name in changed
    ]  # fmt: skip
    for path, table in tables.items():
        write_atomically(path, table.with_columns(as_words).write_csv())
    return list(paths)


def _guess_type(column: pl.Series) -> str:
    """Return the type that a reader guesses for a column: ``empty``, ``integer``, ``float``, ``text``, or ``mixed``."""
    filled = column.filter(column != "")
    n_numbers = int(filled.str.contains(_NUMBER).sum())
    if not len(filled):
        return "empty"
    if n_numbers == 0:
        return "text"
    if n_numbers < len(filled):
        return "mixed"
    return "integer" if len(filled) == len(column) and filled.str.contains(r"^[-+]?\d+$").all() else "float"


def folder_name(taxon_id: int, names: Mapping[str, Any]) -> str:
    """Return the name of a class folder as in iNat21: index and seven ranks joined by ``_``, unknown ranks empty.

    Characters that a file system or this form cannot hold become ``-``; ``metadata.csv`` has the exact names.
    """
    ranks = [_UNSAFE.sub("-", names[label] or "") for label in RANK_LABELS]
    if not any(ranks):
        ranks[-1] = _UNSAFE.sub("-", names["common_name"] or "")
    name = f"{taxon_id:05d}_{'_'.join(ranks)}"
    while len(name.encode()) > _LONGEST_FOLDER:
        longest = max(range(len(ranks)), key=lambda place: len(ranks[place]))
        ranks[longest] = ranks[longest][:-1]
        name = f"{taxon_id:05d}_{'_'.join(ranks)}"
    return name
