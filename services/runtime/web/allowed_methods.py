"""The methods that a path has, wherever they are declared."""

from __future__ import annotations

from typing import Final

from starlette.routing import Match
from starlette.types import Scope

METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_DECLARED: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")


def methods_at(scope: Scope) -> list[str]:
    """What the path of this request knows; empty where there is nothing. HEAD comes with GET, OPTIONS with any.

    The framework names those of the first route with the path, and each of our methods is a route of its own, on
    routers that do not know each other.
    """
    routes = scope["app"].routes
    asked = [{**scope, "method": method} for method in _DECLARED]
    found = [s["method"] for s in asked if any(route.matches(s)[0] is Match.FULL for route in routes)]
    if not found:
        return []
    return [method for method in METHODS if method in found or (method == "HEAD" and "GET" in found)] + ["OPTIONS"]
