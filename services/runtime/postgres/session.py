"""The settings that our sessions rely on, pinned when a session begins: the one home of session settings.

The defaults of the server, the database, the role and the shell (`PGTZ`, `PGOPTIONS` ...) are for people and for other
programs. A service that took them would behave differently on each installation.

The settings are sent as statements, not as start-up parameters: a pooler such as PgBouncer refuses start-up parameters
that it does not know. Behind a pooler that assigns server connections per transaction, a session setting would leak to
another client, and a prepared statement might be another client's. So behind any pooler each transaction pins its own
settings, and nothing is prepared. A pooler is detected by the process id that it sent at start-up, which differs from
that of the server process that answers.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection, IsolationLevel, sql
from psycopg.rows import TupleRow

IDLE_TRANSACTION_TIMEOUT_S: Final = 60.0

IGNORED_VARIABLES: Final = ("PGOPTIONS", "PGTZ", "PGDATESTYLE", "PGGEQO", "PGCLIENTENCODING")
"""Environment variables that libpq turns into start-up parameters. Those that say how to reach and trust a server
(PGHOST, PGPASSWORD, PGSSLROOTCERT ...) are left alone."""

_PROTOCOL: Final = {
    "client_encoding": "UTF8",
    "DateStyle": "ISO, YMD",
    "TimeZone": "UTC",
    "standard_conforming_strings": "on",
}
"""Formats of values. Every pooler restores these for the client, whichever server connection it gets."""

_PINS: Final = {
    **_PROTOCOL,
    "IntervalStyle": "postgres",
    "array_nulls": "on",
    "bytea_output": "hex",
    "client_min_messages": "warning",
    "default_transaction_deferrable": "off",
    "default_transaction_isolation": "read committed",
    "extra_float_digits": "1",
    "jit": "off",
    "lock_timeout": "0",
    "plan_cache_mode": "auto",
    "quote_all_identifiers": "off",
    "row_security": "on",
    "search_path": "pg_catalog, pg_temp",
    "transform_null_equals": "off",
}
_PINS_OF_NEWER_SERVERS: Final = {
    "idle_session_timeout": "0",  # 14: a pooled session may be idle for any time
    "transaction_timeout": "0",  # 17: a transaction may take as long as its statements
}


def ignore_shell() -> None:
    """Remove IGNORED_VARIABLES from this process's environment: libpq offers no other way to ignore them."""
    for name in IGNORED_VARIABLES:
        os.environ.pop(name, None)


class DatabaseUnfit(psycopg.OperationalError):
    """The database cannot store everything that the log can. The message says what to do."""


@dataclass(frozen=True)
class Pins:
    """The settings of one kind of session."""

    statement_timeout_s: float
    connect_timeout_s: float
    read_only: bool = False
    """Whether the session never writes. One that writes respects `default_transaction_read_only`: whatever set it, for
    example a guard of a nearly full disk, wants no writes and must not be overruled."""

    @cached_property
    def for_session(self) -> sql.Composed:
        """Return the statement that pins the settings for the life of a session."""
        return _set_all(
            {**self._values, **({"default_transaction_read_only": "on"} if self.read_only else {})}, "false"
        )

    @cached_property
    def for_transaction(self) -> sql.Composed:
        """Return the statement that pins the settings for the current transaction; send `deadline` before it."""
        return _set_all(self._values, "true")

    @cached_property
    def deadline(self) -> sql.Composed:
        """Return a statement that sets the next statement's timeout to ours. Takes no snapshot."""
        return sql.SQL("SET LOCAL statement_timeout = {}").format(sql.Literal(_ms(self.statement_timeout_s)))

    @cached_property
    def greeting(self) -> sql.Composed:
        """Return the first statements of any session, pooled or not; the last returns the server's process id."""
        protocol = [
            sql.SQL("SET {} = {}").format(sql.Identifier(name), sql.Literal(value)) for name, value in _PROTOCOL.items()
        ]
        return sql.SQL("; ").join([self.deadline, *protocol, sql.SQL("SELECT pg_catalog.pg_backend_pid()")])

    @property
    def _values(self) -> dict[str, str]:
        return {
            **_PINS,
            "statement_timeout": _ms(self.statement_timeout_s),
            "idle_in_transaction_session_timeout": _ms(IDLE_TRANSACTION_TIMEOUT_S),
        }


