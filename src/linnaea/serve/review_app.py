"""The page on which people review answers, and what it asks: photographs, names, and a place for decisions.

The page loads nothing from other hosts. A request names photographs by their number in the table, never by a path, and
gets them as JPEGs made anew, without their metadata.
"""

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse
from pydantic import BaseModel, Field

from linnaea.data.images import ImageError
from linnaea.data.shards import taxa_from_table
from linnaea.errors import LinnaeaError
from linnaea.model.folders import DEFAULT_MODEL
from linnaea.predict.label_lists import read_taxa
from linnaea.predict.labels import find_own_labels
from linnaea.predict.outputs.files import Context
from linnaea.predict.outputs.pictures import make_small_jpeg
from linnaea.predict.records.decisions import NAME_AT_MOST, DecisionLog, Kind, Verdict, taxon_of
from linnaea.predict.records.review import Item, Order, Review, State, Wanted, box_of_item
from linnaea.serve.access import Access, CheckCaller
from linnaea.serve.completion import Completion
from linnaea.serve.exports import ENDINGS, PACKAGE, TITLES, write_bytes
from linnaea.serve.intake import LimitBody
from linnaea.serve.service import Limits
from linnaea.serve.templates import PAGE_POLICY, read_template
from linnaea.taxonomy.columns import answer_names
from linnaea.taxonomy.ranks import RANK_LABELS
from linnaea.taxonomy.taxon import Taxon

LARGE, SMALL = 1600, 200
"""The longer side of a photograph and of its thumbnail, in pixels."""
DECODING = threading.BoundedSemaphore(2)
"""At most two photographs are decoded at once."""
TOGETHER_AT_MOST = 10_000
"""The number of photographs in one decision."""
TAXA_SHOWN = 400
NONE = "none"
"""Stands for no labels and for no checklists."""
HEADERS = {
    "Content-Security-Policy": PAGE_POLICY, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
}  # fmt: skip
FORMS = ("csv", "xlsx", "jsonl", "parquet", "html", "megadetector", "camtrapdp", PACKAGE, "dwca")
"""The formats of files that can be downloaded."""


class Decided(BaseModel):
    """A decision on one or several photographs."""

    ids: list[int] = Field(min_length=1, max_length=TOGETHER_AT_MOST)
    reviewer: str = Field(min_length=1, max_length=NAME_AT_MOST)
    decision: Kind
    taxon: dict[str, str] | None = None
    """In the columns of answers; a lineage, or a common name alone."""


class Undo(BaseModel):
    """A reviewer who takes the last decision back."""

    reviewer: str = Field(min_length=1, max_length=NAME_AT_MOST)


@dataclass(frozen=True, kw_only=True)
class Desk:
    """The answers to review, and the decisions so far."""

    review: Review
    log: DecisionLog
    names: Completion
    reviewer: str = ""
    """The name that the page offers."""
    context: Context = field(default_factory=Context)
    """What exported files may say besides."""

    def progress(self) -> dict[str, Any]:
        """Return how many photographs and parts are decided, disputed and left."""
        verdicts = [self.log.verdicts[one.file_name] for one in self.review.items]
        done = [one for one in verdicts if one is not None]
        reviewers = sorted({decision.reviewer for one in done for decision in one.decisions})
        return {"n": len(verdicts), "done": len(done), "disputed": sum(one.is_disputed for one in done),
                "reviewers": reviewers}  # fmt: skip


def open_desk(
    review: Review,
    log: DecisionLog,
    known: Iterable[Taxon] = (),
    *,
    reviewer: str = "",
    checklists: Sequence[str] = (),
    context: Context = Context(),  # noqa: B008  (frozen)
) -> Desk:
    """Return what there is to review, with the taxa of the answers, known taxa and those of checklists as names."""
    answered = {taxon_of(row) for row in review.rows if row["status"] == "ok"}
    names = Completion(answered, known, checklists=[one for one in checklists if one != NONE])
    return Desk(review=review, log=log, names=names, reviewer=reviewer, context=context)


