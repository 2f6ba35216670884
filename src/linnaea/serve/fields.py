"""Tell callers whose photograph or options do not come as the fields of a form how to send them."""

from fastapi import FastAPI, HTTPException, Request
from fastapi.exception_handlers import request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from starlette.responses import JSONResponse, Response

_FIELDS = ("rank", "confidence", "top_k", "within", "exclude", "lat", "lon", "month")


_AT_START = "the server is started with it (linnaea serve --{}); a request may narrow the labels by within and exclude"
_OF_PREDICT = {
    "k": "send it as top_k", "date": "send the month as month, 1 to 12",
    "species_list": _AT_START.format("labels FILE"), "subset": _AT_START.format("labels FILE"),
    "labels": _AT_START.format("labels"), "model": _AT_START.format("model"), "prior": _AT_START.format("regions"),
    "checklist": _AT_START.format("checklist"), "language": _AT_START.format("language"),
    "preprocess": _AT_START.format("preprocess"),
}  # fmt: skip
"""Options of ``linnaea predict`` that change answers but are not fields of the form, and what to do instead."""


async def check_fields(request: Request) -> None:
    """Check that a request states nothing that would change the answers and be ignored.

    A field of the form is ignored in the address, and so is an option of ``linnaea predict`` that the form does not
    have. Other unknown fields are allowed.

    Raises:
        HTTPException: it does (422).
    """
    for name in request.query_params:
        if name in _FIELDS:
            raise HTTPException(422, f"{name} stands in the address; send it as a field of the form")
    for name in await request.form():
        if name in _OF_PREDICT:
            raise HTTPException(422, f"{name} is no field of the form: {_OF_PREDICT[name]}")


def say_how_to_send(app: FastAPI) -> None:
    """Answer a request without a photograph with how to send one."""

    @app.exception_handler(RequestValidationError)
    async def explain(request: Request, error: RequestValidationError) -> Response:
        missing = {str(one["loc"][-1]) for one in error.errors() if one["type"] == "missing"} & {"files", "file"}
        if not missing:
            return await request_validation_exception_handler(request, error)
        how = f"send it as multipart/form-data, in the field {missing.pop()}"
        return JSONResponse({"detail": f"no photograph in the request; {how}"}, status_code=422)
