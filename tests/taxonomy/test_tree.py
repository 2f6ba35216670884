"""The tree as arrays says the same as a naive tree of tuples."""

import math
import pickle

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linnaea.errors import LinnaeaError
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.tree import ROOT, TaxonTree, depth_first

Lineage = tuple[str, ...]


def table(rows: list[Lineage]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=dict.fromkeys(RANK_LABELS, pl.String), orient="row")


@st.composite
def lineages(draw: st.DrawFn) -> list[Lineage]:
    """Rows with few names, so that homonyms, missing ranks and repeated rows are common."""
    names = st.sampled_from(["", "", "a", "b", "c"])
    rows = draw(st.lists(st.tuples(*[names] * 7), min_size=1, max_size=24))
    return sorted(rows)


def prefixes(row: Lineage) -> list[Lineage]:
    """Every named ancestor of a row and the row itself, as tuples that end with the own name; the root is ()."""
    return [(), *(row[: i + 1] for i in range(7) if row[i])]


def node_of(tree: TaxonTree, rows: list[Lineage], prefix: Lineage) -> int:
    leaf = next(i for i, row in enumerate(rows) if row[: len(prefix)] == prefix)
    return int(tree.lineage[leaf, len(prefix) - 1]) if prefix else ROOT


@settings(deadline=None)
@given(lineages())
def test_nodes_are_the_distinct_named_prefixes_in_preorder(rows: list[Lineage]) -> None:
    tree = TaxonTree.of(table(rows))
    expected = {prefix for row in rows for prefix in prefixes(row)}
    assert tree.n_nodes == len(expected)
    for prefix in expected:
        node = node_of(tree, rows, prefix)
        assert tree.name[node] == (prefix[-1] if prefix else "")
        assert tree.rank[node] == len(prefix) - 1
        below = [i for i, row in enumerate(rows) if row[: len(prefix)] == prefix]
        assert list(range(*tree.leaves(node).indices(len(rows)))) == below
    assert all(tree.parent[node] < node for node in range(tree.n_nodes))


@settings(deadline=None)
@given(lineages())
def test_parents_children_and_ancestors_agree(rows: list[Lineage]) -> None:
    tree = TaxonTree.of(table(rows))
    for row in rows:
        path = [node_of(tree, rows, prefix) for prefix in prefixes(row)]
        assert tree.ancestors(path[-1]) == path[:-1]
        assert tree.depth[path[-1]] == len(path) - 1
    for node in range(tree.n_nodes):
        children = [other for other in range(tree.n_nodes) if tree.parent[other] == node]
        assert tree.children(node).tolist() == children
        inside = [other for other in range(tree.n_nodes) if node == other or node in tree.ancestors(other)]
        assert list(range(*tree.subtree(node).indices(tree.n_nodes))) == inside


@settings(deadline=None)
@given(lineages())
def test_common_ancestor_and_distance_equal_the_naive_ones(rows: list[Lineage]) -> None:
    tree = TaxonTree.of(table(rows))
    nodes = np.arange(tree.n_nodes)
    a, b = (grid.ravel() for grid in np.meshgrid(nodes, nodes))
    met, distance, height = tree.lca(a, b), tree.tree_distance(a, b), tree.lca_height(a, b)
    for i, (one, other) in enumerate(zip(a.tolist(), b.tolist(), strict=True)):
        path, path_other = [*tree.ancestors(one), one], [*tree.ancestors(other), other]
        common = [node for node in path if node in path_other]
        assert met[i] == common[-1]
        assert distance[i] == len(path) + len(path_other) - 2 * len(common)
        assert height[i] == 6 - tree.rank[common[-1]]


@settings(deadline=None)
@given(lineages())
def test_ancestor_at_a_rank_is_the_nearest_at_or_above(rows: list[Lineage]) -> None:
    tree = TaxonTree.of(table(rows))
    for rank in Rank:
        found = tree.ancestor_at(np.arange(tree.n_nodes), rank)
        for node in range(tree.n_nodes):
            path = [*tree.ancestors(node), node]
            assert found[node] == [other for other in path if tree.rank[other] <= rank][-1]


@settings(deadline=None)
@given(lineages(), st.integers(0, 2**32 - 1))
def test_group_sums_equal_a_loop(rows: list[Lineage], seed: int) -> None:
    tree = TaxonTree.of(table(rows))
    scores = np.random.default_rng(seed).random((3, len(rows)))
    every = tree.all_group_sums(scores)
    for rank in Rank:
        keys = list(dict.fromkeys(row[: rank + 1] for row in rows))
        naive = np.array(
            [[sum(s[i] for i, row in enumerate(rows) if row[: rank + 1] == key) for key in keys] for s in scores]
        )
        np.testing.assert_allclose(tree.group_sums(scores, rank), naive, rtol=1e-12)
        np.testing.assert_allclose(every[rank], naive, rtol=1e-12)
        np.testing.assert_allclose(np.exp(tree.group_log_sums(np.log(scores), rank)), naive, rtol=1e-9)
        assert tree.group_of_leaf(rank).tolist() == [keys.index(row[: rank + 1]) for row in rows]
        np.testing.assert_array_equal(tree.groups(rank)[tree.group_of_leaf(rank)], tree.node_of_leaf(rank))


