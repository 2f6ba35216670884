"""The training loop: one readable function, and the small ones it is made of.

With the same data, recipe and number of torch's threads the CPU makes the same bits every time.
"""

import json
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from linnaea.errors import LinnaeaError
from linnaea.model.load import TaxonModel
from linnaea.model.text import TokenTable
from linnaea.storage import write_atomically
from linnaea.train.batches import Batch, Loader
from linnaea.train.checkpoints import load_newest, save_checkpoint
from linnaea.train.objectives import compute_loss
from linnaea.train.recipes import Descent

MAX_LOGIT_SCALE = math.log(100)


@dataclass(frozen=True, kw_only=True)
class FitResult:
    """How a call of :func:`fit` ended."""

    step: int
    finished: bool
    n_unreadable: int


def fit(
    model: TaxonModel,
    loader: Loader,
    table: TokenTable,
    descent: Descent,
    n_steps: int,
    run_dir: Path,
    *,
    evaluate: Callable[[TaxonModel], Mapping[str, float]] = lambda model: {},
    on_step: Callable[[int, int, dict[str, Any]], None] = lambda step, total, line: None,
) -> FitResult:
    """Train ``model`` in place to ``n_steps``, from the newest checkpoint of ``run_dir`` where there is one.

    On the CPU a run that was interrupted, in whatever way, ends with the same bits as one that was not.
    SIGINT and SIGTERM finish the step, save and return. With ``descent.average`` the model that is evaluated, and
    that a finished run leaves, has the averaged weights; the checkpoints hold both.

    Raises:
        LinnaeaError: the loss is not finite (which step, which samples), or a checkpoint cannot be written.
    """
    clip, log = model.clip.train(), MetricsLog(run_dir / "metrics.jsonl")
    optimizer, average = make_optimizer(clip, descent), Average(clip, descent.average)
    step = restore(run_dir, clip, optimizer, average)
    log.cut_after(step)
    n_unreadable, saved = 0, step
    with watch_signals() as stopped:
        batches = iter(loader.iter_batches(step, n_steps))
        while step < n_steps and not stopped.is_set():
            began = time.perf_counter()
            batch = next(batches)
            waited = time.perf_counter() - began
            lr = set_learning_rate(optimizer, step, n_steps, descent)
            loss = compute_loss(model, batch, table, descent)
            value = float(loss.detach())
            if not math.isfinite(value):
                raise LinnaeaError(name_bad_batch(step, batch))
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            norm = torch.nn.utils.clip_grad_norm_(clip.parameters(), descent.clip_norm or math.inf)
            if not torch.isfinite(norm):
                raise LinnaeaError(name_bad_batch(step, batch, "gradient"))
            optimizer.step()
            with torch.no_grad():
                clip.logit_scale.clamp_(0, MAX_LOGIT_SCALE)  # type: ignore[operator]
            step += 1
            average.update(clip, step)
            n_unreadable += len(batch.unreadable)
            seconds = time.perf_counter() - began
            line = {
                "step": step,
                "loss": value,
                "lr": lr,
                "logit_scale": model.logit_scale,
                "gradient_norm": float(norm),
                "samples_per_s": round(len(batch.keys) / seconds, 1),
                "data_wait": round(waited / seconds, 4),
                "unreadable": list(batch.unreadable),
            }
            if due(step, descent.evaluate_every, n_steps):
                with average.swapped_in(clip):
                    line |= {f"evaluate/{name}": score for name, score in evaluate(model).items()}
            if due(step, descent.log_every, n_steps) or batch.unreadable:
                log.write(line)
            on_step(step, n_steps, line)
            if due(step, descent.checkpoint_every, n_steps):
                save_state(run_dir, step, clip, optimizer, average)
                saved = step
    if saved != step:
        save_state(run_dir, step, clip, optimizer, average)
    if step >= n_steps:
        average.replace(clip)
    clip.eval()
    return FitResult(step=step, finished=step >= n_steps, n_unreadable=n_unreadable)


def due(step: int, every: int, last: int) -> bool:
    """Whether something that happens every so many steps happens now; always at the first and the last."""
    return step in (1, last) or (every > 0 and step % every == 0)


