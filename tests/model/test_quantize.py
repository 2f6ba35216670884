"""A tower in 8 bits: near to float32, without PyTorch, and the same with and without VNNI."""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from PIL import Image

from linnaea.data.engine import count_cores
from linnaea.data.images import ImageError, decode
from linnaea.errors import LinnaeaError
from linnaea.model import runtimes
from linnaea.model.encode import encode_pixels, iter_encoded_images
from linnaea.model.folders import IMAGE_FILE, INT8_FILE, Precision, bundled_models
from linnaea.model.onnx import GraphModel
from linnaea.model.open import open_encoder, see_as
from linnaea.model.quantize import LARGEST_PAIR, quantise
from linnaea.predict import pack as packing
from linnaea.predict import rounding

NANO = bundled_models()["nano"]
FIRST_ANSWER = """
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
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


def test_products_whose_rows_are_tokens_are_rounded_as_others(tmp_path: Path) -> None:
    """Attention's last product is a ``Gemm`` of the tokens of all photographs, with weights as (outputs, inputs)."""
    rng = np.random.default_rng(0)
    first, second, last = (rng.normal(size=(16, 16)).astype(np.float32) for _ in range(3))
    shape = numpy_helper.from_array(np.array([-1, 16], np.int64), "shape")
    weights = [numpy_helper.from_array(one, name) for one, name in
               ((first, "first"), (second, "second"), (np.ones(16, np.float32), "bias"), (last, "last"))]  # fmt: skip
    nodes = [
        onnx.helper.make_node("Reshape", ["pixels", "shape"], ["tokens"]),
        onnx.helper.make_node("MatMul", ["tokens", "first"], ["a"]),
        onnx.helper.make_node("Gemm", ["a", "second", "bias"], ["b"], transB=1),
        onnx.helper.make_node("MatMul", ["b", "last"], ["c"]),
    ]
    of_pixels, of_last = (onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims)
                          for name, dims in (("pixels", ["B", 3, 8, 8]), ("c", None)))  # fmt: skip
    graph = onnx.helper.make_graph(nodes, "tower", [of_pixels], [of_last], [shape, *weights])
    opset = [onnx.helper.make_opsetid("", 18)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=10), str(tmp_path / "whole.onnx"))
    pixels = rng.integers(0, 255, (40, 3, 8, 8), np.uint8)
    quantise(tmp_path / "whole.onnx", tmp_path / "small.onnx", pixels)
    stored = {one.name for one in onnx.load(str(tmp_path / "small.onnx")).graph.initializer}
    assert {"first.int8", "second.int8", "last"} <= stored
    got = runtimes.open_onnxruntime(tmp_path / "small.onnx")(pixels.astype(np.float32))
    exact = ((pixels.reshape(-1, 16) @ first) @ second.T + 1) @ last
    assert np.abs(got - exact).mean() < 0.02 * np.abs(exact).mean()


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

    def open_openvino(path: Path, precision: str, side: int, n_callers: int = 1) -> runtimes.Run:
        if ms is None:
            raise RuntimeError("no such instruction")
        return by_openvino

    def time(run: runtimes.Run, side: int, n_callers: int) -> float:
        timed.append(run)
        return {by_openvino: ms or 0, by_onnxruntime: 10.0}[run]

    monkeypatch.setenv("LINNAEA_CACHE", str(tmp_path))
    monkeypatch.setattr(runtimes, "has_openvino", lambda: True)
    monkeypatch.setattr(runtimes, "_open_openvino", open_openvino)
    monkeypatch.setattr(runtimes, "open_onnxruntime", lambda path, n_callers=1: by_onnxruntime)
    monkeypatch.setattr(runtimes, "_time", time)
    assert runtimes.open_runtime(NANO / IMAGE_FILE, "float32", 256) is wanted
    assert ("no such instruction" in caplog.text) == (ms is None)
    n_timed = len(timed)
    assert runtimes.open_runtime(NANO / IMAGE_FILE, "float32", 256) is wanted
    assert len(timed) == n_timed, "timed again"
    ((graph, times),) = runtimes.list_choices()
    assert graph.startswith(f"nano/{IMAGE_FILE}")
    assert times.startswith("OpenVINO" if wanted is by_openvino else "ONNX Runtime")


def test_a_graph_is_listed_once_with_its_latest_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LINNAEA_CACHE", str(tmp_path / "cache"))
    graph, unfinished = tmp_path / "nano" / "image.onnx", tmp_path / ".packed.host.1.partial" / "image.onnx"
    for path, content, ms in ((graph, "old", 9.0), (unfinished, "new", 5.0), (graph, "newer", 3.0)):
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
        runtimes._remember(runtimes._key(path, "float32"), {"ONNX Runtime": ms})
    assert runtimes.list_choices() == [("nano/image.onnx, float32", "ONNX Runtime 3.0 ms")]
    assert len(runtimes._read_choices()) == 2, "the folder that was being written has another name now"


