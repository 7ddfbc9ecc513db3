"""What live reads of the read model: where it stands, and the chats of a user. Each in one snapshot."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import psycopg
from psycopg_pool import PoolTimeout

from schemas.ids import ChatId, UserId
from schemas.log import Head
from services.live.errors import StandingUnavailable
from services.live.hub.hub import SMALL_CHAT_MEMBERS, ChatStanding, UserStanding
from services.live.tail.tail import TailPosition
from services.runtime.postgres.pool import PostgresPool
from services.runtime.postgres.sql import load_sql

APPLICATION_NAME: Final = "gapless-live"
Row = tuple[Any, ...]


class StandingReader:
    """:param pool: returns the pool, or None if it is closed. Its connections are read-only and in autocommit mode."""

    def __init__(self, pool: Callable[[], PostgresPool | None]) -> None:
        self._pool = pool
        self._sql = load_sql("services.live.sql").bind()

    async def positions(self) -> tuple[str, dict[int, TailPosition]]:
        """Return the id of the log's topic, "" if nothing is projected yet, and where each partition stands.

        Raises StandingUnavailable.
        """
        (rows,) = await self._read(("positions", {}))
        found = {
            partition: TailPosition(next_offset, Head(term, index, command_offset, last_timestamp_ms))
            for partition, _, next_offset, term, index, command_offset, last_timestamp_ms in rows
        }
        return next((row[1] for row in rows), ""), found

    async def of_user(self, user_id: UserId) -> UserStanding:
        """Return the chats of a user, and where each partition stands in the same snapshot.

        Raises StandingUnavailable.
        """
        parameters = {"user_id": user_id, "counted": SMALL_CHAT_MEMBERS + 1}
        of_user = ("chats_of_user", parameters)
        chats, positions = await self._read(of_user, ("positions", {}))
        return UserStanding(
            chats=[
                ChatStanding(ChatId(chat_id), is_member, changed_index or 0, last_position, members)
                for chat_id, is_member, changed_index, last_position, members in chats
            ],
            heads={row[0]: row[4] for row in positions},
        )

    async def _read(self, *statements: tuple[str, dict[str, object]]) -> list[Sequence[Row]]:
        """Return the rows of each statement, all of one snapshot."""
        pool = self._pool()
        if pool is None:
            raise StandingUnavailable("This process is stopping.")
        try:
            async with pool.connection() as session:
                found: list[Sequence[Row]] = []
                try:
                    await session.execute(self._sql["begin"])
                    if session.pooled:
                        await session.execute(session.pins.deadline)
                        await session.execute(session.pins.for_transaction)
                    await session.execute(self._sql["lock_projection"])
                    for name, parameters in statements:
                        cursor = await session.execute(self._sql[name], parameters)
                        found.append(await cursor.fetchall())
                finally:
                    await session.execute(self._sql["commit"])
                return found
        except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName) as error:
            raise StandingUnavailable("The read model has no projection yet; ask again.") from error
        except (psycopg.Error, PoolTimeout, TimeoutError) as error:
            raise StandingUnavailable("The read model cannot be read at the moment; ask again.") from error
