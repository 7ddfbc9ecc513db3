"""Background probes of a process's dependencies: Kafka, Postgres, an object store.

Each dependency is probed about once a second, with a deadline, so an idle process notices an outage as soon as a busy
one does. /readyz and the gauge show the last result, so reading them costs no round trip.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from services.runtime.health.health import Readiness
from services.runtime.observe.metrics import DEPENDENCY_REACHABLE
from services.runtime.observe.repeated_lines import LINES
from services.runtime.process.tasks import end

PROBE_EVERY_S: Final = 1.0
PROBE_AGAIN_S: Final = 0.5
"""Delay of the next probe after a failure; that probe shows whether it was more than a hiccup."""
PROBE_TIMEOUT_S: Final = 3.0
DOUBT_S: Final = 3.0
"""How long probes must keep failing before a dependency counts as unreachable, so that one slow answer, or a pause of
this process, does not take it out of the load balancer."""
SUCCESSES_TO_RETURN: Final = 2
"""Consecutive successes before a dependency counts as reachable again, so that readiness does not flap."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """The result of one probe. Each field is a sentence, or None."""

    trouble: str | None = None
    """Why the dependency cannot be used."""
    note: str | None = None
    """A fault of a dependency that can still be used."""


OK: Final = ProbeResult()
Probe = Callable[[], Awaitable[ProbeResult]]


class Dependency:
    """Probes one dependency while `run` runs, and keeps readiness, gauge and log up to date."""

    def __init__(
        self,
        name: str,
        probe: Probe,
        readiness: Readiness,
        *,
        required: bool = True,
        every_s: float = PROBE_EVERY_S,
        timeout_s: float = PROBE_TIMEOUT_S,
        doubt_s: float = DOUBT_S,
    ) -> None:
        """Add a readiness check of this name. If not `required`, an outage is a note and the process stays ready."""
        self._name = name
        self._probe = probe
        self._readiness = readiness
        self._required = required
        self._every_s = every_s
        self._timeout_s = timeout_s
        self._doubt_s = doubt_s
        self._probing: asyncio.Task[ProbeResult] | None = None
        self._probed = asyncio.Event()
        self._reachable: bool | None = None
        """None until the first probe has ended."""
        self._failing_since_s: float | None = None
        self._lost_s = 0.0
        self._successes = 0
        self._trouble: str | None = None
        self._gauge = DEPENDENCY_REACHABLE.labels(dependency=name)
        self._gauge.set(0)
        readiness.add_check(name, self._check)

    async def run(self) -> None:
        """Probe until cancelled."""
        try:
            while True:
                self._take(await self._ask())
                settled = self._failing_since_s is None and self._reachable
                await asyncio.sleep(self._every_s if settled else min(PROBE_AGAIN_S, self._every_s))
        finally:
            if self._probing is not None:
                self._probing.cancel()

    async def _check(self) -> str | None:
        """Return the trouble to show on /readyz. Waits only for the first probe of the process's life."""
        if not self._required:
            return None
        if self._probing is None:
            return f"{self._name} has not been probed yet."
        await self._probed.wait()
        return self._trouble

    async def _ask(self) -> ProbeResult:
        """Return the result of one probe, in time. A probe that ignores its cancellation is not started again."""
        if self._probing is None or self._probing.done():
            self._probing = asyncio.ensure_future(self._probe())
        await asyncio.wait({self._probing}, timeout=self._timeout_s)
        if not self._probing.done():
            self._probing.cancel()
            self._probing.add_done_callback(_retrieved)
            return ProbeResult(trouble=f"No answer from {self._name} within {self._timeout_s:g} s.")
        if self._probing.cancelled():  # it missed its deadline, and has ended since
            return ProbeResult(trouble=f"No answer from {self._name} within {self._timeout_s:g} s.")
        error = self._probing.exception()
        if error is not None:
            return ProbeResult(trouble=f"{self._name} cannot be reached ({type(error).__name__}: {error!s:.200}).")
        return self._probing.result()

    def _take(self, answer: ProbeResult) -> None:
        now_s = asyncio.get_running_loop().time()
        if answer.trouble is None:
            self._failing_since_s = None
            self._successes += 1
            if self._reachable is None or (not self._reachable and self._successes >= SUCCESSES_TO_RETURN):
                self._returned(now_s)
        else:
            self._successes = 0
            if self._failing_since_s is None:
                self._failing_since_s = now_s
            if not self._reachable:  # not yet, or no longer
                self._trouble = answer.trouble
            if self._reachable is not False and now_s - self._failing_since_s >= self._doubt_s:
                self._lost(answer.trouble, now_s)
        self._probed.set()
        self._show_note(answer)

    def _lost(self, trouble: str, now_s: float) -> None:
        self._reachable = False
        self._lost_s = now_s
        self._trouble = trouble
        self._gauge.set(0)
        log.warning("dependency.unreachable", dependency=self._name, reason=trouble)

    def _returned(self, now_s: float) -> None:
        was_away, self._reachable = self._reachable is False, True
        self._trouble = None
        self._gauge.set(1)
        if was_away:
            log.info(
                "dependency.reachable",
                dependency=self._name,
                away_s=round(now_s - self._lost_s, 1),
                suppressed_lines=LINES.left_out(),
            )

    def _show_note(self, answer: ProbeResult) -> None:
        note = answer.note if self._required or self._reachable else self._trouble
        if note is None:
            self._readiness.clear_note(self._name)
        else:
            self._readiness.note(self._name, note)


@asynccontextmanager
async def probed(*dependencies: Dependency) -> AsyncIterator[None]:
    """Probe the dependencies while the block runs."""
    tasks = [asyncio.create_task(each.run(), name="probe") for each in dependencies]
    try:
        yield
    finally:
        await end(tasks)


def _retrieved(task: asyncio.Task[ProbeResult]) -> None:
    if not task.cancelled():
        task.exception()  # so that asyncio does not report it as never retrieved
