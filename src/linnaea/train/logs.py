"""The log of a run: JSON lines, and the same numbers for TensorBoard and Weights & Biases."""

import importlib.util
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from linnaea.errors import UsageError
from linnaea.storage import explain_os_errors, write_atomically
from linnaea.train.fleet import PEAKS

LOG_FILE, TENSORBOARD_FOLDER = "metrics.jsonl", "tensorboard"


def find_peak(device: torch.device, precision: str) -> float:
    """Return the device's peak operations per second, from its data sheet or measured on a matrix product."""
    if device.type == "cuda" and precision == "bf16":
        name = torch.cuda.get_device_name(device)
        if known := next((peak for word, peak in PEAKS.items() if word in name), None):
            return known
    n = 4096 if device.type == "cuda" else 512
    a = torch.randn(n, n, device=device, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)
    best = float("inf")
    for _ in range(5):
        began = time.perf_counter()
        product = a @ a
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - began)
    del product
    return 2 * n**3 / best


@dataclass(frozen=True, kw_only=True)
class Meter:
    """Converts a step's seconds into a utilisation, which is unknown if either number is 0."""

    step_flops: float = 0.0
    """Operations of a step of the global batch, forward and backward, without recomputation."""
    peak: float = 0.0
    """Peak operations per second of all devices together."""

    def utilisation(self, seconds: float) -> float | None:
        return round(self.step_flops / seconds / self.peak, 4) if self.step_flops and self.peak else None


class MetricsLog:
    """The file ``metrics.jsonl``: one JSON object per line, each with at least ``step`` and ``loss``.

    The numbers also go to ``tensorboard/`` if TensorBoard is installed, and to the Weights & Biases project ``wandb``
    if it is given.
    """

    def __init__(self, run_dir: Path, *, after: int = 0, silent: bool = False, wandb: str = "") -> None:
        """Continue the log after step ``after``; ``silent`` writes nothing (all processes but the first)."""
        self.path, self._silent = run_dir / LOG_FILE, silent
        self._boards: list[Any] = []
        if silent:
            return
        with explain_os_errors(run_dir):
            run_dir.mkdir(parents=True, exist_ok=True)
        self.cut_after(after)
        if importlib.util.find_spec("tensorboard"):
            self._boards.append(_TensorBoard(run_dir / TENSORBOARD_FOLDER, after))
        if wandb:
            self._boards.append(_WeightsAndBiases(run_dir, wandb))

    def write(self, line: dict[str, Any]) -> None:
        if self._silent:
            return
        with explain_os_errors(self.path), self.path.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
        numbers = {key: value for key, value in line.items() if isinstance(value, int | float) and key != "step"}
        for board in self._boards:
            board.write(line["step"], numbers)

    def close(self) -> None:
        for board in self._boards:
            board.close()

    def cut_after(self, step: int) -> None:
        """Drop an incomplete last line and the lines of steps that will be repeated."""
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


class _TensorBoard:
    def __init__(self, folder: Path, after: int) -> None:
        from tensorboard.compat.proto.event_pb2 import Event, SessionLog
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        self._event, self._summary = Event, Summary
        self._writer = EventFileWriter(str(folder))
        if after:  # discards what was written for later steps
            start = SessionLog(status=SessionLog.START)
            self._writer.add_event(Event(wall_time=time.time(), step=after + 1, session_log=start))

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        values = [self._summary.Value(tag=key, simple_value=value) for key, value in numbers.items()]
        self._writer.add_event(self._event(wall_time=time.time(), step=step, summary=self._summary(value=values)))

    def close(self) -> None:
        self._writer.close()


class _WeightsAndBiases:
    def __init__(self, folder: Path, project: str) -> None:
        if not importlib.util.find_spec("wandb"):
            raise UsageError("--wandb: Weights & Biases is not installed (pip install wandb), or leave --wandb out")
        import wandb

        self._run = wandb.init(project=project, dir=str(folder), name=folder.name, resume="allow")

    def write(self, step: int, numbers: Mapping[str, float]) -> None:
        self._run.log(dict(numbers), step=step)

    def close(self) -> None:
        self._run.finish()
