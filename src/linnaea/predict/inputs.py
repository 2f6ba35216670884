"""Find photographs by files, folders, patterns, tars, addresses and videos, or take them from memory.

An input is cheap until it is loaded. If it cannot be read, loading it raises an error with the reason; other inputs are
not affected.
"""

import glob
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from jaxtyping import Num
from numpy import ndarray
from numpy.typing import NDArray
from PIL import Image

from linnaea.data.exif import Taken, read_taken
from linnaea.data.file_kinds import NOT_IMAGES, is_picture_member
from linnaea.data.frames import Frames, is_video, list_frames, name_frames
from linnaea.data.images import (
    ImageError,
    Picture,
    check_not_empty,
    decode,
    decode_array,
    decode_image,
    read_image_file,
)
from linnaea.data.shards import iter_members
from linnaea.data.sources import read_location
from linnaea.data.sources.folder import iter_files
from linnaea.errors import LinnaeaError
from linnaea.storage import stamp_file

NO_ANIMAL = "no animal detected"
ONE_COLOUR = "no organism recognised: all that the model sees is of one colour"
MOST_OF_ONE_COLOUR = 8
"""The range of a channel, of 255, up to which a picture is of one colour. A JPEG of one colour varies by 2."""
MAX_FETCH_BYTES = 100_000_000

Box = tuple[float, float, float, float]
"""Left, top, width and height, as shares of the picture's width and height, as in MegaDetector's files."""


class EmptyPictureError(ImageError):
    """Nothing in the picture can be named: a detector found no animal, or all is of one colour. Nothing went wrong."""


def check_not_one_colour(pixels: Num[ndarray, "3 S S"]) -> None:
    """Raise EmptyPictureError if the pixels that a model sees, from 0 to 255, are of one colour.

    A covered lens, an overexposed frame and the fade at the start of a clip are. No model is needed to see that, and a
    model may be sure of a taxon there.
    """
    channels = pixels.reshape(len(pixels), -1)
    if float((channels.max(axis=1).astype(np.float32) - channels.min(axis=1)).max()) <= MOST_OF_ONE_COLOUR:
        raise EmptyPictureError(ONE_COLOUR)


@dataclass(frozen=True, kw_only=True)
class Input:
    """A picture to be answered."""

    name: str
    """The ``file_name`` in its rows; unique among the inputs of one command."""
    load: Callable[[int | None], Picture] = field(compare=False, repr=False)
    """Decode the picture; the argument is the smallest short side that is enough. Raises :class:`ImageError`."""
    path: Path | None = None
    """The file on disk that it comes from, if there is one."""
    box: Box | None = None
    """The part of the picture to use."""
    detection: int = -1
    """The number of the detection in its picture, if the input is a detection."""
    detection_confidence: float | None = None
    """The detector's confidence that there is an animal."""
    category: str = ""
    """The detector's word for the content of the box: ``animal``, ``person``, ``fish``."""
    place: tuple[float, float] | None = None
    """Latitude and longitude in degrees, if the list of photographs states them."""
    read_taken: Callable[[], Taken] | None = field(default=None, compare=False, repr=False)
    """Return where and when the picture says that it was taken, if it is not a file on disk."""
    event: str = ""
    """The event that it belongs to, if the photographs of an event are to agree."""
    fails: str = ""
    """The reason why it cannot be loaded, if that is known beforehand."""
    notes: list[str] = field(default_factory=list, compare=False, repr=False)
    """What loading it has found unusual about the file, such as a raw photograph read by its preview."""

    @property
    def taken(self) -> Taken:
        """Return where and when the picture says that it was taken."""
        if self.read_taken is not None:
            return self.read_taken()
        return read_taken(self.path) if self.path else Taken()


Photograph: TypeAlias = str | Path | bytes | Image.Image | NDArray[Any] | Input
"""A file, folder, pattern, tar, video or address; the bytes of a file; an image; pixels ``[H, W, 3]`` or ``[H, W]``."""
Photographs: TypeAlias = Photograph | Iterable[Photograph]


def iter_inputs(photographs: Photographs) -> Iterator[Input]:
    """Yield an input for each picture of ``photographs``, in order; a generator is read only as needed.

    A picture in memory is named by its number among the given photographs, from 0. Others are found as in
    :func:`list_inputs`, except that a photograph that is given twice appears twice.
    """
    one = isinstance(photographs, str | Path | bytes | Image.Image | np.ndarray | Input)
    for number, photograph in enumerate([photographs] if one else photographs):  # type: ignore[arg-type]
        match photograph:
            case Input():
                yield photograph
            case str() | Path():
                yield from list_inputs([str(photograph)])
            case bytes():
                yield bytes_input(str(number), photograph)
            case Image.Image():
                said = partial(read_taken, photograph)
                yield Input(name=str(number), load=partial(_load_image, photograph), read_taken=said)
            case np.ndarray():
                yield Input(name=str(number), load=partial(_load_array, photograph))
            case _:
                raise TypeError(
                    f"photograph {number} is a {type(photograph).__name__}; give a path, bytes, an image or an array"
                )


