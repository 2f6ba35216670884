"""Training and prediction on one GPU, beside open_clip's trainer: one command for a bare machine, in stages.

    python benchmarks/gpu.py --output gpu [--minutes 10] [--only compiled openclip-compiled] [--toy]

The machine needs a GPU, Python 3.11 or later and this checkout. If Linnaea cannot be imported, what it needs is
installed with pip into ``gpu/site`` (from a folder with ``--wheels``); packages that the machine has, such as PyTorch,
stay as they are. The data are drawn, the weights random. The stages run in the order below, the most
telling first, each in a process of its own with a limit of time. A stage that needs more time than is left is passed
over. After each, ``gpu.md`` (a table) and ``gpu.json`` are
written again, so that a run that is cut off has left most of it. A stage that fails says so in the table, and its log
lies beside. ``--only`` continues with the data of an earlier run in the same folder and keeps its other rows. ``--toy``
runs everything on a CPU at sizes that mean nothing, as the tests do. ``curves.csv`` has the losses of the stages
``curve`` and ``float8``.

Compiled code is kept in ``gpu/code`` for all stages; ``compiled`` starts without it, so that its first step is a cold
one.

Rates are medians over the last half of the steps. ``peak`` is PyTorch's allocated memory.
"""

import argparse
import importlib.util
import json
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
CHECK = "import linnaea.cli, linnaea.data.build, linnaea.train.run, linnaea.predict.predictor"
TRAIN = """
import runpy, sys, torch
sys.argv = ["linnaea", *sys.argv[1:]]
try:
    runpy.run_module("linnaea", run_name="__main__")
finally:
    if torch.cuda.is_available():
        print("PEAK", torch.cuda.max_memory_allocated() / 2**30)
"""


@dataclass(frozen=True)
class Row:
    """One number of the table."""

    stage: str
    what: str
    value: float | None
    unit: str
    note: str = ""


@dataclass(frozen=True)
class Size:
    """What is measured: the real thing, or a toy for a machine without a GPU."""

    device: str
    species: int
    photographs: int
    pixels: int
    model: str
    batch: int
    large: int
    parts: int
    """Parts in which the large batch goes through the towers."""
    small: int
    steps: int
    curve_steps: int
    logits: tuple[int, ...]
    labels: int
    captions: int
    threads: int
    patience: int
    """Factor of the limits of time: a machine without a GPU may be slow."""


CORES = os.cpu_count() or 2
REAL = Size("cuda", 320, 32, 256, "ViT-B-16", 1024, 16_384, 16, 128, 25, 200, (16_384, 32_768), 867_455, 100_000,
            max(2, CORES - 2), 1)  # fmt: skip
TOY = Size("cpu", 8, 8, 48, "toy", 8, 16, 2, 8, 4, 4, (64,), 300, 40, 2, 20)


