"""Frames of videos, each with its own time, read with PyAV in a process with limits.

A frame is known by its time after the clip's first visible frame. Frames that an edit list hides are not seen. What
follows damage is damaged up to the next key frame; the clip goes on there.
"""

from bisect import bisect_left
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import av
import cv2
import numpy as np
from av.container import InputContainer
from av.logging import Capture
from av.packet import Packet
from av.sidedata.sidedata import Type as SideDataType
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray
from PIL import Image

from linnaea.counting import agree, count
from linnaea.data.colours import profile_of_cicp, to_srgb
from linnaea.data.cut_short import is_cut_short
from linnaea.data.file_kinds import kind_in_words, why_not_an_image
from linnaea.data.orientation import UPRIGHT, turn_upright
from linnaea.data.picture import ImageError, Picture, check_size
from linnaea.storage import open_regular

BATCH_BYTES = 50_000_000
"""Frames that are read together have at most about this size."""

_SOON_S = 2e-3
"""A frame that is early by no more than this is the one asked for: containers round times to a millisecond."""
_FAR_S = 10
"""Seconds that are decoded rather than sought."""
_LOST_AT_MOST = 10_000
_DEMUX_ERRORS_AT_MOST = 100
_HEAD_BYTES, _ZEROS_AT_MOST = 4096, 100_000_000
_JUMP_S = 1
"""Times that go back by more than this begin again."""
_STATING = {"mp4", "avi", "matroska", "flv", "asf", "mxf"}
"""Containers whose head states how long they are."""
_MARGIN_S, _MARGIN_OTHERS_S = 0.25, 1.5
"""Seconds by which the last picture of a whole clip may come before the stated end. The larger number is for containers
that state one duration for pictures and sound."""
_HOLE = bytes(64)
_WITHOUT_ZEROS = {"h264", "hevc", "mpeg4", "vp8", "vp9", "av1", "wmv3", "vc1"}
"""Codecs whose frames hold no long runs of zero bytes, because these would look like a start code or are impossible."""
_ORIENTATIONS = {
    (1, 0, 0, 1): UPRIGHT, (-1, 0, 0, 1): 2, (-1, 0, 0, -1): 3, (1, 0, 0, -1): 4,
    (0, 1, 1, 0): 5, (0, 1, -1, 0): 6, (0, -1, -1, 0): 7, (0, -1, 1, 0): 8,
}  # fmt: skip
"""EXIF's orientation for the signs of a display matrix (ISO/IEC 14496-12, 8.3.2: x' = ax + cy, y' = bx + dy)."""


def list_frames_here(path: str, every_s: float) -> dict[str, Any]:
    """Return the ``times`` of the frames to take, one every ``every_s`` seconds, and of those ``lost``, with reasons.

    A frame is taken once, so that a video has at most as many as it has frames.

    Raises:
        ImageError: the file is not a video that can be read.
    """
    clip = _scan_clip(path, *_state_of(path))
    if not clip.times:
        raise ImageError("not a readable video (no frame with a time in it; copy it into an MP4)")
    taken: dict[float, None] = {}
    lost: dict[float, str] = {}
    number = 0
    while (asked := number * every_s) <= clip.times[-1] + _SOON_S:
        time = clip.times[bisect_left(clip.times, asked - _SOON_S)]
        hole = next((hole for hole in clip.holes if hole[0] < asked < hole[1]), None)
        if hole and time > asked + every_s - _SOON_S:
            lost[asked] = f"the video is damaged from {hole[0]:.1f} to {hole[1]:.1f} s"
            number += 1
        else:
            taken[time] = None
            number = int((time + _SOON_S) / every_s) + 1
    if clip.is_cut or clip.is_short:
        n_missing = int((clip.stated_s - asked) / every_s + 1 - 1e-9) if clip.stated_s > asked else 1
        lost |= {asked + every_s * more: clip.why_short for more in range(min(n_missing, _LOST_AT_MOST))}
    if clip.n_hidden:
        lost[asked] = (
            "the video's clock begins again (joined clips):"
            f" {count(clip.n_hidden, 'frame', '')} {agree(clip.n_hidden, 'is', 'are')} not seen; split it"
        )
    return {"times": list(taken), "lost": sorted(lost.items())}


