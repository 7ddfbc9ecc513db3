"""Turns exceptions of a request into problem documents, and serves the page behind each `type`.

`install_problems(app)` registers the handlers and the pages. Unexpected exceptions do not arrive here:
`middleware.RequestContextMiddleware` catches, logs and answers them, so that they are logged once.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Mapping
from http import HTTPStatus
from itertools import islice
from typing import Any

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException

from services.runtime.web.allowed_methods import METHODS, methods_at
from services.runtime.web.problems import (
    PROBLEM_MEDIA_TYPE,
    PROBLEM_TYPES,
    Problem,
    encode_document,
)

MAX_ERRORS = 50
MAX_POINTER_CHARS = 200
_UNKNOWN = "Extra inputs are not permitted"


def install_problems(app: FastAPI) -> None:
    """Answer every refusal of app with a problem document and serve `/problems/{reason}`."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(RequestValidationError, _request_validation_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.include_router(problem_pages())


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


def _request_id(request: Request) -> str | None:
    value = request.scope.get("state", {}).get("request_id")
    return value if isinstance(value, str) else None


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response(request_id=_request_id(request))


async def _request_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()
    if any(tuple(e["loc"]) == ("body",) for e in found) and not _announces_json(request):
        detail = "Send the body as JSON, with the header Content-Type: application/json."
        problem = Problem("malformed", detail, errors=[{"in": "body", "pointer": "", "detail": detail}])
    else:
        problem = validation_problem(found)
    return problem.response(request_id=_request_id(request))


def _announces_json(request: Request) -> bool:
    media_type = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    return media_type == "application/json" or media_type.endswith("+json")


async def _http_exception(request: Request, error: Exception) -> Response:
    """Respond to refusals of the framework itself: unknown path, wrong method, a body that cannot be parsed."""
    assert isinstance(error, HTTPException)
    request_id = _request_id(request)
    headers = dict(error.headers or {})
    match error.status_code:
        case 400:
            problem = Problem("malformed", "The body cannot be read as JSON in UTF-8.", headers=headers)
        case 401:
            problem = Problem("unauthorized", headers=headers)
        case 403:
            problem = Problem("forbidden", headers=headers)
        case 404 if request.method == "OPTIONS" and request.scope["path"] == "*":  # RFC 9110 §9.3.7: whole server
            return Response(status_code=204, headers={"Allow": ", ".join(METHODS)})
        case 404:
            problem = Problem("not_found", "There is nothing at this path.", headers=headers)
        case 405:
            headers["Allow"] = ", ".join(methods_at(request.scope))
            if request.method == "OPTIONS":
                return Response(status_code=204, headers=headers)
            detail = f"This path has no {request.method}."
            problem = Problem("method_not_allowed", detail, headers=headers)
        case 413:
            problem = Problem("too_large", "The body is larger than this path takes.", headers=headers)
        case status:  # RFC 9457 §4.2.1: about:blank adds nothing to the status
            document: dict[str, Any] = {"type": "about:blank", "title": HTTPStatus(status).phrase}
            document |= {"status": status, "request_id": request_id}
            return Response(encode_document(document), status, headers, PROBLEM_MEDIA_TYPE)
    return problem.response(request_id=request_id)


def problem_pages() -> APIRouter:
    """Return a router with `GET /problems` and `GET /problems/{reason}`, the pages that `type` points to."""
    router = APIRouter(include_in_schema=False)

    @router.get("/problems", response_class=HTMLResponse)
    async def list_problems() -> HTMLResponse:
        items = "".join(
            f'<li><a href="/problems/{reason}"><code>{reason}</code></a> {kind.status} {html.escape(kind.title)}'
            for reason, kind in PROBLEM_TYPES.items()
        )
        return HTMLResponse(page("Problems", f"<p>Every refusal has one of these types.</p><ul>{items}</ul>"))

    @router.get("/problems/{reason}", response_class=HTMLResponse)
    async def show_problem(reason: str) -> HTMLResponse:
        kind = PROBLEM_TYPES.get(reason)
        if kind is None:
            raise Problem("not_found", "There is no problem type of this name; /problems lists them.")
        status = f"<p>Status <code>{kind.status} {HTTPStatus(kind.status).phrase}</code></p>"
        body = f"{status}<p>{_code_spans(kind.explanation)}</p><p><a href='/problems'>All problems</a></p>"
        return HTMLResponse(page(kind.title, body, reason))

    return router


def _code_spans(text: str) -> str:
    """Return text as HTML, with spans in backticks as code."""
    parts = html.escape(text).split("`")
    return "".join(f"<code>{part}</code>" if index % 2 else part for index, part in enumerate(parts))


def page(title: str, body: str, reason: str | None = None) -> str:
    """Return an HTML page around `body`, which is HTML."""
    name = f"<p><code>/problems/{reason}</code></p>" if reason else ""
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{html.escape(title if title == 'Gapless' else f'{title} · Gapless')}</title>"
        "<style>body{font:1rem/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem}"
        "code{background:#8882;padding:.1em .3em;border-radius:3px}:root{color-scheme:light dark}</style>"
        f"<h1>{html.escape(title)}</h1>{name}{body}</html>"
    )