def read_known_taxa(labels: str) -> list[Taxon]:
    """Return the taxa of a model or label bank; none for ``none``, or for the bundled model where it is not bundled.

    Raises:
        LinnaeaError: they cannot be read.
    """
    place = find_own_labels(labels) or Path(labels)
    if labels == NONE or (labels == DEFAULT_MODEL and not place.exists()):
        return []
    return taxa_from_table(read_taxa(place))


def make_review_app(desk: Desk, *, access: Access | None = None, limits: Limits | None = None) -> FastAPI:
    """Return the application; without ``access`` the application that it is mounted in checks its callers."""
    app = FastAPI(title="Linnaea review", docs_url=None, redoc_url=None, openapi_url=None)
    if access is not None:
        app.add_middleware(LimitBody, limits=limits or Limits(request_bytes=1_000_000))
        app.add_middleware(CheckCaller, access=access)
    _add_page(app, desk)
    _add_pictures(app, desk)
    _add_decisions(app, desk)

    @app.middleware("http")
    async def guard(request: Request, call_next: Callable[[Request], Any]) -> Response:
        response: Response = await call_next(request)
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        return response

    @app.exception_handler(LinnaeaError)
    async def one_line(request: Request, error: LinnaeaError) -> JSONResponse:
        return JSONResponse({"detail": str(error)}, status_code=422)

    return app


def _add_page(app: FastAPI, desk: Desk) -> None:
    """Add the page, the lists that it filters by, and the completion of names."""
    review, log = desk.review, desk.log

    @app.get("/", response_class=HTMLResponse)
    def page() -> HTMLResponse:
        return HTMLResponse(read_template("review.html", "Review"))

    @app.get("/table")
    def table() -> dict[str, Any]:
        taxa = [{"name": name, "n": n} for name, n in review.taxa.items() if name][:TAXA_SHOWN]
        return {"table": review.table.name, "reviewer": desk.reviewer, "cameras": review.cameras, "taxa": taxa,
                "failed": len(review.failed), "forms": {form: TITLES[form] for form in FORMS},
                "progress": desk.progress()}  # fmt: skip

    @app.get("/queue")
    def queue(
        reviewer: Annotated[str, Query(max_length=NAME_AT_MOST)] = "",
        state: State = "open",
        taxon: Annotated[str, Query(max_length=100)] = "",
        camera: Annotated[str, Query(max_length=1000)] = "",
        at_most: Annotated[float, Query(ge=0, le=1)] = 1.0,
        order: Order = "sure",
    ) -> dict[str, Any]:
        desk.names.begin()
        wanted = Wanted(reviewer=reviewer, state=state, taxon=taxon, camera=camera, at_most=at_most, order=order)
        return {"ids": review.choose(wanted, log.verdicts), "progress": desk.progress()}

    @app.get("/names")
    def names(q: Annotated[str, Query(min_length=1, max_length=100)]) -> dict[str, Any]:
        return {"names": desk.names.complete(q), "ready": desk.names.is_ready}

    @app.get("/export")
    def export(form: Annotated[str, Query(max_length=20)] = "csv") -> Response:
        if form not in FORMS:
            raise HTTPException(422, f"{form}: choose one of {', '.join(FORMS)}")
        content = write_bytes(form, lambda path: review.write(path, form, log.verdicts, desk.context))
        name = f"{review.table.stem}-reviewed{ENDINGS[form]}"
        attached = {"Content-Disposition": f'attachment; filename="{_plain(name)}"'}
        return Response(content, media_type="application/octet-stream", headers=attached)


def _add_pictures(app: FastAPI, desk: Desk) -> None:
    @lru_cache(maxsize=48)
    def large(photograph: str) -> bytes:
        return _make_jpeg(desk.review, photograph, LARGE)

    @lru_cache(maxsize=1500)
    def small(photograph: str) -> bytes:
        return _make_jpeg(desk.review, photograph, SMALL)

    def answer(number: int, make: Callable[[str], bytes]) -> Response:
        try:
            content = make(_item(desk, number).photograph)
        except LinnaeaError as error:
            raise HTTPException(404, f"cannot be shown: {error}") from error
        return Response(content, media_type="image/jpeg", headers={"Cache-Control": "private, max-age=3600"})

    @app.get("/photos/{number}")
    def photo(number: int) -> Response:
        return answer(number, large)

    @app.get("/thumbs/{number}")
    def thumb(number: int) -> Response:
        return answer(number, small)


