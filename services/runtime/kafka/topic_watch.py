"""Checks the topics periodically while a process runs: enabling retention or compaction deletes history.

A process refuses to start on topics that violate the protocol's needs; the watch reports them at run time, before much
is lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

import structlog

from schemas.topics import LogPartitions, TopicNames, TopicSpec
from services.runtime.health.health import Readiness
from services.runtime.kafka.connection import KafkaConnection
from services.runtime.kafka.errors import KafkaError
from services.runtime.kafka.topic_reader import AskLog, TopicReader, TopicReport, compare_topics
from services.runtime.observe.metrics import TOPIC_FAULTS, TOPIC_PARTITIONS_IGNORED

CHECK_EVERY_S: Final = 3.0

log = structlog.get_logger(__name__)


class TopicWatch:
    """Reports faults of a log's topics to readiness, two gauges and the process's log."""

    def __init__(
        self,
        *,
        kafka: KafkaConnection,
        names: TopicNames,
        specs: Sequence[TopicSpec],
        readiness: Readiness,
        ask_log: AskLog = "always",
        every_s: float = CHECK_EVERY_S,
    ) -> None:
        self._reader = TopicReader(kafka)
        self._names = names
        self._specs = specs
        self._readiness = readiness
        self._every_s = every_s
        self._ask_log: AskLog = ask_log
        self._log_partitions: int | None = None
        """Number of partitions that the log was written for; fixed once the log has a record."""
        self._said: tuple[list[str], list[str]] = ([], [])
        for spec in specs:
            TOPIC_FAULTS.labels(topic=spec.name).set(0)
            TOPIC_PARTITIONS_IGNORED.labels(topic=spec.name).set(0)

    async def run(self) -> None:
        """Watch until cancelled. While Kafka does not answer, the last findings stay."""
        try:
            while True:
                try:
                    self._tell(await self._look())
                except KafkaError as error:
                    log.debug("topics.not_checked", reason=str(error))  # reported as `dependency.unreachable`
                await asyncio.sleep(self._every_s)
        finally:
            await self._reader.close()

    async def _look(self) -> TopicReport:
        found = await self._reader.describe(self._specs)
        says: LogPartitions = self._log_partitions
        if says is None:
            says = await self._reader.log_says(self._names, self._specs, found, ask_log=self._ask_log)
            self._log_partitions = says if isinstance(says, int) else None
        return compare_topics(self._names, self._specs, found, says)

    def _tell(self, looked: TopicReport) -> None:
        troubles = looked.faults + looked.troubles
        if troubles:
            self._readiness.report_trouble("topics", f"{'; '.join(troubles)}.")
        else:
            self._readiness.clear_trouble("topics")
        if looked.notes:
            self._readiness.note("topics", f"{'; '.join(looked.notes)}.")
        else:
            self._readiness.clear_note("topics")
        for spec in self._specs:
            TOPIC_FAULTS.labels(topic=spec.name).set(looked.faults_by_topic.get(spec.name, 0))
            TOPIC_PARTITIONS_IGNORED.labels(topic=spec.name).set(looked.ignored_by_topic.get(spec.name, 0))
        said_troubles, said_notes = self._said
        for trouble in troubles:
            if trouble not in said_troubles:
                log.error("topics.wrong", reason=trouble)
        if said_troubles and not troubles:
            log.info("topics.right")
        for note in looked.notes:
            if note not in said_notes:
                log.warning("topics.note", note=note)
        self._said = (troubles, looked.notes)
