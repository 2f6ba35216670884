"""Run a detector before photographs are named: the package ``megadetector``, with weights that the user names."""

import contextlib
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import ImageFile

from linnaea.data.frames import is_video, number_of_frame, read_frame_rate
from linnaea.data.images import ImageError, Picture
from linnaea.errors import LinnaeaError
from linnaea.jobs import OnProgress, ignore_progress
from linnaea.predict.detection_files import read_detections
from linnaea.predict.detections import Detections
from linnaea.predict.inputs import Input, split_frame

LEAST_CONFIDENCE = 0.005
"""Detections below this confidence are not kept, as in MegaDetector's own runs."""

Detect = Callable[[Picture, str], list[dict[str, Any]]]
"""A function that returns the detections in a picture with a name, in MegaDetector's form."""


class _PublicDetector(Protocol):
    """The part of MegaDetector's detectors that is used here."""

    def generate_detections_one_image(
        self, img_original: Any, image_id: str, detection_threshold: float
    ) -> dict[str, Any]: ...


def load_detector(weights: Path, *, device: str = "auto") -> Detect:
    """Return the detector with these weights (``md_v5a.0.0.pt`` and every later MegaDetector).

    Loading weights in PyTorch's format runs code from the file; use weights from those who trained them.

    Raises:
        LinnaeaError: the package or the weights are missing, or the weights cannot be loaded.
    """
    if not weights.is_file():
        raise LinnaeaError(f"{weights}: no such file; --detector needs the weights of a MegaDetector (.pt)")
    with _contained():
        try:
            from megadetector.detection.run_detector import load_detector as load
        except ImportError as error:
            raise LinnaeaError(
                f"--detector needs MegaDetector's package: install linnaea with its extra detector ({error})"
            ) from error
        try:
            detector: _PublicDetector = load(str(weights), force_cpu=device == "cpu")
        except Exception as error:  # whatever is wrong in a file of weights
            why = " ".join(str(error).split())[:200]
            raise LinnaeaError(f"{weights}: MegaDetector cannot load these weights ({why})") from error

    def detect(picture: Picture, name: str) -> list[dict[str, Any]]:
        with _contained():
            try:
                found = detector.generate_detections_one_image(picture, name, detection_threshold=LEAST_CONFIDENCE)
            except KeyError as error:
                raise LinnaeaError(f"{weights}: has other classes than animal, person and vehicle ({error})") from error
        detections: list[dict[str, Any]] = found["detections"]
        return detections

    return detect


@contextlib.contextmanager
def _contained() -> Iterator[None]:
    """Send the package's output to standard error, and undo its changes to the whole process.

    Importing it lets Pillow fill the missing part of damaged pictures with grey, in the whole process.
    """
    before = ImageFile.LOAD_TRUNCATED_IMAGES
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    finally:
        ImageFile.LOAD_TRUNCATED_IMAGES = before


def detect_all(
    detect: Detect, inputs: Sequence[Input], weights: Path, *, on_progress: OnProgress = ignore_progress
) -> Detections:
    """Return what a detector finds in photographs and frames, as if its file had been read."""
    images: dict[str, dict[str, Any]] = {}
    wholes: dict[str, Input] = {}
    for done, one in enumerate(inputs, start=1):
        file = str(one.path) if one.path is not None and is_video(one.path) else one.name
        image = images.setdefault(file, {"file": file, "detections": []})
        wholes.setdefault(file, one)
        try:
            found = detect(np.ascontiguousarray(one.load(None)), one.name)
        except ImageError as error:
            image.setdefault("failure", str(error))
        else:
            _add(image, one, found)
        on_progress(done, len(inputs))
    for image in images.values():
        if image["detections"] or image.get("frames_processed"):
            image.pop("failure", None)  # of a video, some frames could be read
    info = {"detector": weights.name}
    content = {"info": info, "images": [*images.values()]}
    return _with_wholes(read_detections(content, None), wholes)


def _add(image: dict[str, Any], one: Input, found: Sequence[Mapping[str, Any]]) -> None:
    """Add the detections of an input to its photograph or video."""
    _, seconds = split_frame(one.name)
    if seconds is None:
        image["detections"] += [dict(each) for each in found]
        return
    rate = image.setdefault("frame_rate", read_frame_rate(Path(image["file"])))
    frame = number_of_frame(Path(image["file"]), seconds, rate)
    image.setdefault("frames_processed", []).append(frame)
    image["detections"] += [{**each, "frame_number": frame} for each in found]


def _with_wholes(detections: Detections, wholes: Mapping[str, Input]) -> Detections:
    """Return detections whose crops come from the inputs themselves: members of tars and addresses too."""
    return replace(detections, records=tuple(
        replace(record, path=wholes[record.file].path, whole=wholes[record.file]) for record in detections.records
    ))  # fmt: skip
