"""FathomNet: pictures of the deep sea with boxes around organisms. Each box is a record, cut out of its picture.

Layouts: the COCO file ``dataset.json`` that ``fathomnet-generate --format coco`` writes, with ``images`` (id,
file_name, coco_url, date_captured, license), ``annotations`` (image_id, category_id, bbox), ``categories`` (id, name)
and ``licenses``; or the JSON of its interface, a list of images (uuid, url, timestamp, latitude, longitude,
depthMeters) with ``boundingBoxes`` (uuid, concept, altConcept, x, y, width, height, rejected). Pictures are named
``<uuid>.<ending of the url>``, as ``fathomnet-generate`` names them. A concept is a name at any rank.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import polars as pl

from linnaea.data.sources import Record, Rejected, at_box
from linnaea.data.sources.normal import describe_files, iter_records, normal, read_whole
from linnaea.errors import LinnaeaError
from linnaea.storage import load_json
from linnaea.tables import find_column, need_columns
from linnaea.taxonomy.columns import NAME_COLUMNS
from linnaea.taxonomy.ranks import RANK_LABELS
from linnaea.taxonomy.row import read_taxon
from linnaea.taxonomy.taxon import Taxon

_COLUMNS = ("record_id", "file", "box", "concept", "alt_concept", "image", "rejected", "url", "event_date", "latitude",
            "longitude", "depth_m", "license_name", "license_link", "rights_holder")  # fmt: skip
_FACTS = _COLUMNS[7:]


@dataclass(frozen=True, kw_only=True)
class FathomNetSource:
    """The boxes of an annotation file, which is read as a whole; the boxes of one picture are a group."""

    annotations: Path
    """The COCO file or the JSON of the interface."""
    images: Path
    """Folder of the pictures."""
    taxa: Path | None = None
    """A table with ``concept`` and columns of ranks; without it a concept is read as a label."""
    name: str = "fathomnet"

    def describe(self) -> dict[str, str]:
        more = [self.taxa] if self.taxa else []
        return describe_files("fathomnet", self.annotations, self.images, *more)

    def records(self) -> Iterator[Record | Rejected]:
        yield from iter_records([self._normalise(self._boxes())], self.name, self.images)

    def _boxes(self) -> pl.DataFrame:
        content = self._read()
        is_coco = isinstance(content, dict) and "annotations" in content
        try:
            rows = list(_iter_coco(content) if is_coco else _iter_interface(content))
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise LinnaeaError(f"{self.annotations}: not FathomNet's COCO or JSON (no {error})") from error
        table = pl.DataFrame(rows, schema=dict.fromkeys(_COLUMNS, pl.String), orient="row")
        return table.with_columns(pl.all().fill_null(""))

    def _read(self) -> Any:
        return load_json(self.annotations, kind="annotations of FathomNet")

    def _normalise(self, boxes: pl.DataFrame) -> pl.DataFrame:
        names = self._names(boxes["concept"].unique(maintain_order=True).to_list())
        rows = boxes.join(names, on="concept", how="left", maintain_order="left")
        reason = (
            pl.when(pl.col("rejected") != "").then(pl.lit("box was rejected by FathomNet's reviewers"))
            .when(pl.col("file") == "").then(pl.lit("box of a picture that is not listed"))
            .when(pl.col("box") == "").then(pl.lit("box is not four numbers with a size above zero"))
            .when(pl.col("concept") == "").then(pl.lit("box has no concept"))
            .otherwise(pl.lit(""))
        )  # fmt: skip
        return rows.select(
            *normal(
                record_id="record_id",
                location=at_box(pl.lit(f"{self.images}/") + pl.col("file"), pl.col("box")),
                label="concept",
                common_name="common_name",
                group="image",
                reason=reason,
                **{rank: pl.col(rank) for rank in RANK_LABELS},
            ),
            *_FACTS,
            "alt_concept",
        )

    def _names(self, concepts: Sequence[str]) -> pl.DataFrame:
        """Return the ranks of each concept: those of the table, or those that its name says."""
        known = self._taxa
        rows = []
        for concept in concepts:
            given = known.get(concept.lower(), {})
            taxon = read_taxon(given, concept) if concept else ""
            lineage = taxon.lineage if isinstance(taxon, Taxon) else ("",) * len(RANK_LABELS)
            rows.append((concept, *lineage, taxon.common_name if isinstance(taxon, Taxon) else ""))
        schema = dict.fromkeys(("concept", *RANK_LABELS, "common_name"), pl.String)
        return pl.DataFrame(rows, schema=schema, orient="row")

    @cached_property
    def _taxa(self) -> dict[str, dict[str, str]]:
        if self.taxa is None:
            return {}
        table = read_whole(self.taxa)
        column = find_column(table.columns, "concept", "scientific_name", "name")
        need_columns(table.columns, self.taxa, column or "concept")
        kept = [name for name in NAME_COLUMNS if name in table.columns]
        return {row[column].lower(): {name: row[name] for name in kept} for row in table.iter_rows(named=True)}


def _iter_coco(content: Mapping[str, Any]) -> Iterator[tuple[str | None, ...]]:
    images = {image["id"]: image for image in content["images"]}
    concepts = {category["id"]: category["name"] for category in content["categories"]}
    licences = {licence["id"]: licence for licence in content.get("licenses") or ()}
    for box in content["annotations"]:
        image = images.get(box["image_id"], {})
        licence = licences.get(image.get("license"), {})
        file = str(image.get("file_name") or "")
        place = _box_of(*box["bbox"]) if len(box.get("bbox") or ()) == 4 else ""
        url = image.get("coco_url") or image.get("flickr_url")
        yield (f"{file or box['image_id']}#{box['id']}", file, place, concepts.get(box["category_id"], ""), "", file,
               "", _text(url), _text(image.get("date_captured")), "", "", "", _text(licence.get("name")),
               _text(licence.get("url")), "")  # fmt: skip


def _iter_interface(content: Any) -> Iterator[tuple[str | None, ...]]:
    """Yield the boxes of a list of images, or of a page with the list under ``content``."""
    for image in content["content"] if isinstance(content, dict) else content:
        url = _text(image.get("url"))
        ending = url.partition("?")[0].rpartition("/")[2].rpartition(".")[2]
        file = f"{image['uuid']}.{ending}" if image.get("uuid") and ending else ""
        uploads = image.get("imageSetUploads") or [{}]
        rights = uploads[0].get("darwinCore") or {}
        facts = [_text(image.get(name)) for name in ("timestamp", "latitude", "longitude", "depthMeters")]
        for number, box in enumerate(image.get("boundingBoxes") or ()):
            place = _box_of(*(box.get(name) for name in ("x", "y", "width", "height")))
            yield (_text(box.get("uuid")) or f"{image.get('uuid')}#{number}", file, place, _text(box.get("concept")),
                   _text(box.get("altConcept")), _text(image.get("uuid")), "yes" if box.get("rejected") else "", url,
                   *facts, _text(rights.get("license")), "", _text(rights.get("rightsHolder")))  # fmt: skip


def _box_of(*numbers: Any) -> str:
    """Return ``x,y,width,height``, or ``""`` if a number is missing or there is no area."""
    is_box = all(isinstance(value, int | float) and math.isfinite(value) for value in numbers)
    return ",".join(f"{value:.9g}" for value in numbers) if is_box and min(numbers[2:]) > 0 else ""


def _text(value: Any) -> str:
    return "" if value is None else str(value)
