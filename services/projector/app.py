"""The projector process: for each assigned partition of each projection that is fed, a worker and one of its search.

The consumer group only hints at the partitions. Which projections are fed is stored in chat.projections, to which a
rebuild adds. A stopped partition stays assigned to this process, so that its trouble does not move through the fleet,
and is not started again until the process restarts.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import psycopg
import structlog

from schemas.topics import topic_specs
from services.projector import metrics
from services.projector.following.consumer import YOUNG_OBJECTS, PartitionConsumer, TopicId
from services.projector.following.feeds import FEEDS, HISTORY, Feed
from services.projector.following.precedence import Precedence
from services.projector.following.prune import keep_pruning
from services.projector.following.worker import Ended, PartitionWorker
from services.projector.mapping.rows import MAPPING_VERSION
from services.projector.settings import ProjectorSettings, topic_names
from services.projector.versions.migrations import migrate
from services.projector.versions.registry import Projection, State, list_projections
from services.runtime.health.dependencies import Dependency, ProbeResult, probed
from services.runtime.health.health import OpsServer, Readiness
from services.runtime.kafka.errors import KafkaError, TopicsWrong
from services.runtime.kafka.group import GroupHint
from services.runtime.kafka.probe import KafkaProbe
from services.runtime.kafka.topic_watch import TopicWatch
from services.runtime.kafka.topics import check_topics
from services.runtime.observe.metrics import announce_build
from services.runtime.observe.repeated_lines import warn_throttled
from services.runtime.postgres.pool import POSTGRES_UNAVAILABLE, PostgresPool, open_pool, postgres_trouble
from services.runtime.postgres.refusals import why_unreachable
from services.runtime.process.backoff import Backoff
from services.runtime.process.collector import infrequent_gc
from services.runtime.process.lifecycle import Supervisor
from services.runtime.process.tasks import end
from services.runtime.settings import SettingsError

GROUP: str = "gapless-projector"
SEARCHES_AT_ONCE: Final = 2
"""Number of partitions whose search is written at the same time: the other connections are for history."""

log = structlog.get_logger(__name__)

Key = tuple[int, int, Feed]
"""(version, partition, what of it is filled)."""


@dataclass(slots=True)
class _Running:
    """A worker that was started. `idle_until_s` (monotonic) is set after it ended: it is not started again earlier."""

    worker: PartitionWorker
    task: asyncio.Task[Ended]
    idle_until_s: float | None = None


class Projector:
    """Keeps the workers running for each assigned partition of each projection that is fed."""

    def __init__(self, settings: ProjectorSettings, pool: PostgresPool, readiness: Readiness) -> None:
        self._settings = settings
        self._pool = pool
        self._readiness = readiness
        self._topic = TopicId(settings.kafka)
        self._precedence = Precedence()
        self._search_turns = asyncio.Semaphore(SEARCHES_AT_ONCE)
        self._partitions: frozenset[int] = frozenset()
        self._versions: frozenset[int] = frozenset()
        self._fed_since: dict[int, datetime | None] = {}
        self._workers: dict[Key, _Running] = {}
        self._assigned = False
        self._word = asyncio.Event()
        readiness.report_trouble("assignment", "The consumer group has not assigned partitions yet.")

    @property
    def readiness(self) -> Readiness:
        return self._readiness

    @property
    def partitions(self) -> frozenset[int]:
        """The partitions that the group last assigned to this process."""
        return self._partitions

    @property
    def versions(self) -> frozenset[int]:
        """The versions of the projections that are fed."""
        return self._versions

    def assign(self, partitions: frozenset[int]) -> None:
        """Set the partitions that the group assigns; takes effect at once."""
        self._partitions = partitions
        self._assigned = True
        self._word.set()

    def saw_ends(self, ends: Mapping[int, int]) -> None:
        """Record where the log of each partition ended a moment ago: stopped and waiting workers do not ask Kafka."""
        for (_, partition, _), running in self._workers.items():
            if partition in ends:
                running.worker.lag.saw_end(ends[partition])

    async def run(self) -> None:
        """Run until cancelled; then end every worker, each at a whole batch."""
        try:
            while True:
                await self._read_registry()
                await self._reconcile()
                self._word.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(self._settings.registry_poll_interval_s):
                        await self._word.wait()
        finally:
            await self._end(list(self._workers))

    async def _read_registry(self) -> None:
        """Read which versions are fed. While Postgres is unavailable, keep the last answer: the workers wait too."""
        try:
            async with self._pool.connection() as connection:
                there = await list_projections(connection)
        except psycopg.Error as error:
            self._readiness.report_trouble("registry", f"Postgres does not answer ({type(error).__name__}).")
            return
        self._readiness.clear_trouble("registry")
        fed_since = {p.version: p.fed_since for p in there if is_fed(p)}
        # A projection that was dropped or stopped and then built again starts afresh, whatever stopped its workers.
        renewed = {v for v, since in fed_since.items() if self._fed_since.get(v, since) != since}
        await self._end([key for key in self._workers if key[0] in renewed])
        self._fed_since = fed_since
        self._versions = frozenset(fed_since)
        metrics.SERVING_FED.set(any(p.state is State.SERVING and is_fed(p) for p in there))
        foreign = next((p for p in there if p.state is State.SERVING and not is_fed(p)), None)
        if foreign is None:
            self._readiness.clear_trouble("mapping")
        else:
            self._readiness.report_trouble(
                "mapping",
                f"{foreign.schema} serves and is of row mapping {foreign.mapping_version}, this release has"
                f" {MAPPING_VERSION}: keep a projector of the former release running until the cutover to a"
                " version of this one (`gapless projection rebuild`, then `gapless projection cutover`).",
                needs_operator=True,
            )

    async def _reconcile(self) -> None:
        wanted = [
            (version, partition, feed)
            for version in sorted(self._versions)
            for partition in sorted(self._partitions)
            for feed in FEEDS
        ]
        await self._end([key for key in self._workers if key not in wanted])
        now_s = time.monotonic()
        for key in wanted:
            running = self._workers.get(key)
            if running is None or self._may_start_again(running, now_s):
                self._start(key)
        if self._assigned:
            self._readiness.clear_trouble("assignment")

    def _may_start_again(self, running: _Running, now_s: float) -> bool:
        if not running.task.done():
            return False
        ended = running.task.result()  # raises if the worker crashed, and so crashes the process
        if ended is Ended.STOPPED:
            return False
        if running.idle_until_s is None:
            running.idle_until_s = now_s + self._settings.lost_race_pause_s
        return now_s >= running.idle_until_s

    def _start(self, key: Key) -> None:
        version, partition, feed = key
        consumer = PartitionConsumer(
            version=version,
            partition=partition,
            pool=self._pool,
            kafka=self._settings.kafka,
            topic=self._topic,
            feed=feed,
            turns=None if feed is HISTORY else self._search_turns,
        )
        worker = PartitionWorker(
            consumer,
            readiness=self._readiness,
            max_batch_records=self._settings.max_batch_records,
            backoff_max_s=self._settings.backoff_max_s,
            precedence=self._precedence,
            gives_way=feed is not HISTORY,
        )
        if key not in self._workers:
            self._readiness.report_trouble(consumer.name, f"{consumer.name} is being opened.")
        self._workers[key] = _Running(worker, asyncio.create_task(worker.run(), name=f"worker {consumer.name}"))

    async def _end(self, keys: list[Key]) -> None:
        ending = {key: self._workers.pop(key).task for key in keys}
        await end(ending.values())
        for version, partition, feed in ending:
            self._readiness.clear_trouble(f"{feed.name(version)}/{partition}")
            metrics.forget(feed.name(version), partition)


def is_fed(projection: Projection) -> bool:
    """Return whether a projector of this release writes it."""
    return projection.state in (State.STANDBY, State.SERVING) and projection.mapping_version == MAPPING_VERSION


async def run(settings: ProjectorSettings, supervisor: Supervisor) -> None:
    """Serve until the supervisor asks to stop.

    Raises SettingsError if the topics are not what the protocol needs.
    """
    announce_build("projector")
    readiness = Readiness()
    readiness.report_trouble("start", "The projector is starting.")
    with infrequent_gc(YOUNG_OBJECTS):
        async with (
            OpsServer(settings.http, readiness, service="projector"),
            open_pool(settings.postgres, application_name="gapless-projector", autocommit=True) as pool,
        ):
            projector = Projector(settings, pool, readiness)
            kafka = _kafka_probe(settings, projector)

            async def postgres() -> ProbeResult:
                trouble = await postgres_trouble(pool, writes=True)
                return ProbeResult(trouble=await why_unreachable(settings.postgres, trouble))

            try:
                async with probed(Dependency("kafka", kafka, readiness), Dependency("postgres", postgres, readiness)):
                    supervisor.start("projector", _serve(settings, pool, projector, readiness))
                    await supervisor.stop_requested()
                    await supervisor.cancel_all()
            finally:
                await kafka.close()
    if supervisor.failure is not None:
        raise supervisor.failure


async def _serve(settings: ProjectorSettings, pool: PostgresPool, projector: Projector, readiness: Readiness) -> None:
    watch = await _prepare(settings, pool, readiness)
    readiness.clear_trouble("start")
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_hint(settings, projector, readiness).run())
        tasks.create_task(projector.run())
        tasks.create_task(watch.run())
        tasks.create_task(
            keep_pruning(
                pool, interval_s=settings.prune_interval_s, owned=lambda: (projector.versions, projector.partitions)
            )
        )


async def _prepare(settings: ProjectorSettings, pool: PostgresPool, readiness: Readiness) -> TopicWatch:
    """Check the topics and run the migrations once Kafka and Postgres answer. Returns the watch of the topics.

    Raises SettingsError if the topics are not what the protocol needs.
    """
    backoff = Backoff(settings.backoff_max_s)
    kafka = settings.kafka
    specs = topic_specs(
        topic_names(kafka),
        partitions=kafka.partitions,
        reply_partitions=kafka.reply_partitions,
        replication_factor=kafka.replication_factor,
        min_insync_replicas=kafka.min_insync_replicas,
    )
    events = [spec for spec in specs if spec.name == topic_names(kafka).events]
    while True:
        try:
            await check_topics(kafka.connection, topic_names(kafka), events)
            async with pool.connection() as connection:
                await migrate(connection)
        except TopicsWrong as error:
            raise SettingsError(str(error)) from error
        except (KafkaError, *POSTGRES_UNAVAILABLE, OSError, TimeoutError) as error:
            warn_throttled(log, "waiting", kind=type(error).__name__, error=f"{type(error).__name__}: {error}"[:300])
            why = _why_waiting(error)
            if not isinstance(error, KafkaError):
                why = await why_unreachable(settings.postgres, why) or why
            readiness.report_trouble("start", why)
            await backoff.pause()
        else:
            return TopicWatch(kafka=kafka.connection, names=topic_names(kafka), specs=events, readiness=readiness)


def _kafka_probe(settings: ProjectorSettings, projector: Projector) -> KafkaProbe:
    kafka = settings.kafka
    return KafkaProbe(
        kafka=kafka.connection,
        client_id=f"{kafka.client_id}-projector",
        partitions=lambda: {topic_names(kafka).events: projector.partitions},
        group_id=f"{kafka.topic_prefix}{GROUP}",
        on_ends=lambda _topic, ends: projector.saw_ends(ends),
    )


def _why_waiting(error: Exception) -> str:
    if isinstance(error, KafkaError):
        return f"The topics cannot be checked: {error}."
    return f"Kafka or Postgres does not answer ({type(error).__name__})."


def _hint(settings: ProjectorSettings, projector: Projector, readiness: Readiness) -> GroupHint:
    def on_trouble(trouble: str | None) -> None:
        if trouble is None:
            readiness.clear_trouble("group")
        else:
            readiness.report_trouble("group", trouble)

    kafka = settings.kafka
    return GroupHint(
        kafka=kafka.connection,
        group_id=f"{kafka.topic_prefix}{GROUP}",
        topic=topic_names(kafka).events,
        partitions=kafka.partitions,
        client_id=f"{kafka.client_id}-projector",
        session_timeout_s=kafka.session_timeout_s,
        max_poll_interval_s=kafka.max_poll_interval_s,
        on_assignment=projector.assign,
        on_trouble=on_trouble,
    )
