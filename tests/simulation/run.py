"""One run: machines with production writers, clients, a group and a nemesis, and what must hold at any time.

run(seed)        # -> Report; raises Failed with the story of the run
"""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextvars import Context
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final
from unittest import mock

from schemas import limits
from schemas.events import TermOpened, encode_term_opened
from schemas.log import Stamp
from schemas.wire.encoding import Command, Encoded, Unreadable, encode_outcome, event_source, opening_outcome
from schemas.wire.replies import Reply
from services.sequencer.partition.writer import Status
from services.sequencer.ports import LogPosition
from services.sequencer.rules.decide import Decision, decide
from services.sequencer.rules.state import View
from services.sequencer.store import fold as recovery
from tests.oracle.oracle import TEXT_CHARACTERS
from tests.simulation.checker import Checker, Violation
from tests.simulation.clients import PARTITION, PARTITIONS, Client, rubbish
from tests.simulation.machines import TOPIC_ID, Machine
from tests.simulation.nemesis import Nemesis
from tests.simulation.plan import Plan
from tests.simulation.production import production_in
from tests.support.simulated_log import Network, SimulatedLog, SimulatedReader
from tests.support.simulated_loop import Killed, SimulatedLoop, Stuck, this_process
from tests.support.simulated_snapshots import Shelf
from tests.support.simulated_store import Disk, MemoryDisk

SHORT_TEXT: Final = 100
"""The limit of the other version; some texts of the clients are longer."""
RECOVERY_S: Final = 120.0
"""Simulated seconds from the last fault to an outcome for every command.

Enough for the longest pause (30 s), a fold that makes no progress (15 s), an append and an assignment that time out,
and two of them one after the other.
"""


@dataclass(slots=True)
class Report:
    """The result of a run."""

    seed: int
    plan: Plan
    trace: list[str] = field(default_factory=list)
    figures: dict[str, int] = field(default_factory=dict)
    recovered_s: float = 0.0
    steps: int = 0

    @property
    def trace_hash(self) -> str:
        """Hash of everything that happened, in order."""
        return hashlib.blake2b("\n".join(self.trace).encode(), digest_size=16).hexdigest()


class Failed(Exception):
    """A run in which a statement did not hold; with its story."""

    def __init__(self, report: Report, what: str) -> None:
        super().__init__(what)
        self.report = report
        self.what = what

    def story(self) -> str:
        """Return the whole story as text."""
        return "\n".join(
            [
                f"seed {self.report.seed}: {self.what}",
                f"replay: pytest tests/simulation --seed {self.report.seed}",
                f"plan: {self.report.plan}",
                *self.report.trace,
                f"VIOLATION  {self.what}",
            ]
        )


