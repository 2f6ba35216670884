"""The programs that run an image tower's graph on a CPU: ONNX Runtime, and OpenVINO where it is installed.

Where both are there, they are timed once for each graph, precision and machine, and the faster one is remembered in the
cache folder (``linnaea doctor`` lists them). Every command and the library then use that one.
"""

import importlib.metadata
import json
import os
import platform
import re
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Float32
from numpy import ndarray

from linnaea.data.engine import count_cores
from linnaea.errors import LinnaeaError
from linnaea.model.crashes import has_crashed, watch
from linnaea.model.onnx_data import check_external_data
from linnaea.progress import announce
from linnaea.storage import cache_dir, explain_os_errors, write_atomically

Run: TypeAlias = Callable[[ndarray], Float32[ndarray, "B E"]]
"""A function that encodes pixels ``[B, 3, S, S]``."""

CPU_FACTS = Path("/proc/cpuinfo")
AT_ONCE = 8
"""Photographs that a graph encodes at once: few enough for a processor's cache."""
_ONNX_RUNTIME, _OPENVINO, _PYTORCH = "ONNX Runtime", "OpenVINO", "PyTorch"
_FIRST_RUN, _HAS_RUN = threading.Lock(), threading.Event()
"""OpenVINO's first run is alone. Its bindings make their tables of types when they are first used, and two threads that
do so at once may wait for each other forever: one has the table's lock, the other the interpreter's."""
_STAMP = re.compile(r" \(\d+, \d+\)(?=, \w+$)")
"""The size and time of a graph's file in :func:`_key`."""
_CLEARLY = 0.95
"""OpenVINO is used if it takes less than this share of the other's time."""


def open_runtime(path: Path, precision: str, side: int, *, n_callers: int = 1) -> Run:
    """Open a graph in the runtime that is faster on this machine; ``bf16`` needs OpenVINO.

    ``side`` is the input size in pixels. ``n_callers`` threads may call the function at once, on one core each; a
    single caller's photographs are computed on every core.

    Raises:
        LinnaeaError: the file cannot be opened.
    """
    if not path.is_file():
        raise LinnaeaError(f"{path}: is missing; pack the model again")
    if precision == "bf16":
        return _open_openvino(path, precision, side, n_callers)
    if not has_openvino():
        return open_onnxruntime(path, n_callers)
    times = _read_choices().get(key := _key(path, precision))
    if times is not None:
        return _open_fastest(times, path, precision, side, n_callers)
    runs: dict[str, Run] = {_ONNX_RUNTIME: open_onnxruntime(path, n_callers)}
    try:
        runs[_OPENVINO] = _open_openvino(path, precision, side, n_callers)
        times = {name: _time(run, side, n_callers) for name, run in runs.items()}
    except Exception as error:  # whatever the runtime raises
        announce(f"OpenVINO cannot run {path} ({str(error).splitlines()[0][:120]}); ONNX Runtime does")
        times = {_ONNX_RUNTIME: _time(runs[_ONNX_RUNTIME], side, n_callers)}
    _remember(key, times)
    return runs[_fastest(times)]


def is_faster(path: Path, precision: str) -> bool | None:
    """Return whether OpenVINO was faster than PyTorch on this machine; ``None`` if they were not timed."""
    times = _read_choices().get(_key(path, precision))
    return None if times is None else _fastest(times) == _OPENVINO


def compare(path: Path, precision: str, side: int, in_pytorch: Run) -> bool:
    """Time a graph in OpenVINO and the same model in PyTorch, remember it, and return whether OpenVINO is faster."""
    times = {_PYTORCH: _time(in_pytorch, side), _OPENVINO: _time(_open_openvino(path, precision, side), side)}
    _remember(_key(path, precision), times)
    return _fastest(times) == _OPENVINO


