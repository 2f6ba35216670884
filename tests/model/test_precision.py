"""bf16: nearly the same vectors from the image tower, the same captions, the same name for banks."""

from pathlib import Path

import numpy as np
import pytest
import torch

from linnaea.errors import LinnaeaError
from linnaea.model import load, precision
from linnaea.model.encoder import open_encoder
from linnaea.model.load import TaxonModel, load_model, save_model
from linnaea.model.pointwise import multiply_pointwise
from linnaea.model.precision import choose_precision, lower_to_bf16

PIXELS = np.random.default_rng(0).integers(0, 256, (9, 3, 32, 32), dtype=np.uint8)


def ignore(done: int, total: int | None) -> None:
    pass


def test_vectors_are_nearly_those_of_float32(model: TaxonModel, tmp_path: Path) -> None:
    save_model(model, tmp_path)
    exact, low = load_model(str(tmp_path), device="cpu"), load_model(str(tmp_path), device="cpu", precision="bf16")
    assert (exact.precision, low.precision) == ("float32", "bf16")
    for unit in (True, False):
        expected, got = exact.encode_pixels(PIXELS, unit=unit), low.encode_pixels(PIXELS, unit=unit)
        assert got.dtype == np.float32
        error = np.linalg.norm(got - expected, axis=1) / np.linalg.norm(expected, axis=1)
        assert 0 < error.max() < 0.01
    names = ["Pica pica", "Abies alba"]
    assert (low.encode_captions(names, ignore) == exact.encode_captions(names, ignore)).all(), "captions stay float32"
    assert low.fingerprint == exact.fingerprint, "a bank fits both"
    assert low.logit_scale == exact.logit_scale


def test_what_is_added_up_stays_float32(model: TaxonModel) -> None:
    """Nearer to float32 than a tower that is bfloat16 throughout."""
    images = torch.from_numpy(PIXELS).float().div(255)
    with torch.inference_mode():
        exact = model.clip.visual(images)  # type: ignore[operator]
        throughout = model.clip.visual.to(torch.bfloat16)(images.bfloat16()).float()  # type: ignore[operator]
        model.clip.visual.float()  # type: ignore[operator]
        lower_to_bf16(model.clip.visual)  # type: ignore[arg-type]
        ours = model.clip.visual(images)  # type: ignore[operator]
    assert (ours - exact).norm() < (throughout - exact).norm()


def test_a_tower_without_blocks_is_lowered_as_a_whole() -> None:
    tower = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten())
    images = torch.rand(2, 3, 8, 8)
    with torch.inference_mode():
        exact = tower(images)
        lower_to_bf16(tower)
        got = tower(images)
    assert got.dtype == torch.float32
    assert 0 < (got - exact).norm() / exact.norm() < 0.01


@pytest.mark.parametrize("native", [True, False])
def test_auto_is_bf16_only_where_the_device_has_it(native: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "_multiplies_bf16", lambda device: native)
    cpu = torch.device("cpu")
    assert choose_precision("auto", cpu) == ("bf16" if native else "float32")
    assert choose_precision("float32", cpu) == "float32"
    assert choose_precision("bf16", cpu) == "bf16"


def test_other_devices_stay_float32_where_nothing_is_known_of_them() -> None:
    assert choose_precision("auto", torch.device("mps")) == "float32"


def test_an_exported_model_has_the_precision_it_was_exported_with(tmp_path: Path) -> None:
    (tmp_path / "onnx.json").write_text("{}")
    with pytest.raises(LinnaeaError, match="runs as it was exported"):
        open_encoder(str(tmp_path), precision="bf16")


def test_the_other_way_to_multiply_gives_the_same_vectors(
    model: TaxonModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(model, tmp_path)
    monkeypatch.setattr(load, "is_worth_it", lambda device: True)
    plain, other = load_model(str(tmp_path), device="cpu"), open_encoder(str(tmp_path), device="cpu")
    np.testing.assert_allclose(other.encode_pixels(PIXELS), plain.encode_pixels(PIXELS), atol=2e-6)
    assert other.fingerprint == plain.fingerprint
    names = {type(module).__name__ for module in other.clip.visual.modules()}  # type: ignore[attr-defined]
    assert {"_PointwiseLinear", "_PointwiseAttention"} <= names, "the test has a case"
    assert not any("Pointwise" in type(module).__name__ for module in plain.clip.modules())


def test_attention_that_is_asked_for_more_takes_the_usual_way() -> None:
    """Weights, a mask, other keys: what image towers never ask for."""
    attention = torch.nn.MultiheadAttention(16, 2, batch_first=True).eval()
    x, keys, mask = torch.rand(2, 5, 16), torch.rand(2, 3, 16), torch.rand(5, 5)
    with torch.inference_mode():
        expected = [
            attention(x, x, x),
            attention(x, keys, keys),
            attention(x, x, x, need_weights=False, attn_mask=mask),
        ]
        plain = attention(x, x, x, need_weights=False)
        multiply_pointwise(attention)
        got = [attention(x, x, x), attention(x, keys, keys), attention(x, x, x, need_weights=False, attn_mask=mask)]
        torch.testing.assert_close(attention(x, x, x, need_weights=False)[0], plain[0])
    for one, other in zip(got, expected, strict=True):
        torch.testing.assert_close(one, other)
