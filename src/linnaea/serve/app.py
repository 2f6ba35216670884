"""A REST service and a web page for one model: ``POST /predict``, ``GET /taxa``, ``/health``, ``/metrics``, and ``/``.

The server fetches nothing for a caller and keeps nothing, and the page loads nothing from other hosts.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import lru_cache
from html import escape
from typing import Annotated, Any, TypeAlias

import numpy as np
from fastapi import FastAPI, File, Form, HTTPException, Query, Request, Response, UploadFile
from fastapi.responses import HTMLResponse, JSONResponse
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.concurrency import run_in_threadpool

from linnaea import __version__
from linnaea.counting import count
from linnaea.data.exif import Taken
from linnaea.data.images import ImageError, check_not_empty
from linnaea.errors import LinnaeaError
from linnaea.model.folders import short_name
from linnaea.predict.confidence import DEFAULT_CONFIDENCE, parse_confidence
from linnaea.predict.explain import explain_pixels
from linnaea.predict.inputs import EmptyPictureError, Input, bytes_input
from linnaea.predict.labels import EXACT_BYTES, LabelBank
from linnaea.predict.outputs.contact_sheet import CALIBRATED
from linnaea.predict.predictor import Asked, Predictor, answer_of_error
from linnaea.predict.priors import Regions, weights_by_place
from linnaea.predict.restrict import Among, keep_clades, label_finder
from linnaea.predict.session import parse_rank
from linnaea.predict.surroundings import Surroundings, look_around
from linnaea.serve.access import Access, CheckCaller
from linnaea.serve.exports import TITLES, Export, export
from linnaea.serve.fields import check_fields, say_how_to_send
from linnaea.serve.intake import BUSY, COME_BACK, Count, LimitBody
from linnaea.serve.schema import Clade, Result, Results, answer_all, list_clades, make_result
from linnaea.serve.service import BusyError, Limits, Service, TooSlowError
from linnaea.serve.templates import PAGE_POLICY, read_template
from linnaea.taxonomy.columns import ANSWER_COLUMNS
from linnaea.taxonomy.find import Finder

Kept: TypeAlias = tuple[LabelBank, Surroundings | None]
"""The labels that may answer, and what lies around them."""

CLADES_AT_MOST = 16
"""The number of clades in one request's ``within`` and ``exclude``."""

CACHED_BANKS_BYTES = 1_000_000_000
"""The memory for banks of recently requested clades."""
NAME_AT_MOST = 100
"""The number of characters of a clade."""
REVIEW_PATH = "/review"
"""The place of the page of `serve --review`, if there is one."""
REVIEW_LINK = f' · <a href="{REVIEW_PATH[1:]}/">review a folder</a>'


@dataclass(frozen=True)
class _Metrics:
    """The metrics for Prometheus."""

    registry: CollectorRegistry
    photographs: Counter
    requests: Counter
    seconds: Histogram
    waiting: Gauge

    @classmethod
    def new(cls) -> "_Metrics":
        registry = CollectorRegistry()
        return cls(
            registry,
            Counter("linnaea_photographs", "Photographs, by status", ["status"], registry=registry),
            Counter("linnaea_requests", "Requests, by status", ["code"], registry=registry),
            Histogram("linnaea_request_seconds", "Seconds per request", registry=registry),
            Gauge("linnaea_waiting", "Photographs in the queue", registry=registry),
        )


def make_app(
    predictor: Predictor, *, limits: Limits | None = None, regions: Regions | None = None, access: Access | None = None
) -> FastAPI:
    """Return the application; one process serves one model. Without ``access`` anyone may ask under any name."""
    limits = limits or Limits()
    predictor = replace(predictor, bank=_ready(predictor.bank))
    metrics, finder = _Metrics.new(), label_finder(predictor.bank.taxa)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.service = Service(predictor, limits)
        yield
        app.state.service.close()

    app = FastAPI(title="Linnaea", version=__version__, lifespan=lifespan, docs_url=None, redoc_url=None,
                  description="Taxa on photographs, with probabilities at every rank.")  # fmt: skip
    app.add_middleware(LimitBody, limits=limits)
    app.add_middleware(CheckCaller, access=access or Access())
    app.add_middleware(Count, answered=metrics.requests, seconds=metrics.seconds)
    _add_information(app, predictor, metrics, finder, with_place=regions is not None)
    _add_predict(app, predictor, limits, regions, metrics, finder)
    _add_files(app, predictor, finder)
    _add_refusals(app, limits)
    say_how_to_send(app)
    return app


