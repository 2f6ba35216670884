"""Models without a graph get one in the cache for bf16 and int8; what cannot run there is left to PyTorch."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import linnaea
from linnaea.cli import main
from linnaea.errors import LinnaeaError
from linnaea.model import onnx_export, runtimes
from linnaea.model import open as opening
from linnaea.model.converted import find_source
from linnaea.model.encode import encode_captions, encode_pixels
from linnaea.model.folders import INT8_FILE
from linnaea.model.load import TaxonModel
from linnaea.model.onnx import GraphModel
from linnaea.model.open import load_model, open_encoder
from linnaea.predict import rounding
from linnaea.predict.inputs import iter_inputs


@pytest.fixture
def pixels() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (9, 3, 32, 32), np.uint8)


@pytest.fixture(scope="module")
def cache(trained: Path, photographs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache in which the run has its form in 8 bits."""
    folder = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LINNAEA_CACHE", str(folder))
        linnaea.open(trained, device="cpu", precision="int8", int8_photographs=photographs)
    return folder


def test_a_run_is_in_8_bits_without_pytorch_once_it_was_made(
    trained: Path, cache: Path, pixels: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINNAEA_CACHE", str(cache))
    exact = load_model(str(trained), device="cpu")
    monkeypatch.setattr(opening, "load_model", None)
    rounded = open_encoder(str(trained), precision="int8")
    assert isinstance(rounded, GraphModel)
    assert (rounded.precision, rounded.fingerprint, rounded.preprocess, rounded.facts) == (
        "int8", exact.fingerprint, exact.preprocess, exact.facts,
    )  # fmt: skip
    assert 0.99 < (encode_pixels(exact, pixels) * encode_pixels(rounded, pixels)).sum(axis=1).min() < 0.999999
    assert np.array_equal(encode_captions(rounded, ["Aves"]), encode_captions(exact, ["Aves"]))
    assert "whole" not in vars(rounded), "the image tower is in memory twice"


def test_graphs_are_kept_by_the_weights_checksum(
    trained: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINNAEA_CACHE", str(cache))
    again, other = (shutil.copytree(trained / "model", tmp_path / name / "model") for name in ("same/run", "other"))
    weights = other / "open_clip_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\1")
    sources = [find_source(str(one)) for one in (trained, again, other)]
    digests = [source.cached.name[-16:] for source in sources if source]
    assert digests[0] == digests[1] != digests[2]
    with pytest.raises(LinnaeaError, match="40 or more photographs"):
        open_encoder(str(other), precision="int8")


@pytest.mark.parametrize("command", ["predict", "embed", "index", "serve"])
def test_each_command_makes_the_form_from_its_photographs(
    command: str, trained: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINNAEA_CACHE", str(tmp_path / "cache"))
    given: list[int] = []

    def make(source: Any, open_bank: Any, photographs: Any) -> None:
        assert len(open_bank(source.load())) > 1
        given.append(len(list(iter_inputs(photographs))))
        raise LinnaeaError("made")

    monkeypatch.setattr(rounding, "make_int8", make)
    words = {"serve": ["--int8-photographs", str(photographs), "--port", "0"],
             "predict": [str(photographs)]}  # fmt: skip
    more = words.get(command, [str(photographs), "--output", str(tmp_path / "made.parquet")])
    assert main([command, *more, "--model", str(trained), "--device", "cpu", "--precision", "int8"]) == 1
    assert given == [96]


def test_a_form_that_answers_otherwise_is_refused_for_good(
    trained: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LINNAEA_CACHE", str(tmp_path))
    monkeypatch.setattr(rounding, "MOST_CHANGE", -1)
    for n_made in (1, 0):
        model = linnaea.open(trained, device="cpu", precision="int8", int8_photographs=photographs)
        assert isinstance(model.encoder, TaxonModel)
        assert caplog.text.count("making its form") == n_made
        assert "PyTorch encodes the photographs" in caplog.text
        caplog.clear()
    assert not list(tmp_path.rglob(INT8_FILE))


def test_few_photographs_are_an_error(
    trained: Path, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINNAEA_CACHE", str(tmp_path))
    one = next(photographs.rglob("*.jpg"))
    with pytest.raises(LinnaeaError, match="needs 40 photographs or more; here are 1"):
        linnaea.open(trained, precision="int8", int8_photographs=one)


@pytest.mark.parametrize("faster", [True, False])
def test_bf16_is_timed_once_against_pytorch(
    faster: bool, trained: Path, pixels: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime stands in for OpenVINO; it computes in float32 with the rounded weights."""
    timed = []

    def time(run: runtimes.Run, side: int) -> float:
        timed.append(run)
        run(pixels.astype(np.float32))
        return 10.0 if (len(timed) == 1) == faster else 1.0  # PyTorch is timed first

    monkeypatch.setenv("LINNAEA_CACHE", str(tmp_path))
    monkeypatch.setattr(runtimes, "has_openvino", lambda: True)
    monkeypatch.setattr(runtimes, "has_bf16", lambda: True)
    monkeypatch.setattr(runtimes, "_open_openvino", lambda path, precision, side, n=1: runtimes.open_onnxruntime(path))
    monkeypatch.setattr(runtimes, "_time", time)
    for _ in range(2):
        model = open_encoder(str(trained), device="cpu", precision="bf16")
        assert isinstance(model, GraphModel if faster else TaxonModel)
        assert model.precision == "bf16"
        cosines = (encode_pixels(load_model(str(trained), device="cpu"), pixels) * encode_pixels(model, pixels)).sum(1)
        assert 0.999 < cosines.min() < 0.9999999
    assert len(timed) == 2, "timed again"
    ((_, times),) = runtimes.list_choices()
    assert times.startswith("OpenVINO 1.0 ms, PyTorch 10.0" if faster else "PyTorch 1.0 ms, OpenVINO 10.0")


def fail(*_: object) -> runtimes.Run:
    raise RuntimeError("no such instruction")


def test_what_openvino_cannot_run_is_left_to_pytorch_with_a_line(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LINNAEA_CACHE", str(tmp_path))
    monkeypatch.setattr(runtimes, "has_openvino", lambda: True)
    monkeypatch.setattr(runtimes, "has_bf16", lambda: True)
    monkeypatch.setattr(runtimes, "_open_openvino", fail)
    model = open_encoder(str(trained), device="cpu", precision="bf16")
    assert isinstance(model, TaxonModel)
    assert "bf16 is left to PyTorch (no such instruction)" in caplog.text


def test_weights_are_rounded_as_pytorch_does() -> None:
    values = np.random.default_rng(0).normal(size=(50, 40)).astype(np.float32)
    values[0, :2] = 1 + 2**-8, 1 + 3 * 2**-8  # ties
    expected = torch.from_numpy(values).bfloat16().view(torch.uint16).numpy()
    assert np.array_equal(onnx_export._round_to_bf16(values), expected)
