"""The Encyclopedia of Life: the media manifest, the Dynamic Hierarchy and the vernacular names.

Inputs: ``media_manifest.csv`` (columns EOL content ID, EOL page ID, Medium Source URL, EOL Full-Size Copy URL, License
Name, Copyright Owner); ``taxon.tab`` of the Dynamic Hierarchy (taxonID, parentNameUsageID, scientificName,
canonicalName, taxonRank, eolID); ``vernacularnames.csv`` (page_id, vernacular_string, language_code,
is_preferred_by_eol). Pictures: files named ``<content id>_<page id>_eol....jpg``, or the ``images.parquet`` that
``linnaea data download`` wrote for a copy of the manifest.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import polars as pl

from linnaea.data.sources import Record, Rejected
from linnaea.data.sources.folder import iter_files
from linnaea.data.sources.normal import (
    describe_files,
    iter_records,
    missing_file,
    normal,
    read_blocks,
    read_downloads,
    read_whole,
)
from linnaea.errors import UsageError
from linnaea.tables import need_columns
from linnaea.taxonomy.checklists.records import fill_columns, with_lineage
from linnaea.taxonomy.ranks import RANK_LABELS

CONTENT, PAGE, COPY_URL = "EOL content ID", "EOL page ID", "EOL Full-Size Copy URL"
_FILE = re.compile(r"(\d+)_(\d+)_eol.*\.jpe?g", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class EolSource:
    """The rows of an EOL media manifest, each with the lineage of its page."""

    manifest: Path
    taxa: Path
    images: Path
    """A folder of files named by content id and page id, or the ``images.parquet`` of a download."""
    vernaculars: Path | None = None

    @property
    def name(self) -> str:
        return "eol"

    def describe(self) -> dict[str, str]:
        files = [self.manifest, self.taxa, self.images, *([self.vernaculars] if self.vernaculars else [])]
        return describe_files("eol", *files)

    def records(self) -> Iterator[Record | Rejected]:
        yield from iter_records(map(self._normalise, read_blocks(self.manifest)), self.name)

    def _normalise(self, block: pl.DataFrame) -> pl.DataFrame:
        need_columns(block.columns, self.manifest, CONTENT, PAGE)
        facts = fill_columns(block, "License Name", "Copyright Owner", "Medium Source URL", COPY_URL)
        rows = block.select(CONTENT, PAGE).hstack(facts)
        rows = rows.join(self._files, on=CONTENT, how="left", maintain_order="left")
        rows = rows.join(self._pages, on=PAGE, how="left", maintain_order="left")
        known = pl.col("known").fill_null(value=False)
        no_page = pl.when(pl.col(PAGE) == "").then(pl.lit("has no page id")).otherwise(
            pl.format("page {} is not in the hierarchy", PAGE)
        )  # fmt: skip
        reason = pl.when(~known).then(no_page).otherwise(missing_file(pl.col("path")))
        names = {label: pl.col(label) for label in (*RANK_LABELS, "common_name")}
        return rows.select(
            *normal(
                record_id=pl.concat_str(CONTENT, pl.lit("_"), PAGE),
                location="path",
                label="name",
                reason=reason,
                **names,
            ),
            license_name="License Name",
            copyright_owner="Copyright Owner",
            identifier=pl.col(COPY_URL),
            url="Medium Source URL",
            page_id=PAGE,
        )

    @cached_property
    def _files(self) -> pl.DataFrame:
        """The columns ``EOL content ID`` and ``path`` of every file."""
        if self.images.is_file():
            return read_downloads(self.images, CONTENT)
        if not self.images.is_dir():
            raise UsageError(f"{self.images}: give the folder of pictures, or images.parquet of a download")
        named = [(match[1], str(path)) for path in iter_files(self.images) if (match := _FILE.fullmatch(path.name))]
        table = pl.DataFrame(named, schema={CONTENT: pl.String, "path": pl.String}, orient="row")
        return table.unique(CONTENT, keep="first", maintain_order=True)

    @cached_property
    def _pages(self) -> pl.DataFrame:
        """The seven ranks, the scientific name and the English name of every page."""
        table = read_whole(self.taxa)
        need_columns(table.columns, self.taxa, "taxonID", "parentNameUsageID", "taxonRank", "eolID")
        table = fill_columns(
            table, "taxonID", "parentNameUsageID", "taxonRank", "canonicalName", "scientificName", "eolID"
        )
        name = pl.when(pl.col("canonicalName") != "").then("canonicalName").otherwise("scientificName")
        lineage = with_lineage(
            table.select(
                "eolID",
                id="taxonID",
                parent="parentNameUsageID",
                rank=pl.col("taxonRank").str.to_lowercase(),
                name=name,
            )
        )
        pages = lineage.filter(pl.col("eolID") != "").unique("eolID", keep="first", maintain_order=True)
        pages = pages.select(pl.col("eolID").alias(PAGE), "name", *RANK_LABELS, known=pl.lit(value=True))
        return pages.join(self._english, on=PAGE, how="left")

    @cached_property
    def _english(self) -> pl.DataFrame:
        """The columns ``EOL page ID`` and ``common_name``: the preferred English name, or else the first."""
        empty = pl.DataFrame(schema={PAGE: pl.String, "common_name": pl.String})
        if self.vernaculars is None:
            return empty
        table = read_whole(self.vernaculars)
        need_columns(table.columns, self.vernaculars, "page_id", "vernacular_string", "language_code")
        table = fill_columns(table, "page_id", "vernacular_string", "language_code", "is_preferred_by_eol")
        english = table.filter(pl.col("language_code").is_in(["eng", "en"]) & (pl.col("vernacular_string") != ""))
        preferred = pl.col("is_preferred_by_eol").str.to_lowercase().is_in(["preferred", "true", "1"])
        first = english.sort(preferred, descending=True, maintain_order=True).unique(
            "page_id", keep="first", maintain_order=True
        )
        return first.select(pl.col("page_id").alias(PAGE), common_name="vernacular_string")
