"""What a model is opened with is used, or is an error that says so."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from linnaea.cli import main
from linnaea.errors import LinnaeaError
from linnaea.model.create import ModelConfig, make_model
from linnaea.model.folders import WEIGHTS_FILE, find_model_folder
from linnaea.model.load import TaxonModel, save_model
from linnaea.model.open import load_model, open_encoder


@pytest.fixture
def folder(model: TaxonModel, tmp_path: Path) -> Path:
    save_model(replace(model, facts={"calibration": "of these weights"}), tmp_path / "model")
    return tmp_path / "model"


@pytest.fixture
def other(bpe: bytes, tiny_config: ModelConfig, tmp_path: Path) -> Path:
    """A model of the same shape with other weights."""
    save_model(make_model(tiny_config, bpe, seed=2), tmp_path / "other")
    return tmp_path / "other"


@pytest.mark.parametrize("has_own", [True, False])
def test_a_folder_takes_the_weights_of_a_file(folder: Path, other: Path, has_own: bool) -> None:
    if not has_own:
        (folder / WEIGHTS_FILE).unlink()
    loaded = load_model(str(folder), pretrained=str(other / WEIGHTS_FILE), device="cpu")
    wanted = load_model(str(other), device="cpu")
    assert loaded.fingerprint == wanted.fingerprint
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32), dtype=np.uint8)
    assert np.array_equal(loaded.encode_pixels(pixels), wanted.encode_pixels(pixels))
    assert find_model_folder(loaded.name) is None, "the folder's labels are of other weights"
    assert loaded.facts == {"source": str(other / WEIGHTS_FILE)}, "what was known of the other weights is not said"


def test_weights_of_another_shape_are_one_clear_line(folder: Path, tmp_path: Path, bpe: bytes) -> None:
    save_model(make_model(ModelConfig(n_merges=200), bpe), tmp_path / "large")
    with pytest.raises(LinnaeaError, match="cannot be loaded") as raised:
        load_model(str(folder), pretrained=str(tmp_path / "large" / WEIGHTS_FILE), device="cpu")
    assert str(folder) in str(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", ["folder", "nano", "bioclip", "hf-hub:org/name", "timm:folder", "exported"])
def test_a_model_with_weights_of_its_own_refuses_a_tag(name: str, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / "onnx.json").write_text("{}")
    (tmp_path / "timm").mkdir()
    word = {"folder": str(folder), "timm:folder": f"timm:{tmp_path / 'timm'}", "exported": str(tmp_path / "exported")}
    with pytest.raises(LinnaeaError, match=r"^--pretrained typo: .*leave --pretrained out$"):
        open_encoder(word.get(name, name), pretrained="typo", device="cpu")


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "{photo}", "--output", "{output}/new/out.csv", "--model"],
        ["embed", "{photo}", "--output", "{output}/new/out.parquet", "--model"],
        ["evaluate", "--data", "{data}", "--output", "{output}/new", ""],
        ["labels", "build", "--taxa", "{data}", "--output", "{output}/new", "--model"],
        ["labels", "calibrate", "--data", "{data}", "--model"],
        ["export", "--output", "{output}/new", ""],
    ],
)
def test_no_command_ignores_pretrained(
    words: list[str], trained: Path, dataset_dir: Path, photographs: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    names = {"photo": next(photographs.rglob("*.jpg")), "data": dataset_dir, "output": tmp_path}
    given = [word.format(**names) for word in words if word]
    assert main([*given, str(trained), "--pretrained", "typo"]) == 1
    err = capsys.readouterr().err
    assert "--pretrained typo: not a file" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "new").exists()
