"""Turns exceptions of a request into problem documents, and serves the page behind each `type`.

`install_problems(app)` registers the handlers and the pages; those of FastAPI's validation are in
`validation_problems`, so that a service without an API does not load FastAPI. Unexpected exceptions do not arrive here:
`middleware.RequestContextMiddleware` catches, logs and answers them, so that they are logged once.
"""

from __future__ import annotations

import html
import json
from http import HTTPStatus
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from services.runtime.web.allowed_methods import METHODS, methods_at
from services.runtime.web.plain_routes import PlainRoute
from services.runtime.web.problem_types import PROBLEM_TYPES
from services.runtime.web.problems import PROBLEM_MEDIA_TYPE, Problem, encode_document, example_document


def install_problems(app: Starlette) -> None:
    """Answer every refusal of app with a problem document and serve `/problems/{reason}`."""
    app.add_exception_handler(Problem, _problem)
    app.add_exception_handler(HTTPException, _http_exception)
    app.router.routes.extend(problem_pages())


def _request_id(request: Request) -> str | None:
    value = request.scope.get("state", {}).get("request_id")
    return value if isinstance(value, str) else None


async def _problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return error.response(request_id=_request_id(request))


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


def problem_pages() -> list[PlainRoute]:
    """Return the routes of `GET /problems` and `GET /problems/{reason}`, the pages that `type` points to."""
    return [PlainRoute("/problems", _list_problems), PlainRoute("/problems/{reason}", _show_problem)]


async def _list_problems(_request: Request) -> HTMLResponse:
    items = "".join(
        f'<li><a href="/problems/{reason}"><code>{reason}</code></a> {kind.status} {html.escape(kind.title)}'
        for reason, kind in PROBLEM_TYPES.items()
    )
    return HTMLResponse(page("Problems", f"<p>Every refusal has one of these types.</p><ul>{items}</ul>"))


async def _show_problem(request: Request) -> HTMLResponse:
    reason = request.path_params["reason"]
    kind = PROBLEM_TYPES.get(reason)
    if kind is None:
        raise Problem("not_found", "There is no problem type of this name; /problems lists them.")
    status = f"<p>Status <code>{kind.status} {HTTPStatus(kind.status).phrase}</code></p>"
    parts = {"When": kind.when, "What to do": kind.action, "Sending it again": kind.retry}
    texts = "".join(f"<h2>{heading}</h2><p>{_code_spans(text)}</p>" for heading, text in parts.items())
    example = html.escape(json.dumps(example_document(reason), indent=2, ensure_ascii=False))
    body = f"{status}{texts}<h2>Example</h2><pre>{example}</pre><p><a href='/problems'>All problems</a></p>"
    return HTMLResponse(page(kind.title, body, reason))


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
        "code{background:#8882;padding:.1em .3em;border-radius:3px}h2{font-size:1rem;margin-bottom:0}p{margin-top:.3em}"
        "pre{background:#8882;padding:.5em;overflow:auto}:root{color-scheme:light dark}</style>"
        f"<h1>{html.escape(title)}</h1>{name}{body}</html>"
    )
