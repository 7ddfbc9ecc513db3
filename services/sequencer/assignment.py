"""Which partitions this process has writers for: those the group assigns to it, and those it stands by for.

A writer stays once it is started; its hint tells it what to do."""

from __future__ import annotations

import asyncio
import socket
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Final

from schemas.topics import TopicNames, heartbeats_spec
from services.runtime.health.health import Readiness, Trouble
from services.runtime.kafka.group import GroupHint
from services.runtime.process.lifecycle import Supervisor
from services.runtime.process.tasks import end
from services.sequencer import metrics
from services.sequencer.kafka import KafkaHeartbeatLog, KafkaLogs, KafkaReplyPublisher
from services.sequencer.partition.hint import OwnershipHint
from services.sequencer.partition.term import TermSettings
from services.sequencer.partition.writer import PartitionWriter, Status
from services.sequencer.peers.exchange import HeartbeatExchange
from services.sequencer.peers.failure_detector import FailureDetector
from services.sequencer.peers.handover import hand_over, state_of
from services.sequencer.responsibility import PartitionView, Responsibility, joined
from services.sequencer.settings import SequencerSettings
from services.sequencer.snapshots.object_store import SnapshotStore
from services.sequencer.snapshots.restore import SnapshotRestorer
from services.sequencer.store.rocks import RocksStore
from services.sequencer.store.slot import StateSlot

GROUP: Final = "gapless-sequencer"
STOP_S: Final = 8.0
"""Maximum time to append and answer what is decided, and to leave the group."""
CHECK_EVERY_S: Final = 1.0
"""Interval at which the gauge of unserved partitions is updated."""


