"""Prior weights per taxon, from a file, or from the place and month of a photograph.

A prior is a boost, not a filter. It multiplies probabilities by weights above zero and normalises them, so a clear
picture wins against any place.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float32
from numpy import ndarray
from numpy.typing import NDArray

from linnaea.counting import agree, count
from linnaea.data.exif import Taken
from linnaea.data.shards import write_parquet
from linnaea.data.sources.occurrences import is_absence
from linnaea.errors import LinnaeaError, UsageError
from linnaea.jobs import OnProgress, ignore_progress
from linnaea.parquet import read_stated
from linnaea.predict.inputs import Input
from linnaea.predict.labels import LabelBank
from linnaea.predict.restrict import Among, Resolves, Unknown, find_names, load_resolver, tell_unknown
from linnaea.storage import open_regular
from linnaea.tables import (
    find_column,
    match_columns,
    need_columns,
    read_table,
    scan_table,
    shorten_columns,
    with_decimal_points,
)
from linnaea.taxonomy.ranks import Rank
from linnaea.taxonomy.row import read_binomials, tidy_names

EVERY_OTHER = "*"
"""The name of the row that gives the weight of all taxa that a file of weights does not name (else 1)."""

CELL_RESOLUTION = 3
"""H3's resolution: hexagons of about 12,000 km2, 120 km across."""
SMOOTHING = 200.0
"""The number of records at which a cell counts as much as the whole download."""
LEAST, MOST = 0.05, 20.0
"""Bounds of a weight: a species without records in a place is twenty times less likely there, but not impossible."""
NEIGHBOURS = 1
"""Rings of cells around the photograph's own that also count."""

REGION_SCHEMA: dict[str, Any] = {"cell": pl.UInt64, "month": pl.Int8, "scientific_name": pl.String, "n": pl.Int32}
"""The schema of a file of regions: a row per H3 cell, month (0: not stated) and species; ``n`` records."""

_COLUMNS = {"decimalLatitude": "lat", "decimalLongitude": "lon", "month": "month", "species": "scientific_name"}
"""The columns of a GBIF occurrence (Darwin Core) that are used; ``species`` is the binomial."""

_INATURALIST = {"decimalLatitude": "latitude", "decimalLongitude": "longitude", "month": "observed_on",
                "species": "scientific_name"}  # fmt: skip
"""The columns of an export of iNaturalist's website that stand for those; ``observed_on`` is YYYY-MM-DD."""

_ROWS_AT_ONCE = 500_000


def apply_prior(
    probability_BK: Float32[ndarray, "B K"], weight_BK: Float32[ndarray, "#B K"]
) -> Float32[ndarray, "B K"]:
    """Multiply probabilities by weights, and normalise them to sum to 1."""
    weighted = np.multiply(probability_BK, weight_BK, dtype=np.float32)
    weighted /= weighted.sum(axis=1, keepdims=True)
    return np.asarray(weighted)


def read_prior(
    bank: LabelBank, among: Among, tell: Callable[[str], None]
) -> Callable[[Input], NDArray[np.float32]] | None:
    """Return a function that gives the weights ``[K]`` of the bank's taxa for an input; ``None`` without a prior.

    ``tell`` is called with names that no label has.

    Raises:
        UsageError: a place or date is given without a prior of regions, or does not exist.
        LinnaeaError: the file cannot be read, or, if strict, a name of it is not among the labels.
    """
    if among.prior is None:
        if among.lat is not None or among.lon is not None or among.date:
            raise UsageError("--lat, --lon and --date need --prior, a file of regions (linnaea labels regions)")
        return None
    path = Path(among.prior)
    if path.suffix.lower() == ".parquet" and not has_weights(path):
        return weights_by_place(bank, open_regions(path, bank, among, tell), _given(among))
    weights, unknown = read_weights(path, bank, lambda: load_resolver(among.checklists))
    _report_unknown(path, unknown, among, tell)
    return lambda one: weights


def _report_unknown(path: Path, unknown: Sequence[Unknown], among: Among, tell: Callable[[str], None]) -> None:
    """Report the names of a file that no label has; if strict, raise LinnaeaError."""
    tell_unknown(path, unknown, tell)
    if unknown and among.strict:
        raise LinnaeaError(
            f"{path}: {count(len(unknown), 'name', '')} {agree(len(unknown), 'is', 'are')} not among the labels"
        )


