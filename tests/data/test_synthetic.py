"""The artificial tree of life is a tree, looks like one, and is the same wherever it is drawn."""

import hashlib
import os
import re
import subprocess
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np
import polars as pl
import pytest

from linnaea.data import synthetic
from linnaea.data.drawing import BODY_PLANS, ORNAMENTS, Traits, _draw_organism, draw_photograph
from linnaea.data.sources.folder import FolderSource
from linnaea.data.synthetic import SyntheticConfig, make_species, synthesize
from linnaea.errors import LinnaeaError
from linnaea.taxonomy.ranks import RANK_LABELS, Rank
from linnaea.taxonomy.taxon import Taxon

SMALL = SyntheticConfig(n_species=16, n_images=6, size=40)


def checksums(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_default_tree_is_as_large_as_promised() -> None:
    species = make_species(SyntheticConfig())
    lineages = [one.taxon.lineage for one in species]
    assert len(set(lineages)) >= 200
    assert len({lineage[: Rank.GENUS + 1] for lineage in lineages}) >= 40
    assert len({lineage[: Rank.FAMILY + 1] for lineage in lineages}) >= 12
    assert all(all(lineage) for lineage in lineages)
    for rank in Rank:
        names = {lineage[: rank + 1] for lineage in lineages}
        assert len({name[-1] for name in names}) == len(names), f"a {rank.label} name is given twice"
    assert len({one.taxon.common_name for one in species}) == len(species)
    assert lineages == sorted(lineages)


def test_unseen_species_have_seen_relatives_in_their_genus() -> None:
    species = make_species(SyntheticConfig())
    seen_genera = [one.taxon.genus for one in species if not one.unseen]
    unseen = [one for one in species if one.unseen]
    assert len(unseen) == len(species) // 8
    assert all(seen_genera.count(one.taxon.genus) >= 2 for one in unseen)
    assert len({one.taxon[Rank.FAMILY] for one in unseen}) >= 12


@pytest.mark.parametrize("n_species", [8, 9, 17, 100, 5000])
@pytest.mark.parametrize("seed", [0, 1])
def test_trees_of_any_size(n_species: int, seed: int) -> None:
    species = make_species(SyntheticConfig(n_species=n_species, seed=seed))
    assert len({one.taxon.lineage for one in species}) == n_species
    assert len({one.taxon.common_name for one in species}) == n_species
    assert len({one.traits for one in species}) == n_species
    seen = Counter(one.taxon.genus for one in species if not one.unseen)
    unseen = [one.taxon.genus for one in species if one.unseen]
    assert unseen
    assert all(seen[genus] >= 2 for genus in unseen)


def test_another_seed_grows_another_tree() -> None:
    trees = [{one.taxon.scientific_name for one in make_species(SyntheticConfig(seed=seed))} for seed in (0, 1)]
    assert not trees[0] & trees[1]


def test_names_end_as_nomenclature_asks() -> None:
    for one in make_species(SyntheticConfig()):
        animal = one.taxon[Rank.KINGDOM] == "Animaria"
        assert one.taxon[Rank.FAMILY].endswith("idae" if animal else "aceae")
        assert one.taxon[Rank.ORDER].endswith("iformes" if animal else "ales")
        assert re.fullmatch(r"[A-Z][a-z]{3,} [a-z]{4,}", one.taxon.scientific_name)
        assert Taxon.of(dict(zip(RANK_LABELS, one.taxon.lineage, strict=True)), common_name=one.taxon.common_name)


def test_too_small_a_tree_is_refused() -> None:
    with pytest.raises(ValueError, match="at least"):
        SyntheticConfig(n_species=3)


def test_the_drawing_does_not_depend_on_the_workers(tmp_path: Path) -> None:
    synthesize(tmp_path / "one", SMALL, n_workers=1)
    synthesize(tmp_path / "two", SMALL, n_workers=2)
    assert checksums(tmp_path / "one") == checksums(tmp_path / "two")
    assert checksums(tmp_path / "one") != {}


def test_the_drawing_does_not_depend_on_the_processor(tmp_path: Path) -> None:
    """Without SIMD (where these variables can switch it off) every byte is the same."""
    program = (
        "import sys; from pathlib import Path; from linnaea.data.synthetic import SyntheticConfig, synthesize;"
        "synthesize(Path(sys.argv[1]), SyntheticConfig(n_species=30, n_images=4, size=64), n_workers=1)"
    )
    plain = {**os.environ, "OPENCV_CPU_DISABLE": "AVX2", "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4"}
    for name, environment in (("simd", dict(os.environ)), ("plain", plain)):
        subprocess.run([sys.executable, "-c", program, tmp_path / name], env=environment, check=True)
    assert checksums(tmp_path / "simd") == checksums(tmp_path / "plain")
    assert len(checksums(tmp_path / "simd")) == 30 * 4 + 2


def test_an_interrupted_drawing_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synthesize(tmp_path / "whole", SMALL, n_workers=1)
    drawn = []

    def interrupted(*args: object) -> object:
        drawn.append(args)
        if len(drawn) == 40:
            raise KeyboardInterrupt
        return draw_photograph(*args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(synthetic, "draw_photograph", interrupted)
        with pytest.raises(KeyboardInterrupt):
            synthesize(tmp_path / "resumed", SMALL, n_workers=1)
    assert not (tmp_path / "resumed" / "metadata.csv").exists()
    left_behind = next((tmp_path / "resumed").glob("0*")) / ".004.jpg.1.partial"
    left_behind.write_bytes(b"half a picture of a run that was killed")
    synthesize(tmp_path / "resumed", SMALL, n_workers=1)
    assert checksums(tmp_path / "resumed") == checksums(tmp_path / "whole")


def test_a_finished_drawing_is_left_alone_and_other_folders_too(tmp_path: Path) -> None:
    synthesize(tmp_path / "mine", SMALL, n_workers=1)
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "mine").rglob("*.jpg")}
    synthesize(tmp_path / "mine", SMALL, n_workers=1)
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "mine").rglob("*.jpg")}
    with pytest.raises(LinnaeaError, match="other inputs or options"):
        synthesize(tmp_path / "mine", SyntheticConfig(n_species=9), n_workers=1)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").touch()
    with pytest.raises(LinnaeaError, match="not empty"):
        synthesize(tmp_path / "thesis", SMALL, n_workers=1)


