"""Lets one process at a time build, switch to or drop a version, and names it to the others.

An advisory lock decides, and it ends with its session, however the process ends. A row of chat.operations says who
holds it; nothing depends on the row.
"""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import psycopg

from services.projector.errors import ProjectionMissing
from services.projector.versions.migrations import bring_up_to_date
from services.projector.versions.registry import REGISTRY
from services.runtime.postgres.pool import Connection, connect
from services.runtime.settings import PostgresSettings

APPLICATION: Final = "gapless-operator"
VIEWS: Final = 0
"""In place of a version: which version the views show."""
NAMED_WITHIN_S: Final = 1.0
"""Maximum wait for the row of a process that has just taken the lock."""
_POLL_S: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """A process that works on a version."""

    operator: str
    """`user@host:pid` of the process."""
    command: str
    started_at: datetime


def this_operator() -> str:
    """Return `user@host:pid` of this process."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user id without an entry in passwd
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}:{os.getpid()}"


@asynccontextmanager
async def only_one(postgres: PostgresSettings, *versions: int, command: str) -> AsyncIterator[Connection]:
    """Hold the locks for changing these versions (or VIEWS), and yield the connection that holds them.

    They belong to the session; behind a pooler to one transaction, which takes no snapshot and so delays no vacuum.
    Raises ProjectionMissing, which names the other process, if another one holds a lock.

    :param command: the command line, for other operators.
    """
    async with _session(postgres) as session:
        await bring_up_to_date(session)
    connection = await connect(postgres, application_name=APPLICATION, autocommit=True)
    try:
        async with connection.work():
            if connection.pooled:
                await connection.execute(REGISTRY["rest_in_transaction"])
            lock = REGISTRY["try_rebuild_lock_of_transaction" if connection.pooled else "try_rebuild_lock"]
            for version in versions:
                row = await (await connection.execute(lock, {"version": version})).fetchone()
                if row is None or not row[0]:
                    raise await _taken(postgres, version)
            row = await (await connection.execute("SELECT pg_backend_pid()")).fetchone()
            assert row is not None
            await _tell(postgres, versions, row[0], command)
            try:
                yield connection
            finally:
                await _forget(postgres, row[0])
    finally:
        await connection.close()  # releases the locks


@asynccontextmanager
async def _session(postgres: PostgresSettings) -> AsyncIterator[Connection]:
    """Yield a session for one unit of work. Behind a pooler the locking transaction can neither show a row nor end."""
    session = await connect(postgres, application_name=APPLICATION, autocommit=True)
    try:
        async with session.work():
            yield session
    finally:
        await session.close()


async def _tell(postgres: PostgresSettings, versions: tuple[int, ...], backend_pid: int, command: str) -> None:
    values = {"backend_pid": backend_pid, "operator": this_operator(), "command": command}
    with contextlib.suppress(psycopg.ProgrammingError):  # no projector has run here yet, so there is no table
        async with _session(postgres) as session:
            for version in versions:
                await session.execute(REGISTRY["tell_operation"], {**values, "version": version})


async def _forget(postgres: PostgresSettings, backend_pid: int) -> None:
    with contextlib.suppress(psycopg.Error, TimeoutError):  # a row that stays means nothing without its lock
        async with _session(postgres) as session:
            await session.execute(REGISTRY["forget_operation"], {"backend_pid": backend_pid})


async def holders(connection: Connection) -> dict[int, Holder]:
    """Return who works on which version now, VIEWS among them. Raises psycopg.Error."""
    rows = await (await connection.execute(REGISTRY["operations"])).fetchall()
    return {
        version: Holder(operator=operator, command=command, started_at=started_at)
        for version, operator, command, started_at in rows
    }


async def _taken(postgres: PostgresSettings, version: int) -> ProjectionMissing:
    """Return the refusal. The other process writes its row just after it has taken the lock."""
    what = f"v{version}" if version != VIEWS else "what readers see"
    deadline_s = time.monotonic() + NAMED_WITHIN_S
    holder = None
    with contextlib.suppress(psycopg.ProgrammingError):
        async with _session(postgres) as session:
            while True:
                holder = (await holders(session)).get(version)
                if holder is not None or time.monotonic() >= deadline_s:
                    break
                await asyncio.sleep(_POLL_S)
    who = ""
    if holder is not None:
        who = f": {holder.operator} runs `{holder.command}` since {holder.started_at:%Y-%m-%d %H:%M:%S} UTC"
    return ProjectionMissing(f"another process is changing {what}{who}; wait until it has ended")
