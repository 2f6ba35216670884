"""evaluate, labels calibrate and compare as a person runs them: numbers, a page that opens anywhere, the second run."""

import json
import re
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import pytest

from linnaea.cli import DONE, FAILED, main
from linnaea.taxonomy.ranks import RANK_LABELS

WHOLE = 15_000_000
"""Bytes of a page at most."""

BUILD = ("labels", "build", "--output")
CALIBRATE = ("labels", "calibrate", "--split", "train", "--model")


class Evaluated(NamedTuple):
    folder: Path
    words: list[str]
    printed: str
    metrics: dict[str, float]
    page: str


@pytest.fixture(scope="module")
def evaluated(trained: Path, dataset_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Evaluated:
    """Everything that ``evaluate`` can say, once."""
    import contextlib
    import io

    folder = tmp_path_factory.mktemp("evaluated") / "run"
    nothing = tmp_path_factory.mktemp("nothing")
    for number in range(3):
        _draw_gradient(nothing / f"{number}.png", number)
    words = ["evaluate", str(trained / "model"), "--data", str(dataset_dir), "--split", "train", "--candidates", "all",
             "--structure", "--by-rank", "--probe", "knn", "--seen", str(dataset_dir), "--no-organism", str(nothing),
             "--device", "cpu", "--output", str(folder)]  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()) as out:
        assert main(words) == DONE
    metrics = json.loads((folder / "metrics.json").read_text())
    return Evaluated(folder, words, out.getvalue(), metrics, (folder / "report.html").read_text())


def _draw_gradient(path: Path, number: int) -> None:
    import numpy as np
    from PIL import Image

    ramp = np.tile(np.arange(64, dtype=np.uint8) * (number + 1), (64, 1))
    Image.fromarray(ramp).save(path)


def test_the_answers_add_up_to_the_scores(evaluated: Evaluated) -> None:
    examples = pl.read_parquet(evaluated.folder / "examples.parquet")
    assert examples.height == evaluated.metrics["n_images"] > 0
    assert examples["right"].mean() == pytest.approx(evaluated.metrics["zero_shot/taxon_com/species"], abs=1e-9)
    for rank in RANK_LABELS:
        low, high = (evaluated.metrics[f"interval/{rank}/{end}"] for end in ("low", "high"))
        assert 0 <= low <= evaluated.metrics[f"interval/{rank}/mean"] <= high <= 1
        assert low < high


def test_every_mean_over_photographs_has_one_over_classes_beside_it(evaluated: Evaluated) -> None:
    examples = pl.read_parquet(evaluated.folder / "examples.parquet")
    by_class = examples.group_by("truth_lineage").agg(pl.col("right").mean())["right"].mean()
    assert evaluated.metrics["zero_shot/taxon_com/top1_by_class"] == pytest.approx(by_class, abs=1e-9)
    assert evaluated.metrics["interval/species/mean_by_class"] == pytest.approx(by_class, abs=1e-9)
    for name in ("zero_shot/taxon_com/genus", "few_shot/1/mean", "probe/knn/mean", "auto/0.9/right"):
        assert 0 <= evaluated.metrics[f"{name}_by_class"] <= 1
    assert evaluated.metrics["interval/species/n_classes"] == evaluated.metrics["n_classes"]


@pytest.mark.parametrize(
    "part",
    ["calibration/ece/genus", "auto/0.9/asserted", "open_set/no_organism/auroc/max_probability", "hierarchy/lca_height",
     "brittleness/shuffled/stale/species", "brittleness/revised/updated/species", "structure/purity/genus",
     "structure/distance_correlation", "probe/knn/mean", "few_shot/1/mean"],
)  # fmt: skip
def test_every_question_is_answered(evaluated: Evaluated, part: str) -> None:
    assert part in evaluated.metrics


