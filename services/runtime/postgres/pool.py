"""The Postgres connections of a process: every wait has a deadline, every connection says whose it is.

What a session pins, and what is different behind a pooler, is in services.runtime.postgres.session.
"""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from services.runtime.postgres.session import Pins, Refusals, Session
from services.runtime.settings import PostgresSettings

Connection = AsyncConnection[TupleRow]

POOL_CLOSE_TIMEOUT_S = 5.0
TCP_USER_TIMEOUT_MS = 10_000
"""How long sent bytes may stay unacknowledged: bounds a vanished host, not a slow statement."""

POSTGRES_UNAVAILABLE: Final = (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction)
"""Errors after which the same work may succeed later."""

_READ_ONLY: Final = "25006"
_SPENT: Final = (
    _READ_ONLY,
    "0A000",  # a cached plan whose result has another type by now
    "26000",  # what we prepared is gone
    "42P05",  # or somebody else prepared it
    "57P",  # the server, or the database, is going down
    "08",  # the connection is not what it was
)
"""SQLSTATEs (or how they begin) that another session may well not say: this one is of no more use."""


def is_spent(error: BaseException) -> bool:
    """Whether the session that raised `error` is to be closed, and the work done again on another."""
    return isinstance(error, psycopg.Error) and (error.sqlstate or "").startswith(_SPENT)


def is_read_only(error: BaseException) -> bool:
    """Whether the database took a statement for a write that it does not allow."""
    return isinstance(error, psycopg.Error) and error.sqlstate == _READ_ONLY


def connection_info(settings: PostgresSettings, *, application_name: str) -> str:
    """The libpq connection string of a connection with all deadlines set. Holds the password: never log it.

    TCP deadlines close what a vanished server leaves behind. No start-up parameter is sent but those that every pooler
    takes: `options` is empty unless the DSN itself has some, so that PGOPTIONS does not count.
    """
    dsn = settings.dsn.get_secret_value()
    given = conninfo_to_dict(dsn)
    return make_conninfo(
        dsn,
        application_name=application_name,
        client_encoding="UTF8",
        connect_timeout=max(1, round(settings.connect_timeout_s)),
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=3,
        tcp_user_timeout=TCP_USER_TIMEOUT_MS,
        options=given.get("options", ""),
        target_session_attrs=given.get("target_session_attrs", "any"),
        # An address in PGHOSTADDR would lead elsewhere than the DSN says.
        hostaddr=given.get("hostaddr", "" if given.get("host") else None),
    )


def session_pins(settings: PostgresSettings, *, read_only: bool) -> Pins:
    """What the sessions of these settings pin."""
    return Pins(settings.statement_timeout_s, settings.connect_timeout_s, read_only)


class PostgresPool(AsyncConnectionPool[Session]):
    """Made by `open_pool`."""

    def __init__(self, info: str, pins: Pins, *, autocommit: bool, **options: Any) -> None:
        self.pins = pins
        self._refusals = Refusals()
        self._outdated = False
        self._oldest_s = 0.0
        self._renewal: asyncio.Task[None] | None = None
        super().__init__(
            info,
            connection_class=Session,
            kwargs={"pins": pins, "refusals": self._refusals, "autocommit": autocommit},
            check=self._check_spoken,
            open=False,
            **options,
        )

    @property
    def refusal(self) -> str | None:
        """A sentence that says why Postgres takes no connection of ours; None where it takes them, or says nothing."""
        return f"Postgres refuses the connection: {self._refusals.last}." if self._refusals.last else None

    @asynccontextmanager
    async def connection(self, timeout: float | None = None) -> AsyncIterator[Session]:
        """A session for one piece of work; behind a pooler that is one transaction. Raises PoolTimeout."""
        async with self.bare_connection(timeout) as session, session.work():
            yield session

    @asynccontextmanager
    async def bare_connection(self, timeout: float | None = None) -> AsyncIterator[Session]:
        """A session for work that begins its transactions itself and, behind a pooler, pins its settings in them."""
        session = await self.getconn(timeout)
        try:
            async with session:  # ends what is left of a transaction
                yield session
        except psycopg.Error as error:
            if is_spent(error):
                await session.close()
                self._outdated |= is_read_only(error)
            raise
        finally:
            await self.putconn(session)

    async def getconn(self, timeout: float | None = None) -> Session:
        """As the pool's own. Of sessions that are outdated it gives none: a session keeps the defaults of when it
        began, so whoever tries again after a while gets one that begins now."""
        if self._outdated:
            self._outdated, self._oldest_s = False, time.monotonic()
        deadline_s = time.monotonic() + (self.timeout if timeout is None else timeout)
        session = await super().getconn(timeout)
        while session.began_s < self._oldest_s:
            await session.close()
            await self.putconn(session)  # which opens another in its place
            session = await super().getconn(deadline_s - time.monotonic())
        return session

    def renew(self) -> None:
        """Every session that was opened until now is closed before it is used again."""
        self._outdated = True

    async def close(self, timeout: float = POOL_CLOSE_TIMEOUT_S) -> None:
        if self._renewal is not None:
            self._renewal.cancel()
        await super().close(timeout)

    async def _check_spoken(self, session: Session) -> None:
        if not session.closed and not _has_spoken(session):
            return
        try:
            await AsyncConnectionPool.check_connection(session)
        except psycopg.Error:
            # Where one is dead its siblings are likely dead too. Left to itself, the pool would find out one by
            # one, and double its pause with each: seconds. So all are tried now, while this caller pauses once.
            if self._renewal is None or self._renewal.done():
                self._renewal = asyncio.create_task(self.check(), name="renew the connections of the pool")
            raise


