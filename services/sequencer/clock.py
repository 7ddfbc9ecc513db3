"""The time that outcomes carry: this machine's, within minutes of what a broker's clock says.

Times in a partition never fall. So one outcome that is years ahead would hold the partition there for years. A process
therefore compares its clock with a broker's before it serves and while it serves. If the two are more than
`max_skew_ms` apart, either may be the wrong one: the process says so and does not serve. Between two comparisons the
broker's clock, carried on by the monotonic one, takes the place of a clock that has jumped.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from services.runtime.health.health import Readiness
from services.runtime.kafka.broker_time import Reading
from services.runtime.kafka.errors import KafkaError
from services.runtime.process.backoff import Backoff
from services.runtime.process.lifecycle import Supervisor
from services.sequencer import metrics

COMPARED_EVERY_S: Final = 10.0
LONGEST_PAUSE_S: Final = 2.0
"""Between two comparisons of a process that waits to serve."""
WRONG_IN_A_ROW: Final = 2
"""Comparisons after which a process that serves stops: one alone may have met a pause of the machine."""
AGAIN_S: Final = 1.0
"""After a comparison that found the clock wrong, while serving."""

log = structlog.get_logger(__name__)


def wall_clock_ms() -> int:
    """This machine's clock: ms since 1970 UTC."""
    return time.time_ns() // 1_000_000


class ClockWrong(Exception):
    """This machine's clock and the broker's are too far apart. Set them (NTP), then start again."""


class Clock:
    """This machine's clock, held to the broker's. Pure but for the two clocks that it is given."""

    def __init__(
        self,
        *,
        max_skew_ms: int,
        wall_ms: Callable[[], int] | None = None,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_skew_ms = max_skew_ms
        self._wall_ms = wall_ms if wall_ms is not None else wall_clock_ms
        self._monotonic_s = monotonic_s
        self._broker_at_zero_ms: float | None = None
        """The broker's time when the monotonic clock was 0, by the last comparison."""
        self.skew_ms: int | None = None
        """This machine's time less the broker's at the last comparison; None before the first."""

    def compare(self, reading: Reading) -> None:
        """Takes a reading that was made just now."""
        middle_s = (reading.sent_s + reading.answered_s) / 2
        if (reading.answered_s - reading.sent_s) * 1000 > self._max_skew_ms:
            return  # it says less than what we ask: no answer of a broker takes that long, but a paused process does
        self._broker_at_zero_ms = reading.broker_ms - middle_s * 1000
        self.skew_ms = round(self._wall_ms() - self._broker_ms())

    @property
    def trouble(self) -> str | None:
        """Why the last comparison forbids serving: one sentence, or None."""
        if self.skew_ms is None:
            return "This machine's clock has not been compared with a broker's yet."
        if abs(self.skew_ms) <= self._max_skew_ms:
            return None
        where = "ahead of" if self.skew_ms > 0 else "behind"
        return (
            f"This machine's clock is {abs(self.skew_ms) / 1000:,.0f} s {where} the broker's, more than the"
            f" {self._max_skew_ms / 1000:g} s of GAPLESS_SEQUENCER_MAX_CLOCK_SKEW_S: outcomes would carry a wrong time"
            " that a partition cannot take back. Set the clocks of both (NTP)."
        )

    def now_ms(self) -> int:
        """ms since 1970 UTC, at most `max_skew_ms` from the broker's clock. `compare` comes first."""
        wall_ms, broker_ms = self._wall_ms(), self._broker_ms()
        return wall_ms if abs(wall_ms - broker_ms) <= self._max_skew_ms else round(broker_ms)

    def _broker_ms(self) -> float:
        assert self._broker_at_zero_ms is not None, "compare() comes first"
        return self._broker_at_zero_ms + self._monotonic_s() * 1000


async def until_right(
    clock: Clock, read: Callable[[], Awaitable[Reading]], supervisor: Supervisor, readiness: Readiness
) -> bool:
    """Compares until the clocks agree. False when the process is asked to stop before they do."""
    backoff = Backoff(LONGEST_PAUSE_S)
    said = ""
    while not supervisor.stopping:
        try:
            clock.compare(await read())
            trouble = clock.trouble
        except KafkaError as error:
            trouble = f"This machine's clock cannot be compared with a broker's: {error}."
        _measure(clock)
        if trouble is None:
            readiness.clear_trouble("clock")
            return True
        readiness.report_trouble("clock", trouble)
        if trouble.split(" s ")[0] != said:
            log.error("clock.not_right", reason=trouble)
            said = trouble.split(" s ")[0]
        try:
            await asyncio.wait_for(supervisor.stop_requested(), backoff.next_s())
        except TimeoutError:
            continue
    return False


async def watch(clock: Clock, read: Callable[[], Awaitable[Reading]], *, every_s: float = COMPARED_EVERY_S) -> None:
    """Compares from time to time. Raises ClockWrong when the clocks are too far apart, and stay so.

    A Kafka that is away is no reason: nothing is appended meanwhile either.
    """
    wrong = 0
    while True:
        await asyncio.sleep(AGAIN_S if wrong else every_s)
        try:
            clock.compare(await read())
        except KafkaError as error:
            log.debug("clock.not_compared", reason=str(error))
            continue
        _measure(clock)
        trouble = clock.trouble
        wrong = wrong + 1 if trouble is not None else 0
        if trouble is not None and wrong >= WRONG_IN_A_ROW:
            raise ClockWrong(trouble)


def _measure(clock: Clock) -> None:
    if clock.skew_ms is not None:
        metrics.CLOCK_SKEW_SECONDS.set(clock.skew_ms / 1000)
