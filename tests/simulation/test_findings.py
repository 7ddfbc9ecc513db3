"""What the simulation found in the production code, each as a story of its own, independent of the seeds."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from tests.simulation.clients import Client
from tests.simulation.plan import Plan
from tests.simulation.run import Run, run


async def _until(condition: Callable[[], bool]) -> None:
    """Wait in simulated time, so a minute costs nothing."""
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.01)


async def _served(client: Client, requests: int) -> None:
    async with asyncio.timeout(60):
        await client.run(requests, 0.0, 0.1)


def test_who_slept_while_its_successor_decided_and_trimmed_is_superseded_and_not_stopped() -> None:
    """Trimmed commands are missing only if they are undecided.

    The writer used to stop its partition permanently, with an alarm, although nothing was lost: keep_commands_s may be
    short, and a SIGSTOP long.
    """

    async def story(world: Run) -> None:
        sleeper, successor = world.machines
        sleeper.start()
        sleeper.assign(ours=True)
        await _until(lambda: sleeper.serving)
        await _served(world.clients[0], 5)
        sleeper.pause()
        successor.start()
        successor.assign(ours=True)
        await _until(lambda: successor.serving)
        await _served(world.clients[0], 5)
        assert successor.writer is not None
        decided = successor.writer.decided_offset
        assert decided is not None
        world.commands.trim(decided + 1)
        sleeper.assign(ours=False)
        sleeper.resume()
        await _until(lambda: world.report.figures.get("term.superseded", 0) == 1)
        await _served(world.clients[0], 5)
        assert not sleeper.serving
        assert "partition.stopped" not in world.report.figures

    run(0, plan=Plan.calm(), story=story)


def test_who_slept_between_its_opening_and_its_first_command_is_superseded_and_not_stopped() -> None:
    """The same at step 4: the commands after its head are gone before it requests the first."""

    async def story(world: Run) -> None:
        sleeper, successor = world.machines
        sleeper.start()
        sleeper.assign(ours=True)
        await _until(lambda: world.checker.term == 1)  # its opening has landed, but it does not know it yet
        sleeper.pause()
        successor.start()
        successor.assign(ours=True)
        await _until(lambda: successor.serving)
        await _served(world.clients[0], 5)
        assert successor.writer is not None
        decided = successor.writer.decided_offset
        assert decided is not None
        world.commands.trim(decided + 1)
        sleeper.assign(ours=False)
        sleeper.resume()
        await _until(lambda: world.report.figures.get("term.superseded", 0) == 1)
        assert "partition.stopped" not in world.report.figures

    run(0, plan=Plan.calm(), story=story)


class _Shown(Exception):
    """The story is over: the rest of the run would rightly miss what was lost."""


def test_an_idle_writer_whose_log_was_cut_under_it_folds_what_is_left_and_writes_on() -> None:
    """Kafka was restored from an older copy.

    The writer used to stop its partition: it noticed that the next command was gone, but not that its events were.
    """

    async def story(world: Run) -> None:
        (machine, *_) = world.machines
        machine.start()
        machine.assign(ours=True)
        await _until(lambda: machine.serving)
        await _served(world.clients[0], 5)
        assert machine.writer is not None
        term, decided = machine.writer.term, machine.writer.decided_offset
        assert term is not None
        assert decided is not None
        world.events.cut(world.events.end - 3)
        world.commands.cut(decided - 2)
        await _until(lambda: machine.writer is not None and machine.serving and machine.writer.term == term + 1)
        assert "partition.stopped" not in world.report.figures
        raise _Shown

    with pytest.raises(_Shown):
        run(0, plan=Plan.calm(), story=story)