def open_regions(path: Path, bank: LabelBank, among: Among, tell: Callable[[str], None]) -> "Regions":
    """Open a file of regions under the names of the bank; its names are read as those of any list.

    Names that no label has keep counting as records of other taxa; ``tell`` is called with them and their number.

    Raises:
        LinnaeaError: the file is not a file of regions, or, if strict, a name of it is not among the labels.
    """
    counts = Regions.open(path).counts
    totals = (
        counts.group_by("scientific_name").agg(pl.col("n").sum()).sort("n", "scientific_name", descending=[True, False])
    )
    found = find_names(bank, totals["scientific_name"], lambda: load_resolver(among.checklists))
    unknown = {one.name for one in found.unknown}
    if unknown:
        share = sum(totals.filter(pl.col("scientific_name").is_in(unknown))["n"]) / sum(totals["n"])
        of_all = f"{len(unknown):,} of {count(totals.height, 'name')} ({share:.1%} of the records)"
        tell(f"{path}: {of_all} are not among the labels")
    _report_unknown(path, found.unknown, among, tell)
    species = found.table.filter(pl.col("rank") == int(Rank.SPECIES)).select("name", "row").unique()
    named = species.select("name", label=bank.taxa["scientific_name"].gather(species["row"])).unique()
    renamed = counts.join(named, left_on="scientific_name", right_on="name", how="left")
    name = pl.coalesce("label", "scientific_name").alias("scientific_name")
    return Regions(renamed.with_columns(name).select(*REGION_SCHEMA))


def weights_by_place(bank: LabelBank, regions: "Regions", given: Taken) -> Callable[[Input], NDArray[np.float32]]:
    """Return the weights for the place and month that a photograph states; ``given`` fills in what it does not."""
    no_weights = np.ones(len(bank), np.float32)

    @lru_cache(maxsize=16)
    def weights_at(place: Place) -> NDArray[np.float32]:
        return regions.weights(bank, place)

    def weights_of(one: Input) -> NDArray[np.float32]:
        taken = one.taken
        position = one.place or taken.position or given.position
        if position is None:
            return no_weights
        return weights_at(Place(lat=position[0], lon=position[1], month=taken.month or given.month))

    return weights_of


def _given(among: Among) -> Taken:
    if (among.lat is None) != (among.lon is None):
        raise UsageError("give --lat and --lon together")
    month = _month_of(among.date)
    if among.lat is None or among.lon is None:
        return Taken(month=month)
    try:
        place = Place(lat=among.lat, lon=among.lon, month=month)
    except ValueError as error:
        raise UsageError(str(error)) from error
    return Taken(position=(place.lat, place.lon), month=month)


def _month_of(date: str) -> int:
    """Return the month of YYYY-MM-DD or YYYY-MM; 0 if there is no date."""
    if not date:
        return 0
    words = date.split("-")
    if len(words) < 2 or not words[1].isdigit() or not 1 <= int(words[1]) <= 12:
        raise UsageError(f"--date {date}: write YYYY-MM-DD or YYYY-MM")
    return int(words[1])


def has_weights(path: Path) -> bool:
    """Tell whether a Parquet file is a table of weights and not a file of regions."""
    try:
        with open_regular(path) as stream:
            return bool(find_column(list(pl.read_parquet_schema(stream)), "weight"))
    except (OSError, pl.exceptions.PolarsError):
        return False


