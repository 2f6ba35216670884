"""``linnaea serve``: run a model as a REST service with a web page."""

import os
import sys
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro  # noqa: F401 - every command's module brings its parser

from linnaea.cli import DONE, Commands
from linnaea.cli.console import say, warn
from linnaea.counting import count
from linnaea.errors import LinnaeaError
from linnaea.model.folders import DEFAULT_MODEL, Precision

if TYPE_CHECKING:
    from fastapi import FastAPI

    from linnaea.predict.predictor import Predictor

ANSWERS = "taxa"
"""The name of the table of answers in a folder under review, without its ending."""


@dataclass(frozen=True, kw_only=True)
class Serve:
    """Serve predictions: a web page at /, REST at /predict, OpenAPI at /openapi.json."""

    model: str = DEFAULT_MODEL
    """Folder or name of the model; nano comes with this package."""
    labels: str | None = None
    """Taxa to choose from: a data set, label bank (a folder, or FILE.npy with FILE.json beside it), file of names,
    checklist (inat), or names (cat,dog). Default: the model's own, or the published bank of a published model."""
    resolve: bool = True
    """Resolve the names of a file of labels with the embedded checklist; --no-resolve keeps them as they are."""
    merge_by: Literal["class", "taxon"] = "class"
    """Labels over one taxon that differ in more than spelling, author or language (Danaus plexippus larva): class keeps
    them apart, taxon merges them."""
    language: str = ""
    """Language of the common names, such as de, where --checklist has them. Default: those of the labels."""
    checklist: tuple[str, ...] = ("inat",)
    """Checklists with common names for --language."""
    regions: Path | None = None
    """A file of regions (linnaea labels regions); callers may then give latitude, longitude and month."""
    review: Path | None = None
    """Folder whose photographs are reviewed at /review/ (linnaea review): with a table of answers in it, such as
    taxa.parquet, or else answered by this model first. Decisions go to decisions.jsonl in it."""
    host: str = "127.0.0.1"
    """Address to listen on. 0.0.0.0 lets every machine that reaches this one ask: give a --token then, and put a proxy
    with TLS in front, since neither photographs nor the token are encrypted."""
    port: int = 8000
    """Port to listen on; 0 takes one that is free."""
    allowed_host: tuple[str, ...] = ()
    """Further names that the server answers to, such as life.example.org; * for any. IP addresses, localhost and this
    machine's own name always work."""
    token: str = ""
    """Word that callers must send (Authorization: Bearer TOKEN), also for /metrics. Default: the environment variable
    LINNAEA_TOKEN, which other users of this machine cannot see."""
    preprocess: Literal["crop", "squash"] | None = None
    """crop: the middle square; squash: the whole photograph, as pybioclip does for the published models. Default: as
    the model was trained."""
    calibration: bool = True
    """Apply the calibration that comes with the labels or the model."""
    fast: bool = False
    """Decode large JPEGs at a fraction of their size: faster, but answers differ slightly from the command's."""
    device: str = "auto"
    """cpu, cuda, mps or auto."""
    precision: Precision = "float32"
    """Number format of the image tower, as in linnaea predict."""
    int8_photographs: str | None = None
    """With --precision int8: folder of 40 or more photographs like those to come, from which a model without a form in
    8 bits gets one. Default: the folder of --review."""
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
    max_per_client: int = 0
    """Requests of one address at a time; 0 is three quarters of --max-waiting. Behind a proxy give --max-waiting."""

    def __post_init__(self) -> None:
        if (
            min(self.batch_size, self.workers, self.max_files, self.max_waiting) < 1
            or self.max_file_mb <= 0
            or self.max_per_client < 0
        ):
            raise ValueError("sizes and counts must be above zero")