def _add_decisions(app: FastAPI, desk: Desk) -> None:
    @app.get("/items/{number}")
    def item(number: int) -> dict[str, Any]:
        return _describe(desk, _item(desk, number))

    @app.post("/decisions")
    def decide(decided: Decided) -> dict[str, Any]:
        items = [_item(desk, number) for number in dict.fromkeys(decided.ids)]
        reviewer = " ".join(decided.reviewer.split())
        try:
            taxon = None if decided.taxon is None else taxon_of(decided.taxon)
            made = [one.decide(decided.decision, reviewer, taxon) for one in items]
        except ValueError as error:
            raise HTTPException(422, str(error)) from error
        desk.log.add(made)
        return {"ids": [one.number for one in items], "progress": desk.progress()}

    @app.post("/undo")
    def undo(asked: Undo) -> dict[str, Any]:
        names = set(desk.log.undo(" ".join(asked.reviewer.split())))
        ids = [one.number for one in desk.review.items if one.file_name in names]
        return {"ids": ids, "progress": desk.progress()}


def _item(desk: Desk, number: int) -> Item:
    if not 0 <= number < len(desk.review.items):
        raise HTTPException(404, f"there is no photograph {number}")
    return desk.review.items[number]


def _make_jpeg(review: Review, photograph: str, longest: int) -> bytes:
    """Return a photograph as a JPEG.

    Raises:
        LinnaeaError: it cannot be shown.
    """
    with DECODING:
        try:
            return make_small_jpeg(review.input_of(photograph).load(longest), longest, quality=88)
        except OSError as error:
            raise ImageError(error.strerror or type(error).__name__) from error


def _describe(desk: Desk, item: Item) -> dict[str, Any]:
    """Return all that the page shows of an item."""
    row, verdict = item.rows[0], desk.log.verdicts[item.file_name]
    offer = item.offer
    together = [desk.review.items[number] for number in desk.review.events[item.event]]
    parts = [one for one in together if one.photograph == item.photograph and one.rows[0]["bbox"]]
    return {
        "id": item.number, "file": item.photograph, "camera": item.camera, "moment": item.moment,
        "certainty": item.certainty, "seen": "" if item.seen is None else row["detection_category"],
        "reason": row["reason"], "box": box_of_item(item),
        "parts": [{"id": one.number, "box": box_of_item(one)} for one in parts],
        "guesses": [_guess(guess) for guess in item.rows if guess["status"] == "ok"],
        "offer": offer.name if isinstance(offer, Taxon) else "" if offer is None else str(offer),
        "offer_taxon": answer_names(offer) if isinstance(offer, Taxon) else None,
        "verdict": _word(verdict), "decisions": _decisions(verdict),
        "event": [{"id": one.number, "word": _word(desk.log.verdicts[one.file_name]), "certainty": one.certainty}
                  for one in together],
    }  # fmt: skip


def _guess(row: dict[str, Any]) -> dict[str, Any]:
    taxon = taxon_of(row)
    lineage = [row[label] for label in RANK_LABELS[:-1] if row[label]]
    return {"name": taxon.name, "common_name": taxon.common_name, "rank": row["rank"], "score": row["score"],
            "lineage": lineage, "taxon": answer_names(taxon)}  # fmt: skip


def _decisions(verdict: Verdict | None) -> list[dict[str, Any]]:
    return [{"reviewer": one.reviewer, "decision": str(one.kind), "time": one.time,
             "name": "" if one.taxon is None else one.taxon.name,
             "common_name": "" if one.taxon is None else one.taxon.common_name}
            for one in (verdict.decisions if verdict else ())]  # fmt: skip


def _word(verdict: Verdict | None) -> str:
    return "" if verdict is None else verdict.word


def _plain(name: str) -> str:
    """Return a file name that is safe in a header."""
    return "".join(letter if letter.isascii() and (letter.isalnum() or letter in "-_. ") else "_" for letter in name)
