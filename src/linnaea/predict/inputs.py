"""Find photographs by files, folders, patterns, tars, addresses and videos, or take them from memory.

An input is cheap until it is loaded. If it cannot be read, loading it raises an error with the reason; other inputs are
not affected.
"""

import glob
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from linnaea.data.images import ImageError, Picture, decode, decode_array, decode_image, read_image_file
from linnaea.data.shards import iter_members
from linnaea.data.sources import read_location
from linnaea.data.sources.folder import NOT_IMAGES, iter_files
from linnaea.errors import LinnaeaError
from linnaea.storage import read_json, resolve_inside

VIDEOS = {".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".mpeg"}
PICTURES_IN_TARS = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp", ".gif", ".avif"}

NO_ANIMAL = "no animal detected"
MAX_FETCH_BYTES = 100_000_000

Box = tuple[float, float, float, float]
"""Left, top, width and height, as shares of the picture's width and height, as in MegaDetector's files."""


class EmptyPictureError(ImageError):
    """A detector found no animal in the picture. Nothing went wrong, but there is nothing to name."""


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


Photograph: TypeAlias = str | Path | bytes | Image.Image | NDArray[Any] | Input
"""A file, folder, pattern, tar, video or address; the bytes of a file; an image; pixels ``[H, W, 3]`` or ``[H, W]``."""
Photographs: TypeAlias = Photograph | Iterable[Photograph]


def iter_inputs(photographs: Photographs, *, every_s: float = 1.0) -> Iterator[Input]:
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
                yield from list_inputs([str(photograph)], every_s=every_s)
            case bytes():
                yield bytes_input(str(number), photograph)
            case Image.Image():
                yield Input(name=str(number), load=partial(_load_image, photograph))
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
    is loaded. A video gives one frame every ``every_s`` seconds, named ``clip.mp4#t=3.0``. Pictures in a tar are named
    ``a.tar/name.jpg``.
    """
    found: dict[str, Input] = {}
    for word in words:
        inputs = (
            [_address(word)] if word.startswith(("http://", "https://")) else _of_paths(list_images([word]), every_s)
        )
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
    return Input(name=str(path), path=path, load=lambda enough: decode(read_image_file(path), min_short_side=enough))


def bytes_input(name: str, data: bytes) -> Input:
    """Return the input of a file's bytes in memory."""
    return Input(name=name, load=partial(_load_bytes, data))


def _load_bytes(data: bytes, enough: int | None) -> Picture:
    if not data:
        raise ImageError("file is empty")
    return decode(data, min_short_side=enough)


def find_input(name: str, box: Box | None = None) -> Input:
    """Return the input with this name, as :func:`list_inputs` gave it, cropped to ``box`` if there is one."""
    if name.startswith(("http://", "https://")):
        return _address(name)
    file, mark, part = name.rpartition("#")
    if mark and box is not None:
        return _crop(Path(file), int(part), box)
    if mark and part.startswith("t=") and Path(file).suffix.lower() in VIDEOS:
        return Input(name=name, path=Path(file), load=partial(_load_at, Path(file), float(part[2:])))
    archive, slash, member = name.partition(".tar/")
    if slash and Path(f"{archive}.tar").is_file():
        inputs = {one.name: one for one in _in_tar(Path(f"{archive}.tar"))}
        return inputs.get(name) or _failing(name, f"{archive}.tar has no {member}")
    return file_input(Path(name))


def _of_paths(paths: Sequence[Path], every_s: float) -> Iterator[Input]:
    for path in paths:
        match path.suffix.lower():
            case ".tar":
                yield from _in_tar(path)
            case ending if ending in VIDEOS:
                yield from _in_video(path, every_s)
            case _:
                yield file_input(path)


def _failing(name: str, reason: str, path: Path | None = None, error: type[ImageError] = ImageError) -> Input:
    def load(enough: int | None) -> Picture:
        raise error(reason)

    return Input(name=name, load=load, path=path)


def _in_tar(path: Path) -> Iterator[Input]:
    """Yield the pictures of a tar in its order; if the tar is broken, the last input says so."""
    try:
        if not path.exists():
            raise LinnaeaError("no such file")
        for member, offset, size in iter_members(path):
            if Path(member).suffix.lower() in PICTURES_IN_TARS:
                load = partial(_load_member, f"{path}::{offset}::{size}")
                yield Input(name=f"{path}/{member}", load=load)
    except (LinnaeaError, OSError) as error:
        yield _failing(str(path), str(error).removeprefix(f"{path}: "), path)


def _load_member(location: str, enough: int | None) -> Picture:
    return decode(read_location(location), min_short_side=enough)


def _address(url: str) -> Input:
    return Input(name=url, load=lambda enough: decode(_fetch(url), min_short_side=enough))


def _fetch(url: str) -> bytes:
    from linnaea.data.download.single import fetch_picture

    return fetch_picture(url, MAX_FETCH_BYTES)


def _in_video(path: Path, every_s: float) -> Iterator[Input]:
    """Yield a frame every ``every_s`` seconds; each frame is sought by its time when it is loaded."""
    video = cv2.VideoCapture(str(path))
    try:
        rate, n_frames = video.get(cv2.CAP_PROP_FPS), int(video.get(cv2.CAP_PROP_FRAME_COUNT))
        opened = video.isOpened()
    finally:
        video.release()
    if not opened or rate <= 0 or n_frames <= 0:
        yield _failing(str(path), "no such file" if not path.exists() else "not a readable video", path)
        return
    step = max(1, round(every_s * rate))
    for number in range(0, n_frames, step):
        name = f"{path}#t={number / rate:.1f}"
        yield Input(name=name, path=path, load=partial(_load_at, path, number / rate))


def _load_at(path: Path, seconds: float, enough: int | None) -> Picture:
    video = cv2.VideoCapture(str(path))
    try:
        video.set(cv2.CAP_PROP_POS_FRAMES, round(seconds * video.get(cv2.CAP_PROP_FPS)))
        good, frame = video.read()
    finally:
        video.release()
    if not good:
        raise ImageError(f"the frame at {seconds:.1f} s cannot be read")
    return np.ascontiguousarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB))


