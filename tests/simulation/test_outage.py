"""A minute without a single acknowledgement: what it costs, and how soon it is over afterwards."""

from __future__ import annotations

import asyncio
from statistics import median

from services.sequencer.partition.writer import LONGEST_PAUSE_S
from tests.simulation.plan import Plan
from tests.simulation.run import Run, run

OUTAGE_S = 60.0
RUNS = 40


def test_a_minute_without_acknowledgements_makes_few_terms_and_ends_in_one_owner() -> None:
    """As when there are too few in-sync replicas: reads work, appends hang until their deadline."""
    ways_back: list[float] = []
    tries: list[int] = []

    async def story(world: Run) -> None:
        for machine in world.machines:
            machine.start()
            machine.assign(ours=machine is world.machines[0])
        async with asyncio.timeout(60):
            await world.clients[0].run(3, 0.0, 0.1)
        world.network.lost = 1.0
        asking = world.loop.create_task(world.clients[0].run(5, 0.0, 0.1))
        await asyncio.sleep(OUTAGE_S)
        assert not asking.done()
        ended = world.report.figures["term.ended"]
        began_s = world.loop.time()
        world.network.heal()
        async with asyncio.timeout(LONGEST_PAUSE_S + 5):
            while world.checker.decided < len(world.commands.records):
                await asyncio.sleep(0.01)
            await asking
        ways_back.append(world.loop.time() - began_s)
        tries.append(ended)
        assert [m for m in world.machines if m.serving] == [world.machines[0]]
        assert world.checker.term <= 2, "what was lost opened nothing"

    for seed in range(RUNS):
        run(seed, plan=Plan.calm(), story=story)
    print(
        f"\nafter {OUTAGE_S:g} s without acknowledgements and {median(tries):g} tries: back in"
        f" {median(ways_back):.1f} s (median), {max(ways_back):.1f} s (worst of {RUNS})"
    )
    assert max(tries) <= 12, "a pause doubles: a minute is no storm"
    assert max(ways_back) <= 2 * LONGEST_PAUSE_S + 1, "one deadline that began in the outage, one pause"
