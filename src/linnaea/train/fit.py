"""The training loop (:func:`fit`), and what a step changes (:class:`Learner`).

With the same data, recipe, number of processes and of threads, one CPU gives the same bits every time. Another
processor gives them to rounding, and a GPU promises no bits at all (docs/reproducibility.md).
"""

import copy
import dataclasses
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
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
from linnaea.train.objectives import compute_loss
from linnaea.train.parallel import ALONE, Peers, Spread, assemble, clip_gradients, spread
from linnaea.train.recipe import Descent
from linnaea.train.relatives import Relatives
from linnaea.train.tuning import make_optimizer, set_training

MAX_LOGIT_SCALE = math.log(100)


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """Where a run is computed, and where its log goes. What is learnt does not depend on it."""

    peers: Peers = ALONE
    spread: Spread = "ddp"
    meter: Meter = field(default_factory=Meter)
    wandb: str = ""
    """Project of Weights & Biases; none: not used."""


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """How a call of :func:`fit` ended."""

    step: int
    finished: bool
    n_unreadable: int
    clip: nn.Module = field(repr=False)
    """The model, whole also where it was sharded; with ``descent.average`` the averaged one, once finished."""


def fit(
    model: TaxonModel,
    loader: BatchSource,
    table: TokenTable,
    descent: Descent,
    n_steps: int,
    run_dir: Path,
    *,
    relatives: Relatives | None = None,
    runtime: Runtime = Runtime(),
    evaluate: Callable[[TaxonModel], Mapping[str, float]] = lambda model: {},
    on_step: Callable[[int, int, dict[str, Any]], None] = lambda step, total, line: None,
) -> FitResult:
    """Train ``model`` in place to ``n_steps``, from the newest checkpoint of ``run_dir`` where there is one.

    On one CPU a run that was interrupted, in whatever way, ends with the same bits as one that was not, if it goes on
    with as many processes and threads. With another number it differs by the order of sums, and so it does on a GPU.
    SIGINT and SIGTERM finish the step, save and return. With ``descent.average`` the model that is evaluated, and
    that a finished run leaves, has the averaged weights; the checkpoints hold both.

    Raises:
        LinnaeaError: the loss is not finite (which step, which samples), a checkpoint cannot be written, or another
            process is gone.
    """
    peers, folder = runtime.peers, run_dir / "checkpoints"
    learner = Learner(model, table, descent, relatives, runtime)
    step = saved = restore_newest(folder, learner.state, peers)
    n_unreadable = 0
    with (
        closing(MetricsLog(run_dir, after=step, silent=not peers.is_first, wandb=runtime.wandb)) as log,
        Checkpoints(folder, peers) as checkpoints,
        watch_signals() as stopped,
    ):
        batches = iter(loader.iter_batches(step, n_steps))
        while step < n_steps and not any(peers.total(stopped.is_set(), checkpoints.failed)):
            line = learner.take_step(batches, step, n_steps)
            step += 1
            n_unreadable += len(line["unreadable"])
            if due(step, descent.evaluate_every, n_steps):
                line |= {f"evaluate/{name}": score for name, score in learner.evaluate(evaluate).items()}
            if due(step, descent.log_every, n_steps) or line["unreadable"]:
                log.write(line)
            on_step(step, n_steps, line)
            if due(step, descent.checkpoint_every, n_steps):
                checkpoints.save(step, learner.state())
                saved = step
        if saved != step and not checkpoints.failed:
            checkpoints.save(step, learner.state())
        checkpoints.finish()
    finished = step >= n_steps
    return FitResult(step=step, finished=finished, n_unreadable=n_unreadable, clip=learner.release(finished))


