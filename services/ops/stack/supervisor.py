"""Keeps child processes running: each that ends is started again, after a pause that grows while it keeps dying.

It knows nothing of what the children are. Their death with us is their own matter (PR_SET_PDEATHSIG, set where
they are started): a supervisor that is killed cannot clean up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final, Protocol

import structlog

FIRST_PAUSE_S: Final = 0.2
LONGEST_PAUSE_S: Final = 10.0
STEADY_S: Final = 20.0
"""Who lived this long starts again with the first pause."""

log = structlog.get_logger(__name__)


class StartFailed(Exception):
    """A child could not be started; the message says why."""


class Child(Protocol):
    """A process that is to run."""

    @property
    def name(self) -> str: ...

    @property
    def pid(self) -> int | None:
        """Of the process that runs, or None."""

    async def start(self) -> None:
        """Starts it. Raises StartFailed, and then nothing is left running."""

    async def ended(self) -> int:
        """Returns its exit code when it has ended; negative: the signal that ended it."""

    async def stop(self) -> None:
        """Asks it to end, in the end by SIGKILL; returns when it is gone."""


class RestartPause:
    """How long to wait before the next start: doubling while the child dies young."""

    def __init__(self) -> None:
        self._next_s = FIRST_PAUSE_S

    def after(self, lived_s: float) -> float:
        """The pause in seconds after a life of `lived_s`."""
        if lived_s >= STEADY_S:
            self._next_s = FIRST_PAUSE_S
        pause_s, self._next_s = self._next_s, min(self._next_s * 2, LONGEST_PAUSE_S)
        return pause_s


class ProcessSupervisor:
    """Runs children. `on_change` is called after each start, whoever asked for it."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._children: dict[str, Child] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._pids: dict[str, int] = {}
        self.restarts: dict[str, int] = {}
        """By name: how often it was started again."""

    @property
    def pids(self) -> dict[str, int]:
        """By name: the process that runs, or between two starts the one that ended last."""
        for name, child in self._children.items():
            if child.pid is not None:
                self._pids[name] = child.pid
        return dict(self._pids)

    async def start(self, *children: Child) -> None:
        """Starts them at once, and keeps them running from here on. Raises StartFailed for the first that fails."""
        for child in children:
            self._children[child.name] = child
            self.restarts[child.name] = 0
        results = await asyncio.gather(*(child.start() for child in children), return_exceptions=True)
        for child, result in zip(children, results, strict=True):
            if result is None:
                self._keepers[child.name] = asyncio.create_task(self._keep(child), name=f"keeper of {child.name}")
        for result in results:
            if result is not None:
                raise result
        self._on_change()

    async def stop(self, *groups: Sequence[str]) -> None:
        """Stops the children of one group at once, group after group; names of children that never started are
        passed over."""
        for keeper in self._keepers.values():  # all first: nothing is started again while the rest is stopping
            keeper.cancel()
        await asyncio.gather(*self._keepers.values(), return_exceptions=True)
        self._keepers.clear()
        for group in groups:
            stopping = [self._children[name].stop() for name in group if name in self._children]
            for failed in await asyncio.gather(*stopping, return_exceptions=True):
                if isinstance(failed, BaseException):
                    log.error("stop_failed", error=repr(failed)[:300])

    async def _keep(self, child: Child) -> None:
        pause = RestartPause()
        while True:
            began_s = time.monotonic()
            exit_code = await child.ended()
            pause_s = pause.after(time.monotonic() - began_s)
            log.warning("process_ended", process=child.name, exit_code=exit_code, again_in_s=pause_s)
            while True:
                await asyncio.sleep(pause_s)
                try:
                    await child.start()
                    break
                except StartFailed as error:
                    pause_s = pause.after(0.0)
                    reason = str(error)[:300]
                    log.warning("process_not_started", process=child.name, error=reason, again_in_s=pause_s)
            self.restarts[child.name] += 1
            log.info("process_started", process=child.name, pid=child.pid)
            self._on_change()
