"""The projector: records per second from the log into Postgres, live and in a rebuild.

    gapless bench projector

The log is decided before, in four partitions. Live: a `gapless projector` process starts on an empty database and is
measured from its first commit to its last; every commit is synced to disk. Rebuild: `gapless projection rebuild` of the
same log into another version, from its start to its end. The baseline, which runs in turn with them, writes the same
rows to the same server: one plain binary COPY per table into bare tables, then all their indexes. A rebuild is compared
with all tables; live with those without search, which follows by itself when it has time.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from psycopg import Connection, sql

from benchmarks.load.conversations import loads_of, repeats_among
from benchmarks.report.machine import Machine, MachineWatch
from benchmarks.servers.database import blocking_session
from benchmarks.servers.ground import CHECK_EVERY_S, Ground, Log, Positions
from benchmarks.servers.processes import DEADLINE_S, command, profiled

PARTITIONS: Final = 4
TABLES: Final = ("chats", "chat_participants", "chat_messages", "outcomes")
SEARCH: Final = ("message_search",)
BASELINE: Final = "plain binary COPY of the same rows into bare tables, one connection, then all their indexes"
FIRST_REBUILT: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    commands: int = 1_600_000
    """Large, since a rebuild is for long logs: with 400,000 records, a fifth of the time goes into starting and
    catching up.
    """
    chats: int = 1_000
    rounds: int = 3
    profile: Path | None = None
    """File for py-spy's profile of the last live pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Averages over all records of the log."""

    per_s: float
    cpu_us: float
    """CPU time of our processes per record."""
    postgres_us: float
    """CPU time of the Postgres server per record."""
    memory_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """The baseline: seconds of COPY, then of building the indexes; and both for the table of search."""

    per_s: float
    """Records of the log for all tables."""
    without_search_per_s: float
    copy_s: float
    index_s: float
    search_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Medians over the rounds."""

    records: int
    events_per_s: float
    """Live."""
    cpu_us_per_event: float
    rebuild_per_s: float
    rebuild_cpu_us_per_event: float
    baseline: str
    baseline_per_s: float
    baseline_without_search_per_s: float
    ratio: float
    """The rebuild's rate divided by the baseline's, for all tables."""
    live_ratio: float
    """The live rate divided by the baseline's without search."""
    memory_mb: float
    live: Sequence[Run]
    rebuilds: Sequence[Run]
    copies: Sequence[Copied]
    machine: Machine


