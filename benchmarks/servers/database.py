"""The benchmarks' own sessions: pinned as those of the services are, with time for statements on whole tables."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg
from pydantic import SecretStr

from services.runtime.postgres.pool import connect, connection_info, session_pins
from services.runtime.postgres.session import Session, ignore_shell
from services.runtime.settings import PostgresSettings

APPLICATION: Final = "gapless-bench"
STATEMENT_TIMEOUT_S: Final = 3_600.0


def settings(dsn: str) -> PostgresSettings:
    return PostgresSettings(dsn=SecretStr(dsn), statement_timeout_s=STATEMENT_TIMEOUT_S)


async def session(dsn: str) -> Session:
    """Return a session in autocommit mode; the caller closes it. Raises psycopg.Error."""
    return await connect(settings(dsn), application_name=APPLICATION, autocommit=True)


@contextmanager
def blocking_session(dsn: str) -> Iterator[psycopg.Connection]:
    """Yield the same outside of an event loop, closed at the end. Names without a schema are in `public`."""
    ignore_shell()
    info = connection_info(settings(dsn), application_name=APPLICATION)
    with psycopg.connect(info, autocommit=True) as connection:
        connection.execute(session_pins(settings(dsn), read_only=False).for_session)
        connection.execute("SET search_path = public")
        yield connection
