"""Find the photographs of a table of answers or of decisions."""

from collections.abc import Callable, Sequence
from pathlib import Path

from linnaea.predict.inputs import file_on_disk, is_address
from linnaea.storage import resolve_inside

_LOOKED_FOR = 20
"""The number of photographs that are looked for to find the folder that their names are relative to."""

Find = Callable[[str], Path | str]
"""A function that returns where a photograph lies; an address stays one."""


def find_places(names: Sequence[str], beside: Path, root: Path | None) -> Find:
    """Return the function that says where photographs lie.

    Relative names are those of files below ``root``. Without it they are looked for in the current folder, to which
    ``predict`` has written them relative, and in the folder of the table.

    Raises (when it is called):
        LinnaeaError: a photograph does not lie in ``root``.
    """
    bases = [Path(), beside] if root is None else [root]
    some = [name for name in names if not is_address(name)][:_LOOKED_FOR]
    base = max(bases, key=lambda base: sum(file_on_disk(str(base / name)).exists() for name in some))

    def find(name: str) -> Path | str:
        if is_address(name):
            return name
        return base / name if root is None else resolve_inside(root, name, follow_links=True)

    return find
