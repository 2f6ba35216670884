"""Read the files of detectors: MegaDetector's, SpeciesNet's, and those of other detectors in their formats.

Sources: MegaDetector's output format (lila.science/megadetector-output-format, versions 1.0 to 1.6); SpeciesNet's
``predictions`` before and since format 20261015, and its ``instances`` (README of google/cameratrapai).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import isfinite
from pathlib import Path, PurePosixPath
from typing import Any

from linnaea.errors import LinnaeaError, UsageError
from linnaea.predict.detections import (
    MEGADETECTOR_CATEGORIES,
    NOT_LISTED,
    WHOLE_IMAGE,
    Detection,
    Detections,
    Form,
    Kind,
    Record,
    Unusable,
    kind_of,
)
from linnaea.predict.inputs import Box, count_shared_folders, list_images
from linnaea.storage import find_spelled, is_inside, read_json

_FORMS: tuple[tuple[Form, str, str], ...] = (
    ("instances", "instances", "filepath"),
    ("speciesnet", "predictions", "filepath"),
    ("megadetector", "images", "file"),
)
"""Each format with the name of its list, and of the file in an item of it."""

_OURS = ("detections", "failure", "failures")
"""What a record holds by itself; the rest of an item is kept as facts."""

_ROUNDING = 1e-3
"""The largest error of rounding by which a confidence may be below 0 or above 1."""
LEAST_SIDE = 1e-6
"""The least side of a box, as a share of the picture's."""


def open_detections(path: Path, root: Path | None = None, animal_categories: Sequence[str] = ()) -> Detections:
    """Read a file of detections; its names are relative to ``root``, by default the file's own folder.

    A file of ``root`` that it does not mention is a record that is not ``listed``, so that no photograph is lost.

    Args:
        path: a file of MegaDetector (or of a detector that writes its format), or SpeciesNet's ``predictions`` or
            ``instances``.
        root: the folder of the photographs.
        animal_categories: names or numbers of the categories that are to be named; by default all except people,
            vehicles and empty pictures.

    Raises:
        LinnaeaError: the file does not exist, has none of these formats, or names no photograph in the folder.
        UsageError: a category is not in the file.
    """
    folder = path.parent if root is None else root
    try:
        content = read_json(path, kind="a detector's results")
        detections = read_detections(content, folder, animal_categories)
    except UsageError:
        raise
    except LinnaeaError as error:
        raise LinnaeaError(f"{path}: not a MegaDetector file ({error}); give the JSON of a batch run") from error
    return detections if detections.form == "instances" else _add_unlisted(detections, path, folder)


def _add_unlisted(detections: Detections, source: Path, folder: Path) -> Detections:
    """Return the records with one for each file of the folder that the detector's file does not mention."""
    files = list_images([str(folder)]) if folder.is_dir() else []
    named = [record for record in detections.records if record.path is not None]
    known = {record.path for record in named}
    unlisted = [file for file in files if file not in known]
    if named and files and len(unlisted) == len(files) and not any(path.exists() for path in known if path):
        what, where = "none of its files is in", "give the folder that its names start in"
        raise LinnaeaError(f"{source}: {what} {folder}; {where} ({named[0].file})")
    added = (Record(file=file.relative_to(folder).as_posix(), path=file, listed=False) for file in unlisted)
    return replace(detections, records=(*detections.records, *added), n_files=len(files))


def read_detections(content: Mapping[str, Any], root: Path | None, animal_categories: Sequence[str] = ()) -> Detections:
    """Return the records of a file's content; see :func:`open_detections`.

    An image without a name, or with a name that leads outside of ``root``, is a record with a failure. Without ``root``
    the content was made here, and its names are paths as they are.
    """
    form, part, key = next((one for one in _FORMS if one[1] in content), _FORMS[-1])
    listed = content.get(part)
    if not isinstance(listed, list):
        raise LinnaeaError(f"it has no list of {part}")
    if isinstance(content.get("annotations"), list):
        raise LinnaeaError("it holds COCO annotations")
    items = _read_items(listed, key)
    categories = _read_categories(content.get("detection_categories"), [*items.values()])
    found = _find_listed([*items], root) if root is None or form == "instances" else _find_files([*items], root)
    items, paths = _join_spellings(items, found)
    reader = _Reader(categories=categories, kinds=_kinds_of(categories, animal_categories), key=key)
    info, known = content.get("info"), {"info", "detection_categories", part}
    return Detections(
        form=form,
        records=tuple(reader.read(name, item, path) for (name, item), path in zip(items.items(), paths, strict=True)),
        categories=dict(categories.values()),
        info=info if isinstance(info, dict) else {},
        others={name: value for name, value in content.items() if name not in known},
    )


def is_instances(path: Path) -> bool:
    """Tell whether a file is SpeciesNet's list of photographs."""
    if path.suffix.lower() != ".json":
        return False
    try:
        return isinstance(read_json(path, kind="a list of photographs").get("instances"), list)
    except LinnaeaError:
        return False


