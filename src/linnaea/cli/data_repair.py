"""``linnaea data repair``: rebuild what is broken in a data set."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from linnaea.cli import DONE, SOME_FAILED, Commands
from linnaea.cli.console import warn


@dataclass(frozen=True, kw_only=True)
class Repair:
    """Rebuild the broken or missing shards of a data set, to the bytes they had."""

    directory: tyro.conf.Positional[Path]
    """Folder of the data set; the original photographs are needed where the build found them."""


def repair(options: Repair) -> int:
    """Mend what can be mended and name the rest, record by record; 3 if there is any."""
    from linnaea.data.verbs import repair_data

    result = repair_data(options.directory)
    for lost in result.lost:
        warn(f"{lost.shard}: {lost.source} {lost.record_id} ({lost.location}): {lost.reason}")
    for note in result.notes:
        warn(note)
    broken = len({lost.shard for lost in result.lost})
    print(
        f"{result.n_checked} shards checked, {len(result.mended)} files mended,"
        f" {broken + len(result.notes)} cannot be ({len(result.lost)} photographs lost)",
        flush=True,
    )
    return DONE if result.is_whole else SOME_FAILED


COMMANDS: Commands = {"repair": (Repair, repair)}
