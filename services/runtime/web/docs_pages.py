"""`GET /docs`: the OpenAPI document to read and to try, served from files of this installation alone.

FastAPI's own page loads Swagger UI from a CDN, which many installations cannot or must not reach, and runs an inline
script. Here the files come from the package `fastapi-offline` (nothing else of it is used), the script that starts
them is a file too, and a Content-Security-Policy forbids everything from other origins.
"""

from __future__ import annotations

import html
from importlib.metadata import distribution
from typing import Final

from fastapi import APIRouter
from fastapi.responses import FileResponse, HTMLResponse, Response

from services.runtime.web.problem_handlers import page
from services.runtime.web.problems import Problem

ASSETS: Final = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css", "favicon.png": "image/png"}
DOCS_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; connect-src 'self';"
    " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""Allows inline styles, which Swagger UI sets on its elements, but no inline scripts."""
PAGE_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_CACHED: Final = {"Cache-Control": "public, max-age=3600"}
_START: Final = """\
SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  deepLinking: true,
  validatorUrl: null,
});
"""


def docs_pages(title: str) -> APIRouter:
    """Return a router with `/`, `/docs` and the page's files. Links are relative, so a proxy may add a path prefix."""
    router = APIRouter(include_in_schema=False)
    name = html.escape(title)

    @router.get("/", response_class=HTMLResponse)
    async def show_start() -> HTMLResponse:
        links = {
            "docs": "the API, to read and to try",
            "openapi.json": "the same for programs",
            "problems": "every refusal, explained",
        }
        items = "".join(f'<li><a href="{path}"><code>/{path}</code></a> {what}' for path, what in links.items())
        return HTMLResponse(page(title, f"<ul>{items}</ul>"), headers={"Content-Security-Policy": PAGE_POLICY})

    @router.get("/docs", response_class=HTMLResponse)
    async def show_docs() -> HTMLResponse:
        body = (
            '<!doctype html><html lang="en"><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<title>{name}</title><link rel="icon" href="docs/favicon.png">'
            '<link rel="stylesheet" href="docs/swagger-ui.css"><div id="swagger-ui"></div>'
            '<script src="docs/swagger-ui-bundle.js"></script><script src="docs/start.js"></script></html>'
        )
        return HTMLResponse(body, headers={"Content-Security-Policy": DOCS_POLICY})

    @router.get("/docs/start.js")
    async def show_start_script() -> Response:
        return Response(_START, media_type="text/javascript", headers=_CACHED)

    @router.get("/docs/{asset}")
    async def show_asset(asset: str) -> Response:
        media_type = ASSETS.get(asset)
        if media_type is None:
            raise Problem("not_found", "There is nothing at this path.")
        path = distribution("fastapi-offline").locate_file(f"fastapi_offline/static/{asset}")
        return FileResponse(str(path), media_type=media_type, headers=_CACHED)

    return router
