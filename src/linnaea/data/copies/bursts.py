"""Bursts: photographs of one moment, which a split must keep together.

Photographs are of one burst if they are near copies (also when the frame moved by up to 5%), if one camera took them
within a minute (by EXIF, in one folder or of one taxon), or if they lie in one numbered folder of photographs of one
taxon that has several such folders (``Vulpes vulpes/burst-07``). Bursts chain.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import polars as pl
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from linnaea.data.copies.hashes import HASH_BYTES, MIN_QUALITY, window_hashes
from linnaea.data.copies.links import connect, connect_near, iter_links
from linnaea.data.copies.search import THRESHOLD
from linnaea.data.engine import Engine, count_cores
from linnaea.data.exif import read_taken
from linnaea.data.images import ImageError, decode
from linnaea.data.shards import write_parquet
from linnaea.data.sources import read_location
from linnaea.jobs import OnProgress, run_parts
from linnaea.parquet import read_parquet, scan_parquet

GAP_S = 60.0
"""The largest time between two shots of one burst."""
FOLDER_AT_MOST = 50
"""The largest number of photographs in a folder that is one burst."""
LOOK_SIDE = 128
"""The least short side, in pixels, at which a JPEG is decoded to look for bursts. On 100 photographs, hashes of windows
differ by 6 of 256 bits at most from those of the whole photograph, and decoding takes half the time."""
HERE_UP_TO = 2_000
"""Up to this number of photographs are looked at by threads of this process: new workers take as long to start."""
LOOKS_PER_CLUSTER = 16
"""The number of photographs of a cluster of near copies whose shifted windows are compared with others."""
WINDOWS_UP_TO = 1_000_000
"""Up to this number of photographs, shifted frames are found, too."""

SHOT_SCHEMA: dict[str, Any] = {"windows": pl.Binary, "camera": pl.String, "clock": pl.Float64}
"""A photograph as far as bursts are concerned: hashes of its windows (null if it has no contrast or cannot be read),
its camera, and the seconds of the camera's clock (null if it states none)."""

Links = tuple[NDArray[np.int64], NDArray[np.int64]]


def look(data: bytes) -> tuple[bytes | None, str, float | None]:
    """Return a row of :data:`SHOT_SCHEMA` for a photograph."""
    taken = read_taken(data)
    clock = None if taken.clock is None else taken.clock.replace(tzinfo=UTC).timestamp()
    try:
        hashes, quality = window_hashes(decode(data, min_short_side=LOOK_SIDE))
    except ImageError:
        return None, taken.camera.strip(), clock
    return (hashes.tobytes() if quality >= MIN_QUALITY else None), taken.camera.strip(), clock


@dataclass(frozen=True, kw_only=True)
class LookTask:
    """A task to look at one slice of a table of pictures (column ``location``)."""

    pictures: Path
    start: int
    length: int
    part: Path

    @property
    def receipt_path(self) -> Path:
        """The file of the part, which is its own receipt."""
        return self.part


def look_at_pictures(task: LookTask) -> int:
    """Look at one slice and return its number of pictures."""
    cv2.setNumThreads(1)  # the engine's workers are the parallelism
    table = scan_parquet(task.pictures).select("location").slice(task.start, task.length).collect()
    write_parquet(look_at_each(_loads_of(table), n_workers=1), task.part)
    return task.length


def _loads_of(pictures: pl.DataFrame) -> list[Callable[[], bytes]]:
    return [partial(read_location, location) for location in pictures["location"]]


def _look_at(load: Callable[[], bytes]) -> tuple[bytes | None, str, float | None]:
    try:
        return look(load())
    except ImageError:  # whoever uses the photograph itself rejects it with a reason
        return None, "", None


def look_at_table(
    pictures: Path, folder: Path, part_size: int, engine: Engine, on_progress: OnProgress
) -> pl.DataFrame:
    """Return :data:`SHOT_SCHEMA` for every row of a table of pictures; parts that exist in ``folder`` are kept."""
    n_rows = int(scan_parquet(pictures).select(pl.len()).collect().item())
    if n_rows <= HERE_UP_TO:
        table = scan_parquet(pictures).select("location").collect()
        return look_at_each(_loads_of(table), count_cores(), lambda done: on_progress(done, n_rows))
    tasks = [LookTask(pictures=pictures, start=start, length=min(part_size, n_rows - start),
                      part=folder / f"{number:06d}.parquet")
             for number, start in enumerate(range(0, n_rows, part_size))]  # fmt: skip
    run_parts(look_at_pictures, tasks, engine.map, on_progress)
    return pl.concat([pl.DataFrame(schema=SHOT_SCHEMA), *(read_parquet(task.part) for task in tasks)])


