"""Frames carry their own time; damage fails frames and not the clip; what is shown is what a player shows."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest

from linnaea.data.frames import list_frames, name_frames, number_of_frame, read_frame_rate, time_of_frame
from linnaea.data.images import ImageError
from linnaea.data.videos import list_frames_here, read_frames_here
from linnaea.predict.inputs import find_input, list_inputs

SIZE = (160, 120)
N_FRAMES, RATE, PER_GROUP = 50, 25, 12


def shade(number: int, n_frames: int = N_FRAMES) -> int:
    return 20 + number * 200 // n_frames


def draw(number: int, n_frames: int) -> np.ndarray:
    """Red tells the time, green the left half, blue the upper half."""
    picture = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    picture[..., 0] = shade(number, n_frames)
    picture[:, : SIZE[0] // 2, 1] = picture[: SIZE[1] // 2, :, 2] = 200
    return picture


def film(
    path: Path, codec: str = "libx264", *, form: str | None = None, times_ms: Sequence[int] = (),
    n_frames: int = N_FRAMES, scene: Callable[[int, int], np.ndarray] = draw, **settings: Any,
) -> Path:  # fmt: skip
    """Write a clip; ``settings`` are the display matrix, the pixels' shape and the codec's colours."""
    with av.open(str(path), "w", format=form) as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        context = stream.codec_context
        context.gop_size, context.bit_rate = PER_GROUP, 4_000_000
        context.sample_aspect_ratio = settings.get("pixel_shape", Fraction(1))
        for name, value in settings.get("colours", {}).items():
            setattr(context, name, value)
        if "matrix" in settings:
            a, b, c, d = (value << 16 for value in settings["matrix"])
            stream.set_display_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30])
        if times_ms:
            context.time_base = Fraction(1, 1000)
        for number in range(len(times_ms) or n_frames):
            frame = av.VideoFrame.from_ndarray(scene(number, len(times_ms) or n_frames), format="rgb24")
            if times_ms:
                frame.pts, frame.time_base = times_ms[number], Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def times_of(path: Path, every_s: float) -> list[float]:
    return list_frames_here(str(path), every_s)["times"]


def read(path: Path, times: Sequence[float]) -> np.ndarray:
    frames, reasons = read_frames_here(str(path), times)
    assert not any(reasons)
    return frames


KINDS = {
    ".mp4": ("libx264", None), ".mov": ("mpeg4", None), ".m4v": ("mpeg4", None), ".avi": ("mpeg4", None),
    ".mkv": ("libx264", None), ".webm": ("libvpx", None), ".mpg": ("mpeg2video", None), ".mts": ("libx264", "mpegts"),
    ".m2ts": ("mpeg2video", "mpegts"), ".3gp": ("mpeg4", None), ".wmv": ("wmv2", "asf"), ".asf": ("wmv2", "asf"),
    ".lrv": ("libx264", "mp4"), ".flv": ("flv1", None),
}  # fmt: skip


@pytest.mark.parametrize("ending", KINDS)
def test_every_kind_of_video_gives_each_frame_its_time(ending: str, tmp_path: Path) -> None:
    codec, form = KINDS[ending]
    path = film(tmp_path / f"clip{ending}", codec, form=form)
    found = list_frames_here(str(path), 0.5)
    times = found["times"]
    assert times == pytest.approx([0, 0.52, 1, 1.52], abs=0.002)
    assert found["lost"] == [], "nothing is missing"
    reds = read(path, times)[..., 0].mean(axis=(1, 2))
    assert reds == pytest.approx([shade(round(time * RATE)) for time in times], abs=3)
    assert read_frame_rate(path) == pytest.approx(RATE, rel=0.01)


@pytest.mark.parametrize("every_s", [0.04, 0.01, 0.001])
def test_every_asked_for_frame_is_a_row_with_a_name_of_its_own(every_s: float, tmp_path: Path) -> None:
    path = film(tmp_path / "clip.mp4")
    inputs = list_inputs([str(path)], every_s=every_s)
    assert len({one.name for one in inputs}) == len(inputs) == N_FRAMES
    reds = [one.load(None)[..., 0].mean() for one in inputs]
    assert reds == pytest.approx([shade(number) for number in range(N_FRAMES)], abs=3)
    assert find_input(inputs[37].name).load(None)[..., 0].mean() == pytest.approx(reds[37])


def test_names_are_as_fine_as_they_must_be() -> None:
    assert name_frames(Path("a.mp4"), [0.0, 1.001, 2.5]) == ["a.mp4#t=0.0", "a.mp4#t=1.001", "a.mp4#t=2.5"]
    assert name_frames(Path("a.mp4"), [0.0, 0.0002]) == ["a.mp4#t=0.0", "a.mp4#t=0.0002"]


def test_a_variable_frame_rate_keeps_its_times(tmp_path: Path) -> None:
    stamps = [40 * number for number in range(10)] + [400 + 333 * number for number in range(20)]
    path = film(tmp_path / "clip.mp4", times_ms=stamps)
    times = times_of(path, 1)
    assert times[:3] == pytest.approx([0, 1.066, 2.065], abs=0.002)
    numbers = [int(np.abs(np.array(stamps) / 1000 - time).argmin()) for time in times]
    assert read(path, times)[..., 0].mean(axis=(1, 2)) == pytest.approx([shade(n, 30) for n in numbers], abs=4)


def test_the_number_of_a_frame_is_no_time(tmp_path: Path) -> None:
    """Detectors count frames; here the mean rate would give frame 19 for the number 12."""
    stamps = [40 * number for number in range(10)] + [400 + 333 * number for number in range(20)]
    path = film(tmp_path / "clip.mp4", times_ms=stamps)
    rate = read_frame_rate(path)
    for number in (0, 3, 12, 29):
        seconds = time_of_frame(path, number, rate)
        assert seconds == pytest.approx(stamps[number] / 1000, abs=0.002)
        assert read(path, [seconds])[..., 0].mean() == pytest.approx(shade(number, 30), abs=4)
        assert number_of_frame(path, seconds, rate) == number
    assert time_of_frame(tmp_path / "missing.mp4", 30, 10) == 3
    assert number_of_frame(tmp_path / "missing.mp4", 3, 10) == 30


MATRICES = {
    "upright": ((1, 0, 0, 1), lambda picture: picture),
    "mirrored": ((-1, 0, 0, 1), lambda picture: picture[:, ::-1]),
    "upside down": ((-1, 0, 0, -1), lambda picture: picture[::-1, ::-1]),
    "flipped": ((1, 0, 0, -1), lambda picture: picture[::-1]),
    "to the right": ((0, 1, -1, 0), lambda picture: np.rot90(picture, -1)),
    "to the left": ((0, -1, 1, 0), np.rot90),
    "transposed": ((0, 1, 1, 0), lambda picture: picture.transpose(1, 0, 2)),
}


@pytest.mark.parametrize("way", MATRICES)
def test_a_display_matrix_turns_or_mirrors(way: str, tmp_path: Path) -> None:
    matrix, turn = MATRICES[way]
    path = film(tmp_path / "clip.mp4", n_frames=2, matrix=matrix)
    (shown,) = read(path, [0.0])
    expected = turn(draw(0, 2))
    assert shown.shape == expected.shape
    assert np.abs(shown.astype(int) - expected).mean() < 5


def test_pixels_that_are_not_square_are_stretched(tmp_path: Path) -> None:
    path = film(tmp_path / "wide.mp4", n_frames=2, pixel_shape=Fraction(4, 3))
    assert read(path, [0.0]).shape[1:3] == (120, 213)
    path = film(tmp_path / "tall.mkv", n_frames=2, pixel_shape=Fraction(1, 2))
    assert read(path, [0.0]).shape[1:3] == (240, 160)


def test_colours_stated_by_code_points_go_to_srgb(tmp_path: Path) -> None:
    """BT.2020's primaries: the same numbers mean more vivid colours."""
    plain, wide = (
        read(film(tmp_path / f"{name}.mp4", n_frames=2, colours=colours), [0.0])[0]
        for name, colours in (("plain", {}), ("wide", {"color_primaries": 9, "color_trc": 1}))
    )
    left_below = plain[100, 20].astype(int), wide[100, 20].astype(int)
    assert left_below[1][1] > left_below[0][1] + 5, "greener"
    bright, hdr = plain.mean(), read(film(tmp_path / "hdr.mp4", n_frames=2, colours={"color_trc": 16}), [0.0]).mean()
    assert hdr > bright * 1.1


