"""``linnaea serve``: run a model as a REST service with a web page."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import tyro  # noqa: F401 - every command's module brings its parser

from linnaea.cli import DONE, Commands
from linnaea.cli.console import say
from linnaea.errors import LinnaeaError
from linnaea.model.folders import DEFAULT_MODEL


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Serve predictions: a web page at /, REST at /predict, OpenAPI at /openapi.json."""

    model: str = DEFAULT_MODEL
    """Folder or name of the model; nano comes with this package."""
    labels: Path | None = None
    """Taxa to choose from: a data set, label bank, file of names or checklist (inat). Default: the model's own."""
    regions: Path | None = None
    """A file of regions (linnaea labels regions); callers may then give latitude, longitude and month."""
    host: str = "127.0.0.1"
    """Address to listen on; 0.0.0.0 accepts connections from other machines."""
    port: int = 8000
    """Port to listen on."""
    preprocess: Literal["crop", "squash"] | None = None
    """crop: the middle square; squash: the whole photograph, as pybioclip does for the published models. Default: as
    the model was trained."""
    calibration: bool = True
    """Apply the calibration that comes with the labels or the model."""
    fast: bool = False
    """Decode large JPEGs at a fraction of their size: faster, but answers differ slightly from the command's."""
    device: str = "auto"
    """cpu, cuda, mps or auto."""
    batch_size: int = 32
    """Photographs that the model encodes at once."""
    workers: int = 2
    """Number of photographs that are decoded at once."""
    max_file_mb: float = 20
    """Largest photograph, in MB."""
    max_files: int = 64
    """Largest number of photographs in one request."""
    max_waiting: int = 256
    """Photographs of all requests that may wait; further requests are told to come back (429)."""
    timeout: float = 60
    """Longest time in seconds for one photograph."""

    def __post_init__(self) -> None:
        if min(self.batch_size, self.workers, self.max_files, self.max_waiting) < 1 or self.max_file_mb <= 0:
            raise ValueError("sizes and counts must be above zero")


def serve(options: Serve) -> int:
    """Serve until Ctrl-C or SIGTERM, and finish the requests in progress."""
    try:
        import uvicorn

        from linnaea.serve.app import make_app
    except ImportError as error:
        raise LinnaeaError(f"serving needs more packages ({error.name}): pip install 'linnaea[serve]'") from error
    from linnaea.predict.priors import Regions
    from linnaea.predict.session import open_model
    from linnaea.serve.service import Limits

    model = open_model(options.model, labels=options.labels, device=options.device, preprocess=options.preprocess,
                       calibrated=options.calibration)  # fmt: skip
    predictor = replace(model.predictor(batch_size=options.batch_size, n_workers=options.workers), fast=options.fast)
    limits = Limits(
        file_bytes=round(options.max_file_mb * 1e6),
        request_bytes=round(min(options.max_files, 8) * options.max_file_mb * 1e6) + 1_000_000,
        files=options.max_files,
        waiting=options.max_waiting,
        seconds=options.timeout,
    )
    # A thread gives up the interpreter when another has waited this long. At the default of 5 ms the model would wait
    # for the network at each of its hundreds of operations.
    sys.setswitchinterval(0.0005)
    app = make_app(predictor, limits=limits, regions=Regions.open(options.regions) if options.regions else None)
    say(f"{model.encoder.name}, {len(predictor.bank):,} taxa: http://{options.host}:{options.port}")
    uvicorn.run(app, host=options.host, port=options.port, log_level="warning", timeout_graceful_shutdown=10)
    return DONE


COMMANDS: Commands = {"": (Serve, serve)}