class Run:
    """One run, as in the module's docstring; the `World` of tests/simulation/machines.py."""

    def __init__(
        self,
        seed: int,
        loop: SimulatedLoop,
        report: Report,
        disk: Callable[[int, Shelf], Disk] | None,
        *,
        of_bytes: bool = False,
    ) -> None:
        self.loop = loop
        self.report = report
        self.plan = report.plan
        self.random = Random(f"world {seed}")
        self.network = _network(self.plan, self.random)
        self.shelf: Shelf = {}
        disk = disk if disk is not None else lambda _, shelf: MemoryDisk(self.random, shelf)
        self.events = SimulatedLog(of_bytes=of_bytes)
        self.commands = SimulatedLog(of_bytes=of_bytes)
        self.heartbeats = SimulatedLog()
        self.checker = Checker(
            self.commands, partition=PARTITION, partitions=PARTITIONS, text_characters_of=self._text_characters_of
        )
        self.machines = [Machine(self, f"writer-{'abc'[n]}-", disk(n, self.shelf)) for n in range(self.plan.writers)]
        founded = asyncio.Event()
        self.clients = [
            Client(n, Random(f"client {n} {seed}"), self._put, self._put_rubbish, founded)
            for n in range(self.plan.clients)
        ]
        self.owner = self.machines[0]
        self.nemesis = Nemesis(self)
        self._over = False
        self._violated: asyncio.Future[str] = loop.create_future()
        loop.set_exception_handler(self._complained)

    # --- the story --------------------------------------------------------------------------------------------

    async def tell_story(self) -> None:
        """Run from the first start to an outcome for every command.

        Raises Violation if a statement does not hold.
        """
        for machine in self.machines:
            machine.start(fuse=self.nemesis.fuse())
        clients = [
            self.loop.create_task(c.run(self.plan.requests, self.plan.bad_commands, self.plan.faults_s / 4))
            for c in self.clients
        ]
        troubling = self.loop.create_task(self.nemesis.run())
        await self._until([troubling], self.plan.faults_s + 60.0, "the nemesis ends")
        self._heal()
        began_s, asked = self.loop.time(), len(self.commands.records)
        deciding = self.loop.create_task(self._decided(lambda: asked))
        await self._until([deciding], RECOVERY_S, "every command has its outcome")
        self.report.recovered_s = self.loop.time() - began_s
        await self._until(clients, RECOVERY_S, "every client is answered")
        late_s = self.plan.late_s
        if self.random.random() < 0.3:
            await asyncio.sleep(self.random.random() * late_s)
            self._land_a_stray_opening()
        more = [self.loop.create_task(c.run(2, 0.0, late_s, burst=0.0)) for c in self.clients]
        await self._until(more, RECOVERY_S + 2 * late_s, "every client is answered again")
        deciding = self.loop.create_task(self._decided(lambda: len(self.commands.records)))
        await self._until([deciding], RECOVERY_S, "every command has its outcome")
        await self._until([self.loop.create_task(self._one_serves())], RECOVERY_S, "the owner alone serves")
        if self.random.random() < 0.5:
            self._give_to(self.random.choice(self.machines))
            await self._until([self.loop.create_task(self._one_serves())], RECOVERY_S, "the new owner alone serves")
        if self.plan.standbys:
            await self._until([self.loop.create_task(self._without_a_word())], RECOVERY_S, "a standby takes over")
            self._give_to(self.random.choice(self.machines))
            await self._until([self.loop.create_task(self._one_serves())], RECOVERY_S, "the group has its way")
        await self._until([self.loop.create_task(self._same_as_a_fold())], RECOVERY_S, "a fold ends")

    def _heal(self) -> None:
        """End the faults: every process runs, the network is good, and the group agrees on an owner."""
        self.say("world", "heals")
        self.network.heal()
        for machine in self.machines:
            machine.resume()
            if machine.process is not None:
                machine.process.fuse = None
            if machine.stopping:
                machine.kill()
            if not machine.alive:
                machine.start()
        self._give_to(self.random.choice(self.machines))
        for client in self.clients:
            client.patience_s = 10.0

    def _give_to(self, owner: Machine) -> None:
        """Assign the partition to one machine, and notify all of them."""
        self.owner = owner
        for machine in self.machines:
            machine.assign(ours=machine is owner)

    def _land_a_stray_opening(self) -> None:
        """Append an opening of a process that no longer exists: no process serves the term, and the group does not
        react.
        """
        opened = TermOpened(owner="nobody", host="nobody", partitions=PARTITIONS)
        outcome = opening_outcome(encode_term_opened(opened), 0)
        self.land([encode_outcome(outcome, Stamp(self.checker.term + 1, 0, -1), event_source(PARTITION))])

    async def _decided(self, count: Callable[[], int]) -> None:
        while self.checker.decided < count():
            await asyncio.sleep(0.1)

    async def _one_serves(self) -> None:
        """Wait until only the owner serves.

        A machine that lost the hint stops as soon as the owner has opened a term; the owner opens one as soon as a
        command shows it that another machine had.
        """
        while [m for m in self.machines if m.serving] != [self.owner]:
            await asyncio.sleep(0.1)

    async def _without_a_word(self) -> None:
        """End the owner without the group noticing, so that a standby opens a term; then the owner returns."""
        if self.owner.writer is not None and self.owner.writer.term != self.checker.term:
            # A stray opening landed, and no command has shown it to the owner yet.
            await self.clients[0].run(1, 0.0, 0.1, burst=0.0)
        while not any(self._is_ready(machine) for machine in self.machines if machine is not self.owner):
            await asyncio.sleep(0.1)
        if self.random.random() < 0.5:
            self.owner.kill()
        else:
            await self.owner.stop(8.0)
        while not any(machine.serving for machine in self.machines):
            await asyncio.sleep(0.1)
        self.count("takeovers without a word")
        self.owner.start()

    def _is_ready(self, machine: Machine) -> bool:
        """Return whether it is a standby and knows which machine serves."""
        standing_by = machine.alive and machine.writer is not None and machine.writer.status is Status.STANDING_BY
        return standing_by and machine.detector.announced(PARTITION) == self.checker.term

    async def _same_as_a_fold(self) -> None:
        """Check that the live path and recovery reach the same state."""
        fresh = MemoryDisk(self.random).open(TOPIC_ID)
        reader = SimulatedReader(self.events, self.network, 0)
        await recovery.fold(reader, fresh, end=self.events.end, partitions=PARTITIONS)
        await asyncio.sleep(1.0)  # so that the serving machine has applied what it appended
        for machine in self.machines:
            store = machine.store
            if machine.serving and store is not None and store.position.next_offset == self.events.end:
                if (difference := fresh.image.differs_from(store)) is not None:
                    raise Violation(f"{machine.name} has another state than a fold of the log gives: {difference}")
                self.count("states compared")

    async def _until(self, tasks: Sequence[asyncio.Task[None]], timeout_s: float, what: str) -> None:
        deadline_s = self.loop.time() + timeout_s
        waiting: set[asyncio.Future[Any]] = set(tasks)
        while waiting:
            left_s = deadline_s - self.loop.time()
            done, _ = await asyncio.wait(
                waiting | {self._violated}, timeout=max(0.0, left_s), return_when=asyncio.FIRST_COMPLETED
            )
            if self._violated.done():
                raise Violation(self._violated.result())
            if not done:
                undecided = len(self.commands.records) - self.checker.decided
                raise Violation(f"in vain, for {timeout_s:g} s: {what} ({undecided} commands without an outcome)")
            waiting -= done
            for task in done:
                task.result()

    def bury(self) -> None:
        """Ignore everything from here on."""
        self._over = True

    def close(self) -> None:
        for machine in self.machines:
            machine.disk.close()

    # --- what happens -----------------------------------------------------------------------------------------

    def count(self, what: str) -> None:
        self.report.figures[what] = self.report.figures.get(what, 0) + 1

    def say(self, who: str, what: str) -> None:
        if not self._over:
            self.report.trace.append(f"{self.loop.time():9.3f}  {who:<12} {what}")

    def land(self, records: Sequence[Encoded]) -> int:
        if self._over:
            return -1
        base = self.events.append(records)
        landed = self.events.records[len(self.events.records) - len(records) :]
        stamps = ", ".join(f"{dict(r.headers)['ce_id'].decode()}" for r in landed)
        voids = self.checker.voids
        try:
            self.checker.landed(landed)
        except Violation as violation:
            self.violate(str(violation))
        void = self.checker.voids - voids
        self.say("log", f"offset {base}: {stamps}{f' ({void} void)' if void else ''}")
        return base

    def tell(self, partition: int, reply: Reply) -> None:
        if self._over:
            return
        self.say("reply", f"{reply.request_id} {reply.outcome} index {reply.index} seq {reply.seq}")
        try:
            self.checker.told(partition, reply)
        except Violation as violation:
            self.violate(str(violation))
        lost = not self.network.healed and self.random.random() < self.plan.lost_replies
        if partition < len(self.clients) and not lost:
            self.loop.call_later(self.network.delay(), self.clients[partition].hear, reply, context=_WORLD)

    def moved(self, who: str, position: LogPosition) -> None:
        if self._over:
            return
        try:
            self.checker.moved(position.next_offset, position.head)
        except Violation as violation:
            self.violate(f"{who}: {violation}")

    def ended(self, who: str, task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, Killed):
            self.violate(f"{who} ended with {error!r}")

    def logged(self, event: str, fields: Mapping[str, object]) -> None:
        """Add a log line of the production code to the story; some events are violations."""
        reason = fields.get("reason") or (repr(sys.exc_info()[1]) if fields.get("exc_info") else "")
        self.say("log line", f"{event} {fields.get('term', '')} {reason}".rstrip())
        self.count(event)
        if event in ("partition.stopped", "standby.ended", "term.unexpected_error", "producer.not_discarded"):
            self.violate(f"a writer says {event}: {reason}")

    def violate(self, what: str) -> None:
        self.say("VIOLATION", what)
        if not self._over and not self._violated.done():
            self._violated.set_result(what)

    def _text_characters_of(self, host: str) -> int:
        """Return the longest text that the program of a host accepts."""
        other = self.plan.versions_differ and host.startswith(self.machines[-1].name)
        return SHORT_TEXT if other else TEXT_CHARACTERS

    def decide(self, view: View, command: Command | Unreadable, at_ms: int) -> Decision:
        """Call the production function, in the version of the calling process."""
        self.count("decided")
        with mock.patch.object(limits, "TEXT_CHARACTERS", self._text_characters_of(this_process().name)):
            return decide(view, command, at_ms)

    def _complained(self, loop: asyncio.AbstractEventLoop, context: Mapping[str, Any]) -> None:
        error = context.get("exception")
        if not self._over and not isinstance(error, Killed):
            self.violate(f"asyncio complains: {context.get('message')} {error!r}")

    def _put(self, record: Encoded) -> int:
        return self.commands.append([record], timestamp_ms=int(self.loop.time() * 1000))

    def _put_rubbish(self) -> None:
        record = rubbish(self.random)
        if record is not None:
            self._put(record)
        elif self.random.random() < 0.5:
            self.commands.append_undecodable()
        else:
            self.commands.skip()


