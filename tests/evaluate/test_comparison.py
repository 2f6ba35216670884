"""Runs side by side: paired by image, beside numbers that somebody published."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from linnaea.cli import main
from linnaea.evaluate.comparison import BEYOND, compare_runs, read_published, read_runs, tabulate_scores, wide_tables
from linnaea.evaluate.embedding_structure import lay_out, tabulate_levels
from linnaea.evaluate.tasks import TASKS
from linnaea.taxonomy.taxon import Taxon
from linnaea.taxonomy.tree import number_lineages

N_CLASSES = 20


def make_run(
    folder: Path, what: str, right: np.ndarray, keys: list[str] | None = None, task: str = "", **facts: str
) -> Path:
    folder.mkdir(parents=True)
    metrics = {"n_images": len(right), "zero_shot/asis/top1": float(right.mean()),
               "few_shot/1/mean": 0.4, "few_shot/1/std": 0.02}  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(metrics))
    (folder / "run.json").write_text(json.dumps({"what": what, "task": task, **facts}))
    names = keys or [f"{i}" for i in range(len(right))]
    table = pl.DataFrame({"key": names, "truth": [f"Genus species{i % N_CLASSES}" for i in range(len(right))],
                          "right": right, "few_shot_1_right": np.where(right, 0.5, 0.3)})  # fmt: skip
    table.write_parquet(folder / "examples.parquet")
    return folder


@pytest.fixture
def pair(tmp_path: Path) -> list[Path]:
    rng = np.random.default_rng(0)
    weak = rng.random(1000) < 0.3
    strong = weak | (rng.random(1000) < 0.2)
    return [make_run(tmp_path / "weak", "fungi", weak, task="fungi"),
            make_run(tmp_path / "strong", "fungi", strong, task="fungi")]  # fmt: skip


def test_models_are_named_by_their_names_and_folders_where_these_are_not_enough(tmp_path: Path) -> None:
    """Two splits of one model are one row; two models of one name, or one model twice, have their folders, too."""
    right = np.ones(40, bool)

    def made(folder: str, model: str, what: str, fingerprint: str = "1") -> Path:
        return make_run(tmp_path / folder, what, right, model=model, fingerprint=fingerprint)

    runs = [made("a", "nano", "test"), made("b", "nano", "unseen"), made("c", "runs/mine/model", "test"),
            made("d", "x/old", "test", "2"), made("e", "y/old/model", "test", "3"),
            made("f", "hf-hub:imageomics/bioclip", "test"), make_run(tmp_path / "g", "test", right)]  # fmt: skip
    assert [run.label for run in read_runs(runs)] == [
        "nano", "nano", "mine", "old (d)", "old (e)", "hf-hub:imageomics/bioclip", "g"]  # fmt: skip
    again = made("h", "nano", "test")
    assert [run.label for run in read_runs([runs[0], again])] == ["nano (a)", "nano (h)"]


def test_published_numbers_are_the_verified_ones() -> None:
    published = read_published()
    assert published["source"].null_count() == 0
    known = {*TASKS, "camera-trap", "mean-of-ten", "mean-of-bioclip-2", "mean-beyond-species"}
    assert set(published["what"]) <= known
    models = {name.split(" (")[0] for name in published["model"]}
    assert {
        "BioCLIP",
        "BioCLIP 2",
        "SigLIP",
        "DINOv2",
        "Supervised-IN21K",
        "CLIP ViT-B/16",
        "OpenCLIP ViT-B/16",
    } <= models


def test_published_rows_agree_with_their_means() -> None:
    """A slip in copying a table would show."""
    rows = read_published().filter(pl.col("score").is_in(["zero-shot", BEYOND]))
    for (model, source, _), part in rows.group_by(["model", "source", "score"]):
        means = part.filter(pl.col("what").str.starts_with("mean"))
        if means.height:
            values = part.filter(~pl.col("what").str.starts_with("mean"))["value"]
            assert values.mean() == pytest.approx(means["value"].item(), abs=0.0011), (model, source)


def test_published_numbers_are_those_of_the_reference(shared: Path) -> None:
    text = (shared / "reference" / "bioclip.md").read_text()
    for value in read_published()["value"]:
        number = f"{100 * value:.2f}".rstrip("0").rstrip(".")
        assert number in text, number


def test_a_difference_is_found_pair_by_pair(pair: list[Path]) -> None:
    table = compare_runs(read_runs(pair))
    row = table.row(by_predicate=pl.col("score") == "zero-shot, asis", named=True)
    assert row["verdict"] == "strong is better"
    assert row["only_first"] == 0
    assert 0 < row["low"] < row["difference"] < row["high"]
    same = compare_runs(read_runs([pair[0], pair[0]]))
    assert set(same["verdict"]) == {"within the error bars"}


def test_classes_are_drawn_whole(tmp_path: Path) -> None:
    """Two models, each better at half of the species, are equally good, however many photographs there are."""
    species = np.arange(2000) % N_CLASSES
    one, other = np.isin(species, range(11)), np.isin(species, range(9, 20))
    runs = [make_run(tmp_path / "one", "fungi", one), make_run(tmp_path / "other", "fungi", other)]
    row = compare_runs(read_runs(runs)).row(by_predicate=pl.col("score") == "zero-shot, asis", named=True)
    assert (row["verdict"], row["n_classes"], row["n_images"]) == ("within the error bars", 20, 2000)
    shifted = make_run(tmp_path / "shifted", "fungi", np.isin(species, range(10)))  # one species less than `one`
    row = compare_runs(read_runs([runs[0], shifted])).row(by_predicate=pl.col("score") == "zero-shot, asis", named=True)
    assert row["only_first"] == 100
    assert row["verdict"] == "within the error bars"


def test_the_page_says_for_how_many_species_it_speaks(pair: list[Path], tmp_path: Path) -> None:
    assert main(["compare", *map(str, pair), "--output", str(tmp_path / "out")]) == 0
    page = (tmp_path / "out" / "compare.html").read_text()
    assert "over 20 classes, 1,000 photographs: strong is better" in page
    assert "Over 20 classes." in page
    scores = pl.read_csv(tmp_path / "out" / "scores.csv").filter(pl.col("ours"))
    assert set(scores.filter(pl.col("score") == "zero-shot, asis")["n_classes"]) == {20}
    assert (scores["class_mean"].drop_nulls() > 0).all()


def test_five_species_are_too_few_for_a_verdict(pair: list[Path]) -> None:
    for folder in pair:
        path = folder / "examples.parquet"
        table = pl.read_parquet(path).with_columns(truth=pl.col("key").cast(pl.Int64).mod(5).cast(pl.String))
        table.write_parquet(path)
    assert set(compare_runs(read_runs(pair))["verdict"]) == {"too few classes to tell (5)"}


def test_runs_without_classes_are_compared_by_image(pair: list[Path]) -> None:
    for folder in pair:
        path = folder / "examples.parquet"
        pl.read_parquet(path).drop("truth").write_parquet(path)
    table = compare_runs(read_runs(pair))
    assert set(table["verdict"]) == {"strong is better"}
    assert table["n_classes"].null_count() == table.height


def test_other_images_are_no_pair(pair: list[Path], tmp_path: Path) -> None:
    other = make_run(tmp_path / "other", "fungi", np.ones(5, bool), keys=list("abcde"))
    table = compare_runs(read_runs([pair[0], other]))
    assert set(table["verdict"]) == {"not the same images"}
    elsewhere = make_run(tmp_path / "elsewhere", "plankton", np.ones(1000, bool))
    assert compare_runs(read_runs([pair[0], elsewhere])).is_empty()


def test_other_images_than_published_are_another_task(pair: list[Path]) -> None:
    facts = json.loads((pair[0] / "run.json").read_text())
    (pair[0] / "run.json").write_text(json.dumps(facts | {"as_published": False}))
    runs = read_runs([pair[0]])
    tables = wide_tables(pl.concat([tabulate_scores(runs), read_published()]))
    assert runs[0].what == "fungi (other images)"
    assert not any("published" in table["from"] for table in tables.values())


def test_published_rows_stand_beside_ours_of_the_same_captions(pair: list[Path]) -> None:
    scores = pl.concat([tabulate_scores(read_runs(pair)), read_published()])
    table = wide_tables(scores)["zero-shot"]
    values = dict(table.select("model", "fungi").iter_rows())
    assert values["BioCLIP"] == pytest.approx(40.7)
    assert values["BioCLIP 2"] == pytest.approx(83.8)
    assert values["weak"] == pytest.approx(100 * scores.filter(pl.col("model") == "weak")["value"][0])
    assert table.columns == ["model", "from", "fungi"]


def test_the_command_writes_tables_and_a_page(
    pair: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *map(str, pair), "--output", str(tmp_path / "out")]) == 0
    said = capsys.readouterr()
    assert "BioCLIP 2" in said.out
    assert "strong is better" in said.err
    page = (tmp_path / "out" / "compare.html").read_text()
    assert "arXiv 2505.23883" in page
    assert "Supervised-IN21K" in page
    assert "strong is better" in (tmp_path / "out" / "compare.md").read_text()
    assert pl.read_csv(tmp_path / "out" / "scores.csv").height > 170
    assert main(["compare", str(tmp_path), "--output", str(tmp_path / "x")]) in (0, 1)
    (tmp_path / "empty").mkdir()
    assert main(["compare", str(tmp_path / "empty"), "--output", str(tmp_path / "x")]) == 1
    assert "linnaea evaluate" in capsys.readouterr().err
    assert main(["compare", "--output", str(tmp_path / "x")]) == 2


def test_recall_and_rankings_have_tables_of_their_own(tmp_path: Path) -> None:
    for name, recall in (("one", 0.25), ("two", 0.5)):
        (tmp_path / name).mkdir()
        metrics = {"n_images": 8, "image_to_text/recall_1": recall, "image_to_text/same_sentence/recall_1": 0.9,
                   "rerank/ap": recall / 2}  # fmt: skip
        (tmp_path / name / "metrics.json").write_text(json.dumps(metrics))
        (tmp_path / name / "run.json").write_text(json.dumps({"what": "cornell-birds", "task": "cornell-birds"}))
    tables = wide_tables(tabulate_scores(read_runs([tmp_path / "one", tmp_path / "two"])))
    assert tables["image to text, recall at 1"]["cornell-birds"].to_list() == [25, 50]
    assert tables["ranking by queries, AP"]["cornell-birds"].to_list() == [12.5, 25]
    assert len(tables) == 2


def make_structure(run: Path, seed: int) -> None:
    """Panels as ``linnaea evaluate --structure`` writes them, of vectors that were drawn."""
    rng = np.random.default_rng(seed)
    taxa = [Taxon.of(kingdom="A", phylum=f"P{i % 3}", genus=f"G{i % 6}", species=f"s{i}") for i in range(12)]
    truth = [taxa[i] for i in rng.integers(0, 12, 60)]
    feature = rng.normal(size=(60, 8)).astype(np.float32)
    levels = lay_out(feature, number_lineages([taxon.lineage for taxon in truth]), truth)
    tabulate_levels(levels, [str(row) for row in range(60)]).write_parquet(run / "structure.parquet")
    metrics = json.loads((run / "metrics.json").read_text())
    metrics |= {"structure/purity/genus": 0.25 * seed, "structure/distance_correlation": 0.1 * seed}
    (run / "metrics.json").write_text(json.dumps(metrics))


def test_figure_5_of_two_models_side_by_side(
    pair: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["compare", *map(str, pair), "--output", str(tmp_path / "out"), "--structure"]
    assert main(words) == 1
    assert "no structure.parquet; evaluate it again with --structure" in capsys.readouterr().err
    for seed, run in enumerate(pair, start=1):
        make_structure(run, seed)
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "neighbours of its genus (%)" in out
    assert "50.0" in out
    page = (tmp_path / "out/compare.html").read_text()
    assert "t-SNE of each rank for weak, strong" in page
    assert (tmp_path / "out/structure.png").stat().st_size > 10_000


def test_panels_are_read_back_as_they_were(pair: list[Path]) -> None:
    make_structure(pair[0], 1)
    (entry,) = read_runs(pair[:1])
    table = pl.read_parquet(pair[0] / "structure.parquet")
    assert [level.rank.label for level in entry.levels] == table["rank"].unique(maintain_order=True).to_list()
    first = entry.levels[0]
    points = table.filter(pl.col("rank") == first.rank.label).select("x", "y").to_numpy()
    assert np.array_equal(first.xy_N2, points)
    last = entry.levels[-1]
    named = [last.names[colour] for colour in last.colour_N]
    assert named == table.filter(pl.col("rank") == last.rank.label)["taxon"].to_list()
