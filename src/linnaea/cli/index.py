"""``linnaea index IMAGES... --output INDEX``: index photographs for search."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from linnaea.cli import Commands
from linnaea.cli.console import report_failed, tell
from linnaea.counting import count
from linnaea.model.folders import DEFAULT_MODEL, Precision


@dataclass(frozen=True, kw_only=True)
class MakeIndex:
    """Index photographs for `linnaea search`; the same command again adds new and changed ones."""

    images: tyro.conf.Positional[tuple[str, ...]]
    """Photographs, folders of them, patterns, tars, videos."""
    output: Path
    """Folder of the index."""
    model: str = DEFAULT_MODEL
    """Folder or name of the model; nano comes with this package."""
    device: str = "auto"
    """cpu, cuda, mps or auto."""
    precision: Precision = "float32"
    """bf16 is about twice as fast on processors that multiply it natively, and less exact; auto uses it there. int8 is
    faster on all; a model without a form in 8 bits gets it from these photographs, if there are 40 or more."""
    preprocess: Literal["crop", "squash"] | None = None
    """crop: the middle square; squash: the whole photograph. Default: as the model was trained."""
    batch_size: int = 32
    """Photographs that the model encodes at once."""
    workers: int = 2
    """Number of threads that decode images."""


def index(options: MakeIndex) -> int:
    """Index photographs, and print how many the index has."""
    from linnaea.predict.index import index

    found = index(**vars(options))
    tell(f"{count(len(found.index), 'photograph', '')}: {options.output}", flush=True)
    return report_failed(found.failed, found.n_inputs)


COMMANDS: Commands = {"": (MakeIndex, index)}