@dataclass
class Bench:
    """A folder with data, logs and results, and the time that is left."""

    output: Path
    size: Size
    deadline: float
    rows: list[Row] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.output.mkdir(parents=True, exist_ok=True)
        if (self.output / "gpu.json").exists():
            self.rows = [Row(**row) for row in json.loads((self.output / "gpu.json").read_text())["rows"]]

    @property
    def code(self) -> str:
        """The folder of compiled code."""
        return str(self.output / "code")

    @property
    def left(self) -> float:
        return self.deadline - time.monotonic()

    def call(self, name: str, command: Sequence[str], limit: float) -> str:
        """Run a command with a limit and return its output, which is also kept; raise if it fails."""
        log, limit = self.output / f"{name}.log", max(1.0, min(limit * self.size.patience, self.left))
        given = filter(None, [os.environ.get("PYTHONPATH")])
        path = os.pathsep.join([str(HERE.parent / "src"), *given, str(self.output / "site")])
        environment = os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "TORCHINDUCTOR_CACHE_DIR": self.code}
        with log.open("w") as stream:
            child = subprocess.Popen(
                command, stdout=stream, stderr=subprocess.STDOUT, cwd=self.output, env=environment,
                process_group=0,
            )  # fmt: skip
            try:
                code = f"exit code {child.returncode}" if child.wait(limit) else ""
            except subprocess.TimeoutExpired:
                code = f"stopped after {limit:.0f} s"
            finally:
                if child.poll() is None:
                    os.killpg(child.pid, signal.SIGKILL)  # with the processes that load or compile for it
                    child.wait()
        text = log.read_text(errors="replace")
        if code:
            last = [line for line in text.splitlines() if line.strip()][-1:] or ["no output"]
            raise RuntimeError(f"{code}: {last[0][:160]} ({log.name})")
        return text

    def task(self, stage: str, limit: float) -> list[Row]:
        """Run a measurement of ``gpu_tasks.py`` in a process of its own and return its rows, even of a part of it."""
        command = [sys.executable, str(HERE / "gpu_tasks.py"), stage, json.dumps(asdict(self.size))]
        failure = ""
        try:
            self.call(stage, command, limit)
        except RuntimeError as error:
            failure = str(error)
        text = (self.output / f"{stage}.log").read_text(errors="replace")
        rows = [Row(stage, **json.loads(line[4:])) for line in text.splitlines() if line.startswith("ROW ")]
        return rows + ([Row(stage, "failed", None, "", failure)] if failure else [])

    def write(self) -> None:
        facts = {"size": asdict(self.size), "rows": [asdict(row) for row in self.rows]}
        (self.output / "gpu.json").write_text(json.dumps(facts, indent=1))
        (self.output / "gpu.md").write_text(make_table(self.rows))