class Assignment:
    """Starts a writer for each partition that the group assigns or the failure detector says to stand by for."""

    def __init__(
        self,
        supervisor: Supervisor,
        settings: SequencerSettings,
        names: TopicNames,
        slot: StateSlot,
        replies: KafkaReplyPublisher,
        readiness: Readiness,
        now_ms: Callable[[], int],
        snapshot_store: SnapshotStore | None = None,
    ) -> None:
        """`now_ms`: the time of outcomes, ms since 1970 UTC; `snapshot_store`: the store of snapshots, if any."""
        self._now_ms = now_ms
        self._supervisor = supervisor
        self._settings = settings
        self._names = names
        self._slot = slot
        self._replies = replies
        self._readiness = readiness
        self._snapshot_store = snapshot_store
        self._stores: dict[int, RocksStore] = {}
        self.writers: dict[int, PartitionWriter] = {}
        self._hints: dict[int, OwnershipHint] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._news = asyncio.Event()
        self._stopping = False
        self._false_suspicions = 0
        kafka = settings.kafka
        process, name = str(uuid.uuid4()), f"{socket.gethostname()}/{slot.folder.name}"
        self._detector = FailureDetector(process, name, standbys=settings.standby)
        self._heartbeat_log = KafkaHeartbeatLog(
            kafka=kafka.connection,
            spec=heartbeats_spec(
                names,
                replication_factor=kafka.replication_factor,
                min_insync_replicas=kafka.min_insync_replicas,
            ),
            client_id=f"{kafka.client_id}-heartbeats",
        )
        self._heartbeats = HeartbeatExchange(
            self._detector,
            self._heartbeat_log,
            process=process,
            name=name,
            state=lambda: state_of(self.writers),
            on_news=self._on_heartbeats,
            every_s=settings.heartbeat_s,
        )
        self._group = GroupHint(
            kafka=kafka.connection,
            group_id=f"{kafka.topic_prefix}{GROUP}",
            topic=names.commands,
            partitions=kafka.partitions,
            client_id=f"{kafka.client_id}-sequencer",
            on_assignment=self._on_assignment,
            on_trouble=self._on_group_trouble,
            session_timeout_s=kafka.session_timeout_s,
            max_poll_interval_s=kafka.max_poll_interval_s,
        )
        self._responsibility = Responsibility(hears_peers=self._settings.standby > 0)
        readiness.add_check("partitions", self._trouble)

    def start(self) -> None:
        self._membership = self._supervisor.start("group", self._group.run())
        self._heartbeating = (
            self._supervisor.start("heartbeats", self._heartbeats.run()) if self._settings.standby else None
        )
        self._looking = self._supervisor.start("partitions", self._look())

    async def stop(self) -> None:
        """Leave the group, hand over partitions that peers stand by for, then append and answer what is decided."""
        self._stopping = True
        self._looking.cancel()
        self._membership.cancel()
        if self._heartbeating is not None:
            self._heartbeats.announce_leaving()
        await hand_over(self.writers, self._detector, self._news)
        await asyncio.wait({self._membership, *self._tasks}, timeout=STOP_S)
        if self._heartbeating is not None:
            await end({self._heartbeating})
            await self._heartbeat_log.stop()

    def _on_group_trouble(self, trouble: str | None) -> None:
        if trouble is not None:
            self._readiness.report_trouble("group", trouble)

    def _on_assignment(self, partitions: frozenset[int]) -> None:
        self._readiness.clear_trouble("group")
        for partition in partitions - self.writers.keys():
            self._start_writer(partition)
        for partition, hint in self._hints.items():
            hint.on_assignment(partition in partitions)

    def _on_heartbeats(self) -> None:
        metrics.PEERS_HEARD.set(self._detector.live_peers)
        metrics.FALSE_SUSPICIONS.inc(self._detector.false_suspicions - self._false_suspicions)
        self._false_suspicions = self._detector.false_suspicions
        if not self._stopping:
            for partition in range(self._settings.kafka.partitions):
                if partition not in self.writers and self._detector.stands_by(partition):
                    self._start_writer(partition)
        for hint in self._hints.values():
            hint.notify()
        self._news.set()

    def _on_status(self) -> None:
        """Announce a changed status of a writer at once instead of with the next heartbeat."""
        self._heartbeats.send_now()
        self._news.set()

    def _start_writer(self, partition: int) -> None:
        kafka = self._settings.kafka
        hint = OwnershipHint(
            still_ours=lambda: partition in self._group.partitions,
            should_take_over=lambda term: not self._stopping and self._detector.should_take_over(partition, term),
            stands_by=lambda: not self._stopping and self._detector.stands_by(partition),
            announced=lambda: self._detector.announced(partition),
        )
        writer = PartitionWriter(
            TermSettings(
                partition=partition,
                partitions=kafka.partitions,
                host=socket.gethostname(),
                append_timeout_s=self._settings.append_timeout_s,
            ),
            hint=hint,
            logs=KafkaLogs(
                kafka=kafka.connection,
                names=self._names,
                partition=partition,
                client_id=f"{kafka.client_id}-sequencer-{partition}",
            ),
            open_store=partial(self._open_store, partition),
            replies=self._replies,
            now_ms=self._now_ms,
            snapshots=self._snapshots_of(partition),
            on_status=self._on_status,
        )
        self._hints[partition] = hint
        self.writers[partition] = writer
        self._tasks.append(self._supervisor.start(f"writer-{partition}", writer.run(), may_end=True))

    def _open_store(self, partition: int, topic_id: str) -> RocksStore:
        store = self._stores[partition] = RocksStore(self._slot.folder / str(partition), topic_id)
        return store

    def _snapshots_of(self, partition: int) -> SnapshotRestorer | None:
        if self._snapshot_store is None:
            return None
        return SnapshotRestorer(
            self._snapshot_store,
            self._slot.snapshots / f"{partition}-fetched",
            partition=partition,
            partitions=self._settings.kafka.partitions,
            ahead=self._settings.snapshot_ahead,
        )

    def served(self) -> dict[int, RocksStore]:
        """Return the states of the partitions that this process serves."""
        return {p: self._stores[p] for p, writer in self.writers.items() if writer.status is Status.SERVING}

    def needed(self) -> Mapping[str, Collection[int]]:
        """Return topic → the partitions that this process reads or writes, or should."""
        numbers = [
            p for p, writer in self.writers.items() if self._hints[p].assigned or writer.status is not Status.WAITING
        ]
        return {self._names.commands: numbers, self._names.events: numbers}

    def _troubles(self) -> dict[int, str]:
        views = {
            partition: PartitionView(
                status=writer.status,
                reason=writer.reason,
                assigned=self._hints[partition].assigned,
                served_elsewhere=self._detector.served(partition),
            )
            for partition, writer in self.writers.items()
        }
        return self._responsibility.troubles(views, time.monotonic())

    async def _trouble(self) -> Trouble | None:
        """Return why a partition of ours is not served, or None."""
        troubles = self._troubles()
        metrics.UNSERVED.set(len(troubles))
        sentence = joined(troubles.values())
        if sentence is None:
            return None
        stopped = all(self.writers[partition].status is Status.STOPPED for partition in troubles)
        return Trouble(sentence, needs_operator=stopped)

    async def _look(self) -> None:
        """Update the gauge until cancelled, even if no client asks /readyz."""
        while True:
            metrics.UNSERVED.set(len(self._troubles()))
            await asyncio.sleep(CHECK_EVERY_S)
