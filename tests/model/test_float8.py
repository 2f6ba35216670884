"""Products in 8 bits: scaled, rounded and differentiated as written in the formula, on a CPU's float8 kernels."""

from typing import Any

import pytest
import torch
from open_clip.model import CLIP
from torch import Tensor

from linnaea.model.float8 import has_float8, multiply_in_float8, to_float8
from linnaea.model.preprocess import Preprocess
from linnaea.model.training_form import take_training_form


def round_to(x: Tensor, dtype: torch.dtype) -> Tensor:
    """Round as the formula says: to float8 at the scale of the largest magnitude, and back."""
    scale = x.abs().max() / torch.finfo(dtype).max
    return (x / scale).to(dtype).float() * scale


def make_matrices(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x, weight, bias, gradient = (
        torch.randn(size, generator=generator) for size in ((2, 16, 32), (48, 32), (48,), (2, 16, 48))
    )
    return 30 * x, weight / 50, bias, gradient / 1e5


def test_a_product_and_its_gradients_are_those_of_the_rounded_matrices() -> None:
    x, weight, bias, gradient = make_matrices()
    for one in (x, weight, bias):
        one.requires_grad_()
    out = multiply_in_float8(x, weight, bias)
    out.backward(gradient)
    values, weights = round_to(x.detach(), torch.float8_e4m3fn), round_to(weight.detach(), torch.float8_e4m3fn)
    slopes = round_to(gradient, torch.float8_e5m2)
    pairs: list[tuple[Tensor | None, Tensor]] = [
        (out.detach(), values @ weights.T + bias.detach()),
        (x.grad, slopes @ weights),
        (weight.grad, slopes.flatten(0, 1).T @ values.flatten(0, 1)),
        (bias.grad, gradient.sum(dim=(0, 1))),
    ]
    for found, expected in pairs:
        assert found is not None and torch.allclose(found, expected, rtol=1e-5, atol=float(expected.abs().max()) * 1e-5)


@pytest.mark.parametrize(("dtype", "bound"), [(torch.float8_e4m3fn, 2**-4), (torch.float8_e5m2, 2**-3)])
@pytest.mark.parametrize("size", [1e-20, 1.0, 1e20])
def test_rounding_keeps_the_relative_error_at_any_magnitude(dtype: torch.dtype, bound: float, size: float) -> None:
    x = torch.randn(1000, generator=torch.Generator().manual_seed(1)) * size
    rounded, scale = to_float8(x, dtype)
    large = x.abs() > x.abs().max() / 100  # smaller ones may be subnormal
    assert float(((rounded.float() * scale - x) / x)[large].abs().max()) <= bound
    assert float(rounded.float().abs().max()) == torch.finfo(dtype).max


def test_a_tensor_of_zeros_stays_zero() -> None:
    rounded, scale = to_float8(torch.zeros(4, 16), torch.float8_e4m3fn)
    assert not rounded.float().any() and 0 < float(scale) < 1e-30


def test_what_is_not_finite_stays_so() -> None:
    x, weight, _, _ = make_matrices()
    x[0, 0, 0] = torch.nan
    assert multiply_in_float8(x, weight, None).isnan().any()


def test_sizes_that_kernels_do_not_take_are_multiplied_exactly() -> None:
    x, weight, bias, _ = make_matrices()
    exact = torch.nn.functional.linear(x[:, :7], weight, bias)
    assert torch.equal(multiply_in_float8(x[:, :7], weight, bias), exact)


@pytest.mark.parametrize(
    ("device", "capability", "has"),
    [("cpu", (9, 0), False), ("cuda", (8, 0), False), ("cuda", (8, 9), True), ("cuda", (9, 0), True)],
)
def test_only_later_gpus_have_it(
    device: str, capability: tuple[int, int], has: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert has_float8(torch.device(device)) == has


def make_clip(**options: Any) -> Any:
    torch.manual_seed(0)
    vision_cfg = {"image_size": 24, "layers": 3, "width": 32, "patch_size": 8, "head_width": 16}
    text_cfg = {"context_length": 20, "vocab_size": 300, "width": 32, "heads": 2, "layers": 1}
    clip = CLIP(embed_dim=32, vision_cfg=vision_cfg, text_cfg=text_cfg).train()
    if options:
        take_training_form(clip, Preprocess(image_size=24), **options)
    return clip


def test_only_the_blocks_of_the_image_tower_change() -> None:
    clip = make_clip(compiled=False, float8=True)
    assert list(clip.state_dict()) == list(make_clip().state_dict())
    assert all(block.float8 for block in clip.visual.transformer.resblocks)
    assert not any(block.float8 for block in clip.transformer.resblocks)


def test_vectors_and_gradients_stay_near_those_of_bf16() -> None:
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (16, 3, 24, 24), dtype=torch.uint8, generator=generator)  # 16 x 10 tokens
    found = []
    for float8 in (False, True):
        clip = make_clip(compiled=False, float8=float8)
        with torch.autocast("cpu", torch.bfloat16):
            vectors = clip.encode_image(pixels).float()
        (vectors * torch.linspace(-1, 1, vectors.numel()).view_as(vectors)).sum().backward()
        found.append((vectors.detach(), clip.visual.transformer.resblocks[0].mlp.c_fc.weight.grad))
    for exact, rounded in zip(*found, strict=True):
        assert 1e-3 < float((rounded - exact).norm() / exact.norm()) < 0.3
