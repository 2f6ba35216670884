"""Distributed training: the processes of a run, their communication, and how a model is spread over them.

``torchrun`` starts the processes; they use gloo between CPUs and nccl between GPUs. Models and objectives are unaware
of it: an objective receives the features of all processes, and its gradient flows back to the process that made them.

All gradients follow one rule: every process computes the same loss L of the global batch. In the backward pass,
:meth:`Peers.gather` and :meth:`Peers.sum` add the gradients of all processes, which gives ``size`` times the gradient
of L. DDP and FSDP average parameter gradients over processes, which gives the gradient of L.
"""

import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel

from linnaea.errors import LinnaeaError

Spread = Literal["ddp", "fsdp"]
"""ddp: every process holds the whole model; fsdp (FSDP2): a part of each block's weights, gradients and moments."""

T = TypeVar("T")

_LOST = ("connection closed", "connection reset", "connection refused", "broken pipe", "timed out", "peer", "socket")
"""Words in the errors of gloo and nccl when a process has ended."""


@dataclass(frozen=True)
class Peers:
    """The processes of a run, seen from one of them."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    background: Any = field(default=None, repr=False)
    """A separate process group for background work (saving), so that its messages do not mix with training's."""

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def own(self, value: Tensor) -> Tensor:
        """Return this process's equal part of rows that all processes hold; the length must divide evenly."""
        share = len(value) // self.size
        return value[self.rank * share : (self.rank + 1) * share]

    def gather(self, value: Tensor) -> Tensor:
        """Return the rows of all processes in rank order, the same number from each; differentiable."""
        return value if self.size == 1 else _Gather.apply(value, self)

    def sum(self, value: Tensor) -> Tensor:
        """Return the sum over processes; differentiable."""
        return value if self.size == 1 else self.gather(value[None]).sum(dim=0)

    def gather_array(self, values: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the rows of all processes of an integer array, the same number from each; does not wait for a GPU."""
        if self.size == 1:
            return values
        together: NDArray[np.int64] = self.gather(torch.from_numpy(values)).numpy()
        return together

    def total(self, *values: float | int | bool) -> list[float]:
        """Return the sums over processes, in one message between CPUs; does not wait for a GPU."""
        if self.size == 1:
            return [float(value) for value in values]
        numbers = torch.tensor(values, dtype=torch.float64)
        dist.all_reduce(numbers)
        return [float(number) for number in numbers]

    def collect(self, value: T) -> list[T]:
        """Return the objects of all processes in rank order."""
        found: list[Any] = [value] * self.size
        if self.size > 1:
            dist.all_gather_object(found, value)
        return found

    def collect_lines(self, lines: Iterable[str]) -> list[str]:
        """Return the lines of all processes in rank order."""
        return [line for part in self.collect(list(lines)) for line in part]

    def first_does(self, work: Callable[[], T]) -> T:
        """Run ``work`` on the first process and return its result on all.

        If it fails, all processes stop, and the first reports why.
        """
        if self.size == 1:
            return work()
        answer: list[Any] = [None, ""]
        failure: LinnaeaError | None = None
        if self.is_first:
            try:
                answer[0] = work()
            except LinnaeaError as error:
                failure, answer[1] = error, str(error)
        dist.broadcast_object_list(answer, src=0)
        if failure:
            raise failure
        if answer[1]:
            raise SystemExit(1)
        result: T = answer[0]
        return result

    def stop(self, message: str) -> LinnaeaError | SystemExit:
        """Return the exception with which this process stops; only the first reports the message."""
        return LinnaeaError(message) if self.is_first else SystemExit(1)

    def wait(self) -> None:
        """Wait until all processes have reached this point."""
        if self.size > 1:
            dist.barrier()

    def average_statistics(self, clip: nn.Module) -> None:
        """Average BatchNorm's running statistics over processes, each of which has seen its part of the batch."""
        if self.size == 1:
            return
        for name, value in clip.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                dist.all_reduce(value)
                value.div_(self.size)


ALONE = Peers()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, value: Tensor, peers: Peers) -> Tensor:
        ctx.peers = peers
        parts = [torch.empty_like(value, memory_format=torch.contiguous_format) for _ in range(peers.size)]
        dist.all_gather(parts, value.detach().contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (gradient,) = gradients
        if gradient.is_cuda:
            own = torch.empty_like(ctx.peers.own(gradient))
            dist.reduce_scatter_tensor(own, gradient.contiguous())
            return own, None
        total = gradient.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return ctx.peers.own(total), None


def _is_spread() -> bool:
    return int(os.environ.get("WORLD_SIZE", "1")) > 1 and "RANK" in os.environ


def is_first() -> bool:
    """Return whether this is the only process of a run or the first that ``torchrun`` started."""
    return not _is_spread() or int(os.environ["RANK"]) == 0


@contextmanager
def join(device: str = "auto") -> Iterator[Peers]:
    """Yield the processes that ``torchrun`` started, or :data:`ALONE` without it.

    On a machine with GPUs, each process uses the GPU with its local number, unless ``device`` is ``cpu``.

    Raises:
        LinnaeaError: Another process of the run has ended, or there are more processes than GPUs on this machine.
    """
    if not _is_spread():
        yield ALONE
        return
    cuda = torch.cuda.is_available() and device in ("auto", "cuda")
    where = torch.device("cpu")
    if cuda:
        local = int(os.environ.get("LOCAL_RANK", "0"))
        if local >= torch.cuda.device_count():
            raise LinnaeaError(
                f"process {local} has no GPU: this machine has {torch.cuda.device_count()}; lower --nproc-per-node"
            )
        torch.cuda.set_device(local)
        where = torch.device("cuda", local)
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
    try:
        background = dist.new_group(backend="gloo")
        peers = Peers(dist.get_rank(), dist.get_world_size(), where, background)
        with explain_lost(peers):
            yield peers
    finally:
        dist.destroy_process_group()


@contextmanager
def explain_lost(peers: Peers) -> Iterator[None]:
    """Turn the network errors that follow the end of another process into a one-line error.

    Raises:
        LinnaeaError: Another process has ended.
    """
    try:
        yield
    except (RuntimeError, ConnectionError) as error:
        if isinstance(error, LinnaeaError) or not any(word in str(error).lower() for word in _LOST):
            raise
        raise LinnaeaError(
            f"process {peers.rank} of {peers.size}: another process of this run has ended (killed, out of memory or"
            " failed: see its own message); the last checkpoint is intact; continue from it with --resume"
        ) from error


class _WholeStep(nn.Module):
    """The loss of a batch as one module that DDP and FSDP wrap, so that models need not know of them."""

    def __init__(self, clip: nn.Module, loss_of: Callable[[Any], Tensor]) -> None:
        super().__init__()
        self.clip, self._loss_of = clip, loss_of

    def forward(self, batch: Any) -> Tensor:
        return self._loss_of(batch)


def spread(clip: nn.Module, loss_of: Callable[[Any], Tensor], peers: Peers, how: Spread) -> Callable[[Any], Tensor]:
    """Return ``loss_of`` with the gradients of ``clip`` averaged over processes in the backward pass.

    ``fsdp`` shards the weights of ``clip`` in place, so make the optimizer after this call.
    """
    if peers.size == 1:
        return loss_of
    whole = _WholeStep(clip, loss_of)
    if how == "ddp":
        # find_unused_parameters, because an objective may not use a tower, and because buckets then keep their order:
        # otherwise DDP rearranges them after the first step, and a resumed run would add in another order.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # renames broadcast_buffers; older versions lack the name
            return DistributedDataParallel(
                whole, find_unused_parameters=True, broadcast_buffers=False, gradient_as_bucket_view=True
            )
    mesh = init_device_mesh(peers.device.type, (peers.size,))
    scalars = {parameter for parameter in clip.parameters() if parameter.ndim == 0}  # FSDP2 does not shard scalars
    for block in iter_blocks(clip):
        fully_shard(block, mesh=mesh)
    fully_shard(whole, mesh=mesh, ignored_params=scalars)
    for scalar in scalars:
        if scalar.requires_grad:
            scalar.register_post_accumulate_grad_hook(  # type: ignore[no-untyped-call]
                lambda parameter: _average(parameter.grad, peers)
            )
    return whole


def _average(gradient: Tensor | None, peers: Peers) -> None:
    if gradient is not None:
        dist.all_reduce(gradient)
        gradient /= peers.size


def iter_blocks(clip: nn.Module) -> Iterator[nn.Module]:
    """Yield the towers' transformer blocks (open_clip's and timm's)."""
    for name, module in clip.named_modules():
        if isinstance(module, nn.ModuleList | nn.Sequential) and name.rsplit(".", 1)[-1] in ("resblocks", "blocks"):
            yield from module


def clip_gradients(parameters: Iterable[nn.Parameter], largest: float) -> Tensor:
    """Scale the gradients so that their total norm is at most ``largest``; return the norm before scaling.

    Unlike ``torch.nn.utils.clip_grad_norm_``, this accepts sharded and unsharded gradients together.
    """
    given = [parameter for parameter in parameters if parameter.grad is not None]
    gradients = [parameter.grad for parameter in given if parameter.grad is not None]
    plain = [gradient for gradient in gradients if not isinstance(gradient, DTensor)]
    norm: Tensor = torch.nn.utils.get_total_norm(plain)
    if len(plain) == len(gradients):
        if largest < math.inf:
            torch.nn.utils.clip_grads_with_norm_(given, largest, norm)
        return norm
    shards = [gradient.to_local() for gradient in gradients if isinstance(gradient, DTensor)]
    squared = torch.nn.utils.get_total_norm(shards).double() ** 2
    dist.all_reduce(squared)  # one number; each process has its part of every sharded gradient
    norm = (squared + norm.double() ** 2).sqrt()
    if largest < math.inf:
        factor = (largest / (norm + 1e-6)).clamp(max=1.0)
        for gradient in (*plain, *shards):
            gradient.mul_(factor)
    return norm


def whole(value: Tensor) -> Tensor:
    """Return a sharded tensor as a whole one, and any other tensor unchanged; all processes must call this."""
    if not isinstance(value, DTensor):
        return value
    together: Tensor = value.full_tensor()
    return together


def assemble(sharded: nn.Module, twin: nn.Module) -> None:
    """Copy the weights of a sharded model into an unsharded twin; all processes must call this."""
    own = twin.state_dict()
    for name, value in sharded.state_dict().items():
        own[name].copy_(whole(value))
