"""Folds the log from its beginning into a second schema while another one serves.

The stages: load without secondary indexes, index, catch up, hand over to the running projectors. The progress is in the
tables: if a rebuild is killed anywhere, the next run continues. It uses the consumer of the live path, and so the same
mapping. A long log is loaded by several processes (load_processes.py).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import structlog
from psycopg.types.json import Jsonb

from schemas.topics import topic_specs
from services.projector.errors import ProjectionMissing
from services.projector.following.consumer import YOUNG_OBJECTS, TopicId
from services.projector.settings import topic_names
from services.projector.versions.load import Loaded, Loader
from services.projector.versions.load_processes import APPLICATION, load_in_processes
from services.projector.versions.migrations import create_projection, index_projection, migrate
from services.projector.versions.operators import only_one
from services.projector.versions.registry import (
    REGISTRY,
    Place,
    State,
    get_projection,
    list_projections,
    positions,
    version_sql,
)
from services.projector.versions.retirement import drop_held
from services.projector.versions.throttle import Throttle, throttle_by_lag
from services.projector.writing.apply import schema_name
from services.runtime.kafka.errors import TopicsWrong
from services.runtime.kafka.topics import check_topics, end_offsets
from services.runtime.postgres.pool import PostgresPool, open_pool
from services.runtime.process.collector import infrequent_gc
from services.runtime.settings import KafkaSettings, PostgresSettings

WORTH_A_PROCESS_RECORDS: Final = 100_000
"""Records to load per process from which another process is worth its start of about a second."""
MAX_PROCESSES: Final = 4
NEAR_RECORDS: Final = 1_000
"""Records loaded in a catch-up round at or below which the rest is left to the projectors."""
MAX_ROUNDS: Final = 20
ETA_FROM: Final = 0.01
"""Share of its records from which a run estimates its time."""
INDEXES_AT_ONCE: Final = 2
"""A single index does not keep Postgres busy: its parallel workers sort, but one process writes it. Each may take the
memory that registry.sql sets in `take_your_time`."""

log = structlog.get_logger(__name__)


class Stage(StrEnum):
    LOAD = "load"
    INDEX = "index"
    CATCH_UP = "catch-up"
    DONE = "done"


@dataclass(frozen=True, slots=True, kw_only=True)
class RebuildProgress:
    """The progress of a rebuild."""

    stage: Stage
    records_before: int
    """Number of records that earlier runs had folded."""
    records_done: int
    """Number of records that this run has folded into the tables."""
    records_total: int
    """Number of records that this run has to fold: up to the ends of all partitions. It grows with the log."""
    rows: int
    seconds: float
    """Time since this run began."""
    index: str | None = None
    """The index whose creation began last."""
    waits_for_lag: int | None = None
    """The lag of the serving projection, if this run waits until it is lower."""

    @property
    def records_per_s(self) -> float:
        return self.records_done / self.seconds if self.seconds > 0 else 0.0

    @property
    def rows_per_s(self) -> float:
        return self.rows / self.seconds if self.seconds > 0 else 0.0

    @property
    def folded(self) -> int:
        """Number of records that are in the tables, of this run and of earlier ones."""
        return self.records_before + self.records_done

    @property
    def whole(self) -> int:
        """Number of records of the log."""
        return self.records_before + self.records_total

    @property
    def eta_s(self) -> float | None:
        """Estimated time until the log is loaded, without the indexes.

        None before this run has folded ETA_FROM of its records, and while indexes are created: that time is unknown.
        """
        if self.stage is Stage.INDEX or not self.records_done or self.records_done < ETA_FROM * self.records_total:
            return None
        return max(0, self.records_total - self.records_done) / self.records_per_s


OnProgress = Callable[[RebuildProgress], None]


def _not_shown(_progress: RebuildProgress) -> None:
    """Ignore the progress of a rebuild: the default."""


async def rebuild(
    to_version: int,
    *,
    kafka: KafkaSettings,
    postgres: PostgresSettings,
    on_progress: OnProgress = _not_shown,
    partitions_at_once: int = 4,
    max_batch_records: int = 20_000,
    processes: int | None = None,
    max_lag: int | None = None,
    again: bool = False,
) -> RebuildProgress:
    """Build chat_v<to_version> from the log, or continue to; on return it is on standby and ready for a cutover.

    With `again`, what is there of the version is dropped first, unless it serves. With `max_lag`, loading waits while
    the serving projection has more events to apply than that.

    `processes` is the number of processes that load in parallel, including this one; by default one for each core (at
    most MAX_PROCESSES), as far as the log is long enough.
    Raises ProjectionMissing (the version serves, another process is changing it, or another mapping began it),
    PartitionStopped, LoadEnded, TopicsWrong; KafkaError, psycopg.Error, TimeoutError if a server stayed unavailable.
    Running it again continues.
    """
    async with open_pool(postgres, application_name=APPLICATION, autocommit=True) as pool:
        async with pool.connection() as connection:
            await migrate(connection)
        async with only_one(postgres, to_version, command=f"gapless projection rebuild --to v{to_version}"):
            await _refuse_wrong_topics(kafka)
            async with pool.connection() as connection:
                if again and to_version in {p.version for p in await list_projections(connection)}:
                    await drop_held(connection, to_version)
                await create_projection(connection, to_version)
                state = (await get_projection(connection, to_version)).state
            if state is State.SERVING:
                raise ProjectionMissing(
                    f"chat_v{to_version} is what readers see now; rebuild into another version and cut over to it"
                )
            run = _Rebuild(
                to_version,
                pool,
                kafka,
                postgres,
                on_progress,
                partitions_at_once,
                max_batch_records,
                processes,
                max_lag,
            )
            with infrequent_gc(YOUNG_OBJECTS):
                return await run.run(state)


class _Rebuild:
    def __init__(
        self,
        version: int,
        pool: PostgresPool,
        kafka: KafkaSettings,
        postgres: PostgresSettings,
        on_progress: OnProgress,
        partitions_at_once: int,
        max_batch_records: int,
        processes: int | None,
        max_lag: int | None,
    ) -> None:
        self._version = version
        self._pool = pool
        self._kafka = kafka
        self._on_progress = on_progress
        self._postgres = postgres
        self._at_once = partitions_at_once
        self._processes = processes
        self._max_batch_records = max_batch_records
        self._topic = TopicId(kafka)
        self._stage = Stage.LOAD
        self._began_s = time.monotonic()
        self._done = self._searched = self._rows = 0
        self._ends: dict[int, int] = {}
        self._firsts: dict[int, int] = {}
        self._max_lag = max_lag
        self._waits_for_lag: int | None = None
        self._throttle: Throttle | None = None

    async def run(self, state: State) -> RebuildProgress:
        events = topic_names(self._kafka).events
        async with end_offsets(self._kafka.connection, events, range(self._kafka.partitions)) as ask_ends:
            self._ends = await ask_ends()
        async with self._pool.connection() as connection:
            there = await positions(connection, self._version)
        self._firsts = {p: min(there.get(Place(False, p), 0), end) for p, end in self._ends.items()}
        throttled = throttle_by_lag(self._max_lag, pool=self._pool, kafka=self._kafka, on_lag=self._tell_lag)
        async with throttled as self._throttle:
            return await self._run(state)

    async def _run(self, state: State) -> RebuildProgress:
        building = state in (State.BUILDING, State.STOPPED)
        if building:
            async with self._pool.connection() as connection:
                await connection.execute(version_sql(self._version)["hold_autovacuum_off"])
        self._tell()
        if building:
            # After a crash before autovacuum is let in again, the version is still building, so the next run does it.
            await self._load_all(first=True)
            self._stage = Stage.INDEX
            await self._index()
            self._stage = Stage.CATCH_UP
            for _ in range(MAX_ROUNDS):
                if await self._load_all() <= NEAR_RECORDS:
                    break
            # After a crash before this line the next run continues to build; after this line the projectors feed it.
            async with self._pool.connection() as connection:
                there = await positions(connection, self._version)
                loaded = {str(place.partition): offset for place, offset in there.items() if not place.of_search}
                await connection.execute(REGISTRY["mark_fed"], {"version": self._version, "loaded_to": Jsonb(loaded)})
        self._stage = Stage.CATCH_UP
        await self._load_all(building=False)
        self._stage = Stage.DONE
        progress = self._tell()
        log.info("rebuilt", projection=schema_name(self._version), records=self._done, seconds=progress.seconds)
        return progress

    async def _index(self) -> None:
        at_once = min(INDEXES_AT_ONCE, self._postgres.pool_max_size)
        try:
            await index_projection(self._pool.connection, self._version, self._tell_index, at_once=at_once)
        except BaseExceptionGroup as failed:
            raise _first_of(failed) from None
        async with self._pool.connection() as connection, connection.transaction():
            await connection.execute(REGISTRY["take_your_time"])
            # Without it the planner has no statistics of the tables until autovacuum runs.
            await connection.execute(version_sql(self._version)["analyze"])
            await connection.execute(version_sql(self._version)["let_autovacuum_in"])

    async def _load_all(self, *, first: bool = False, building: bool = True) -> int:
        """Load every partition up to where its log ended when its turn came. Returns the number of records: those of
        the tables or those of search, whichever are more."""
        done_before, searched_before = self._done, self._searched
        left = deque(range(self._kafka.partitions))
        processes = 1
        if first:
            left_records = sum(end - self._firsts[p] for p, end in self._ends.items())
            processes = self._processes or useful_processes(left_records, self._kafka.partitions)
        at_once = max(1, min(self._at_once, self._kafka.partitions) // processes)
        try:
            async with asyncio.TaskGroup() as tasks:
                for _ in range(at_once):
                    tasks.create_task(self._load_here(left, building=building))
                if processes > 1:
                    tasks.create_task(self._load_beside(left, processes - 1, at_once))
        except BaseExceptionGroup as failed:
            raise _first_of(failed) from None  # it has ended the others
        return max(self._done - done_before, self._searched - searched_before)

    async def _load_here(self, left: deque[int], *, building: bool) -> None:
        loader = Loader(
            version=self._version,
            pool=self._pool,
            kafka=self._kafka,
            topic=self._topic,
            max_batch_records=self._max_batch_records,
            building=building,
            on_loaded=self._loaded,
            throttle=self._throttle,
        )
        while left:
            await loader.load(left.popleft())

    async def _load_beside(self, left: deque[int], processes: int, at_once: int) -> None:
        await load_in_processes(
            left,
            processes=processes,
            at_once=at_once,
            version=self._version,
            kafka=self._kafka,
            postgres=self._postgres,
            max_batch_records=self._max_batch_records,
            on_loaded=self._loaded,
            max_lag=self._max_lag,
        )

    def _loaded(self, loaded: Loaded) -> None:
        self._rows += loaded.rows
        if loaded.of_search:
            self._searched += loaded.records
        else:
            self._ends[loaded.partition] = loaded.end_offset
            self._done += loaded.records
        if loaded.records:
            self._tell()

    def _tell_lag(self, lag: int | None) -> None:
        self._waits_for_lag = lag
        self._tell()

    def _tell_index(self, name: str) -> None:
        self._tell(index=name)

    def _tell(self, *, index: str | None = None) -> RebuildProgress:
        progress = RebuildProgress(
            stage=self._stage,
            records_before=sum(self._firsts.values()),
            records_done=self._done,
            records_total=max(self._done, sum(end - self._firsts[p] for p, end in self._ends.items())),
            rows=self._rows,
            seconds=time.monotonic() - self._began_s,
            index=index,
            waits_for_lag=self._waits_for_lag,
        )
        self._on_progress(progress)
        return progress


def useful_processes(records: int, partitions: int) -> int:
    """Return the number of processes with which to load this many records."""
    return max(1, min(os.cpu_count() or 1, partitions, MAX_PROCESSES, records // WORTH_A_PROCESS_RECORDS))


def _first_of(failed: BaseExceptionGroup[BaseException]) -> BaseException:
    first = failed.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first


async def _refuse_wrong_topics(kafka: KafkaSettings) -> None:
    names = topic_names(kafka)
    specs = topic_specs(
        names,
        partitions=kafka.partitions,
        reply_partitions=kafka.reply_partitions,
        replication_factor=kafka.replication_factor,
        min_insync_replicas=kafka.min_insync_replicas,
    )
    await check_topics(kafka.connection, names, [spec for spec in specs if spec.name == names.events])


__all__ = ["OnProgress", "RebuildProgress", "Stage", "TopicsWrong", "rebuild"]