@asynccontextmanager
async def open_pool(
    settings: PostgresSettings, *, application_name: str, autocommit: bool = False, read_only: bool = False
) -> AsyncIterator[PostgresPool]:
    """A pool of connections, closed at the end. It opens at once even while Postgres is away, and goes on trying.

    `async with pool.connection() as connection` waits at most acquire_timeout_s, then raises
    `psycopg_pool.PoolTimeout`. A connection on which the server said something while it rested (that it is closing,
    most likely) is tried before it is handed out, so that a restart of the server costs the requests after it a
    moment, and no error. To look costs no round trip; a server that vanished without a word is met by the deadlines.
    """
    pool = PostgresPool(
        connection_info(settings, application_name=application_name),
        session_pins(settings, read_only=read_only),
        autocommit=autocommit,
        min_size=settings.pool_min_size,
        max_size=settings.pool_max_size,
        timeout=settings.acquire_timeout_s,
        name=application_name,
    )
    await pool.open(wait=False)
    try:
        yield pool
    finally:
        await pool.close()


def _has_spoken(connection: Connection) -> bool:
    """Whether there is anything to read: of a connection at rest, a farewell or its end."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN | select.POLLPRI)
    return bool(poll.poll(0))


async def connect(
    settings: PostgresSettings, *, application_name: str, autocommit: bool = False, read_only: bool = False
) -> Session:
    """One connection outside of any pool, for work that holds it for its whole life; close it yourself.

    :raises psycopg.OperationalError: Postgres cannot be reached within connect_timeout_s.
    :raises TimeoutError: the same, where libpq itself does not give up.
    """
    info = connection_info(settings, application_name=application_name)
    async with asyncio.timeout(2 * settings.connect_timeout_s + 1.0):
        return await Session.connect(
            info, pins=session_pins(settings, read_only=read_only), refusals=Refusals(), autocommit=autocommit
        )


async def postgres_trouble(pool: PostgresPool, *, timeout_s: float = 1.0, writes: bool = False) -> str | None:
    """A check for readyz: None while Postgres answers (and takes writes, if asked for), else a sentence."""
    try:
        async with asyncio.timeout(timeout_s), pool.connection(timeout=timeout_s) as connection:
            cursor = await connection.execute("SELECT current_setting('transaction_read_only')")
            row = await cursor.fetchone()
    except (PoolTimeout, TimeoutError):
        return pool.refusal or f"Postgres does not answer within {timeout_s:g} s."
    except psycopg.Error as error:
        return f"Postgres answers with an error ({type(error).__name__})."
    if writes and row != ("off",):
        pool.renew()
        return (
            "Postgres takes no writes: the database is read-only (a standby, or default_transaction_read_only is on);"
            " trying again."
        )
    return None
