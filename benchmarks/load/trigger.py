"""The baseline of the sequencer: the Postgres trigger that it replaces, driven by pgbench (C, prepared statements).

In its favour: a repeat does not get the seq of its original (ON CONFLICT DO NOTHING returns no row), membership is not
checked, and there is no HTTP, no validation and no second copy of the data. Against it: every commit is synced to disk,
while one Kafka broker acknowledges from the page cache and gets its durability from replicas.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.load.conversations import BODY_BYTES
from benchmarks.load.open_loop import Latencies
from benchmarks.load.pgbench import pgbench
from benchmarks.servers.database import blocking_session
from services.runtime.postgres.sql import load_sql

CLIENTS: Final = 8
"""The fastest number on few cores: with more, each waits longer and the rate does not grow."""
NAME: Final = "Postgres trigger: advisory lock, MAX(seq) + 1, unique key; 8 clients, each commit synced"


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerFigures:
    """One run of one shape."""

    commands_per_s: float
    latencies: Latencies
    """Latencies of a closed loop, in which each client waits for its response: better than users would see."""


class Trigger:
    """The table with the trigger, and messages in it."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn

    @classmethod
    @asynccontextmanager
    async def on(cls, dsn: str, *, stored: int) -> AsyncIterator[Trigger]:
        """Create the table with `stored` messages."""
        blocks = load_sql("benchmarks.load", "trigger.sql").bind()
        with blocking_session(dsn) as connection:
            connection.execute(blocks["schema"])
            connection.execute(blocks["stored"], {"rows": stored})
            connection.execute(blocks["trigger"])
            connection.execute("VACUUM ANALYZE messages")
            connection.execute("CHECKPOINT")
            try:
                yield cls(dsn)
                (gaps,) = connection.execute(blocks["gaps"]).fetchone() or (None,)
                if gaps != 0:
                    raise RuntimeError(f"{gaps} chats of the baseline have gaps")
            finally:
                connection.execute("DROP TABLE messages; DROP FUNCTION number_message")

    async def run(self, *, chats: int, seconds: int, clients: int = CLIENTS) -> TriggerFigures:
        """Send to that many chats as fast as the clients can."""
        found = await pgbench(
            self._dsn,
            Path(__file__).with_name("trigger.pgbench"),
            clients=clients,
            seconds=seconds,
            variables={"n": "0", "chats": str(chats), "run": uuid.uuid4().hex, "body": "x" * BODY_BYTES},
        )
        return TriggerFigures(commands_per_s=found.per_s, latencies=found.latencies)
