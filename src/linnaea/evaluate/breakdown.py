"""Break results down by image, class, clade and domain, and list the most frequent confusions."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl
from jaxtyping import Bool
from numpy import ndarray

from linnaea.data.shards import DataSet
from linnaea.evaluate.probes import FewShotScore
from linnaea.evaluate.zero_shot import ZeroShotAnswers, tabulate
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.taxon import Taxon

DOMAIN = "domain"
"""The fact of a record that names its domain, such as field, studio, specimen or camera trap."""


def read_domains(dataset: DataSet, fact: str = DOMAIN) -> list[str]:
    """Return the domain of each image from its facts in the shards, or its source if no image has a domain."""
    values = ((key, " ".join(str(facts.get(fact) or "").split())) for key, facts in dataset.iter_facts())
    found = {key: value for key, value in values if value}
    if not found:
        return dataset.index["source"].to_list()
    return [found.get(key, "not stated") for key in dataset.index["key"]]


def per_clade(truth: Sequence[Taxon], right_NR: Bool[ndarray, "N 7"], counted_NR: Bool[ndarray, "N 7"]) -> pl.DataFrame:
    """Return one row per true taxon above species: rank, name, lineage, images, and accuracy.

    Accuracy is given at the taxon's own rank and at species rank.
    """
    names = pl.DataFrame([list(taxon.lineage) for taxon in truth], schema=list(RANK_LABELS), orient="row")
    frame = names.with_columns(
        *(pl.Series(f"right_{label}", right_NR[:, i]) for i, label in enumerate(RANK_LABELS)),
        *(pl.Series(f"counted_{label}", counted_NR[:, i]) for i, label in enumerate(RANK_LABELS)),
    )
    parts = []
    for rank in list(Rank)[: Rank.SPECIES]:
        label = rank.label
        parts.append(
            frame.filter(pl.col(label) != "")
            .group_by(RANK_LABELS[: rank + 1], maintain_order=True)
            .agg(
                pl.len().alias("images"),
                pl.col(f"right_{label}").mean().alias("right at its rank"),
                pl.col("right_species").filter(pl.col("counted_species")).mean().alias("right to species"),
            )
            .select(
                pl.lit(label).alias("rank"),
                pl.col(label).alias("taxon"),
                pl.concat_str(RANK_LABELS[: rank + 1], separator=" > ").alias("lineage"),
                "images",
                "right at its rank",
                "right to species",
            )
        )
    return pl.concat(parts)


def per_class(examples: pl.DataFrame) -> pl.DataFrame:
    """Return one row per true class: images, accuracy, mean probability of the truth, most frequent wrong answer.

    Classes are sorted by accuracy, best first.
    """
    wrong = (
        examples.filter(~pl.col("right"))
        .group_by("truth", "answer")
        .len()
        .sort("len", "answer", descending=[True, False])
        .unique("truth", keep="first", maintain_order=True)
        .select("truth", pl.col("answer").alias("taken for"))
    )
    return (
        examples.group_by("truth", maintain_order=True)
        .agg(
            pl.col("truth_common_name").first().alias("common name"),
            pl.len().alias("images"),
            pl.col("right").mean(),
            pl.col("truth_score").mean().alias("probability of truth"),
        )
        .join(wrong, on="truth", how="left")
        .sort("right", "probability of truth", "truth", descending=[True, True, False])
    )


def per_domain(
    domains: Sequence[str], right_NR: Bool[ndarray, "N 7"], counted_NR: Bool[ndarray, "N 7"]
) -> pl.DataFrame:
    """Return one row per domain with the number of images and the accuracy at each rank."""
    columns = [
        pl.Series(label, np.where(counted_NR[:, i], right_NR[:, i], np.nan)).fill_nan(None)
        for i, label in enumerate(RANK_LABELS)
    ]
    frame = pl.DataFrame([pl.Series("domain", domains, pl.String), *columns])
    return frame.group_by("domain").agg(pl.len().alias("images"), pl.col(RANK_LABELS).mean()).sort("domain")


def confusions(examples: pl.DataFrame, most: int = 12) -> pl.DataFrame:
    """Return the ``most`` most frequent confusions, one row per pair of truth and answer.

    ``times`` counts the confusion, ``of`` the images of the truth, and ``rows`` lists the confused images. The most
    frequent pairs come first; among equals, those further apart in the tree.
    """
    of = examples.group_by("truth").agg(pl.len().alias("of"))
    return (
        examples.with_row_index("row")
        .filter(~pl.col("right"))
        .group_by("truth", "answer")
        .agg(pl.len().alias("times"), pl.col("row").alias("rows"), pl.col("lca_height").first(),
             pl.col("score").max().alias("surest"))
        .join(of, on="truth")
        .sort("times", "lca_height", "surest", "truth", "answer", descending=[True, True, True, False, False])
        .head(most)
    )  # fmt: skip


def tabulate_examples(
    dataset: DataSet, answers: Mapping[str, ZeroShotAnswers], few_shot: Sequence[FewShotScore]
) -> pl.DataFrame:
    """Return one row per image, in index order.

    The first caption form has the columns of :func:`~linnaea.evaluate.zero_shot.tabulate`. Each further form adds
    ``answer``, ``right`` and ``truth_place`` with its name as a suffix (``right_sci``). Each number of shots adds two
    columns: ``few_shot_5_asked``, the number of folds in which the image was a query, and ``few_shot_5_right``, the
    share of those folds in which it was right (null if it was never a query).
    """
    forms = iter(answers.items())
    if first := next(forms, None):
        table = tabulate(first[1], dataset.index)
    else:
        names = [taxon.name for taxon in dataset.taxa_list]
        truth = pl.Series("truth", [names[number] for number in dataset.index["taxon_id"]], pl.String)
        table = dataset.index.select("key", "split", "source", "shard").with_columns(truth)
    for form, others in forms:
        more = tabulate(others, dataset.index).select("answer", "right", "truth_place")
        table = table.hstack(more.rename({name: f"{name}_{form}" for name in more.columns}))
    for score in few_shot:
        if score.n_classes:
            table = table.with_columns(_share_right(score), _n_asked(score))
    return table


def _n_asked(score: FewShotScore) -> pl.Series:
    return pl.Series(f"few_shot_{score.n_shots}_asked", (score.right_FN >= 0).sum(axis=0), pl.Int32)


def _share_right(score: FewShotScore) -> pl.Series:
    n_asked = (score.right_FN >= 0).sum(axis=0)
    share = (score.right_FN == 1).sum(axis=0) / np.maximum(n_asked, 1)
    return pl.Series(f"few_shot_{score.n_shots}_right", np.where(n_asked, share, np.nan)).fill_nan(None)
