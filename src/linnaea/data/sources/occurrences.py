"""GBIF occurrence downloads and other unpacked Darwin Core Archives with an occurrence core and a multimedia extension.

``meta.xml`` lists the columns; a GBIF download has ``occurrence.txt`` and ``multimedia.txt`` (Simple Multimedia: type,
format, identifier, title, creator, license, rightsHolder). The pictures come from the ``images.parquet`` that
``linnaea data download`` wrote for the URLs in ``identifier``. The pictures of one occurrence are a group.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from linnaea.data.sources import Record, Rejected
from linnaea.data.sources.normal import (
    ROWS_AT_ONCE,
    describe_files,
    iter_records,
    normal,
    read_whole,
)
from linnaea.errors import LinnaeaError, UsageError
from linnaea.tables import need_columns
from linnaea.taxonomy.checklists.darwin_core import ArchivePart, describe_archive
from linnaea.taxonomy.checklists.records import fill_columns
from linnaea.taxonomy.ranks import RANK_LABELS
from linnaea.taxonomy.row import with_doubt

_TERMS = ("scientificName", "species", "specificEpithet", "vernacularName", "organismID", "decimalLatitude",
          "decimalLongitude", "eventDate", "basisOfRecord", "datasetKey", "publisher", "identificationQualifier",
          *RANK_LABELS[:-1])  # fmt: skip
_MEDIA = ("type", "format", "identifier", "title", "creator", "license", "rightsHolder", "references")


@dataclass(frozen=True, kw_only=True)
class DarwinCoreSource:
    """The still images of an archive's multimedia table, in its order, each with the names of its occurrence.

    Occurrences are read once (names, coordinates and dates stay in memory: about 200 bytes each), media in blocks.
    """

    archive: Path
    """The unpacked archive, or its ``meta.xml``."""
    images: Path
    """``images.parquet`` of a download, with the URL in ``identifier`` and the file in ``path``."""

    @property
    def name(self) -> str:
        return "gbif" if (self._meta.parent / "multimedia.txt").exists() else "darwin-core"

    @property
    def _meta(self) -> Path:
        if self.archive.suffix.lower() == ".zip":
            raise UsageError(f"{self.archive}: unpack the archive first and give its folder")
        return self.archive / "meta.xml" if self.archive.is_dir() else self.archive

    def describe(self) -> dict[str, str]:
        core, media = self._parts
        return describe_files("darwin-core", self._meta, core.path, media.path, self.images)

    def records(self) -> Iterator[Record | Rejected]:
        yield from iter_records(map(self._normalise, _read_part(self._parts[1])), self.name)

    @cached_property
    def _parts(self) -> tuple[ArchivePart, ArchivePart]:
        core, extensions = describe_archive(self._meta)
        if core.row_type != "Occurrence":
            raise LinnaeaError(f"{self._meta}: the core is {core.row_type}; photographs need an Occurrence core")
        media = next((one for one in extensions if one.row_type in ("Multimedia", "Image")), None)
        if media is None:
            raise LinnaeaError(f"{self._meta}: has no multimedia extension; ask GBIF for a Darwin Core Archive")
        return core, media

    @cached_property
    def _occurrences(self) -> pl.DataFrame:
        blocks = [fill_columns(block, "_id", *_TERMS) for block in _read_part(self._parts[0])]
        if not blocks:
            raise LinnaeaError(f"{self._parts[0].path}: has no rows")
        return pl.concat(blocks).unique("_id", keep="first", maintain_order=True)

    @cached_property
    def _files(self) -> pl.DataFrame:
        table = read_whole(self.images)
        need_columns(table.columns, self.images, "identifier", "path")
        full = pl.when(pl.col("path").str.starts_with("/")).then("path").otherwise(
            pl.lit(f"{self.images.parent}/") + pl.col("path")
        )  # fmt: skip
        return table.select("identifier", full.alias("path")).unique("identifier", keep="first")

    def _normalise(self, block: pl.DataFrame) -> pl.DataFrame:
        media = fill_columns(block, "_id", "_row", *_MEDIA)
        rows = media.join(self._occurrences, on="_id", how="left", maintain_order="left")
        rows = rows.join(self._files, on="identifier", how="left", maintain_order="left")
        still = (pl.col("type") == "") | pl.col("type").str.to_lowercase().str.contains("image")
        reason = (
            pl.when(~still).then(pl.format("not a picture ({})", "type"))
            .when(pl.col("identifier") == "").then(pl.lit("has no URL"))
            .when(pl.col("scientificName").is_null()).then(pl.lit("its occurrence is not in the archive"))
            .when(pl.col("path").is_null()).then(pl.lit("was not downloaded"))
            .otherwise(pl.lit(""))
        )  # fmt: skip
        epithet = pl.col("specificEpithet").fill_null("")
        species = pl.when(pl.col("species").fill_null("") != "").then("species").when(epithet != "").then(epithet)
        names = {rank: pl.col(rank) for rank in RANK_LABELS[:-1]}
        return rows.select(
            *normal(
                record_id=pl.concat_str("_id", pl.lit("/"), "_row"),
                location="path",
                label=with_doubt(pl.col("scientificName"), pl.col("identificationQualifier")),
                species=species.otherwise(_lone_name()),
                common_name="vernacularName",
                group=pl.when(pl.col("organismID").fill_null("") != "").then("organismID").otherwise("_id"),
                reason=reason,
                **names,
            ),
            license_name="license",
            rights_holder="rightsHolder",
            creator="creator",
            title="title",
            url="references",
            identifier="identifier",
            latitude=pl.col("decimalLatitude").fill_null(""),
            longitude=pl.col("decimalLongitude").fill_null(""),
            event_date=pl.col("eventDate").fill_null(""),
            basis_of_record=pl.col("basisOfRecord").fill_null(""),
        )


def _lone_name() -> pl.Expr:
    """Return the scientific name of rows without ranks; it may have any rank, so rows with a rank do not use it."""
    alone = pl.all_horizontal(pl.col(rank).fill_null("") == "" for rank in RANK_LABELS[:-1])
    return pl.when(alone).then("scientificName").otherwise(pl.lit(""))


def _read_part(part: ArchivePart) -> Iterator[pl.DataFrame]:
    """Yield the table in blocks of text columns: its terms, ``_id``, and the row number ``_row``."""
    done = 0
    try:
        table = pl.scan_csv(part.path, glob=False, separator=part.separator, quote_char=part.quote, has_header=False,
                            skip_rows=part.skip, infer_schema=False, encoding="utf8-lossy",
                            truncate_ragged_lines=True)  # fmt: skip
        for block in table.collect_batches(chunk_size=ROWS_AT_ONCE, maintain_order=True):
            terms = {term: block.to_series(index) for index, term in part.columns.items() if index < block.width}
            key = block.to_series(part.key).alias("_id")
            rows = pl.Series("_row", range(done, done + block.height)).cast(pl.String)
            done += block.height
            yield pl.DataFrame(
                [series.alias(term) for term, series in terms.items() if term != "_id"] + [key, rows]
            ).fill_null("")
    except (OSError, pl.exceptions.PolarsError) as error:
        raise LinnaeaError(f"{part.path}: cannot be read as a table ({str(error).splitlines()[0]})") from error
