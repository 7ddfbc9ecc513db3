"""Folds one partition into a projection that is being built, from its position to the end of the log.

Runs in the process of a rebuild, or in one that it starts (load_processes.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

import structlog

from services.projector.errors import LostRace, PartitionStopped
from services.projector.following.consumer import PartitionConsumer, TopicId
from services.projector.following.feeds import FEEDS, HISTORY, Both, Feed
from services.projector.versions.throttle import Throttle
from services.projector.writing.apply import load_position
from services.runtime.kafka.errors import KafkaError
from services.runtime.observe.repeated_lines import warn_throttled
from services.runtime.postgres.pool import POSTGRES_UNAVAILABLE, PostgresPool
from services.runtime.process.backoff import Backoff
from services.runtime.settings import KafkaSettings

READ_TIMEOUT_S: Final = 2.0
MAX_FAILURES: Final = 12
"""Failures of one partition in a row after which a rebuild gives up: about a minute. Loaded rows stay."""
BACKOFF_MAX_S: Final = 10.0

_RETRIED: Final = (LostRace, KafkaError, *POSTGRES_UNAVAILABLE, OSError, TimeoutError)

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What was loaded since the last report: a whole batch, or nothing at the beginning."""

    partition: int
    end_offset: int
    """The offset at which it ends."""
    of_search: bool = False
    """Whether it is of the partition's search alone, which reads the same records again."""
    records: int = 0
    rows: int = 0


OnLoaded = Callable[[Loaded], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Loader:
    """Loads partitions of one version, any number at once. `building` means that no projector feeds the version."""

    version: int
    pool: PostgresPool
    kafka: KafkaSettings
    topic: TopicId
    max_batch_records: int
    building: bool
    on_loaded: OnLoaded
    throttle: Throttle | None = None

    async def load(self, partition: int) -> None:
        """Load a partition up to where the log ended at the beginning: its tables and its search.

        While no projector feeds the version, both are loaded from one reading of the log. Raises what `_load` raises.
        """
        if self.building:
            await self._load_both(partition)
        for feed in FEEDS:
            await self._load(partition, feed)

    async def _load_both(self, partition: int) -> None:
        """Load tables and search together, if they are at one position.

        Whatever fails ends it, possibly with search a batch behind: `_load` goes on with each of them, and retries or
        says what has stopped it.
        """
        consumer = self._consumer(partition, Both(self.version))
        try:
            if await self._is_at_one_position(partition):
                await self._load_to_end(consumer, of_search=False)
        except (PartitionStopped, *_RETRIED) as error:
            _warn_waiting(partition, error)
        finally:
            await consumer.close()

    async def _is_at_one_position(self, partition: int) -> bool:
        topic_id = await self.topic.get()
        async with self.pool.connection() as connection:
            history, search = [
                await load_position(connection, feed.sql(self.version), partition=partition, topic_id=topic_id)
                for feed in FEEDS
            ]
        return history == search

    def _consumer(self, partition: int, feed: Feed) -> PartitionConsumer:
        return PartitionConsumer(
            version=self.version,
            partition=partition,
            pool=self.pool,
            kafka=self.kafka,
            topic=self.topic,
            durable=False,
            feed=feed,
        )

    async def _load(self, partition: int, feed: Feed) -> None:
        """Load what one feed fills.

        Raises PartitionStopped; KafkaError, psycopg.Error, OSError, TimeoutError if a server stayed unavailable.
        """
        backoff = Backoff(BACKOFF_MAX_S)
        failures = 0
        consumer = self._consumer(partition, feed)
        try:
            while True:
                before = consumer.position
                try:
                    await self._load_to_end(consumer, of_search=feed is not HISTORY)
                except _RETRIED as error:
                    if isinstance(error, LostRace) and not self.building:
                        return  # a projector feeds the partition already: the version was handed over
                    # A lost race while building is the last batch of a rebuild that was killed a moment ago.
                    failures = failures + 1 if consumer.position == before else 0
                    if failures >= MAX_FAILURES:
                        raise
                    _warn_waiting(partition, error)
                    await backoff.pause()
                else:
                    return
        finally:
            await consumer.close()

    async def _load_to_end(self, consumer: PartitionConsumer, *, of_search: bool) -> None:
        await consumer.open()
        end = consumer.end_offset
        at = Loaded(partition=consumer.partition, end_offset=end, of_search=of_search)
        self.on_loaded(at)
        while consumer.position.next_offset < end:
            if self.throttle is not None:
                await self.throttle.wait()  # the consumer reads only within a step, so reading pauses as well
            step = await consumer.step(max_records=self.max_batch_records, timeout_s=READ_TIMEOUT_S)
            if step is None:
                await consumer.ask_end()  # nothing arrived before the end: raises if Kafka is unavailable
                continue
            self.on_loaded(replace(at, records=step.records, rows=step.rows))


def _warn_waiting(partition: int, error: Exception) -> None:
    warn_throttled(
        log,
        "waiting",
        kind=type(error).__name__,
        partition=partition,
        error=f"{type(error).__name__}: {error}"[:300],
    )
