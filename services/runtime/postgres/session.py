"""What a session of ours relies on, pinned when it begins: the one home of session settings.

The defaults of the server, the database, the role and the shell (`PGTZ`, `PGOPTIONS` ...) are for people and for other
programs. A service that took them would write and show whatever they happen to say.

The settings are sent as statements, not with the start of the connection: a pooler such as PgBouncer refuses start-up
parameters that it does not know. Behind a pooler that hands its server connections out by the transaction, a session
setting would reach another client, and a prepared statement might be another client's. So behind any pooler each
transaction pins its settings for itself, and nothing is prepared. A pooler is known by the process id that it gave us
at the start, which is not the one of the server process that answers.
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
"""Variables by which libpq makes the shell's wishes start-up parameters. Those that say how to reach and trust a
server (PGHOST, PGPASSWORD, PGSSLROOTCERT ...) are left as they are."""

_PROTOCOL: Final = {
    "client_encoding": "UTF8",
    "DateStyle": "ISO, YMD",
    "TimeZone": "UTC",
    "standard_conforming_strings": "on",
}
"""How values are spelt. Every pooler carries these with the client, whatever server connection it is given."""

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
    "search_path": "pg_catalog, pg_temp",
    "transform_null_equals": "off",
}
_PINS_OF_NEWER_SERVERS: Final = {
    "idle_session_timeout": "0",  # 14: a pooled session rests as long as it likes
    "transaction_timeout": "0",  # 17: a transaction is as long as its statements
}


def ignore_shell() -> None:
    """Takes IGNORED_VARIABLES out of the environment of this process: libpq has no other way not to read them."""
    for name in IGNORED_VARIABLES:
        os.environ.pop(name, None)


class DatabaseUnfit(psycopg.OperationalError):
    """The database cannot hold what the log holds; the message says what to do."""


@dataclass(frozen=True)
class Pins:
    """The settings of one kind of session."""

    statement_timeout_s: float
    connect_timeout_s: float
    read_only: bool = False
    """Whether it never writes. One that writes takes `default_transaction_read_only` as it finds it: whoever sets that,
    a guard of a nearly full disk for one, wants no writes, and is not to be overruled."""

    @cached_property
    def for_session(self) -> sql.Composed:
        """One statement, for the life of a session."""
        return _set_all(
            {**self._values, **({"default_transaction_read_only": "on"} if self.read_only else {})}, "false"
        )

    @cached_property
    def for_transaction(self) -> sql.Composed:
        """The same for a transaction that has begun; `deadline` goes before it."""
        return _set_all(self._values, "true")

    @cached_property
    def deadline(self) -> sql.Composed:
        """So that no timeout of others cuts the next statement short. Takes no snapshot."""
        return sql.SQL("SET LOCAL statement_timeout = {}").format(sql.Literal(_ms(self.statement_timeout_s)))

    @cached_property
    def greeting(self) -> sql.Composed:
        """The first statements of a session, whatever is at the other end; the last tells the server's process id."""
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
"""What a server says, or libpq of it, without its address."""


class Refusals:
    """Why the server, or what is before it, took no connection the last time; None when it did."""

    def __init__(self) -> None:
        self.last: str | None = None

    def failed(self, error: Exception) -> None:
        """Keeps what the server said; where it said nothing (it is away), there is no reason to keep."""
        said = _REFUSAL.search(str(error))
        self.last = str(error) if isinstance(error, DatabaseUnfit) else said[1].rstrip(".") if said else None


class Session(AsyncConnection[TupleRow]):
    """A connection whose settings are ours. Made by `services.runtime.postgres.pool` only."""

    pooled: bool = False
    """Whether a pooler is between us and the server: then a transaction is all that is ours (see `work`)."""
    pins: Pins
    began_s: float
    """When it was asked for (monotonic)."""

    @classmethod
    async def connect(  # type: ignore[override]  # `pins` is what this class is for
        cls, conninfo: str = "", *, pins: Pins, refusals: Refusals, autocommit: bool = False, **kwargs: Any
    ) -> Session:
        """Raises psycopg.OperationalError, TimeoutError."""
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
        """A piece of work on this session. Behind a pooler it is one transaction, as a session's state would not be
        there for the next; transactions inside are then savepoints of it."""
        if not self.pooled:
            yield
            return
        async with self.transaction():
            await self.execute(sql.SQL("; ").join([self.pins.deadline, self.pins.for_transaction]))
            yield
