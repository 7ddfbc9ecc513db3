"""An event loop without sockets and without real time: time jumps, and a seed chooses which process runs next.

Callbacks belong to processes. Within one process they run in the order that asyncio promises; which process runs next
is drawn from the seed, as it is random among real ones. A process can be stopped as by SIGKILL (none of its code runs
any more, not even `finally`) or SIGSTOP (it continues later, and finds all its timers due).

    loop = SimulatedLoop(Random(seed))
    loop.run_until_complete(main())             # raises Stuck if nothing can ever happen again
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from random import Random
from typing import Any, Final, TypeVar

T = TypeVar("T")


class Killed(BaseException):
    """Leaves the callback in which a process dies. Nothing after it has any effect."""


class Stuck(Exception):
    """All processes wait, and nothing will ever happen."""


class Process:
    """Callbacks that live and die together."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ready: deque[asyncio.Handle] = deque()
        self.dead = False
        self.paused = False
        self.fuse: int | None = None
        """Steps left to live; None means no limit."""
        self.on_death: Callable[[], None] = lambda: None

    @property
    def runs(self) -> bool:
        return not self.dead and not self.paused

    def kill(self) -> None:
        if not self.dead:
            self.dead = True
            self.on_death()

    def step(self) -> None:
        """Pass a point where a process may die: between callbacks, and at seams inside them.

        Raises Killed if it dies.
        """
        if self.fuse is not None:
            self.fuse -= 1
            if self.fuse <= 0:
                self.fuse = None
                self.kill()
        if self.dead:
            raise Killed(self.name)


_OUTSIDE: Final = Process("outside")
_PROCESS: ContextVar[Process] = ContextVar("process", default=_OUTSIDE)


def this_process() -> Process:
    """Return the process whose callback runs now."""
    return _PROCESS.get()


class SimulatedLoop(asyncio.BaseEventLoop):
    """The loop of this module. One seed determines the order of everything."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self._random = random
        self._now = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timer_count = 0
        self._outside = Process("outside")
        self._processes = [self._outside]
        self._dead: list[Process] = []
        self.steps = 0
        self.most_steps = 1_000_000
        """More than any correct run takes, to detect a loop in which time does not pass."""

    # --- processes --------------------------------------------------------------------------------------------

    def process(self, name: str) -> Process:
        """Return a new process without work; see `spawn`."""
        self._dead += [p for p in self._processes if p.dead]
        self._processes = [p for p in self._processes if not p.dead]
        process = Process(name)
        self._processes.append(process)
        return process

    def spawn(self, process: Process, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine in that process, for as long as the process lives."""
        context = copy_context()
        context.run(_PROCESS.set, process)
        return self.create_task(work, context=context)

    # --- what asyncio asks of a loop --------------------------------------------------------------------------

    def time(self) -> float:
        return self._now

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        context = context if context is not None else copy_context()
        handle = asyncio.Handle(callback, args, self, context)
        process = context.get(_PROCESS, _OUTSIDE)
        (self._outside if process is _OUTSIDE else process).ready.append(handle)
        return handle

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context if context is not None else copy_context())
        self._timer_count += 1
        heapq.heappush(self._timers, (when, self._timer_count, timer))
        return timer

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Do nothing: the timer is skipped when it is due."""

    def _write_to_self(self) -> None:
        """Do nothing: no thread sleeps in a selector."""

    def _process_events(self, event_list: Any) -> None:
        """Do nothing: there are no I/O events."""

    def _run_once(self) -> None:
        runnable = [p for p in self._processes if p.ready and p.runs]
        while not runnable:
            self._next_timers()
            runnable = [p for p in self._processes if p.ready and p.runs]
        process = runnable[0] if len(runnable) == 1 else self._random.choice(runnable)
        handle = process.ready.popleft()
        if handle.cancelled():
            return
        self.steps += 1
        if self.steps > self.most_steps:
            raise Stuck(f"something turns without end at {self._now:.3f} s")
        try:
            if process.fuse is not None:
                process.step()
            handle._run()
        except Killed:
            process.ready.appendleft(handle)

    def _next_timers(self) -> None:
        """Advance time to the next timer."""
        timers = self._timers
        while timers and timers[0][2].cancelled():
            heapq.heappop(timers)
        if not timers:
            raise Stuck(f"nothing can happen any more at {self._now:.3f} s")
        self._now = max(self._now, timers[0][0])
        while timers and timers[0][0] <= self._now:
            timer = heapq.heappop(timers)[2]
            if not timer.cancelled():
                process = timer._context.get(_PROCESS, _OUTSIDE)  # type: ignore[attr-defined]
                (self._outside if process is _OUTSIDE else process).ready.append(timer)

    # --- the end ----------------------------------------------------------------------------------------------

    def bury(self) -> None:
        """Cancel everything that waits, in dead processes too: their `finally` blocks run now, after all observations.

        The caller must have cut the world off first: what the dead do here must have no effect.
        """
        self._processes += self._dead
        for process in self._processes:
            process.dead = process.paused = False
            process.fuse = None
        self.most_steps += 100_000
        for _ in range(10):
            tasks = [task for task in asyncio.all_tasks(self) if not task.done()]
            if not tasks:
                break
            for task in tasks:
                task.cancel()
            self.run_until_complete(asyncio.wait(tasks, timeout=100.0))
        self.close()


def run_simulated(seed: int, main: Callable[[SimulatedLoop], Coroutine[Any, Any, T]]) -> T:
    """Run `main` to its end on a new loop."""
    loop = SimulatedLoop(Random(seed))
    try:
        return loop.run_until_complete(main(loop))
    finally:
        loop.bury()
