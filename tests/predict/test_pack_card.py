"""A packed model has a card that the hub reads, and can be pushed to it."""

import json
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest
from huggingface_hub import ModelCard, constants

from hub import Hub
from linnaea.cli import main
from linnaea.model.open import load_model


@pytest.mark.parametrize("licence", ["", "CC0-1.0"])
def test_the_card_is_read_by_the_hub(licence: str, trained: Path, tmp_path: Path) -> None:
    assert main(["pack", str(trained), "--output", str(tmp_path / "small"), "--licence", licence]) == 0
    card = ModelCard.load(tmp_path / "small" / "README.md")
    assert card.data.license == (licence.lower() or "other")
    assert card.data.library_name == "open_clip"
    assert card.data.pipeline_tag == "zero-shot-image-classification"
    assert load_model(tmp_path / "small", device="cpu").fingerprint in card.text
    assert (licence or "Not stated") in card.text


def test_a_pushed_model_is_opened_from_the_hub(
    hub: Hub, trained: Path, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pack", str(trained), "--output", str(tmp_path / "small"), "--push", "me/small-beetles"]) == 0
    assert f"pushed: {hub.url}/me/small-beetles" in capsys.readouterr().out
    pushed = hub.root / "models" / "me/small-beetles"
    here = {str(path.relative_to(tmp_path / "small")) for path in (tmp_path / "small").rglob("*") if path.is_file()}
    assert {str(path.relative_to(pushed)) for path in pushed.rglob("*") if path.is_file()} >= here
    assert "# small-beetles" in (pushed / "README.md").read_text()
    local = load_model(tmp_path / "small", device="cpu")
    assert load_model("hf-hub:me/small-beetles", device="cpu").fingerprint == local.fingerprint


@pytest.mark.parametrize("name", ["small", "a/b/c", "a b/c"])
def test_a_wrong_name_is_told_before_packing(
    name: str, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["pack", str(trained), "--output", str(tmp_path / "small"), "--push", name]) == 1
    assert "written OWNER/NAME" in capsys.readouterr().err
    assert not (tmp_path / "small").exists()


def test_without_a_hub_the_folder_is_complete(
    hub: Hub, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    assert main(["pack", str(trained), "--output", str(tmp_path / "small"), "--push", "me/small"]) == 1
    assert "the hub cannot be reached" in capsys.readouterr().err
    assert (tmp_path / "small" / "README.md").exists()


def test_a_pushed_data_set_has_classes(
    hub: Hub, dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["data", "export", str(dataset_dir), "--output", str(tmp_path / "out"), "--format", "parquet"]
    assert main([*words, "--workers", "1", "--push", "me/beetles"]) == 0
    assert f"pushed: {hub.url}/datasets/me/beetles" in capsys.readouterr().out
    files = sorted((hub.root / "datasets" / "me/beetles" / "data").glob("*.parquet"))
    assert files
    taxa = pl.read_parquet(dataset_dir / "taxa.parquet")
    for path in files:
        schema = pq.read_schema(path)
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        assert features["label"]["_type"] == "ClassLabel"
        names = features["label"]["names"]
        assert len(set(names)) == len(names) == taxa.height
        rows = pl.read_parquet(path, columns=["label", "scientific_name"])
        assert [names[label] for label in rows["label"]] == rows["scientific_name"].to_list()
