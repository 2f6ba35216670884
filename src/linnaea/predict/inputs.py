"""What a user names on the command line, as a list of photographs."""

import glob
from collections.abc import Sequence
from pathlib import Path

from linnaea.data.sources.folder import NOT_IMAGES, iter_files


def list_images(inputs: Sequence[str]) -> list[Path]:
    """Files, folders (with all below them) and patterns, in the order given, each photograph once.

    What does not exist, or a pattern that fits nothing, stays in the list: it becomes a row with a reason.
    """
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
