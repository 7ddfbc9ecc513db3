"""`GET /demo`: the page, under a Content-Security-Policy that names its script and its styles by their hashes."""

from __future__ import annotations

import base64
import hashlib
import re
from importlib.resources import files

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from services.ops.demo_page.settings import DEMO_PATH


def demo_page() -> APIRouter:
    """Return a router with the page."""
    page = files(__package__).joinpath("demo.html").read_text(encoding="utf-8")
    headers = {
        "Content-Security-Policy": policy_of(page),
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cache-Control": "no-store",
    }
    router = APIRouter(include_in_schema=False)

    @router.get(DEMO_PATH, response_class=HTMLResponse)
    async def show_demo() -> HTMLResponse:
        return HTMLResponse(page, headers=headers)

    return router


def policy_of(page: str) -> str:
    """Return the policy under which only the page's own script runs, which cannot make markup of strings either."""
    return (
        f"default-src 'none'; script-src {_hash_of(page, 'script')}; style-src {_hash_of(page, 'style')};"
        " connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none';"
        " require-trusted-types-for 'script'; trusted-types 'none'"
    )


def _hash_of(page: str, element: str) -> str:
    [content] = re.findall(rf"<{element}>(.*?)</{element}>", page, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
