"""Copies are dropped or grouped as the rule says, whatever the order of what was found."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linnaea.data.copies.hashes import DistinctHashes, Hashes
from linnaea.data.copies.links import connect
from linnaea.data.copies.rules import LINK_SCHEMA, DuplicateRule, link_near, settle_copies
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


def make_records(group: list[str], sources: str = "s", taxa: list[int] | None = None) -> pl.DataFrame:
    return pl.DataFrame({"source": [sources[row % len(sources)] for row in range(len(group))], "group": group,
                         "record_id": [f"r{row}" for row in range(len(group))],
                         "taxon_id": taxa or [0] * len(group)})  # fmt: skip


def no_hashes(rows: np.ndarray) -> Hashes:
    raise AssertionError("only near copies that are dropped need hashes")


def one_axis(place: list[int]) -> np.ndarray:
    """Hashes whose distance is the difference of their places: as many bits as the place says are set."""
    bits = np.array([[bit < n for bit in range(256)] for n in place])
    return np.packbits(bits, axis=1).view(np.uint64)


def near_pairs(place: list[int], threshold: int) -> list[tuple[int, int]]:
    return [(a, b) for b in range(len(place)) for a in range(b) if abs(place[a] - place[b]) <= threshold]


places = st.lists(st.integers(0, 120), min_size=N, max_size=N)


@settings(max_examples=200, deadline=None)
@given(places, st.sets(st.integers(0, N - 1)), st.lists(st.integers(0, 1), min_size=N, max_size=N))
def test_what_is_dropped_has_a_close_copy_of_the_same_name_that_is_kept(
    place: list[int], dead: set[int], taxa: list[int]
) -> None:
    """No two pictures of one name that are kept are close; whatever else is near is grouped, none of it lost."""
    alive, hashes = np.array([row not in dead for row in range(N)]), one_axis(place)
    rule, near = DuplicateRule(near="drop", threshold=20, drop_threshold=8), near_pairs(place, 20)
    done = settle_copies(make_records([""] * N, taxa=taxa), rule, make_links(near), alive, lambda rows: hashes[rows])
    dropped = set(done.rejected["row"])
    kept = set(np.flatnonzero(alive)) - dropped
    close = {(a, b) for a, b in near if abs(place[a] - place[b]) <= 8 and taxa[a] == taxa[b]}
    assert not dropped & dead
    assert not any(a in kept and b in kept for a, b in close)
    for row, reason in done.rejected.iter_rows():
        named = int(reason.partition(" -- of s r")[2].partition(",")[0])
        assert named in kept
        assert (named, row) in close, "it names the picture it is a copy of"
    clusters = naive_clusters(N, [(a, b) for a, b in near if alive[a] and alive[b]])
    together = {row for row in kept if any(clusters[row] == clusters[other] for other in kept - {row})}
    assert set(done.grouped["row"]) == together
    of_rows = dict(done.grouped.iter_rows())
    assert all((of_rows[a] == of_rows[b]) == (clusters[a] == clusters[b]) for a in together for b in together)


def test_a_species_at_a_fixed_camera_is_never_dropped() -> None:
    """One empty frame and forty with an animal, all near one another: other names are kept, and counted."""
    place = [0, *range(1, 41)]
    taxa = [0] + [1] * 20 + [2] * 20
    hashes = one_axis(place)
    links = make_links([(row - 1, row) for row in range(1, 41)])
    rule = DuplicateRule(near="drop")
    done = settle_copies(make_records([""] * 41, taxa=taxa), rule, links, np.ones(41, bool), lambda rows: hashes[rows])
    kept = set(range(41)) - set(done.rejected["row"])
    assert {taxa[row] for row in kept} == {0, 1, 2}
    assert done.n_under_other_names == 41
    assert set(done.grouped["row"]) == kept
    assert done.grouped["cluster"].n_unique() == 1
    assert rule.drop_threshold < rule.threshold


@settings(max_examples=200, deadline=None)
@given(links, groups, st.sampled_from(("s", "st")))
def test_groups_are_the_union_of_copies_and_individuals(
    pairs: list[tuple[int, int]], group: list[str], sources: str
) -> None:
    records = make_records(group, sources)
    done = settle_copies(records, DuplicateRule(near="group"), make_links(pairs), np.ones(N, dtype=bool), no_hashes)
    same = [(a, b) for a in range(N) for b in range(a) if group[a] and records.row(a)[:2] == records.row(b)[:2]]
    expected = naive_clusters(N, [*pairs, *same])
    copied = {expected[row] for pair in pairs for row in pair}
    assert dict(done.grouped.iter_rows()) == {row: name for row, name in enumerate(expected) if name in copied}
    assert done.rejected.is_empty()


def test_exact_copies_go_and_near_ones_stay_together() -> None:
    rule = DuplicateRule(exact="drop", near="group")
    found = pl.concat([make_links([(0, 1)], "exact"), make_links([(0, 1), (0, 2), (1, 3)])])
    done = settle_copies(make_records([""] * 4), rule, found, np.ones(4, dtype=bool), no_hashes)
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
    living = [at for at, row in enumerate(rows) if alive[row]]
    given = np.array([hash_of[row] for row in rows[living]], dtype=np.int64)
    _, number = np.unique(given, return_inverse=True)
    named = {name: at for at, name in enumerate(np.unique(given).tolist())}
    distinct = DistinctHashes(path=Path("unused"), rows=rows[living], number=number.astype(np.int64))
    used = [(a, b) for a, b in near if a in named and b in named]
    hits = pl.DataFrame([(named[a], named[b], 7) for a, b in used], schema=HIT_SCHEMA, orient="row")
    close = [
        (a, b)
        for a in range(N)
        for b in range(a + 1, N)
        if min(hash_of[a], hash_of[b]) >= 0 and alive[a] and alive[b]
        and (hash_of[a] == hash_of[b] or tuple(sorted((hash_of[a], hash_of[b]))) in used)
    ]  # fmt: skip
    found = link_near(distinct, [hits])
    together = settle_copies(make_records([""] * N), DuplicateRule(near="group"), found, alive, no_hashes)
    clusters = naive_clusters(N, close)
    in_pairs = {row for pair in close for row in pair}
    assert dict(together.grouped.iter_rows()) == {row: clusters[row] for row in in_pairs}


@pytest.mark.parametrize("threshold", [-1, 64])
def test_a_threshold_that_cannot_be_searched_is_refused(threshold: int) -> None:
    with pytest.raises(ValueError, match="between 0 and 63"):
        DuplicateRule(near="drop", threshold=threshold)
