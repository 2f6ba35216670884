"""The boxes of a treemap: few enough to draw, and nothing below a clade is left out of the count."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_tree import lineages, table

from linnaea.errors import UsageError
from linnaea.taxonomy.ranks import RANK_LABELS
from linnaea.taxonomy.tree import ROOT, TaxonTree
from linnaea.taxonomy.treemap import MOST_BOXES, choose_boxes, count_species, make_figure, make_treemap_page
from linnaea.taxonomy.treemap_picture import Rectangle, check_plot_path, lay_out, write_treemap_picture


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


def test_names_of_species_stand_on_two_lines_of_their_boxes() -> None:
    tree = TaxonTree.of(table([("Animalia", "", "", "", "Felidae", "Leopardus", "braccatus")]))
    treemap, sunburst = make_figure(tree, choose_boxes(tree, ROOT)).data
    assert (treemap.textinfo, treemap.text[-1]) == ("text", "Leopardus<br>braccatus")
    assert sunburst.labels[-1] == "Leopardus braccatus"


def test_values_of_a_branch_add_up() -> None:
    figure = make_figure(tree := large_tree(30, 7), choose_boxes(tree, ROOT, most=50, most_children=10))
    values, parents = figure.data[0].values, figure.data[0].parents
    for box, value in enumerate(values):
        inside = [v for v, parent in zip(values, parents, strict=True) if parent == str(box)]
        assert not inside or sum(inside) == pytest.approx(value)


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=30), st.floats(0.5, 12), st.floats(0.5, 12))
def test_rectangles_fill_their_place_in_proportion(sizes: list[int], width: float, height: float) -> None:
    sizes = sorted(sizes, reverse=True)
    found = lay_out(sizes, Rectangle(1.0, 2.0, width, height))
    for size, one in zip(sizes, found, strict=True):
        assert one.width * one.height == pytest.approx(size / sum(sizes) * width * height, rel=1e-6)
        assert one.x >= 1 - 1e-9
        assert one.x + one.width <= 1 + width + 1e-9
        assert one.y >= 2 - 1e-9
        assert one.y + one.height <= 2 + height + 1e-9


@pytest.mark.parametrize(("name", "starts"), [("t.png", b"\x89PNG"), ("t.SVG", b"<?xml"), ("t.pdf", b"%PDF")])
def test_a_picture_is_of_the_kind_that_its_ending_says(name: str, starts: bytes, tmp_path: Path) -> None:
    check_plot_path(tmp_path / name)
    write_treemap_picture(tmp_path / name, large_tree(5, 3), ROOT, source="a list")
    assert (tmp_path / name).read_bytes().startswith(starts)


def test_other_endings_are_refused() -> None:
    with pytest.raises(UsageError, match=r"tree\.gif: must end in \.html, \.png, \.svg, \.pdf"):
        check_plot_path(Path("tree.gif"))
