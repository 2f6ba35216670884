"""Models without PyTorch, exported or packed with a graph: the same vectors and answers, and small where asked."""

import csv
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from linnaea.cli import main
from linnaea.errors import LinnaeaError
from linnaea.model.encode import encode_captions, encode_pixels
from linnaea.model.folders import IMAGE_FILE, WEIGHTS_FILE
from linnaea.model.load import TaxonModel
from linnaea.model.onnx import GraphModel, load_graph
from linnaea.model.open import load_model, open_encoder, see_as
from linnaea.predict import pack as packing

CONVOLUTIONAL = ["small", "--backbone", "test_efficientnet", "--image-size", "32", "--width", "64", "--n-merges", "200"]
NO_TORCH = """
import sys
class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision", "open_clip", "timm"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Block())
from linnaea.cli import main
code = main(sys.argv[1:])
assert "torch" not in sys.modules
sys.exit(code)
"""


@pytest.fixture(scope="module", params=["transformer", "convolutional"])
def packed(request: pytest.FixtureRequest, trained: Path, dataset_dir: Path,
           tmp_path_factory: pytest.TempPathFactory) -> Path:  # fmt: skip
    """A packed model of either kind, with its label bank."""
    folder = tmp_path_factory.mktemp(request.param)
    run = trained
    if request.param == "convolutional":
        run = folder / "run"
        words = [*CONVOLUTIONAL, "--text-layers", "1", "--batch-size", "8", "--steps", "3"]
        assert main(["train", *words, "--data", str(dataset_dir), "--output", str(run)]) == 0
    assert main(["pack", str(run), "--output", str(folder / "packed")]) == 0
    return folder / "packed"


@pytest.fixture(scope="module")
def exported(packed: Path) -> Path:
    assert main(["export", str(packed), "--output", str(packed.parent / "onnx")]) == 0
    return packed.parent / "onnx"