def read_frames_here(path: str, times: Sequence[float]) -> tuple[NDArray[np.uint8], list[str]]:
    """Return frames ``[N, H, W, 3]`` and for each asked-for time the reason why its frame is missing, or ``""``.

    The list of reasons ends early where the frames become too many bytes, or change their size.

    Raises:
        ImageError: the file is not a video that can be read.
    """
    clip = _scan_clip(path, *_state_of(path))
    reader = _open_reader(path, *_state_of(path))
    pictures: list[Picture] = []
    reasons: list[str] = []
    for time in times:
        found = reader.read(clip.ticks_at(time), clip)
        if isinstance(found, str):
            reasons.append(found)
            continue
        if pictures and (found.shape != pictures[0].shape or len(pictures) * found.nbytes > BATCH_BYTES):
            break
        pictures.append(found)
        reasons.append("")
    frames = np.stack(pictures) if pictures else np.zeros((0, 1, 1, 3), np.uint8)
    return frames, reasons


def frame_times_here(path: str) -> NDArray[np.float64]:
    """Return the time of each frame that is shown, in seconds.

    Raises:
        ImageError: the file is not a video that can be read.
    """
    return np.array(_scan_clip(path, *_state_of(path)).times)


def frame_rate_here(path: str) -> float:
    """Return the mean number of frames per second that a video states, 0 if it states none.

    Raises:
        ImageError: the file is not a video that can be read.
    """
    with open_regular(Path(path)) as file, _open_video(file) as container:
        stream = _stream_of(container)
        return float(stream.average_rate or stream.guessed_rate or 0)


@dataclass(frozen=True, kw_only=True)
class _Clip:
    """What the packets of a video say, without decoding."""

    times: list[float]
    """Seconds after the first visible frame, in order, each once."""
    ticks: list[int]
    """The time stamps of these frames, in units of the stream."""
    holes: list[tuple[float, float]]
    """The damaged parts of the container: the times before and after each."""
    end_s: float
    """When the last packet ends."""
    is_cut: bool
    stated_s: float
    """The duration that the container states, 0 if none."""
    margin_s: float
    """Seconds by which a whole clip may be shorter than stated."""
    n_hidden: int
    """Frames with the time stamp of an earlier one, where the clock begins again."""

    @property
    def is_short(self) -> bool:
        """Return whether frames are missing at the end, though the file is not cut there."""
        return self.stated_s - self.end_s > self.margin_s

    @property
    def why_short(self) -> str:
        of_all = f" of {self.stated_s:.1f}" if self.is_short else ""
        if self.is_cut:
            return f"the video is cut short: its data end at {self.times[-1]:.1f} s{of_all}"
        return f"the video is damaged: its frames end at {self.times[-1]:.1f} s{of_all}"

    def ticks_at(self, time: float) -> int:
        """Return the time stamp of the frame nearest to a time."""
        place = bisect_left(self.times, time)
        near = [at for at in (place - 1, place) if 0 <= at < len(self.times)]
        return self.ticks[min(near, key=lambda at: abs(self.times[at] - time))]

    def around(self, ticks: int) -> tuple[float, float]:
        """Return the times halfway to the frames before and after; some containers and decoders count differently."""
        place = bisect_left(self.ticks, ticks)
        before, after = self.ticks[max(place - 1, 0)], self.ticks[min(place + 1, len(self.ticks) - 1)]
        return ticks - (ticks - before) / 2, ticks + max(0.0, (after - ticks) / 2 - 1e-6)

    def time_of(self, ticks: int) -> float:
        return self.times[min(bisect_left(self.ticks, ticks), len(self.times) - 1)]


def _state_of(path: str) -> tuple[int, int]:
    facts = Path(path).stat()
    return facts.st_mtime_ns, facts.st_size


