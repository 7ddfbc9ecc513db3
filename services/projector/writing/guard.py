"""The guard of a batch, of the tables or of search: the position moves together with the rows, or neither does.

The statement `advance` (sql/positions.sql) finds the position's row only if it is where the batch starts. A second
projector waits there for the first one's commit, finds another position, and writes nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import psycopg
from psycopg import AsyncCursor
from psycopg.rows import TupleRow

from services.projector.errors import LostRace, PartitionStopped
from services.projector.mapping.validity import ReaderPosition
from services.runtime.postgres.pool import Connection
from services.runtime.postgres.sql import BoundSql


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """From which position of a partition to which a batch goes."""

    partition: int
    topic_id: str
    start: ReaderPosition
    end: ReaderPosition
    last_record: bytes | None = None
    """The digest of the record before `end`, or None if it is not known."""
    durable: bool = True
    """If False, a crash of the server may lose the last commits (whole ones, never a part)."""


class StatementResult(NamedTuple):
    """The result of a statement that must change as many rows as it was given."""

    block: str
    rows: int
    cursor: AsyncCursor[TupleRow]

    def check(self) -> None:
        """Raise PartitionStopped if it changed another number of rows."""
        if self.cursor.rowcount != self.rows:
            raise PartitionStopped(
                f"{self.block} found {self.cursor.rowcount} of {self.rows} rows: the tables are not what the log says;"
                " prove it with `gapless projection verify` and build a new version with `gapless projection rebuild`"
            )


async def move_position(
    connection: Connection, sql: BoundSql, move: Move, send: Callable[[], Awaitable[Sequence[StatementResult]]]
) -> None:
    """Move a position in one pipeline with the statements that `send` sends. The caller has begun the transaction.

    Raises LostRace if the position is not `move.start`, PartitionStopped if a statement did not find its rows,
    psycopg.Error. After an error the transaction must be rolled back.
    """
    guard = connection.cursor()
    head = move.end.head
    values = {
        "partition": move.partition,
        "topic_id": move.topic_id,
        "from_offset": move.start.next_offset,
        "next_offset": move.end.next_offset,
        "term": head.term,
        "index": head.index,
        "command_offset": head.command_offset,
        "last_timestamp_ms": head.last_timestamp_ms,
        "last_record": move.last_record,
    }
    try:
        async with connection.pipeline():
            if not move.durable:
                await connection.execute(sql["commit_without_waiting"])
            await connection.execute(sql["by_key"])
            await guard.execute(sql["advance"], values)
            results = await send()
    except psycopg.IntegrityError as error:
        if guard.rowcount == 0:  # the rows of this batch exist already: another projector wrote them
            raise _lost_race(move) from error
        raise
    if guard.rowcount != 1:
        raise _lost_race(move)
    for result in results:
        result.check()


def _lost_race(move: Move) -> LostRace:
    return LostRace(
        f"partition {move.partition} is no longer at offset {move.start.next_offset}: another projector has it"
    )
