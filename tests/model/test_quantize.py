"""A tower in 8 bits: near to float32, without PyTorch, and the same with and without VNNI."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from linnaea.errors import LinnaeaError
from linnaea.model import runtimes
from linnaea.model.encode import encode_pixels
from linnaea.model.folders import IMAGE_FILE, INT8_FILE, bundled_models
from linnaea.model.open import open_encoder
from linnaea.model.quantize import LARGEST_PAIR
from linnaea.predict import pack as packing
from linnaea.predict import rounding

NANO = bundled_models()["nano"]
FIRST_ANSWER = """
import sys
from linnaea.cli import main
assert main(["predict", sys.argv[1], "--model", sys.argv[2], "--precision", "int8"]) == 0
assert "torch" not in sys.modules
"""


@pytest.fixture(scope="module")
def small(trained: Path, photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A packed vision transformer with a form in 8 bits."""
    folder = tmp_path_factory.mktemp("int8") / "packed"
    packing.pack(trained, folder, int8_photographs=photographs)
    return folder


def test_a_transformer_in_8_bits_is_near_and_needs_no_pytorch(small: Path, photographs: Path) -> None:
    whole, rounded = (open_encoder(str(small), device="cpu", precision=one) for one in ("float32", "int8"))
    assert (rounded.precision, rounded.fingerprint) == ("int8", whole.fingerprint)
    picture = next(photographs.rglob("*.jpg"))
    pixels = np.random.default_rng(0).integers(0, 255, (9, 3, 32, 32), np.uint8)
    cosines = (encode_pixels(whole, pixels) * encode_pixels(rounded, pixels)).sum(axis=1)
    assert 0.99 < cosines.min() < 0.999999
    words = [sys.executable, "-c", FIRST_ANSWER, str(picture), str(small)]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_what_names_others_is_left_out(
    trained: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(rounding, "MOST_CHANGE", -1)
    packing.pack(trained, tmp_path / "packed", int8_photographs=photographs)
    assert not (tmp_path / "packed" / INT8_FILE).exists()
    assert "8 bits are left out" in caplog.text
    with pytest.raises(LinnaeaError, match="--int8-photographs"):
        open_encoder(str(tmp_path / "packed"), precision="int8")


def test_few_photographs_are_an_error(trained: Path, photographs: Path, tmp_path: Path) -> None:
    with pytest.raises(LinnaeaError, match="8 bits need 40"):
        packing.pack(trained, tmp_path / "packed", int8_photographs=next(photographs.rglob("*.jpg")))


def test_products_of_nano_fit_16_bits() -> None:
    """A processor without VNNI adds two products in 16 bits, which would overflow: 255 times two weights is less."""
    graph = onnx.load(str(NANO / INT8_FILE)).graph
    weights = [numpy_helper.to_array(one) for one in graph.initializer if one.name.endswith(".int8")]
    assert len(weights) == 61
    for whole in weights:
        values = whole.reshape(*whole.shape[:2], -1).astype(int)
        if whole.shape[1] == 1:
            worst = max(np.sort((sign * values[:, 0]).clip(0))[:, -2:].sum(axis=1).max() for sign in (1, -1))
        else:
            worst = np.abs(values[:, ::2] + values[:, 1::2]).max()
        assert worst <= LARGEST_PAIR + 1  # each is rounded to the nearest


def test_nano_in_8_bits_is_near_to_float32() -> None:
    whole, rounded = (open_encoder("nano", device="cpu", precision=one) for one in ("float32", "int8"))
    coarse = np.random.default_rng(0).integers(0, 255, (2, 3, 8, 8)).repeat(32, axis=2).repeat(32, axis=3)
    pixels = coarse.astype(np.uint8)
    assert (encode_pixels(whole, pixels) * encode_pixels(rounded, pixels)).sum(axis=1).min() > 0.95


def by_onnxruntime(pixels: np.ndarray) -> np.ndarray:
    return pixels[:, 0, 0]


def by_openvino(pixels: np.ndarray) -> np.ndarray:
    return pixels[:, 0, 0]


@pytest.mark.parametrize(("ms", "wanted"), [(1, by_openvino), (100, by_onnxruntime), (None, by_onnxruntime)])
def test_the_faster_runtime_is_measured_once_and_remembered(
    ms: int | None, wanted: runtimes.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    timed: list[runtimes.Run] = []

    def open_openvino(path: Path, precision: str, side: int) -> runtimes.Run:
        if ms is None:
            raise RuntimeError("no such instruction")
        return by_openvino

    def time(run: runtimes.Run, side: int) -> float:
        timed.append(run)
        return {by_openvino: ms or 0, by_onnxruntime: 10.0}[run]

    monkeypatch.setenv("LINNAEA_CACHE", str(tmp_path))
    monkeypatch.setattr(runtimes, "has_openvino", lambda: True)
    monkeypatch.setattr(runtimes, "_open_openvino", open_openvino)
    monkeypatch.setattr(runtimes, "open_onnxruntime", lambda path: by_onnxruntime)
    monkeypatch.setattr(runtimes, "_time", time)
    assert runtimes.open_runtime(NANO / IMAGE_FILE, "float32", 256) is wanted
    assert ("no such instruction" in caplog.text) == (ms is None)
    n_timed = len(timed)
    assert runtimes.open_runtime(NANO / IMAGE_FILE, "float32", 256) is wanted
    assert len(timed) == n_timed, "timed again"
    ((graph, times),) = runtimes.list_choices()
    assert graph.startswith(f"nano/{IMAGE_FILE}")
    assert times.startswith("OpenVINO" if wanted is by_openvino else "ONNX Runtime")


def test_both_runtimes_give_the_same_vectors() -> None:
    pytest.importorskip("openvino")
    pixels = np.random.default_rng(0).uniform(0, 255, (3, 3, 256, 256)).astype(np.float32)
    path = NANO / IMAGE_FILE
    theirs, ours = runtimes._open_openvino(path, "float32", 256)(pixels), runtimes.open_onnxruntime(path)(pixels)
    np.testing.assert_allclose(theirs, ours, atol=1e-5 * np.abs(ours).max())
