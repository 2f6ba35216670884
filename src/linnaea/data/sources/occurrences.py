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
from linnaea.data.sources.normal import describe_files, iter_records, normal, read_downloads
from linnaea.errors import LinnaeaError, UsageError
from linnaea.taxonomy.checklists.archive import ArchivePart, describe_archive
from linnaea.taxonomy.checklists.records import fill_columns
from linnaea.taxonomy.ranks import RANK_LABELS
from linnaea.taxonomy.row import with_doubt

_RIGHTS = ("license", "rights", "UsageTerms", "WebStatement", "licence")
"""Terms that state a licence: Dublin Core's, those of Audubon Core (``xmpRights``)."""
_TERMS = ("scientificName", "species", "specificEpithet", "vernacularName", "organismID", "decimalLatitude",
          "decimalLongitude", "eventDate", "basisOfRecord", "datasetKey", "publisher", "identificationQualifier",
          "taxonRank", "occurrenceStatus", "individualCount", *RANK_LABELS[:-1],
          *(f"occurrence_{term}" for term in _RIGHTS), "occurrence_rightsHolder")  # fmt: skip
_MEDIA = ("type", "format", "identifier", "accessURI", "title", "creator", "rightsHolder", "Owner", "references",
          *_RIGHTS)  # fmt: skip


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
        return describe_files("darwin-core", self._meta, *core.paths, *media.paths, self.images)

    def records(self) -> Iterator[Record | Rejected]:
        yield from iter_records(map(self._normalise, self._parts[1].iter_blocks()), self.name)

    @cached_property
    def _parts(self) -> tuple[ArchivePart, ArchivePart]:
        core, extensions = describe_archive(self._meta)
        if core.row_type != "Occurrence":
            raise LinnaeaError(f"{self._meta}: the core is {core.row_type}; photographs need an Occurrence core")
        media = next((one for one in extensions if one.row_type in ("Multimedia", "Image")), None)
        if media is None:
            raise LinnaeaError(f"{self._meta}: has no multimedia extension; ask GBIF for a Darwin Core Archive")
        if missing := media.missing():
            raise LinnaeaError(f"{self._meta}: {missing}")
        return core, media

    @cached_property
    def _occurrences(self) -> pl.DataFrame:
        own = {term: f"occurrence_{term}" for term in (*_RIGHTS, "rightsHolder")}
        blocks = [fill_columns(block.rename(own, strict=False), "_id", *_TERMS)
                  for block in self._parts[0].iter_blocks()]  # fmt: skip
        if not blocks:
            raise LinnaeaError(f"{self._parts[0].paths[0]}: has no rows")
        return pl.concat(blocks).unique("_id", keep="first", maintain_order=True)

    @cached_property
    def _files(self) -> pl.DataFrame:
        return read_downloads(self.images, "identifier")

    def _normalise(self, block: pl.DataFrame) -> pl.DataFrame:
        media = fill_columns(block, "_id", "_row", *_MEDIA)
        address = pl.when(pl.col("identifier").str.contains("://")).then("identifier").when(pl.col("accessURI") != "")
        media = media.with_columns(identifier=address.then("accessURI").otherwise("identifier").str.strip_chars())
        rows = media.join(self._occurrences, on="_id", how="left", maintain_order="left")
        rows = rows.join(self._files, on="identifier", how="left", maintain_order="left")
        kind = pl.when(pl.col("type") != "").then("type").when(pl.col("format") != "").then("format")
        reason = (
            pl.when(~_is_still()).then(pl.format("not a picture ({})", kind.otherwise("identifier")))
            .when(pl.col("identifier") == "").then(pl.lit("has no URL"))
            .when(pl.col("scientificName").is_null()).then(pl.lit("its occurrence is not in the archive"))
            .when(is_absence(pl.col("occurrenceStatus"), pl.col("individualCount")))
            .then(pl.lit(ABSENT))
            .when(pl.col("path").is_null()).then(pl.lit("was not downloaded"))
            .otherwise(pl.lit(""))
        )  # fmt: skip
        epithet = pl.col("specificEpithet").fill_null("")
        species = pl.when(pl.col("species").fill_null("") != "").then("species").when(epithet != "").then(epithet)
        names = {rank: pl.when(_lone_rank() == rank).then(_LONE).otherwise(rank) for rank in RANK_LABELS[:-1]}
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
            license_name=_stated("license", "licence"),
            license=_stated("rights", "UsageTerms"),
            license_link=_stated("WebStatement"),
            rights_holder=_first("rightsHolder", "Owner", "occurrence_rightsHolder"),
            creator="creator",
            title="title",
            url="references",
            identifier="identifier",
            latitude=pl.col("decimalLatitude").fill_null(""),
            longitude=pl.col("decimalLongitude").fill_null(""),
            event_date=pl.col("eventDate").fill_null(""),
            basis_of_record=pl.col("basisOfRecord").fill_null(""),
        )


