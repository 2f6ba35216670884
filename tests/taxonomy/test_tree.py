"""The tree as arrays says the same as a naive tree of tuples."""

import pickle

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from linnaea.errors import LinnaeaError
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.remarks import is_class_of_its_own
from linnaea.taxonomy.taxon import Taxon
from linnaea.taxonomy.tree import ROOT, RankGroups, TaxonTree, depth_first, lca_heights, number_lineages

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


def prefix(row: Lineage, rank: Rank) -> Lineage:
    return row[: rank + 1]


@given(lineages())
def test_lineages_are_numbered_by_what_they_share(rows: list[Lineage]) -> None:
    number = number_lineages(rows)
    for rank in Rank:
        named = [i for i, row in enumerate(rows) if row[rank]]
        assert np.flatnonzero(number[:, rank] >= 0).tolist() == named
        assert list(dict.fromkeys(number[named, rank])) == list(range(len({prefix(rows[i], rank) for i in named})))
        for i in named:
            same = [j for j in named if prefix(rows[j], rank) == prefix(rows[i], rank)]
            assert np.flatnonzero(number[:, rank] == number[i, rank]).tolist() == same


@given(lineages())
def test_two_lineages_meet_where_naive_ones_do(rows: list[Lineage]) -> None:
    number = number_lineages(rows)
    a, b = (grid.ravel() for grid in np.meshgrid(range(len(rows)), range(len(rows))))
    for i, j, height in zip(a, b, lca_heights(number[a], number[b]).tolist(), strict=True):
        common = [rank for rank in Rank if rows[i][rank] and prefix(rows[i], rank) == prefix(rows[j], rank)]
        assert height == (Rank.SPECIES - max(common) if common else 7)


@settings(deadline=None)
@given(lineages(), st.integers(0, 2**32 - 1))
def test_groups_and_their_sums_equal_a_loop(rows: list[Lineage], seed: int) -> None:
    groups = RankGroups.of(table(rows))
    values = np.random.default_rng(seed).random((3, len(rows)))
    every = groups.sums(values)
    above = [0] * len(rows)
    for rank in Rank:
        keys = list(dict.fromkeys(prefix(row, rank) for row in rows))
        group_of = [keys.index(prefix(row, rank)) for row in rows]
        naive = np.zeros((3, len(keys)))
        np.add.at(naive, (slice(None), group_of), values)
        np.testing.assert_allclose(every[rank], naive, rtol=1e-12)
        assert groups.of_rows(rank).tolist() == group_of
        assert groups.parents(rank).tolist() == [above[group_of.index(number)] for number in range(len(keys))]
        for number in range(len(keys)):
            inside = [i for i, own in enumerate(group_of) if own == number]
            assert list(range(*groups.rows(rank, number))) == inside
            assert groups.edges(rank)[number : number + 2].tolist() == [inside[0], inside[-1] + 1]
            assert groups.children(rank, groups.rows(rank, number)) == (number, number + 1)
        above = group_of
    assert set(groups.sums(values, Rank.GENUS)) == {Rank.GENUS, Rank.SPECIES}


def test_labels_without_a_species_are_told_apart_by_their_common_names() -> None:
    rows = [(*MAGPIE[:6], "", "magpie"), (*MAGPIE[:6], "", "pie"), (*MAGPIE, "one"), (*MAGPIE, "two")]
    taxa = pl.DataFrame(rows, schema=[*RANK_LABELS, "common_name"], orient="row")
    groups = RankGroups.of(taxa)
    assert groups.of_rows(Rank.SPECIES).tolist() == [0, 1, 2, 2]
    assert groups.of_rows(Rank.GENUS).tolist() == [0, 0, 0, 0]
    assert RankGroups.of(taxa.drop("common_name")).of_rows(Rank.SPECIES).tolist() == [0, 0, 1, 1]


def test_classes_of_one_species_are_apart_and_its_names_in_languages_are_not() -> None:
    names = ["", "Danaus plexippus adult", "Danaus plexippus larva", "Monarch", "Monarch butterfly", "Queen"]
    rows = [("A", "B", "C", "D", "E", "Danaus", "plexippus")] * 5 + [("A", "B", "C", "D", "E", "Danaus", "gilippus")]
    taxa = pl.DataFrame(rows, schema=RANK_LABELS, orient="row").with_columns(pl.Series("common_name", names))
    groups = RankGroups.of(taxa)
    assert groups.of_rows(Rank.SPECIES).tolist() == [0, 1, 2, 3, 3, 4]
    assert groups.of_rows(Rank.GENUS).tolist() == [0] * 6
    classes = [is_class_of_its_own(Taxon(lineage, name)) for lineage, name in zip(rows, names, strict=True)]
    assert classes == [False, True, True, False, False, False], "the same rule for a taxon"


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
    number = number_lineages([MAGPIE, YELLOW_BILL, JAY, SPRUCE])
    assert lca_heights(number[:1], number).tolist() == [0, 1, 2, 7]
    tree = TaxonTree.of(table([JAY]))
    species = int(tree.lineage[0, Rank.SPECIES])
    assert tree.scientific_names([species, tree.parent[species]]).to_list() == ["Garrulus glandarius", "Garrulus"]


def test_homonyms_under_other_parents_are_other_nodes() -> None:
    moth = ("Animalia", "Arthropoda", "Insecta", "Lepidoptera", "Noctuidae", "Oenanthe", "")
    tree = TaxonTree.of(
        table(sorted([("Plantae", "Tracheophyta", "", "Apiales", "Apiaceae", "Oenanthe", "aquatica"), moth]))
    )
    assert tree.name.to_list().count("Oenanthe") == 2
    assert tree.rank[tree.parent[tree.name.to_list().index("Apiales")]] == Rank.PHYLUM


def test_nothing_in_nothing_out() -> None:
    tree = TaxonTree.of(table([]))
    assert (tree.n_leaves, tree.n_nodes) == (0, 1)
    assert RankGroups.of(table([])).sums(np.zeros((2, 0)))[Rank.GENUS].shape == (2, 0)
    assert number_lineages([]).shape == (0, 7)
    assert tree.children(ROOT).tolist() == []


def test_a_table_without_a_rank_is_refused() -> None:
    with pytest.raises(LinnaeaError, match="'genus'"):
        TaxonTree.of(table([MAGPIE]).drop("genus"))


def test_null_is_the_same_as_no_name_and_a_tree_can_be_sent_to_another_process() -> None:
    tree = TaxonTree.of(table([("Plantae", *[None] * 6)]))  # type: ignore[list-item]
    again = pickle.loads(pickle.dumps(tree))
    assert again.name.to_list() == tree.name.to_list() == ["", "Plantae"]