def _add_information(
    app: FastAPI, predictor: Predictor, metrics: _Metrics, finder: Finder, *, with_place: bool
) -> None:
    """Add the page, and the routes that describe the model and the server."""
    model_name = short_name(predictor.model.name)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    def page(request: Request) -> HTMLResponse:
        reviews = any(getattr(route, "path", "") == REVIEW_PATH for route in request.app.routes)
        return _page(model_name, len(predictor.bank), calibrated=predictor.calibration is not None,
                     with_place=with_place, with_review=reviews)  # fmt: skip

    @app.get("/health")
    def health() -> dict[str, Any]:
        return {"status": "ok", "version": __version__, "model": model_name, "n_labels": len(predictor.bank)}

    @app.get("/metrics", include_in_schema=False)
    def tell_metrics(request: Request) -> Response:
        metrics.waiting.set(request.app.state.service.n_waiting)
        return Response(generate_latest(metrics.registry), media_type="text/plain; version=0.0.4")

    @app.get("/taxa", responses=_errors(422))
    def taxa(
        q: Annotated[str, Query(max_length=NAME_AT_MOST)] = "", limit: Annotated[int, Query(ge=1, le=100)] = 12
    ) -> list[Clade]:
        """List taxa whose name begins with ``q``, then taxa whose name contains it, largest first.

        ``rank:`` in front limits the list to that rank.
        """
        return list_clades(predictor.bank, finder, q, limit)


def _add_predict(
    app: FastAPI, predictor: Predictor, limits: Limits, regions: Regions | None, metrics: _Metrics, finder: Finder
) -> None:
    """Add the route ``POST /predict``."""
    model_name = short_name(predictor.model.name)

    predictor_of = _keep_predictors(predictor, finder)

    @app.post("/predict", responses=_errors(400, 413, 415, 422, 429, 503))
    async def predict(
        request: Request,
        photographs: Annotated[list[UploadFile], File(alias="files", description="JPEG, PNG, WebP, TIFF ...")],
        rank: Annotated[str, Form(description="rank of the alternatives, or auto")] = "species",
        confidence: Annotated[
            list[str] | None, Form(description="0.9, or by rank: species=0.95 genus=0.9; of the field answer")
        ] = None,
        top_k: Annotated[int, Form(ge=1, le=50)] = 5,
        within: Annotated[list[str] | None, Form(description="clades such as order:Lepidoptera")] = None,
        exclude: Annotated[list[str] | None, Form()] = None,
        lat: Annotated[float | None, Form(ge=-90, le=90)] = None,
        lon: Annotated[float | None, Form(ge=-180, le=180)] = None,
        month: Annotated[int, Form(ge=0, le=12)] = 0,
    ) -> Results:
        """Name the organisms on photographs; one that cannot be read gives a row with a reason.

        ``lat``, ``lon`` and ``month`` are for photographs that do not state where or when they were taken (EXIF).

        A request whose only photograph is not a picture is refused (415), since it would have no answer at all. So is a
        request whose only photograph is too large (413).
        """
        await check_fields(request)
        _check([*(within or []), *(exclude or [])], len(photographs), limits)
        least = parse_confidence(" ".join(confidence)) if confidence else DEFAULT_CONFIDENCE
        asked = Asked(rank=parse_rank(rank), confidence=least, top_k=top_k)
        given = _given(lat, lon, month, regions)
        kept, left_out = (tuple(sorted({word for word in words or [] if word})) for words in (within, exclude))
        among = await run_in_threadpool(predictor_of, kept, left_out, asked)
        service: Service = request.app.state.service
        weights_of = None if regions is None else weights_by_place(among.bank, regions, given)

        async def answer(upload: UploadFile) -> Result:
            one = bytes_input(upload.filename or "", b"")
            vector = await _encode(service, upload, one, among, alone=len(photographs) == 1)
            if isinstance(vector, ImageError):
                return make_result(answer_of_error(one, vector))
            if weights_of is None:
                return await service.score_together(answer_all, (one, vector), among)
            await upload.seek(0)
            taken = await service.read_taken(await upload.read())
            one = replace(one, read_taken=lambda: taken)
            there = replace(among, weights_of=weights_of if taken.position or given.position else None)
            (result,) = await service.score(answer_all, [(one, vector)], there)
            return result

        with service.room_for(len(photographs)):
            results = await gather(answer(photograph) for photograph in photographs)
        for result in results:
            metrics.photographs.labels(result.status).inc()
        return Results(model=model_name, n_labels=len(among.bank), results=results)