def serve(options: Serve) -> int:
    """Serve until Ctrl-C or SIGTERM, and finish the requests in progress."""
    try:
        import uvicorn

        from linnaea.serve.access import Access, is_loopback
        from linnaea.serve.app import make_app
        from linnaea.serve.connections import make_config, reserve
    except ImportError as error:
        raise LinnaeaError(f"serving needs more packages ({error.name}): pip install 'linnaea[serve]'") from error
    from linnaea.predict.priors import open_regions
    from linnaea.predict.restrict import Among
    from linnaea.serve.service import Limits

    listener = reserve(options.host, options.port)
    predictor = _open_predictor(options)
    limits = Limits(
        file_bytes=round(options.max_file_mb * 1e6),
        request_bytes=round(min(options.max_files, 8) * options.max_file_mb * 1e6) + 1_000_000,
        files=options.max_files,
        waiting=options.max_waiting,
        seconds=options.timeout,
        per_client=options.max_per_client or max(1, options.max_waiting * 3 // 4),
    )
    access = Access(hosts=options.allowed_host, token=options.token or os.environ.get("LINNAEA_TOKEN", ""))
    # A thread gives up the interpreter when another has waited this long. At the default of 5 ms the model would wait
    # for the network at each of its hundreds of operations.
    sys.setswitchinterval(0.0005)
    regions = open_regions(options.regions, predictor.bank, Among(), say) if options.regions else None
    app = make_app(predictor, limits=limits, regions=regions, access=access)
    say(
        f"{predictor.model.name}, {count(len(predictor.bank), 'taxon')}: http://{options.host}:{listener.getsockname()[1]}"
    )
    if not is_loopback(options.host):
        open_to = "who has the token" if access.token else "without asking who it is; consider --token"
        warn(f"warning: --host {options.host} answers every machine that reaches this one, {open_to}")
    config = make_config(app, limits, host=options.host, port=options.port)
    server = uvicorn.Server(config)
    with _held(options.review), _each_product_on_one_core(predictor), suppress(KeyboardInterrupt):
        if options.review is not None:
            _add_review(app, options.review, predictor)
            say(f"review: http://{options.host}:{listener.getsockname()[1]}/review/")
        server.run(sockets=[listener])
    return DONE


def _open_predictor(options: Serve) -> "Predictor":
    from linnaea.predict.session import open_model

    model = open_model(options.model, labels=options.labels, device=options.device, precision=options.precision,
                       preprocess=options.preprocess, calibrated=options.calibration, resolve=options.resolve,
                       merge_by=options.merge_by,
                       int8_photographs=options.int8_photographs or options.review)  # fmt: skip
    if options.language:
        model = model.in_language(options.language, options.checklist)
    return replace(model.predictor(batch_size=options.batch_size, n_workers=options.workers), fast=options.fast)


def _each_product_on_one_core(predictor: "Predictor") -> AbstractContextManager[Any]:
    """Keep OpenBLAS's threads from waiting for one another, which took 5 of 34 processor ms of a photograph."""
    from threadpoolctl import threadpool_limits

    from linnaea.predict.labels import FEW

    alone = predictor.model.n_callers > 1 and len(predictor.bank) <= FEW  # large products are worth two cores
    return threadpool_limits(1, user_api="blas") if alone else nullcontext()


def _held(folder: Path | None) -> AbstractContextManager[None]:
    """Keep other commands from writing decisions into the folder under review."""
    from linnaea.cli.review import DECISIONS
    from linnaea.exchange import hold_output

    return nullcontext() if folder is None else hold_output(folder / DECISIONS, kind="review")


def _add_review(app: "FastAPI", folder: Path, predictor: "Predictor") -> None:
    """Add the page on which a folder's photographs are reviewed."""
    from linnaea.cli.review import DECISIONS, user_name
    from linnaea.predict.records.decisions import DecisionLog
    from linnaea.predict.records.review import Review
    from linnaea.serve.app import REVIEW_PATH
    from linnaea.serve.review_app import make_review_app, open_desk

    review = Review.open(_find_answers(folder) or _answer_folder(folder, predictor))
    desk = open_desk(review, DecisionLog(folder / DECISIONS), predictor.bank.taxa_list, reviewer=user_name(),
                     checklists=("inat",))  # fmt: skip
    app.mount(REVIEW_PATH, make_review_app(desk))


def _find_answers(folder: Path) -> Path | None:
    """Return the table of answers in a folder, ``taxa.parquet`` or of another form."""
    names = (folder / f"{ANSWERS}{ending}" for ending in (".parquet", ".csv", ".jsonl", ".xlsx"))
    return next((path for path in names if path.exists()), None)


def _answer_folder(folder: Path, predictor: "Predictor") -> Path:
    """Answer all photographs of a folder, and return the table."""
    from linnaea.predict.inputs import list_inputs
    from linnaea.predict.outputs.journal import Journal
    from linnaea.predict.restrict import Among
    from linnaea.predict.session import describe_question
    from linnaea.progress import progress_bar

    inputs = list_inputs([str(folder)])
    if not inputs:
        raise LinnaeaError(f"--review {folder}: no table of answers and no photographs there")
    output = folder / f"{ANSWERS}.parquet"
    journal = Journal(output, describe_question(predictor, Among(), inputs))
    with progress_bar("predicting", "images") as on_progress:
        journal.fill(predictor, inputs, on_progress)
    journal.finish(output, "parquet", [one.name for one in inputs])
    return output


COMMANDS: Commands = {"": (Serve, serve)}