async def run(options: Options, ground: Ground, on_step: Callable[[str], None] = lambda _step: None) -> Figures:
    """Run the benchmark.

    Raises RuntimeError if rows are missing.
    """
    watched = MachineWatch()
    log = await ground.log(partitions=PARTITIONS)
    on_step(f"deciding {options.commands:,} commands")
    loads = loads_of(partitions=PARTITIONS, chats=options.chats, commands=options.commands)
    records = await ground.decided(log, loads)
    messages = PARTITIONS * (options.commands // PARTITIONS - repeats_among(options.commands // PARTITIONS))
    live: list[Run] = []
    rebuilds: list[Run] = []
    copies: list[Copied] = []
    with tempfile.TemporaryDirectory(prefix="rows-") as folder:
        for number in range(1, options.rounds + 1):
            log = ground.with_fresh_database(log)
            live.append(await _live(ground, log, records, options.profile if number == options.rounds else None))
            on_step(f"round {number}, live: {_told(live[-1])}")
            _require(log, "chat_v1", messages)
            _rest(log)
            rebuilds.append(await _rebuild(ground, log, records))
            on_step(f"round {number}, rebuild: {_told(rebuilds[-1])}")
            _require(log, f"chat_v{FIRST_REBUILT}", messages)
            copies.append(await asyncio.to_thread(_copy, log, Path(folder), records))
            on_step(f"round {number}, COPY: {copies[-1].per_s:,.0f} records/s")
            _drop(ground, log)
    live_per_s = statistics.median(r.per_s for r in live)
    rebuild_per_s = statistics.median(r.per_s for r in rebuilds)
    baseline_per_s = statistics.median(c.per_s for c in copies)
    without_search_per_s = statistics.median(c.without_search_per_s for c in copies)
    return Figures(
        records=records,
        events_per_s=live_per_s,
        cpu_us_per_event=statistics.median(r.cpu_us for r in live),
        rebuild_per_s=rebuild_per_s,
        rebuild_cpu_us_per_event=statistics.median(r.cpu_us for r in rebuilds),
        baseline=BASELINE,
        baseline_per_s=baseline_per_s,
        baseline_without_search_per_s=without_search_per_s,
        ratio=round(rebuild_per_s / baseline_per_s, 3),
        live_ratio=round(live_per_s / without_search_per_s, 3),
        memory_mb=max(r.memory_mb for r in (*live, *rebuilds)),
        live=live,
        rebuilds=rebuilds,
        copies=copies,
        machine=watched.summary(),
    )


async def _live(ground: Ground, log: Log, records: int, profile: Path | None) -> Run:
    async with ground.service("projector", log) as projector, Positions.of(log) as positions:
        deadline = time.monotonic() + DEADLINE_S
        async with profiled(projector.pid, profile):
            while (first := await positions.total()) == 0:
                projector.refuse_to_wait(deadline, "the first commit")
                await asyncio.sleep(CHECK_EVERY_S)
            before, postgres_before_s = projector.mark(), ground.postgres_cpu_s()
            while (found := await positions.total()) < records:
                projector.refuse_to_wait(deadline, f"{records} records projected, there are {found}")
                await asyncio.sleep(CHECK_EVERY_S)
            after, postgres_after_s = projector.mark(), ground.postgres_cpu_s()
    counted = max(1, records - first)
    return Run(
        per_s=round(counted / (after.at_s - before.at_s), 1),
        cpu_us=round(1e6 * (after.cpu_s - before.cpu_s) / counted, 2),
        postgres_us=round(1e6 * (postgres_after_s - postgres_before_s) / counted, 2),
        memory_mb=round(after.memory_mb, 1),
    )


async def _rebuild(ground: Ground, log: Log, records: int) -> Run:
    before_s = ground.postgres_cpu_s()
    done = await command("projection", "rebuild", "--to", f"v{FIRST_REBUILT}", settings=ground.variables(log))
    return Run(
        per_s=round(records / done.answer["seconds"], 1),
        cpu_us=round(1e6 * done.cpu_s / records, 2),
        postgres_us=round(1e6 * (ground.postgres_cpu_s() - before_s) / records, 2),
        memory_mb=round(done.memory_mb, 1),
    )


def _copy(log: Log, folder: Path, records: int) -> Copied:
    """Write the rows of the rebuilt version once more, and measure it."""
    source = sql.Identifier(f"chat_v{FIRST_REBUILT}")
    with blocking_session(log.dsn) as connection:
        connection.execute("CREATE SCHEMA copied")
        for table in (*TABLES, *SEARCH):
            name = sql.Identifier(table)
            query = sql.SQL("COPY {}.{} TO STDOUT (FORMAT BINARY)").format(source, name)
            with (folder / table).open("wb") as file, connection.cursor().copy(query) as copy:
                for data in copy:
                    file.write(data)
            connection.execute(sql.SQL("CREATE TABLE copied.{} (LIKE {}.{})").format(name, source, name))
        _rest(log)
        connection.execute("SET maintenance_work_mem = '256MB'")
        copy_s, index_s = _copy_and_index(connection, TABLES, folder)
        search_s = sum(_copy_and_index(connection, SEARCH, folder))
    return Copied(
        per_s=round(records / (copy_s + index_s + search_s), 1),
        without_search_per_s=round(records / (copy_s + index_s), 1),
        copy_s=round(copy_s, 3),
        index_s=round(index_s, 3),
        search_s=round(search_s, 3),
    )


def _copy_and_index(connection: Connection[Any], tables: Sequence[str], folder: Path) -> tuple[float, float]:
    """Return the seconds of COPY into bare tables, and of building their indexes."""
    began_s = time.monotonic()
    for table in tables:
        query = sql.SQL("COPY copied.{} FROM STDIN (FORMAT BINARY)").format(sql.Identifier(table))
        with (folder / table).open("rb") as file, connection.cursor().copy(query) as copy:
            while data := file.read(256 * 1024):
                copy.write(data)
    copied_s = time.monotonic()
    for (definition,) in connection.execute(
        "SELECT indexdef FROM pg_indexes WHERE schemaname = %s AND tablename = ANY(%s)",
        [f"chat_v{FIRST_REBUILT}", list(tables)],
    ).fetchall():
        connection.execute(definition.replace(f" chat_v{FIRST_REBUILT}.", " copied."))
    return copied_s - began_s, time.monotonic() - copied_s


def _rest(log: Log) -> None:
    """Finish the server's pending work, so that its vacuum and checkpoint do not slow the next measurement."""
    with blocking_session(log.dsn) as connection:
        connection.execute("VACUUM")
        connection.execute("CHECKPOINT")


def _require(log: Log, schema: str, messages: int) -> None:
    with blocking_session(log.dsn) as connection:
        row = connection.execute(
            sql.SQL("SELECT count(*) FROM {}.chat_messages").format(sql.Identifier(schema))
        ).fetchone()
    if row is None or row[0] != messages:
        raise RuntimeError(f"{schema} holds {row} messages, not {messages}")


def _drop(ground: Ground, log: Log) -> None:
    """Drop the measured database, so that the next round has the disk and the cache to itself."""
    name = log.dsn.rsplit("/", 1)[1]
    with blocking_session(ground.dsn) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))
        connection.execute("CHECKPOINT")


def _told(run: Run) -> str:
    return f"{run.per_s:,.0f} records/s, {run.cpu_us} µs CPU each (Postgres {run.postgres_us}), {run.memory_mb} MB"
