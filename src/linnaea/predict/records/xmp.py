"""Write the names of what was seen on photographs into their XMP, where photo managers find them as keywords.

``dc:subject`` gets the scientific and the common name, ``lr:hierarchicalSubject`` the lineage with ``|`` between the
ranks, as Lightroom and digiKam write it. Keywords that are there already stay. The photograph as it was is kept beside
it, as ``NAME_original``.
"""

import logging
import shutil
import subprocess
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from linnaea.data.frames import is_video
from linnaea.errors import LinnaeaError
from linnaea.predict.outputs.files import file_of
from linnaea.predict.outputs.rows import Row, by_photograph, finest_name
from linnaea.storage import explain_os_errors
from linnaea.taxonomy.ranks import RANK_LABELS, Rank

NEEDS = (
    "--write-xmp needs exiftool or pyexiv2, and neither is here: install exiftool (exiftool.org; Debian:"
    " libimage-exiftool-perl), or pip install pyexiv2"
)


_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Keywords:
    """What is written into one photograph."""

    subjects: tuple[str, ...]
    lineages: tuple[str, ...]


Writer = Callable[[Mapping[Path, Keywords]], None]


def find_writer() -> Writer:
    """Return the program or library that writes keywords on this machine.

    Raises:
        LinnaeaError: there is neither exiftool nor pyexiv2.
    """
    if shutil.which("exiftool"):
        return _write_with_exiftool
    if find_spec("pyexiv2") is not None:
        return _write_with_pyexiv2
    raise LinnaeaError(NEEDS)


def collect_keywords(rows: Iterable[Row]) -> dict[Path, Keywords]:
    """Return the keywords of each photograph on disk with a first answer; videos are left out."""
    subjects: dict[Path, dict[str, None]] = {}
    lineages: dict[Path, dict[str, None]] = {}
    for name, of_one in by_photograph(rows):
        first, file = of_one[0], file_of(name, of_one[0])
        if first["status"] != "ok" or is_video(file) or not Path(file).is_file():
            continue
        if len(file.splitlines()) > 1:  # to exiftool, which reads an option a line, the rest would be options
            _log.warning("%s: has a line break in its name; no keywords are written", file)
            continue
        words = [word for word in (finest_name(first), first["common_name"]) if word]
        lineage = [first[label] for label in RANK_LABELS[: Rank.SPECIES]] + [first["species"]]
        subjects.setdefault(Path(file), {}).update(dict.fromkeys(words))
        lineages.setdefault(Path(file), {})["|".join(part.replace("|", "/") for part in lineage if part)] = None
    return {path: Keywords(subjects=tuple(words), lineages=tuple(one for one in lineages[path] if one))
            for path, words in subjects.items()}  # fmt: skip


def _write_with_exiftool(keywords: Mapping[Path, Keywords]) -> None:
    """Run exiftool once for all photographs; it reads its arguments from standard input, one a line."""
    lines: list[str] = []
    for path, words in keywords.items():
        lines += ["-charset", "filename=UTF8"]
        for tag, values in (("XMP-dc:Subject", words.subjects), ("XMP-lr:HierarchicalSubject", words.lineages)):
            for value in values:
                one_line = " ".join(value.split())
                lines += [f"-{tag}-={one_line}", f"-{tag}+={one_line}"]  # taken away first, so that none is there twice
        lines += [str(path.absolute()), "-execute"]
    run = subprocess.run(["exiftool", "-@", "-"], input="\n".join(lines) + "\n", text=True, encoding="utf-8",
                         errors="surrogateescape", capture_output=True, check=False)  # fmt: skip
    if run.returncode:
        first = next((line for line in run.stderr.splitlines() if line.strip()), f"exit code {run.returncode}")
        raise LinnaeaError(f"exiftool could not write all keywords: {first}")


def _write_with_pyexiv2(keywords: Mapping[Path, Keywords]) -> None:
    import pyexiv2  # type: ignore[import-not-found]

    for path, words in keywords.items():
        kept = path.with_name(f"{path.name}_original")
        with explain_os_errors(path):
            if not kept.exists():
                shutil.copy2(path, kept)
            try:
                with pyexiv2.Image(str(path)) as image:
                    there = image.read_xmp()
                    image.modify_xmp({
                        key: list(dict.fromkeys([*_listed(there.get(key)), *values]))
                        for key, values in (("Xmp.dc.subject", words.subjects),
                                            ("Xmp.lr.hierarchicalSubject", words.lineages))
                    })  # fmt: skip
            except RuntimeError as error:
                raise LinnaeaError(f"{path}: its XMP cannot be written ({error})") from error


def _listed(value: object) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else [str(value)] if value else []
