"""Our losses are the published formulas, over fewer columns."""

import math

import open_clip
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from open_clip.loss import SigLipLoss
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from linnaea.train import losses
from linnaea.train.losses import LOGITS_AT_ONCE, choose_rows_at_once, info_nce, multi_positive, sigmoid


def make_features(n_images: int, n_captions: int, width: int, seed: int, dtype: torch.dtype) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randn(n_images, width, generator=generator, dtype=dtype)
    caption = torch.randn(n_captions, width, generator=generator, dtype=dtype)
    caption_of = torch.randint(0, n_captions, (n_images,), generator=generator)
    scale = torch.tensor(14.3, dtype=dtype)
    return (image.requires_grad_(), caption.requires_grad_(), scale.requires_grad_(), caption_of)


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 24), st.integers(1, 24), st.integers(0, 10_000))
def test_info_nce_is_open_clips_loss_in_value_and_gradient(n_images: int, n_captions: int, seed: int) -> None:
    """Over all captions of the batch, repeated where samples share one."""
    gradients, values = [], []
    for ours in (True, False):
        image, caption, scale, caption_of = make_features(n_images, n_captions, 8, seed, torch.float64)
        unit_image, unit_caption = normalize(image, dim=-1), normalize(caption, dim=-1)
        if ours:
            used, own = torch.unique(caption_of, return_inverse=True)
            loss = info_nce(unit_image, unit_caption[used], own, scale)
        else:
            loss = open_clip.ClipLoss()(unit_image, unit_caption[caption_of], scale)
        loss.backward()
        values.append(loss.detach())
        gradients.append([t.grad for t in (image, caption, scale)])
    assert torch.allclose(values[0], values[1], rtol=0, atol=1e-10)
    for a, b in zip(*gradients, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-10)


def test_info_nce_in_float32() -> None:
    image, caption, scale, caption_of = make_features(64, 40, 32, 0, torch.float32)
    unit_image, unit_caption = normalize(image, dim=-1), normalize(caption, dim=-1)
    used, own = torch.unique(caption_of, return_inverse=True)
    ours = info_nce(unit_image, unit_caption[used], own, scale).detach()
    theirs = open_clip.ClipLoss()(unit_image, unit_caption[caption_of], scale).detach()
    assert abs(float(ours) - float(theirs)) < 1e-6 * abs(float(theirs)) + 1e-6


def test_a_model_that_knows_nothing_pays_the_logarithm_of_the_batch() -> None:
    same = torch.ones(16, 4) / 2
    loss = info_nce(same, same, torch.arange(16), torch.tensor(10.0))
    assert float(loss) == pytest.approx(math.log(16), abs=1e-5)


def naive_multi_positive(image: Tensor, text: Tensor, taxon: Tensor, scale: Tensor) -> Tensor:
    """Written from the formula: cross-entropy against uniform targets over the samples of one taxon."""
    logits = scale * image @ text.T
    target = (taxon[:, None] == taxon[None, :]).to(logits.dtype)
    target = target / target.sum(dim=1, keepdim=True)
    return 0.5 * (cross_entropy(logits, target) + cross_entropy(logits.T, target))


@settings(max_examples=40, deadline=None)
@given(st.integers(2, 20), st.integers(1, 6), st.integers(0, 10_000))
def test_multi_positive_is_its_formula(n_images: int, n_taxa: int, seed: int) -> None:
    image, caption, scale, caption_of = make_features(n_images, n_images, 8, seed, torch.float64)
    taxon = torch.randint(0, n_taxa, (n_images,), generator=torch.Generator().manual_seed(seed))
    used, own = torch.unique(caption_of, return_inverse=True)
    ours = multi_positive(image, caption[used], own, taxon, scale)
    assert torch.allclose(ours, naive_multi_positive(image, caption[caption_of], taxon, scale), atol=1e-9)


def test_with_all_taxa_different_both_losses_are_one() -> None:
    image, caption, scale, _ = make_features(12, 12, 8, 3, torch.float64)
    own = torch.arange(12)
    assert torch.allclose(multi_positive(image, caption, own, own, scale), info_nce(image, caption, own, scale))


def make_unit_features(n_images: int, n_captions: int, seed: int) -> tuple[Tensor, ...]:
    image, caption, scale, caption_of = make_features(n_images, n_captions, 8, seed, torch.float64)
    used, own = torch.unique(caption_of, return_inverse=True)
    unit = [normalize(part.detach(), dim=-1).requires_grad_() for part in (image, caption[used])]
    bias = torch.tensor(-3.0, dtype=torch.float64).requires_grad_()
    taxon = own // 2
    return (*unit, scale, bias, own, taxon)


