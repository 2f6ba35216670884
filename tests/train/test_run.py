"""The verb ``linnaea.train``, and what a run leaves that fails before its first step."""

import json
import shutil
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import linnaea
from linnaea.cli import main
from linnaea.errors import LinnaeaError, UsageError
from linnaea.evaluate.validation import make_validator
from linnaea.model.open import load_model
from linnaea.train import fit
from linnaea.train.claim import RECIPE_FILE
from linnaea.train.run import TrainResult

VALUES = {"steps": 3, "batch_size": 8, "image_size": 32, "width": 32, "image_layers": 1, "text_layers": 1,
          "n_merges": 200, "log_every": 1, "warmup": 1}  # fmt: skip


def as_words(values: dict[str, Any]) -> list[str]:
    return [word for name, value in values.items() for word in (f"--{name.replace('_', '-')}", str(value))]


def train(data: Path, output: Path, **options: Any) -> TrainResult:
    return linnaea.train("tiny", data=data, output=output, device="cpu", **{**VALUES, **options})


def command(data: Path, output: Path, *more: str) -> list[str]:
    words = ["train", "tiny", "--data", str(data), "--output", str(output), "--device", "cpu"]
    return [*words, *as_words(VALUES), *more]


def losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_the_verb_does_what_the_command_does(dataset_dir: Path, tmp_path: Path) -> None:
    result = train(dataset_dir, tmp_path / "verb", evaluate=make_validator(dataset_dir, "val"))
    assert result == TrainResult(run=tmp_path / "verb", model=tmp_path / "verb" / "model", steps=3, finished=True,
                                 metrics=result.metrics)  # fmt: skip
    assert repr(result) == f"<TrainResult {tmp_path / 'verb'}: 3 steps, loss {result.metrics['loss']:.3f}>"
    assert 0 <= result.metrics["evaluate/val/top1"] <= 1
    assert main(command(dataset_dir, tmp_path / "command", "--evaluate-split", "val")) == 0
    assert losses(tmp_path / "verb") == losses(tmp_path / "command")
    assert (tmp_path / "verb" / RECIPE_FILE).read_text() == (tmp_path / "command" / RECIPE_FILE).read_text()
    assert load_model(str(result.model)).fingerprint == load_model(str(tmp_path / "command")).fingerprint


def test_a_finished_run_is_not_trained_again(dataset_dir: Path, tmp_path: Path) -> None:
    first, notices = train(dataset_dir, tmp_path / "run"), list[str]()
    again = train(dataset_dir, tmp_path / "run", resume=True, on_notice=notices.append)
    assert again == first
    assert notices == [f"{first.run}: the run is finished; its model is {first.model}"]
    with pytest.raises(LinnaeaError, match="holds a run already"):
        train(dataset_dir, tmp_path / "run")


def test_a_run_is_not_resumed_on_another_data_set_at_the_same_path(dataset_dir: Path, tmp_path: Path) -> None:
    """The shards or the names under a run's feet changed: that is said, and a run from before the checksum goes on."""
    data, run = tmp_path / "data", tmp_path / "run"
    shutil.copytree(dataset_dir, data)
    first = train(data, run)
    assert train(data, run, resume=True) == first
    manifest = json.loads((data / "manifest.json").read_text())
    shard = next(name for name in manifest["shards"] if name.startswith("train/"))
    receipt = manifest["shards"][shard]
    (data / "manifest.json").write_text(
        json.dumps(manifest | {"shards": manifest["shards"] | {shard: receipt | {"sha256": "0" * 64}}})
    )
    with pytest.raises(LinnaeaError, match="was started on another data set"):
        train(data, run, resume=True)
    (data / "manifest.json").write_text(json.dumps(manifest))
    taxa = pl.read_parquet(data / "taxa.parquet")
    taxa.with_columns(common_name=pl.lit("a new name")).write_parquet(data / "taxa.parquet")
    with pytest.raises(LinnaeaError, match="was started on another data set"):
        train(data, run, resume=True)
    recipe = json.loads((run / RECIPE_FILE).read_text())
    recipe.pop("data_sha256")
    (run / RECIPE_FILE).write_text(json.dumps(recipe))
    assert train(data, run, resume=True) == first


