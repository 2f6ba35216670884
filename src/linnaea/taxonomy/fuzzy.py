"""Misspelt names: candidates within one or two edits, for a hundred thousand names against a million at once.

Comparing everything with everything would take 10^11 comparisons. A binomial with two edits has them in the genus,
in the epithet, or one in each, so it is enough to compare (1) epithets within the genus as written, (2) genera that
have the epithet as written, (3) epithets within genera one edit away. Genera one edit away share a word with one
letter deleted (the symmetric deletes of SymSpell). An edit is an insertion, deletion, substitution or a swap of
neighbours.
"""

import numpy as np
import polars as pl
from rapidfuzz import process
from rapidfuzz.distance import OSA

MAX_EDITS = 2
_FOUND_SCHEMA = {"q": pl.Int32, "n": pl.Int32, "genus_edits": pl.Int8, "epithet_edits": pl.Int8}


def near_words(words: pl.Series, vocabulary: pl.Series) -> pl.DataFrame:
    """word, near: all pairs at a distance of exactly one edit. Both inputs hold distinct words."""
    if len(words) <= _FEW:
        return _near_few_words(words, vocabulary)
    left, right = _with_deletes(words, "word"), _with_deletes(vocabulary, "near")
    pairs = left.join(right, on="deleted").select("word", "near").unique()
    pairs = pairs.filter(pl.col("word") != pl.col("near"))
    if pairs.is_empty():
        return pairs
    edits = process.cpdist(
        pairs["word"].to_list(), pairs["near"].to_list(), scorer=OSA.distance, score_cutoff=1, dtype=np.uint8
    )
    return pairs.filter(pl.Series(edits) == 1)


_FEW = 50
"""So few words are faster compared with all of the vocabulary."""


def _near_few_words(words: pl.Series, vocabulary: pl.Series) -> pl.DataFrame:
    asked, there = words.to_list(), vocabulary.to_list()
    if not asked or not there:
        return pl.DataFrame(schema={"word": pl.String, "near": pl.String})
    distance = process.cdist(asked, there, scorer=OSA.distance, score_cutoff=1, dtype=np.uint8)
    rows, columns = np.nonzero(distance == 1)
    return pl.DataFrame({"word": words.gather(pl.Series(rows)), "near": vocabulary.gather(pl.Series(columns))})


def _with_deletes(words: pl.Series, name: str) -> pl.DataFrame:
    """Each word beside itself and itself with each one letter deleted."""
    table = pl.DataFrame({name: words}).filter(pl.col(name).str.len_chars() <= 60)
    longest = table.select(pl.col(name).str.len_chars().max()).item() or 0
    column = pl.col(name)
    parts = [table.with_columns(deleted=column)]
    parts += [
        table.filter(column.str.len_chars() > at).with_columns(
            deleted=pl.concat_str(column.str.slice(0, at), column.str.slice(at + 1))
        )
        for at in range(longest)
    ]
    return pl.concat(parts)


def near_binomials(queries: pl.DataFrame, names: pl.DataFrame) -> pl.DataFrame:
    """Names within two edits of each query.

    Args:
        queries: q (Int32), genus, epithet in small letters
        names: n (Int32), genus, epithet, distinct

    Returns:
        q, n, genus_edits, epithet_edits (1 or 2 together)
    """
    if queries.is_empty() or names.is_empty():
        return pl.DataFrame(schema=_FOUND_SCHEMA)
    asked = queries.with_columns(spent=pl.lit(0))
    found = [_compare_within(asked, names, group="genus", compared="epithet")]
    near = near_words(queries["genus"].unique(), names["genus"].unique())
    other_genus = queries.join(near, left_on="genus", right_on="word").select(
        "q", "epithet", genus="near", spent=pl.lit(1)
    )
    found.append(_compare_within(other_genus, names, group="genus", compared="epithet"))
    found.append(_compare_within(asked, names, group="epithet", compared="genus"))
    pairs = pl.concat(found).unique(["q", "n"], keep="first", maintain_order=True)
    return pairs.filter(pl.col("genus_edits") + pl.col("epithet_edits") > 0)


def _compare_within(queries: pl.DataFrame, names: pl.DataFrame, *, group: str, compared: str) -> pl.DataFrame:
    """Compare one word of queries and names that have the other word in common."""
    names = names.join(queries.select(group).unique(), on=group, how="semi").sort(group)
    bounds = names.with_row_index("at").group_by(group).agg(first=pl.col("at").min(), size=pl.len())
    groups = queries.join(bounds, on=group).group_by(group, "first", "size").agg("q", compared, "spent")
    words, numbers = names[compared].to_list(), names["n"].to_numpy()
    qs, ns, edits, others = [], [], [], []
    for _, first, size, q, asked, spent in groups.select(group, "first", "size", "q", compared, "spent").iter_rows():
        there = words[first : first + size]
        distance = process.cdist(asked, there, scorer=OSA.distance, score_cutoff=MAX_EDITS, dtype=np.uint8)
        before = np.asarray(spent, np.uint8)
        rows, columns = np.nonzero(distance + before[:, None] <= MAX_EDITS)
        if len(rows):
            qs.append(np.asarray(q, np.int32)[rows])
            ns.append(numbers[first + columns])
            edits.append(distance[rows, columns].astype(np.int8))
            others.append(before[rows].astype(np.int8))
    if not qs:
        return pl.DataFrame(schema=_FOUND_SCHEMA)
    here, other = ("epithet_edits", "genus_edits") if compared == "epithet" else ("genus_edits", "epithet_edits")
    columns_found = {"q": np.concatenate(qs), "n": np.concatenate(ns)}
    columns_found |= {here: np.concatenate(edits), other: np.concatenate(others)}
    return pl.DataFrame(columns_found).select(pl.col(c).cast(kind) for c, kind in _FOUND_SCHEMA.items())
