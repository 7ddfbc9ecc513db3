"""Problem documents for requests that FastAPI or pydantic found invalid: every fault with its place."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError

from services.runtime.web.problems import Problem

MAX_ERRORS = 50
MAX_POINTER_CHARS = 200
_UNKNOWN = "Extra inputs are not permitted"


def install_validation_problems(app: FastAPI) -> None:
    """Answer requests that do not fit their path's parameters and models with `malformed`."""
    app.add_exception_handler(RequestValidationError, _request_validation_error)


def validation_problem(errors: Iterable[Mapping[str, Any]], *, most: int = MAX_ERRORS) -> Problem:
    """Return a `malformed` problem for pydantic's errors, whose locs start with body, query, path or header.

    Only the location and pydantic's sentence are kept, never the input. Errors beyond `most` are ignored; the code
    that validates must bound their number.
    """
    found = [_field_error(error) for error in islice(errors, most + 1)]
    detail = "The request does not have the expected form"
    if len(found) > most:
        detail += f": more than {most} places are wrong."
    elif len(found) > 1:
        detail += f": {len(found)} places are wrong."
    else:
        detail += ": see errors."
    return Problem("malformed", detail, errors=found[:most])


def unknown_fields_problem(locations: Iterable[tuple[str, ...]]) -> Problem:
    """Return the same problem for more unknown fields than are reported, given the first ones."""
    found = [_field_error({"loc": loc, "type": "extra_forbidden", "msg": _UNKNOWN}) for loc in locations]
    return Problem("malformed", f"The request has more than {len(found)} fields that are not known.", errors=found)


def _field_error(error: Mapping[str, Any]) -> dict[str, str]:
    part, *path = error["loc"] or ("body",)
    if error["type"] == "json_invalid":
        reason = error.get("ctx", {}).get("error", "not JSON")
        return {"in": "body", "pointer": "", "detail": f"The body is not valid JSON: {reason}."}
    detail = str(error["msg"]).removeprefix("Value error, ")
    return {"in": str(part), "pointer": json_pointer(path), "detail": detail}


def json_pointer(path: Iterable[object]) -> str:
    """Return a JSON pointer (RFC 6901) of at most MAX_POINTER_CHARS: clients choose the names of unknown fields."""
    escaped = (str(part)[:MAX_POINTER_CHARS].replace("~", "~0").replace("/", "~1") for part in path)
    return "".join(f"/{part}" for part in escaped)[:MAX_POINTER_CHARS]


async def _request_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if any(tuple(e["loc"]) == ("body",) for e in found) and not _announces_json(request):
        detail = "Send the body as JSON, with the header Content-Type: application/json."
        problem = Problem("malformed", detail, errors=[{"in": "body", "pointer": "", "detail": detail}])
    else:
        problem = validation_problem(found)
    return problem.response(request_id=request.scope.get("state", {}).get("request_id"))


def _announces_json(request: Request) -> bool:
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")