def test_a_recipe_of_ones_own_has_no_name(dataset_dir: Path, tmp_path: Path) -> None:
    recipe = linnaea.train.recipes.RECIPES["tiny"]  # type: ignore[attr-defined]
    linnaea.train(recipe, data=str(dataset_dir), output=str(tmp_path / "run"), device="cpu", **VALUES)
    assert json.loads((tmp_path / "run" / RECIPE_FILE).read_text())["recipe"] == "custom"


def test_a_wrong_name_or_value_writes_nothing(dataset_dir: Path, tmp_path: Path) -> None:
    for recipe, values in (("tinny", {}), ("tiny", {"step": 3}), ("tiny", {"pretrained": "typo"})):
        with pytest.raises(UsageError):
            linnaea.train(recipe, data=dataset_dir, output=tmp_path / "run", **values)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--start", "ViT-B-32", "--pretrained", "typo"], "ViT-B-32 has no weights 'typo'"),
        (["--freeze-blocks", "99"], "blocks"),
        (["--replay", "nowhere", "--replay-batch-size", "4"], "no captioned pictures"),
        (["--vocabulary", "nowhere"], "nowhere"),
        (["--cached-views", "1", "--freeze", "image", "--relatives", "nowhere", "--relatives-per-step", "2",
          "--objective", "level_restricted", "--teach", "1"], "teach needs --start"),
    ],
)  # fmt: skip
def test_a_run_that_fails_before_its_first_step_leaves_nothing(
    words: list[str], says: str, dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The corrected command writes to the same folder."""
    new = {"image_size", "width", "image_layers", "text_layers", "n_merges"} if "--start" in words else set[str]()
    given = as_words({name: value for name, value in VALUES.items() if name not in new})
    run = tmp_path / "run"
    assert main(["train", "tiny", "--data", str(dataset_dir), "--output", str(run), *given, *words]) == 1
    err = capsys.readouterr().err
    assert says in err
    assert err.count("\n") == 1
    assert not run.exists()
    assert main(command(dataset_dir, run)) == 0


def test_a_loss_that_is_not_finite_at_once_leaves_nothing_but_what_was_there(
    dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute, notes = fit.compute_loss, tmp_path / "run" / "notes.txt"
    notes.parent.mkdir()
    notes.write_text("mine")
    with monkeypatch.context() as patch:
        patch.setattr(fit, "compute_loss", lambda *args: compute(*args) * float("nan"))
        with pytest.raises(LinnaeaError, match="step 1 is not finite"):
            train(dataset_dir, tmp_path / "run")
    assert list(notes.parent.iterdir()) == [notes]
    assert train(dataset_dir, tmp_path / "run").finished


@pytest.mark.parametrize("step", [1, 2])
def test_a_run_that_was_stopped_or_saved_keeps_its_folder(
    step: int, dataset_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped before its first step, or failed after it: ``resume`` goes on to the same model."""
    take_step, calls = fit.Learner.take_step, list[int]()

    def fail(learner: Any, *args: Any) -> dict[str, Any]:
        calls.append(1)
        if len(calls) == step:
            raise KeyboardInterrupt if step == 1 else LinnaeaError("the loss is not finite")
        return take_step(learner, *args)

    with monkeypatch.context() as patch:
        patch.setattr(fit.Learner, "take_step", fail)
        with pytest.raises((KeyboardInterrupt, LinnaeaError)):
            train(dataset_dir, tmp_path / "run")
    with pytest.raises(LinnaeaError, match="holds a run already"):
        train(dataset_dir, tmp_path / "run")
    assert train(dataset_dir, tmp_path / "run", resume=True).finished
    train(dataset_dir, tmp_path / "whole")
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")


def test_a_vocabulary_that_lies_there_is_not_taken_for_the_runs(dataset_dir: Path, tmp_path: Path) -> None:
    train(dataset_dir, tmp_path / "other", n_merges=100)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "bpe.txt.gz").write_bytes((tmp_path / "other" / "bpe.txt.gz").read_bytes())
    train(dataset_dir, tmp_path / "run")
    train(dataset_dir, tmp_path / "whole")
    assert losses(tmp_path / "run") == losses(tmp_path / "whole")
