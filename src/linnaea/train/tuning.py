"""Frozen towers, low-rank additions, learning rates per layer, the optimiser, and compilation."""

import math
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrize

from linnaea.errors import LinnaeaError
from linnaea.model.load import TaxonModel
from linnaea.model.memory import keep_freed_memory
from linnaea.model.training_form import caption_form, take_training_form, takes_bytes
from linnaea.train.parallel import iter_blocks
from linnaea.train.recipe import Descent

_BLOCK = re.compile(r"(.*\b(?:resblocks|blocks))\.(\d+)\.")
_STEM = re.compile(r"embedding|visual\.conv1|ln_pre|patch_embed|cls_token|pos_embed|conv_stem|trunk\.(conv1|bn1)\.")
"""Matches the names of parameters before the first block of a tower."""
BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
_JOINT = ("logit_scale", "logit_bias")
_CACHE_DIR = "TORCHINDUCTOR_CACHE_DIR"
_FASTEST_FIRST = [
    SDPBackend.CUDNN_ATTENTION,
    SDPBackend.FLASH_ATTENTION,
    SDPBackend.EFFICIENT_ATTENTION,
    SDPBackend.MATH,
]
_COMPILER = {"recompile_limit": 64, "optimize_ddp": False}
"""Settings of the compiler. A block is compiled for each size of a pack of captions; replay and relatives have sizes of
their own. Beyond PyTorch's limit of 8 it would not be compiled. DDP needs no cuts inside of a block, because it gets
the gradients of a block when the block's backward pass returns."""


def freeze(clip: nn.Module, towers: Sequence[Literal["image", "text"]]) -> None:
    """Freeze the parameters of these towers, including their projections."""
    for name, parameter in clip.named_parameters():
        if name not in _JOINT and ("image" if name.startswith("visual.") else "text") in towers:
            parameter.requires_grad_(False)


def freeze_blocks(clip: nn.Module, n_blocks: int) -> None:
    """Freeze the first blocks of the image tower and the layers before them.

    Raises:
        LinnaeaError: The tower has fewer blocks, or none of a known kind.
    """
    found = 0
    for name, parameter in clip.named_parameters():
        if not name.startswith("visual."):
            continue
        block = _BLOCK.match(name)
        found = max(found, int(block[2]) + 1) if block else found
        if int(block[2]) < n_blocks if block else _STEM.search(name):
            parameter.requires_grad_(False)
    if found < n_blocks:
        raise LinnaeaError(f"--freeze-blocks {n_blocks}: the image tower has only {found} blocks that can be frozen")


def set_training(clip: nn.Module) -> nn.Module:
    """Set training mode in place, except for BatchNorm layers with frozen gains, which keep their statistics."""
    clip.train()
    for module in clip.modules():
        own = list(module.parameters(recurse=False))
        if isinstance(module, BATCH_NORMS) and own and not any(parameter.requires_grad for parameter in own):
            module.eval()
    return clip


class LowRank(nn.Module):
    """A matrix plus the product of two thin matrices (LoRA, arXiv 2106.09685), which is zero at first.

    The product is scaled by ``1 / sqrt(rank)`` (rank-stabilised, arXiv 2312.03732), so that one learning rate suits
    all ranks.
    """

    def __init__(self, weight: Float[Tensor, "out in"], rank: int) -> None:
        super().__init__()
        n_out, n_in = weight.shape
        self.down = nn.Parameter(torch.randn(rank, n_in, device=weight.device) / math.sqrt(n_in))
        self.up = nn.Parameter(torch.zeros(n_out, rank, device=weight.device))
        self._share = 1 / math.sqrt(rank)

    def forward(self, weight: Float[Tensor, "out in"]) -> Float[Tensor, "out in"]:
        return weight + self._share * (self.up @ self.down).to(weight.dtype)


def add_low_rank(clip: nn.Module, rank: int) -> None:
    """Freeze the towers and add a trained low-rank addition to each matrix of their blocks.

    Matrices that were already frozen get none. The logit scale is still trained.
    """
    trained = {id(parameter) for parameter in clip.parameters() if parameter.requires_grad}
    for name, parameter in clip.named_parameters():
        parameter.requires_grad_(name in _JOINT)
    for block in iter_blocks(clip):
        for module in list(block.modules()):
            for name, parameter in list(module.named_parameters(recurse=False)):
                if parameter.ndim == 2 and id(parameter) in trained:
                    parametrize.register_parametrization(module, name, LowRank(parameter.detach(), rank))


def merge_low_rank(clip: nn.Module) -> None:
    """Merge the low-rank additions into the matrices, which restores the plain model."""
    for module in list(clip.modules()):
        if parametrize.is_parametrized(module):
            for name in list(module.parametrizations):  # type: ignore[arg-type]
                parametrize.remove_parametrizations(module, name, leave_parametrized=True)


