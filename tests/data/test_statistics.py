"""The numbers of a data set are those one would count by hand, and the report shows all of it on one page."""

import io
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from linnaea.cli import main
from linnaea.data.figures import CountedTree, count_tree, plot_icicle
from linnaea.data.report import MOST_BOXES, NOT_KNOWN, write_report
from linnaea.data.shards import TAXA_SCHEMA, DataSet
from linnaea.data.statistics import gini, load_licences, measure
from linnaea.page import Chart, Page, Section
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.tree import ROOT
from linnaea.taxonomy.treemap import choose_boxes, make_figure


@given(st.lists(st.integers(0, 1000), min_size=1, max_size=40).filter(any))
def test_gini_is_half_the_mean_difference_over_the_mean(counts: list[int]) -> None:
    values = np.array(counts, float)
    naive = np.abs(values[:, None] - values[None]).mean() / (2 * values.mean())
    assert gini(counts) == pytest.approx(naive, abs=1e-9)


def test_counts_are_those_one_counts_by_hand(dataset_dir: Path) -> None:
    dataset = DataSet.open(dataset_dir)
    statistics = measure(dataset)
    per_taxon = sorted((len(rows) for _, rows in dataset.index.group_by("taxon_id")), reverse=True)
    assert statistics.images_per_taxon.to_list() == per_taxon
    assert statistics.n_images == sum(per_taxon) == statistics.by_licence["images"].sum()
    assert statistics.images_per_taxon_quantiles[1.0] == per_taxon[0]
    assert statistics.taxa_by_size["with fewer than 5"] == sum(n < 5 for n in per_taxon)
    assert statistics.share_complete == 1.0
    assert statistics.by_split["images"].sum() == statistics.by_source["images"].sum() == len(dataset)
    assert statistics.sizes["width"].max() == dataset.index["width"].max()


def test_a_data_set_without_licences_has_none_stated(dataset_dir: Path) -> None:
    dataset = DataSet.open(dataset_dir)
    nowhere = replace(dataset, directory=dataset_dir / "nowhere")
    for table in (load_licences(dataset), load_licences(nowhere)):
        assert table["key"].to_list() == dataset.index["key"].to_list()
        assert set(table["licence_id"]) == {"none-stated"}


def test_stats_for_machines_are_json(dataset_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "stats", str(dataset_dir), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["images"] == len(DataSet.open(dataset_dir))
    assert {"splits", "sources", "ranks", "licences", "sizes", "images_per_taxon"} <= set(found)
    assert main(["data", "stats", str(dataset_dir)]) == 0
    assert "Gini" in capsys.readouterr().out


def test_the_tree_counts_every_photograph(dataset_dir: Path) -> None:
    dataset = DataSet.open(dataset_dir)
    counted = count_tree(dataset)
    assert counted.images[ROOT] == len(dataset)
    for rank in Rank:
        assert counted.images[counted.tree.rank == rank].sum() == len(dataset)
    assert all(np.diff(counted.left) >= 0)


def test_report_figures_and_datasheet_lie_beside_the_data_set(dataset_dir: Path) -> None:
    dataset = DataSet.open(dataset_dir)
    page = write_report(dataset, {"no such file": 2}).read_text()
    assert "http-equiv" in page
    assert 'src="http' not in page
    for words in ("Photographs", "The long tail", "Licences", "no such file", "icicle", "treemap"):
        assert words in page
    for name in ("icicle", "long_tail"):
        assert (dataset_dir / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    sheet = (dataset_dir / "datasheet.md").read_text()
    assert NOT_KNOWN in sheet
    assert f"{len(dataset):,} photographs" in sheet
    for heading in ("Motivation", "Composition", "Collection", "Preprocessing", "Uses", "Distribution", "Maintenance"):
        assert f"## {heading}" in sheet
    figures = {name: (dataset_dir / "figures" / f"{name}.png").read_bytes() for name in ("icicle", "long_tail")}
    assert write_report(dataset, {"no such file": 2}).read_text() == page
    assert {name: (dataset_dir / "figures" / f"{name}.png").read_bytes() for name in figures} == figures


def large_tree(n_genera: int, n_species: int) -> CountedTree:
    """A data set of many taxa, one to a thousand photographs each."""
    n_taxa = n_genera * n_species
    genus = np.repeat(np.arange(n_genera), n_species)
    ranks = {
        label: [f"{label} {number:06d}" for number in genus // step]
        for label, step in zip(RANK_LABELS[:6], (20_000, 5000, 1000, 200, 10, 1), strict=True)
    }
    species = [f"s{number:04d}" for number in np.tile(np.arange(n_species), n_genera)]
    taxa = pl.DataFrame({"taxon_id": range(n_taxa), **ranks, "species": species, "scientific_name": species,
                         "common_name": ""}, schema_overrides=TAXA_SCHEMA)  # fmt: skip
    counts = np.random.default_rng(0).zipf(1.8, n_taxa).clip(1, 1000)
    index = pl.DataFrame({"taxon_id": np.repeat(np.arange(n_taxa, dtype=np.int32), counts)})
    return count_tree(DataSet(Path(), index, taxa))


def test_the_tree_of_400_000_taxa_fits_a_page() -> None:
    counted = large_tree(40_000, 10)
    start = time.process_time()
    boxes = choose_boxes(counted.tree, ROOT, counts=counted.images, most=MOST_BOXES)
    figure = make_figure(counted.tree, boxes, unit="photographs", icicle=True)
    page = Page("many", sections=[Section("tree", [Chart(figure, "tree")])]).html()
    assert len(page) < 8_000_000
    plot_icicle(counted).savefig(io.BytesIO(), dpi=60)
    assert time.process_time() - start < 60


def test_a_box_holds_what_is_in_it() -> None:
    counted = large_tree(30, 4)
    boxes = choose_boxes(counted.tree, ROOT, counts=counted.images, most=60, most_children=7)
    inside = [0] * len(boxes.node)
    for size, parent in zip(boxes.size, boxes.parent, strict=True):
        if parent >= 0:
            inside[parent] += size
    assert boxes.size[0] == counted.images[ROOT]
    assert all(total in (0, size) for total, size in zip(inside, boxes.size, strict=True))
