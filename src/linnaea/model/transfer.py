"""Move arrays to a GPU without making the processor wait: from pinned memory, and pictures beside the computation."""

from functools import cache

import torch
from jaxtyping import Float, UInt8
from numpy import ndarray
from torch import Tensor

from linnaea.model.preprocess import Preprocess


def move(value: Tensor, device: torch.device) -> Tensor:
    """Return a tensor on the device. The copy to a GPU is queued, and the processor continues at once."""
    if device.type != "cuda" or value.is_cuda:
        return value.to(device)
    return _pinned(value).to(device, non_blocking=True)


def move_pixels(pixels: UInt8[ndarray, "B 3 S S"], device: torch.device) -> UInt8[Tensor, "B 3 S S"]:
    """Return pixels as a tensor on the device; on a CPU it shares their memory.

    The copy to a GPU has a stream of its own. The processor queues it while the GPU still computes the step before, so
    the two take place at the same time.
    """
    if device.type != "cuda":
        return torch.from_numpy(pixels).to(device)
    beside, main = _copy_stream(device), torch.cuda.current_stream(device)
    rows = torch.from_numpy(pixels.transpose(0, 2, 3, 1))  # contiguous, as decoders write them
    with torch.cuda.stream(beside):
        moved = _pinned(rows).to(device, non_blocking=True)
    main.wait_stream(beside)
    moved.record_stream(main)
    return moved.permute(0, 3, 1, 2)


def normalise(pixels_BCHW: Tensor, preprocess: Preprocess, dtype: torch.dtype) -> Float[Tensor, "B 3 H W"]:
    """Return uint8 pixels as a model takes them, on their device."""
    mean, std = (_on_channels(value, pixels_BCHW.device) for value in (preprocess.mean, preprocess.std))
    return pixels_BCHW.to(dtype).div_(255).sub_(mean).div_(std)


@cache
def _on_channels(values: tuple[float, ...], device: torch.device) -> Float[Tensor, "3 1 1"]:
    """Return a constant on the device; making it anew would wait for a GPU in each step."""
    return torch.tensor(values, device=device).view(3, 1, 1)


def pinned_pixels(n: int, side: int) -> UInt8[ndarray, "n 3 S S"]:
    """Return uninitialised pinned memory for ``n`` pictures in ``channels_last`` layout.

    PyTorch keeps the memory of batches that are gone and gives it out again.
    """
    pixels = torch.empty((n, side, side, 3), dtype=torch.uint8, pin_memory=True)
    return pixels.numpy().transpose(0, 3, 1, 2)


def _pinned(value: Tensor) -> Tensor:
    return value if value.is_pinned() else value.pin_memory()


@cache
def _copy_stream(device: torch.device) -> "torch.cuda.Stream":
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
