"""The configuration file of a build: sources and options as TOML, checked before anything is read.

::

    [[sources]]
    kind = "inat21"
    annotations = "train.json"
    root = "."

    [build]
    short_side = 256

    [build.splits]
    val = 0.05

Paths are relative to the file. ``docs/sources`` has a worked example per kind.
"""

import difflib
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, get_origin, get_type_hints

import cattrs
from cattrs import override
from cattrs.errors import ClassValidationError, ForbiddenExtraKeysError
from cattrs.gen import make_dict_structure_fn

from linnaea.data.build import BuildConfig
from linnaea.data.sources import Source
from linnaea.data.sources.bioscan import BioscanSource
from linnaea.data.sources.eol import EolSource
from linnaea.data.sources.fathomnet import FathomNetSource
from linnaea.data.sources.folder import FolderSource
from linnaea.data.sources.huggingface import HuggingFaceSource
from linnaea.data.sources.inat21 import Inat21Source
from linnaea.data.sources.occurrences import DarwinCoreSource
from linnaea.data.sources.published import PublishedSource
from linnaea.data.sources.table import TableSource
from linnaea.errors import LinnaeaError, UsageError
from linnaea.storage import open_regular
from linnaea.taxonomy.ranks import Rank

KINDS: dict[str, type[Any]] = {
    "folder": FolderSource,
    "table": TableSource,
    "inat21": Inat21Source,
    "eol": EolSource,
    "bioscan": BioscanSource,
    "darwin-core": DarwinCoreSource,
    "treeoflife": PublishedSource,
    "fathomnet": FathomNetSource,
    "huggingface": HuggingFaceSource,
}
"""The reader of each ``kind``; the other keys of a source are the fields of that class."""


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The content of a configuration file."""

    sources: tuple[Source, ...]
    build: BuildConfig


def read_config(path: Path) -> DataConfig:
    """Read and check a configuration.

    Raises:
        UsageError: the file does not exist, is not TOML, or has an invalid key or value; the message names the place.
    """
    try:
        with open_regular(path) as stream:
            content = tomllib.load(stream)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: cannot be read as TOML (not UTF-8)") from error
    except RecursionError as error:
        raise UsageError(f"{path}: cannot be read as TOML (nested too deeply)") from error
    except ValueError as error:  # too long a number, and all that tomllib finds
        raise UsageError(f"{path}: cannot be read as TOML ({error})") from error
    _check_keys(path, "the file", content, {"sources", "build"})
    entries = content.get("sources", [])
    if not isinstance(entries, list) or not entries:
        raise UsageError(f"{path}: has no source; add a [[sources]] table with its kind")
    converter = _make_converter(path.parent)
    sources = tuple(_read_source(path, number, entry, converter) for number, entry in enumerate(entries, start=1))
    names = [source.name for source in sources]
    if twice := {name for name in names if names.count(name) > 1}:
        raise UsageError(f"{path}: two sources are named {min(twice)!r}; give folders or tables with other names")
    return DataConfig(
        sources=sources, build=_structure(path, "[build]", content.get("build", {}), BuildConfig, converter)
    )


def _read_source(path: Path, number: int, entry: Mapping[str, Any], converter: cattrs.Converter) -> Source:
    where = f"source {number}"
    if not isinstance(entry, dict):
        raise UsageError(f"{path}: {where}: must be a table of keys, not {entry!r:.60}")
    kind = entry.get("kind", "")
    if not isinstance(kind, str) or kind not in KINDS:
        near = difflib.get_close_matches(str(kind), KINDS, n=1)
        meant = f"; did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"{path}: {where}: kind {kind!r} is not one of {', '.join(KINDS)}{meant}")
    rest = {key: value for key, value in entry.items() if key != "kind"}
    source: Source = _structure(path, f"{where} ({kind})", rest, KINDS[kind], converter)
    return source


def _structure(
    path: Path, where: str, content: Mapping[str, Any], target: type[Any], converter: cattrs.Converter
) -> Any:
    _check_nested(path, where, content, target)
    try:
        return converter.structure(content, target)
    except LinnaeaError as error:
        raise UsageError(f"{path}: {where}: {error}") from error
    except (ClassValidationError, ForbiddenExtraKeysError, ValueError, TypeError) as error:
        raise UsageError(f"{path}: {where}: {_first_cause(error)}") from error


def _check_nested(path: Path, where: str, content: Mapping[str, Any], target: type[Any]) -> None:
    """Check for unknown and missing keys, with clear messages; cattrs checks the values."""
    hints = get_type_hints(target)
    if not isinstance(content, dict):
        raise UsageError(f"{path}: {where}: must be a table of keys, not {content!r:.60}")
    settable = {one.name: one for one in fields(target) if one.init and not _is_callable(hints[one.name])}
    _check_keys(path, where, content, set(settable))
    for name, value in content.items():
        if is_dataclass(hints[name]):
            _check_nested(path, f"{where}.{name}", value, hints[name])
        elif (kind := _container_of(hints[name])) and not isinstance(value, kind):
            should = "a list" if kind is list else "a table of keys"
            raise UsageError(f"{path}: {where}.{name}: must be {should}, not {value!r:.60}")
    missing = [name for name, one in settable.items()
               if one.default is MISSING and one.default_factory is MISSING and name not in content]  # fmt: skip
    if missing:
        raise UsageError(f"{path}: {where}: needs {', '.join(missing)}")


def _container_of(hint: Any) -> type[Any] | None:
    """Return the type of TOML's parser for a container of this type (list or dict), or ``None`` for a plain value."""
    origin = get_origin(hint)
    if origin is tuple:
        return list
    return dict if isinstance(origin, type) and issubclass(origin, Mapping) else None