@dataclass(frozen=True, kw_only=True)
class Detections:
    """A file in MegaDetector's format (batch results, version 1.0 to 1.6)."""

    content: dict[str, Any]
    root: Path

    @classmethod
    def open(cls, path: Path, root: Path | None = None) -> "Detections":
        """Open a file; its names are relative to ``root``, by default the file's own folder.

        Raises:
            LinnaeaError: the file does not exist, or is not in MegaDetector's format.
        """
        try:
            content = read_json(path, kind="MegaDetector's results")
            if not isinstance(content.get("images"), list):
                raise LinnaeaError("it has no list of images")
        except LinnaeaError as error:
            raise LinnaeaError(f"{path}: not a MegaDetector file ({error}); give the JSON of a batch run") from error
        return cls(content=content, root=root or path.parent)

    def inputs(self, threshold: float) -> list[Input]:
        """Return the animals detected with at least ``threshold``, as crops.

        A picture that failed in the detector fails here too. A picture without animals raises
        :class:`EmptyPictureError` when it is loaded.
        """
        categories = self.content.get("detection_categories")
        categories = categories if isinstance(categories, dict) else {"1": "animal"}
        animals = {key for key, name in categories.items() if str(name).lower() == "animal"}
        found = []
        for number, image in enumerate(self.content["images"], start=1):
            name = image.get("file") if isinstance(image, dict) else None
            if not isinstance(name, str) or not name:
                found.append(_failing(f"{self.root}#image {number}", f"image {number} of the file has no name"))
                continue
            try:
                found += self._of_image(resolve_inside(self.root, name, follow_links=True), image, animals, threshold)
            except LinnaeaError as error:
                found.append(_failing(name, str(error)))
        return found

    def _of_image(self, path: Path, image: dict[str, Any], animals: set[str], threshold: float) -> list[Input]:
        if image.get("failure") or image.get("detections") is None:
            reason = f"no detections: {image.get('failure') or 'the file has none'}"
            return [_failing(str(path), reason, path)]
        if not isinstance(image["detections"], list):
            return [_failing(str(path), "its detections are not a list", path)]
        crops = []
        for number, detection in enumerate(image["detections"]):
            try:
                confidence = float(detection.get("conf") or 0)
                if str(detection.get("category")) in animals and confidence >= threshold:
                    crop = _crop(path, number, _read_box(detection["bbox"]))
                    crops.append(replace(crop, detection_confidence=confidence))
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
                crops.append(_failing(f"{path}#{number}", f"detection {number} is malformed", path))
        return crops or [_failing(str(path), NO_ANIMAL, path, EmptyPictureError)]


def _read_box(numbers: Sequence[Any]) -> Box:
    left, top, width, height = (float(number) for number in numbers)
    if not all(map(math.isfinite, (left, top, width, height))):
        raise ValueError("not a box")
    return left, top, width, height


def _crop(path: Path, number: int, box: Box) -> Input:
    return Input(name=f"{path}#{number}", path=path, box=box, detection=number, load=partial(_load_crop, path, box))


def _load_crop(path: Path, box: Box, enough: int | None) -> Picture:
    """Load the detected part in full resolution, since scaled decoding would leave too little of a small animal."""
    picture = decode(read_image_file(path))
    height, width = picture.shape[:2]
    left, top, wide, high = box
    x0, y0 = max(0, int(left * width)), max(0, int(top * height))
    x1, y1 = min(width, -int(-(left + wide) * width // 1)), min(height, -int(-(top + high) * height // 1))
    if x1 <= x0 or y1 <= y0:
        raise ImageError(f"detection {list(box)} lies outside the picture")
    return np.ascontiguousarray(picture[y0:y1, x0:x1])
