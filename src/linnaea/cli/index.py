"""``linnaea index IMAGES... --output INDEX``: one's own photographs, to be searched."""

from dataclasses import dataclass
from pathlib import Path

import tyro

from linnaea.cli import Commands
from linnaea.cli.console import progress_bar, report_failed
from linnaea.errors import LinnaeaError
from linnaea.model.folders import DEFAULT_MODEL, Precision


@dataclass(frozen=True, kw_only=True)
class MakeIndex:
    """Index photographs for `linnaea search`; the same command again adds what is new."""

    images: tyro.conf.Positional[tuple[str, ...]]
    """Photographs, folders of them, patterns, tars, videos."""
    output: Path
    """Folder of the index."""
    model: str = DEFAULT_MODEL
    """Folder or name of the model; nano comes with this package."""
    device: str = "auto"
    """cpu, cuda, mps or auto."""
    precision: Precision = "float32"
    """bf16 is about twice as fast where the processor has it, and no more exact than that; auto: where it has it."""
    batch_size: int = 32
    """Photographs the model sees at once."""
    workers: int = 2
    """Threads that decode."""

    def __post_init__(self) -> None:
        if not self.images or self.batch_size < 1:
            raise ValueError("give at least one photograph or folder; --batch-size is at least 1")


def index(options: MakeIndex) -> int:
    """Add what is new or changed."""
    from linnaea.model.open import open_encoder
    from linnaea.predict.index import Index, update_index
    from linnaea.predict.inputs import list_inputs

    inputs = list_inputs(options.images)
    if not inputs:
        raise LinnaeaError(f"{' '.join(options.images)}: no photographs there")
    model = open_encoder(options.model, device=options.device, precision=options.precision)
    with progress_bar("indexing", "images") as on_progress:
        failed = update_index(
            model,
            inputs,
            options.output,
            batch_size=options.batch_size,
            n_workers=options.workers,
            on_progress=on_progress,
        )
    print(f"{len(Index.open(options.output))} photographs: {options.output}", flush=True)
    return report_failed(failed, len(inputs))


COMMANDS: Commands = {"": (MakeIndex, index)}
