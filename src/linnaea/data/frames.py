"""Frames of videos: which ones to take, their names, and reading a few at a time.

Videos are opened in a process with limits, by :mod:`linnaea.data.videos`.
"""

import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from linnaea.data.images import ImageError, Picture, call_apart
from linnaea.data.isolated import CallLimits
from linnaea.errors import UsageError

VIDEOS = {
    ".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg", ".mts", ".m2ts", ".ts", ".3gp", ".3g2", ".wmv",
    ".asf", ".lrv", ".flv", ".ogv", ".vob", ".mxf", ".mpe", ".m2v", ".qt", ".divx", ".dv", ".mjpg", ".mjpeg", ".insv",
    ".m2t", ".m1v", ".mod", ".tod", ".f4v", ".ogm", ".3gpp", ".h264", ".264", ".h265", ".265", ".hevc",
}  # fmt: skip

FRAMES_AT_ONCE = 8
"""Frames of a video that are read together."""
LIMITS = CallLimits(n_bytes=2_000_000_000, seconds=300)
"""What listing a video's frames, or reading :data:`FRAMES_AT_ONCE` of them, may use."""


def is_video(name: str | Path) -> bool:
    """Tell whether a file is a video by its ending."""
    return Path(name).suffix.lower() in VIDEOS


def list_frames(path: Path, every_s: float) -> list[tuple[float, str]]:
    """Return the times of the frames to take in seconds, one every ``every_s``, with the reason for those lost.

    Raises:
        ImageError: there is no such file, or it is not a video that can be read.
        UsageError: ``every_s`` is not above 0.
    """
    from linnaea.data.videos import list_frames_here

    if not every_s > 0:
        raise UsageError(f"every_s is {every_s:g}; the seconds between two frames must be above 0")
    if not path.exists():
        raise ImageError("no such file")
    found = call_apart(list_frames_here, str(path), every_s, limits=LIMITS)
    frames = [*((time, "") for time in found["times"]), *((time, reason) for time, reason in found["lost"])]
    return sorted(frames)


def read_frame_rate(path: Path) -> float:
    """Return the mean number of frames per second of a video; 0 if it cannot be read."""
    from linnaea.data.videos import frame_rate_here

    try:
        return float(call_apart(frame_rate_here, str(path), limits=LIMITS)) if path.is_file() else 0.0
    except ImageError:
        return 0.0


def time_of_frame(path: Path, number: int, rate: float) -> float:
    """Return the time of a frame by its number; of a video that cannot be read, by its ``rate``.

    Detectors count frames. Phones and trail cameras do not take them evenly, so that a number is not a time.
    """
    times = _frame_times(path)
    return float(times[number]) if number < len(times) else number / rate


def number_of_frame(path: Path, seconds: float, rate: float) -> int:
    """Return the number of the frame at a time; of a video that cannot be read, by its ``rate``."""
    times = _frame_times(path)
    return int(np.abs(times - seconds).argmin()) if len(times) else round(seconds * rate)


def _frame_times(path: Path) -> NDArray[np.float64]:
    """Return the time of each frame in seconds; none if the video cannot be read."""
    if not path.is_file():
        return np.zeros(0)
    facts = path.stat()
    return _read_times(str(path), facts.st_mtime_ns, facts.st_size)


@lru_cache(maxsize=4)
def _read_times(path: str, changed: int, size: int) -> NDArray[np.float64]:
    from linnaea.data.videos import frame_times_here

    try:
        return np.asarray(call_apart(frame_times_here, path, limits=LIMITS), np.float64)
    except ImageError:
        return np.zeros(0)


def name_frames(path: Path, times: Sequence[float]) -> list[str]:
    """Return a name for each frame: its time to the millisecond, or finer if two frames need it."""
    digits = 3 if len({f"{time:.3f}" for time in times}) == len(times) else 6
    words = (f"{time:.{digits}f}".rstrip("0") for time in times)
    return [f"{path}#t={word}0" if word.endswith(".") else f"{path}#t={word}" for word in words]


class Frames:
    """Frames of one video, read in blocks, since one is decoded by way of those before it. Safe for threads."""

    def __init__(self, path: Path, times: Sequence[float]) -> None:
        self._path, self._times = path, times
        self._read: dict[int, Picture | str] = {}
        self._lock = threading.Lock()

    def load(self, number: int, enough: int | None) -> Picture:
        """Return the frame at the time of that number.

        Raises:
            ImageError: it is damaged or cannot be read.
        """
        with self._lock:
            if number not in self._read:
                self._read_block(number)
            found = self._read.pop(number)
        if isinstance(found, str):
            raise ImageError(found)
        return found

    def _read_block(self, number: int) -> None:
        """Read the frames of a block up to its end, or at least up to ``number``."""
        from linnaea.data.videos import read_frames_here

        self._read.clear()
        first = number - number % FRAMES_AT_ONCE
        end = min(first + FRAMES_AT_ONCE, len(self._times))
        while first <= number:
            frames, reasons = call_apart(read_frames_here, str(self._path), list(self._times[first:end]), limits=LIMITS)
            good = iter(frames)
            self._read |= {first + at: reason or next(good) for at, reason in enumerate(reasons)}
            first += len(reasons)
