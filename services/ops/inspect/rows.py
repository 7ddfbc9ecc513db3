"""Reads what readers see of one message, command or chat, in one snapshot of the serving projection."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from services.ops.errors import UsageError
from services.runtime.postgres.pool import Connection, connect
from services.runtime.postgres.sql import load_sql
from services.runtime.settings import PostgresSettings

_SQL: Final = load_sql("services.ops.inspect.sql", "show.sql")


class MessageRow(NamedTuple):
    """A row of `chat.chat_messages`."""

    chat_id: str
    seq: int
    message_id: str
    sender_id: str
    client_generated_id: str
    sent_at_ms: int
    position: int
    changed_position: int
    revision: int
    deleted: bool
    text: str | None


class OutcomeRow(NamedTuple):
    """A row of `chat.outcomes`, which are kept for 7 days."""

    partition: int
    log_index: int
    type: str | None
    outcome: str
    reason: str | None
    seq: int | None
    position: int | None


class ChatRow(NamedTuple):
    """A row of `chat.chats`, with its newest message and its members."""

    kind: str
    name: str | None
    created_by: str
    created_at_ms: int
    last_seq: int
    last_position: int
    changed_index: int | None
    """Index of the outcome at last_position; None if an older release wrote the row."""
    newest_seq: int | None
    """The highest seq among its messages."""
    members: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """What the serving projection has of a command, in one snapshot."""

    version: str
    """The serving projection, as "v1"."""
    now_ms: int
    """Time of the snapshot."""
    positions: Mapping[int, int]
    """Partition → the next offset to apply."""
    message: MessageRow | None = None
    outcomes: tuple[OutcomeRow, ...] = ()

    def applied(self, partition: int) -> int:
        """Return the first offset that is not applied."""
        return self.positions.get(partition, 0)


class Snapshot:
    """The serving projection at one moment, made by `open_rows`."""

    def __init__(self, connection: Connection, version: str, now_ms: int, positions: Mapping[int, int]) -> None:
        self._connection = connection
        self._version = version
        self._now_ms = now_ms
        self._positions = positions

    async def of_message(self, chat_id: str, seq: int) -> Rows:
        """Return what there is of the message `seq` of a chat."""
        found = await self._all("message_by_seq", chat_id=chat_id, seq=seq)
        return await self._with(MessageRow(*found[0]) if found else None, found[0][2] if found else None)

    async def of_command(self, command_id: str | None) -> Rows:
        """Return what there is of a command; a message's id is the command_id of its send."""
        found = [] if command_id is None else await self._all("message_by_id", message_id=command_id)
        return await self._with(MessageRow(*found[0]) if found else None, command_id)

    async def of_chat(self, chat_id: str) -> tuple[Rows, ChatRow | None]:
        found = await self._all("chat", chat_id=chat_id)
        return await self._with(None, None), ChatRow(*found[0]) if found else None

    async def _with(self, message: MessageRow | None, command_id: str | None) -> Rows:
        outcomes = [] if command_id is None else await self._all("outcomes", command_id=command_id)
        return Rows(
            version=self._version,
            now_ms=self._now_ms,
            positions=self._positions,
            message=message,
            outcomes=tuple(OutcomeRow(*row) for row in outcomes),
        )

    async def _all(self, block: str, **values: object) -> list[tuple[Any, ...]]:
        return await (await self._connection.execute(_SQL.compose(block), values)).fetchall()


@asynccontextmanager
async def open_rows(postgres: PostgresSettings) -> AsyncIterator[Snapshot]:
    """Open a snapshot of the serving projection. Raises UsageError if none is served, psycopg.OperationalError."""
    connection = await connect(postgres, application_name="gapless-show", autocommit=True, read_only=True)
    try:
        async with connection.work():
            if not await _one(connection, "there"):
                raise UsageError("No projection is served yet: start a projector first.")
            await connection.execute(_SQL.compose("begin"))
            await connection.execute(_SQL.compose("lock_projection"))
            version, now_ms = await _one(connection, "serving"), await _one(connection, "now")
            positions: dict[int, int] = dict(await (await connection.execute(_SQL.compose("positions"))).fetchall())
            yield Snapshot(connection, f"v{version}", now_ms, positions)
            await connection.execute(_SQL.compose("commit"))
    finally:
        await connection.close()


async def _one(connection: Connection, block: str) -> Any:
    row = await (await connection.execute(_SQL.compose(block))).fetchone()
    return row[0] if row is not None else None