def make_table(rows: Sequence[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| stage | what | value | unit | note |", "|---|---|---:|---|---|"]
    for row in rows:
        value = "" if row.value is None else f"{row.value:,.0f}" if abs(row.value) >= 100 else f"{row.value:.4g}"
        lines.append(f"| {row.stage} | {row.what} | {value} | {row.unit} | {row.note.replace('|', '/')} |")
    return "\n".join(lines) + "\n"


def prepare(bench: Bench, wheels: Path | None) -> None:
    """Install what Linnaea needs beside the packages of the machine, if a module is missing."""
    check = [sys.executable, "-c", CHECK]
    try:
        bench.call("check", check, 240)
        return
    except RuntimeError as error:
        if "No module named" not in str(error):
            raise
        print(f"installing into {bench.output / 'site'}: {error}", flush=True)
    needs = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]["dependencies"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pip += ["--no-index", "--find-links", str(wheels.resolve())] if wheels else []
    bench.call("resolve", [*pip, "--dry-run", "--report", "pip.json", *needs, "webdataset"], 120)
    found = json.loads((bench.output / "pip.json").read_text())["install"]
    missing = [f"{one['metadata']['name']}=={one['metadata']['version']}" for one in found]
    if missing:
        bench.call("install", [*pip, "--no-deps", "--target", "site", *missing], 300)
    bench.call("check", check, 120)


def draw(bench: Bench) -> None:
    """Draw photographs, build a data set and write random weights, unless they are there."""
    size = bench.size
    linnaea = [sys.executable, "-m", "linnaea"]
    if not (bench.output / "data" / "manifest.json").exists():
        bench.call("draw", [*linnaea, "data", "synthesize", "drawn", "--species", str(size.species), "--images",
                            str(size.photographs), "--size", str(size.pixels)], 120)  # fmt: skip
        bench.call("build", [*linnaea, "data", "build", "--table", "drawn/metadata.csv", "--root", "drawn",
                             "--path-column", "filepath", "--label-column", "scientific_name", "--split-column",
                             "split", "--captions", "--shard-size", "400", "--output", "data"], 120)  # fmt: skip
    if not (bench.output / "model" / "open_clip_model.safetensors").exists():
        bench.call("model", [sys.executable, str(HERE / "gpu_tasks.py"), "model", json.dumps(asdict(size))], 120)


def compiled(bench: Bench) -> list[Row]:
    """Train with compiled towers, starting without compiled code."""
    shutil.rmtree(bench.code, ignore_errors=True)
    return ours("compiled", "--no-grad-checkpointing")(bench)


def train(bench: Bench, name: str, *options: str, steps: int, batch: int, limit: float = 120) -> list[dict[str, Any]]:
    """Run ``linnaea train`` and return the lines of its log; the folder is the name's."""
    run = bench.output / name
    if "--resume" not in options:
        shutil.rmtree(run, ignore_errors=True)
    command = [
        sys.executable, "-c", TRAIN, "train", "bioclip-vit-b16", "--start", "model", "--pretrained", "",
        "--data", "data", "--output", name, "--batch-size", str(batch), "--steps", str(steps), "--log-every", "1",
        "--device", bench.size.device, "--workers", str(bench.size.threads), "--checkpoint-every", "1000000", *options,
    ]  # fmt: skip
    bench.call(name, command, limit)
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def ours(name: str, *options: str, batch: str = "batch", steps: int = 0) -> Callable[[Bench], list[Row]]:
    """Return a stage that trains with these options."""

    def stage(bench: Bench) -> list[Row]:
        in_parts = ("--accumulate", str(bench.size.parts), "--keep-parts", "1") if batch == "large" else ()
        began = time.monotonic()
        n_samples, n_steps = getattr(bench.size, batch), steps or bench.size.steps
        lines = train(bench, name, *options, *in_parts, steps=n_steps, batch=n_samples, limit=180)
        wall = time.monotonic() - began
        half = lines[len(lines) // 2 :]
        rate, mfu, wait = (statistics.median(line[key] or 0 for line in half)
                           for key in ("samples_per_s", "mfu", "data_wait"))  # fmt: skip
        first = wall - sum(n_samples / line["samples_per_s"] for line in lines[1:])
        peak = re.findall(r"^PEAK ([\d.]+)", (bench.output / f"{name}.log").read_text(), re.M)
        note = f"mfu {mfu:.3f}, data_wait {wait:.3f}, loss {lines[0]['loss']:.4f} to {lines[-1]['loss']:.4f}"
        return [
            Row(name, "ours", rate, "samples/s", note),
            Row(name, "first step, from the start of the process", first, "s", "with the end of the run"),
            *(Row(name, "peak", float(value), "GiB") for value in peak[-1:]),
        ]

    return stage


def open_clip(name: str, *options: str) -> Callable[[Bench], list[Row]]:
    """Return a stage that runs open_clip's trainer on the same shards."""

    def stage(bench: Bench) -> list[Row]:
        size = bench.size
        if not all(importlib.util.find_spec(module) for module in ("open_clip_train", "webdataset")):
            return [Row(name, "open_clip", None, "", "open_clip_train or webdataset is not installed")]
        n = len(list((bench.output / "data" / "train").glob("*.tar")))
        model = size.model if (bench.output / "model").is_dir() and size.model != "toy" else "local-dir:model"
        command = [
            sys.executable, "-m", "open_clip_train.main",
            "--train-data", f"data/train/shard-{{000000..{n - 1:06d}}}.tar", "--train-num-samples",
            str(size.steps * size.batch), "--dataset-type", "webdataset", "--dataset-resampled", "--model", model,
            "--batch-size", str(size.batch), "--workers", str(min(size.threads, n)),
            "--precision", "amp_bf16", "--epochs", "1", "--warmup", "1000", "--lr", "1e-4", "--wd", "0.2",
            "--log-every-n-steps", "1", "--save-frequency", "0", "--logs", "open_clip", "--name", name,
            *(() if size.device == "cpu" else options),
        ]  # fmt: skip
        rates = read_open_clip(bench.call(name, command, 180), size.batch)
        return [Row(name, "open_clip", statistics.median(rates[len(rates) // 2 :]), "samples/s", f"{len(rates)} steps")]

    return stage


def read_open_clip(log: str, batch: int) -> list[float]:
    """Return the samples per second of each step that open_clip's trainer logged."""
    return [batch / float(seconds) for seconds in re.findall(r"Batch \(t\): ([\d.]+)", log) if float(seconds)]


def resume(bench: Bench) -> list[Row]:
    """Kill a run with -9 and continue it; its losses beside those of a run that was left alone."""
    options, steps = ("--checkpoint-every", "2", "--no-grad-checkpointing"), max(6, bench.size.steps // 2)
    whole = train(bench, "resume-whole", *options, steps=steps, batch=bench.size.small)
    shutil.rmtree(bench.output / "resume-killed", ignore_errors=True)
    source = TRAIN.replace(
        "try:", "sys.path.insert(0, sys.argv.pop())\nimport gpu_tasks\ngpu_tasks.kill_at(5)\ntry:", 1
    )
    command = [
        sys.executable, "-c", source, "train", "bioclip-vit-b16", "--start", "model", "--pretrained", "", "--data",
        "data", "--output", "resume-killed", "--batch-size", str(bench.size.small), "--steps", str(steps),
        "--log-every", "1", "--device", bench.size.device, "--workers", str(bench.size.threads), *options, str(HERE),
    ]  # fmt: skip
    try:
        bench.call("resume-killed", command, 120)
    except RuntimeError as error:
        if f"exit code {-signal.SIGKILL}" not in str(error):
            raise
    began = time.monotonic()
    again = train(bench, "resume-killed", "--resume", *options, steps=steps, batch=bench.size.small)
    worst = max(abs(a["loss"] - b["loss"]) for a, b in zip(whole, again, strict=True))
    return [Row("resume", "largest difference of a loss after kill -9", worst, "", f"{steps} steps"),
            Row("resume", "time of the resumed run", time.monotonic() - began, "s", "its code was kept")]  # fmt: skip


def curve(bench: Bench) -> list[Row]:
    """Train in bf16 with three seeds and once in float32 without the compiler; compare the loss curves."""
    size, plain = bench.size, "--no-grad-checkpointing"
    common = {"steps": size.curve_steps, "batch": size.small}
    exact = train(bench, "curve-float32", plain, "--precision", "float32", "--no-compile", **common, limit=240)
    seeds = [train(bench, f"curve-{seed}", plain, "--seed", str(seed), **common) for seed in range(3)]
    worst = max(abs(a["loss"] - b["loss"]) / abs(b["loss"]) for a, b in zip(seeds[0], exact, strict=True))
    exact_end, *ends = (find_end(lines) for lines in (exact, *seeds))
    write_curves(bench)
    note = f"float32 ends at {exact_end:.4f}, bf16 at {', '.join(f'{end:.4f}' for end in ends)} (three seeds)"
    return [Row("curve", "largest relative difference from float32, same seed", worst, "", note),
            Row("curve", "final loss, difference from float32", abs(ends[0] - exact_end), "",
                f"spread of the seeds {max(ends) - min(ends):.4f}")]  # fmt: skip


def float8(bench: Bench) -> list[Row]:
    """Train with products in 8 bits; compare its loss curve with bf16's of the same seed."""
    size, plain = bench.size, "--no-grad-checkpointing"
    options = (plain,) if size.device == "cpu" else (plain, "--float8")
    rows = ours("float8", *options)(bench)
    common = {"steps": size.curve_steps, "batch": size.small}
    lines = train(bench, "curve-float8", *options, "--seed", "0", **common)
    known = read_curve(bench, "curve-0")
    bf16 = known if len(known) == len(lines) else train(bench, "curve-0", plain, "--seed", "0", **common)
    write_curves(bench)
    worst = max(abs(a["loss"] - b["loss"]) / abs(b["loss"]) for a, b in zip(lines, bf16, strict=True))
    note = f"bf16 ends at {find_end(bf16):.4f}, float8 at {find_end(lines):.4f}"
    return [*rows, Row("float8", "largest relative difference from bf16, same seed", worst, "", note)]


def find_end(lines: Sequence[dict[str, Any]]) -> float:
    """Return the mean loss of the last ten steps."""
    return statistics.mean(line["loss"] for line in lines[-10:])


def read_curve(bench: Bench, name: str) -> list[dict[str, Any]]:
    """Return the lines of a run's log, or none if there is no such run."""
    path = bench.output / name / "metrics.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def write_curves(bench: Bench) -> None:
    """Write the losses of all curves side by side."""
    names = [name for name in CURVES if read_curve(bench, name)]
    columns = [[line["loss"] for line in read_curve(bench, name)] for name in names]
    rows = [",".join(map(str, (step, *losses))) for step, losses in enumerate(zip(*columns, strict=False), start=1)]
    (bench.output / "curves.csv").write_text("\n".join([",".join(["step", *names]), *rows, ""]))


CURVES = ("curve-float32", "curve-0", "curve-1", "curve-2", "curve-float8")


STAGES: dict[str, Callable[[Bench], list[Row]]] = {
    "compiled": compiled,
    "openclip-compiled": open_clip("openclip-compiled", "--torchcompile"),
    "large": ours("large", "--no-grad-checkpointing", batch="large", steps=4),
    "profile": lambda bench: bench.task("profile", 90),
    "loss": lambda bench: bench.task("loss", 60),
    "curve": curve,
    "resume": resume,
    "parts": lambda bench: bench.task("parts", 150),
    "predict": lambda bench: bench.task("predict", 120),
    "bank": lambda bench: bench.task("bank", 120),
    "float8": float8,
    "graphs": lambda bench: bench.task("graphs", 90),
    "pybioclip": lambda bench: bench.task("pybioclip", 120),
    "eager": ours("eager", "--no-grad-checkpointing", "--no-compile"),
    "openclip-eager": open_clip("openclip-eager"),
    "checkpointing": ours("checkpointing", "--grad-checkpointing", steps=10),
}
NEEDS = {"compiled": 60, "openclip-compiled": 80, "curve": 120, "resume": 50, "parts": 60, "float8": 60}
"""Seconds that must be left for a stage to begin; 30 for the others. A stage that would be cut off leaves nothing."""


def run_stage(bench: Bench, name: str) -> None:
    """Run one stage and write the table; what goes wrong becomes a row."""
    began = time.monotonic()
    try:
        rows = STAGES[name](bench)
    except Exception as error:  # the other stages go on
        rows = [Row(name, "failed", None, "", f"{type(error).__name__}: {error}")]
    bench.rows = [row for row in bench.rows if row.stage != name] + rows
    bench.write()
    print(f"[{name}] {time.monotonic() - began:.0f} s, {bench.left:.0f} s left", flush=True)
    print("\n".join(make_table(rows).splitlines()[2:]), flush=True)


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=Path("gpu"), help="folder for data, logs, gpu.md and gpu.json")
    parser.add_argument("--minutes", type=float, default=10.0, help="time for all stages together")
    parser.add_argument("--only", nargs="+", choices=[*STAGES], default=[*STAGES])
    parser.add_argument("--wheels", type=Path, help="folder of wheels to install from, on a machine without a network")
    parser.add_argument("--toy", action="store_true", help="on a CPU, at toy size")
    options = parser.parse_args(words)
    size = TOY if options.toy else REAL
    bench = Bench(options.output.resolve(), size, time.monotonic() + 60 * options.minutes)
    try:
        prepare(bench, options.wheels)
        draw(bench)
    except RuntimeError as error:
        sys.exit(f"nothing can be measured: {error}")
    for name in options.only:
        if bench.left < NEEDS.get(name, 30):
            print(f"[{name}] passed over: {bench.left:.0f} s left, {NEEDS.get(name, 30)} s needed", flush=True)
            continue
        run_stage(bench, name)
    return int(any(row.what == "failed" for row in bench.rows))


if __name__ == "__main__":
    sys.exit(main())
