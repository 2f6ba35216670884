"""``linnaea list recipes | tasks | models | banks | checklists``: list what is available."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from linnaea.cli import DONE, Commands
from linnaea.cli.console import say, show_table
from linnaea.errors import LinnaeaError
from linnaea.parquet import scan_parquet
from linnaea.storage import read_json

if TYPE_CHECKING:
    from linnaea.model.hub import Published

DEPTH = 3
"""The number of folder levels below the given one that are searched for models and banks."""


@dataclass(frozen=True, kw_only=True)
class Recipes:
    """List training recipes for `linnaea train RECIPE`."""


def recipes(_: Recipes) -> int:
    """Print the name and purpose of each recipe."""
    from linnaea.train.recipes import NOTES, RECIPES

    show_table(("recipe", "what it is for"), [(name, NOTES.get(name, "")) for name in RECIPES])
    return DONE


@dataclass(frozen=True, kw_only=True)
class Tasks:
    """List published evaluation sets for `linnaea evaluate --task NAME`."""


def tasks(_: Tasks) -> int:
    """Print the name, size, content and origin of each task."""
    from linnaea.evaluate.tasks import FOLDER, TASKS

    rows = [
        (
            task.name,
            "" if task.n_images is None else f"{task.n_images:,}",
            "" if task.n_classes is None else f"{task.n_classes:,}",
            task.note,
            task.where,
            task.licence,
            task.citation,
        )
        for task in (*TASKS.values(), FOLDER)
    ]
    columns = ("task", "images", "classes", "what it is", "where to get it", "licence", "to cite")
    show_table(columns, rows, right=("images", "classes"))
    return DONE


@dataclass(frozen=True, kw_only=True)
class Models:
    """List models by name, and models in folders."""

    directory: tyro.conf.Positional[Path] = Path()
    """Folder to search for models."""


def models(options: Models) -> int:
    """Print the bundled models, the published models (and whether their weights are cached), and model folders."""
    from linnaea.model.folders import bundled_models
    from linnaea.model.hub import PUBLISHED

    rows = [(name, "this package", "yes") for name in bundled_models()]
    rows += [
        (name, model.source, "yes" if _is_cached(model) else "no, downloaded on first use")
        for name, model in PUBLISHED.items()
    ]
    rows += [(str(path), "folder", "yes") for path in _folders_with(options.directory, "open_clip_config.json")]
    show_table(("model", "where from", "here"), rows)
    return DONE


def _is_cached(model: "Published") -> bool:
    from huggingface_hub import try_to_load_from_cache

    found = (try_to_load_from_cache(model.repo, "open_clip_config.json", revision=revision)
             for revision in (model.revision, None))  # fmt: skip
    return any(isinstance(path, str) for path in found)


@dataclass(frozen=True, kw_only=True)
class Banks:
    """List label banks in a folder, for `linnaea predict --labels BANK`."""

    directory: tyro.conf.Positional[Path] = Path()
    """Folder to search for label banks."""


def banks(options: Banks) -> int:
    """Print the path, size and caption form of each label bank."""

    import polars as pl

    rows = []
    for path in _folders_with(options.directory, "bank.json"):
        try:
            facts = read_json(path / "bank.json", kind="the facts of a label bank")
            n_taxa = scan_parquet(path / "taxa.parquet").select(pl.len()).collect().item()
            rows.append((path, f"{n_taxa:,}", facts.get("text_type", ""), str(facts.get("model", ""))[:12]))
        except (OSError, LinnaeaError, pl.exceptions.PolarsError) as error:
            rows.append((path, "", f"cannot be read: {error}".split("\n", maxsplit=1)[0], ""))
    if not rows:
        say(f"no label bank in {options.directory.resolve()}; make one with `linnaea labels build`")
        return DONE
    show_table(("bank", "taxa", "captions", "model"), rows, right=("taxa",))
    return DONE


def _folders_with(directory: Path, name: str) -> list[Path]:
    if not directory.is_dir():
        raise LinnaeaError(f"{directory}: not a folder")
    patterns = ("*/" * depth + name for depth in range(DEPTH + 1))
    found = {path.parent for pattern in patterns for path in directory.glob(pattern)}
    return sorted(path for path in found if not path.name.endswith(".partial"))


@dataclass(frozen=True, kw_only=True)
class Checklists:
    """List checklists for `linnaea taxonomy ... --checklist NAME`."""


def checklists(_: Checklists) -> int:
    """Print the name, version, size and origin of each checklist; the size is known once it has been opened."""
    from linnaea.taxonomy.checklists.store import list_checklists

    rows = [(c.name, c.version, f"{c.n_taxa:,}" if c.n_taxa else "", c.origin) for c in list_checklists()]
    show_table(("checklist", "version", "taxa", "origin"), rows, right=("taxa",))
    return DONE


COMMANDS: Commands = {
    "recipes": (Recipes, recipes),
    "tasks": (Tasks, tasks),
    "models": (Models, models),
    "banks": (Banks, banks),
    "checklists": (Checklists, checklists),
}