def layer_rates(clip: nn.Module, decay: float) -> dict[str, float]:
    """Return each parameter's factor of the learning rate: 1 in a tower's top block, times ``decay`` per block below.

    Layers before the first block get one more factor. Projections, last norms and the logit scale have 1 (the rule of
    BEiT, arXiv 2106.08254).
    """
    names = [name for name, _ in clip.named_parameters()]
    depth: dict[str, int] = {}
    for name in names:
        if found := _BLOCK.match(name):
            depth[found[1]] = max(depth.get(found[1], 0), int(found[2]) + 1)
    text = next((n for stack, n in depth.items() if not stack.startswith("visual.")), 0)
    image = next((n for stack, n in depth.items() if stack.startswith("visual.")), 0)
    rates = {}
    for name in names:
        if found := _BLOCK.match(name):
            below = depth[found[1]] - 1 - int(found[2])
        elif _STEM.search(name):
            below = image if name.startswith("visual.") else text
        else:
            below = 0
        rates[name] = decay**below
    return rates


def make_optimizer(clip: nn.Module, descent: Descent) -> torch.optim.AdamW:
    """Make AdamW with open_clip's two groups, split further by the layers' learning rates.

    Gains, biases, norms and the logit scale have no weight decay. A group's ``share`` is its factor of the learning
    rate. The fused update passes over memory once, which is three to four times as fast on a CPU.
    """
    rates = layer_rates(clip, descent.layer_decay)
    groups: dict[tuple[bool, float, bool], list[nn.Parameter]] = {}
    for name, parameter in clip.named_parameters():
        if not parameter.requires_grad:
            continue
        exempt = parameter.ndim < 2 or any(word in name for word in ("bn", "ln", "bias", "logit_scale"))
        # Sharded and unsharded tensors cannot be updated in one call.
        groups.setdefault((not exempt, rates[name], isinstance(parameter, DTensor)), []).append(parameter)
    parts: list[dict[str, Any]] = [
        {"params": groups[key], "weight_decay": descent.weight_decay if key[0] else 0.0, "share": key[1]}
        for key in sorted(groups)
    ]
    return torch.optim.AdamW(parts, lr=descent.lr, betas=(descent.beta1, descent.beta2), eps=descent.eps, fused=True)


def compiles(descent: Descent, device: torch.device) -> bool:
    """Return whether a recipe asks for compiled towers on this device: by default on a GPU."""
    return device.type == "cuda" if descent.compile is None else descent.compile


def compile_towers(model: TaxonModel, *, float8: bool = False) -> str:
    """Compile both towers in place; return a one-line reason if no compiler works, else an empty string.

    Plain towers take the training form, and their blocks are compiled one by one. Others are compiled whole. ``float8``
    is as in :func:`linnaea.model.training_form.take_training_form`.
    """
    try:
        probe = torch.compile(lambda x: torch.nn.functional.gelu(x) * 2 + 1)
        probe(torch.ones(64, device=model.device, requires_grad=True)).sum().backward()  # type: ignore[no-untyped-call]
    except Exception as error:  # a tool chain can fail in any way
        return f"not compiled, because no compiler works here ({str(error).strip().splitlines()[0][:120]})"
    clip: Any = model.clip
    take_training_form(clip, model.preprocess, compiled=True, float8=float8)
    if not takes_bytes(clip.train()):
        clip.visual.compile()
    text = getattr(clip, "text", clip)
    if caption_form(clip) is None and isinstance(getattr(text, "transformer", None), nn.Module):
        text.transformer.compile(dynamic=True)  # captions come in any number and length
    return ""


@contextmanager
def tuned_device(device: torch.device, descent: Descent, cache_dir: Path) -> Iterator[None]:
    """Set how PyTorch computes during a run: the compiler and where its code is kept; on a GPU, attention and TF32.

    On a CPU, memory that is freed is kept (:func:`linnaea.model.memory.keep_freed_memory`), after the run as well.

    cuDNN's attention comes first: at ViT-B/16's shapes it takes 0.7 of the time of the next one. It is chosen for the
    whole run, so that a block that is computed again in the backward pass keeps its kernel.

    With bf16, the float32 products beside the towers use TF32, mainly the logits. Its error is a tenth of bfloat16's,
    and it is several times faster than float32. The user's ``TORCHINDUCTOR_CACHE_DIR`` takes precedence.
    """
    with ExitStack() as stack:
        before = os.environ.get(_CACHE_DIR, "")
        # PyTorch sets the variable itself when it is imported.
        is_users = before and Path(before).parent != Path(tempfile.gettempdir())
        if compiles(descent, device):
            stack.enter_context(_set_compiler())
            if not is_users:
                stack.callback(_set_environment, _CACHE_DIR, before)
                _set_environment(_CACHE_DIR, str(cache_dir.resolve()))
        if device.type == "cpu":
            keep_freed_memory()
        if device.type == "cuda":
            stack.enter_context(sdpa_kernel(_FASTEST_FIRST, set_priority=True))
        if device.type == "cuda" and descent.precision == "bf16":
            stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
            torch.set_float32_matmul_precision("high")
        yield


@contextmanager
def _set_compiler() -> Iterator[None]:
    import torch._dynamo

    known = {name: value for name, value in _COMPILER.items() if hasattr(torch._dynamo.config, name)}
    with torch._dynamo.config.patch(known):
        yield


def _set_environment(name: str, value: str) -> None:
    if value:
        os.environ[name] = value
    else:
        os.environ.pop(name, None)
