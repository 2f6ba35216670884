"""The training loop (:func:`fit`) and the state that a step changes (:class:`Learner`).

With the same data, recipe, number of processes and number of threads, one CPU gives the same bits every time. Another
processor gives them up to rounding, and a GPU guarantees nothing bit for bit (docs/reproducibility.md).
"""

import copy
import dataclasses
import math
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from linnaea.model.load import TaxonModel
from linnaea.model.text import TokenTable
from linnaea.train.batches import Batch, BatchSource
from linnaea.train.checkpoints import Checkpoints, optimizer_state, restore_newest
from linnaea.train.cutmix import mix_batch
from linnaea.train.logs import Meter, MetricsLog
from linnaea.train.objectives import Guides, compute_loss
from linnaea.train.parallel import ALONE, Peers, Spread, assemble, clip_gradients, spread
from linnaea.train.recipe import Descent
from linnaea.train.tuning import make_optimizer, set_training

MAX_LOGIT_SCALE = math.log(100)


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """The devices that compute a run, and the place of its log; the trained model does not depend on them."""

    peers: Peers = ALONE
    spread: Spread = "ddp"
    meter: Meter = field(default_factory=Meter)
    wandb: str = ""
    """Weights & Biases project; empty: not used."""


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """The result of a call of :func:`fit`."""

    step: int
    finished: bool
    n_unreadable: int
    clip: nn.Module = field(repr=False)
    """The unsharded model; the averaged one if the run has finished with ``descent.average``."""


def fit(
    model: TaxonModel,
    loader: BatchSource,
    table: TokenTable,
    descent: Descent,
    n_steps: int,
    run_dir: Path,
    *,
    guides: Guides = Guides(),  # noqa: B008  (frozen)
    runtime: Runtime = Runtime(),
    evaluate: Callable[[TaxonModel], Mapping[str, float]] = lambda model: {},
    on_step: Callable[[int, int, dict[str, Any]], None] = lambda step, total, line: None,
) -> FitResult:
    """Train ``model`` in place to ``n_steps``, starting from the newest checkpoint of ``run_dir`` if there is one.

    On one CPU, an interrupted run ends with the same bits as an uninterrupted one if it continues with the same number
    of processes and threads. With another number, or on a GPU, the order of sums differs. SIGINT and SIGTERM finish the
    step, save and return. With ``descent.average``, the evaluated model and the model of a finished run have the
    averaged weights; the checkpoints hold both.

    Raises:
        LinnaeaError: The loss is not finite (the message names the step and samples), a checkpoint cannot be written,
            or another process has ended. On a GPU this is noticed a step later, but before a checkpoint is written.
    """
    peers, folder = runtime.peers, run_dir / "checkpoints"
    learner = Learner(model, table, descent, guides, runtime)
    step = saved = restore_newest(folder, learner.state, peers)
    n_unreadable = 0
    with (
        closing(MetricsLog(run_dir, after=step, silent=not peers.is_first, wandb=runtime.wandb)) as log,
        Checkpoints(folder, peers) as checkpoints,
        watch_signals() as stopped,
    ):

        def report(lines: Iterable[dict[str, Any]]) -> int:
            n_lost = 0
            for line in lines:
                n_lost += len(line["unreadable"])
                if due(line["step"], descent.evaluate_every, n_steps):
                    line |= {f"evaluate/{name}": score for name, score in learner.evaluate(evaluate).items()}
                if due(line["step"], descent.log_every, n_steps) or line["unreadable"]:
                    log.write(line)
                on_step(line["step"], n_steps, line)
            return n_lost

        batches = iter(loader.iter_batches(step, n_steps))
        while step < n_steps and not any(peers.total(stopped.is_set(), checkpoints.failed)):
            learner.take_step(batches, step, n_steps)
            step += 1
            saves = due(step, descent.checkpoint_every, n_steps)
            n_unreadable += report(learner.read(all_steps=saves or due(step, descent.evaluate_every, n_steps)))
            if saves:
                checkpoints.save(step, learner.state())
                saved = step
        n_unreadable += report(learner.read(all_steps=True))
        if saved != step and not checkpoints.failed:
            checkpoints.save(step, learner.state())
        checkpoints.finish()
    finished = step >= n_steps
    return FitResult(step=step, finished=finished, n_unreadable=n_unreadable, clip=learner.release(finished))


def reads_late(device: torch.device) -> bool:
    """Return whether the numbers of a step are read during the next one, because the device computes asynchronously."""
    return device.type == "cuda"


