"""What became of every single image: the table behind all metrics."""

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from linnaea.data.shards import DataSet
from linnaea.evaluate.few_shot_protocol import FewShotScore
from linnaea.evaluate.zero_shot import ZeroShotAnswers, tabulate


def tabulate_examples(
    dataset: DataSet, answers: Mapping[str, ZeroShotAnswers], few_shot: Sequence[FewShotScore]
) -> pl.DataFrame:
    """A row per image, in index order.

    The columns of :func:`~linnaea.evaluate.zero_shot.tabulate` for the first caption form; ``answer``, ``right`` and
    ``truth_place`` again with the form's name at the end for each further one (``right_sci``); and for each number of
    shots in how many folds the image was a query (``few_shot_5_asked``), and the share of these in which it was right
    (``few_shot_5_right``, null where it never was one).
    """
    forms = iter(answers.items())
    if first := next(forms, None):
        table = tabulate(first[1], dataset.index)
    else:
        names = [taxon.scientific_name or taxon.common_name for taxon in dataset.taxa_list]
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
