"""The sequencer's process: one writer for each partition that was ever ours, in one group, with one reply producer."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Sequence
from typing import Final

import structlog

from schemas.topics import TopicNames, TopicSpec, topic_specs
from services.runtime.backoff import Backoff
from services.runtime.collector import seldom_collected
from services.runtime.health import OpsServer, Readiness
from services.runtime.kafka.errors import KafkaUnavailable, TopicsWrong
from services.runtime.kafka.group import GroupHint
from services.runtime.kafka.producer import Producer
from services.runtime.kafka.topics import check_topics
from services.runtime.lifecycle import Supervisor
from services.runtime.settings import SettingsError
from services.sequencer.hint import Hint
from services.sequencer.kafka_ports import KafkaLogs, KafkaReplies
from services.sequencer.settings import SequencerSettings
from services.sequencer.state_slot import StateSlot
from services.sequencer.store import RocksStore
from services.sequencer.term import TermSettings
from services.sequencer.trimming import Trimmer
from services.sequencer.writer import PartitionWriter, Status

log = structlog.get_logger(__name__)

GROUP = "gapless-sequencer"
LONGEST_START_PAUSE_S: Final = 2.0


async def run(settings: SequencerSettings, supervisor: Supervisor) -> None:
    """Serves until the supervisor says stop: what `lifecycle.run_service` runs. Then every writer finishes what it
    decided, and the group is left at once. A Kafka that does not answer is waited for.

    Raises SettingsError where the topics are not as the protocol needs them.
    """
    kafka = settings.kafka
    names = TopicNames.prefixed(kafka.topic_prefix)
    specs = topic_specs(
        names,
        partitions=kafka.partitions,
        reply_partitions=kafka.reply_partitions,
        replication_factor=kafka.replication_factor,
        min_insync_replicas=kafka.min_insync_replicas,
    )
    readiness = Readiness()
    readiness.report_trouble("group", "The consumer group has not spoken yet.")
    with seldom_collected():
        await _serve(settings, supervisor, names, specs, readiness)


async def _serve(
    settings: SequencerSettings,
    supervisor: Supervisor,
    names: TopicNames,
    specs: Sequence[TopicSpec],
    readiness: Readiness,
) -> None:
    kafka = settings.kafka
    async with OpsServer(settings.http, readiness, service="sequencer"):
        if not await _topics_are_right(kafka.bootstrap_servers, names, specs, supervisor, readiness):
            return
        slot = StateSlot.take(settings.state_dir)
        # Not started here: it connects when there is something to tell, and a Kafka that is away then costs replies.
        producer = Producer(bootstrap_servers=kafka.bootstrap_servers, client_id=f"{kafka.client_id}-replies")
        replies = KafkaReplies(producer, topic=names.replies, partitions=kafka.reply_partitions)
        assignment = Assignment(supervisor, settings, names, slot, replies, readiness)
        trimmer = Trimmer(
            assignment.writers,
            bootstrap_servers=kafka.bootstrap_servers,
            topic=names.commands,
            keep_s=settings.keep_commands_s,
            now_ms=wall_clock_ms,
            every_s=settings.trim_every_s,
        )
        trimming = supervisor.start("trimming", trimmer.run())
        try:
            assignment.start()
            await supervisor.stop_requested()
        finally:
            trimming.cancel()
            await assignment.stop()
            await replies.drain()
            await producer.stop()
            slot.release()


async def _topics_are_right(
    bootstrap_servers: str,
    names: TopicNames,
    specs: Sequence[TopicSpec],
    supervisor: Supervisor,
    readiness: Readiness,
) -> bool:
    """Asks until Kafka answers: one broker that is away must not keep us from taking over what another process left.
    False when the stop was asked for before. Raises SettingsError."""
    backoff = Backoff(LONGEST_START_PAUSE_S)
    while not supervisor.stopping:
        try:
            await check_topics(bootstrap_servers, names, specs)
        except TopicsWrong as error:
            raise SettingsError(str(error)) from error
        except KafkaUnavailable as error:
            readiness.report_trouble("topics", f"The topics cannot be checked: {error}.")
            log.warning("waiting", reason=str(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(supervisor.stop_requested(), backoff.next_s())
        else:
            readiness.clear_trouble("topics")
            return True
    return False


def wall_clock_ms() -> int:
    """ms since 1970 UTC. Only ever written into records; nothing is decided by it."""
    return time.time_ns() // 1_000_000


class Assignment:
    """Turns the group's words into writers."""

    def __init__(
        self,
        supervisor: Supervisor,
        settings: SequencerSettings,
        names: TopicNames,
        slot: StateSlot,
        replies: KafkaReplies,
        readiness: Readiness,
    ) -> None:
        self._supervisor = supervisor
        self._settings = settings
        self._names = names
        self._slot = slot
        self._replies = replies
        self._readiness = readiness
        self._writers: dict[int, tuple[Hint, PartitionWriter, asyncio.Task[None]]] = {}
        kafka = settings.kafka
        self._group = GroupHint(
            bootstrap_servers=kafka.bootstrap_servers,
            group_id=f"{kafka.topic_prefix}{GROUP}",
            topic=names.commands,
            client_id=f"{kafka.client_id}-sequencer",
            on_word=self._on_word,
            on_trouble=self._on_group_trouble,
            session_timeout_s=kafka.session_timeout_s,
            max_poll_interval_s=kafka.max_poll_interval_s,
        )
        readiness.add_check("partitions", self._troubles)

    def start(self) -> None:
        self._membership = self._supervisor.start("group", self._group.run())

    async def stop(self) -> None:
        """Writers first: what is decided is appended and told; then the group hears that we leave."""
        for _, writer, _ in self._writers.values():
            writer.stop()
        self._membership.cancel()
        await asyncio.wait({self._membership, *(task for _, _, task in self._writers.values())}, timeout=8.0)

    def writers(self) -> list[tuple[int, PartitionWriter]]:
        return [(p, writer) for p, (_, writer, _) in self._writers.items()]

    def _on_group_trouble(self, trouble: str | None) -> None:
        if trouble is not None:
            self._readiness.report_trouble("group", trouble)

    def _on_word(self, partitions: frozenset[int]) -> None:
        self._readiness.clear_trouble("group")
        for partition in partitions - self._writers.keys():
            self._writers[partition] = self._start_writer(partition)
        for partition, (hint, _, _) in self._writers.items():
            hint.say(partition in partitions)

    def _start_writer(self, partition: int) -> tuple[Hint, PartitionWriter, asyncio.Task[None]]:
        kafka = self._settings.kafka
        hint = Hint(still_ours=lambda: partition in self._group.partitions)
        writer = PartitionWriter(
            TermSettings(
                partition=partition,
                partitions=kafka.partitions,
                host=socket.gethostname(),
                append_timeout_s=self._settings.append_timeout_s,
            ),
            hint=hint,
            logs=KafkaLogs(
                bootstrap_servers=kafka.bootstrap_servers,
                names=self._names,
                partition=partition,
                client_id=f"{kafka.client_id}-sequencer-{partition}",
            ),
            open_store=self._store_opener(partition),
            replies=self._replies,
            now_ms=wall_clock_ms,
        )
        return hint, writer, self._supervisor.start(f"writer-{partition}", writer.run(), may_end=True)

    def _store_opener(self, partition: int) -> Callable[[str], RocksStore]:
        return lambda topic_id: RocksStore(self._slot.folder / str(partition), topic_id)

    async def _troubles(self) -> str | None:
        """What keeps a partition of ours from being served."""
        troubles = [
            f"partition {p} is {writer.status}: {writer.reason}"
            if writer.reason
            else f"partition {p} is {writer.status}"
            for p, (hint, writer, _) in sorted(self._writers.items())
            if writer.status is Status.STOPPED or (hint.ours and writer.status is not Status.SERVING)
        ]
        return "; ".join(troubles) or None
