"""Every header that an answer may have can be read by a browser's script of an allowed origin."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from services.ops.processes.api import ApiSettings, create_app
from services.runtime.settings import AuthSettings
from services.runtime.web.cors import ALLOWED_HEADERS, EXPOSED_HEADERS

ROOT: Final = Path(__file__).parents[3]
ANSWERING: Final = ("services/ingest", "services/query", "services/runtime", "services/ops/processes/api.py")
READABLE_ANYWAY: Final = {"cache-control", "content-language", "content-length", "content-type", "expires", "pragma"}
"""https://fetch.spec.whatwg.org/#cors-safelisted-response-header-name"""
FOR_THE_BROWSER_ITSELF: Final = {
    "connection",
    "content-security-policy",
    "sec-websocket-version",
    "vary",
    "x-content-type-options",
}
REQUESTED: Final = {"services/runtime/access/signing_keys.py"}
"""Files whose headers belong to requests that we send."""


DICTIONARIES: Final = {"headers", "location", "close", "kept", "told"}
"""Variables in which headers are built."""


def named(node: ast.expr | None, module: Any) -> str | None:
    """Return the text of an expression: a literal, a constant of its module, or either encoded."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
        return node.value if isinstance(node.value, str) else node.value.decode("latin-1")
    if isinstance(node, ast.Name):
        value = getattr(module, node.id, None)
        return value if isinstance(value, str) else None
    return None


def set_in(path: Path) -> Iterator[str]:
    """Yield the header names that a file sets: `headers={...}`, `headers["X"] = ...`, `(b"x", ...)` and the like."""
    module = import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: Sequence[ast.expr | None] = ()
        if isinstance(node, ast.keyword) and node.arg == "headers" and isinstance(node.value, ast.Dict):
            names = node.value.keys
        elif isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Dict):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(
                isinstance(t, ast.Name) and t.id in ("headers", "location", "close", "kept", "told") for t in targets
            ):
                names = node.value.keys
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store):
            names = [node.slice] if ast.unparse(node.value).endswith("headers") else []
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("headers.setdefault"):
            names = node.args[:1]
        elif isinstance(node, ast.Tuple) and len(node.elts) == 2 and isinstance(node.elts[0], ast.Constant):
            names = node.elts[:1] if isinstance(node.elts[0].value, bytes) else []
        yield from (name for each in names if (name := named(each, module)) is not None)


def headers_of_answers() -> dict[str, str]:
    """Return lower-case name → file that sets it."""
    found = {}
    for place in ANSWERING:
        for path in [ROOT / place] if place.endswith(".py") else sorted((ROOT / place).rglob("*.py")):
            where = str(path.relative_to(ROOT))
            if where not in REQUESTED:
                found.update({name.lower(): where for name in set_in(path)})
    return found


def test_every_header_that_is_set_is_exposed_to_browsers() -> None:
    found = headers_of_answers()
    assert {"location", "retry-after", "gapless-token", "www-authenticate", "x-request-id", "allow"} <= found.keys()
    exposed = {name.lower() for name in EXPOSED_HEADERS}
    hidden = found.keys() - exposed - READABLE_ANYWAY - FOR_THE_BROWSER_ITSELF
    assert not {name: found[name] for name in hidden if not name.startswith("access-control-")}


def test_every_header_that_openapi_speaks_of_is_exposed_to_browsers() -> None:
    app, *_ = create_app(ApiSettings(auth=AuthSettings(secret="x" * 32)))
    told = {
        name.lower()
        for item in app.openapi()["paths"].values()
        for operation in item.values()
        for response in operation["responses"].values()
        for name in response.get("headers", {})
    }
    assert not told - {name.lower() for name in EXPOSED_HEADERS} - READABLE_ANYWAY - FOR_THE_BROWSER_ITSELF


def test_every_header_that_openapi_takes_may_be_sent_by_browsers() -> None:
    app, *_ = create_app(ApiSettings(auth=AuthSettings(secret="x" * 32)))
    taken = {
        parameter["name"].lower()
        for item in app.openapi()["paths"].values()
        for operation in item.values()
        for parameter in operation.get("parameters", [])
        if parameter["in"] == "header"
    }
    assert {"if-match", "if-none-match"} <= taken
    assert taken <= {name.lower() for name in ALLOWED_HEADERS}
