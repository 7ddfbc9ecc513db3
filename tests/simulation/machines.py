"""A machine with a disk, and on it, most of the time, one process with the production writer."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Sequence
from random import Random
from typing import Final, Protocol

from schemas.wire.encoding import Encoded
from schemas.wire.replies import Reply
from services.sequencer.partition.hint import OwnershipHint
from services.sequencer.partition.term import TermSettings
from services.sequencer.partition.writer import PartitionWriter, Status
from services.sequencer.peers.exchange import HeartbeatExchange
from services.sequencer.peers.failure_detector import FailureDetector
from services.sequencer.peers.handover import hand_over, state_of
from services.sequencer.ports import LogAppender, LogPosition, LogReader
from tests.simulation.clients import PARTITION, PARTITIONS
from tests.simulation.plan import Plan
from tests.support.simulated_log import Network, RecordList, SimulatedAppender, SimulatedLog, SimulatedReader
from tests.support.simulated_loop import Process, SimulatedLoop, this_process
from tests.support.simulated_snapshots import Shelf, SimulatedSnapshots
from tests.support.simulated_store import Damage, Disk, WatchedStore

TOPIC_ID: Final = "the one"


class World(Protocol):
    """What a machine needs of the world around it."""

    loop: SimulatedLoop
    random: Random
    plan: Plan
    network: Network
    events: SimulatedLog
    commands: SimulatedLog
    heartbeats: SimulatedLog
    shelf: Shelf

    def land(self, records: Sequence[Encoded]) -> int: ...
    def tell(self, partition: int, reply: Reply) -> None: ...
    def moved(self, machine: str, position: LogPosition) -> None: ...
    def say(self, who: str, what: str) -> None: ...
    def ended(self, who: str, task: asyncio.Task[None]) -> None: ...
    def count(self, what: str) -> None: ...


class Machine:
    """A machine that may crash, stall, restart, and start again with another disk."""

    def __init__(self, world: World, name: str, disk: Disk) -> None:
        self.name = name
        self._world = world
        self.disk = disk
        self._skew_ms = world.random.randint(-world.plan.clock_skew_ms, world.plan.clock_skew_ms)
        self._granted = False
        self._life = 0
        self.stopping = False
        self.process: Process | None = None
        self.writer: PartitionWriter | None = None
        self.store: WatchedStore | None = None
        self.hint = OwnershipHint(still_ours=lambda: self._granted)
        self.detector = FailureDetector("", name, standbys=0)
        self._heartbeats: HeartbeatExchange | None = None
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._heartbeating: asyncio.Task[None] | None = None

    @property
    def alive(self) -> bool:
        return self.process is not None and not self.process.dead

    @property
    def serving(self) -> bool:
        return self.alive and self.writer is not None and self.writer.status is Status.SERVING

    def start(self, *, fuse: int | None = None, damage: Damage = Damage.NONE) -> None:
        """Start a new process, which dies by itself after `fuse` steps."""
        assert not self.alive
        world = self._world
        self._life += 1
        self.stopping = False
        self.disk.damage(damage)
        process = self.process = world.loop.process(f"{self.name}{self._life}")
        process.fuse = fuse
        process.on_death = functools.partial(world.say, process.name, "dies")
        self._granted = False
        detector = self.detector = FailureDetector(process.name, self.name, standbys=world.plan.standbys)
        heartbeating = world.plan.standbys > 0
        self.hint = OwnershipHint(
            still_ours=lambda: self._granted,
            should_take_over=lambda term: (
                heartbeating and not self.stopping and detector.should_take_over(PARTITION, term)
            ),
            stands_by=lambda: heartbeating and not self.stopping and detector.stands_by(PARTITION),
        )
        writer = self.writer = PartitionWriter(
            TermSettings(
                partition=PARTITION,
                partitions=PARTITIONS,
                host=process.name,
                append_timeout_s=world.plan.append_timeout_s,
            ),
            hint=self.hint,
            logs=_Logs(world),
            open_store=functools.partial(self._open_store, process),
            replies=_Replies(world, process),
            now_ms=self._now_ms,
            snapshots=SimulatedSnapshots(world.shelf, world.network, world.random, world.count)
            if world.plan.snapshots_per_s
            else None,
            assignment_timeout_s=world.plan.assignment_timeout_s,
            on_status=self._on_status,
        )
        self._heartbeats = HeartbeatExchange(
            detector,
            _BeatLog(world),
            process=process.name,
            name=self.name,
            state=lambda: state_of({PARTITION: writer}),
            on_news=self._on_news,
            every_s=world.plan.heartbeat_s,
        )
        world.say(process.name, f"starts, its disk {damage}")
        task = self._task = world.loop.spawn(process, writer.run())
        task.add_done_callback(functools.partial(world.ended, process.name))
        if heartbeating:
            self._heartbeating = world.loop.spawn(process, self._heartbeats.run())
            self._heartbeating.add_done_callback(functools.partial(world.ended, process.name))

    def _on_status(self) -> None:
        if self._heartbeats is not None:
            self._heartbeats.send_now()
        self._news.set()

    def _on_news(self) -> None:
        self.hint.notify()
        self._news.set()

    def kill(self) -> None:
        """Simulate SIGKILL: none of its code runs any more."""
        if self.process is not None:
            self.process.kill()

    def pause(self) -> None:
        """Simulate SIGSTOP."""
        if self.process is not None:
            self._world.say(self.process.name, "is paused")
            self.process.paused = True

    def resume(self) -> None:
        """Simulate SIGCONT."""
        if self.process is not None and self.process.paused:
            self._world.say(self.process.name, "goes on")
            self.process.paused = False

    async def stop(self, timeout_s: float) -> None:
        """Simulate SIGTERM, and SIGKILL after the timeout."""
        if self.alive and self.writer is not None and self._task is not None and self.process is not None:
            self._world.say(self.process.name, "is asked to stop")
            self.stopping = True
            self.assign(ours=False)  # it leaves the group at once
            if self._heartbeats is not None:
                self._heartbeats.announce_leaving()
            over = self._world.loop.spawn(self.process, hand_over({PARTITION: self.writer}, self.detector, self._news))
            await asyncio.wait({over, self._task}, timeout=timeout_s, return_when=asyncio.ALL_COMPLETED)
            self.kill()

    def revoke(self) -> None:
        """Revoke the partition: the group is rebalancing."""
        self._granted = False

    def assign(self, *, ours: bool) -> None:
        """Deliver the group's assignment."""
        if self.alive and self.process is not None:
            self._world.say(self.process.name, f"hears from the group: {'yours' if ours else 'not yours'}")
            self._granted = ours
            self.hint.on_assignment(ours)

    def take_snapshot(self) -> None:
        """Take a snapshot of its disk, for all machines."""
        self.disk.take_snapshot()

    def back_up(self) -> None:
        """Keep a copy of the disk, which may be restored later."""
        self.disk.keep_copy()

    def _now_ms(self) -> int:
        return 1_700_000_000_000 + self._skew_ms + int(self._world.loop.time() * 1000)

    def _open_store(self, process: Process, topic_id: str) -> WatchedStore:
        network = self._world.network
        self.store = WatchedStore(
            self.disk.open(topic_id),
            seam=process.step,
            breaks=lambda: not network.healed and network.happens("broken store", self._world.plan.broken_store),
            moved=functools.partial(self._world.moved, process.name),
        )
        return self.store


