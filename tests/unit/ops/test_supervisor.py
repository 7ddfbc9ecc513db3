"""The supervisor on real processes.

A process that dies is restarted, with growing pauses if it dies repeatedly; none is started during a stop.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import dataclass, field

import pytest

from services.ops.stack import supervisor as supervisor_module
from services.ops.stack.supervisor import LONGEST_PAUSE_S, STEADY_S, ProcessSupervisor, RestartPause, StartFailed


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@dataclass
class Python:
    """A real child process."""

    name: str
    program: str = "import time; time.sleep(60)"
    fails: int = 0
    """Number of starts that fail."""
    starts: int = 0
    order: list[str] = field(default_factory=list)
    process: asyncio.subprocess.Process | None = None

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process is not None and self.process.returncode is None else None

    async def start(self) -> None:
        self.starts += 1
        if self.starts <= self.fails:
            raise StartFailed(f"{self.name} does not start for the {self.starts}. time")
        self.process = await asyncio.create_subprocess_exec(sys.executable, "-I", "-S", "-c", self.program)

    async def ended(self) -> int:
        assert self.process is not None
        return await self.process.wait()

    async def stop(self) -> None:
        self.order.append(self.name)
        if self.process is not None and self.process.returncode is None:
            self.process.kill()
            await self.process.wait()


async def until(met: object, what: str) -> None:
    assert callable(met)
    async with asyncio.timeout(120):
        while not met():
            await asyncio.sleep(0.01)
    assert met(), what


def test_the_pause_doubles_while_the_child_dies_young_and_starts_anew_after_a_steady_life() -> None:
    pause = RestartPause()
    pauses = [pause.after(0.0) for _ in range(10)]
    assert pauses[:4] == [0.2, 0.4, 0.8, 1.6]
    assert pauses[-1] == LONGEST_PAUSE_S
    assert pause.after(STEADY_S) == 0.2
    assert pause.after(0.0) == 0.4


@pytest.mark.anyio
async def test_a_killed_child_is_started_again_and_told_of() -> None:
    changes: list[dict[str, int]] = []
    supervisor = ProcessSupervisor(lambda: changes.append(supervisor.pids))
    child = Python("a")
    await supervisor.start(child)
    first = supervisor.pids["a"]
    assert changes == [{"a": first}]
    os.kill(first, signal.SIGKILL)
    await until(lambda: len(changes) == 2, "the change is told")
    assert changes[1]["a"] != first
    assert changes[1]["a"] == child.pid
    assert supervisor.restarts == {"a": 1}
    await supervisor.stop(["a"])


@pytest.mark.anyio
async def test_the_others_do_not_wait_for_one_that_keeps_dying(monkeypatch: pytest.MonkeyPatch) -> None:
    supervisor = ProcessSupervisor(lambda: None)
    dying, living = Python("dying", "raise SystemExit(1)"), Python("living")
    await supervisor.start(dying, living)
    await until(lambda: supervisor.restarts["dying"] >= 2, "it is tried again")
    os.kill(supervisor.pids["living"], signal.SIGKILL)
    await until(lambda: supervisor.restarts["living"] == 1, "the other is started again")
    await supervisor.stop(["dying", "living"])


@pytest.mark.anyio
async def test_a_restart_that_fails_is_tried_again() -> None:
    supervisor = ProcessSupervisor(lambda: None)
    child = Python("a")
    await supervisor.start(child)
    child.fails = 3
    os.kill(supervisor.pids["a"], signal.SIGKILL)
    await until(lambda: supervisor.restarts["a"] == 1, "it came back")
    assert child.starts == 4
    await supervisor.stop(["a"])


@pytest.mark.anyio
async def test_a_first_start_that_fails_is_raised_and_the_others_are_known_to_stop() -> None:
    supervisor = ProcessSupervisor(lambda: None)
    good, bad = Python("good"), Python("bad", fails=1)
    with pytest.raises(StartFailed, match="bad does not start"):
        await supervisor.start(good, bad)
    assert good.pid is not None
    await supervisor.stop(["good", "bad"])
    assert good.pid is None


@pytest.mark.anyio
async def test_groups_are_stopped_one_after_the_other_and_nobody_is_started_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(supervisor_module, "FIRST_PAUSE_S", 0.01)
    order: list[str] = []
    children = [Python(name, order=order) for name in ("api", "sequencer", "projector")]
    supervisor = ProcessSupervisor(lambda: None)
    await supervisor.start(*children)
    await supervisor.stop(["api"], ["sequencer", "projector"], ["never started"])
    assert order == ["api", "sequencer", "projector"]
    await asyncio.sleep(0.1)
    assert [child.starts for child in children] == [1, 1, 1]
    assert [child.pid for child in children] == [None] * 3
