"""Decoding of untrusted files has an end: of memory, of time, and of its process."""

import io
import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from linnaea.data import images, isolated, jpegs
from linnaea.data.images import ImageError, call_apart, decode
from linnaea.data.isolated import CallLimits, IsolatedError, run_isolated, stop_workers
from linnaea.errors import LinnaeaError

LIMITS = CallLimits(n_bytes=100_000_000, seconds=20)


def png(width: int, height: int, mode: str = "RGB") -> bytes:
    stream = io.BytesIO()
    Image.new(mode, (width, height)).save(stream, "PNG")
    return stream.getvalue()


def process_id() -> int:
    return os.getpid()


def double(values: np.ndarray) -> np.ndarray:
    return values * 2


def fill(n_bytes: int) -> int:
    return len(b"x" * n_bytes)


def compute(seconds: float) -> None:
    until = time.process_time() + seconds
    while time.process_time() < until:
        pass


def end_process() -> None:
    os._exit(3)


def refuse() -> None:
    raise LinnaeaError("for a reason")


def touch_when_loaded(marker: str) -> "Evil":
    return Evil(marker)


class Evil:
    """A value whose pickle would touch a file where it is loaded."""

    def __init__(self, marker: str) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path(self.marker),)


@pytest.fixture(autouse=True)
def _fresh_workers() -> None:
    stop_workers()


def test_a_call_returns_arrays_and_values_from_another_process() -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    doubled = run_isolated(double, (values,), LIMITS)
    assert np.array_equal(doubled, 2 * values)
    assert doubled.dtype == values.dtype
    first, second = run_isolated(process_id, (), LIMITS), run_isolated(process_id, (), LIMITS)
    assert first == second != os.getpid(), "one process serves many calls"


def test_a_call_that_allocates_too_much_is_refused_and_the_next_one_works() -> None:
    with pytest.raises(IsolatedError, match=r"needs more than 100,000,000 bytes of memory"):
        run_isolated(fill, (200_000_000,), LIMITS)
    assert run_isolated(fill, (50_000_000,), LIMITS) == 50_000_000


def test_a_call_that_computes_too_long_is_ended() -> None:
    with pytest.raises(IsolatedError, match="takes more than"):
        run_isolated(compute, (600,), CallLimits(n_bytes=100_000_000, seconds=0.5))
    with pytest.raises(IsolatedError, match=r"takes more than 0\.5 s"):
        run_isolated(time.sleep, (600,), CallLimits(n_bytes=100_000_000, seconds=60, wall_s=0.5))
    assert run_isolated(fill, (1,), LIMITS) == 1


def test_a_decoder_that_crashes_is_a_reason() -> None:
    with pytest.raises(IsolatedError, match="its decoder crashed"):
        run_isolated(end_process, (), LIMITS)
    with pytest.raises(IsolatedError, match="for a reason"):
        run_isolated(refuse, (), LIMITS)


def test_what_a_worker_answers_runs_no_code_here(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    with pytest.raises((IsolatedError, LinnaeaError)):
        run_isolated(touch_when_loaded, (str(marker),), LIMITS)
    assert not marker.exists()


def test_a_worker_that_keeps_memory_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    first = run_isolated(process_id, (), LIMITS)
    monkeypatch.setattr(isolated, "KEPT_BYTES", -1)
    run_isolated(process_id, (), LIMITS)
    assert run_isolated(process_id, (), LIMITS) != first


def test_a_working_folder_adds_no_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "json.py").write_text("from pathlib import Path; Path('ran').touch()")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("")
    assert run_isolated(fill, (1,), LIMITS) == 1
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("form", ["PNG", "WEBP", "TIFF", "GIF", "BMP"])
def test_a_small_file_that_becomes_large_is_refused(form: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is lowered; a real one is thousands of times as large."""
    stream = io.BytesIO()
    Image.new("RGB", (1500, 1000)).save(stream, form)
    assert decode(stream.getvalue()).shape == (1000, 1500, 3)
    monkeypatch.setattr(images, "DECODING", CallLimits(n_bytes=2_000_000, seconds=20))
    reason = r"too large: decoding it needs more than 2,000,000 bytes"
    with pytest.raises(ImageError, match="could not create decoder" if form == "WEBP" else reason):
        decode(stream.getvalue())


def test_only_a_plain_jpeg_is_decoded_here(monkeypatch: pytest.MonkeyPatch) -> None:
    apart: list[bytes] = []
    monkeypatch.setattr(images, "call_apart", lambda function, data, *rest: apart.append(data) or function(data, *rest))
    plain, scans = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (40, 30)).save(plain, "JPEG")
    Image.new("RGB", (40, 30)).save(scans, "JPEG", progressive=True)
    for stream in (plain, scans):
        decode(stream.getvalue())
    assert not apart
    decode(png(40, 30))
    monkeypatch.setattr(jpegs, "_PLAIN_SCANS", 1)
    decode(plain.getvalue())
    decode(scans.getvalue())
    monkeypatch.setattr(jpegs, "_PLAIN_PIXELS", 1000)
    decode(plain.getvalue())
    assert apart == [png(40, 30), scans.getvalue(), plain.getvalue()]


def test_limits_of_a_call_can_be_chosen() -> None:
    with pytest.raises(ImageError, match="needs more than 1,000,000 bytes"):
        call_apart(images.decode_here, png(1500, 1000), None, 10**9, limits=CallLimits(n_bytes=10**6, seconds=9))