LOSSES = {
    "info_nce": lambda i, c, s, b, own, taxon, rows: info_nce(i, c, own, s, rows_at_once=rows),
    "multi_positive": lambda i, c, s, b, own, taxon, rows: multi_positive(i, c, own, taxon, s, rows_at_once=rows),
    "sigmoid": lambda i, c, s, b, own, taxon, rows: sigmoid(i, c, own, s, b, rows_at_once=rows),
}


@pytest.mark.parametrize("name", LOSSES)
@settings(max_examples=25, deadline=None)
@given(st.integers(2, 40), st.integers(1, 20), st.integers(1, 41), st.integers(0, 10_000))
def test_blocks_change_neither_value_nor_gradient(
    name: str, n_images: int, n_captions: int, rows: int, seed: int
) -> None:
    found = []
    for rows_at_once in (0, rows):
        *leaves, own, taxon = make_unit_features(n_images, n_captions, seed)
        loss = LOSSES[name](*leaves, own, taxon, rows_at_once)
        found.append((loss.detach(), *torch.autograd.grad(loss, leaves, allow_unused=True)))
    for whole, in_blocks in zip(*found, strict=True):
        assert (whole is None) == (in_blocks is None)
        if whole is not None:
            assert torch.allclose(whole, in_blocks, rtol=0, atol=1e-10)


@pytest.mark.parametrize("rows", [0, 100])
def test_info_nce_in_float32_follows_open_clip(rows: int) -> None:
    """The loss to 1e-6, each gradient to 1e-5, both relative."""
    found = []
    for ours in (True, False):
        image, caption, scale, _ = make_features(512, 512, 64, 5, torch.float32)
        unit_image, unit_caption = normalize(image, dim=-1), normalize(caption, dim=-1)
        if ours:
            loss = info_nce(unit_image, unit_caption, torch.arange(512), scale, rows_at_once=rows)
        else:
            loss = open_clip.ClipLoss()(unit_image, unit_caption, scale)
        found.append((loss.detach(), *torch.autograd.grad(loss, (image, caption, scale))))
    assert abs(found[0][0] - found[1][0]) <= 1e-6 * abs(found[1][0])
    for a, b in zip(found[0][1:], found[1][1:], strict=True):
        assert (a - b).norm() <= 1e-5 * b.norm()


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 24), st.integers(1, 24), st.integers(0, 10_000))
def test_sigmoid_is_open_clips_loss_in_value_and_gradient(n_images: int, n_captions: int, seed: int) -> None:
    found = []
    for ours in (True, False):
        image, caption, scale, bias, own, _ = make_unit_features(n_images, n_captions, seed)
        if ours:
            loss = sigmoid(image, caption, own, scale, bias)
        else:
            loss = SigLipLoss(rank=0, world_size=1)(image, caption[own], scale, bias)
        found.append((loss.detach(), *torch.autograd.grad(loss, (image, caption, scale, bias))))
    for a, b in zip(*found, strict=True):
        assert torch.allclose(a, b, rtol=0, atol=1e-10)


def test_the_full_matrix_never_exists() -> None:
    """The largest tensor that comes into being on the way there and back is a block."""
    from torch.utils._python_dispatch import TorchDispatchMode

    class Largest(TorchDispatchMode):
        numbers = 0

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            out = func(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else [out]:
                if isinstance(tensor, Tensor):
                    self.numbers = max(self.numbers, tensor.numel())
            return out

    n, rows = 600, 20
    for loss_of in LOSSES.values():
        with Largest() as largest:
            image, caption, scale, _ = make_features(n, n, 8, 0, torch.float32)
            bias, own = torch.zeros((), requires_grad=True), torch.arange(n)
            loss_of(image, caption, scale, bias, own, own, rows).backward()
        assert largest.numbers <= rows * n


def test_small_batches_have_no_blocks_and_large_ones_small_blocks() -> None:
    assert choose_rows_at_once(1024, 1024) == 0
    rows = choose_rows_at_once(32_768, 32_768)
    assert 0 < rows * 32_768 <= LOGITS_AT_ONCE


@pytest.mark.parametrize(
    ("n", "free", "rows"),
    [
        (1024, 2**36, 0),
        (16_384, 2**36, 1024),  # a sixteenth of the matrix
        (32_768, 2**36, 1920),  # 256 MB, in whole tiles
        (32_768, 2**30, 512),  # two blocks are an eighth of what is free
        (32_768, 2**20, 122),  # at least as much as on a CPU
    ],
)
def test_blocks_on_a_gpu_depend_on_its_free_memory(
    n: int, free: int, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(losses, "_free_bytes", lambda device: free)
    assert choose_rows_at_once(n, n, torch.device("cuda")) == rows
    assert 2 * rows * n <= 0.13 * n * n, "a tenth of the several matrices of the plain loss"