def look_at_each(
    loads: Iterable[Callable[[], bytes]], n_workers: int = 2, on_done: Callable[[int], None] = lambda done: None
) -> pl.DataFrame:
    """Return :data:`SHOT_SCHEMA` for photographs, given by functions that return their bytes."""
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(max(n_workers, 1)) as pool:
        rows = []
        for row in pool.map(_look_at, loads):
            rows.append(row)
            on_done(len(rows))
    return pl.DataFrame(rows, schema=SHOT_SCHEMA, orient="row")


def find_bursts(shots: pl.DataFrame, folders: Sequence[str], names: Sequence[Any]) -> NDArray[np.int64]:
    """Return the burst of each photograph, given by its lowest row; a photograph alone is a burst of its own.

    Args:
        shots: :data:`SHOT_SCHEMA`, a row per photograph
        folders: the folder of each photograph
        names: what tells taxa apart
    """
    table = shots.select("camera", "clock").with_columns(
        pl.Series("folder", folders, pl.String), pl.Series("name", [str(name) for name in names], pl.String)
    ).with_row_index("row")  # fmt: skip
    links = [*_iter_near(shots["windows"]), *_iter_shots_together(table), _in_numbered_folders(table)]
    return connect(shots.height, links)


def _iter_near(windows: pl.Series) -> Iterator[Links]:
    """Yield links between near copies, and between photographs of which some windows are near copies."""
    rows = np.flatnonzero(windows.is_not_null().to_numpy())
    if not len(rows):
        return
    hashes = np.frombuffer(b"".join(windows.drop_nulls()), np.uint64).reshape(len(rows), -1, HASH_BYTES // 8)
    distinct, number = np.unique(hashes[:, 0], axis=0, return_inverse=True)
    clusters = connect_near(distinct, THRESHOLD)[number.reshape(-1)]
    first = np.full(len(distinct), len(rows))
    np.minimum.at(first, clusters, np.arange(len(rows)))
    yield rows[first[clusters]], rows
    if len(rows) <= WINDOWS_UP_TO:
        chosen = _some_of_each(clusters)
        n_windows, some = hashes.shape[1], hashes[chosen]
        for hits in iter_links(np.ascontiguousarray(some.reshape(-1, some.shape[2])), THRESHOLD):
            yield rows[chosen[hits.query // n_windows]], rows[chosen[hits.target // n_windows]]


def _some_of_each(cluster_N: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the rows of at most :data:`LOOKS_PER_CLUSTER` photographs of each cluster, evenly spaced."""
    table = pl.DataFrame({"cluster": cluster_N}).with_row_index("row")
    place, size = pl.int_range(pl.len()).over("cluster"), pl.len().over("cluster")
    step = place * LOOKS_PER_CLUSTER // size
    is_first = (place == 0) | (step != (place - 1) * LOOKS_PER_CLUSTER // size)
    return table.filter(is_first)["row"].cast(pl.Int64).to_numpy()


def _iter_shots_together(table: pl.DataFrame) -> Iterator[Links]:
    """Yield links between the shots of one camera within :data:`GAP_S`, in one folder or of one taxon."""
    timed = table.filter(pl.col("clock").is_not_null())
    yield link_shots(timed, ["folder", "camera"], GAP_S)
    yield link_shots(timed.filter(pl.col("camera") != ""), ["name", "camera"], GAP_S)


def link_shots(table: pl.DataFrame, keys: Sequence[str], gap_s: float) -> Links:
    """Return links between shots that are equal in ``keys`` and follow one another within ``gap_s`` seconds.

    The table has the columns ``row``, ``clock`` (seconds, not null) and ``keys``.
    """
    ordered = table.sort(*keys, "clock", "row")
    soon = (pl.col("clock").diff() <= gap_s) & pl.all_horizontal(pl.col(key) == pl.col(key).shift() for key in keys)
    linked = ordered.select("row", before=pl.col("row").shift(), soon=soon).filter("soon")
    return linked["before"].cast(pl.Int64).to_numpy(), linked["row"].cast(pl.Int64).to_numpy()


def _in_numbered_folders(table: pl.DataFrame) -> Links:
    """Return links within folders that are one burst."""
    own = pl.col("folder").str.extract(r"([^/\\]+)$")
    one_name = pl.col("name").n_unique().over("folder") == 1
    several = pl.col("folder").n_unique().over("name") > 1
    small = pl.len().over("folder").is_between(2, FOLDER_AT_MOST)
    chosen = table.filter(own.str.contains(r"\d").fill_null(value=False) & one_name & several & small)
    linked = chosen.select("row", first=pl.col("row").min().over("folder"))
    return linked["first"].cast(pl.Int64).to_numpy(), linked["row"].cast(pl.Int64).to_numpy()
