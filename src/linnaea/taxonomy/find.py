"""Finding taxa in a checklist by what a person types: exactly, or with slips of the pen."""

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from linnaea.taxonomy.ranks import Rank

if TYPE_CHECKING:
    from linnaea.taxonomy.checklists.store import Checklist

LEAST_LIKE = 0.6
"""Similarity (0..1) of a word from which on it may be meant."""
SHARE_OF_LENGTH = 0.15
"""How much of the score says that the name has no words beyond those asked for."""


def find_taxa(checklist: "Checklist", name: str, *, rank: Rank | None = None, kingdom: str = "") -> pl.DataFrame:
    """All taxa of that name: columns row, matched, how ("accepted", "synonym", "vernacular (en)").

    Case and underscores do not matter. Synonyms count where no accepted taxon has the name, vernacular names
    where neither has; several rows are homonyms.
    """
    asked = " ".join(name.replace("_", " ").split()).lower()
    here = _every_name(checklist).filter(pl.col("matched").str.to_lowercase() == asked)
    facts = checklist.taxa.select(pl.int_range(pl.len(), dtype=pl.Int32).alias("row"), "rank", "kingdom")
    here = here.join(facts, on="row", maintain_order="left")
    if rank is not None:
        here = here.filter(pl.col("rank") == int(rank))
    if kingdom:
        here = here.filter(pl.col("kingdom").str.to_lowercase() == kingdom.lower())
    best = here.filter(pl.col("tier") == pl.col("tier").min())
    return best.unique("row", keep="first", maintain_order=True).select("row", "matched", "how").sort("row")


def search_names(checklist: "Checklist", text: str, *, top_k: int = 10, rank: Rank | None = None) -> pl.DataFrame:
    """The taxa whose scientific, synonym or vernacular name is most like ``text``, best first.

    Columns row, matched, how, score (1 is the same). Words may be misspelt, in another order or missing. About
    two seconds over a million names.
    """
    asked = " ".join(text.replace("_", " ").lower().split())
    names = _every_name(checklist)
    if rank is not None:
        right = pl.Series(np.flatnonzero(checklist.taxa["rank"].to_numpy() == int(rank)), dtype=pl.Int32)
        names = names.filter(pl.col("row").is_in(right.implode()))
    if not asked or names.is_empty():
        return names.clear().select("row", "matched", "how", score=pl.lit(0.0))
    names = names.with_row_index("number").with_columns(lower=pl.col("matched").str.to_lowercase())
    whole = _like(asked, names["lower"], LEAST_LIKE)
    score = np.maximum(_word_scores(asked.split(), names), whole)
    names = names.with_columns(score=pl.Series(score), whole=pl.Series(whole)).filter(pl.col("score") > 0)
    names = names.sort("score", "whole", "tier", "matched", descending=[True, True, False, False])
    return names.unique("row", keep="first", maintain_order=True).head(top_k).select("row", "matched", "how", "score")


def _every_name(checklist: "Checklist") -> pl.DataFrame:
    """row, matched, how, tier (0 accepted, 1 synonym, 2 vernacular)."""
    accepted = checklist.taxa.select(
        pl.int_range(pl.len(), dtype=pl.Int32).alias("row"), pl.col("name").alias("matched"), how=pl.lit("accepted")
    )
    synonyms = checklist.synonyms.select(
        pl.col("row").cast(pl.Int32), pl.col("name").alias("matched"), how=pl.col("kind").fill_null("synonym")
    )
    parts = [accepted.with_columns(tier=pl.lit(0, pl.Int8)), synonyms.with_columns(tier=pl.lit(1, pl.Int8))]
    if checklist.vernaculars.width:
        spoken = checklist.vernaculars.select(
            pl.col("row").cast(pl.Int32),
            pl.col("name").alias("matched"),
            how=pl.format("vernacular ({})", pl.col("language").fill_null("?")),
        )
        parts.append(spoken.with_columns(tier=pl.lit(2, pl.Int8)))
    return pl.concat(parts)


def _like(asked: str, names: pl.Series, least: float) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    """Similarity (1 - edits / length; two letters swapped are one edit) of each name, 0 below ``least``."""
    from rapidfuzz.distance import OSA
    from rapidfuzz.process import cdist

    scorer = OSA.normalized_similarity
    row = cdist([asked], names.to_list(), scorer=scorer, score_cutoff=least, dtype=np.float32, workers=-1)[0]
    return np.asarray(row, np.float32)


def _word_scores(asked: list[str], names: pl.DataFrame) -> "np.ndarray[tuple[int], np.dtype[np.float32]]":
    """For each name, how well its words cover those asked for, whatever their order."""
    words = names.select("number", pl.col("lower").str.split(" ").alias("word")).explode("word")
    distinct = words["word"].unique()
    scores = np.zeros(names.height, np.float32)
    n_words = words.group_by("number").len("n")
    found = names.select("number").join(n_words, on="number", how="left", maintain_order="left")["n"].to_numpy()
    for word in asked:
        like = pl.DataFrame({"word": distinct, "like": _like(word, distinct, LEAST_LIKE)}).filter(pl.col("like") > 0)
        best = words.join(like, on="word").group_by("number").agg(pl.col("like").max())
        scores[best["number"].to_numpy()] += best["like"].to_numpy() / len(asked)
    complete = scores * (1 - SHARE_OF_LENGTH) + SHARE_OF_LENGTH * len(asked) / np.maximum(found, len(asked))
    return np.where(scores > LEAST_LIKE, complete, 0).astype(np.float32)
