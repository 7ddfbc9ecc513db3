"""The time of outcomes stays within minutes of the broker's, whatever this machine's clock does."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.health.health import Readiness
from services.runtime.kafka.broker_time import Reading
from services.runtime.kafka.errors import KafkaUnavailable
from services.runtime.process.lifecycle import Supervisor
from services.sequencer.clock import Clock, ClockWrong, until_right, watch

NOON_MS = 1_796_000_000_000
MAX_MS = 300_000
YEAR_MS = 365 * 24 * 3600 * 1000


@dataclass(slots=True)
class World:
    """True time, and a machine whose clock is off by `wrong_ms`."""

    true_s: float = 0.0
    wrong_ms: int = 0

    def clock(self) -> Clock:
        return Clock(
            max_skew_ms=MAX_MS,
            wall_ms=lambda: NOON_MS + round(self.true_s * 1000) + self.wrong_ms,
            monotonic_s=lambda: self.true_s,
        )

    def reading(self, took_s: float = 0.0) -> Reading:
        """Return a reading in which the broker read its clock at the end of the time."""
        sent_s = self.true_s
        self.true_s += took_s
        return Reading(NOON_MS + round(self.true_s * 1000), sent_s, self.true_s)

    async def read(self) -> Reading:
        return self.reading()


steps = st.lists(
    st.one_of(
        st.tuples(st.just("pass"), st.floats(0, 10_000)),
        st.tuples(st.just("jump"), st.integers(-20 * YEAR_MS, 20 * YEAR_MS)),
        st.tuples(st.just("jump"), st.integers(-2 * MAX_MS, 2 * MAX_MS)),
        st.tuples(st.just("compare"), st.floats(0, 1_000)),
    ),
    max_size=30,
)


@given(steps)
def test_the_time_is_never_further_from_the_brokers_than_allowed(drawn: list[tuple[str, float]]) -> None:
    world = World()
    clock = world.clock()
    clock.compare(world.reading())
    for what, amount in drawn:
        if what == "pass":
            world.true_s += amount
        elif what == "jump":
            world.wrong_ms = int(amount)
        else:
            clock.compare(world.reading(took_s=amount))
        # The broker's clock is known within half the round trip, and the slowest reading that counts bounds that.
        assert abs(clock.now_ms() - (NOON_MS + world.true_s * 1000)) <= MAX_MS + MAX_MS / 2 + 2


def test_a_clock_that_is_right_is_taken_as_it_is() -> None:
    world = World(wrong_ms=4_321)
    clock = world.clock()
    clock.compare(world.reading(took_s=0.5))
    world.true_s += 60.0
    assert clock.now_ms() == NOON_MS + 60_500 + 4_321
    assert clock.trouble is None


@pytest.mark.parametrize(("wrong_ms", "said"), [(YEAR_MS, "31,536,000 s ahead of"), (-MAX_MS - 1_000, "301 s behind")])
def test_one_that_is_minutes_off_is_a_trouble_that_says_which_way_and_what_to_do(wrong_ms: int, said: str) -> None:
    world = World(wrong_ms=wrong_ms)
    clock = world.clock()
    clock.compare(world.reading())
    assert clock.trouble is not None
    assert said in clock.trouble
    assert "GAPLESS_SEQUENCER_MAX_CLOCK_SKEW_S" in clock.trouble
    assert "NTP" in clock.trouble


def test_a_process_waits_with_serving_until_its_clock_is_right() -> None:
    async def main() -> None:
        world, readiness, supervisor = World(wrong_ms=YEAR_MS), Readiness(), Supervisor()
        clock = world.clock()
        asked = 0

        async def read() -> Reading:
            nonlocal asked
            asked += 1
            if asked == 1:
                raise KafkaUnavailable("nobody there")
            if asked == 3:
                assert "ahead of the broker's" in str((await readiness.report()).reasons)
                world.wrong_ms = 0
            return world.reading()

        assert await until_right(clock, read, supervisor, readiness)
        assert asked == 3
        assert (await readiness.report()).ready

    asyncio.run(main())


def test_a_process_that_waits_for_its_clock_can_be_stopped() -> None:
    async def main() -> None:
        world, supervisor = World(wrong_ms=YEAR_MS), Supervisor()
        waiting = asyncio.create_task(until_right(world.clock(), world.read, supervisor, Readiness()))
        await asyncio.sleep(0)
        supervisor.request_stop("the test")
        assert not await waiting

    asyncio.run(main())


def test_a_clock_that_jumps_ends_the_process_and_a_kafka_that_is_away_does_not() -> None:
    async def main() -> None:
        world = World()
        clock = world.clock()
        asked = 0

        async def read() -> Reading:
            nonlocal asked
            asked += 1
            if asked == 2:
                raise KafkaUnavailable("away")
            if asked == 4:
                world.wrong_ms = YEAR_MS
            return world.reading()

        with pytest.raises(ClockWrong, match="ahead of the broker's"):
            await watch(clock, read, every_s=0.001)
        assert asked == 5, "the second comparison in a row decides"

    asyncio.run(main())