@settings(deadline=None)
@given(lineages(), st.data())
def test_a_restricted_tree_is_the_tree_of_the_restricted_table(rows: list[Lineage], data: st.DataObject) -> None:
    kept = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))))
    restricted = TaxonTree.of(table(rows)).restrict(kept)
    expected = TaxonTree.of(table([row for row, keep in zip(rows, kept, strict=True) if keep]))
    for field in ("parent", "rank", "depth", "first_leaf", "last_leaf", "lineage"):
        np.testing.assert_array_equal(getattr(restricted, field), getattr(expected, field), field)
    assert restricted.name.to_list() == expected.name.to_list()


@settings(deadline=None)
@given(lineages(), st.randoms(use_true_random=False))
def test_rows_in_another_order_are_refused_or_the_same_tree(rows: list[Lineage], random: object) -> None:
    shuffled = rows.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    runs = [
        [row[: r + 1] for i, row in enumerate(shuffled) if i == 0 or row[: r + 1] != shuffled[i - 1][: r + 1]]
        for r in range(7)
    ]
    if all(len(run) == len(set(run)) for run in runs):
        assert TaxonTree.of(table(shuffled)).n_nodes == TaxonTree.of(table(rows)).n_nodes
    else:
        with pytest.raises(LinnaeaError, match="depth-first"):
            TaxonTree.of(table(shuffled))
    assert depth_first(table(shuffled)).rows() == rows


MAGPIE = ("Animalia", "Chordata", "Aves", "Passeriformes", "Corvidae", "Pica", "pica")
YELLOW_BILL = (*MAGPIE[:6], "nuttalli")
JAY = (*MAGPIE[:5], "Garrulus", "glandarius")
SPRUCE = ("Plantae", "Tracheophyta", "Pinopsida", "Pinales", "Pinaceae", "Picea", "abies")


def test_the_severity_of_a_mistake() -> None:
    rows = sorted([MAGPIE, YELLOW_BILL, JAY, SPRUCE])
    tree = TaxonTree.of(table(rows))
    nodes = tree.node_of_leaf()
    at = {row: nodes[i] for i, row in enumerate(rows)}
    assert tree.lca_height(at[MAGPIE], [at[r] for r in (MAGPIE, YELLOW_BILL, JAY, SPRUCE)]).tolist() == [0, 1, 2, 7]
    assert tree.scientific_names([at[JAY], tree.parent[at[JAY]]]).to_list() == ["Garrulus glandarius", "Garrulus"]


def test_homonyms_under_other_parents_are_other_nodes() -> None:
    moth = ("Animalia", "Arthropoda", "Insecta", "Lepidoptera", "Noctuidae", "Oenanthe", "")
    tree = TaxonTree.of(
        table(sorted([("Plantae", "Tracheophyta", "", "Apiales", "Apiaceae", "Oenanthe", "aquatica"), moth]))
    )
    assert tree.name.to_list().count("Oenanthe") == 2
    assert tree.rank[tree.parent[tree.name.to_list().index("Apiales")]] == Rank.PHYLUM


def test_half_precision_is_summed_in_single() -> None:
    rows = [(*MAGPIE[:6], f"s{i:05}") for i in range(20_000)]
    tree = TaxonTree.of(table(rows))
    total = tree.group_sums(np.full(20_000, 1.0, np.float16), Rank.GENUS)
    assert total.dtype == np.float32
    assert total.tolist() == [20_000.0]


def test_log_sums_survive_what_overflows() -> None:
    tree = TaxonTree.of(table(sorted([MAGPIE, YELLOW_BILL, SPRUCE])))
    got = tree.group_log_sums([[-1e4, -1e4, -math.inf], [1e4, 1e4, 0.0]], Rank.GENUS)
    np.testing.assert_allclose(got, [[-1e4 + math.log(2), -math.inf], [1e4 + math.log(2), 0.0]])


def test_nothing_in_nothing_out() -> None:
    tree = TaxonTree.of(table([]))
    assert (tree.n_leaves, tree.n_nodes) == (0, 1)
    assert tree.group_sums(np.zeros((2, 0)), Rank.GENUS).shape == (2, 0)
    assert tree.lca(ROOT, ROOT) == ROOT
    assert tree.children(ROOT).tolist() == []


def test_wrong_tables_and_scores_are_said() -> None:
    with pytest.raises(LinnaeaError, match="'genus'"):
        TaxonTree.of(table([MAGPIE]).drop("genus"))
    with pytest.raises(ValueError, match="2 leaves"):
        TaxonTree.of(table(sorted([MAGPIE, JAY]))).group_sums(np.zeros(3), Rank.GENUS)


def test_null_is_the_same_as_no_name_and_a_tree_can_be_sent_to_another_process() -> None:
    tree = TaxonTree.of(table([("Plantae", *[None] * 6)]))  # type: ignore[list-item]
    again = pickle.loads(pickle.dumps(tree))
    assert again.name.to_list() == tree.name.to_list() == ["", "Plantae"]
