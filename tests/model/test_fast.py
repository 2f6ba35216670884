"""Fast forms of the towers: the same vectors, or nearly the same in bfloat16; the same name for banks."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from open_clip.transformer import VisionTransformer
from torch import nn

from linnaea.errors import LinnaeaError
from linnaea.model import fast
from linnaea.model.fast import (
    FastDepthwise,
    choose_precision,
    end_with_class_token,
    has_depthwise,
    lower_to_bf16,
    multiply_pointwise,
)
from linnaea.model.load import TaxonModel, save_model
from linnaea.model.open import load_model, open_encoder

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
    monkeypatch.setattr(fast, "_multiplies_bf16", lambda device: native)
    cpu = torch.device("cpu")
    assert choose_precision("auto", cpu) == ("bf16" if native else "float32")
    assert choose_precision("float32", cpu) == "float32"
    assert choose_precision("bf16", cpu) == "bf16"


def test_other_devices_stay_float32_where_nothing_is_known_of_them() -> None:
    assert choose_precision("auto", torch.device("mps")) == "float32"


def test_an_exported_model_has_the_precision_it_was_exported_with(tmp_path: Path) -> None:
    (tmp_path / "onnx.json").write_text("{}")
    with pytest.raises(LinnaeaError, match="has a fixed precision"):
        open_encoder(str(tmp_path), precision="bf16")


def test_the_other_way_to_multiply_gives_the_same_vectors(
    model: TaxonModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_model(model, tmp_path)
    monkeypatch.setattr(fast, "is_worth_it", lambda device: True)
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


def make_tower(**options: Any) -> VisionTransformer:
    torch.manual_seed(0)
    size: dict[str, Any] = {"image_size": 32, "patch_size": 8, "width": 32, "layers": 3, "heads": 2, "mlp_ratio": 4.0}
    return VisionTransformer(**size, output_dim=16, **options).eval()


IMAGES_BCHW = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("options", [{}, {"ls_init_value": 0.3}, {"final_ln_after_pool": True}])
@pytest.mark.parametrize("pointwise", [False, True])
@torch.inference_mode()
def test_the_vectors_are_the_same(options: dict[str, Any], pointwise: bool) -> None:
    tower = make_tower(**options)
    expected = tower(IMAGES_BCHW)
    end_with_class_token(tower)
    if pointwise:
        multiply_pointwise(tower)
    asked: list[int] = []
    tower.transformer.resblocks[-1].mlp.register_forward_hook(lambda _, inputs, __: asked.append(inputs[0].shape[1]))
    torch.testing.assert_close(tower(IMAGES_BCHW), expected, rtol=1e-5, atol=1e-5)
    assert asked == [1]


def test_who_asks_for_gradients_sees_every_token() -> None:
    tower = make_tower()
    expected = tower(IMAGES_BCHW)
    end_with_class_token(tower)
    tokens: list[int] = []
    tower.transformer.resblocks[-1].register_forward_hook(lambda _, __, output: tokens.append(output.shape[1]))
    found = tower(IMAGES_BCHW)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert tokens == [17] and found.requires_grad


@pytest.mark.parametrize("options", [{"pool_type": "avg"}, {"attentional_pool": True}, {"output_tokens": True}])
@torch.inference_mode()
def test_towers_that_read_more_stay_as_they_are(options: dict[str, Any]) -> None:
    tower = make_tower(**options)
    expected = tower(IMAGES_BCHW)
    end_with_class_token(tower)
    torch.testing.assert_close(tower(IMAGES_BCHW), expected, rtol=0, atol=0)
    assert type(tower.transformer.resblocks[-1]) is type(tower.transformer.resblocks[0])


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5])
def test_depthwise_gradients_are_those_of_the_plain_way(stride: int, kernel: int) -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(16, 16, kernel, stride=stride, padding=kernel // 2, groups=16, bias=False)
    assert has_depthwise(layer)
    images = torch.randn(2, 16, 12, 12).to(memory_format=torch.channels_last)
    found = {}
    for way in ("float32", "fast"):
        own = images.clone().requires_grad_(True)
        layer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=way == "fast"), FastDepthwise():
            result = layer(own)
        assert result.dtype == (torch.bfloat16 if way == "fast" else torch.float32)
        (result.float() * torch.linspace(0, 1, result.numel()).view_as(result)).sum().backward()
        found[way] = result.float(), own.grad, layer.weight.grad.clone()
    for plain, lowered in zip(found["float32"], found["fast"], strict=True):
        assert (plain - lowered).norm() < 0.01 * plain.norm()
