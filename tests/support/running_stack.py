"""The whole system as a user starts it, `gapless up`, on its own folder; and the tests' operations on it.

async with RunningStack.up(tmp_path, sequencers=2) as stack:
    async with stack.client() as http: ...
    stack.kill("sequencer-1")
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE
from typing import Any

import httpx

from schemas import ids
from services.ops.stack.secret import token_secret
from services.runtime.access.auth import mint_token
from tests.support.forked import start_gapless

READY_TIMEOUT_S = 400.0
STOP_TIMEOUT_S = 60.0
GAPLESS = (sys.executable, "-P", "-m", "services.ops")


@dataclass(slots=True)
class RunningStack:
    """A running stack; `document` is the current content of stack.json."""

    folder: Path
    process: asyncio.subprocess.Process
    partitions: int = 8

    @classmethod
    @asynccontextmanager
    async def up(
        cls, folder: Path, *options: str, environment: Mapping[str, str] | None = None
    ) -> AsyncIterator[RunningStack]:
        log = (folder / "up.log").open("wb")
        process = await asyncio.create_subprocess_exec(
            *GAPLESS, "up", "--data-dir", str(folder / "d"), *options,
            stdout=log, stderr=log, env={**os.environ, **(environment or {})}, start_new_session=True,
        )  # fmt: skip
        stack = cls(folder / "d", process)
        try:
            await stack._ready()
            yield stack
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), STOP_TIMEOUT_S)
            finally:
                if process.returncode is None:
                    process.kill()
                log.close()

    async def _ready(self) -> None:
        deadline = time.monotonic() + READY_TIMEOUT_S
        while not (self.folder / "stack.json").exists():
            said = (self.folder.parent / "up.log").read_text()[-3000:]
            assert self.process.returncode is None, f"gapless up ended with {self.process.returncode}: {said}"
            assert time.monotonic() < deadline, f"gapless up is not ready: {said}"
            await asyncio.sleep(0.1)

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.folder / "stack.json").read_text())
        return found

    @property
    def api_url(self) -> str:
        return str(self.document["api_url"])

    def client(self, **options: Any) -> httpx.AsyncClient:
        limits = httpx.Limits(max_connections=400, max_keepalive_connections=400)
        return httpx.AsyncClient(
            base_url=self.api_url, timeout=40.0, limits=limits, trust_env=False, verify=False, **options
        )

    def signal(self, name: str, number: signal.Signals) -> int:
        """Send a signal to a process of the stack and return its process id."""
        pid = int(self.document["processes"][name])
        os.kill(pid, number)
        return pid

    async def kill(self, name: str) -> None:
        """Kill a process, and wait until stack.json names its replacement."""
        await self.replaced(name, self.signal(name, signal.SIGKILL))

    async def replaced(self, name: str, pid: int) -> None:
        """Wait until another process than `pid` has that name."""
        await self.until(lambda: self.document["processes"][name] != pid, f"{name} is started again")

    async def until(self, condition: Any, what: str, timeout_s: float = 120.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"in vain, for {timeout_s:g} s: {what}"
            await asyncio.sleep(0.02)

    async def metric(self, name: str, series: str) -> float:
        """Return the value of one series of a process, or 0 if it does not exist or the process does not answer."""
        try:
            async with httpx.AsyncClient(timeout=3.0, trust_env=False, verify=False) as http:
                text = (await http.get(f"{self.document['ops_urls'][name]}/metrics")).text
        except httpx.TransportError:
            return 0.0
        for line in text.splitlines():
            if line.startswith(series + " "):
                return float(line.split()[-1])
        return 0.0

    async def owner(self, chat_id: str) -> str | None:
        """Return the sequencer that writes to a chat's partition now, or None."""
        partition = ids.partition_of(chat_id, self.partitions)
        for name in self.document["processes"]:
            series = f'gapless_sequencer_term{{partition="{partition}"}}'
            if name.startswith("sequencer") and await self.metric(name, series) > 0:
                return str(name)
        return None

    async def gapless(self, *arguments: str, fails: bool = False) -> Any:
        """Run a command against this stack with --json and return its output. `fails`: the exit code must be 1."""
        process = await start_gapless(
            *arguments, "--json", env={**os.environ, **self.environment}, stdout=PIPE, stderr=PIPE
        )
        out, err = await asyncio.wait_for(process.communicate(), 180)
        assert process.returncode == (1 if fails else 0), (arguments, process.returncode, out[-2000:], err[-2000:])
        return json.loads(out)

    @property
    def environment(self) -> dict[str, str]:
        """The variables that a `gapless` command needs to reach this stack."""
        document = self.document
        return {"GAPLESS_KAFKA_BOOTSTRAP": document["kafka"], "GAPLESS_POSTGRES_DSN": document["postgres"]}

    def token(self, user: str, *scopes: str) -> str:
        """Return a token as `gapless token` prints it, without a process for it."""
        return mint_token(token_secret(self.folder), user, scopes=scopes)
