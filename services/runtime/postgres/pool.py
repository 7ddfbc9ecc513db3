"""The Postgres connections of a process: every wait has a deadline, every connection names its application.

What a session pins, and what differs behind a pooler, is in services.runtime.postgres.session.
"""

from __future__ import annotations

import asyncio
import select
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import psycopg
from psycopg import AsyncConnection, pq
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.rows import TupleRow
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from services.runtime.postgres.session import Pins, Refusals, Session
from services.runtime.settings import PostgresSettings

Connection = AsyncConnection[TupleRow]

POOL_CLOSE_TIMEOUT_S = 5.0
TCP_USER_TIMEOUT_MS = 10_000
"""How long sent bytes may stay unacknowledged. Detects a vanished host; does not limit slow statements."""

POSTGRES_UNAVAILABLE: Final = (psycopg.OperationalError, psycopg.errors.ReadOnlySqlTransaction)
"""Errors after which the same work may succeed later."""

_READ_ONLY: Final = "25006"
_SPENT: Final = (
    _READ_ONLY,
    "0A000",  # the result type of a cached plan has changed
    "26000",  # our prepared statement is gone
    "42P05",  # or another client has prepared one of its name
    "57P",  # the server or the database is shutting down
    "08",  # the connection is broken
)
"""SQLSTATEs (or their prefixes) after which this session is unusable, while another may work."""


def is_spent(error: BaseException) -> bool:
    """Return whether the session that raised `error` must be closed and the work repeated on another."""
    return isinstance(error, psycopg.Error) and (error.sqlstate or "").startswith(_SPENT)


def is_read_only(error: BaseException) -> bool:
    """Return whether the database refused a statement because it is a write."""
    return isinstance(error, psycopg.Error) and error.sqlstate == _READ_ONLY


def connection_info(settings: PostgresSettings, *, application_name: str) -> str:
    """Return a libpq connection string with all deadlines set. Contains the password: never log it.

    TCP deadlines close connections to a vanished server. Only start-up parameters that every pooler accepts are sent:
    `options` is empty unless the DSN itself has some, so PGOPTIONS has no effect.
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
        # PGHOSTADDR would override the host of the DSN.
        hostaddr=given.get("hostaddr", "" if given.get("host") else None),
    )


def session_pins(settings: PostgresSettings, *, read_only: bool) -> Pins:
    """Return what sessions with these settings pin."""
    return Pins(settings.statement_timeout_s, settings.connect_timeout_s, read_only)


class PostgresPool(AsyncConnectionPool[Session]):
    """A pool of sessions, made by `open_pool`."""

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
        """Return a sentence that says why Postgres refuses our connections; None if it accepts them or is silent."""
        return f"Postgres refuses the connection: {self._refusals.last}." if self._refusals.last else None

    @asynccontextmanager
    async def connection(self, timeout: float | None = None) -> AsyncIterator[Session]:
        """Yield a session for one unit of work; behind a pooler that is one transaction. Raises PoolTimeout."""
        async with self.bare_connection(timeout) as session, session.work():
            yield session

    def bare_connection(self, timeout: float | None = None) -> _Borrowed:
        """Yield a session for work that begins its transactions itself and, behind a pooler, pins settings in them."""
        return _Borrowed(self, timeout)

    async def take_back(self, session: Session, error: BaseException | None) -> None:
        """Take a session back after its unit of work, which raised `error` if any: ends an open transaction, and closes
        the session if it is spent."""
        try:
            if error is not None or session.pgconn.transaction_status != pq.TransactionStatus.IDLE:
                await session.__aexit__(None if error is None else type(error), error, None)
            if error is not None:
                await self._close_if_spent(session, error)
        except psycopg.Error as failed:
            await self._close_if_spent(session, failed)
            raise
        finally:
            await self.putconn(session)

    async def _close_if_spent(self, session: Session, error: BaseException) -> None:
        if is_spent(error):
            await session.close()
            self._outdated |= is_read_only(error)

    async def getconn(self, timeout: float | None = None) -> Session:
        """Return a session, as the base class does, but never an outdated one. A session keeps the defaults from when
        it began, so a caller that retries after `renew` gets a new one."""
        if self._outdated:
            self._outdated, self._oldest_s = False, time.monotonic()
        deadline_s = time.monotonic() + (self.timeout if timeout is None else timeout)
        session = await super().getconn(timeout)
        while session.began_s < self._oldest_s:
            await session.close()
            await self.putconn(session)  # which opens another one in its place
            session = await super().getconn(deadline_s - time.monotonic())
        return session

    def renew(self) -> None:
        """Make every session opened so far outdated: it is closed instead of being used again."""
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
            # If one is dead, its siblings are likely dead too. Left to itself, the pool would find out one by one and
            # double its pause each time, which takes seconds. So all are checked now, while this caller pauses once.
            if self._renewal is None or self._renewal.done():
                self._renewal = asyncio.create_task(self.check(), name="renew the connections of the pool")
            raise


class _Borrowed:
    """A session of a pool, during a block. A class, because a generator takes longer, and each read borrows one."""

    def __init__(self, pool: PostgresPool, timeout: float | None) -> None:
        self._pool = pool
        self._timeout = timeout

    async def __aenter__(self) -> Session:
        self._session = await self._pool.getconn(self._timeout)
        return self._session

    async def __aexit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        await self._pool.take_back(self._session, error)


@asynccontextmanager
async def open_pool(
    settings: PostgresSettings, *, application_name: str, autocommit: bool = False, read_only: bool = False
) -> AsyncIterator[PostgresPool]:
    """Yield a pool of connections, and close it at the end. The pool opens at once even while Postgres is down, and
    keeps trying to connect.

    `async with pool.connection() as connection` waits at most acquire_timeout_s, then raises
    `psycopg_pool.PoolTimeout`. An idle connection on which the server has sent something (most likely that it is
    closing) is checked before it is handed out, so a restart of the server delays the next requests slightly and fails
    none. The check for pending input costs no round trip; the deadlines detect a server that vanished silently.
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
    """Return whether an idle connection has input: the server's notice that it closes, or the end of the stream."""
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN | select.POLLPRI)
    return bool(poll.poll(0))


async def connect(
    settings: PostgresSettings, *, application_name: str, autocommit: bool = False, read_only: bool = False
) -> Session:
    """Open a connection outside of any pool, for work that holds it throughout. The caller closes it.

    :raises psycopg.OperationalError: Postgres cannot be reached within connect_timeout_s.
    :raises TimeoutError: the same, if libpq itself does not give up.
    """
    info = connection_info(settings, application_name=application_name)
    async with asyncio.timeout(2 * settings.connect_timeout_s + 1.0):
        return await Session.connect(
            info, pins=session_pins(settings, read_only=read_only), refusals=Refusals(), autocommit=autocommit
        )


async def postgres_trouble(pool: PostgresPool, *, timeout_s: float = 1.0, writes: bool = False) -> str | None:
    """Check Postgres for readyz. Returns None if it answers (and accepts writes, if `writes`), else a sentence."""
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