def run_without_torch(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", NO_TORCH, *words], check=False, capture_output=True, text=True)


def pixels_of(folder: Path, n: int = 70) -> np.ndarray:
    side = load_model(str(folder), device="cpu").preprocess.image_size
    return np.random.default_rng(0).integers(0, 255, (n, 3, side, side), np.uint8)


def test_vectors_are_the_models(packed: Path, exported: Path) -> None:
    model, copy = load_model(str(packed), device="cpu"), open_encoder(str(exported))
    assert copy.fingerprint == model.fingerprint
    assert copy.logit_scale == pytest.approx(model.logit_scale)
    pixels = pixels_of(packed)
    for unit in (True, False):
        np.testing.assert_allclose(
            encode_pixels(copy, pixels, unit=unit), encode_pixels(model, pixels, unit=unit), atol=1e-4
        )
    captions = ["a photo of Puma concolor.", "Aves", "a photo of Puma concolor."]
    np.testing.assert_allclose(encode_captions(copy, captions), encode_captions(model, captions), atol=1e-4)


def test_eight_bits_are_a_quarter_and_nearly_the_same(packed: Path, exported: Path, tmp_path: Path) -> None:
    assert main(["export", str(packed), "--output", str(tmp_path), "--int8"]) == 0
    whole, small = (encode_pixels(open_encoder(str(folder)), pixels_of(packed)) for folder in (exported, tmp_path))
    assert (whole * small).sum(axis=1).min() > 0.995
    assert (tmp_path / "text.onnx").stat().st_size < 0.5 * (exported / "text.onnx").stat().st_size


@pytest.mark.parametrize("form", ["exported", "packed"])
def test_predictions_without_pytorch_are_those_with(
    packed: Path, exported: Path, photographs: Path, tmp_path: Path, form: str
) -> None:
    pictures = sorted(map(str, photographs.rglob("*.jpg")))[:6]
    rows = {}
    without_graph = shutil.copytree(packed, tmp_path / "plain", ignore=shutil.ignore_patterns(IMAGE_FILE))
    for name, folder in (("torch", without_graph), ("onnx", exported if form == "exported" else packed)):
        command = ["predict", *pictures, "--model", str(folder), "--output", str(tmp_path / f"{name}.csv")]
        if name == "torch":
            assert main(command) == 0
        else:
            done = run_without_torch(*command)
            assert done.returncode == 0, done.stderr
        rows[name] = list(csv.DictReader((tmp_path / f"{name}.csv").open()))
    assert len(rows["torch"]) == len(rows["onnx"]) >= 6
    for ours, theirs in zip(rows["torch"], rows["onnx"], strict=True):
        assert float(ours.pop("score")) == pytest.approx(float(theirs.pop("score")), abs=1e-4)
        assert ours == theirs


def test_new_names_without_pytorch_are_one_clear_line(exported: Path, photographs: Path, tmp_path: Path) -> None:
    (tmp_path / "names.txt").write_text("Puma concolor\n")
    words = [str(next(photographs.rglob("*.jpg"))), "--model", str(exported), "--labels", str(tmp_path / "names.txt")]
    done = run_without_torch("predict", *words)
    assert done.returncode == 1
    assert "tokenizer" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("damage", ["no facts", "no image", "broken image"])
def test_a_damaged_export_is_one_clear_line(exported: Path, tmp_path: Path, damage: str) -> None:
    for name in ("onnx.json", "image.onnx"):
        (tmp_path / name).write_bytes((exported / name).read_bytes())
    if damage == "no facts":
        (tmp_path / "onnx.json").write_text(json.dumps({"preprocess": 3}))
    elif damage == "no image":
        (tmp_path / "image.onnx").unlink()
    else:
        (tmp_path / "image.onnx").write_bytes(b"no graph")
    with pytest.raises(LinnaeaError, match="export") as raised:
        encode_pixels(open_encoder(str(tmp_path)), np.zeros((1, 3, 32, 32), np.uint8))
    assert "\n" not in str(raised.value)


def test_a_packed_folder_has_its_vectors_from_its_graph(packed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU, in float32; captions, other precisions and the weights themselves stay with PyTorch."""
    model, graph = load_model(str(packed), device="cpu"), open_encoder(str(packed), device="cpu")
    assert isinstance(graph, GraphModel)
    assert (graph.fingerprint, graph.width, graph.preprocess, graph.facts, graph.has_text) == (
        model.fingerprint, model.width, model.preprocess, model.facts, True,
    )  # fmt: skip
    assert graph.logit_scale == pytest.approx(model.logit_scale)
    pixels = pixels_of(packed, 19)
    np.testing.assert_allclose(encode_pixels(graph, pixels), encode_pixels(model, pixels), atol=1e-5)
    fractions = pixels.astype(np.float32) + np.float32(0.25)
    squashing = see_as(graph, "squash")
    np.testing.assert_allclose(encode_pixels(squashing, fractions), encode_pixels(model, fractions), atol=1e-5)
    assert "whole" not in vars(graph), "PyTorch is loaded for photographs"
    assert np.array_equal(encode_captions(graph, ["Aves"]), encode_captions(model, ["Aves"]))
    monkeypatch.setattr("linnaea.model.runtimes.has_openvino", lambda: False)
    assert isinstance(open_encoder(str(packed), device="cpu", precision="bf16"), TaxonModel)


def test_a_graph_holds_no_weights(packed: Path) -> None:
    assert (packed / IMAGE_FILE).stat().st_size < 400_000
    with pytest.raises(LinnaeaError):  # the weights are those of the folder, not a copy
        moved = replace(load_graph(packed, "moved"), folder=packed.parent / "nowhere")
        encode_pixels(moved, pixels_of(packed, 1))


def test_weights_that_were_changed_are_encoded_in_pytorch(
    packed: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    changed = shutil.copytree(packed, tmp_path / "changed")
    weights = bytearray((changed / WEIGHTS_FILE).read_bytes())
    weights[-2:] = b"\x00\x00"
    (changed / WEIGHTS_FILE).write_bytes(weights)
    opened = open_encoder(str(changed), device="cpu")
    assert isinstance(opened, TaxonModel)
    assert "belongs to other weights" in caplog.text


def test_a_tower_that_cannot_be_a_graph_is_packed_without(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("linnaea.model.onnx_export.LARGEST_DIFFERENCE", -1)
    packing.pack(trained, tmp_path / "again")
    assert "differ by" in caplog.text
    assert not (tmp_path / "again" / IMAGE_FILE).exists()
    assert isinstance(open_encoder(str(tmp_path / "again"), device="cpu"), TaxonModel)


@pytest.mark.parametrize("name", ["../weights.bin", "/etc/hostname", "missing.bin", "*/_ORT_MEM_ADDR_/*", "link.bin"])
def test_weights_in_other_files_stay_in_the_folder(name: str, exported: Path, tmp_path: Path) -> None:
    import onnx

    folder = tmp_path / "model"
    shutil.copytree(exported, folder)
    (tmp_path / "weights.bin").write_bytes(bytes(1 << 20))
    (folder / "link.bin").symlink_to(tmp_path / "weights.bin")
    model = onnx.load(str(folder / "image.onnx"))
    weight = max(model.graph.initializer, key=lambda one: len(one.raw_data))
    onnx.external_data_helper.set_external_data(weight, name)
    weight.ClearField("raw_data")
    (folder / "image.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(LinnaeaError, match=r"not a path inside this folder|which is missing"):
        open_encoder(str(folder)).encode_pixels(pixels_of_model(folder))


def test_weights_beside_a_model_are_read(exported: Path, tmp_path: Path) -> None:
    import onnx

    folder = tmp_path / "model"
    shutil.copytree(exported, folder)
    model = onnx.load(str(folder / "image.onnx"))
    onnx.save(model, str(folder / "image.onnx"), save_as_external_data=True, location="more.bin", size_threshold=64)
    assert (folder / "more.bin").stat().st_size > 1000
    pixels = pixels_of_model(folder)
    vectors = [open_encoder(str(one)).encode_pixels(pixels) for one in (folder, exported)]
    np.testing.assert_allclose(*vectors, atol=1e-6)


@pytest.mark.parametrize("content", [b"", b"not ONNX at all", b"\x3a\xff\xff\xff\xff\x0f"])
def test_what_is_not_onnx_is_one_line(content: bytes, exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(exported, folder)
    (folder / "image.onnx").write_bytes(content)
    with pytest.raises(LinnaeaError, match=r"image.onnx: .*export the model again"):
        open_encoder(str(folder)).encode_pixels(pixels_of_model(folder))


def pixels_of_model(folder: Path) -> np.ndarray:
    side = open_encoder(str(folder)).preprocess.image_size
    return np.zeros((1, 3, side, side), np.uint8)