@dataclass(frozen=True)
class _Numbers:
    """The loss, gradient norm and logit scale of a step, on their way from the device."""

    values: Tensor | tuple[Tensor, ...]
    ready: Any = None

    @classmethod
    def queue(cls, *values: Tensor, late: bool) -> "_Numbers":
        """Queue a copy to the host; where nothing is read late, keep the tensors."""
        detached = tuple(value.detach().reshape(()) for value in values)
        if not late:
            return cls(detached)
        together = torch.stack([value.double() for value in detached])
        copied, ready = together.to("cpu", non_blocking=True), None
        if together.is_cuda:
            ready = torch.cuda.Event()  # type: ignore[no-untyped-call]
            ready.record()
        return cls(copied, ready)

    def read(self) -> tuple[float, ...]:
        """Wait for the numbers and return them."""
        if self.ready is not None:
            self.ready.synchronize()
        return tuple(float(value) for value in self.values)


@dataclass(frozen=True)
class _Taken:
    """A step that has been taken, and what its line of the log needs."""

    batch: Batch
    """Kept until the step is read, because its pictures may still be on their way to the device."""
    lr: float
    numbers: _Numbers
    began: float
    waited: float
    """Seconds spent waiting for the batch."""
    ended: float


class Learner:
    """A model in training on this process, and all that a step changes beside it: optimiser and average.

    Across processes it may be sharded; ``twin`` is then a whole copy, for evaluation and for the saved model.
    """

    def __init__(
        self, model: TaxonModel, table: TokenTable, descent: Descent, guides: Guides, runtime: Runtime
    ) -> None:
        self.model, self.descent, self.peers, self.meter = model, descent, runtime.peers, runtime.meter
        self.seed, self.clip = torch.initial_seed(), set_training(model.clip)
        sharded = self.peers.size > 1 and runtime.spread == "fsdp"
        self.twin = copy.deepcopy(self.clip) if sharded else self.clip

        def one_loss(batch: Batch) -> Tensor:
            return compute_loss(model, batch, table, descent, self.peers, guides)

        self.loss_of = spread(self.clip, one_loss, self.peers, runtime.spread)
        self.optimizer, self.average = make_optimizer(self.clip, descent), Average(self.clip, descent.average)
        self.reads_late = reads_late(model.device)
        self.taken: deque[_Taken] = deque()
        """The steps whose numbers have not been read."""
        self.read_at = 0.0

    def take_step(self, batches: Iterator[Batch], step: int, n_steps: int) -> None:
        """Train on the next batch; :meth:`read` returns the step's line of the log.

        Raises:
            LinnaeaError: On a CPU, the loss or gradient of any process is not finite; the weights are unchanged.
        """
        began = time.perf_counter()
        batch = next(batches)
        waited = time.perf_counter() - began
        lr = set_learning_rate(self.optimizer, step, n_steps, self.descent)
        seed_step(self.seed, step, self.peers)
        loss = self.loss_of(mix_batch(batch, self.descent.cutmix, self.seed))
        norm = self._learn(loss, batch)
        self.average.update(self.clip, step + 1)
        numbers = _Numbers.queue(loss, norm, self.clip.logit_scale.exp(), late=self.reads_late)  # type: ignore[operator]
        self.taken.append(_Taken(batch, lr, numbers, began, waited, time.perf_counter()))

    def _learn(self, loss: Tensor, batch: Batch) -> Tensor:
        """Update the weights; return the gradient norm."""
        if not self.reads_late:
            self._check(float(loss.detach()), batch)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = clip_gradients(self.clip.parameters(), self.descent.clip_norm or math.inf)
        if not self.reads_late:
            self._check(float(norm), batch, "gradient")
        self.optimizer.step()
        with torch.no_grad():
            self.clip.logit_scale.clamp_(0, MAX_LOGIT_SCALE)  # type: ignore[operator]
        self.peers.average_statistics(self.clip)
        return norm

    def _check(self, value: float, batch: Batch, what: str = "loss") -> None:
        if self.peers.total(not math.isfinite(value))[0]:
            raise self.peers.stop(name_bad_batch(batch, self.peers, what))

    def read(self, *, all_steps: bool) -> Iterator[dict[str, Any]]:
        """Yield the lines of the log of the steps taken since the last call.

        A GPU still computes the last step when it has been taken, and reading its numbers would make the processor
        wait. Without ``all_steps`` that step is therefore left for the next call.

        Raises:
            LinnaeaError: On a GPU, the loss or gradient of a step is not finite.
        """
        n_left = int(self.reads_late and not all_steps)
        while len(self.taken) > n_left:
            yield self._make_line(self.taken.popleft())

    def _make_line(self, taken: "_Taken") -> dict[str, Any]:
        loss, norm, scale = taken.numbers.read()
        if self.reads_late:
            self._check(loss, taken.batch)
            self._check(norm, taken.batch, "gradient")
        now = time.perf_counter() if self.reads_late else taken.ended
        seconds, self.read_at = now - max(taken.began, self.read_at), now
        unreadable = taken.batch.unreadable
        return {
            "step": taken.batch.step + 1,
            "loss": loss,
            "lr": taken.lr,
            "logit_scale": scale,
            "gradient_norm": norm,
            "samples_per_s": round(len(taken.batch.keys) * self.peers.size / seconds, 1),
            "mfu": self.meter.utilisation(seconds),
            "data_wait": round(taken.waited / seconds, 4),
            "unreadable": self.peers.collect_lines(unreadable) if self.peers.total(len(unreadable))[0] else [],
        }

    def state(self) -> dict[str, Any]:
        """Return everything that the next step depends on, besides its number.

        The model's state includes BatchNorm's statistics.
        """
        state: dict[str, Any] = {
            "model": self.clip.state_dict(), "optimizer": optimizer_state(self.clip, self.optimizer),
        }  # fmt: skip
        return {**state, "average": self.average.state} if self.average.state else state

    def evaluate(self, evaluate: Callable[[TaxonModel], Mapping[str, float]]) -> Mapping[str, float]:
        """Return the scores of the averaged model; the first process evaluates while the others wait."""
        with self.average.swapped_in(self.clip):
            model = self.model
            if self.twin is not self.clip:
                assemble(self.clip, self.twin)
                model = dataclasses.replace(model, clip=self.twin.eval())
            return self.peers.first_does(lambda: evaluate(model))

    def release(self, finished: bool) -> nn.Module:
        """Return the unsharded model in evaluation mode, averaged if the run has ``finished``."""
        if finished:
            self.average.replace(self.clip)
        if self.twin is not self.clip:
            assemble(self.clip, self.twin)
        return self.twin.eval()


