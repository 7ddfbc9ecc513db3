"""A user with the project and a shell, who runs what the README and the commands themselves suggest."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import DEVNULL, PIPE
from typing import NamedTuple

from devstack.java import OPTIONS_VARIABLE
from tests.support.forked import Process, start_gapless
from tests.support.running_stack import READY_TIMEOUT_S, STOP_TIMEOUT_S, RunningStack

COMMAND_TIMEOUT_S = 120.0
GAPLESS = Path(sys.prefix) / "bin" / "gapless"
READY = re.compile(r"^Gapless is ready(?s:.*)^A first chat:\n(?:  .*\n)+\n", re.MULTILINE)
"""All that `up` prints when it is ready, including the commands that a reader may then run."""


class Ran(NamedTuple):
    """A command that has ended."""

    code: int
    out: str
    err: str


@dataclass(slots=True)
class Newcomer:
    """Works in one folder; `.venv` there is the one that `make` would have made."""

    folder: Path
    variables: Mapping[str, str] = field(default_factory=dict)

    def settle(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        venv = self.folder / ".venv"
        if not venv.exists():
            venv.symlink_to(sys.prefix)

    async def gapless(self, *arguments: str) -> Ran:
        """Run a command; in a script for `bash` it is the installed program."""
        environment = self._environment()
        process = await start_gapless(*arguments, env=environment, stdout=PIPE, stderr=PIPE, folder=self.folder)
        return await self._ended(process)

    async def bash(self, script: str) -> Ran:
        """Run a script as typed in a terminal: a failing command does not end it."""
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", script, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, cwd=self.folder, env=self._environment()
        )
        return await self._ended(process)

    @asynccontextmanager
    async def running(self, script: str) -> AsyncIterator[asyncio.subprocess.Process]:
        """Run a script in another terminal; with its output in a pipe. At the end it gets Ctrl-C, and ends with 0."""
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", script,
            stdin=DEVNULL, stdout=PIPE, cwd=self.folder, env=self._environment(), start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.returncode is None:
                os.killpg(process.pid, signal.SIGINT)
            try:
                code = await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
            finally:
                if process.returncode is None:
                    os.killpg(process.pid, signal.SIGKILL)
        assert code == 0

    async def _ended(self, process: Process) -> Ran:
        out, err = await asyncio.wait_for(process.communicate(), COMMAND_TIMEOUT_S)
        assert process.returncode is not None
        return Ran(process.returncode, out.decode(), err.decode())

    @asynccontextmanager
    async def up(self, program: str, *options: str, data_dir: Path) -> AsyncIterator[Started]:
        """Run `gapless up` until the block is left; then send Ctrl-C, unless it has ended."""
        said = self.folder / "up.log"
        with said.open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                program, "up", *options,
                stdout=log, stderr=log, cwd=self.folder, env=self._environment(), start_new_session=True,
            )  # fmt: skip
        try:
            deadline_s = time.monotonic() + READY_TIMEOUT_S
            while READY.search(said.read_text()) is None:
                assert process.returncode is None, said.read_text()
                assert time.monotonic() < deadline_s, said.read_text()
                await asyncio.sleep(0.1)
            yield Started(RunningStack(data_dir, process), said)
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGINT)
            try:
                await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
            finally:
                if process.returncode is None:
                    process.kill()
        assert process.returncode == 0, said.read_text()

    def _environment(self) -> dict[str, str]:
        """Return a terminal's environment, without our settings (except one that saves CPU) or an active virtual
        environment.
        """
        kept = {OPTIONS_VARIABLE}
        ours = {name: value for name, value in os.environ.items() if name in kept or not name.startswith("GAPLESS_")}
        bin_folder = str(GAPLESS.parent)
        ours["PATH"] = os.pathsep.join(p for p in ours.get("PATH", "").split(os.pathsep) if p != bin_folder)
        return {**ours, **self.variables}


@dataclass(frozen=True, slots=True)
class Started:
    """A running stack, and the output of `up`."""

    stack: RunningStack
    log: Path

    @property
    def printed_commands(self) -> str:
        """The lines after "A first chat:", as printed."""
        _, _, after = self.log.read_text().partition("A first chat:\n")
        lines = []
        for line in after.splitlines():
            if not line.startswith("  "):
                break
            lines.append(line)
        assert lines, self.log.read_text()
        return "\n".join(lines)
