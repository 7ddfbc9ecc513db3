"""The headers of a request, looked up by name without parsing them again."""

from __future__ import annotations

from typing import Final

from starlette.types import Scope

HEADERS: Final = "gapless.headers"
"""Scope key of a dict set by RequestContextMiddleware: header name → value, or None if the header came more than
once."""


def headers_once(scope: Scope) -> dict[bytes, bytes | None]:
    """Return the headers by lower-case name. The value is None if a name occurs more than once."""
    return once_each(scope["headers"])


def once_each(lines: list[tuple[bytes, bytes]]) -> dict[bytes, bytes | None]:
    """Return header lines by name. The value is None if a name occurs more than once."""
    found: dict[bytes, bytes | None] = dict(lines)
    if len(found) != len(lines):
        seen: set[bytes] = set()
        for name, _ in lines:
            if name in seen:
                found[name] = None
            seen.add(name)
    return found


def only_header(scope: Scope, name: bytes) -> bytes | None:
    """Return the header's value, or None unless it is present exactly once."""
    once: dict[bytes, bytes | None] = scope[HEADERS]
    return once.get(name)