def open_onnxruntime(path: Path, n_callers: int = 1) -> Run:
    """Open a graph in ONNX Runtime; for ``n_callers`` see :func:`open_runtime`.

    Raises:
        LinnaeaError: the file cannot be opened, or names files outside its folder.
    """
    import onnxruntime

    with explain_os_errors(path):
        check_external_data(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = count_cores() if n_callers == 1 else 1
    # Threads that wait actively take the cores from decoding and from other programs: 19 processor ms instead of 12.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # whatever the runtime raises for a broken file
        raise LinnaeaError(f"{path}: cannot be opened ({str(error).splitlines()[0][:120]}); export again") from error
    name = session.get_inputs()[0].name
    return lambda values: np.asarray(session.run(None, {name: np.ascontiguousarray(values)})[0])


def _open_openvino(path: Path, precision: str, side: int, n_callers: int = 1) -> Run:
    """Open a graph in OpenVINO. Where bf16 is fast, a transformer in 8 bits has the rest of its operations in bf16.

    Convolutional towers keep their first layers in float32: these carry most of the error of 8 bits.
    """
    # Importing openvino asks a server on the web, unless this package is missing (findings/openvino-telemetry-*.sh).
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino

    with explain_os_errors(path):
        check_external_data(path)
    watch("openvino", _version("openvino"))
    core = openvino.Core()
    model = core.read_model(str(path))
    model.reshape([-1, 3, side, side])
    is_transformer = any(operation.get_type_name() == "Softmax" for operation in model.get_ops())
    rounds = precision == "bf16" or (precision == "int8" and is_transformer and has_bf16())
    hints = {"INFERENCE_PRECISION_HINT": "bf16" if rounds else "f32",  # its default is bf16, if possible
             "INFERENCE_NUM_THREADS": count_cores(), "PERFORMANCE_HINT": "LATENCY",
             "NUM_STREAMS": n_callers}  # fmt: skip
    compiled = core.compile_model(model, "CPU", hints)
    of_thread = threading.local()

    def run(values: ndarray) -> Float32[ndarray, "B E"]:
        with nullcontext() if _HAS_RUN.is_set() else _FIRST_RUN:
            if not hasattr(of_thread, "request"):
                of_thread.request = compiled.create_infer_request()
            found = np.array(of_thread.request.infer({0: np.ascontiguousarray(values)})[0])
            _HAS_RUN.set()
        return found

    return run


def has_openvino() -> bool:
    """Tell whether OpenVINO is installed, without importing it, and has not ended a process of ours."""
    version = _version("openvino")
    return ("openvino" in sys.modules or version != "") and not has_crashed("openvino", version)


def multiplies(feature: str) -> bool:
    """Tell whether the processor has a feature of ``/proc/cpuinfo``, such as ``avx512_bf16``."""
    return CPU_FACTS.exists() and feature in CPU_FACTS.read_text().split()


def has_bf16() -> bool:
    """Tell whether the processor multiplies bfloat16."""
    return multiplies("avx512_bf16") or multiplies("amx_bf16")


def list_choices() -> list[tuple[str, str]]:
    """Return what was timed on this machine: the graph with its precision, and ms a photograph of each runtime.

    Of graphs with the same name, the one that was timed last is listed.
    """
    machine = _machine()
    latest = dict[str, str]()
    for key, times in _read_choices().items():
        graph, _, of_machine = key.partition(" on ")
        if of_machine == machine and not _is_unfinished(key):
            ordered = sorted(times.items(), key=lambda one: one[0] != _fastest(times))
            latest[_STAMP.sub("", graph)] = ", ".join(f"{name} {ms:.1f} ms" for name, ms in ordered)
    return sorted(latest.items())


def _open_fastest(times: Mapping[str, float], path: Path, precision: str, side: int, n_callers: int) -> Run:
    if _fastest(times) == _OPENVINO:
        try:
            return _open_openvino(path, precision, side, n_callers)
        except Exception as error:  # whatever the runtime raises
            announce(f"OpenVINO cannot run {path} ({str(error).splitlines()[0][:120]}); ONNX Runtime does")
    return open_onnxruntime(path, n_callers)


def _fastest(times: Mapping[str, float]) -> str:
    other = next(name for name in times if name != _OPENVINO)
    return _OPENVINO if times.get(_OPENVINO, float("inf")) < _CLEARLY * times[other] else other


def _time(run: Run, side: int, n_callers: int = 1) -> float:
    """Return the milliseconds a photograph of the best of three batches, after one that is not counted.

    Of a runtime on one core it is processor time: on a busy machine the clock would choose by chance, and the choice is
    kept. Cores that share a batch wait actively, which counts as processor time, so there it is the clock.
    """
    clock = time.perf_counter if n_callers == 1 else time.process_time
    pixels = np.full((AT_ONCE, 3, side, side), 127, np.float32)
    seconds = []
    for _ in range(4):
        start = clock()
        run(pixels)
        seconds.append(clock() - start)
    return 1000 * min(seconds[1:]) / AT_ONCE


def _key(path: Path, precision: str) -> str:
    file = path.stat()
    return f"{path.resolve().parent.name}/{path.name} ({file.st_size}, {file.st_mtime_ns}), {precision} on {_machine()}"


def _is_unfinished(key: str) -> bool:
    """Tell whether a graph lies in a folder that is being written and will get another name."""
    return key.partition("/")[0].endswith(".partial")


def _machine() -> str:
    """Return what the times depend on: processor, cores, versions, and limits on the instructions that are used."""
    facts = CPU_FACTS.read_text() if CPU_FACTS.exists() else ""
    names = [line.partition(":")[2].strip() for line in facts.splitlines() if line.startswith("model name")]
    limits = [os.environ.get(name, "") for name in ("ONEDNN_MAX_CPU_ISA", "OV_CPU_MAX_ISA")]
    versions = [f"{name} {_version(name)}" for name in ("onnxruntime", "openvino")]
    what = [names[0] if names else platform.processor(), platform.node(), f"{count_cores()} cores", *versions, *limits]
    return ", ".join(filter(None, what))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _choices_path() -> Path:
    return cache_dir() / "runtimes.json"


def _read_choices() -> dict[str, dict[str, float]]:
    try:
        stored: Any = json.loads(_choices_path().read_text("utf-8"))
        return {str(key): {str(name): float(ms) for name, ms in times.items()} for key, times in stored.items()}
    except (OSError, ValueError, AttributeError, TypeError):  # none yet, or a broken file: measured again
        return {}


def _remember(key: str, times: Mapping[str, float]) -> None:
    """Keep the times of a graph, the latest last; those of other folders that were being written are forgotten."""
    folder = key.partition("/")[0]
    kept = {one: of_one for one, of_one in _read_choices().items()
            if one != key and (one.partition("/")[0] == folder or not _is_unfinished(one))}  # fmt: skip
    try:
        write_atomically(_choices_path(), json.dumps(kept | {key: dict(times)}, indent=1))
    except (OSError, LinnaeaError):
        return  # a cache that cannot be written costs the next command the measurement
