"""The sequencer's process: one writer for each partition that was ever ours, in one group, with one reply producer."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Final

import structlog

from schemas.topics import TopicNames, TopicSpec, topic_specs
from schemas.wire.replies import encode_replies
from services.runtime.health.dependencies import Dependency, Probe, ProbeResult, probed
from services.runtime.health.health import OpsServer, Readiness
from services.runtime.kafka.broker_time import BrokerTime
from services.runtime.kafka.connection import KafkaConnection
from services.runtime.kafka.errors import KafkaUnavailable, TopicsWrong
from services.runtime.kafka.probe import KafkaProbe
from services.runtime.kafka.producer import Producer
from services.runtime.kafka.topic_watch import TopicWatch
from services.runtime.kafka.topics import check_topics
from services.runtime.observe.repeated_lines import warn_throttled
from services.runtime.process.backoff import Backoff
from services.runtime.process.collector import infrequent_gc
from services.runtime.process.lifecycle import Supervisor
from services.runtime.process.threads import run_in_daemon_thread
from services.runtime.settings import SettingsError
from services.sequencer.assignment import GROUP, Assignment
from services.sequencer.clock import Clock, until_right, watch
from services.sequencer.kafka import KafkaReplyPublisher
from services.sequencer.settings import SequencerSettings
from services.sequencer.snapshots.object_store import SnapshotStore, SnapshotStoreUnavailable
from services.sequencer.snapshots.take import SnapshotTaker
from services.sequencer.store.slot import StateSlot
from services.sequencer.trimming import Trimmer

log = structlog.get_logger(__name__)

LONGEST_START_PAUSE_S: Final = 2.0
NO_REPLIES: Final = encode_replies([])
"""A record of chat.replies that concerns no one: it is appended to read the broker's clock."""
SNAPSHOT_STORE_PROBED_EVERY_S: Final = 5.0
"""An object store is paid by the request."""


async def run(settings: SequencerSettings, supervisor: Supervisor) -> None:
    """Serves until the supervisor says stop: what `lifecycle.run_service` runs. Then every writer finishes what it
    decided, and the group is left at once. A Kafka that does not answer is waited for.

    Raises SettingsError where the topics are not as the protocol needs them, or the store of snapshots is none.
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
    snapshot_store = SnapshotStore(settings.snapshots) if settings.snapshots else None
    readiness.report_trouble("group", "The consumer group has not spoken yet.")
    with infrequent_gc():
        await _serve(settings, supervisor, names, specs, readiness, snapshot_store)


async def _serve(
    settings: SequencerSettings,
    supervisor: Supervisor,
    names: TopicNames,
    specs: Sequence[TopicSpec],
    readiness: Readiness,
    snapshot_store: SnapshotStore | None,
) -> None:
    kafka = settings.kafka
    async with OpsServer(settings.http, readiness, service="sequencer"):
        if not await _topics_are_right(kafka.connection, names, specs, supervisor, readiness):
            return
        clock = Clock(max_skew_ms=int(settings.max_clock_skew_s * 1000))
        broker_time = BrokerTime(
            kafka=kafka.connection, client_id=f"{kafka.client_id}-sequencer", topic=names.replies, value=NO_REPLIES
        )
        topics = TopicWatch(kafka=kafka.connection, names=names, specs=specs, readiness=readiness)
        looking = supervisor.start("topics", topics.run())
        try:
            if not await until_right(clock, broker_time.read, supervisor, readiness):
                return
            watching = supervisor.start("clock", watch(clock, broker_time.read))
            try:
                await _serve_by(clock, settings, supervisor, names, readiness, snapshot_store)
            finally:
                watching.cancel()
        finally:
            looking.cancel()
            await broker_time.close()


async def _serve_by(
    clock: Clock,
    settings: SequencerSettings,
    supervisor: Supervisor,
    names: TopicNames,
    readiness: Readiness,
    snapshot_store: SnapshotStore | None,
) -> None:
    """Serves until the stop is asked for. `clock` was compared with a broker's."""
    kafka = settings.kafka
    slot = StateSlot.take(settings.state_dir)
    # Not started here: it connects when there is something to tell, and a Kafka that is away then costs replies.
    producer = Producer(kafka=kafka.connection, client_id=f"{kafka.client_id}-replies")
    replies = KafkaReplyPublisher(producer, topic=names.replies, partitions=kafka.reply_partitions)
    assignment = Assignment(supervisor, settings, names, slot, replies, readiness, clock.now_ms, snapshot_store)
    trimmer = Trimmer(
        lambda: sorted(assignment.writers.items()),
        kafka=kafka.connection,
        topic=names.commands,
        keep_s=settings.keep_commands_s,
        now_ms=clock.now_ms,
        every_s=settings.trim_every_s,
    )
    beside = [supervisor.start("trimming", trimmer.run())]
    if snapshot_store is not None:
        taker = SnapshotTaker(
            snapshot_store,
            assignment.served,
            partitions=kafka.partitions,
            folder=slot.snapshots,
            every=settings.snapshot_every,
            every_s=settings.snapshot_every_s,
        )
        beside.append(supervisor.start("snapshots", taker.run()))
    probe = KafkaProbe(
        kafka=kafka.connection,
        client_id=f"{kafka.client_id}-sequencer",
        partitions=assignment.needed,
        group_id=f"{kafka.topic_prefix}{GROUP}",
    )
    dependencies = [Dependency("kafka", probe, readiness)]
    if snapshot_store is not None:
        # Not required: without snapshots a process that has lost its state folds the whole log, and is right.
        dependencies.append(
            Dependency(
                "snapshots", _probe_of(snapshot_store), readiness, required=False, every_s=SNAPSHOT_STORE_PROBED_EVERY_S
            )
        )
    try:
        async with probed(*dependencies):
            assignment.start()
            await supervisor.stop_requested()
    finally:
        await probe.close()
        for task in beside:
            task.cancel()
        await assignment.stop()
        await replies.drain()
        await producer.stop()
        slot.release()


def _probe_of(snapshot_store: SnapshotStore) -> Probe:
    async def probe() -> ProbeResult:
        try:
            await run_in_daemon_thread(snapshot_store.probe)
        except SnapshotStoreUnavailable as error:
            return ProbeResult(trouble=f"The store of snapshots cannot be reached ({error!s:.200}).")
        return ProbeResult()

    return probe


async def _topics_are_right(
    kafka: KafkaConnection,
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
            await check_topics(kafka, names, specs)
        except TopicsWrong as error:
            raise SettingsError(str(error)) from error
        except KafkaUnavailable as error:
            readiness.report_trouble("topics", f"The topics cannot be checked: {error}.")
            warn_throttled(log, "waiting", reason=str(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(supervisor.stop_requested(), backoff.next_s())
        else:
            readiness.clear_trouble("topics")
            return True
    return False
