"""Prepared statements sent to Postgres together, and their rows: on psycopg's own ground, without its cursors.

psycopg's pipeline makes a cursor, a converted query and several waits for each statement; for five statements of which
three only frame the others, that is half the time of a page. Here they are one write and one wait, on the libpq
interface that psycopg offers (`psycopg.pq`), and rows are made by its own loaders.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Mapping, Sequence
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

import psycopg
from psycopg import AsyncConnection, abc, errors, pq
from psycopg.adapt import Transformer
from psycopg.types.numeric import Int8
from psycopg.waiting import Ready, Wait

Row = tuple[Any, ...]

INT8_OID: Final = 20
FROM_CONTEXT: Final = 0
"""The server finds the type, as it does for a literal in quotes."""

_PLACEHOLDER: Final = re.compile(r"%\((\w+)\)s")


class PreparedStatement(NamedTuple):
    """A statement as the server takes it: `$1`, `$2` … for the parameters named here."""

    text: bytes
    parameters: tuple[str, ...]


def prepared_statement(text: str) -> PreparedStatement:
    """From a block with `%(name)s`; a name that comes twice is one parameter."""
    names: list[str] = []

    def numbered(match: re.Match[str]) -> str:
        if match[1] not in names:
            names.append(match[1])
        return f"${names.index(match[1]) + 1}"

    return PreparedStatement(_PLACEHOLDER.sub(numbered, text).encode(), tuple(names))


class Pipelines:
    """Runs lists of statements, and knows what each connection has prepared."""

    def __init__(self, statements: Mapping[str, str]) -> None:
        self._statements = {name: prepared_statement(text) for name, text in statements.items()}
        self._prepared: WeakKeyDictionary[AsyncConnection[Row], dict[str, bytes]] = WeakKeyDictionary()
        self._names = 0

    async def run(
        self,
        connection: AsyncConnection[Row],
        statements: Sequence[tuple[str, Mapping[str, object]]],
        *,
        prepared: bool = True,
    ) -> list[list[Row]]:
        """The rows of each statement, in order. Where what is `prepared` may be gone by the next time, do without.

        Raises psycopg.Error as a cursor would, for the first statement that failed; a transaction that was open is
        then to be rolled back.
        """
        async with connection.lock:
            results = await connection.wait(self._communicate(connection, statements, prepared=prepared))
        transformer = Transformer(connection)
        return [_rows(transformer, result) for result in results]

    def _communicate(
        self,
        connection: AsyncConnection[Row],
        statements: Sequence[tuple[str, Mapping[str, object]]],
        *,
        prepared: bool,
    ) -> Generator[Wait, Ready | int, list[pq.abc.PGresult]]:
        """psycopg's protocol between what talks to libpq and what waits: yields what to wait for."""
        pgconn = connection.pgconn
        known = self._prepared.setdefault(connection, {})
        fresh: dict[str, bytes] = {}
        expected: list[str | None] = []
        """Of each answer to come: the statement that it says is prepared, or None where it has rows."""
        # Before anything is sent: a value that cannot be written must not leave half a pipeline behind.
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
                # Kept when the server says so: a name that may or may not be taken is never used again.
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
                known[preparing] = fresh[preparing]  # for the life of the connection, also past a rollback
            if preparing is None:
                results.append(result)
        yield from _next_result(pgconn)  # the end of the pipeline
        pgconn.exit_pipeline_mode()
        if failed is not None:
            raise errors.error_from_result(failed, encoding="utf-8")
        return results


def _types(statement: PreparedStatement, values: Mapping[str, object]) -> list[int]:
    return [INT8_OID if isinstance(values[key], Int8) else FROM_CONTEXT for key in statement.parameters]


_GOOD: Final = frozenset({pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK})


def _next_result(pgconn: pq.abc.PGconn) -> Generator[Wait, Ready | int, pq.abc.PGresult]:
    """The answer to one command, or the end of the pipeline. Raises psycopg.OperationalError where there is no more
    connection."""
    while True:
        while pgconn.is_busy():
            yield Wait.R
            pgconn.consume_input()
        result = pgconn.get_result()
        if result is not None:
            return result
        # Nothing stands between the answers of two commands; of a connection that broke, nothing comes for ever.
        if pgconn.status == pq.ConnStatus.BAD:
            raise psycopg.OperationalError("the connection broke")


def _rows(transformer: abc.Transformer, result: pq.abc.PGresult) -> list[Row]:
    if not result.nfields:
        return []
    transformer.set_pgresult(result)
    rows: list[Row] = transformer.load_rows(0, result.ntuples, tuple)
    return rows