def test_a_taxonomy_that_did_not_change_costs_nothing(evaluated: Evaluated) -> None:
    """The bank under the old lineage is the bank that was evaluated."""
    for rank in RANK_LABELS:
        assert evaluated.metrics[f"brittleness/old/{rank}"] == pytest.approx(
            evaluated.metrics[f"zero_shot/taxon_com/{rank}"], abs=0.2
        ), "summed probabilities and the species' own rank may differ, but not by much"


def test_probes_stand_in_the_table_and_on_the_page(evaluated: Evaluated) -> None:
    assert "k nearest neighbours" in re.sub(r"\s+", " ", evaluated.printed)
    assert "k nearest neighbours" in evaluated.page


def test_the_four_ways_to_answer_at_a_rank_stand_in_one_table(evaluated: Evaluated) -> None:
    for rank in RANK_LABELS:
        assert evaluated.metrics[f"by_rank/sums/{rank}"] == pytest.approx(evaluated.metrics[f"interval/{rank}/mean"])
    assert evaluated.metrics["by_rank/top_down/consistency"] == 1
    assert "answered by\tkingdom\tphylum" in evaluated.printed
    for way in ("sums", "captions", "prototypes", "top down"):
        assert f"\n{way}\t" in evaluated.printed
    assert "Four ways to answer at a rank" in evaluated.page


def test_the_page_needs_nothing_from_elsewhere(evaluated: Evaluated) -> None:
    assert len(evaluated.page.encode()) < WHOLE
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//[^"' >]+\.(?:js|css|png|jpe?g|woff2?)""", evaluated.page)
    assert "@import" not in evaluated.page
    assert (evaluated.folder / "tsne.png").stat().st_size > 10_000


@pytest.mark.parametrize("browser", [390, 1200], indirect=True)
def test_the_page_fits_a_phone_and_a_desk(browser: Any, evaluated: Evaluated) -> None:
    browser.get((evaluated.folder / "report.html").as_uri())
    assert browser.execute_script("return window.innerWidth") in (390, 1200)
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert not [line for line in browser.get_log("browser") if line["level"] == "SEVERE"]
    broken = "return [...document.images].filter(image => image.complete && !image.naturalWidth).length"
    assert browser.execute_script(broken) == 0