_WORLD: Final = Context()


def run(
    seed: int,
    *,
    disk: Callable[[int, Shelf], Disk] | None = None,
    plan: Plan | None = None,
    story: Callable[[Run], Coroutine[Any, Any, None]] = Run.tell_story,
    of_bytes: bool = False,
) -> Report:
    """Run once and return the report.

    Disks are in memory, or made by `disk` for a machine's number and the snapshots of all. `of_bytes`: the logs hold
    record batches as brokers do, so that compiled code reads, decides and writes them. `plan` and `story` are for tests
    with their own.

    Raises Failed if a statement does not hold.
    """
    report = Report(seed, plan if plan is not None else Plan.of(Random(f"plan {seed}")))
    loop = SimulatedLoop(Random(f"order {seed}"))
    the_run = Run(seed, loop, report, disk, of_bytes=of_bytes)
    with production_in(the_run, seed):
        try:
            loop.run_until_complete(story(the_run))
        except (Violation, Stuck) as violation:
            raise Failed(report, str(violation)) from None
        finally:
            the_run.bury()
            report.steps = loop.steps
            report.figures |= {**the_run.checker.figures, **the_run.network.counts, **the_run.nemesis.counts}
            loop.bury()
            the_run.close()
    return report


def _network(plan: Plan, random: Random) -> Network:
    return Network(
        random=random,
        slow=plan.slow,
        slow_s=plan.slow_s,
        unavailable=plan.unavailable,
        reads_short=plan.reads_short,
        refused=plan.refused,
        lost=plan.lost,
        unacknowledged=plan.unacknowledged,
        misplaced=plan.misplaced,
        copied=plan.copied,
        late_s=plan.late_s,
    )
