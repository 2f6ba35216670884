"""iNat21 with its COCO-like JSON annotations. Class folders without annotations are read by ``FolderSource``.

Layout: ``<root>/train/<idx>_Kingdom_.._epithet/<uuid>.jpg``; ``train.json``, ``train_mini.json``, ``val.json`` with
``images`` (id, file_name, license, rights_holder, date, latitude, longitude), ``annotations`` (image_id, category_id),
``categories`` (id, name, common_name, kingdom .. genus, specific_epithet) and ``licenses`` (id, name, url).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from linnaea.data.sources import Record, Rejected
from linnaea.data.sources.class_folders import SPLIT_FOLDERS
from linnaea.data.sources.normal import describe_files, iter_records, normal
from linnaea.errors import LinnaeaError
from linnaea.storage import read_json
from linnaea.taxonomy.ranks import RANK_LABELS


@dataclass(frozen=True, kw_only=True)
class Inat21Source:
    """The images of one annotation file, which is read as a whole (2.7 million images need about 4 GB)."""

    annotations: Path
    root: Path
    """Folder that ``file_name`` is relative to."""
    use_splits: bool = True
    """Keep the competition's ``train`` and ``val``; otherwise splits are drawn."""

    @property
    def name(self) -> str:
        return "inat21"

    def describe(self) -> dict[str, str]:
        return describe_files("inat21", self.annotations, root=str(self.root), splits=str(self.use_splits))

    def records(self) -> Iterator[Record | Rejected]:
        yield from iter_records([self.table()], self.name, self.root)

    def table(self) -> pl.DataFrame:
        """Return the images as a normal table (:mod:`linnaea.data.sources.normal`) with their rights.

        Raises:
            LinnaeaError: the file is not an iNat21 annotation file.
        """
        content = self._read()
        images = _frame(
            content["images"], "id", "file_name", "license", "rights_holder", "date", "latitude", "longitude"
        )
        category = _frame(content.get("annotations", []), "image_id", "category_id")
        ranks = [*RANK_LABELS[:-1], "specific_epithet"]
        categories = _frame(content.get("categories", []), "id", "name", "common_name", *ranks)
        licences = _frame(content.get("licenses", []), "id", "name", "url")
        joined = (
            images.join(category.unique("image_id", keep="first"), left_on="id", right_on="image_id", how="left",
                        maintain_order="left")
            .join(categories, left_on="category_id", right_on="id", how="left", maintain_order="left")
            .join(licences.rename({"name": "license_name"}), left_on="license", right_on="id", how="left",
                  maintain_order="left")
        )  # fmt: skip
        file = pl.col("file_name").fill_null("")
        split = file.str.split("/").list.first().replace_strict(SPLIT_FOLDERS, default="")
        unknown = pl.col("name").is_null()
        return joined.select(
            *normal(
                record_id=file,
                location=pl.lit(f"{self.root}/") + file,
                label="name",
                **{rank: pl.col(rank) for rank in RANK_LABELS[:-1]},
                species="specific_epithet",
                common_name="common_name",
                split=split if self.use_splits else pl.lit(""),
                reason=pl.when(unknown).then(pl.lit("has no category in the annotations")).otherwise(pl.lit("")),
            ),
            *(pl.col(name).fill_null("") for name in ("rights_holder", "license_name", "latitude", "longitude")),
            pl.col("url").fill_null("").alias("license_link"),
            pl.col("date").fill_null("").alias("event_date"),
        )

    def _read(self) -> dict[str, Any]:
        content = read_json(self.annotations, kind="annotations of iNat21")
        for part in ("images", "annotations", "categories"):
            rows = content.get(part, [])
            if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
                raise LinnaeaError(f"{self.annotations}: not annotations of iNat21 ({part} is not a list of objects)")
        if "images" not in content:
            raise LinnaeaError(f"{self.annotations}: not annotations of iNat21 (it has no list of images)")
        return content


def _frame(rows: list[dict[str, Any]], *columns: str) -> pl.DataFrame:
    data = {name: [None if row.get(name) is None else str(row[name]) for row in rows] for name in columns}
    return pl.DataFrame(data, schema=dict.fromkeys(columns, pl.String))