@lru_cache(maxsize=4)
def _scan_clip(path: str, changed: int, size: int) -> _Clip:
    with open_regular(Path(path)) as file, _open_video(file) as container:
        stream = _stream_of(container)
        base = stream.time_base or Fraction(1, 1000)
        stamps: list[int] = []
        holes: list[tuple[int, int]] = []
        begun = after_error = begins_again = False
        end = last = -(1 << 62)
        for packet, is_damaged in _iter_packets(container, stream):
            after_error |= is_damaged and bool(stamps)
            begun |= packet.is_keyframe
            stamp = packet.pts if packet.pts is not None else packet.dts
            if stamp is None:
                continue
            end = max(end, stamp + (packet.duration or 0))
            begins_again |= packet.dts is not None and packet.dts < last - _JUMP_S / base
            last = last if packet.dts is None else packet.dts
            if not packet.size or packet.is_discard or not begun:
                continue
            if after_error:
                holes.append((max(stamps), stamp))
                after_error = False
            stamps.append(stamp)
        ticks = sorted(set(stamps))
        start = ticks[0] if ticks else 0
        return _Clip(
            times=[float((stamp - start) * base) for stamp in ticks],
            ticks=ticks,
            holes=[(float((first - start) * base), float((last - start) * base)) for first, last in holes],
            end_s=float((end - start) * base),
            is_cut=is_cut_short(file, size),
            stated_s=_stated_s(container, stream, float(start * base)),
            margin_s=_MARGIN_S if stream.duration or len(container.streams) == 1 else _MARGIN_OTHERS_S,
            n_hidden=len(stamps) - len(ticks) if begins_again else 0,
        )


def _stated_s(container: InputContainer, stream: VideoStream, start_s: float) -> float:
    """Return the duration that the container states, 0 if none; that of a transport stream is an estimate."""
    if not set(container.format.name.split(",")) & _STATING:
        return 0
    if stream.duration:
        return float(stream.duration * (stream.time_base or 0))
    return max(0.0, (container.duration or 0) / av.time_base - max(0.0, start_s))


