"""An engine that runs the stages of a build on a Ray cluster, with the same bytes as on one machine.

Tasks read and write a file system that every node has under the same path. Ray carries only the tasks (a folder, a
name, a slice of the plan) and their small results. A task writes whole files or none and may run twice, so the task of
a lost worker or node runs again elsewhere.
"""

import os
import re
import socket
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

import linnaea
from linnaea import __version__
from linnaea.data.engine import Result, Task
from linnaea.errors import LinnaeaError

MAX_LOSSES = 10
"""Number of times that one task may lose its worker or node before the build stops."""

_NO_MODULE = re.compile(r"No module named '([^']+)'")
_LOCAL = "local"
_TASKS_PER_CORE = 2
_OBJECT_STORE_BYTES = 100_000_000


@dataclass(frozen=True, kw_only=True)
class _TaskResult(Generic[Result]):
    """The end of a task: a result, or an error that a person must see and that another try would repeat."""

    result: Result | None = None
    error: LinnaeaError | None = None


@dataclass(frozen=True, kw_only=True)
class _Driver:
    """The version, folder and paths of the driver, which every worker must share."""

    folder: str
    """The driver's working folder; relative paths in tasks refer to it on every node."""
    must_see: tuple[str, ...]
    version: str


class RayEngine:
    """An engine that runs tasks on a Ray cluster.

    ``address`` is ``host:6379`` or ``auto``. If it is empty, ``$RAY_ADDRESS`` is used, or else a cluster of this
    machine only (``n_workers`` processes, 0: one per core). ``must_see`` are paths (output, input) that every worker
    must find; a node without the shared disk would otherwise reject every record as missing.
    """

    def __init__(self, address: str = "", *, n_workers: int = 0, must_see: Sequence[Path] = ()) -> None:
        self.address = address or os.environ.get("RAY_ADDRESS", "") or _LOCAL
        self.n_workers = n_workers
        self.must_see = tuple(must_see)

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """Yield results as they arrive; the first error stops the rest and is raised.

        Raises:
            LinnaeaError: Ray is not installed, the cluster cannot be reached, a node does not see the files or runs
                another version, or one task lost its worker :data:`MAX_LOSSES` times; errors of tasks are raised too.
        """
        ray = _import_ray()
        self._connect(ray)
        run = ray.remote(num_cpus=1, max_retries=MAX_LOSSES, retry_exceptions=False)(_run)
        place = ray.put(
            _Driver(
                folder=str(Path.cwd()),
                must_see=tuple(str(path.absolute()) for path in self.must_see),
                version=__version__,
            )
        )
        pending: set[Any] = set()
        waiting, exhausted = iter(tasks), False
        try:
            while not exhausted or pending:
                limit = _TASKS_PER_CORE * max(1, int(ray.cluster_resources().get("CPU", 1)))
                while not exhausted and len(pending) < limit:
                    try:
                        pending.add(run.remote(place, function, next(waiting)))
                    except StopIteration:
                        exhausted = True
                if not pending:
                    break
                done, rest = ray.wait(list(pending), num_returns=1)
                pending = set(rest)
                for reference in done:
                    yield _settle(ray, reference)
        finally:
            for reference in pending:
                with suppress(Exception):
                    ray.cancel(reference, force=True)

    def _connect(self, ray: Any) -> None:
        if ray.is_initialized():
            return
        here = self.address == _LOCAL
        resources = {"object_store_memory": _OBJECT_STORE_BYTES} if here else {}
        if here and self.n_workers:
            resources["num_cpus"] = self.n_workers
        try:
            ray.init(
                address=self.address,
                include_dashboard=False if here else None,
                log_to_driver=False,
                logging_level="error",
                runtime_env={"env_vars": _worker_environment()},
                **resources,
            )
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise LinnaeaError(
                f"Ray cluster {self.address}: cannot be joined ({reason}); start one with `ray start --head` and give"
                " its address with --ray-address"
            ) from error


def _import_ray() -> Any:
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"  # Ray would report every cluster to its developers
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise LinnaeaError("Ray is not installed; pip install 'linnaea[ray]', or use --engine local") from None
    return ray


def _worker_environment() -> dict[str, str]:
    """Return the environment with which workers import the driver's linnaea and use one thread each."""
    environment = {"POLARS_MAX_THREADS": "1", "OMP_NUM_THREADS": "1"}
    root = Path(linnaea.__file__).resolve().parent.parent
    paths = [] if root.name in ("site-packages", "dist-packages") else [str(root)]
    paths += [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path and path not in paths]
    return {**environment, "PYTHONPATH": os.pathsep.join(paths)} if paths else environment


def _run(place: _Driver, function: Callable[[Task], Result], task: Task) -> _TaskResult[Result]:
    """Check the worker's environment, then run one task."""
    try:
        _look_around(place)
        return _TaskResult(result=function(task))
    except LinnaeaError as error:
        return _TaskResult(error=error)


def _look_around(place: _Driver) -> None:
    node = socket.gethostname()
    if __version__ != place.version:
        raise LinnaeaError(
            f"node {node}: runs linnaea {__version__}, this is {place.version}; install one version on all nodes"
        )
    try:
        os.chdir(place.folder)
    except OSError:
        raise LinnaeaError(
            f"node {node}: has no folder {place.folder}; start the build from a folder that all nodes share"
        ) from None
    for path in place.must_see:
        if not Path(path).exists():
            raise LinnaeaError(
                f"node {node}: does not see {path}; inputs and output must lie on a file system that all nodes share"
            )


def _settle(ray: Any, reference: Any) -> Any:
    """Return the result of one task, or raise the error that it ended with."""
    try:
        outcome = ray.get(reference)
    except ray.exceptions.RayError as error:
        if missing := _NO_MODULE.search(str(error)):
            raise LinnaeaError(
                f"a node of the Ray cluster has no module {missing[1]}; install the same linnaea on all nodes"
            ) from error
        cause = getattr(error, "cause", None)
        if isinstance(cause, Exception) and not isinstance(cause, ray.exceptions.RayError):
            raise cause from None
        raise LinnaeaError(
            f"Ray gave up a task ({type(error).__name__}: it may be lost {MAX_LOSSES} times); if memory ran out give"
            " the nodes fewer cores; run the same command again to resume"
        ) from error
    if outcome.error is not None:
        raise outcome.error
    return outcome.result
