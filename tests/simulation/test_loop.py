"""The simulated loop: time that jumps, an order that the seed draws, processes that die without cleaning up."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from tests.support.simulated_loop import Killed, SimulatedLoop, Stuck, this_process


@pytest.fixture
def loop() -> SimulatedLoop:
    return SimulatedLoop(Random(1))


def test_time_jumps_and_never_waits(loop: SimulatedLoop) -> None:
    async def main() -> float:
        await asyncio.sleep(3_600)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await asyncio.Event().wait()
        return loop.time()

    assert loop.run_until_complete(main()) == 3_660.0


def test_one_process_keeps_asyncios_order_and_two_are_interleaved_by_the_seed() -> None:
    def story(seed: int) -> str:
        loop = SimulatedLoop(Random(seed))
        said: list[str] = []

        async def talk(name: str) -> None:
            for word in range(5):
                said.append(f"{name}{word}")
                await asyncio.sleep(0)

        async def main() -> None:
            await asyncio.wait([loop.spawn(loop.process(name), talk(name)) for name in "ab"])

        loop.run_until_complete(main())
        loop.bury()
        for name in "ab":
            assert [word for word in said if word[0] == name] == [f"{name}{n}" for n in range(5)]
        return " ".join(said)

    assert story(1) == story(1)
    assert len({story(seed) for seed in range(20)}) > 5


def test_a_killed_process_does_not_reach_its_finally(loop: SimulatedLoop) -> None:
    said: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(2)
            said.append("woke up")
        finally:
            said.append("finally")

    async def main() -> list[str]:
        process = loop.process("victim")
        loop.spawn(process, work())
        await asyncio.sleep(1)
        process.kill()
        await asyncio.sleep(10)
        return list(said)

    assert loop.run_until_complete(main()) == []
    loop.bury()
    assert said == ["finally"], "let go only when nobody looks any more"


def test_a_fuse_ends_a_process_at_any_step_also_inside_a_callback(loop: SimulatedLoop) -> None:
    said: list[int] = []

    async def work() -> None:
        for n in range(100):
            this_process().step()
            said.append(n)
            await asyncio.sleep(0)

    async def main() -> int:
        process = loop.process("victim")
        process.fuse = 10
        loop.spawn(process, work()).add_done_callback(lambda task: task.cancelled() or task.exception())
        await asyncio.sleep(1)
        assert process.dead
        return len(said)

    loop.set_exception_handler(lambda *_: None)
    assert loop.run_until_complete(main()) in (4, 5)


def test_a_paused_process_finds_its_timers_due_when_it_goes_on(loop: SimulatedLoop) -> None:
    async def work() -> float:
        await asyncio.sleep(1)
        return loop.time()

    async def main() -> float:
        process = loop.process("sleeper")
        task = loop.spawn(process, work())
        await asyncio.sleep(0.5)
        process.paused = True
        await asyncio.sleep(30)
        assert not task.done()
        process.paused = False
        return await task

    assert loop.run_until_complete(main()) == 30.5


def test_a_world_in_which_nothing_can_happen_says_so(loop: SimulatedLoop) -> None:
    with pytest.raises(Stuck):
        loop.run_until_complete(asyncio.Event().wait())


def test_a_loop_that_turns_without_time_passing_says_so(loop: SimulatedLoop) -> None:
    async def turn() -> None:
        while True:
            await asyncio.sleep(0)

    loop.most_steps = 1_000
    with pytest.raises(Stuck):
        loop.run_until_complete(turn())


def test_killed_is_no_ordinary_exception() -> None:
    assert not issubclass(Killed, Exception), "production code that catches Exception must not survive its death"
