"""Read the data sets of newer benchmarks: pictures with sentences or queries, cryptic species, novel species.

The tables are those of :mod:`linnaea.evaluate.tasks.layouts`, with the column ``sentence`` where a picture has one, and
``relevant`` where it answers a query (INQUIRE). Pictures that are published as addresses are fetched first:
``linnaea data download LIST.csv --url-column source_url --output ROOT`` writes ``ROOT/images.parquet``.
"""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from linnaea.data.file_kinds import NOT_IMAGES
from linnaea.data.sources.folder import iter_files
from linnaea.data.sources.huggingface import HuggingFaceSource
from linnaea.errors import LinnaeaError
from linnaea.evaluate.tasks.layouts import find_base, make_table, need
from linnaea.tables import find_column, need_columns, read_table
from linnaea.taxonomy.ranks import RANK_LABELS

DOWNLOADS = "images.parquet"
_SENTENCES = ("captions", "caption", "sentence", "text", "description")
_FILES = ("file_name", "filepath", "file", "path", "id")


def read_sentences(root: Path, name: str = "metadata.csv") -> pl.DataFrame:
    """Read a list of pictures with a sentence each: ``id`` and ``captions`` (BioCAP), or a file name and a sentence.

    A picture is ``ID.jpg`` in the folder or in ``images``, or the file that a download wrote for ``source_url``.
    """
    path = need(root / name)
    table = read_table(path).rows
    sentence, file = (find_column(table.columns, *names) for names in (_SENTENCES, _FILES))
    need_columns(table.columns, path, sentence or _SENTENCES[0], file or _FILES[0])
    said = pl.col(sentence)
    place = pl.col(file) if file != "id" else pl.concat_str(pl.col("id"), pl.lit(".jpg"))
    rows = table.filter(said != "").select(label=said, sentence=said, file=place, url=_column(table, "source_url"))
    fetched = _with_downloads(root, rows, "source_url")
    if fetched is not None:
        return make_table(fetched.drop("url"))
    rows = rows.drop("url")
    return make_table(rows, base=find_base(root, rows["file"], ("", "images", Path(name).stem)))


def _column(table: pl.DataFrame, name: str) -> pl.Expr:
    return pl.col(name) if name in table.columns else pl.lit("")


def _with_downloads(root: Path, rows: pl.DataFrame, address: str) -> pl.DataFrame | None:
    """Return the rows with the files that a download wrote for ``url``; ``None`` if there was no download.

    The file of an address that was not fetched is the address, which is missing on disk.
    """
    if not (root / DOWNLOADS).is_file():
        return None
    fetched = read_table(root / DOWNLOADS).rows
    need_columns(fetched.columns, root / DOWNLOADS, address, "path")
    paths = fetched.select(url=address, fetched="path").unique("url", keep="first", maintain_order=True)
    joined = rows.drop("file", strict=False).join(paths, on="url", how="left", maintain_order="left")
    return joined.with_columns(file=pl.coalesce("fetched", "url")).drop("fetched")


def read_inquire(root: Path) -> pl.DataFrame:
    """Read INQUIRE-Rerank as the hub has it: ``data/test-*.parquet`` with ``image``, ``query`` and ``relevant``.

    The pictures are copied once into plain tars in the cache folder.
    """
    files = sorted(need(root).rglob("test-*.parquet"))
    if not files:
        raise LinnaeaError(f"{root}: no data/test-*.parquet; give the folder of the data set evendrow/INQUIRE-Rerank")
    parts = []
    for path in files:
        table, locations = HuggingFaceSource(folder=root).unpack(path)
        need_columns(table.columns, path, "query", "relevant")
        part = table.select(
            label="query", sentence="query", relevant=pl.col("relevant").cast(pl.Float64).cast(pl.Int64)
        )
        parts.append(part.with_columns(file=pl.Series(locations, dtype=pl.String)).filter(pl.col("file") != ""))
    return make_table(pl.concat(parts))


def read_terra_incognita(root: Path, part: str) -> pl.DataFrame:
    """Read TerraIncognita: numbered folders in ``Known`` or ``Novel``, and their ranks in ``metadata_known.csv``.

    The columns are those that its evaluation script reads: Folder, Order, Family, Genus, Species. Names that are not
    known are empty or ``Unknown``; a class is a distinct row of names. All are insects.
    """
    path = need(root / f"metadata_{part.lower()}.csv")
    table = read_table(path).rows
    need_columns(table.columns, path, "Folder", "Order", "Family", "Genus", "Species")
    number = pl.col("Folder").str.replace(r"\.0$", "").str.strip_chars_start("0")
    ranks = {name.lower(): _known(name) for name in ("Order", "Family", "Genus", "Species")}
    classes = table.select(number=number, **ranks).unique("number", keep="first", maintain_order=True)
    found = [
        {"file": str(file.relative_to(root)), "number": file.relative_to(root / part).parts[0].lstrip("0")}
        for file in iter_files(need(root / part))
        if file.parent != root / part and file.suffix.lower() not in NOT_IMAGES
    ]
    if not found:
        raise LinnaeaError(f"{root / part}: no numbered folders with pictures")
    rows = pl.DataFrame(found).join(classes, on="number", how="inner", maintain_order="left")
    if rows.is_empty():
        raise LinnaeaError(f"{path}: names none of the folders in {root / part} (first: {found[0]['number']})")
    constant = {"kingdom": "Animalia", "phylum": "Arthropoda", "class": "Insecta"}
    label = pl.concat_str(list(ranks), separator=" ").str.replace_all(" +", " ").str.strip_chars()
    return make_table(
        rows.with_columns(*(pl.lit(value).alias(rank) for rank, value in constant.items()), label=label).drop("number")
    )


def _known(column: str) -> pl.Expr:
    cell = pl.col(column).str.strip_chars()
    return (
        pl.when(cell.str.to_lowercase().is_in(["unknown", "nan", "none", "n/a", "novel"]))
        .then(pl.lit(""))
        .otherwise(cell)
    )


def read_cryptic(root: Path, names: Sequence[str]) -> pl.DataFrame:
    """Read a benchmark of CrypticBio: a list with ``scientificName``, ranks and ``url``, and the download of its URLs.

    ``names`` are the file's spellings on the hub and in its card.
    """
    folders = (root, root / "CrypticBio-Benchmark")
    path = next((folder / name for folder in folders for name in names if (folder / name).exists()), root / names[0])
    table = read_table(need(path)).rows
    need_columns(table.columns, path, "scientificName", "url")
    ranks = [rank for rank in RANK_LABELS[:-1] if rank in table.columns]
    common = find_column(table.columns, "common_name", "vernacularName")
    rows = table.select(
        "url", *ranks, label="scientificName", species="scientificName",
        common_name=pl.col(common) if common else pl.lit(""),
    )  # fmt: skip
    fetched = _with_downloads(root, rows, "url")
    if fetched is None:
        raise LinnaeaError(
            f"{root / DOWNLOADS}: not found; fetch the pictures first: linnaea data download {path} --url-column url"
            f" --output {root}"
        )
    return make_table(fetched.drop("url"))