def make_optimizer(clip: torch.nn.Module, descent: Descent) -> torch.optim.AdamW:
    """AdamW with open_clip's two groups: no decay on gains, biases, norms and the logit scale."""
    decayed: list[torch.nn.Parameter] = []
    free: list[torch.nn.Parameter] = []
    for name, parameter in clip.named_parameters():
        if not parameter.requires_grad:
            continue
        exempt = parameter.ndim < 2 or any(word in name for word in ("bn", "ln", "bias", "logit_scale"))
        (free if exempt else decayed).append(parameter)
    groups = [{"params": free, "weight_decay": 0.0}, {"params": decayed, "weight_decay": descent.weight_decay}]
    return torch.optim.AdamW(groups, lr=descent.lr, betas=(descent.beta1, descent.beta2), eps=descent.eps)


def set_learning_rate(optimizer: torch.optim.Optimizer, step: int, n_steps: int, descent: Descent) -> float:
    """Linear warm-up, then a cosine to zero: a function of the step."""
    if step < descent.warmup:
        lr = descent.lr * (step + 1) / descent.warmup
    else:
        progress = (step - descent.warmup) / max(n_steps - descent.warmup, 1)
        lr = 0.5 * (1 + math.cos(math.pi * min(progress, 1.0))) * descent.lr
    for group in optimizer.param_groups:
        group["lr"] = lr
    return lr


def name_bad_batch(step: int, batch: Batch, what: str = "loss") -> str:
    """One line that finds a non-finite loss again."""
    keys = ", ".join(batch.keys[:5])
    return (
        f"the {what} at step {step + 1} is not finite; samples {keys} ... ({len(batch.keys)} in all);"
        " lower --lr or raise --warmup, the last checkpoint is intact"
    )


class Average:
    """A moving average of weights and running statistics; with decay 0 there is none, and nothing is done.

    The first steps count more than the decay says (``(1 + step) / (10 + step)``), or the random start would linger.
    """

    def __init__(self, clip: torch.nn.Module, decay: float) -> None:
        self.decay = decay
        self.state: dict[str, Tensor] = {name: value.clone() for name, value in self._of(clip).items()}

    def _of(self, clip: torch.nn.Module) -> dict[str, Tensor]:
        return {name: value.detach() for name, value in clip.state_dict().items()} if self.decay else {}

    def update(self, clip: torch.nn.Module, step: int) -> None:
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        for name, value in self._of(clip).items():
            if value.is_floating_point():
                self.state[name].lerp_(value, share)
            else:
                self.state[name].copy_(value)

    def replace(self, clip: torch.nn.Module) -> None:
        """Make the average the model."""
        if self.decay:
            clip.load_state_dict(self.state)

    @contextmanager
    def swapped_in(self, clip: torch.nn.Module) -> Iterator[None]:
        """The averaged model, in evaluation mode; then the trained one again."""
        before = {name: value.clone() for name, value in self._of(clip).items()}
        self.replace(clip)
        clip.eval()
        try:
            yield
        finally:
            if before:
                clip.load_state_dict(before)
            clip.train()


def save_state(
    run_dir: Path, step: int, clip: torch.nn.Module, optimizer: torch.optim.Optimizer, average: Average
) -> None:
    """A checkpoint of all that the next step is a function of; BatchNorm's statistics are in the model's state."""
    state = {
        "step": step,
        "model": clip.state_dict(),
        "optimizer": optimizer.state_dict(),
        "average": average.state,
        "torch_rng": torch.get_rng_state(),
        "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }
    save_checkpoint(run_dir / "checkpoints", step, state)


def restore(run_dir: Path, clip: torch.nn.Module, optimizer: torch.optim.Optimizer, average: Average) -> int:
    """Put the newest checkpoint into model, optimizer and average; returns its step, 0 where there is none."""
    state = load_newest(run_dir / "checkpoints")
    if state is None:
        return 0
    clip.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    for name, value in state["average"].items():
        average.state[name].copy_(value)
    torch.set_rng_state(state["torch_rng"])
    if len(state["cuda_rng"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda_rng"])
    return int(state["step"])


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


class MetricsLog:
    """``metrics.jsonl``: one JSON object a line, each with at least ``step`` and ``loss``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def write(self, line: dict[str, Any]) -> None:
        with self.path.open("a") as stream:
            stream.write(json.dumps(line) + "\n")

    def cut_after(self, step: int) -> None:
        """Drop a torn last line, and the lines of steps that will be taken again."""
        if not self.path.exists():
            return
        kept = []
        for text in self.path.read_text().splitlines():
            try:
                line = json.loads(text)
            except ValueError:
                continue
            if line["step"] <= step:
                kept.append(text)
        write_atomically(self.path, "".join(f"{text}\n" for text in kept))