class Learner:
    """A model in training on this process, and all that a step changes beside it: optimiser and average.

    Across processes it may be sharded; ``twin`` is then a whole copy, for evaluation and for what is left.
    """

    def __init__(
        self, model: TaxonModel, table: TokenTable, descent: Descent, relatives: Relatives | None, runtime: Runtime
    ) -> None:
        self.model, self.descent, self.peers, self.meter = model, descent, runtime.peers, runtime.meter
        self.seed, self.clip = torch.initial_seed(), set_training(model.clip)
        sharded = self.peers.size > 1 and runtime.spread == "fsdp"
        self.twin = copy.deepcopy(self.clip) if sharded else self.clip

        def one_loss(batch: Batch) -> Tensor:
            return compute_loss(model, batch, table, descent, self.peers, relatives)

        self.loss_of = spread(self.clip, one_loss, self.peers, runtime.spread)
        self.optimizer, self.average = make_optimizer(self.clip, descent), Average(self.clip, descent.average)

    def take_step(self, batches: Iterator[Batch], step: int, n_steps: int) -> dict[str, Any]:
        """Learn from the next batch; returns the step's line of the log.

        Raises:
            LinnaeaError: loss or gradient is not finite, on whichever process; nothing was learnt of it.
        """
        began = time.perf_counter()
        batch = next(batches)
        waited = time.perf_counter() - began
        lr = set_learning_rate(self.optimizer, step, n_steps, self.descent)
        seed_step(self.seed, step, self.peers)
        loss = self.loss_of(mix_batch(batch, self.descent.cutmix, self.seed))
        value, norm, n_bad = self._learn(loss, batch)
        self.average.update(self.clip, step + 1)
        seconds = time.perf_counter() - began
        return {
            "step": step + 1,
            "loss": value,
            "lr": lr,
            "logit_scale": self.model.logit_scale,
            "gradient_norm": norm,
            "samples_per_s": round(len(batch.keys) * self.peers.size / seconds, 1),
            "mfu": self.meter.utilisation(seconds),
            "data_wait": round(waited / seconds, 4),
            "unreadable": self.peers.collect_lines(batch.unreadable) if n_bad else [],
        }

    def _learn(self, loss: Tensor, batch: Batch) -> tuple[float, float, int]:
        """Follow the gradient; returns the loss, the gradient's norm, the number of everybody's unreadable samples."""
        value = float(loss.detach())
        bad, n_bad = self.peers.total(not math.isfinite(value), len(batch.unreadable))
        if bad:
            raise self.peers.stop(name_bad_batch(batch, self.peers))
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        norm = float(clip_gradients(self.clip.parameters(), self.descent.clip_norm or math.inf))
        if self.peers.total(not math.isfinite(norm))[0]:
            raise self.peers.stop(name_bad_batch(batch, self.peers, "gradient"))
        self.optimizer.step()
        with torch.no_grad():
            self.clip.logit_scale.clamp_(0, MAX_LOGIT_SCALE)  # type: ignore[operator]
        self.peers.average_statistics(self.clip)
        return value, norm, int(n_bad)

    def state(self) -> dict[str, Any]:
        """Return all that the next step is a function of, besides its number.

        BatchNorm's statistics are in the model's state.
        """
        state: dict[str, Any] = {
            "model": self.clip.state_dict(), "optimizer": optimizer_state(self.clip, self.optimizer),
        }  # fmt: skip
        return {**state, "average": self.average.state} if self.average.state else state

    def evaluate(self, evaluate: Callable[[TaxonModel], Mapping[str, float]]) -> Mapping[str, float]:
        """Return what ``evaluate`` says of the averaged model on the first process, while the others wait."""
        with self.average.swapped_in(self.clip):
            model = self.model
            if self.twin is not self.clip:
                assemble(self.clip, self.twin)
                model = dataclasses.replace(model, clip=self.twin.eval())
            return self.peers.first_does(lambda: evaluate(model))

    def release(self, finished: bool) -> nn.Module:
        """Return the model, whole and in evaluation mode; the averaged one where the run has ``finished``."""
        if finished:
            self.average.replace(self.clip)
        if self.twin is not self.clip:
            assemble(self.clip, self.twin)
        return self.twin.eval()


def due(step: int, every: int, last: int) -> bool:
    """Tell whether something that happens every so many steps happens now; always at the first and the last."""
    return step in (1, last) or (every > 0 and step % every == 0)


def set_learning_rate(optimizer: torch.optim.Optimizer, step: int, n_steps: int, descent: Descent) -> float:
    """Linear warm-up, then a cosine to zero: a function of the step."""
    if step < descent.warmup:
        lr = descent.lr * (step + 1) / descent.warmup
    else:
        progress = (step - descent.warmup) / max(n_steps - descent.warmup, 1)
        lr = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))) * descent.lr
    for group in optimizer.param_groups:
        group["lr"] = lr * group.get("share", 1.0)
    return lr


def seed_step(seed: int, step: int, peers: Peers) -> None:
    """Make what is random in a step, dropout say, a function of it: no generator's state has to be saved."""
    torch.manual_seed(int(np.random.SeedSequence([seed, step, peers.rank]).generate_state(1)[0]))


def name_bad_batch(batch: Batch, peers: Peers = ALONE, what: str = "loss") -> str:
    """One line that finds a non-finite loss again."""
    first = ", ".join(key for keys in peers.collect(batch.keys[:5]) for key in keys)
    return (
        f"the {what} at step {batch.step + 1} is not finite; samples {first} ... ({len(batch.keys) * peers.size} in"
        " all); lower --lr or raise --warmup, the last checkpoint is intact"
    )


class Average:
    """A moving average of weights and running statistics; with decay 0 there is none, and nothing is done.

    The first steps count more than the decay says (``(1 + step) / (10 + step)``), or the random start would linger.
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
        """Make the average the model."""
        if self.decay:
            clip.load_state_dict(self.state)

    @contextmanager
    def swapped_in(self, clip: nn.Module) -> Iterator[None]:
        """The averaged model, in evaluation mode; then the trained one again."""
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
    """An event that SIGINT (Ctrl-C) and SIGTERM (Slurm) set; a second Ctrl-C stops at once."""
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
