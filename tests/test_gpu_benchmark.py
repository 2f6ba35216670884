"""The benchmark for a GPU does not fail for a silly reason: its parts run on a CPU, at toy size."""

import json
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    yield gpu


def make_bench(gpu: ModuleType, output: Path, seconds: float = 60, patience: int = 20) -> object:
    return gpu.Bench(output, replace(gpu.TOY, patience=patience), time.monotonic() + seconds)


def test_the_table_is_written_after_each_stage_and_kept(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(bench: object) -> list[object]:
        raise RuntimeError("no | such kernel")

    works = [gpu.Row("loss", "time", 12.3456, "ms", "a | b"), gpu.Row("loss", "rate", 3210.4, "samples/s")]
    monkeypatch.setitem(gpu.STAGES, "loss", lambda bench: works)
    monkeypatch.setitem(gpu.STAGES, "eager", fails)
    gpu.run_stage(make_bench(gpu, tmp_path), "loss")
    gpu.run_stage(make_bench(gpu, tmp_path), "eager")
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert [row["stage"] for row in rows] == ["loss", "loss", "eager"]
    lines = (tmp_path / "gpu.md").read_text().splitlines()
    assert lines[2:] == [
        "| loss | time | 12.35 | ms | a / b |",
        "| loss | rate | 3,210 | samples/s |  |",
        "| eager | failed |  |  | RuntimeError: no / such kernel |",
    ]
    gpu.run_stage(make_bench(gpu, tmp_path), "loss")
    assert len((tmp_path / "gpu.md").read_text().splitlines()) == 5, "a stage that runs again replaces its rows"


def test_a_command_that_fails_or_hangs_says_so(gpu: ModuleType, tmp_path: Path) -> None:
    bench = make_bench(gpu, tmp_path, patience=1)
    with pytest.raises(RuntimeError, match=r"exit code 3: out of memory \(fails.log\)"):
        bench.call("fails", [sys.executable, "-c", "print('out of memory'); raise SystemExit(3)"], 30)  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match=r"stopped after 1 s: no output \(hangs.log\)"):
        bench.call("hangs", [sys.executable, "-c", "import time; time.sleep(60)"], 0.5)  # type: ignore[attr-defined]


def test_what_a_stopped_command_had_started_is_stopped_too(gpu: ModuleType, tmp_path: Path) -> None:
    child = "import time; time.sleep(5); open('late', 'w')"
    parent = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
    bench = gpu.Bench(tmp_path, replace(gpu.TOY, patience=1), time.monotonic() + 60)
    with pytest.raises(RuntimeError, match="stopped after 1 s"):
        bench.call("parent", [sys.executable, "-c", parent], 1)
    until = time.monotonic() + 3  # the system takes a moment to end what was killed; the child would go on for longer
    while groups := [path for path in Path("/proc").glob("[0-9]*/cmdline") if child.encode() in _read(path)]:
        assert time.monotonic() < until, groups
        time.sleep(0.02)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has ended
        return b""


def test_a_stage_is_passed_over_if_it_would_be_cut_off(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Later stages that need less time still run."""
    ran: list[str] = []
    for name in ("prepare", "draw"):
        monkeypatch.setattr(gpu, name, lambda *given: None)
    for name in gpu.STAGES:
        monkeypatch.setitem(gpu.STAGES, name, lambda bench, name=name: ran.append(name) or [])
    assert gpu.main(["--toy", "--output", str(tmp_path), "--minutes", "0.9"]) == 0
    assert ran == [name for name in gpu.STAGES if gpu.NEEDS.get(name, 30) < 54]
    assert "[curve] passed over: 54 s left, 120 s needed" in capsys.readouterr().out


def test_what_is_missing_is_installed_beside_and_only_that(
    gpu: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench, calls = gpu.Bench(tmp_path, gpu.TOY, time.monotonic() + 60), []

    def call(self: object, name: str, command: list[str], limit: float) -> str:
        calls.append((name, command))
        if len(calls) == 1:
            raise RuntimeError("exit code 1: ModuleNotFoundError: No module named 'polars' (check.log)")
        found = [{"metadata": {"name": "polars", "version": "1.30"}}]
        (tmp_path / "pip.json").write_text(json.dumps({"install": found}))
        return ""

    monkeypatch.setattr(gpu.Bench, "call", call)
    gpu.prepare(bench, tmp_path / "wheels")
    assert [name for name, _ in calls] == ["check", "resolve", "install", "check"]
    assert "--dry-run" in calls[1][1] and {"torch>=2.6", "webdataset"} <= {*calls[1][1]}
    assert calls[2][1][-4:] == ["--no-deps", "--target", "site", "polars==1.30"]
    assert all("--no-index" in command for _, command in calls[1:3])


def test_losses_of_curves_lie_side_by_side(gpu: ModuleType, tmp_path: Path) -> None:
    for name, losses in (("curve-0", (2.5, 2.25)), ("curve-float8", (2.5, 2.0))):
        (tmp_path / name).mkdir()
        (tmp_path / name / "metrics.jsonl").write_text("".join(json.dumps({"loss": one}) + "\n" for one in losses))
    gpu.write_curves(make_bench(gpu, tmp_path))
    assert (tmp_path / "curves.csv").read_text().splitlines() == [
        "step,curve-0,curve-float8",
        "1,2.5,2.5",
        "2,2.25,2.0",
    ]


def test_open_clips_rates_are_read_from_its_log(gpu: ModuleType) -> None:
    log = """2026-11-27,09:00:00 | INFO | Train Epoch: 0 [ 1024/25600 (4%)] Data (t): 0.004 Batch (t): 0.512, 2000.0/s
    2026-11-27,09:00:01 | INFO | Train Epoch: 0 [ 2048/25600 (8%)] Data (t): 0.004 Batch (t): 0.500, 2048.0/s"""
    assert gpu.read_open_clip(log, 1024) == pytest.approx([2000, 2048])


def test_the_most_telling_stages_come_first(gpu: ModuleType) -> None:
    assert list(gpu.STAGES)[:4] == ["compiled", "openclip-compiled", "large", "profile"]
    assert {"parts", "loss", "resume", "curve", "predict", "bank", "pybioclip", "float8", "graphs"} <= gpu.STAGES.keys()
    assert gpu.NEEDS.keys() <= gpu.STAGES.keys()


@pytest.mark.long
def test_every_stage_runs_at_toy_size(gpu: ModuleType, tmp_path: Path) -> None:
    assert gpu.main(["--toy", "--output", str(tmp_path), "--minutes", "30"]) in (0, 1)
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert {row["stage"] for row in rows} == gpu.STAGES.keys()
    failed = [row for row in rows if row["what"] == "failed" or row["note"].startswith("failed")]
    # Two attention kernels exist on a GPU only.
    assert {row["what"] for row in failed} <= {
        f"attention of one layer, {kind}_attention" for kind in ("cudnn", "efficient")
    }
    differences = {row["stage"]: row["value"] for row in rows if row["what"].startswith("largest")}
    assert differences["resume"] == 0 and differences["curve"] < 0.05 and differences["float8"] == 0
    assert len((tmp_path / "curves.csv").read_text().splitlines()) == 1 + gpu.TOY.curve_steps
