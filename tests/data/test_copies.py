"""Copies are dropped or grouped as the rule says, whatever the order of what was found."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linnaea.data.copies.hashes import DistinctHashes, HashTable
from linnaea.data.copies.rules import LINK_SCHEMA, DuplicateRule, connect, link_near, settle_copies
from linnaea.data.copies.search import HIT_SCHEMA

N = 12
links = st.lists(
    st.tuples(st.integers(0, N - 1), st.integers(0, N - 1)).filter(lambda pair: pair[0] < pair[1]), max_size=14
)
groups = st.lists(st.sampled_from(("", "", "", "a", "b")), min_size=N, max_size=N)


def naive_clusters(n: int, pairs: list[tuple[int, int]]) -> list[int]:
    """Every row takes the lowest name among its neighbours, until nothing changes."""
    names = list(range(n))
    changed = True
    while changed:
        changed = False
        for a, b in pairs:
            low = min(names[a], names[b])
            changed |= names[a] != low or names[b] != low
            names[a] = names[b] = low
    return names


def arrays(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    table = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return table[:, 0], table[:, 1]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, N - 1), st.integers(0, N - 1)), max_size=20), st.randoms(use_true_random=False)
)
def test_clusters_are_those_of_the_naive_way_in_any_order(pairs: list[tuple[int, int]], random: object) -> None:
    assert connect(N, [arrays(pairs)]).tolist() == naive_clusters(N, pairs)
    shuffled = [pair[:: random.choice((1, -1))] for pair in pairs]  # type: ignore[attr-defined]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert connect(N, [arrays(shuffled[:5]), arrays(shuffled[5:])]).tolist() == naive_clusters(N, pairs)


def make_links(pairs: list[tuple[int, int]], kind: str = "near") -> pl.DataFrame:
    return pl.DataFrame([(a, b, 7, kind) for a, b in pairs], schema=LINK_SCHEMA, orient="row")


def make_records(group: list[str], sources: str = "s") -> pl.DataFrame:
    return pl.DataFrame({"source": [sources[row % len(sources)] for row in range(len(group))], "group": group,
                         "record_id": [f"r{row}" for row in range(len(group))]})  # fmt: skip


@settings(max_examples=200, deadline=None)
@given(links, st.sets(st.integers(0, N - 1)))
def test_what_is_dropped_has_a_copy_that_is_kept_and_no_two_that_are_kept_are_copies(
    pairs: list[tuple[int, int]], dead: set[int]
) -> None:
    alive = np.array([row not in dead for row in range(N)])
    done = settle_copies(make_records([""] * N), DuplicateRule(near="drop"), make_links(pairs), alive)
    dropped = set(done.rejected["row"])
    kept = set(np.flatnonzero(alive)) - dropped
    assert not dropped & dead
    assert not any(a in kept and b in kept for a, b in pairs)
    for row, reason in done.rejected.iter_rows():
        named = int(reason.partition(" -- of s r")[2].partition(",")[0])
        assert named in kept
        assert (named, row) in pairs, "it names the picture it is a copy of, the first by key"
    assert done.grouped.is_empty()


@settings(max_examples=200, deadline=None)
@given(links, groups, st.sampled_from(("s", "st")))
def test_groups_are_the_union_of_copies_and_individuals(
    pairs: list[tuple[int, int]], group: list[str], sources: str
) -> None:
    records = make_records(group, sources)
    done = settle_copies(records, DuplicateRule(near="group"), make_links(pairs), np.ones(N, dtype=bool))
    same = [(a, b) for a in range(N) for b in range(a) if group[a] and records.row(a)[:2] == records.row(b)[:2]]
    expected = naive_clusters(N, [*pairs, *same])
    copied = {expected[row] for pair in pairs for row in pair}
    assert dict(done.grouped.iter_rows()) == {row: name for row, name in enumerate(expected) if name in copied}
    assert done.rejected.is_empty()


def test_exact_copies_go_and_near_ones_stay_together() -> None:
    rule = DuplicateRule(exact="drop", near="group")
    found = pl.concat([make_links([(0, 1)], "exact"), make_links([(0, 1), (0, 2), (1, 3)])])
    done = settle_copies(make_records([""] * 4), rule, found, np.ones(4, dtype=bool))
    assert done.rejected.rows() == [(1, "exact copy -- of s r0")]
    assert done.grouped.rows() == [(0, 0), (2, 0)], "what was linked through the dropped one alone is no cluster"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from((-1, 0, 1, 2, 3, 4)), min_size=N, max_size=N), st.sets(st.integers(0, N - 1)),
       st.sets(st.tuples(st.integers(0, 4), st.integers(0, 4)).filter(lambda pair: pair[0] < pair[1])))  # fmt: skip
def test_pictures_with_the_same_hash_are_treated_as_if_each_had_been_searched_for(
    hash_of: list[int], dead: set[int], near: set[tuple[int, int]]
) -> None:
    """Whatever stands for its like: what is kept and what is grouped is what all pairs of pictures would give."""
    alive = np.array([row not in dead for row in range(N)])
    rows = np.array([row for row in range(N) if hash_of[row] >= 0], dtype=np.int64)
    table = HashTable(parts=(), rows=rows, path=Path("unused"), n_variants=1)
    number = np.array([hash_of[row] for row in rows], dtype=np.int64)
    distinct = DistinctHashes(table=table, path=Path("unused"), number=number)
    used = [(a, b) for a, b in near if b <= number.max(initial=-1)]
    hits = pl.DataFrame([(a, b, 7) for a, b in used], schema=HIT_SCHEMA, orient="row")
    found = link_near(distinct, [hits], alive)
    close = [
        (a, b)
        for a in range(N)
        for b in range(a + 1, N)
        if min(hash_of[a], hash_of[b]) >= 0 and alive[a] and alive[b]
        and (hash_of[a] == hash_of[b] or tuple(sorted((hash_of[a], hash_of[b]))) in used)
    ]  # fmt: skip
    done = settle_copies(make_records([""] * N), DuplicateRule(near="drop"), found, alive)
    dropped: set[int] = set()
    for row in range(N):
        dropped |= {row} if any(b == row and a not in dropped for a, b in close) else set()
    assert set(done.rejected["row"]) == dropped
    named = {row: int(reason.partition(" -- of s r")[2].partition(",")[0]) for row, reason in done.rejected.iter_rows()}
    assert all((kept, row) in close and kept not in dropped for row, kept in named.items())
    together = settle_copies(make_records([""] * N), DuplicateRule(near="group"), found, alive)
    clusters = naive_clusters(N, close)
    in_pairs = {row for pair in close for row in pair}
    assert dict(together.grouped.iter_rows()) == {row: clusters[row] for row in in_pairs}


@pytest.mark.parametrize("threshold", [-1, 64])
def test_a_threshold_that_cannot_be_searched_is_refused(threshold: int) -> None:
    with pytest.raises(ValueError, match="between 0 and 63"):
        DuplicateRule(near="drop", threshold=threshold)