def _kinds_of(categories: Mapping[str, tuple[str, str]], animal_categories: Sequence[str]) -> dict[str, Kind]:
    if not animal_categories:
        return {number: kind_of(word) for number, word in categories.values()}
    asked = {one.strip().lower() for one in animal_categories}
    named = {number for number, word in categories.values() if {number, word.strip().lower()} & asked}
    known = {text for number, word in categories.values() for text in (number, word.strip().lower())}
    if asked - known:
        raise UsageError(
            f"--animal-categories {sorted(asked - known)[0]}: the file has the categories "
            f"{', '.join(word for _, word in categories.values())}"
        )
    kinds = {}
    for number, word in categories.values():
        kind = kind_of(word)
        kinds[number] = Kind.ANIMAL if number in named else Kind.OTHER if kind is Kind.ANIMAL else kind
    return kinds


def _read_categories(stated: Any, items: Sequence[dict[str, Any]]) -> dict[str, tuple[str, str]]:
    """Return number and name of each category under the key that the file uses for it.

    A file without categories has MegaDetector's, and those that SpeciesNet writes beside each detection.
    """
    found = dict(stated) if isinstance(stated, dict) and stated else {}
    if not found:
        found = dict(MEGADETECTOR_CATEGORIES)
        listed = [one for item in items for one in item.get("detections") or []]
        labels = {
            str(one.get("category")): one["label"] for one in listed if isinstance(one, dict) and one.get("label")
        }
        found |= labels
    free = max([int(key) for key in map(str, found) if key.isdecimal()] or [0])
    categories = {}
    for key, word in found.items():
        number = str(key).strip()
        if not number.isdecimal():
            free += 1
            number = str(free)
        name = str(word or "").strip() or MEGADETECTOR_CATEGORIES.get(number, f"category {number}")
        categories[str(key)] = (number, name)
    return categories


def _read_items(listed: Sequence[Any], key: str) -> dict[str, dict[str, Any]]:
    """Return each file's item under its name; the detections of a file that is listed again are added to its first.

    An item without a name, or whose detections are not a list, becomes an item with a failure.
    """
    found: dict[str, dict[str, Any]] = {}
    for number, item in enumerate(listed, start=1):
        name = item.get(key) if isinstance(item, dict) else None
        if not isinstance(item, dict) or not isinstance(name, str) or not name:
            found[f"image {number}"] = {"failure": f"image {number} of the file has no name"}
            continue
        if not isinstance(item.get("detections"), list | None):
            item = {key: name, "failure": "its detections are not a list"}  # noqa: PLW2901
        found[name] = _join(found[name], item) if name in found else item
    return found


def _join(first: dict[str, Any], again: dict[str, Any]) -> dict[str, Any]:
    """Return the item of a file that is listed again, with the detections of both."""
    if not again.get("detections") or first.get("detections") == again["detections"]:
        return first
    return first | {"detections": [*(first.get("detections") or []), *again["detections"]]}


def _join_spellings(
    items: Mapping[str, dict[str, Any]], paths: Sequence[Path | None]
) -> tuple[dict[str, dict[str, Any]], list[Path | None]]:
    """Return the items with one for each path, under the name that comes first: ``a\\b.jpg`` may be ``a/b.jpg``."""
    name_of: dict[Path, str] = {}
    joined: dict[str, dict[str, Any]] = {}
    kept: list[Path | None] = []
    for (name, item), path in zip(items.items(), paths, strict=True):
        first = name if path is None else name_of.setdefault(path, name)
        if first != name:
            joined[first] = _join(joined[first], item)
            continue
        joined[name] = item
        kept.append(path)
    return joined, kept


def _find_listed(names: Sequence[str], folder: Path | None) -> list[Path | None]:
    """Return the paths of a list of photographs: below the folder that the command runs in, or below the list's own."""
    return [Path(name) if folder is None or Path(name).exists() else folder / name for name in names]


def _find_files(names: Sequence[str], root: Path) -> list[Path | None]:
    """Return where files lie below ``root``, or ``None`` for names that lead outside of it.

    Backslashes separate folders as slashes do. Where none of the files is there, leading folders that all of them share
    are left out, as many as it takes.
    """
    parts = [PurePosixPath(name.replace("\\", "/")).parts for name in names]
    for n_left_out in range(count_shared_folders(parts) + 1):
        paths = [_find_below(root, name, one[n_left_out:]) for name, one in zip(names, parts, strict=True)]
        if any(path is not None and path.exists() for path in paths):
            return paths
    return [_find_below(root, name, one) for name, one in zip(names, parts, strict=True)]


