"""Turns query's errors and bad parameters into problem documents."""

from __future__ import annotations

from typing import Final

from services.query.errors import InvalidCursor, QueryError
from services.runtime.web.problems import Problem

RETRY_AFTER_S: Final = 1.0
"""The Retry-After of a 503; the read model is usually milliseconds behind."""


def problem_of(error: QueryError) -> Problem:
    """Return the problem that the client gets."""
    if isinstance(error, InvalidCursor):
        return invalid_parameter("query", "cursor", str(error))
    return Problem("unavailable", str(error), retry_after_s=RETRY_AFTER_S)


def invalid_parameter(place: str, name: str, detail: str) -> Problem:
    """Return a `malformed` problem for one parameter. `place` is `query`, `path`, `header` or `body`."""
    return Problem("malformed", detail, errors=[{"in": place, "pointer": f"/{name}", "detail": detail}])