def read_weights(
    path: Path, bank: LabelBank, load_resolver: Callable[[], Resolves]
) -> tuple[NDArray[np.float32], tuple[Unknown, ...]]:
    """Return weights ``[K]`` from a table with the column ``weight`` and a name.

    The name is in the column ``name`` or ``scientific_name``, or in genus and species. It may be of any rank: the
    weight of a genus holds for each of its species, unless a species has its own.

    Raises:
        UsageError: a column is missing.
        LinnaeaError: a weight is not a number above zero.
    """
    table = read_table(path, columns=("weight",)).rows
    column = find_column(table.columns, "name", "scientific_name")
    names = table[column] if column else read_binomials(table)
    if names is None or "weight" not in table.columns:
        raise UsageError(f"{path}: needs the columns name and weight; it has {shorten_columns(table.columns)}")
    weights = table.select(names.str.strip_chars().alias("name"), pl.col("weight").cast(pl.Float32, strict=False))
    bad = weights.filter(~(pl.col("weight") > 0) | pl.col("weight").is_infinite() | pl.col("weight").is_null())
    if bad.height:
        raise LinnaeaError(f"{path}: the weight of {bad['name'][0]!r} is not a number above zero; correct it")
    others = weights.filter(pl.col("name") == EVERY_OTHER)["weight"]
    found = find_names(bank, weights.filter(pl.col("name") != EVERY_OTHER)["name"], load_resolver)
    chosen = found.table.join(weights.unique("name", keep="last"), on="name").sort("row", "rank")
    result = np.full(len(bank), others[-1] if len(others) else 1.0, np.float32)
    result[chosen["row"].to_numpy()] = chosen["weight"].to_numpy()  # the last entry of a row, the finest, stays
    return result, found.unknown


@dataclass(frozen=True, kw_only=True)
class Place:
    """The place and month in which a photograph was taken."""

    lat: float
    """Degrees north."""
    lon: float
    """Degrees east."""
    month: int = 0
    """1 to 12; 0 if not known."""

    def __post_init__(self) -> None:
        if not -90 <= self.lat <= 90 or not -180 <= self.lon <= 180 or not 0 <= self.month <= 12:
            raise ValueError(
                f"latitude {self.lat}, longitude {self.lon}, month {self.month}: not a place and time on earth"
            )


@dataclass(frozen=True)
class Regions:
    """The number of records of each species in each cell and month."""

    counts: pl.DataFrame
    """A table with the schema :data:`REGION_SCHEMA`."""

    @classmethod
    def open(cls, path: Path) -> "Regions":
        """Open a file of regions.

        Raises:
            LinnaeaError: the file is not a file of regions.
        """
        import h3.api.numpy_int as h3

        kind, columns = "a file of regions, as `linnaea labels regions` makes from a GBIF download", (*REGION_SCHEMA,)
        counts = read_stated(path, REGION_SCHEMA, needed=columns, filled=columns, kind=kind).select(columns)
        if counts.is_empty() or not (counts["n"] > 0).all():
            raise LinnaeaError(f"{path}: has no records; it should be {kind}")
        if not all(map(h3.is_valid_cell, counts["cell"].unique().to_list())):
            raise LinnaeaError(f"{path}: its cells are not cells of H3; it should be {kind}")
        return cls(counts)

    @cached_property
    def _totals(self) -> pl.DataFrame:
        return self.counts.group_by("scientific_name").agg(pl.col("n").sum().alias("n_all"))

    @cached_property
    def _resolution(self) -> int:
        import h3.api.numpy_int as h3

        return int(h3.get_resolution(self.counts["cell"][0]))

    def weights(self, bank: LabelBank, place: Place) -> NDArray[np.float32]:
        """Return the weights ``[K]`` of a place: how much likelier each species is there than in the whole download.

        A weight is the species' share of the records of the cell, its neighbours and the months around, over its share
        overall. The local share is drawn towards the overall share by :data:`SMOOTHING` records (a Dirichlet prior).
        Without any local record all weights are 1. A species that the download lacks has the weight of a species never
        seen there.
        """
        import h3.api.numpy_int as h3

        cells = h3.grid_disk(h3.latlng_to_cell(place.lat, place.lon, self._resolution), NEIGHBOURS)
        near = self.counts.filter(pl.col("cell").is_in([int(cell) for cell in cells]))
        if place.month:
            months = {0, place.month, place.month % 12 + 1, (place.month - 2) % 12 + 1}
            near = near.filter(pl.col("month").is_in(list(months)))
        n_near = int(near["n"].sum())
        here = near.group_by("scientific_name").agg(pl.col("n").sum().alias("n_here"))
        n_all = int(self._totals["n_all"].sum())
        share = pl.col("n_all") / n_all
        ratio = (pl.col("n_here").fill_null(0) / share + SMOOTHING) / (n_near + SMOOTHING)
        known = self._totals.join(here, on="scientific_name", how="left").select("scientific_name", weight=ratio)
        joined = bank.taxa.select("scientific_name").join(
            known, on="scientific_name", how="left", maintain_order="left"
        )
        unseen = SMOOTHING / (n_near + SMOOTHING)
        return np.asarray(joined["weight"].fill_null(unseen).clip(LEAST, MOST).to_numpy(), np.float32)