def _find_below(root: Path, name: str, parts: Sequence[str]) -> Path | None:
    """Return the file with this very name, else the one in these folders; ``None`` if that is outside of ``root``."""
    if is_inside(root, name, follow_links=True) and (root / name).exists():
        return root / name
    way = "/".join(parts)
    return find_spelled(root, way) if is_inside(root, way, follow_links=True) else None


@dataclass(frozen=True, kw_only=True)
class _Reader:
    """Reads the records of one file."""

    categories: Mapping[str, tuple[str, str]]
    kinds: Mapping[str, Kind]
    key: str

    def read(self, file: str, item: dict[str, Any], path: Path | None) -> Record:
        facts = {name: value for name, value in item.items() if name not in (self.key, *_OURS)}
        if self.key not in item or path is None:
            why = f"{file[:200]!r} is not a path inside the folder" if self.key in item else item["failure"]
            return Record(file=file, path=None, failure=why, facts=facts)
        record = Record(file=file, path=path, facts=facts)
        listed, failures = item.get("detections"), item.get("failures")
        failures = failures if isinstance(failures, list) else []
        if NOT_LISTED in (item.get("failure"), item.get("reason")):  # a file that Linnaea wrote
            return replace(record, listed=False)
        if item.get("failure") or (failures and (not listed or "DETECTOR" in failures)):
            why = str(item.get("failure") or ", ".join(map(str, failures)))
            return replace(record, failure=why, facts=facts | ({"failures": failures} if failures else {}))
        if self.key == "filepath" and (listed is None or (listed and all(map(_is_whole, listed)))):
            return replace(record, detections=() if _is_blank(item) else None)
        if listed is None:
            return replace(record, failure="the file has none")
        found = [self._detection(number, one) for number, one in enumerate(listed) if not _is_whole(one)]
        return replace(
            record,
            detections=tuple(one for one in found if isinstance(one, Detection)),
            unusable=tuple(one for one in found if isinstance(one, Unusable)),
        )

    def _detection(self, number: int, stated: Any) -> Detection | Unusable | None:
        """Return a detection, one without an area or sense, or ``None`` if its category is not listed."""
        if not isinstance(stated, dict) or stated.get("category") is None:
            return Unusable(why=f"no detection can be used: number {number} has no category")
        known = self.categories.get(str(stated["category"]))
        if known is None:
            return None  # "should be treated as no detection"
        confidence, kind = _read_confidence(stated.get("conf")), self.kinds[known[0]]
        if confidence is None:
            return Unusable(why=f"no detection can be used: confidence {str(stated.get('conf'))[:40]}, not 0 to 1")
        box = read_box(stated.get("bbox"))
        if box is None and kind is Kind.NOTHING:
            return None  # what is empty needs no box
        if box is None:
            why = f"no detection has a box with an area inside it: {str(stated.get('bbox'))[:60]} (picture: 0 to 1)"
            return Unusable(why=why, confidence=confidence)
        facts = stated if isinstance(stated["conf"], int | float) else stated | {"conf": confidence}
        return Detection(
            number=number, category=known[0], word=known[1], kind=kind, box=box, confidence=confidence,
            frame=_read_count(stated.get("frame_number")), facts=facts,
        )  # fmt: skip


def _read_confidence(stated: Any) -> float | None:
    """Return a confidence between 0 and 1, ``None`` for anything else."""
    try:
        confidence = float(stated)
    except (TypeError, ValueError):
        return None
    return min(max(confidence, 0), 1) if -_ROUNDING <= confidence <= 1 + _ROUNDING else None


def _read_count(number: Any) -> int | None:
    return int(number) if isinstance(number, int | float) and isfinite(number) and number >= 0 else None


def _is_whole(detection: Any) -> bool:
    return isinstance(detection, dict) and detection.get("label") == WHOLE_IMAGE


def _is_blank(item: dict[str, Any]) -> bool:
    """Tell whether SpeciesNet, which saw the photograph as a whole, says that it is empty."""
    processed = [one.get("processed_classification") for one in item.get("detections") or []]
    classes = [item.get("prediction"), *(one.get("class") for one in processed if isinstance(one, dict))]
    return any(str(one).endswith(";blank") for one in classes)


def read_box(stated: Any) -> Box | None:
    """Return left, top, width and height clipped to the picture, or ``None`` if nothing of the box is inside it."""
    if not isinstance(stated, list | tuple) or len(stated) != 4:
        return None
    try:
        left, top, width, height = (float(number) for number in stated)
    except (TypeError, ValueError):
        return None
    if not all(map(isfinite, (left, top, width, height))):
        return None
    x0, y0, x1, y1 = max(0.0, left), max(0.0, top), min(1.0, left + width), min(1.0, top + height)
    if not x1 - x0 > LEAST_SIDE or not y1 - y0 > LEAST_SIDE:
        return None
    inside = left >= 0 and top >= 0 and left + width <= 1 and top + height <= 1
    return (left, top, width, height) if inside else (x0, y0, round(x1 - x0, 6), round(y1 - y0, 6))
