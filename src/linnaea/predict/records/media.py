"""Photographs as records know them: when and where they were taken, their deployment and their event."""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, tzinfo
from os.path import commonpath
from pathlib import Path

import polars as pl

from linnaea.counting import count
from linnaea.data.copies.bursts import link_shots
from linnaea.data.copies.links import connect
from linnaea.data.exif import read_taken
from linnaea.data.frames import is_video
from linnaea.errors import LinnaeaError, UsageError
from linnaea.predict.inputs import Input
from linnaea.predict.outputs.camtrapdp import moment_of
from linnaea.tables import find_column, read_table, shorten_columns, with_decimal_points

FOUND_BY = ("folder", "deploymentID", "locationID", "locationName", "cameraID")
"""The columns of a table of deployments that may hold the name of a photograph's folder."""
_LIMITS_DEG = {"latitude": 90.0, "longitude": 180.0}


@dataclass(frozen=True, kw_only=True)
class Medium:
    """A photograph or video."""

    path: str
    """As in the rows."""
    file: str
    """The path below the folder that all photographs share, with slashes."""
    moment: str = ""
    """When it was taken, ISO 8601 with an offset; empty if it does not say."""
    clock: str = ""
    """The time of the camera's clock, ISO 8601 without an offset."""
    stated: str = ""
    """The moment as the file itself states it, without a time zone that its user gives."""
    position: tuple[float, float] | None = None
    camera: str = ""
    deployment: str = ""
    event: str = ""

    @property
    def id(self) -> str:
        """Return an identifier that depends on the path below the shared folder alone."""
        return hashlib.blake2b(self.file.encode("utf-8", "surrogateescape"), digest_size=10).hexdigest()

    @property
    def when(self) -> datetime | None:
        """Return the time that orders one camera's shots: the camera's clock, else the moment without its offset."""
        text = self.clock or self.moment
        return datetime.fromisoformat(text).replace(tzinfo=None) if text else None

    @property
    def time(self) -> datetime:
        """Return the moment as a time."""
        return datetime.fromisoformat(self.moment)

    def at(self, places: "Sequence[Deployment]") -> "Medium":
        """Return the photograph at the position of its deployment, if it states none itself."""
        facts = next((one.facts for one in places if one.id == self.deployment), {})
        if self.position is not None or not (facts.get("latitude") and facts.get("longitude")):
            return self
        return replace(self, position=(float(facts["latitude"]), float(facts["longitude"])))


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """A camera at a place for a time."""

    id: str
    facts: Mapping[str, str] = field(default_factory=dict)
    """The columns of Camtrap DP's ``deployments.csv``."""

    def covers(self, moment: datetime) -> bool:
        """Tell whether a moment lies between its start and end, as far as they are stated."""
        start, end = (self._stated(key) for key in ("deploymentStart", "deploymentEnd"))
        return (start is None or start <= moment) and (end is None or moment <= end)

    def _stated(self, key: str) -> datetime | None:
        """Return a time that the table states, ``None`` if it states none."""
        try:
            return read_moment(self.facts[key]) if self.facts.get(key) else None
        except UsageError as error:
            raise UsageError(f"deployment {self.id}: {key} {error}") from error


