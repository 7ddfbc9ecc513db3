"""The statements of the fold on the scratch file, and the two steps that several nouns need."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from schemas.errors import LogCorrupt
from schemas.events import AcceptedOutcome
from services.ops.verify.projection.tables import Row, Value, columns_in_sqlite
from services.runtime.postgres.sql import load_sql

SQL: Final[Mapping[str, str]] = load_sql("services.ops.verify.sql", "rows.sql", fragments=columns_in_sqlite()).texts
ROWS_SCHEMA: Final = SQL["rows_schema"]


class Statements:
    """Named statements on a scratch database with ROWS_SCHEMA."""

    def __init__(self, scratch: sqlite3.Connection) -> None:
        self._scratch = scratch
        self.index = 0
        """Index of the outcome that is folded: `:index` of every statement."""

    def select(self, block: str, **values: Value) -> Iterator[Row]:
        return self._scratch.execute(SQL[block], values)

    def must(self, block: str, outcome: AcceptedOutcome, what: str, **values: Value) -> None:
        """Run a statement that must change a row. Raises LogCorrupt if it does not: the log contradicts itself."""
        if self._scratch.execute(SQL[block], {"index": self.index, **values}).rowcount < 1:
            raise LogCorrupt(f"{outcome.type} at position {outcome.position} of chat {outcome.chat_id}: {what}")

    def chat_moved(self, outcome: AcceptedOutcome) -> None:
        self.must("chat_moved", outcome, "there is no such chat", chat=outcome.chat_id, position=outcome.position)

    def run(self, *blocks: str, **values: Value) -> None:
        """Run statements that may change any number of rows."""
        for block in blocks:
            self._scratch.execute(SQL[block], values)

    def join(self, outcome: AcceptedOutcome, user_id: str, role: str) -> None:
        self.must(
            "join", outcome, "there is no such chat",
            chat=outcome.chat_id, user=user_id, role=role, at=outcome.at_ms * 1000, position=outcome.position,
        )  # fmt: skip


Fold = Callable[[Statements, AcceptedOutcome], None]
"""Applies one accepted event. Raises LogCorrupt if it contradicts the rows."""