def test_table_and_folders_say_the_same(photographs: Path) -> None:
    table = pl.read_csv(photographs / "metadata.csv")
    records = {record.record_id: record for record in FolderSource(root=photographs).records()}
    assert set(table["filepath"]) == set(records)
    for row in table.iter_rows(named=True):
        assert records[row["filepath"]].taxon.lineage == tuple(row[label] for label in RANK_LABELS)  # type: ignore[union-attr]
    assert {"train", "val", "test", "unseen"} == set(table["split"])
    by_species = table.group_by("scientific_name").agg(pl.col("split").unique())
    assert all(splits == ["unseen"] or "unseen" not in splits for splits in by_species["split"].to_list())


def look(traits: Traits, number: int) -> np.ndarray:
    """A coarse description of a picture: a histogram of hue and saturation of its middle."""
    picture = draw_photograph(traits, 64, np.random.default_rng(number))[12:52, 12:52]
    hsv = cv2.cvtColor(picture, cv2.COLOR_RGB2HSV)
    histogram = cv2.calcHist([hsv], [0, 1], None, [18, 4], [0, 180, 0, 256]).ravel()
    return histogram / histogram.sum()


def test_relatives_look_more_alike_than_strangers() -> None:
    species = make_species(SyntheticConfig())[::2]
    looks = [np.mean([look(one.traits, n) for n in range(4)], axis=0) for one in species]
    within, between = [], []
    for (a, look_a), (b, look_b) in combinations(zip(species, looks, strict=True), 2):
        distance = float(np.abs(look_a - look_b).sum())
        (within if a.taxon.genus == b.taxon.genus else between).append(distance)
    assert np.mean(within) < 0.8 * np.mean(between)


def outline(traits: Traits, n_individuals: int) -> np.ndarray:
    """The shape alone, without colour, pose and place: the mean of the canvases' alpha."""
    alphas = [_draw_organism(traits, np.random.default_rng(n))[..., 3] for n in range(n_individuals)]
    return np.mean(alphas, axis=0)


def test_each_rank_has_a_shape_of_its_own() -> None:
    """Species of a family share an outline; families of a class differ, and classes differ more."""
    by_family = {one.taxon.lineage[:5]: one for one in reversed(make_species(SyntheticConfig()))}
    shapes = {family: outline(one.traits, 8) for family, one in by_family.items()}
    same_class, other_class = [], []
    for a, b in combinations(shapes, 2):
        distance = float(np.abs(shapes[a] - shapes[b]).mean())
        (same_class if a[:3] == b[:3] else other_class).append(distance)
    for one in make_species(SyntheticConfig())[::7]:
        within = float(np.abs(outline(one.traits, 8) - shapes[one.taxon.lineage[:5]]).mean())
        assert within < 0.5 * min(same_class)
    assert np.mean(same_class) < 0.8 * np.mean(other_class)


def test_backgrounds_know_nothing_of_the_organism() -> None:
    """The corners of a picture tell no species from another: their colour varies no more between species than
    chance allows."""
    species = make_species(SyntheticConfig())[::12]
    n_each = 24
    corners = np.array(
        [
            [draw_photograph(one.traits, 32, np.random.default_rng([i, n]))[:3, :3].mean() for n in range(n_each)]
            for i, one in enumerate(species)
        ]
    )
    between = corners.mean(axis=1).var(ddof=1)
    assert between < 2.5 * corners.var(axis=1, ddof=1).mean() / n_each


@pytest.mark.parametrize("plan", BODY_PLANS)
@pytest.mark.parametrize("ornament", ORNAMENTS)
def test_every_plan_and_ornament_can_be_drawn(plan: str, ornament: str) -> None:
    traits = Traits(
        plan=plan, parts=5, slender=0.5, curl=0.5, hue=0.1, ornament=ornament, accent=0.6, count=3, pale=0.3
    )
    first, second = (draw_photograph(traits, 32, np.random.default_rng(seed)) for seed in (0, 1))
    assert first.shape == (32, 32, 3)
    assert first.std() > 5
    assert (first != second).mean() > 0.5, "two photographs of a species are never the same"
