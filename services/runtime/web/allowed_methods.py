"""The methods that a path supports, on whichever routers they are declared."""

from __future__ import annotations

from typing import Final

from starlette.routing import Match
from starlette.types import Scope

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_DECLARED: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")


def methods_at(scope: Scope) -> list[str]:
    """Return the methods of the request's path; empty if no route has it. GET implies HEAD, any method OPTIONS.

    The framework only returns the methods of the first matching route, but each of our methods is a route of its own,
    possibly on separate routers.
    """
    routes = scope["app"].routes
    asked = [{**scope, "method": method} for method in _DECLARED]
    found = [s["method"] for s in asked if any(route.matches(s)[0] is Match.FULL for route in routes)]
    if not found:
        return []
    return [method for method in METHODS if method in found or (method == "HEAD" and "GET" in found)] + ["OPTIONS"]