class _Logs:
    """The two logs, through the network."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def events_topic_id(self) -> str:
        await self._world.network.pass_by()
        return TOPIC_ID

    async def read_events(self, offset: int, *, patient: bool = False) -> LogReader:
        await self._world.network.pass_by()
        return SimulatedReader(self._world.events, self._world.network, offset)

    async def read_commands(self, offset: int) -> LogReader:
        await self._world.network.pass_by()
        return SimulatedReader(self._world.commands, self._world.network, offset)

    async def append_events(self) -> LogAppender:
        await self._world.network.pass_by()
        return SimulatedAppender(self._world.events, self._world.network, land=self._world.land)


class _BeatLog:
    """The heartbeats, through the same network."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._appender = SimulatedAppender(world.heartbeats, world.network)

    async def append(self, record: Encoded, timeout_s: float) -> None:
        await self._appender.append(RecordList([record]), timeout_s)

    async def read_from_end(self) -> LogReader:
        await self._world.network.pass_by()
        return SimulatedReader(self._world.heartbeats, self._world.network, self._world.heartbeats.end)


class _Replies:
    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process

    def publish(self, replies: Sequence[tuple[int, Reply]]) -> None:
        for partition, reply in replies:
            self._process.step()
            self._world.tell(partition, reply)
        self._process.step()


def die_here(name: str) -> None:
    """Replace `crash_point`: the named crash points count as steps at which a process may die."""
    this_process().step()
