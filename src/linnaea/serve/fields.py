"""Tell callers whose photograph or options do not come as the fields of a form how to send them."""

from fastapi import FastAPI, HTTPException, Request
from fastapi.exception_handlers import request_validation_exception_handler
from fastapi.exceptions import RequestValidationError
from starlette.responses import JSONResponse, Response

_FIELDS = ("rank", "confidence", "top_k", "within", "exclude", "lat", "lon", "month")


def check_address(request: Request) -> None:
    """Check that no field of the form stands in the address, where it would be overlooked.

    Raises:
        HTTPException: one does (422).
    """
    for name in request.query_params:
        if name in _FIELDS:
            raise HTTPException(422, f"{name} stands in the address; send it as a field of the form")


def say_how_to_send(app: FastAPI) -> None:
    """Answer a request without a photograph with how to send one."""

    @app.exception_handler(RequestValidationError)
    async def explain(request: Request, error: RequestValidationError) -> Response:
        missing = {str(one["loc"][-1]) for one in error.errors() if one["type"] == "missing"} & {"files", "file"}
        if not missing:
            return await request_validation_exception_handler(request, error)
        how = f"send it as multipart/form-data, in the field {missing.pop()}"
        return JSONResponse({"detail": f"no photograph in the request; {how}"}, status_code=422)