def _keep_predictors(
    predictor: Predictor, finder: Finder
) -> Callable[[tuple[str, ...], tuple[str, ...], Asked], Predictor]:
    """Return a function that gives the predictor for the clades ``within`` and ``exclude`` and for a question.

    The latest are kept: one predictor opens its calibration and labels once.
    """
    at_most = max(1, min(64, CACHED_BANKS_BYTES // max(1, predictor.bank.vectors.nbytes)))

    @lru_cache(maxsize=at_most)
    def bank_of(within: tuple[str, ...], exclude: tuple[str, ...]) -> Kept:
        kept = keep_clades(predictor.bank, within, exclude, finder=finder)
        return kept, look_around(predictor.bank, kept, Among(within=within, exclude=exclude), predictor.own)

    @lru_cache(maxsize=at_most)
    def predictor_of(within: tuple[str, ...], exclude: tuple[str, ...], asked: Asked) -> Predictor:
        bank, around = bank_of(within, exclude)
        return replace(predictor, bank=bank, around=around, asked=asked)

    return predictor_of


def _add_files(app: FastAPI, predictor: Predictor, finder: Finder) -> None:
    """Add the endpoints for files of answers and for heat maps."""

    @app.post("/export", responses=_errors(413, 422), response_class=Response)
    async def make_file(asked: Export) -> Response:
        """Return rows of answers as a file: Excel, Parquet, MegaDetector, Darwin Core, ..."""
        data, name = await run_in_threadpool(export, asked)
        head = {"Content-Disposition": f'attachment; filename="{name}"', "X-Content-Type-Options": "nosniff"}
        return Response(data, media_type="application/octet-stream", headers=head)

    @app.post("/explain", responses=_errors(413, 415, 422, 429, 503), response_class=Response)
    async def heat_map(
        request: Request,
        photograph: Annotated[UploadFile, File(alias="file")],
        within: Annotated[str, Form(max_length=NAME_AT_MOST)] = "",
    ) -> Response:
        """Return the part of a photograph that the model sees as a JPEG, under a map of where its answer comes from."""
        await check_fields(request)
        service: Service = request.app.state.service
        kept = await run_in_threadpool(keep_clades, predictor.bank, [within] if within else [], [], finder=finder)
        among = replace(predictor, bank=kept, asked=Asked(rank=None))
        with service.room_for(1):
            one = bytes_input(photograph.filename or "", b"")
            try:
                pixels = await service.decode(await photograph.read())
            except ImageError as error:
                raise HTTPException(415, f"{one.name[:100]}: {error}") from error
            found = await service.score(explain_pixels, among, one, pixels)
        return Response(found.jpeg(), media_type="image/jpeg")


def _add_refusals(app: FastAPI, limits: Limits) -> None:
    """Answer every refused request with one line."""

    @app.exception_handler(LinnaeaError)
    async def one_line(request: Request, error: LinnaeaError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, status_code=422)

    @app.exception_handler(BusyError)
    async def busy(request: Request, error: BusyError) -> JSONResponse:
        return JSONResponse({"detail": BUSY}, status_code=429, headers=COME_BACK)

    @app.exception_handler(TooSlowError)
    async def slow(request: Request, error: TooSlowError) -> JSONResponse:
        return JSONResponse({"detail": f"no answer within {limits.seconds:g} s; try again"}, 503, headers=COME_BACK)


def _ready(bank: LabelBank) -> LabelBank:
    """Convert a small bank to float32 once, instead of with every photograph."""
    if 4 * len(bank) * bank.vectors.shape[1] > EXACT_BYTES:
        return bank
    return replace(bank, vectors=np.asarray(bank.vectors, np.float32))


def _page(model_name: str, n_labels: int, *, calibrated: bool, with_place: bool, with_review: bool) -> HTMLResponse:
    text = read_template("page.html", "Linnaea")
    text = text.replace("{{model}}", escape(model_name)).replace("{{labels}}", f"{n_labels:,}")
    formats = "".join(f'<option value="{form}">{title}</option>' for form, title in TITLES.items())
    text = (
        text.replace("{{formats}}", formats)
        .replace("{{review}}", REVIEW_LINK if with_review else "")
        .replace("{{calibrated}}", CALIBRATED[calibrated].replace("`linnaea labels calibrate`", "Calibration"))
        .replace("{{place}}", "" if with_place else "hidden")
        .replace("{{columns}}", json.dumps(ANSWER_COLUMNS))
    )
    return HTMLResponse(text, headers={"Content-Security-Policy": PAGE_POLICY})


def _given(lat: float | None, lon: float | None, month: int, regions: Regions | None) -> Taken:
    """Return the place and month of a request, for photographs that do not state their own."""
    if (lat is None) != (lon is None):
        raise HTTPException(422, "give lat and lon together")
    if lat is None or lon is None:
        if month:
            raise HTTPException(422, "month needs lat and lon; without a place it says nothing")
        return Taken()
    if regions is None:
        raise HTTPException(422, "this server has no file of regions; leave out lat and lon")
    return Taken(position=(lat, lon), month=month)


def _errors(*codes: int) -> dict[int | str, dict[str, Any]]:
    words = {400: "the form cannot be read", 413: "too many bytes or files", 415: "not a picture", 422: "wrong value",
             429: "too busy; try again after Retry-After seconds", 503: "took too long"}  # fmt: skip
    return {code: {"description": words[code]} for code in codes}


def _check(clades: list[str], n_files: int, limits: Limits) -> None:
    if n_files > limits.files:
        raise HTTPException(413, f"{count(n_files, 'photograph', '')} in one request; at most {limits.files}")
    if len(clades) > CLADES_AT_MOST:
        raise HTTPException(422, f"{len(clades)} clades in one request; at most {CLADES_AT_MOST}")
    if too_long := next((clade for clade in clades if len(clade) > NAME_AT_MOST), ""):
        raise HTTPException(422, f"{too_long[:40]!r}...: {len(too_long):,} characters; at most {NAME_AT_MOST}")


async def gather(jobs: Iterable[Awaitable[Result]]) -> list[Result]:
    """Return the answers in order; if one raises, the others are cancelled."""
    tasks = [asyncio.ensure_future(job) for job in jobs]
    try:
        return await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _encode(service: Service, upload: UploadFile, one: Input, among: Predictor, *, alone: bool) -> Any:
    """Return the vector of a photograph, or its error; the input takes the notes on the file.

    Raises:
        HTTPException: the request's only photograph is not a picture, or is too large.
        BusyError: too many photographs are waiting.
        TooSlowError: it took too long.
    """
    code, limit = 415, service.limits.file_bytes
    try:
        if upload.size is not None and upload.size > limit:
            code = 413
            raise ImageError(f"{upload.size:,} bytes; at most {limit:,}")
        return await service.encode(check_not_empty(await upload.read()), one.notes, among.check)
    except EmptyPictureError as error:
        return error
    except ImageError as error:
        if alone:
            raise HTTPException(code, f"{one.name[:100]}: {error}") from error
        return error
