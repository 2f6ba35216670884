"""Sort photographs into folders by what was seen on them, as links or copies."""

import filecmp
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, TypeAlias

from linnaea.errors import LinnaeaError
from linnaea.predict.outputs.camtrapdp import iter_observations
from linnaea.predict.outputs.files import Context
from linnaea.predict.outputs.rows import Row
from linnaea.predict.records.media import read_media
from linnaea.storage import explain_os_errors

How: TypeAlias = Literal["link", "copy"]
_NAME_BYTES = 200
"""A folder's name may have 255 bytes."""


def sort_photographs(rows: Iterable[Row], folder: Path, context: Context, *, how: How = "link") -> int:
    """Put each photograph into the folder of each taxon seen on it, and return the number of links or copies made.

    A folder is named as in Camtrap DP: the scientific name, else the label, else ``animal``, ``human``, ``vehicle``,
    ``blank`` or ``unclassified``. Below it the photographs keep the folders that they have below the one that all of
    them share. A file that is there already stays, if it is the same photograph.

    Raises:
        LinnaeaError: another file is in the way, or the folder cannot be written.
    """
    places = {(one["mediaID"], _folder_name(one)): None for one in iter_observations(context.decided(rows), context)}
    files = {one.path: one.file for one in read_media((path for path, _ in places), context.zone)}
    if n_left_out := sum(not Path(path).is_file() for path in files):
        context.tell(f"not sorted, since they are not files of their own (in a tar, on the web): {n_left_out:,}")
    n_made = 0
    for path, name in places:
        if Path(path).is_file():
            n_made += _put(Path(path), folder / name / files[path], how)
    return n_made


def _folder_name(seen: dict[str, str]) -> str:
    label = seen["observationTags"].removeprefix("label:")
    name = seen["scientificName"] if seen["observationType"] != "human" else ""
    words = name or label or seen["observationType"]
    name = re.sub(r"[^\w .()'×-]+", "_", words).encode()[:_NAME_BYTES].decode(errors="ignore")
    return name.strip(" .") or "unclassified"


def _put(source: Path, target: Path, how: How) -> bool:
    """Link or copy a photograph; return whether it was not there before."""
    with explain_os_errors(target):
        if target.is_symlink() or target.exists():
            if _is_same(source, target):
                return False
            raise LinnaeaError(f"{target}: another file is here; choose an empty folder to sort into")
        target.parent.mkdir(parents=True, exist_ok=True)
        if how == "copy":
            shutil.copy2(source, target)
        else:
            target.symlink_to(os.path.abspath(source))  # noqa: PTH100  (not resolved: links in cards stay links)
    return True


def _is_same(source: Path, target: Path) -> bool:
    try:
        return target.samefile(source) or filecmp.cmp(source, target, shallow=False)
    except FileNotFoundError:
        return False
