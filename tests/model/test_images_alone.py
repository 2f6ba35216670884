"""timm's backbones: their width is measured, rows have it, and what needs names is refused in one line."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import timm
import torch

from linnaea.cli import main
from linnaea.errors import LinnaeaError
from linnaea.model.create import ImageTower, ModelConfig, make_model
from linnaea.model.encode import encode_pixels
from linnaea.model.open import load_model


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A model whose output (1,024 numbers) is wider than ``num_features`` (576), as ``save_for_hf`` writes it."""
    folder = tmp_path_factory.mktemp("timm") / "m"
    torch.manual_seed(0)
    timm.models.save_for_hf(timm.create_model("mobilenetv3_small_100"), folder)
    return f"timm:{folder}"


def test_vectors_have_the_width_that_the_model_says(saved: str) -> None:
    model = load_model(saved, device="cpu")
    assert model.width == 1024
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 224, 224), dtype=np.uint8)
    assert encode_pixels(model, pixels).shape == (2, 1024)


def test_rows_of_photographs_do_not_mix(saved: str, photographs: Path, tmp_path: Path) -> None:
    few = [str(path) for path in sorted(photographs.rglob("*.jpg"))[:3]]
    assert main(["embed", *few, "--model", saved, "--output", str(tmp_path / "v.npy"), "--device", "cpu"]) == 0
    assert main(["embed", *few, "--model", saved, "--output", str(tmp_path / "v.parquet"), "--device", "cpu"]) == 0
    array = np.load(tmp_path / "v.npy")
    assert array.shape == (3, 1024)
    assert np.allclose(np.linalg.norm(array, axis=1), 1, atol=1e-5)
    assert np.allclose(array, np.stack(pl.read_parquet(tmp_path / "v.parquet")["embedding"].to_list()), atol=1e-6)


def test_an_index_of_them_grows(saved: str, photographs: Path, tmp_path: Path) -> None:
    words = ["index", str(photographs), "--model", saved, "--output", str(tmp_path / "index"), "--device", "cpu"]
    assert main(words) == 0
    sizes = {path.name: path.stat().st_size for path in (tmp_path / "index").iterdir()}
    assert main(words) == 0
    assert sizes == {path.name: path.stat().st_size for path in (tmp_path / "index").iterdir()}
    assert any(size and size % (2 * 1024) == 0 for size in sizes.values())


def test_a_model_that_says_another_width_writes_nothing(saved: str) -> None:
    model = load_model(saved, device="cpu")
    wrong = replace(model, model_cfg={**model.model_cfg, "embed_dim": 576})
    with pytest.raises(LinnaeaError, match="gives vectors of 1024 numbers, but says 576"):
        encode_pixels(wrong, np.zeros((1, 3, 224, 224), np.uint8))


@pytest.mark.parametrize(
    "words",
    [
        ["predict", "{photo}", "--labels", "{names}", "--model"],
        ["predict", "{photo}", "--labels", "cat,dog", "--model"],
        ["labels", "build", "--taxa", "{names}", "--output", "{output}/bank", "--model"],
        ["adapt", "{photos}", "--output", "{output}/head", "--model"],
        ["export", "--output", "{output}/onnx", ""],
    ],
)
def test_what_needs_names_is_refused_in_one_line(
    words: list[str], saved: str, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "names.txt").write_text("Ursus arctos\n")
    given = {"photo": next(photographs.rglob("*.jpg")), "photos": photographs, "names": tmp_path / "names.txt",
             "output": tmp_path}  # fmt: skip
    assert main([*(word.format(**given) for word in words if word), saved]) == 1
    err = capsys.readouterr().err.strip().splitlines()
    assert "knows images alone and cannot" in err[-1]
    assert [line for line in err if line.startswith("linnaea:")] == err[-1:]


def test_text_search_among_them_is_refused(
    saved: str, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    few = sorted(photographs.rglob("*.jpg"))[:2]
    index = str(tmp_path / "index")
    assert main(["index", *map(str, few), "--model", saved, "--output", index, "--device", "cpu"]) == 0
    capsys.readouterr()
    assert main(["search", index, "--text", "a beetle"]) == 1
    assert "knows images alone" in capsys.readouterr().err
    assert main(["search", index, "--image", str(few[0])]) == 0


@pytest.mark.parametrize(
    ("backbone", "reason"),
    [
        ("mobilenetv4_conv_small", "--backbone mobilenetv4_conv_small: cannot be an image tower of 64 pixels"),
        ("mobilnetv4", "timm has no model of that name"),
        ("vit_tiny_patch16_224", "cannot be an image tower of 64 pixels"),
    ],
)
def test_a_backbone_that_cannot_be_used_is_named(backbone: str, reason: str, bpe: bytes) -> None:
    config = ModelConfig(image=replace(ImageTower(), image_size=64, timm_model_name=backbone))
    with pytest.raises(LinnaeaError, match=reason) as raised:
        make_model(config, bpe)
    assert "\n" not in str(raised.value)


def test_training_names_the_backbone_first(
    dataset_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["train", "tiny", "--data", str(dataset_dir), "--output", str(tmp_path / "run"), "--device", "cpu"]
    assert main([*words, "--backbone", "mobilenetv4_conv_small"]) == 1
    assert "--backbone mobilenetv4_conv_small: cannot be an image tower" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