ABSENT = "its occurrence says that the species was absent"
"""The reason of records of absences."""


def is_absence(status: pl.Expr, count: pl.Expr) -> pl.Expr:
    """Return whether occurrences say that nothing was there, by their status or, without one, a count of 0."""
    said = status.cast(pl.String).fill_null("").str.to_lowercase()
    none_seen = count.cast(pl.String).fill_null("").str.contains(r"^0+(\.0*)?$")
    return said.str.starts_with("absen") | (none_seen & (said == ""))


_LONE = pl.col("scientificName").str.extract(r"^(\p{Lu}\p{Ll}+)(?: \(?\p{Lu}.*)?$")
"""The name of a genus or a higher taxon."""


def _is_alone() -> pl.Expr:
    return pl.all_horizontal(pl.col(rank).fill_null("") == "" for rank in RANK_LABELS[:-1])


def _lone_name() -> pl.Expr:
    """Return the scientific name of rows without ranks that may be a species; rows with a rank do not use it."""
    return pl.when(_is_alone() & _LONE.is_null()).then("scientificName").otherwise(pl.lit(""))


def _lone_rank() -> pl.Expr:
    """Return the rank of a name of one word in a row without ranks, as stated or by its ending."""
    stated = pl.col("taxonRank").str.to_lowercase()
    by_ending = (
        pl.when(_LONE.str.contains("(?:idae|aceae)$")).then(pl.lit("family"))
        .when(_LONE.str.contains("(?:ales|formes)$")).then(pl.lit("order"))
        .otherwise(pl.lit("genus"))
    )  # fmt: skip
    rank = pl.when(stated.is_in(RANK_LABELS[:-1])).then(stated).otherwise(by_ending)
    return pl.when(_is_alone() & _LONE.is_not_null()).then(rank).otherwise(pl.lit(""))


_NO_PICTURE = r"sound|audio|video|moving|text|pdf|html|dataset|interactive|software|application/"
_SOUND_OR_FILM = r"\.(?:mp3|wav|flac|ogg|m4a|mp4|mov|avi|mpe?g|webm|pdf|html?)(?:\?|$)"


def _is_still() -> pl.Expr:
    """Return which media are still images, by type and format; where neither says so, by the ending of the address."""
    kind, form = (pl.col(term).str.to_lowercase() for term in ("type", "format"))
    other = kind.str.contains(_NO_PICTURE) | form.str.contains(_NO_PICTURE)
    said = kind.str.contains("image|photo|picture") | form.str.contains("image|jpe?g|png|tiff?|gif|webp")
    ending = pl.col("identifier").str.to_lowercase().str.contains(_SOUND_OR_FILM)
    return ~other & (said | ~ending)


def _first(*terms: str) -> pl.Expr:
    """Return the first of some cells that says anything."""
    return pl.coalesce(pl.when(pl.col(term).fill_null("") != "").then(pl.col(term)) for term in terms).fill_null("")


def _stated(*terms: str) -> pl.Expr:
    """Return what a medium states in one of some terms; what its occurrence states there, if the medium states nothing.

    A record keeps all statements, and the most restrictive one counts (:func:`linnaea.data.licences.licence_of`).
    """
    silent = pl.all_horizontal(pl.col(term).fill_null("") == "" for term in _RIGHTS)
    return pl.when(silent).then(_first(*(f"occurrence_{term}" for term in terms))).otherwise(_first(*terms))
