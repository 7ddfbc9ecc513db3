"""Keeps one partition of one projection at the end of the log while the partition is ours.

The worker waits while Kafka or Postgres is unavailable, and ends if another projector feeds the partition. A log or
tables that cannot be trusted stop it until an operator restarts the process; readiness and the log say why.
"""

from __future__ import annotations

import time
from enum import Enum, auto
from typing import Final

import psycopg
import structlog

from services.projector import metrics
from services.projector.errors import LostRace, PartitionStopped
from services.projector.following.consumer import PartitionConsumer, Step
from services.projector.following.lag import PartitionLag
from services.projector.following.precedence import Precedence
from services.runtime.health.health import Readiness
from services.runtime.kafka.errors import KafkaError
from services.runtime.observe.repeated_lines import warn_throttled
from services.runtime.postgres.pool import is_read_only
from services.runtime.process.backoff import Backoff

IDLE_TIMEOUT_S: Final = 1.0
"""Maximum wait of one read; a record that arrives ends it at once."""
END_INTERVAL_S: Final = 5.0

log = structlog.get_logger(__name__)


class Ended(Enum):
    """Why a worker returned."""

    LOST_RACE = auto()
    STOPPED = auto()


class PartitionWorker:
    """Runs a consumer until cancelled, or until the partition is lost or stopped."""

    def __init__(
        self,
        consumer: PartitionConsumer,
        *,
        readiness: Readiness,
        max_batch_records: int,
        backoff_max_s: float,
        precedence: Precedence | None = None,
        gives_way: bool = False,
    ) -> None:
        """A worker that `gives_way` waits for those of the same `precedence` that do not."""
        self._consumer = consumer
        self._precedence = precedence or Precedence()
        self._gives_way = gives_way
        self._readiness = readiness
        self._max_batch_records = max_batch_records
        self._backoff = Backoff(backoff_max_s)
        self.lag = PartitionLag(consumer)
        self._labels = (consumer.projection, str(consumer.partition))
        self._log = log.bind(projection=self._labels[0], partition=consumer.partition)
        self._end_asked_s = 0.0
        metrics.begin(*self._labels)

    async def run(self) -> Ended:
        """Run until this process must no longer feed the partition, and return why. Cancel it to end it earlier."""
        try:
            if not self._gives_way:
                self._precedence.is_behind(self._consumer.name)  # until it has seen the end of its log
            while True:
                try:
                    await self._follow()
                except (KafkaError, psycopg.Error, OSError, TimeoutError) as error:
                    self._waits(error)
                    await self._backoff.pause()
        except LostRace as lost:
            metrics.LOST_RACES.labels(*self._labels).inc()
            metrics.forget(self._labels[0], self._consumer.partition)
            self._readiness.clear_trouble(self._consumer.name)
            self._log.info("lost_race", offset=self._consumer.position.next_offset, reason=str(lost))
            return Ended.LOST_RACE
        except PartitionStopped as stopped:
            metrics.PARTITION_STOPPED.labels(*self._labels).set(1)
            self.lag.stopped()
            metrics.show_lag(*self._labels, self.lag.events, self.lag.seconds)
            self._readiness.report_trouble(self._consumer.name, f"{stopped}.", needs_operator=True)
            self._log.error("partition_stopped", offset=self._consumer.position.next_offset, reason=str(stopped))
            return Ended.STOPPED
        finally:
            self._precedence.is_near(self._consumer.name)
            await self._consumer.close()

    async def _follow(self) -> None:
        position = await self._consumer.open()
        self._log.info("feeding", offset=position.next_offset, term=position.head.term, index=position.head.index)
        await self._consumer.confirm()
        self._saw_end()
        metrics.show_lag(*self._labels, self.lag.events, self.lag.seconds)
        self._is_well()
        while True:
            if self._gives_way:
                await self._precedence.wait()
            step = await self._consumer.step(max_records=self._max_batch_records, timeout_s=IDLE_TIMEOUT_S)
            if step is not None:
                self._wrote(step)
            if time.monotonic() - self._end_asked_s >= END_INTERVAL_S:
                await self._consumer.ask_end()
                await self._consumer.confirm()
                self._saw_end()

    def _saw_end(self) -> None:
        self._end_asked_s = time.monotonic()
        self.lag.saw_end(self._consumer.end_offset)
        self._says_how_far()

    def _says_how_far(self) -> None:
        if self._gives_way:
            return
        if self.lag.events() > self._max_batch_records:
            self._precedence.is_behind(self._consumer.name)
        else:
            self._precedence.is_near(self._consumer.name)

    def _wrote(self, step: Step) -> None:
        self._is_well()
        self._says_how_far()
        metrics.BATCH_SECONDS.labels(self._labels[0]).observe(step.seconds)
        metrics.BATCH_EVENTS.labels(self._labels[0]).observe(step.events)
        if step.voids:
            self._log.warning("void_records", count=step.voids, offset=self._consumer.position.next_offset)

    def _is_well(self) -> None:
        self._backoff.reset()
        self._readiness.clear_trouble(self._consumer.name)
        metrics.PARTITION_WAITING.labels(*self._labels).set(0)
        metrics.PARTITION_STOPPED.labels(*self._labels).set(0)

    def _waits(self, error: Exception) -> None:
        who = (
            "Kafka" if isinstance(error, KafkaError) else "Postgres" if isinstance(error, psycopg.Error) else "A server"
        )
        self._precedence.is_near(self._consumer.name)
        metrics.RETRIES.labels(*self._labels).inc()
        metrics.PARTITION_WAITING.labels(*self._labels).set(1)
        trouble = f"{who} does not serve {self._consumer.name} ({type(error).__name__}): trying again."
        if is_read_only(error):
            trouble = f"Postgres takes no writes for {self._consumer.name}: the database is read-only; trying again."
        self._readiness.report_trouble(self._consumer.name, trouble)
        warn_throttled(self._log, "waiting", kind=type(error).__name__, error=f"{type(error).__name__}: {error}"[:300])