def test_the_second_run_looks_at_no_photograph(evaluated: Evaluated, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (evaluated.folder / "features.npy").stat().st_mtime_ns

    def refuse(_: object, photographs: Iterable[object], **__: object) -> Iterator[tuple[int, object]]:
        assert not list(photographs), "decoded again"
        return iter(())

    monkeypatch.setattr("linnaea.evaluate.features.iter_encoded_images", refuse)
    words = [word for word in evaluated.words if word != "--structure"]
    at = words.index("--no-organism")
    assert main(words[:at] + words[at + 2 :]) == DONE
    assert (evaluated.folder / "features.npy").stat().st_mtime_ns == before


def test_calibration_is_learnt_kept_and_used(
    trained: Path, dataset_dir: Path, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bank, model = tmp_path / "bank", str(trained / "model")
    assert main([*BUILD, str(bank), "--taxa", str(dataset_dir), "--model", model]) == DONE
    one = str(min(photographs.rglob("*.jpg")))
    ask = ["predict", one, "--model", model, "--labels", str(bank), "--output"]
    assert main([*ask, str(tmp_path / "before.csv")]) == DONE
    capsys.readouterr()
    words = [*CALIBRATE, model, "--data", str(dataset_dir), "--labels", str(bank)]
    assert main(words) == DONE
    out = capsys.readouterr().out
    assert "temperature" in out
    assert all(rank in out for rank in RANK_LABELS)
    assert main([*ask, str(tmp_path / "after.csv")]) == DONE
    assert (tmp_path / "before.csv").read_text() != (tmp_path / "after.csv").read_text()
    words = ["evaluate", model, "--data", str(dataset_dir), "--split", "train", "--shots", "0", "--device", "cpu"]
    assert main([*words, "--labels", str(bank), "--output", str(tmp_path / "with")]) == DONE
    assert main([*words, "--labels", str(dataset_dir), "--output", str(tmp_path / "without")]) == DONE
    fitted = [json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("with", "without")]
    assert [metrics["calibration/fitted"] for metrics in fitted] == [1, 0]
    assert fitted[0]["calibration/nll/species"] < fitted[1]["calibration/nll/species"]


def test_what_was_not_trained_on_counts_in_evaluation_too(
    trained: Path, dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two banks of the same names and one calibration: where names are marked, they answer less often."""
    packed, half = tmp_path / "packed", tmp_path / "half"
    assert main(["pack", str(trained), "--labels", str(dataset_dir), "--output", str(packed)]) == DONE
    words = [*CALIBRATE, str(packed), "--data", str(dataset_dir), "--labels", str(packed / "labels")]
    assert main(words) == DONE
    shutil.copytree(packed, half)
    place = half / "labels"
    facts = json.loads((place / "bank.json").read_text())
    facts["calibration"]["untrained"] = 1e-6
    (place / "bank.json").write_text(json.dumps(facts))
    taxa = pl.read_parquet(place / "taxa.parquet")
    assert taxa["trained"].sum() >= 11
    taxa.with_columns(trained=pl.int_range(pl.len()) % 2 == 0).write_parquet(place / "taxa.parquet")
    scores = []
    for labels in (packed, half):
        output = tmp_path / f"of-{labels.name}"
        words = ["evaluate", str(packed), "--data", str(dataset_dir), "--split", "train", "--shots", "0"]
        assert main([*words, "--labels", str(labels / "labels"), "--output", str(output)]) == DONE
        scores.append(json.loads((output / "metrics.json").read_text()))
    assert scores[0]["zero_shot/taxon_com/top1"] == scores[1]["zero_shot/taxon_com/top1"], "names alone decide here"
    assert scores[1]["calibration/nll/species"] > scores[0]["calibration/nll/species"] + 1


def test_organisms_want_something_to_be_told_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*CALIBRATE, "nano", "--data", "d", "--organisms", "train"]) == 2
    assert "--no-organism" in capsys.readouterr().err


def test_organisms_of_training_are_learnt_from(trained: Path, dataset_dir: Path, tmp_path: Path) -> None:
    empty, packed = tmp_path / "empty", tmp_path / "packed"
    assert main(["data", "no-organism", str(empty), "--images", "18", "--size", "64"]) == DONE
    assert main(["pack", str(trained), "--labels", str(dataset_dir), "--output", str(packed)]) == DONE
    weights = []
    for more in ((), ("--organisms", "train")):
        words = [*CALIBRATE, str(packed), "--data", str(dataset_dir), "--labels", str(packed / "labels")]
        assert main([*words, "--no-organism", str(empty), *more]) == DONE
        weights.append(json.loads((packed / "labels" / "bank.json").read_text())["calibration"]["organism"])
    assert weights[0] != weights[1]


def test_a_bank_of_another_model_is_not_calibrated(
    trained: Path, dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bank, model = tmp_path / "bank", str(trained / "model")
    assert main([*BUILD, str(bank), "--taxa", str(dataset_dir), "--model", model]) == DONE
    facts = json.loads((bank / "bank.json").read_text())
    (bank / "bank.json").write_text(json.dumps({**facts, "model": "another"}))
    words = [*CALIBRATE, model, "--data", str(dataset_dir), "--labels", str(bank)]
    assert main(words) == FAILED
    assert "was built with another model" in capsys.readouterr().err


def test_a_run_differs_from_its_copy_in_nothing(evaluated: Evaluated, tmp_path: Path) -> None:
    copy, output = tmp_path / "copy", tmp_path / "compare"
    shutil.copytree(evaluated.folder, copy)
    assert main(["compare", str(evaluated.folder), str(copy), "--output", str(output)]) == DONE
    table = pl.read_csv(output / "differences.csv")
    assert table.height > 0
    assert (table["difference"] == 0).all()
    assert (table["p_value"] == 1).all()
