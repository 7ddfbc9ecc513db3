"""What query raises; `refusals` says what answer each becomes. Pure.

QueryError
├── InvalidCursor    `cursor` is not one that we gave: 400, start without it
├── ReadModelUnavailable    Postgres cannot be read now: 503, ask again
└── NotCaughtUp      the read model does not hold the asked token in time: 503, ask again
"""

from __future__ import annotations


class QueryError(Exception):
    """The root of everything that query raises; the message is the sentence that the asker sees."""


class InvalidCursor(QueryError):
    """A cursor that was not given by us, or was given for another list. Start the list without one."""

    def __init__(self) -> None:
        super().__init__("The cursor is not one that this list gave; ask for the list without it.")


class ReadModelUnavailable(QueryError):
    """Postgres does not answer, is out of free connections, or holds no projection yet. Asking again is safe."""


class NotCaughtUp(QueryError):
    """The read model did not reach the token of Gapless-At-Least within the wait. Asking again is safe."""