def due(step: int, every: int, last: int) -> bool:
    """Return whether a step is a multiple of ``every``, the first or the last."""
    return step in (1, last) or (every > 0 and step % every == 0)


def set_learning_rate(optimizer: torch.optim.Optimizer, step: int, n_steps: int, descent: Descent) -> float:
    """Set and return the learning rate of a step: linear warm-up, then a cosine to zero."""
    if step < descent.warmup:
        lr = descent.lr * (step + 1) / descent.warmup
    else:
        progress = (step - descent.warmup) / max(n_steps - descent.warmup, 1)
        lr = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))) * descent.lr
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("share", 1.0)
    return lr


def seed_step(seed: int, step: int, peers: Peers) -> None:
    """Seed a step's randomness (such as dropout) by its number, so that no generator state must be saved."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, peers.rank]).generate_state(1)[0]))


def name_bad_batch(batch: Batch, peers: Peers = ALONE, what: str = "loss") -> str:
    """Return a one-line message that identifies the batch with a non-finite loss or gradient."""
    first = ", ".join(key for keys in peers.collect(batch.keys[:5]) for key in keys)
    return (
        f"the {what} at step {batch.step + 1} is not finite; samples {first} ... ({len(batch.keys) * peers.size} in"
        " total); lower --lr or raise --warmup; the last checkpoint is intact"
    )


class Average:
    """A moving average of weights and running statistics; with decay 0 it does nothing.

    The decay is at most ``(1 + step) / (10 + step)``, so that the random initial weights do not linger.
    """

    def __init__(self, clip: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state: dict[str, Tensor] = {name: value.clone() for name, value in self._of(clip).items()}

    def _of(self, clip: nn.Module) -> dict[str, Tensor]:
        return {name: value.detach() for name, value in clip.state_dict().items()} if self.decay else {}

    def update(self, clip: nn.Module, step: int) -> None:
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        for name, value in self._of(clip).items():
            if value.is_floating_point():
                self.state[name].lerp_(value, share)
            else:
                self.state[name].copy_(value)

    def replace(self, clip: nn.Module) -> None:
        """Replace the model's weights by the average."""
        if self.decay:
            clip.load_state_dict(self.state)

    @contextmanager
    def swapped_in(self, clip: nn.Module) -> Iterator[None]:
        """Use the averaged model in evaluation mode, then restore the trained one."""
        before = {name: value.clone() for name, value in self._of(clip).items()}
        self.replace(clip)
        clip.eval()
        try:
            yield
        finally:
            if before:
                clip.load_state_dict(before)
            set_training(clip)


@contextmanager
def watch_signals() -> Iterator[threading.Event]:
    """Yield an event that SIGINT (Ctrl-C) and SIGTERM (Slurm) set; a second signal stops at once."""
    stopped = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield stopped
        return

    def stop(number: int, frame: Any) -> None:
        if stopped.is_set():
            raise KeyboardInterrupt
        stopped.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
