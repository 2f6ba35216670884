"""A Ray cluster gives the bytes of one machine, whatever happens to its nodes; errors come through as they are."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from linnaea.data import ray_engine
from linnaea.data.build import BuildConfig, ShardTask, build, make_shard
from linnaea.data.engine import LocalEngine
from linnaea.data.ray_engine import RayEngine
from linnaea.data.sources.folder import FolderSource
from linnaea.data.synthetic import SyntheticConfig, synthesize
from linnaea.errors import LinnaeaError

ray = pytest.importorskip("ray", reason="needs linnaea[ray]")


def square(number: int) -> int:
    return number * number


def refuse_three(number: int) -> int:
    if number == 3:
        raise LinnaeaError("three is too much")
    return number


def fail_otherwise(number: int) -> int:
    raise OSError(28, "No space left on device", f"file {number}")


def slow_shard(task: ShardTask) -> int:
    """Slow enough to be hit by a kill."""
    time.sleep(1)
    return make_shard(task)


class SlowRay(RayEngine):
    def map(self, function, tasks):  # type: ignore[no-untyped-def]
        return super().map(slow_shard if function is make_shard else function, tasks)


def contents(directory: Path) -> dict[str, bytes]:
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def test_without_ray_the_install_word_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(LinnaeaError, match=r"pip install 'linnaea\[ray\]'"):
        list(RayEngine().map(square, [1]))


def test_a_node_that_does_not_see_the_files_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    missing = str(tmp_path / "elsewhere")
    place = ray_engine._Place(folder=str(tmp_path), must_see=(missing,), version=ray_engine.__version__)
    outcome = ray_engine._run(place, square, 3)
    assert f"does not see {missing}" in str(outcome.error)
    place = ray_engine._Place(folder=missing, must_see=(), version=ray_engine.__version__)
    assert "has no folder" in str(ray_engine._run(place, square, 3).error)
    place = ray_engine._Place(folder=str(tmp_path), must_see=(), version="0.0")
    assert "install one version on all nodes" in str(ray_engine._run(place, square, 3).error)
    place = ray_engine._Place(folder=str(tmp_path), must_see=(), version=ray_engine.__version__)
    assert ray_engine._run(place, square, 3).result == 9


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Three nodes of one core each, beside a head that takes no task."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent), prepend=os.pathsep)  # the workers find this module
    from ray.cluster_utils import Cluster

    small = {"object_store_memory": 80_000_000, "include_dashboard": False}
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **small})
    try:
        for _ in range(3):
            made.add_node(num_cpus=1, object_store_memory=80_000_000)
        made.wait_for_nodes()
        yield made
    finally:
        ray.shutdown()
        made.shutdown()


@pytest.mark.long
def test_tasks_results_and_errors(cluster) -> None:  # type: ignore[no-untyped-def]
    engine = RayEngine(cluster.address)
    assert sorted(engine.map(square, range(40))) == [n * n for n in range(40)]
    assert list(engine.map(square, [])) == []
    with pytest.raises(LinnaeaError, match=r"^three is too much$"):
        list(engine.map(refuse_three, range(100)))
    with pytest.raises(OSError, match="No space left"):
        list(engine.map(fail_otherwise, range(3)))
    taken = []

    def tasks():  # type: ignore[no-untyped-def]
        for number in range(1000):
            taken.append(number)
            yield number

    results = engine.map(square, tasks())
    next(results)
    assert len(taken) <= 6
    results.close()  # type: ignore[attr-defined]


@pytest.mark.long
def test_a_node_killed_in_mid_build_loses_nothing(cluster, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    photos = tmp_path / "photos"
    synthesize(photos, SyntheticConfig(n_species=12, n_images=20, size=200), n_workers=1)
    (next(photos.glob("0*")) / "broken.jpg").write_bytes(b"no picture")
    config, killed = BuildConfig(shard_size=8, captions=True), []
    build([FolderSource(root=photos)], tmp_path / "local" / "data", config, LocalEngine(1))

    def kill_a_node(done: int, total: int | None) -> None:
        if not killed and done >= 40:
            raylet = next(iter(cluster.worker_nodes))
            for processes in raylet.all_processes.values():
                for one in processes:
                    os.kill(one.process.pid, signal.SIGKILL)
            killed.append(done)

    engine = SlowRay(cluster.address, must_see=[photos])
    summary = build([FolderSource(root=photos)], tmp_path / "ray" / "data", config, engine, kill_a_node)
    assert killed
    assert killed[0] < summary.n_out
    assert contents(tmp_path / "ray" / "data") == contents(tmp_path / "local" / "data")


@pytest.mark.long
def test_ctrl_c_ends_a_build_on_ray_and_it_goes_on(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    synthesize(photos, SyntheticConfig(n_species=12, n_images=20, size=300), n_workers=1)
    command = [sys.executable, "-m", "linnaea", "data", "build", "--folder", str(photos), "--shard-size", "5"]
    on_ray = [*command, "--output", str(tmp_path / "a" / "data"), "--engine", "ray", "--workers", "2"]
    process = subprocess.Popen(on_ray, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None and not list(tmp_path.glob("a/data/*/*.tar")):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode in (130, 0), err
    assert b"Traceback" not in err
    subprocess.run([*command, "--output", str(tmp_path / "a" / "data")], check=True, capture_output=True)
    subprocess.run([*command, "--output", str(tmp_path / "b" / "data")], check=True, capture_output=True)
    assert contents(tmp_path / "a" / "data") == contents(tmp_path / "b" / "data")