def test_both_runtimes_give_the_same_vectors() -> None:
    pytest.importorskip("openvino")
    pixels = np.random.default_rng(0).uniform(0, 255, (3, 3, 256, 256)).astype(np.float32)
    path = NANO / IMAGE_FILE
    theirs, ours = runtimes._open_openvino(path, "float32", 256)(pixels), runtimes.open_onnxruntime(path)(pixels)
    np.testing.assert_allclose(theirs, ours, atol=1e-5 * np.abs(ours).max())


def test_openvino_runs_once_alone_before_many_callers_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads that use its bindings for the first time at once may wait for each other forever."""
    spans: list[tuple[float, float]] = []

    def infer(inputs: dict[int, np.ndarray]) -> list[np.ndarray]:
        start = time.monotonic()
        time.sleep(0.02)
        spans.append((start, time.monotonic()))
        return [inputs[0].mean(axis=(2, 3))]

    model = SimpleNamespace(reshape=lambda shape: None, get_ops=list)
    compiled = SimpleNamespace(create_infer_request=lambda: SimpleNamespace(infer=infer))
    core = SimpleNamespace(read_model=lambda path: model, compile_model=lambda *given: compiled)
    monkeypatch.setitem(sys.modules, "openvino", SimpleNamespace(Core=lambda: core))
    monkeypatch.setattr(runtimes, "watch", lambda *given: None)
    monkeypatch.setattr(runtimes, "_HAS_RUN", threading.Event())
    run = runtimes._open_openvino(NANO / IMAGE_FILE, "float32", 256, n_callers=4)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(run, [np.zeros((1, 3, 2, 2), np.float32)] * 8))
    (_, first_ended), *others = sorted(spans)
    assert all(start >= first_ended for start, _ in others)
    assert any(start < before for (_, before), (start, _) in pairwise(others)), "later ones run side by side"


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_callers_on_a_core_each_get_the_same_vectors(precision: Precision) -> None:
    """As the threads of a server and of a folder's batch do, in order and with a broken photograph among them."""
    found = open_encoder("nano", device="cpu", precision=precision)
    assert isinstance(found, GraphModel) and found.n_callers == count_cores()
    alone, many = (replace(found, n_callers=n) for n in (1, 3))
    pixels = np.random.default_rng(0).integers(0, 255, (11, 256, 256, 3), np.uint8)

    def read(number: int, enough: int | None) -> np.ndarray:
        if number == 4:
            raise ImageError("broken")
        return pixels[number]

    one, several = (list(iter_encoded_images(model, [(at, partial(read, at)) for at in range(11)], batch_size=8))
                    for model in (alone, many))  # fmt: skip
    for (key, vector), (same_key, same) in zip(one, several, strict=True):
        assert key == same_key
        if key == 4:
            assert isinstance(vector, ImageError) and isinstance(same, ImageError)
        else:
            np.testing.assert_allclose(vector, same, atol=1e-6)


def test_models_in_pytorch_and_large_graphs_have_one_caller(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert open_encoder(str(trained), device="cpu").n_callers == 1
    small = open_encoder("nano", device="cpu")
    assert (small.for_photographs(1).n_callers, small.for_photographs(2).n_callers) == (1, count_cores())
    small.open()
    assert small.for_photographs(1) is small, "to open the graph again would take longer"
    monkeypatch.setattr("linnaea.model.onnx._SMALL_BYTES", 1000)
    assert open_encoder("nano", device="cpu").n_callers == 1


def test_a_graph_is_opened_once_for_all_copies_of_a_model(monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[runtimes.Run] = []

    def open_runtime(*args: object, **options: object) -> runtimes.Run:
        opened.append(lambda values: np.zeros((len(values), 1), np.float32))
        return opened[-1]

    monkeypatch.setattr("linnaea.model.onnx.open_runtime", open_runtime)
    model = open_encoder("nano", device="cpu")
    assert isinstance(model, GraphModel)
    copies = [model, see_as(model, "squash"), replace(model, name="copy").for_photographs(2)]
    assert {id(one.open()) for one in copies} == {id(opened[0])}
    assert model.for_photographs(1).open() is opened[0]
    assert replace(model, precision="int8").open() is opened[1], "another file"


def test_8_bits_decode_large_photographs_at_a_fraction(small: Path, tmp_path: Path) -> None:
    """No smaller than one and a half times the input, so that this changes less than 8 bits do."""
    whole, rounded = (open_encoder(str(small), device="cpu", precision=one) for one in ("float32", "int8"))
    side = whole.preprocess.image_size
    assert (whole.enough_short_side(False), whole.enough_short_side(True)) == (None, 2 * side)
    assert rounded.enough_short_side(False) == 3 * side // 2
    Image.effect_noise((side * 8, side * 4), 60).convert("RGB").save(tmp_path / "a.jpg")
    seen: list[int | None] = []

    def load(enough: int | None) -> np.ndarray:
        seen.append(enough)
        return decode((tmp_path / "a.jpg").read_bytes(), min_short_side=enough)

    for model in (whole, rounded):
        (found,) = iter_encoded_images(model, [("a", load)])
        assert isinstance(found[1], np.ndarray)
    assert seen == [None, 3 * side // 2]