def _load_image(image: Image.Image, enough: int | None) -> Picture:
    return decode_image(image)


def _load_array(array: NDArray[Any], enough: int | None) -> Picture:
    return decode_array(array)


def list_inputs(words: Sequence[str], *, every_s: float = 1.0) -> list[Input]:
    """Return the pictures in files, folders (recursively), patterns, tars, http(s) addresses and videos, each once.

    The order is as given. A file that does not exist, or a pattern without a match, stays in the list and fails when it
    is loaded. A video gives one frame every ``every_s`` seconds, named by its own time: ``clip.mp4#t=3.0``. Pictures in
    a tar are named ``a.tar/name.jpg``, and ``a.tar/name.jpg#2`` where a name occurs twice.
    """
    found: dict[str, Input] = {}
    for word in words:
        inputs = [_address(word)] if is_address(word) else _of_paths(list_images([word]), every_s)
        for one in inputs:
            found.setdefault(one.name, one)
    return list(found.values())


def list_images(inputs: Sequence[str]) -> list[Path]:
    """Return the files of paths, folders and patterns, in the order given, each once; see :func:`list_inputs`."""
    found: dict[Path, None] = {}
    for word in inputs:
        path = Path(word)
        if path.is_dir():
            images = [file for file in iter_files(path) if file.suffix.lower() not in NOT_IMAGES]
        elif not path.exists() and any(letter in word for letter in "*?["):
            matches = [Path(match) for match in sorted(glob.glob(word, recursive=True))]  # noqa: PTH207
            images = [match for match in matches if match.is_file()] or [path]
        else:
            images = [path]
        found.update(dict.fromkeys(images))
    return list(found)


def file_input(path: Path) -> Input:
    """Return the input of a file that holds one picture."""
    return _decoded_input(str(path), lambda: read_image_file(path), path)


def bytes_input(name: str, data: bytes) -> Input:
    """Return the input of a file's bytes in memory."""
    return replace(_decoded_input(name, lambda: check_not_empty(data)), read_taken=partial(read_taken, data))


def _decoded_input(name: str, read: Callable[[], bytes], path: Path | None = None) -> Input:
    """Return the input of a file whose bytes ``read`` returns."""
    notes: list[str] = []

    def load(enough: int | None) -> Picture:
        notes.clear()
        return decode(read(), min_short_side=enough, on_note=notes.append)

    return Input(name=name, path=path, load=load, notes=notes)


def count_photographs(inputs: Iterable[Input]) -> int:
    """Return how many photographs and frames the inputs are, or are parts of."""
    return len({one.name.rpartition("#")[0] if one.detection >= 0 else one.name for one in inputs})


def find_input(name: str, box: Box | None = None) -> Input:
    """Return the input with this name, as :func:`list_inputs` gave it, cropped to ``box`` if there is one."""
    if is_address(name):
        return _address(name)
    file, mark, part = name.rpartition("#")
    if mark and box is not None:
        return crop_input(find_input(file), int(part), box)
    if mark and part.startswith("t=") and is_video(file):
        return frame_input(Path(file), float(part[2:]))
    archive, member = split_member(name)
    if member:
        inputs = {one.name: one for one in _in_tar(archive)}
        return inputs.get(name) or failing_input(name, f"{archive} has no {member}")
    return file_input(Path(name))


def frame_input(path: Path, seconds: float) -> Input:
    """Return the input of the frame of a video at ``seconds``, named ``clip.mp4#t=seconds``."""
    return Input(name=name_frames(path, [seconds])[0], path=path, load=partial(Frames(path, [seconds]).load, 0))


def _of_paths(paths: Sequence[Path], every_s: float) -> Iterator[Input]:
    for path in paths:
        match path.suffix.lower():
            case ".tar":
                yield from _in_tar(path)
            case _ if is_video(path):
                yield from _in_video(path, every_s)
            case _:
                yield file_input(path)


def failing_input(name: str, reason: str, path: Path | None = None, error: type[ImageError] = ImageError) -> Input:
    """Return an input that cannot be loaded, for this reason."""

    def load(enough: int | None) -> Picture:
        raise error(reason)

    return Input(name=name, load=load, path=path, fails=reason)


