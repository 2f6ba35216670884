"""Find names that are one or two edits away, and tell a slip from the name of another species."""

import numpy as np
import polars as pl
from rapidfuzz import process
from rapidfuzz.distance import OSA


def honours_no_author() -> pl.Expr:
    """Return whether a match is allowed: a word with a capital may be an author, and is not an epithet made of one."""
    made_of_name = r"(?:i|ae|orum|arum|an(?:us|a|um)|ensis|ense)$"
    honours = pl.col("epithet").str.contains(made_of_name) & ~pl.col("asked").str.contains(made_of_name)
    return ~(pl.col("capital") & honours)


def is_slip() -> pl.Expr:
    """Return whether the edits are a slip of the pen, and not those from one name to another.

    The columns g and e are the genus and epithet as written, and genus and epithet those that were found. A genus that
    exists is not misspelt; in short words an edit makes another word; two edits want long words that begin alike; and
    some edits turn one Latin element into another.
    """
    g, e = pl.col("g").str.len_chars(), pl.col("e").str.len_chars()
    in_genus, in_epithet = pl.col("genus_edits"), pl.col("epithet_edits")
    same_start = pl.col("e").str.head(2) == pl.col("epithet").str.head(2)
    same_genus_start = pl.col("g").str.head(1) == pl.col("genus").str.head(1)
    epithet = (
        (in_epithet == 0)
        | ((in_epithet == 1) & (e >= 5))
        | ((in_epithet == 2) & (in_genus == 0) & (e >= 10) & same_start)
    )
    genus = (in_genus == 0) | (
        ~pl.col("known")
        & (((in_genus == 1) & (g >= 5) & same_genus_start) | ((in_genus == 2) & (g >= 9) & same_genus_start))
    )
    other_element = pl.lit(False)
    for one, other in _ELEMENTS:
        for a, b in ((one, other), (other, one)):
            other_element = other_element | (
                pl.col("e").str.contains(a, literal=True) & pl.col("epithet").str.contains(b, literal=True)
            )
    return epithet & genus & ~other_element


_ELEMENTS = (("micr", "macr"), ("flor", "foli"), ("hyper", "hypo"), ("alb", "alp"), ("major", "minor"))
"""Pairs of word elements that are few edits apart but have different meanings."""


# Misspelt names.
#
# Comparing all pairs would take 10^11 comparisons. The two edits of a binomial are both in the genus, both in the
# epithet, or one in each. So it is enough to compare (1) epithets within the genus as written, (2) genera that have
# the epithet as written, (3) epithets within genera one edit away. Genera one edit away share a word with one letter
# deleted (the symmetric deletes of SymSpell). An edit is an insertion, a deletion, a substitution or a swap of
# neighbours.

MAX_EDITS = 2
_FOUND_SCHEMA = {"q": pl.Int32, "n": pl.Int32, "genus_edits": pl.Int8, "epithet_edits": pl.Int8}


def near_words(words: pl.Series, vocabulary: pl.Series) -> pl.DataFrame:
    """Return word, near: all pairs exactly one edit apart. Both inputs contain distinct words."""
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
"""The number of words up to which comparing with the whole vocabulary is faster."""


def _near_few_words(words: pl.Series, vocabulary: pl.Series) -> pl.DataFrame:
    asked, there = words.to_list(), vocabulary.to_list()
    if not asked or not there:
        return pl.DataFrame(schema={"word": pl.String, "near": pl.String})
    distance = process.cdist(asked, there, scorer=OSA.distance, score_cutoff=1, dtype=np.uint8)
    rows, columns = np.nonzero(distance == 1)
    return pl.DataFrame({"word": words.gather(pl.Series(rows)), "near": vocabulary.gather(pl.Series(columns))})


def _with_deletes(words: pl.Series, name: str) -> pl.DataFrame:
    """Pair each word with itself, and with itself without each one of its letters."""
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
    """Return the names within two edits of each query.

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
