"""Keeps child processes running: a child that ends is restarted, after a pause that grows while it keeps dying.

It is independent of what the children are. They are responsible for ending with us (PR_SET_PDEATHSIG, set when they are
started): a supervisor that is killed cannot clean up.
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
"""A child that lived this long is restarted after the first, shortest pause."""

log = structlog.get_logger(__name__)


class StartFailed(Exception):
    """A child could not be started. The message says why."""


class Child(Protocol):
    """A process to keep running."""

    @property
    def name(self) -> str: ...

    @property
    def pid(self) -> int | None:
        """The id of the running process, or None."""

    async def start(self) -> None:
        """Start the process. Raises StartFailed, and then nothing is left running."""

    async def ended(self) -> int:
        """Wait for its end. Returns the exit code; negative for the signal that ended it."""

    async def stop(self) -> None:
        """Stop the process, finally with SIGKILL. Returns when it is gone."""


class RestartPause:
    """The pause before the next start: it doubles while the child dies young."""

    def __init__(self) -> None:
        self._next_s = FIRST_PAUSE_S

    def after(self, lived_s: float) -> float:
        """Return the pause in seconds after a life of `lived_s`."""
        if lived_s >= STEADY_S:
            self._next_s = FIRST_PAUSE_S
        pause_s, self._next_s = self._next_s, min(self._next_s * 2, LONGEST_PAUSE_S)
        return pause_s


class ProcessSupervisor:
    """Runs children. `on_change` is called after each start and restart."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._children: dict[str, Child] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._pids: dict[str, int] = {}
        self.restarts: dict[str, int] = {}
        """Name → number of restarts."""

    @property
    def pids(self) -> dict[str, int]:
        """Name → id of the running process; between two starts, of the one that ended last."""
        for name, child in self._children.items():
            if child.pid is not None:
                self._pids[name] = child.pid
        return dict(self._pids)

    async def start(self, *children: Child) -> None:
        """Start the children concurrently and keep them running. Raises StartFailed for the first that fails."""
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
        """Stop group after group, the children of one group concurrently. Names of children that never started are
        ignored."""
        for keeper in self._keepers.values():  # first, so that nothing is restarted while the others stop
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