def _in_tar(path: Path) -> Iterator[Input]:
    """Yield the pictures of a tar in its order; if the tar is broken, the last input says so."""
    try:
        if not path.exists():
            raise LinnaeaError("no such file")
        n_named: Counter[str] = Counter()
        for member, offset, size in iter_members(path):
            if is_video(member) and not member.rpartition("/")[2].startswith("."):
                yield failing_input(f"{path}/{member}", "a video in an archive is not read; unpack it", path)
            if not is_picture_member(member, read_location(f"{path}::{offset}::{min(size, 512)}")):
                continue
            n_named[member] += 1
            again = f"#{n_named[member]}" if n_named[member] > 1 else ""
            read = partial(read_location, f"{path}::{offset}::{size}")
            one = _decoded_input(f"{path}/{member}{again}", read)
            yield replace(one, read_taken=partial(_read_taken, read))
    except (LinnaeaError, OSError) as error:
        yield failing_input(str(path), str(error).removeprefix(f"{path}: "), path)


def _read_taken(read: Callable[[], bytes]) -> Taken:
    try:
        return read_taken(read())
    except (OSError, LinnaeaError):
        return Taken()


def _address(url: str) -> Input:
    """Return the input of an address; its picture's place and time are kept when it is fetched."""
    said: list[Taken] = []

    def read() -> bytes:
        data = _fetch(url)
        said[:] = [read_taken(data)]
        return data

    return replace(_decoded_input(url, read), read_taken=lambda: said[0] if said else Taken())


def _fetch(url: str) -> bytes:
    from linnaea.data.download.single import fetch_picture

    return fetch_picture(url, MAX_FETCH_BYTES)


def _in_video(path: Path, every_s: float) -> Iterator[Input]:
    """Yield a frame every ``every_s`` seconds; parts of the video that are lost are inputs that fail."""
    try:
        listed = list_frames(path, every_s)
    except ImageError as error:
        yield failing_input(str(path), str(error), path)
        return
    frames = Frames(path, [time for time, why in listed if not why])
    numbers = itertools.count()
    for name, (_, why) in zip(name_frames(path, [time for time, _ in listed]), listed, strict=True):
        if why:
            yield failing_input(name, why, path)
        else:
            yield Input(name=name, path=path, load=partial(frames.load, next(numbers)))


def crop_input(whole: Input, number: int, box: Box) -> Input:
    """Return the input of a detected part of a photograph or frame, named ``photo.jpg#number``."""
    return replace(
        whole, name=f"{whole.name}#{number}", box=box, detection=number, load=partial(_load_crop, whole, box)
    )


def _load_crop(whole: Input, box: Box, enough: int | None) -> Picture:
    """Load the detected part in full resolution, since scaled decoding would leave too little of a small animal."""
    picture = whole.load(None)
    height, width = picture.shape[:2]
    left, top, wide, high = box
    x0, y0 = max(0, int(left * width)), max(0, int(top * height))
    x1, y1 = min(width, -int(-(left + wide) * width // 1)), min(height, -int(-(top + high) * height // 1))
    if x1 <= x0 or y1 <= y0:
        raise ImageError(f"detection {list(box)} lies outside the picture")
    return np.ascontiguousarray(picture[y0:y1, x0:x1])


def is_address(name: str) -> bool:
    """Return whether a photograph is not a file, but lies on the web."""
    return name.startswith(("http://", "https://"))


def split_member(name: str) -> tuple[Path, str]:
    """Return the tar and the member of ``a.tar/name.jpg``; of another name, the name and ``""``.

    A folder may be called ``a.tar`` as well.
    """
    ends = [found.end() - 1 for found in re.finditer(r"\.tar/", name, re.IGNORECASE)]
    end = next((end for end in ends if Path(name[:end]).is_file()), None)
    return (Path(name), "") if end is None else (Path(name[:end]), name[end + 1 :])


def file_on_disk(name: str) -> Path:
    """Return the file that an input is in: a photograph, the video of a frame, or the tar of a member."""
    archive, member = split_member(name)
    return archive if member else Path(split_frame(name)[0])


def count_shared_folders(parts: Sequence[tuple[str, ...]]) -> int:
    """Return how many leading folders all of the paths share."""
    folders = [one[:-1] for one in parts]
    n_shared = 0
    if folders:
        first, last = min(folders), max(folders)
        while n_shared < min(len(first), len(last)) and first[n_shared] == last[n_shared]:
            n_shared += 1
    return n_shared


def stamp_of(one: Input) -> list[int]:
    """Return the size and time of the file that an input is in; nothing if it is in none."""
    return stamp_file(one.path or file_on_disk(one.name))


def split_frame(name: str) -> tuple[str, float | None]:
    """Return the video of a frame ``clip.mp4#t=3.0`` and the frame's time; of another name, the name and ``None``."""
    video, mark, seconds = name.rpartition("#t=")
    try:
        return (video, float(seconds)) if mark and is_video(video) else (name, None)
    except ValueError:
        return name, None
