"""Statistics of a data set: counts per split, source, rank and licence, and how evenly the taxa are covered."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from linnaea.data.licences import describe_licences, permission
from linnaea.parquet import scan_parquet
from linnaea.taxonomy.ranks import RANK_LABELS

if TYPE_CHECKING:
    from linnaea.data.shards import DataSet

HEAD_SHARE = 0.5
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
RARE_BELOW, COMMON_FROM = 5, 100


@dataclass(frozen=True, kw_only=True)
class Statistics:
    """Counts of a data set; every frame is small enough to print."""

    n_images: int
    n_bytes: int
    n_taxa: int
    by_split: pl.DataFrame
    """Columns split, images, taxa, shards, bytes."""
    by_source: pl.DataFrame
    """Columns source, images, taxa, complete (share of images with all seven ranks)."""
    by_rank: pl.DataFrame
    """Columns rank, names (distinct taxa at that rank), images (named at that rank), share."""
    by_licence: pl.DataFrame
    """Columns licence, allows (open, non-commercial, closed), images, share."""
    by_source_licence: pl.DataFrame
    """Columns source, licence, images."""
    images_per_taxon: pl.Series
    """Number of images of each taxon with images, in descending order."""
    sizes: pl.DataFrame
    """Columns quantile, width, height, bytes of the stored pictures."""
    share_complete: float
    """Share of images with all seven ranks."""
    share_common_name: float
    """Share of images whose taxon has a common name."""

    @property
    def n_head(self) -> int:
        """The number of the commonest taxa that hold half of the images."""
        return int((self.images_per_taxon.cum_sum() < HEAD_SHARE * self.n_images).sum()) + 1

    @property
    def gini(self) -> float:
        """The Gini coefficient of images per taxon: 0 if all are equal, near 1 if one has nearly all (Gini 1912)."""
        return gini(self.images_per_taxon.to_numpy())

    @property
    def images_per_taxon_quantiles(self) -> dict[float, int]:
        counts = self.images_per_taxon
        return {q: int(counts.quantile(q, "nearest") or 0) for q in QUANTILES}

    @property
    def taxa_by_size(self) -> dict[str, int]:
        """The number of taxa with one image, few images, and many images."""
        counts = self.images_per_taxon
        return {
            "with 1 image": int((counts == 1).sum()),
            f"with fewer than {RARE_BELOW}": int((counts < RARE_BELOW).sum()),
            f"with {COMMON_FROM} or more": int((counts >= COMMON_FROM).sum()),
        }

    def as_json(self) -> dict[str, Any]:
        """Return all statistics as plain values, for ``linnaea data stats --json``."""
        return {
            "images": self.n_images,
            "bytes": self.n_bytes,
            "taxa": self.n_taxa,
            "share_complete": self.share_complete,
            "share_common_name": self.share_common_name,
            "images_per_taxon": {
                "quantiles": {str(q): n for q, n in self.images_per_taxon_quantiles.items()},
                "mean": self.n_images / max(self.n_taxa, 1),
                "gini": self.gini,
                "taxa_holding_half": self.n_head,
                "taxa_with_1": int((self.images_per_taxon == 1).sum()),
                f"taxa_below_{RARE_BELOW}": int((self.images_per_taxon < RARE_BELOW).sum()),
                f"taxa_from_{COMMON_FROM}": int((self.images_per_taxon >= COMMON_FROM).sum()),
            },
            "splits": self.by_split.to_dicts(),
            "sources": self.by_source.to_dicts(),
            "ranks": self.by_rank.to_dicts(),
            "licences": self.by_licence.to_dicts(),
            "licences_by_source": self.by_source_licence.to_dicts(),
            "sizes": self.sizes.to_dicts(),
        }


def gini(counts: "np.typing.NDArray[Any] | Sequence[int]") -> float:
    """Return the Gini coefficient of ``counts``: half the mean absolute difference of two of them over their mean."""
    ordered = np.sort(np.asarray(counts, dtype=np.float64))
    total = ordered.sum()
    if not total:
        return 0.0
    n = len(ordered)
    return float((2 * np.arange(1, n + 1) - n - 1) @ ordered / (n * total))


def measure(dataset: "DataSet") -> Statistics:
    """Return the statistics of a data set; one join of index and taxa takes a few seconds for ten million images."""
    index, taxa = dataset.index, dataset.taxa
    joined = index.select("split", "shard", "source", "size", "taxon_id").join(
        taxa.select("taxon_id", *RANK_LABELS, "common_name"), on="taxon_id", how="left"
    )
    complete = pl.all_horizontal(pl.col(label) != "" for label in RANK_LABELS)
    images_taxa = (pl.len().alias("images"), pl.col("taxon_id").n_unique().alias("taxa"))
    by_split = joined.group_by("split").agg(
        *images_taxa, pl.col("shard").n_unique().alias("shards"), pl.col("size").sum().alias("bytes")
    )
    by_source = joined.group_by("source").agg(*images_taxa, complete.mean().alias("complete"))
    per_taxon = index.group_by("taxon_id").len()["len"].sort(descending=True)
    licences = load_licences(dataset)
    shares = joined.select(complete.mean().alias("complete"), common=(pl.col("common_name") != "").mean())
    return Statistics(
        n_images=index.height,
        n_bytes=int(index["size"].sum()),
        n_taxa=per_taxon.len(),
        by_split=by_split.sort("split"),
        by_source=by_source.sort("images", "source", descending=[True, False]),
        by_rank=_count_ranks(joined),
        by_licence=_count_licences(licences),
        by_source_licence=licences.group_by("source", licence="licence_id")
        .agg(pl.len().alias("images"))
        .sort("source", "images", "licence", descending=[False, True, False]),
        images_per_taxon=per_taxon.alias("images"),
        sizes=_count_sizes(index),
        share_complete=shares["complete"][0] or 0.0,
        share_common_name=shares["common"][0] or 0.0,
    )


def load_licences(dataset: "DataSet") -> pl.DataFrame:
    """Return key, source, licence_id, attribution and their facts, one row per row of the index, in its order.

    A picture without such facts (in a data set older than these tables) has no licence stated.
    """
    keys = dataset.index.select("key", "source")
    path = dataset.directory / "licences.parquet"
    if not path.exists():
        return describe_licences(keys)
    here = scan_parquet(path).filter(pl.col("key").is_between(pl.lit(keys["key"].min()), pl.lit(keys["key"].max())))
    table = keys.join(here.drop("source", strict=False).collect(), on="key", how="left", maintain_order="left")
    if "licence_id" in table.columns and not table["licence_id"].has_nulls():
        return table
    return describe_licences(table.fill_null(""))


def _count_ranks(joined: pl.DataFrame) -> pl.DataFrame:
    rows = []
    for depth, label in enumerate(RANK_LABELS):
        named = joined.filter(pl.col(label) != "")
        # A name counts once per lineage: homonyms in different kingdoms are different taxa.
        names = named.select(RANK_LABELS[: depth + 1]).unique().height
        share = named.height / max(joined.height, 1)
        rows.append({"rank": label, "names": names, "images": named.height, "share": share})
    return pl.DataFrame(rows)


def _count_licences(licences: pl.DataFrame) -> pl.DataFrame:
    counted = licences.group_by(licence="licence_id").agg(pl.len().alias("images"))
    return counted.select(
        "licence",
        pl.col("licence").map_elements(permission, return_dtype=pl.String).alias("allows"),
        "images",
        (pl.col("images") / max(licences.height, 1)).alias("share"),
    ).sort("images", "licence", descending=[True, False])


def _count_sizes(index: pl.DataFrame) -> pl.DataFrame:
    columns = {"width": "width", "height": "height", "bytes": "size"}
    rows = [
        {"quantile": f"{q:.0%}", **{name: int(index[column].quantile(q, "nearest") or 0)
                                    for name, column in columns.items()}}
        for q in QUANTILES
    ]  # fmt: skip
    return pl.DataFrame(rows)