def _is_callable(hint: Any) -> bool:
    return getattr(hint, "__origin__", None) is Callable or "Callable" in str(hint)


def _check_keys(path: Path, where: str, content: Mapping[str, Any], known: set[str]) -> None:
    for key in content:
        if key not in known:
            near = difflib.get_close_matches(key, sorted(known), n=1)
            meant = f"did you mean {near[0]!r}?" if near else f"the keys are {', '.join(sorted(known))}"
            raise UsageError(f"{path}: {where} has no {key!r}; {meant}")


def _make_converter(folder: Path) -> cattrs.Converter:
    converter = cattrs.Converter(forbid_extra_keys=True)
    converter.register_structure_hook(Path, lambda value, _: folder / _text(value))
    converter.register_structure_hook(str, lambda value, _: _text(value))
    converter.register_structure_hook(bool, lambda value, _: _exactly(value, bool))
    converter.register_structure_hook(int, lambda value, _: _exactly(value, int))
    converter.register_structure_hook(float, lambda value, _: float(_exactly(value, int, float)))
    for kind in KINDS.values():  # fields that only a program can pass are not allowed in a file
        unset = {name: override(omit=True) for name, hint in get_type_hints(kind).items() if _is_callable(hint)}
        if unset:
            hook = make_dict_structure_fn(kind, converter, _cattrs_forbid_extra_keys=True, **unset)  # type: ignore[arg-type]
            converter.register_structure_hook(kind, hook)
    converter.register_structure_hook(Rank, lambda value, _: Rank.parse(_text(value)))
    return converter


def _text(value: Any) -> str:
    return str(_exactly(value, str))


def _exactly(value: Any, *kinds: type[Any]) -> Any:
    if type(value) not in kinds:
        raise ValueError(f"must be {' or '.join(kind.__name__ for kind in kinds)}, not {value!r}")
    return value


def _first_cause(error: BaseException) -> str:
    """Return the innermost message of an exception group, with its field."""
    if isinstance(error, BaseExceptionGroup):
        inner = error.exceptions[0]
        notes = " ".join(getattr(inner, "__notes__", []))
        field = notes.rpartition("attribute ")[2].strip() if "attribute " in notes else ""
        return f"{field}: {_first_cause(inner)}" if field else _first_cause(inner)
    return " ".join(str(error).split())