def _ms(seconds: float) -> str:
    return str(max(1, round(seconds * 1000)))


def _set_all(values: Mapping[str, str], local: str) -> sql.Composed:
    parts = [
        sql.SQL("pg_catalog.set_config({}, {}, " + local + ")").format(sql.Literal(name), sql.Literal(value))
        for name, value in values.items()
    ]
    parts += [
        sql.SQL(
            "CASE WHEN pg_catalog.current_setting({0}, true) IS NOT NULL"
            " THEN pg_catalog.set_config({0}, {1}, " + local + ") END"
        ).format(sql.Literal(name), sql.Literal(value))
        for name, value in _PINS_OF_NEWER_SERVERS.items()
    ]
    return sql.SQL("SELECT ") + sql.SQL(", ").join(parts)


_REFUSAL: Final = re.compile(r"(?:FATAL:\s+|failed: (?=.*(?:SSL|TLS|certificate|authentication)))(.+)")
"""Extracts the message of the server, or of libpq about it, without the address."""


class Refusals:
    """Why the server, or a pooler in front of it, refused the last connection; None if it accepted it."""

    def __init__(self) -> None:
        self.last: str | None = None

    def failed(self, error: Exception) -> None:
        """Store the server's reason, or None if the server is unreachable and sent none."""
        said = _REFUSAL.search(str(error))
        self.last = str(error) if isinstance(error, DatabaseUnfit) else said[1].rstrip(".") if said else None


class Session(AsyncConnection[TupleRow]):
    """A connection with our settings. Made only by `services.runtime.postgres.pool`."""

    pooled: bool = False
    """Whether a pooler is between us and the server. Then only a transaction is exclusively ours (see `work`)."""
    pins: Pins
    began_s: float
    """Monotonic time at which the connection was requested."""

    @classmethod
    async def connect(  # type: ignore[override]  # `pins` is what this class is for
        cls, conninfo: str = "", *, pins: Pins, refusals: Refusals, autocommit: bool = False, **kwargs: Any
    ) -> Session:
        """Connect and pin the settings. Raises psycopg.OperationalError, TimeoutError."""
        ignore_shell()
        began_s = time.monotonic()
        try:
            session = await super().connect(conninfo, autocommit=True, **kwargs)
            session.pins, session.began_s = pins, began_s
            try:
                async with asyncio.timeout(pins.connect_timeout_s):
                    await session._begin(autocommit=autocommit)
            except BaseException:
                await session.close()
                raise
        except psycopg.Error as error:
            refusals.failed(error)
            raise
        refusals.last = None
        return session

    async def _begin(self, *, autocommit: bool) -> None:
        pins = self.pins
        encoding = self.info.parameter_status("server_encoding")
        if encoding != "UTF8":
            raise DatabaseUnfit(
                f"the database has the encoding {encoding}, which cannot hold every message: create it anew with"
                " ENCODING 'UTF8'"
            )
        cursor = await self.execute(pins.greeting)
        while cursor.nextset():
            pass
        row = await cursor.fetchone()
        assert row is not None
        if row[0] == self.info.backend_pid:
            await self.execute(pins.for_session)
        else:
            self.pooled = True
            self.prepare_threshold = None
            await self.set_isolation_level(IsolationLevel.READ_COMMITTED)
            await self.set_deferrable(False)
            if pins.read_only:
                await self.set_read_only(True)
        await self.set_autocommit(autocommit)

    @asynccontextmanager
    async def work(self) -> AsyncIterator[None]:
        """Run one unit of work on this session. Behind a pooler it is one transaction, because session state would not
        survive it; transactions inside are then savepoints."""
        if not self.pooled:
            yield
            return
        async with self.transaction():
            await self.execute(sql.SQL("; ").join([self.pins.deadline, self.pins.for_transaction]))
            yield