def make_regions(
    occurrences: Path, output: Path, *, resolution: int = CELL_RESOLUTION,
    on_progress: OnProgress = ignore_progress,
) -> tuple[int, int]:  # fmt: skip
    """Count the occurrences of a GBIF download per cell.

    The download is the simple tab-separated table, or any table with its columns. Return the number of rows that were
    counted, and of those that were not (no coordinates, no species, recorded as absent, a fossil).

    Raises:
        LinnaeaError: the file cannot be read, or h3 is not installed.
        UsageError: a column is missing.
    """
    try:
        import h3.api.numpy_int as h3
    except ImportError as error:
        raise LinnaeaError("regions need the package h3: install linnaea with its extra geo (linnaea[geo])") from error
    parts, n_rows = [], 0
    for block in _iter_occurrences(occurrences):
        n_rows += block.height
        good = block.filter(
            pl.col("lat").is_between(-90, 90) & pl.col("lon").is_between(-180, 180) & (pl.col("scientific_name") != ""),
            "present",
        ).with_columns(pl.col("lat").round(3), pl.col("lon").round(3), pl.col("month").fill_null(0).cast(pl.Int8))
        spots = good.select("lat", "lon").unique()
        cells = [int(h3.latlng_to_cell(lat, lon, resolution)) for lat, lon in spots.iter_rows()]
        placed = good.join(spots.with_columns(cell=pl.Series(cells, dtype=pl.UInt64)), on=["lat", "lon"])
        parts.append(placed.group_by("cell", "month", "scientific_name").len("n"))
        on_progress(n_rows, None)
    counted = pl.concat([pl.DataFrame(schema=REGION_SCHEMA), *(part.cast(pl.Schema(REGION_SCHEMA)) for part in parts)])
    counted = counted.group_by("cell", "month", "scientific_name").agg(pl.col("n").sum())
    n_good = int(counted["n"].sum())
    if not n_good:
        raise LinnaeaError(f"{occurrences}: no row has coordinates and a species")
    write_parquet(counted.sort("cell", "month", "scientific_name").cast(pl.Schema(REGION_SCHEMA)), output)
    return n_good, n_rows - n_good


def _iter_occurrences(path: Path) -> Iterator[pl.DataFrame]:
    types = {"lat": pl.Float64, "lon": pl.Float64, "month": pl.Int8, "scientific_name": pl.String}
    with scan_table(path) as found:
        table, columns = found, found.collect_schema().names()
        spelled = {known: column for column, known in match_columns(columns, _COLUMNS).items()}
        if not {*columns, *spelled} & {"decimalLatitude", "species"} and set(_INATURALIST.values()) <= set(columns):
            spelled = _INATURALIST
            table = table.with_columns(pl.col("observed_on").cast(pl.String).str.slice(5, 2))
        need_columns([*columns, *spelled], path, *_COLUMNS)
        column_of = {ours: spelled.get(name, name) for name, ours in _COLUMNS.items()}
        table = with_decimal_points(table, (column_of["lat"], column_of["lon"]))
        wanted = [pl.col(column).cast(types[ours], strict=False).alias(ours) for ours, column in column_of.items()]
        wanted[-1] = tidy_names(wanted[-1])
        wanted.append(_is_presence(columns).alias("present"))
        yield from table.select(wanted).collect_batches(chunk_size=_ROWS_AT_ONCE)


def _is_presence(columns: Sequence[str]) -> pl.Expr:
    """Return whether each occurrence says that the species lives there: not recorded as absent, and not a fossil."""

    def cells(term: str) -> pl.Expr:
        column = find_column(columns, term)
        return pl.col(column).cast(pl.String).fill_null("").str.to_lowercase() if column else pl.lit("")

    is_fossil = cells("basisOfRecord").str.contains("fossil")
    return ~(is_absence(cells("occurrenceStatus"), cells("individualCount")) | is_fossil)
