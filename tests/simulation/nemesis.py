"""The group, and the faults of machines: rebalances, crashes, stalls, restarts, damaged disks, trimming."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from random import Random
from typing import Any, Protocol

from tests.simulation.machines import Machine
from tests.simulation.plan import Plan
from tests.support.simulated_log import SimulatedLog
from tests.support.simulated_loop import SimulatedLoop
from tests.support.simulated_store import Damage


class World(Protocol):
    loop: SimulatedLoop
    random: Random
    plan: Plan
    commands: SimulatedLog
    machines: list[Machine]

    def say(self, who: str, what: str) -> None: ...


class Nemesis:
    """Injects each kind of fault at its own rate."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._random = world.random
        self.counts: dict[str, int] = {}

    def fuse(self) -> int | None:
        """Return after how many steps a new process dies by itself: between any two awaits or at a seam."""
        if self._world.plan.crashes_per_s and self._random.random() < 0.5:
            return self._random.randrange(1, 600)
        return None

    async def run(self) -> None:
        """Run until the time of the faults is over."""
        plan = self._world.plan
        kinds: list[tuple[float, Callable[[], Coroutine[Any, Any, None]]]] = [
            (plan.words_per_s, self._rebalance),
            (plan.crashes_per_s, self._crash),
            (plan.revives_per_s if plan.crashes_per_s else 0.0, self._revive),
            (plan.power_cuts_per_s, self._cut_power),
            (plan.pauses_per_s, self._pause),
            (plan.restarts_per_s, self._restart),
            (plan.trims_per_s, self._trim),
            (plan.damage and 0.3, self._back_up),
            (plan.snapshots_per_s, self._take_snapshot),
        ]
        await self._rebalance()
        tasks = [asyncio.create_task(self._again(rate, what)) for rate, what in kinds if rate]
        await asyncio.sleep(plan.faults_s)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()

    async def _again(self, rate: float, what: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            await asyncio.sleep(self._random.expovariate(rate))
            await what()

    def _count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    async def _rebalance(self) -> None:
        """Assign the partition to each machine at its own time; some see a revocation before."""
        self._count("rebalances")
        plan, random, machines = self._world.plan, self._random, self._world.machines
        owners = {random.choice(machines).name} if random.random() >= plan.no_owner else set()
        if random.random() < plan.two_owners:
            owners |= {m.name for m in random.sample(machines, 2)}
        spread_s = random.choice((0.0, 0.3))  # all at once, or one after the other
        for machine in random.sample(machines, len(machines)):
            if random.random() < 0.5:
                machine.revoke()
            await asyncio.sleep(random.random() * spread_s)
            machine.assign(ours=machine.name in owners)

    async def _crash(self) -> None:
        machine = self._random.choice(self._world.machines)
        if machine.alive:
            self._count("kills")
            machine.kill()

    async def _cut_power(self) -> None:
        """Cut the power of all machines; afterwards, with even odds, the partition is assigned to each of them."""
        self._count("power cuts")
        for machine in self._world.machines:
            machine.kill()
        await asyncio.sleep(self._random.random())
        owner = self._random.choice(self._world.machines)
        all_own = self._random.random() < 0.5
        for machine in self._world.machines:
            if not machine.alive:
                machine.start(fuse=self.fuse(), damage=self._damage())
            machine.assign(ours=all_own or machine is owner)

    def _damage(self) -> Damage:
        if self._random.random() < self._world.plan.damage:
            kinds = [kind for kind in Damage if kind is not Damage.SNAPSHOT or self._world.plan.snapshots_per_s]
            return self._random.choice(kinds)
        return Damage.NONE

    async def _revive(self) -> None:
        for machine in self._world.machines:
            if not machine.alive and self._random.random() < 0.5:
                self._count("starts")
                machine.start(fuse=self.fuse(), damage=self._damage())
                if self._random.random() < 0.7:
                    machine.assign(ours=self._random.random() < 0.6)

    async def _pause(self) -> None:
        machine = self._random.choice(self._world.machines)
        self._count("pauses")
        machine.pause()
        await asyncio.sleep(self._random.choice((0.05, 1.0, 6.0)))
        machine.resume()

    async def _restart(self) -> None:
        machine = self._random.choice(self._world.machines)
        self._count("restarts")
        await machine.stop(8.0)
        if not machine.alive:
            machine.start(fuse=self.fuse())

    async def _trim(self) -> None:
        """Trim as services/sequencer/trimming.py does: a serving machine trims what it knows to be decided, any time
        later.
        """
        serving = [m for m in self._world.machines if m.serving]
        if serving:
            machine = self._random.choice(serving)
            decided = machine.writer.decided_offset if machine.writer is not None else None
            if decided is not None:
                self._count("trims")
                await asyncio.sleep(self._random.random())
                self._world.say("world", f"commands are trimmed up to {decided}")
                self._world.commands.trim(decided + 1)

    async def _take_snapshot(self) -> None:
        self._count("snapshots")
        self._random.choice(self._world.machines).take_snapshot()

    async def _back_up(self) -> None:
        self._random.choice(self._world.machines).back_up()
