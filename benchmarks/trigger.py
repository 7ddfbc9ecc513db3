"""The baseline of the sequencer: the Postgres trigger that it replaces, driven by pgbench (C, prepared statements).

In its favour: a repeat is not told the seq of its original (ON CONFLICT DO NOTHING returns no row), nobody asks whether
the sender is a member, and there is no HTTP, no validation and no second copy of the data. Against it: every commit is
synced to disk, where one Kafka broker acknowledges from the page cache and takes its durability from replicas.
"""

from __future__ import annotations

import asyncio
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import psycopg

from benchmarks.conversations import BODY_BYTES
from benchmarks.open_loop import Latencies
from devstack.postgres import PostgresServer, postgres_programs
from services.runtime.sql import load_sql

CLIENTS: Final = 8
"""Where it is fastest on few cores: more wait longer and commit no more."""
NAME: Final = "Postgres trigger: advisory lock, MAX(seq) + 1, unique key; 8 clients, each commit synced"


@dataclass(frozen=True, slots=True, kw_only=True)
class TriggerFigures:
    """One run of one shape."""

    commands_per_s: float
    latencies: Latencies
    """Closed loop: each client waits for its answer before it sends again. Better than it would be for users."""


class Trigger:
    """The table with the trigger, and messages in it."""

    def __init__(self, server: PostgresServer) -> None:
        self._server = server

    @classmethod
    @asynccontextmanager
    async def on(cls, server: PostgresServer, *, stored: int) -> AsyncIterator[Trigger]:
        """`stored` messages are there before the first run."""
        blocks = load_sql("benchmarks", "trigger.sql").bind()
        with psycopg.connect(server.dsn, autocommit=True) as connection:
            connection.execute(blocks["schema"])
            connection.execute(blocks["stored"], {"rows": stored})
            connection.execute(blocks["trigger"])
            connection.execute("VACUUM ANALYZE messages")
            connection.execute("CHECKPOINT")
            try:
                yield cls(server)
                (gaps,) = connection.execute(blocks["gaps"]).fetchone() or (None,)
                if gaps != 0:
                    raise RuntimeError(f"{gaps} chats of the baseline have gaps")
            finally:
                connection.execute("DROP TABLE messages; DROP FUNCTION number_message")

    async def run(self, *, chats: int, seconds: int, clients: int = CLIENTS) -> TriggerFigures:
        """Sends to that many chats as fast as the clients can."""
        address = urlsplit(self._server.dsn)
        with tempfile.TemporaryDirectory(prefix="trigger-") as folder:
            process = await asyncio.create_subprocess_exec(
                str(postgres_programs() / "pgbench"),
                *("-h", str(address.hostname), "-p", str(address.port), "-U", str(address.username)),
                *("-n", "-M", "prepared", "-c", str(clients), "-j", "1", "-T", str(seconds)),
                *("-f", str(Path(__file__).with_name("trigger.pgbench"))),
                *("-D", "n=0", "-D", f"chats={chats}", "-D", f"run={uuid.uuid4().hex}"),
                *("-D", f"body={'x' * BODY_BYTES}", "-l", f"--log-prefix={folder}/tx", address.path[1:]),
                env={"PGPASSWORD": str(address.password), "PATH": "/usr/bin:/bin"},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            output, errors = await process.communicate()
            if process.returncode != 0:
                raise RuntimeError(f"pgbench failed: {errors.decode()[-1000:]}")
            # The third column of a transaction's line is its time in microseconds.
            waits = [
                int(line.split(" ", 3)[2]) / 1e6
                for path in Path(folder).glob("tx.*")
                for line in path.read_text().splitlines()
            ]
        tps = next(line for line in output.decode().splitlines() if line.startswith("tps = "))
        rate = float(tps.split()[2])
        return TriggerFigures(commands_per_s=round(rate, 1), latencies=Latencies.of(waits, round(rate)))
