"""The benchmark for a GPU does not fail for a silly reason: its parts run on a CPU, at toy size."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import gpu

    yield gpu


def make_bench(gpu: ModuleType, output: Path, seconds: float = 60) -> object:
    return gpu.Bench(output, gpu.TOY, time.monotonic() + seconds)


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
    bench = make_bench(gpu, tmp_path)
    with pytest.raises(RuntimeError, match=r"exit code 3: out of memory \(fails.log\)"):
        bench.call("fails", [sys.executable, "-c", "print('out of memory'); raise SystemExit(3)"], 30)  # type: ignore[attr-defined]
    with pytest.raises(RuntimeError, match=r"stopped after 1 s: no output \(hangs.log\)"):
        bench.call("hangs", [sys.executable, "-c", "import time; time.sleep(60)"], 0.5)  # type: ignore[attr-defined]


def test_open_clips_rates_are_read_from_its_log(gpu: ModuleType) -> None:
    log = """2026-11-27,09:00:00 | INFO | Train Epoch: 0 [ 1024/25600 (4%)] Data (t): 0.004 Batch (t): 0.512, 2000.0/s
    2026-11-27,09:00:01 | INFO | Train Epoch: 0 [ 2048/25600 (8%)] Data (t): 0.004 Batch (t): 0.500, 2048.0/s"""
    assert gpu.read_open_clip(log, 1024) == pytest.approx([2000, 2048])


def test_the_most_telling_stages_come_first(gpu: ModuleType) -> None:
    assert list(gpu.STAGES)[:2] == ["compiled", "openclip-compiled"]
    assert {"parts", "profile", "loss", "large", "resume", "curve", "predict", "bank"} <= gpu.STAGES.keys()


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
    differences = [row["value"] for row in rows if row["what"].startswith("largest")]
    assert differences[0] == 0 and differences[1] < 0.05
