"""BIOSCAN-1M and BIOSCAN-5M: metadata (TSV, CSV or JSON-LD) beside folders of cropped pictures.

BIOSCAN-1M: columns sampleid, processid, uri, name, phylum .. species, image_file, chunk_number; pictures in
``<images>/part<chunk_number>/<image_file>``. BIOSCAN-5M: processid, sampleid, taxon, phylum .. species, dna_bin, split;
pictures in ``<images>/<split>/<chunk>/<processid>.jpg``, where the chunk is the beginning of the MD5 of the process id:
two letters in ``pretrain``, one in ``train`` and ``other_heldout``, none in the others. Its exporters
(``bioscan_dataset`` 1.2, the cards of ``bioscan-ml/BIOSCAN-1M`` and ``-5M``) have these columns.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from linnaea.data.sources import Record, Rejected
from linnaea.data.sources.normal import ROWS_AT_ONCE, describe_files, iter_records, normal, read_blocks
from linnaea.errors import LinnaeaError
from linnaea.storage import explain_json_error, read_regular
from linnaea.tables import need_columns
from linnaea.taxonomy.checklists.records import fill_columns
from linnaea.taxonomy.columns import NAME_COLUMNS
from linnaea.taxonomy.ranks import RANK_LABELS

CHUNK_LETTERS = {"pretrain": 2, "train": 1, "other_heldout": 1}
_SPLITS = {"train": "train", "pretrain": "train", "val": "val", "test": "test", "val_unseen": "val",
           "test_unseen": "unseen", "key_unseen": "unseen", "other_heldout": "unseen"}  # fmt: skip
_FACTS = {"uri": "uri", "dna_bin": "dna_bin", "country": "country", "coord-lat": "latitude", "coord-lon": "longitude",
          "subfamily": "subfamily", "tribe": "tribe"}  # fmt: skip

RIGHTS = {
    "license_name": "CC BY 3.0",
    "license_link": "https://creativecommons.org/licenses/by/3.0/",
    "copyright_owner": "CBG Photography Group, Centre for Biodiversity Genomics",
}
"""The rights of all pictures of BIOSCAN-1M and BIOSCAN-5M, as their publisher's cards state them."""


@dataclass(frozen=True, kw_only=True)
class BioscanSource:
    """BIOSCAN-1M or BIOSCAN-5M, one picture per specimen; ``not_classified`` counts as a missing name."""

    metadata: Path
    images: Path
    """The folder of pictures, for example ``images/cropped_256``."""
    use_splits: bool = False
    """Keep the splits of BIOSCAN-5M (held-out species become ``unseen``); otherwise splits are drawn."""

    @property
    def name(self) -> str:
        return "bioscan"

    def describe(self) -> dict[str, str]:
        return describe_files("bioscan", self.metadata, self.images, splits=str(self.use_splits))

    def records(self) -> Iterator[Record | Rejected]:
        blocks = _read_json(self.metadata) if self.metadata.suffix.lower() in (".jsonld", ".json") else None
        blocks = blocks or read_blocks(self.metadata, ("processid", *NAME_COLUMNS))
        yield from iter_records(map(self._normalise, blocks), self.name, self.images)

    def _normalise(self, block: pl.DataFrame) -> pl.DataFrame:
        need_columns(block.columns, self.metadata, "processid", "order", "family", "genus", "species")
        five = "image_file" not in block.columns
        if five:
            need_columns(block.columns, self.metadata, "split")
        table = fill_columns(block, "processid", "sampleid", "split", "image_file", "chunk_number", "name", "taxon",
                             *RANK_LABELS[1:], *_FACTS)  # fmt: skip
        place = _place_in_5m() if five else pl.format("part{}/{}", "chunk_number", "image_file")
        given = pl.col("phylum").str.to_lowercase().is_in(["", "not_classified"])
        classless = (pl.col("class") == "") & ~pl.lit(five)  # BIOSCAN-1M holds insects only
        insect = {
            "phylum": pl.when(given).then(pl.lit("Arthropoda")).otherwise("phylum"),
            "class": pl.when(classless).then(pl.lit("Insecta")).otherwise("class"),
        }
        split = pl.col("split").replace_strict(_SPLITS, default="") if self.use_splits else pl.lit("")
        return table.select(
            *normal(
                record_id="processid",
                location=pl.lit(f"{self.images}/") + place,
                label=pl.when(pl.col("name") != "").then("name").otherwise("taxon"),
                kingdom=pl.lit("Animalia"),
                **insect,
                **{rank: pl.col(rank) for rank in ("order", "family", "genus", "species")},
                group=pl.when(pl.col("sampleid") != "").then("sampleid").otherwise("processid"),
                split=split,
                reason=pl.when(pl.col("processid") == "").then(pl.lit("has no process id")).otherwise(pl.lit("")),
            ),
            *(pl.col(theirs).alias(ours) for theirs, ours in _FACTS.items()),
            *(pl.lit(value).alias(name) for name, value in RIGHTS.items()),
        )


def _place_in_5m() -> pl.Expr:
    letters = pl.col("split").replace_strict(CHUNK_LETTERS, default=0, return_dtype=pl.Int64)
    digest = pl.col("processid").map_elements(lambda text: hashlib.md5(text.encode()).hexdigest(), pl.String)
    chunk = digest.str.slice(0, letters)
    folder = pl.when(chunk == "").then("split").otherwise(pl.format("{}/{}", "split", chunk))
    return pl.format("{}/{}.jpg", folder, "processid")


def _read_json(path: Path) -> Iterator[pl.DataFrame]:
    """Read JSON-LD: a list of objects, an object with the list under ``@graph``, or one object per line."""
    try:
        text = read_regular(path).decode("utf-8")
        by_line = text.lstrip().startswith("{") and "\n{" in text
        content = [json.loads(line) for line in text.splitlines() if line.strip()] if by_line else json.loads(text)
        rows = content.get("@graph", []) if isinstance(content, dict) else content
        texts = [{key: None if value is None else str(value) for key, value in row.items()} for row in rows]
        table = pl.DataFrame(texts, infer_schema_length=None)
    except OSError as error:
        raise LinnaeaError(f"{path}: not BIOSCAN metadata ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise LinnaeaError(f"{path}: not BIOSCAN metadata ({explain_json_error(error)})") from error
    except (AttributeError, TypeError, pl.exceptions.PolarsError) as error:
        raise LinnaeaError(f"{path}: not BIOSCAN metadata (it is not a list of objects)") from error
    for start in range(0, table.height, ROWS_AT_ONCE):
        yield table.slice(start, ROWS_AT_ONCE).fill_null("")