def read_moment(text: str) -> datetime:
    """Return a time of ISO 8601 with an offset.

    Raises:
        UsageError: it is not one.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{text}: not a time of ISO 8601") from error
    if moment.tzinfo is None:
        raise UsageError(f"{text}: a time of a deployment needs its offset, such as 2024-05-01T12:00:00+02:00")
    return moment


def read_media(paths: Iterable[str], zone: tzinfo | None) -> list[Medium]:
    """Return each photograph once, with the place and time that it states."""
    once = list(dict.fromkeys(paths))
    shared = _shared_folder(once)
    media = []
    for path in once:
        taken = read_taken(Path(path))
        file = Path(path).relative_to(shared).as_posix() if shared else path
        moment = moment_of(Path(path), zone)[0]
        clock = "" if taken.clock is None else taken.clock.isoformat(timespec="seconds")
        stated = "" if taken.moment is None else taken.moment.isoformat()
        media.append(Medium(path=path, file=file, moment=moment, clock=clock, stated=stated, position=taken.position,
                            camera=taken.camera))  # fmt: skip
    return media


def _shared_folder(paths: Sequence[str]) -> Path | None:
    try:
        return Path(commonpath([str(Path(path).parent) for path in paths]))
    except ValueError:  # addresses and paths, or nothing
        return None


def read_deployments(path: Path) -> list[Deployment]:
    """Return the deployments of a table with Camtrap DP's columns (``deploymentID`` at least).

    Raises:
        UsageError: the column is missing, a deployment is there twice, or its position is not a place on earth.
        LinnaeaError: the table cannot be read.
    """
    table = with_decimal_points(read_table(path).rows, _LIMITS_DEG)
    column = find_column(table.columns, "deploymentID")
    if not column:
        raise UsageError(f"{path}: has no column deploymentID; it has {shorten_columns(table.columns)}")
    found = []
    for row in table.iter_rows(named=True):
        facts = {name: "" if value is None else str(value).strip() for name, value in row.items()}
        _check_position(facts, f"{path}: deployment {facts[column]}")
        found.append(Deployment(id=facts[column], facts=facts | {"deploymentID": facts[column]}))
    if len({one.id for one in found}) < len(found):
        raise UsageError(f"{path}: a deployment is there twice")
    return found


def _check_position(facts: Mapping[str, str], where: str) -> None:
    """Raise UsageError for a latitude or longitude that is not a number of degrees; a deployment may have none."""
    for name, most in _LIMITS_DEG.items():
        stated = facts.get(name, "")
        with suppress(ValueError):
            if not stated or abs(float(stated)) <= most:
                continue
        raise UsageError(
            f"{where}: {name} {stated[:40]} is not a number from -{most:.0f} to {most:.0f}; write degrees (52.516)"
        )


def place_media(
    media: Sequence[Medium], given: Sequence[Deployment], tell: Callable[[str], None] = lambda line: None
) -> list[Medium]:
    """Return the photographs with their deployments; ``tell`` is called if some were taken outside of its period.

    A photograph belongs to the deployment whose folder, id, location or camera is the name of its nearest folder and,
    among several, whose period contains its time. Without a table, each folder is a deployment.

    Raises:
        LinnaeaError: no deployment fits a photograph.
    """
    if not given:
        return [replace(one, deployment=_folder_of(one)) for one in media]
    placed = [(one, _find_deployment(one, given)) for one in media]
    outside = [(one, place) for one, place in placed if one.moment and not place.covers(one.time)]
    if outside:
        (one, place), *_ = outside
        which = f"{one.path}, {one.moment}, deployment {place.id}"
        tell(f"taken outside of the period of their deployment: {count(len(outside), 'photograph')} (such as {which})")
    return [replace(one, deployment=place.id) for one, place in placed]


def make_deployments(media: Sequence[Medium], given: Sequence[Deployment]) -> list[Deployment]:
    """Return the deployments that have photographs, with the position and period of these where they state none.

    Raises:
        LinnaeaError: a deployment has no position.
    """
    known = {one.id: one for one in given}
    of_each: dict[str, list[Medium]] = {}
    for one in media:
        of_each.setdefault(one.deployment, []).append(one)
    return [_complete(known.get(key, Deployment(id=key)), of_one) for key, of_one in of_each.items()]


def _folder_of(one: Medium) -> str:
    """Return the folder of a photograph, relative to the shared folder; in the shared folder itself, its name."""
    folder = Path(one.file).parent.as_posix()
    return Path(one.path).parent.name or "all" if folder == "." else folder


def _find_deployment(one: Medium, given: Sequence[Deployment]) -> Deployment:
    folders = [part.casefold() for part in reversed(Path(one.path).parent.parts)]
    for folder in folders:
        fitting = [deployment for deployment in given if folder in _names_of(deployment)]
        fitting = [deployment for deployment in fitting if not one.moment or deployment.covers(one.time)] or fitting
        if fitting:
            return fitting[0]
    if len(given) == 1:
        return given[0]
    raise LinnaeaError(
        f"{one.path}: no deployment has the name of one of its folders in {', '.join(FOUND_BY)}; add a column folder"
    )


def _names_of(deployment: Deployment) -> set[str]:
    return {deployment.facts[name].casefold() for name in FOUND_BY if deployment.facts.get(name)}


def _complete(deployment: Deployment, media: Sequence[Medium]) -> Deployment:
    """Return a deployment with the position and period of its photographs where it states none."""
    facts = {**deployment.facts, "deploymentID": deployment.id}
    positions = [one.position for one in media if one.position is not None]
    if not (facts.get("latitude") and facts.get("longitude")):
        if not positions:
            raise LinnaeaError(
                f"deployment {deployment.id}: no position; give --deployments TABLE with the columns deploymentID, "
                "latitude and longitude (on the page: latitude and longitude)"
            )
        latitudes, longitudes = zip(*positions, strict=True)
        middle = len(positions) // 2
        facts |= {"latitude": f"{sorted(latitudes)[middle]:.6f}", "longitude": f"{sorted(longitudes)[middle]:.6f}"}
    times = sorted(one.time for one in media if one.moment)
    if times:
        facts["deploymentStart"] = facts.get("deploymentStart") or times[0].isoformat(timespec="seconds")
        facts["deploymentEnd"] = facts.get("deploymentEnd") or times[-1].isoformat(timespec="seconds")
    models = {one.camera for one in media if one.camera.strip()}
    if not facts.get("cameraModel") and len(models) == 1:
        facts["cameraModel"] = models.pop().strip()
    return replace(deployment, facts=facts)


def find_events(media: Sequence[Medium], gap_s: float) -> list[Medium]:
    """Return the photographs with their events: those of one camera in one deployment, with gaps of at most ``gap_s``.

    Photographs without a time have no event.
    """
    keys = ["deployment", "camera"]
    shots = pl.DataFrame(
        {"deployment": [one.deployment for one in media], "camera": [one.camera for one in media],
         "clock": [_seconds(one.when) for one in media], "moment": [_seconds(one.stated) for one in media]},
        schema={"deployment": pl.String, "camera": pl.String, "clock": pl.Float64, "moment": pl.Float64},
    ).with_row_index("row").filter(pl.col("clock").is_not_null())  # fmt: skip
    # A clock that is put back in October shows an hour twice; moments are used where all shots of a camera have one.
    know_moment = pl.col("moment").is_not_null().all().over(keys)
    shots = shots.with_columns(clock=pl.when(know_moment).then("moment").otherwise("clock"))
    links = link_shots(shots, keys, gap_s)
    groups: dict[int, list[Medium]] = {}
    for one, group in zip(media, connect(len(media), [links]) if media else (), strict=True):
        groups.setdefault(int(group), []).append(one)
    events = {group: _name_event(min(of_one, key=lambda one: (str(one.when), one.file)))
              for group, of_one in groups.items()}  # fmt: skip
    named = {one.path: events[group] for group, of_one in groups.items() for one in of_one if one.when is not None}
    return [replace(one, event=named.get(one.path, "")) for one in media]


def _seconds(when: datetime | str | None) -> float | None:
    """Return the seconds of a time; one without an offset counts as UTC."""
    moment = datetime.fromisoformat(when) if isinstance(when, str) and when else when
    if not isinstance(moment, datetime):
        return None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _name_event(first: Medium) -> str:
    words = f"{first.deployment} {first.when} {first.file}"
    return hashlib.blake2b(words.encode("utf-8", "surrogateescape"), digest_size=8).hexdigest()


def read_events(paths: Iterable[str], gap_s: float) -> list[Medium]:
    """Return photographs and videos with the place and time that they state, and the event of each."""
    return find_events(place_media(read_media(paths, None), []), gap_s)


def with_events(inputs: Sequence[Input], gap_s: float) -> list[Input]:
    """Return the inputs with their events; the frames of a video are one event. Inputs that are not files have none."""
    media = read_events((str(one.path) for one in inputs if one.path), gap_s)
    events = {one.path: one.event or (one.path if is_video(one.path) else "") for one in media}
    return [replace(one, event=events[str(one.path)]) if one.path else one for one in inputs]