def busy(number: int, n_frames: int) -> np.ndarray:
    """A scene that moves, so that frames depend on one another."""
    texture = np.random.default_rng(0).integers(0, 255, (40, 80, 3), dtype=np.uint8)
    large = cv2.resize(texture, (640, 320), interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(large[number // 2 :, 3 * number :][: SIZE[1], : SIZE[0]])


LOSSES = {"zeros": bytes, "noise": lambda n: np.random.default_rng(1).bytes(n)}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("ending", [".mp4", ".mkv", ".avi", ".mpg", ".mts"])
def test_damage_in_the_middle_fails_frames_and_not_the_clip(ending: str, loss: str, tmp_path: Path) -> None:
    codec, form = KINDS[ending]
    path = film(tmp_path / f"clip{ending}", codec, form=form, scene=busy)
    times = times_of(path, 0.04)
    intact = read(path, times)
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(data[:middle] + LOSSES[loss](1500) + data[middle + 1500 :])
    found = list_frames_here(str(path), 0.04)
    frames, reasons = read_frames_here(str(path), found["times"])
    failed = [*(reason for reason in reasons if reason), *(reason for _, reason in found["lost"])]
    assert 1 <= len(failed) <= 2 * PER_GROUP
    assert all("damaged" in reason or "cannot be read" in reason for reason in failed)
    late = 0.4 if ending == ".avi" else 0.05  # an AVI counts its frames; those lost are missing in the count
    assert found["times"][-1] >= times[-1] - late, "the clip goes on"
    good = [time for time, reason in zip(found["times"], reasons, strict=True) if not reason]
    for time, frame in zip(good, frames, strict=True):
        near = [intact[at] for at in range(len(times)) if abs(times[at] - time) < late]
        assert min(np.abs(frame.astype(int) - one).mean() for one in near) < 4, f"wrong pixels at {time}"


@pytest.mark.parametrize("ending", [".avi", ".mkv"])
def test_a_clip_cut_short_says_so(ending: str, tmp_path: Path) -> None:
    path = film(tmp_path / f"clip{ending}", *KINDS[ending][:1], scene=busy)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    inputs = list_inputs([str(path)], every_s=0.5)
    assert len(inputs) >= 3
    for one in inputs[:2]:
        one.load(None)
    with pytest.raises(ImageError, match="cut short"):
        inputs[-1].load(None)


@pytest.mark.parametrize("byte", [b"\0", b"\xff"])
@pytest.mark.parametrize("ending", [".avi", ".mkv", ".flv", ".wmv"])
def test_an_end_of_equal_bytes_is_missed(ending: str, byte: bytes, tmp_path: Path) -> None:
    """As a card leaves it that lost its last blocks: the file is as long as it says, but its frames end earlier."""
    codec, form = KINDS[ending]
    path = film(tmp_path / f"clip{ending}", codec, form=form, scene=busy)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3].ljust(len(data), byte))
    found = list_frames_here(str(path), 0.5)
    assert len(found["times"]) + len(found["lost"]) == 4
    assert all("its frames end at" in reason and "of 2.0" in reason for _, reason in found["lost"])
    assert found["lost"]


def test_joined_clips_whose_clock_begins_again_say_so(tmp_path: Path) -> None:
    path = film(tmp_path / "clip.mpg", "mpeg2video")
    path.write_bytes(path.read_bytes() * 2)
    found = list_frames_here(str(path), 0.5)
    ((_, reason),) = found["lost"]
    assert f"{N_FRAMES} frames are not seen" in reason


@pytest.mark.parametrize("ending", [".mkv", ".mp4"])
def test_a_picture_in_front_of_the_video_is_not_the_video(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"covered{ending}"
    with av.open(str(path), "w") as container:
        streams = [container.add_stream(codec, rate=rate) for codec, rate in (("mjpeg", 1), ("libx264", RATE))]
        for stream, form in zip(streams, ("yuvj420p", "yuv420p"), strict=True):
            stream.width, stream.height, stream.pix_fmt = *SIZE, form
        for stream, n_frames in zip(streams, (1, N_FRAMES), strict=True):
            for number in range(n_frames):
                frame = av.VideoFrame.from_ndarray(draw(number, N_FRAMES), format="rgb24")
                frame.pts = number
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    assert len(times_of(path, 0.5)) == 4


def test_a_clip_without_its_index_says_so(tmp_path: Path) -> None:
    path = film(tmp_path / "clip.mp4")
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ImageError, match=r"not a readable video.*cut short"):
        list_frames(path, 1)


def test_frames_that_an_edit_list_hides_are_not_seen(tmp_path: Path) -> None:
    """A clip trimmed without encoding it again starts and ends between key frames."""
    path = film(tmp_path / "clip.mov", "mpeg4")
    data = path.read_bytes()
    at = data.index(b"elst")
    duration, start = 1000, 10_240  # a second of the film's clock; 0.8 s of the stream's (12,800 a second)
    entry = duration.to_bytes(4, "big") + start.to_bytes(4, "big")
    path.write_bytes(data[: at + 12] + entry + data[at + 20 :])
    times = times_of(path, 0.2)
    assert times == pytest.approx([0, 0.2, 0.4, 0.6, 0.8], abs=0.05)
    reds = read(path, times)[..., 0].mean(axis=(1, 2))
    assert reds == pytest.approx([shade(20 + round(time * RATE)) for time in times], abs=6)


def test_what_is_no_video_has_a_reason(tmp_path: Path) -> None:
    (tmp_path / "words.mp4").write_text("no video")
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "zeros.avi").write_bytes(bytes(9000))
    (tmp_path / "list.mts").write_text("#EXTM3U\n#EXTINF:1,\nhttp://127.0.0.1:1/a.ts\n")
    film(tmp_path / "raw.h264", form="h264", n_frames=3)
    reasons = {
        "words.mp4": r"not a readable video \(text file\)", "list.mts": "not a readable video",
        "missing.mp4": "no such file", "empty.mp4": "^file is empty", "zeros.avi": r"only zero bytes \(9,000\)",
        "raw.h264": "copy it into an MP4",
    }  # fmt: skip
    for name, reason in reasons.items():
        with pytest.raises(ImageError, match=reason):
            list_frames(tmp_path / name, 1)
