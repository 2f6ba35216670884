"""The boxes of a treemap: few enough to draw, and nothing below a clade is left out of the count."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tree import lineages, table

from linnaea.taxonomy.ranks import RANK_LABELS
from linnaea.taxonomy.tree import ROOT, TaxonTree
from linnaea.taxonomy.treemap import MOST_BOXES, choose_boxes, count_species, make_figure, make_treemap_page


@settings(deadline=None)
@given(lineages(), st.integers(1, 12), st.integers(1, 4))
def test_shown_and_summed_taxa_are_all_taxa(rows: list[tuple[str, ...]], most: int, most_children: int) -> None:
    tree = TaxonTree.of(table(rows))
    boxes = choose_boxes(tree, ROOT, most=most, most_children=most_children)
    shown = [node for node in boxes.node if node >= 0]
    assert len(shown) == len(set(shown))
    assert len(shown) + sum(boxes.n_summed) == tree.n_nodes
    assert len(boxes.node) <= most + 1
    assert all(parent < place for place, parent in enumerate(boxes.parent))


@settings(deadline=None)
@given(lineages())
def test_species_are_counted(rows: list[tuple[str, ...]]) -> None:
    tree = TaxonTree.of(table(rows))
    naive = [
        sum(int(tree.rank[n]) == 6 for n in range(*tree.subtree(node).indices(tree.n_nodes)))
        for node in range(tree.n_nodes)
    ]
    assert count_species(tree).tolist() == naive


def large_tree(n_genera: int, n_species: int) -> TaxonTree:
    genus = np.repeat([f"G{i:05}" for i in range(n_genera)], n_species)
    species = np.tile([f"s{i:04}" for i in range(n_species)], n_genera)
    ranks = {label: ["x"] * len(genus) for label in RANK_LABELS[:5]} | {"genus": genus, "species": species}
    return TaxonTree.of(pl.DataFrame(ranks))


def test_a_large_clade_is_summed_up_and_says_so() -> None:
    tree = large_tree(1000, 100)
    page = make_treemap_page(tree, ROOT, source="test 1")
    html = page.html()
    assert "boxes without inner ones combine" in html
    assert len(html) < 7_000_000
    boxes = choose_boxes(tree, ROOT)
    assert len(boxes.node) <= MOST_BOXES + 1
    assert sum(boxes.n_summed) > 90_000


def test_values_of_a_branch_add_up() -> None:
    figure = make_figure(tree := large_tree(30, 7), choose_boxes(tree, ROOT, most=50, most_children=10))
    values, parents = figure.data[0].values, figure.data[0].parents
    for box, value in enumerate(values):
        inside = [v for v, parent in zip(values, parents, strict=True) if parent == str(box)]
        assert not inside or sum(inside) == pytest.approx(value)
