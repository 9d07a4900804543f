"""What went wrong, in the shape that each API's programs read."""

import math
import string
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from pleinair.runtime.errors import Argument, Message, PleinairError, shown

from ..errors import Refusal

# What stands in the body, by status, message, param and code.
Shape = Callable[[int, str, str | None, str | None], dict[str, Any]]

_AGAIN = frozenset({429, 503})
"""Statuses after which asking again may do better: for all others a client is told not to."""


def openai(status: int, message: str, param: str | None, code: str | None) -> dict[str, Any]:
    """As OpenAI's: all four keys are there, always."""
    kinds = {429: "rate_limit_error", 401: "authentication_error", 403: "permission_error"}
    kind = kinds.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return {"error": {"message": message, "type": kind, "param": param, "code": code}}


def webui(status: int, message: str, param: str | None, code: str | None) -> dict[str, Any]:
    """As AUTOMATIC1111's webui."""
    return {"error": code or "HTTPException", "detail": message, "body": "", "errors": message}


_SHAPES: Mapping[str, Shape] = {"/sdapi": webui, "/internal": webui, "/controlnet": webui}
"""By the beginning of a path; all others are OpenAI's."""


def shape_of(path: str) -> Shape:
    return next((shape for start, shape in _SHAPES.items() if path.startswith(start)), openai)


def problem(
    path: str,
    status: int,
    message: str,
    *,
    param: str | None = None,
    code: str | None = None,
    retry_after: float | None = None,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """An answer that says why there is none.

    retry_after: seconds after which asking again makes sense.
    """
    sent = dict(headers or {})
    if retry_after is not None:
        sent["Retry-After"] = str(max(1, math.ceil(retry_after)))
    if status not in _AGAIN:
        sent["x-should-retry"] = "false"
    return JSONResponse(shape_of(path)(status, message, param, code), status, sent)


def refused(path: str, error: PleinairError) -> Response:
    """The answer to a request that is not served."""
    if isinstance(error, Refusal):
        return problem(
            path,
            error.status,
            str(error),
            param=error.param,
            code=error.code,
            retry_after=error.retry_after,
        )
    return problem(path, 400, str(error), param=blamed(error), code="invalid_value")


def mistaken(path: str) -> Response:
    """The answer where the server itself is wrong."""
    message = "the server made a mistake; its log says which"
    return problem(path, 500, message, code="server_error")


def blamed(error: PleinairError) -> str | None:
    """The argument that a message names first, which is the one that is wrong."""
    message = error.message
    if not isinstance(message, Message):
        return None
    for _, name, _, _ in string.Formatter().parse(message.text):
        value = message.values[int(name)] if name and name.isdecimal() else name
        if isinstance(value, Argument) or (value is name and name and name.isidentifier()):
            return str(value)
    return None


def handle(app: FastAPI) -> None:
    """Have an application answer all that goes wrong in the shape of the path."""

    async def on_refusal(request: Request, error: Exception) -> Response:
        assert isinstance(error, PleinairError)
        return refused(request.url.path, error)

    async def on_misfit(request: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        param, message = misfit(error.errors())
        status = 422 if shape_of(request.url.path) is webui else 400
        return problem(request.url.path, status, message, param=param, code="invalid_value")

    async def on_status(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        codes = {404: "not_found", 405: "method_not_allowed", 408: "timeout", 413: "too_large"}
        message = str(error.detail)
        if error.status_code in (404, 405) and message in ("Not Found", "Method Not Allowed"):
            message = f"there is no {request.method} {shown(request.url.path)} here"
        code = codes.get(error.status_code, "invalid_request")
        return problem(
            request.url.path, error.status_code, message, code=code, headers=error.headers
        )

    async def on_mistake(request: Request, error: Exception) -> Response:
        return mistaken(request.url.path)

    app.add_exception_handler(PleinairError, on_refusal)
    app.add_exception_handler(RequestValidationError, on_misfit)
    app.add_exception_handler(HTTPException, on_status)
    app.add_exception_handler(Exception, on_mistake)


def misfit(errors: Sequence[Any]) -> tuple[str | None, str]:
    """The field that does not fit, and a line about all that do not, of pydantic's errors."""
    place = _place(errors[0])
    if not place:
        return None, "the body is no JSON object; send one, with Content-Type: application/json"
    lines = []
    for error in errors[:5]:
        given = "" if error["type"] == "missing" else _given(error.get("input"))
        lines.append(f"{'.'.join(map(str, _place(error)))}{given}: {error['msg']}")
    return shown(place[0]), shown("; ".join(lines), 1000)


def _place(error: Any) -> list[Any]:
    """The field, and what in it, that an error is about; none where it is all of the body."""
    if error["type"] == "json_invalid":
        return []
    return [part for part in error["loc"] if part not in ("body", "query", "path")]


def _given(value: object) -> str:
    return f" is {shown(value)}" if isinstance(value, str | int | float | bool) else ""