class _Reader:
    """An open video that goes forward, and back only if an earlier frame is asked for."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._open()

    def _open(self) -> None:
        self._file = open_regular(Path(self._path))
        self._container = _open_video(self._file)
        self._stream = _stream_of(self._container)
        self._frames = self._decode()
        self._last: int | None = None

    def close(self) -> None:
        self._frames.close()
        self._container.close()
        self._file.close()

    def read(self, ticks: int, clip: _Clip) -> Picture | str:
        """Return the frame with a time stamp, or the reason why there is none."""
        low, high = clip.around(ticks)
        far = _FAR_S / float(self._stream.time_base or 1)
        last = clip.ticks[0] if self._last is None else self._last
        found = self._find(low, high) if last - (self._last is None) < ticks <= last + far else None
        if found is None and self._seek(ticks):
            found = self._find(low, high)
        if found is None:  # a container without an index may go to a later place
            self.close()
            self._open()
            found = self._find(low, high)
        when = f"{clip.time_of(ticks):.1f} s"
        if found is None:
            return f"the frame at {when} cannot be read"
        frame, is_damaged = found
        return f"the frame at {when} is damaged" if is_damaged else _to_picture(frame, self._stream)

    def _find(self, low: float, high: float) -> tuple[VideoFrame, bool] | None:
        """Return the first frame with a time stamp in a range, and whether it is damaged; ``None`` if there is none."""
        for found, frame, is_damaged in self._frames:
            self._last = found
            if found > high:
                break
            if found >= low:
                return frame, is_damaged
        return None

    def _seek(self, ticks: int) -> bool:
        """Go to the last key frame before; return whether the container can."""
        try:
            self._container.seek(ticks, stream=self._stream)
        except av.FFmpegError:
            return False
        self._frames = self._decode()
        return True

    def _decode(self) -> Generator[tuple[int, VideoFrame, bool]]:
        """Yield time stamp and frame, and whether the frame is damaged or depends on one that is."""
        damaged: dict[int | None, bool] = {}
        is_bad = was_bad = has_begun = False
        key = -(1 << 62)
        for packet, broken in _iter_packets(self._container, self._stream):
            has_begun |= packet.is_keyframe
            if not has_begun:
                continue
            if packet.is_keyframe and packet.size:
                was_bad, is_bad, key = is_bad, False, _stamp(packet, key)
            with Capture(local=False) as logs:
                try:
                    frames = packet.decode()
                except av.FFmpegError:
                    frames, is_bad = [], True
            is_bad |= broken or bool(logs) or _has_hole(packet)
            damaged[packet.pts] = is_bad
            for frame in frames:
                stamp = _stamp(frame, key)
                bad = damaged.pop(frame.pts, is_bad) or frame.is_corrupt or (was_bad and stamp < key)
                yield stamp, frame, bad


def _stamp(one: Any, otherwise: int) -> int:
    return int(one.pts if one.pts is not None else one.dts if one.dts is not None else otherwise)


@lru_cache(maxsize=1)
def _open_reader(path: str, changed: int, size: int) -> _Reader:
    return _Reader(path)


def _open_video(file: BinaryIO) -> InputContainer:
    """Open a video from a file, so that its name is not taken for an address and no other file is read.

    Raises:
        ImageError: it is not a video that can be read.
    """
    av.logging.set_level(av.logging.ERROR)  # of the process for decoding; its messages tell damage
    head = file.read(_HEAD_BYTES)
    if not head.strip(b"\0"):
        raise ImageError(why_not_an_image(head + file.read(_ZEROS_AT_MOST)))
    file.seek(0)
    try:
        container = av.open(file, mode="r", metadata_errors="replace", io_open=_open_no_other)
    except (av.FFmpegError, OSError) as error:
        log: Any = getattr(error, "log", None)
        words = " ".join(str(log[2]).split()) if log else kind_in_words(head)
        if "moov atom" in words:
            words = "its index is missing: cut short, or still being written when the camera stopped"
        raise ImageError(f"not a readable video ({words[:100]})") from error
    if not container.streams.video:
        container.close()
        raise ImageError("not a readable video (no pictures in it)")
    context = _stream_of(container).codec_context
    check_size(context.width, context.height)
    return container


def _stream_of(container: InputContainer) -> VideoStream:
    """Return the stream with the most frames, else the one that players choose; others are covers and thumbnails."""
    best = container.streams.best("video")
    return max(container.streams.video, key=lambda one: (one.frames, one is best))


def _open_no_other(url: str, flags: int, options: dict[str, Any]) -> Any:
    raise OSError("a video may not name other files")


def _iter_packets(container: InputContainer, stream: VideoStream) -> Iterator[tuple["Packet[VideoStream]", bool]]:
    """Yield the packets of the stream, and whether the container is damaged before or within each."""
    packets, n_errors, broken = container.demux(stream), 0, False
    while n_errors < _DEMUX_ERRORS_AT_MOST:
        with Capture(local=False) as logs:
            try:
                packet = next(packets, None)
            except av.FFmpegError:
                packets, broken = container.demux(stream), True
                n_errors += 1
                continue
        if packet is None:
            return
        yield packet, broken or bool(logs) or packet.is_corrupt
        broken = False


def _has_hole(packet: "Packet[VideoStream]") -> bool:
    codec = packet.stream.codec_context.name
    return codec in _WITHOUT_ZEROS and _HOLE in bytes(packet).rstrip(b"\0")


def _to_picture(frame: VideoFrame, stream: VideoStream) -> Picture:
    """Return a frame in sRGB, with square pixels, upright."""
    picture: Any = frame.to_ndarray(format="rgb24", interpolation="BICUBIC")
    if profile := profile_of_cicp(int(frame.color_primaries), int(frame.color_trc)):
        picture = np.asarray(to_srgb(Image.fromarray(picture), profile), np.uint8)
    shape = stream.sample_aspect_ratio or stream.codec_context.sample_aspect_ratio
    if shape and shape != 1 and Fraction(1, 4) <= shape <= 4:
        height, width = picture.shape[:2]
        size = (round(width * shape), height) if shape > 1 else (width, round(height / shape))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
    return turn_upright(np.asarray(picture, np.uint8), _orientation(frame))


def _orientation(frame: VideoFrame) -> int:
    """Return EXIF's orientation for the frame's display matrix; a mirrored one is not a rotation."""
    facts: Mapping[Any, Any] = frame.side_data
    matrix = facts.get(SideDataType.DISPLAYMATRIX)
    if matrix is None:
        return UPRIGHT
    a, b, _, c, d = np.frombuffer(bytes(matrix), np.int32)[:5].tolist()
    return _ORIENTATIONS.get((_sign(a), _sign(b), _sign(c), _sign(d)), UPRIGHT)


def _sign(number: int) -> int:
    """Return the sign of a number of the matrix in 16.16 fixed point, 0 below a half."""
    return 0 if abs(number) < 1 << 15 else 1 if number > 0 else -1
