"""Compares the two sides of one chat, or partition, and names each difference."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from enum import StrEnum

from schemas.log import Head
from services.ops.verify.projection.snapshot import ProjectionPosition
from services.ops.verify.projection.tables import Row, Table, Value


class Kind(StrEnum):
    CHANGED = "changed"
    """Both sides have the row; a column differs."""
    MISSING = "missing"
    """The log implies the row; the table does not hold it."""
    EXTRA = "extra"
    """The table holds a row that the log does not imply."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One column of one row, or one row, on which log and tables disagree."""

    table: str
    kind: Kind
    key: tuple[tuple[str, Value], ...]
    """The key of the row: `(("chat_id", …), ("seq", 17))`."""
    column: str | None
    """None if the whole row is missing or extra."""
    log: Value
    held: Value
    """What the table holds."""


async def compare_rows(table: Table, log: Iterator[Row], held: AsyncIterator[list[Row]]) -> AsyncIterator[Difference]:
    """Merge the two sides of one group, both in key order; memory is one page.

    A key that a table holds twice (its constraints are gone) is reported as an extra row.
    """
    mine = next(log, None)
    async for page in held:
        for theirs in page:
            while mine is not None and _key(table, mine) < _key(table, theirs):
                yield _whole(table, mine, Kind.MISSING)
                mine = next(log, None)
            if mine is None or _key(table, mine) != _key(table, theirs):
                yield _whole(table, theirs, Kind.EXTRA)
                continue
            for difference in _columns(table, mine, theirs):
                yield difference
            mine = next(log, None)
    while mine is not None:
        yield _whole(table, mine, Kind.MISSING)
        mine = next(log, None)


def compare_position(
    table: str, position: ProjectionPosition, head: Head, topic_id: str, log_end: int
) -> Iterator[Difference]:
    """Compare a row of a table of positions with the head that the fold up to its offset has reached."""
    held: dict[str, tuple[Value, Value]] = {
        "topic_id": (topic_id, position.topic_id),
        "term": (head.term, position.head.term),
        "index": (head.index, position.head.index),
        "command_offset": (head.command_offset, position.head.command_offset),
        "last_timestamp_ms": (head.last_timestamp_ms, position.head.last_timestamp_ms),
    }
    if position.next_offset > log_end:
        held["next_offset"] = (log_end, position.next_offset)
    for column, (log, found) in held.items():
        if log != found:
            yield Difference(
                table=table,
                kind=Kind.CHANGED,
                key=(("partition", position.partition),),
                column=column,
                log=log,
                held=found,
            )


def _key(table: Table, row: Row) -> tuple[Value, ...]:
    return row[1 : table.key_columns]


def _named(table: Table, row: Row) -> tuple[tuple[str, Value], ...]:
    return tuple(zip(table.key, row, strict=False))


def _whole(table: Table, row: Row, kind: Kind) -> Difference:
    held = kind is Kind.EXTRA
    return Difference(
        table=table.name,
        kind=kind,
        key=_named(table, row),
        column=None,
        log="no such row" if held else "a row",
        held="a row" if held else "no such row",
    )


def _columns(table: Table, log: Row, held: Row) -> Iterator[Difference]:
    for column, mine, theirs in zip(table.columns, log, held, strict=True):
        if mine != theirs:
            yield Difference(
                table=table.name,
                kind=Kind.CHANGED,
                key=_named(table, log),
                column=column,
                log=table.show(column, mine),
                held=table.show(column, theirs),
            )
