"""The exceptions of query; `problems` turns each into a response. Pure.

QueryError
├── InvalidCursor    `cursor` is not one of ours: 400, start without it
├── ReadModelUnavailable    Postgres cannot be read now: 503, retry
└── NotCaughtUp      the read model does not reach the requested token in time: 503, retry
"""

from __future__ import annotations


class QueryError(Exception):
    """The base class of query's exceptions. The message is the sentence that the client sees."""


class InvalidCursor(QueryError):
    """The cursor was not issued by us, or was issued for another list. Start the list without one."""

    def __init__(self) -> None:
        super().__init__("The cursor was not issued by this list; request the list without it.")


class ReadModelUnavailable(QueryError):
    """Postgres does not answer, is out of free connections, or has no projection yet. A retry is safe."""


class NotCaughtUp(QueryError):
    """The read model did not reach the token of Gapless-At-Least within the wait. A retry is safe."""
