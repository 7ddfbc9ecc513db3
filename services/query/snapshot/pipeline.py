"""Sends prepared statements to Postgres together and returns their rows, on top of psycopg but without its cursors.

psycopg's pipeline creates a cursor, a converted query and several waits for each statement; for five statements, three
of which only frame the others, that is half the time of a page. Here they are one write and one wait, through the libpq
interface that psycopg exposes (`psycopg.pq`); rows are built by its own loaders.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

import psycopg
from psycopg import AsyncConnection, errors, pq
from psycopg.adapt import Transformer
from psycopg.types.numeric import Int8
from psycopg.waiting import Ready, Wait

Row = tuple[Any, ...]

INT8_OID: Final = 20
FROM_CONTEXT: Final = 0
"""Lets the server infer the type, as for a quoted literal."""

_PLACEHOLDER: Final = re.compile(r"%\((\w+)\)s")


class PreparedStatement(NamedTuple):
    """A statement in the server's syntax: `$1`, `$2` … for the parameters named here."""

    text: bytes
    parameters: tuple[str, ...]


def prepared_statement(text: str) -> PreparedStatement:
    """Convert a block with `%(name)s`; a name that occurs twice is one parameter."""
    names: list[str] = []

    def numbered(match: re.Match[str]) -> str:
        if match[1] not in names:
            names.append(match[1])
        return f"${names.index(match[1]) + 1}"

    return PreparedStatement(_PLACEHOLDER.sub(numbered, text).encode(), tuple(names))


class Pipelines:
    """Runs lists of statements, and tracks what each connection has prepared."""

    def __init__(self, statements: Mapping[str, str]) -> None:
        self._statements = {name: prepared_statement(text) for name, text in statements.items()}
        self._prepared: WeakKeyDictionary[AsyncConnection[Row], dict[str, bytes]] = WeakKeyDictionary()
        self._names = 0
        self._transformer = Transformer()
        """Knows the loaders of all types that it has met. Of no connection: sessions pin UTF-8 and UTC."""

    async def run(
        self,
        connection: AsyncConnection[Row],
        statements: Sequence[tuple[str, Mapping[str, object]]],
        *,
        prepared: bool = True,
    ) -> list[list[Row]]:
        """Return the rows of each statement, in order. Pass `prepared=False` if prepared statements may not survive.

        Raises psycopg.Error as a cursor would, for the first statement that failed; the caller must then roll back an
        open transaction.
        """
        async with connection.lock:
            results = await connection.wait(self._communicate(connection, statements, prepared=prepared))
        return [self._rows(result) for result in results]

    def _communicate(
        self,
        connection: AsyncConnection[Row],
        statements: Sequence[tuple[str, Mapping[str, object]]],
        *,
        prepared: bool,
    ) -> Generator[Wait, Ready | int, list[pq.abc.PGresult]]:
        """Talk to libpq by psycopg's generator protocol: yields what to wait for."""
        pgconn = connection.pgconn
        known = self._prepared.setdefault(connection, {})
        fresh: dict[str, bytes] = {}
        expected: list[str | None] = []
        """For each expected result: the statement whose preparation it confirms, or None if it has rows."""
        # Before anything is sent: a value that cannot be encoded must not leave half a pipeline behind.
        bound = [
            [str(values[key]).encode() for key in self._statements[name].parameters] for name, values in statements
        ]
        pgconn.enter_pipeline_mode()
        for (name, values), written in zip(statements, bound, strict=True):
            statement = self._statements[name]
            if not prepared:
                pgconn.send_query_params(statement.text, written, _types(statement, values))
                expected.append(None)
                continue
            place = known.get(name) or fresh.get(name)
            if place is None:
                # Recorded once the server confirms it: a name that may be in use is never used again.
                self._names += 1
                place = fresh[name] = b"gapless%d" % self._names
                pgconn.send_prepare(place, statement.text, _types(statement, values))
                expected.append(name)
            pgconn.send_query_prepared(place, written)
            expected.append(None)
        pgconn.pipeline_sync()
        while pgconn.flush():
            if (yield Wait.RW) & Ready.R:
                pgconn.consume_input()
        results: list[pq.abc.PGresult] = []
        failed: pq.abc.PGresult | None = None
        for preparing in expected:
            result = yield from _next_result(pgconn)
            if result.status not in _GOOD:
                failed = result if failed is None else failed
            elif preparing is not None:
                known[preparing] = fresh[preparing]  # for the life of the connection, even after a rollback
            if preparing is None:
                results.append(result)
        yield from _next_result(pgconn)  # the end of the pipeline
        pgconn.exit_pipeline_mode()
        if failed is not None:
            raise errors.error_from_result(failed, encoding="utf-8")
        return results

    def _rows(self, result: pq.abc.PGresult) -> list[Row]:
        if not result.nfields:
            return []
        self._transformer.set_pgresult(result)
        rows: list[Row] = self._transformer.load_rows(0, result.ntuples, tuple)
        return rows


def _types(statement: PreparedStatement, values: Mapping[str, object]) -> list[int]:
    return [INT8_OID if isinstance(values[key], Int8) else FROM_CONTEXT for key in statement.parameters]


_GOOD: Final = frozenset({pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK})


def _next_result(pgconn: pq.abc.PGconn) -> Generator[Wait, Ready | int, pq.abc.PGresult]:
    """Return the result of one command, or the end of the pipeline. Raises psycopg.OperationalError if the connection
    broke."""
    while True:
        while pgconn.is_busy():
            yield Wait.R
            pgconn.consume_input()
            if pgconn.is_busy():  # most often the rest is there already, and a wait is a turn of the loop
                pgconn.consume_input()
        result = pgconn.get_result()
        if result is not None:
            return result
        # None separates the results of two commands; a broken connection returns None indefinitely.
        if pgconn.status == pq.ConnStatus.BAD:
            raise psycopg.OperationalError("the connection broke")
