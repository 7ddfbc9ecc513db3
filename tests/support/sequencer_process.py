"""A real `gapless sequencer`, or another service, on a scene's topics, observed from outside.

async with SequencerProcess.on(scene, folder) as sequencer:
    await sequencer.until_ready()
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from devstack.ports import choose_ports
from tests.support.forked import Process, start_gapless
from tests.support.sequencing import Scene

DEADLINE_S = 120.0


@dataclass(slots=True)
class SequencerProcess:
    """A running process. `log_path` is its standard error."""

    process: Process
    url: str
    log_path: Path

    @classmethod
    @asynccontextmanager
    async def on(
        cls, scene: Scene, folder: Path, *, service: str = "sequencer", **environment: str
    ) -> AsyncIterator[SequencerProcess]:
        """Start a process, and kill it at the end in whatever state it is."""
        (port,) = choose_ports(1)
        log_path = folder / f"{service}-{port}.log"
        settings = {
            "GAPLESS_KAFKA_BOOTSTRAP": scene.kafka,
            "GAPLESS_KAFKA_TOPIC_PREFIX": scene.names.commands.removesuffix("chat.commands"),
            "GAPLESS_KAFKA_PARTITIONS": str(scene.partitions),
            "GAPLESS_KAFKA_REPLY_PARTITIONS": str(scene.reply_partitions),
            "GAPLESS_KAFKA_SESSION_TIMEOUT_S": "2",
            "GAPLESS_SEQUENCER_STATE_DIR": str(folder / "state"),
            "GAPLESS_OPS_PORT": str(port),
            "GAPLESS_LOG_FORMAT": "json",
        }
        with log_path.open("wb") as log:
            process = await start_gapless(service, env={**os.environ, **settings, **environment}, stderr=log)
        try:
            yield cls(process, f"http://127.0.0.1:{port}", log_path)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()

    async def troubles(self) -> list[str] | None:
        """Return the reasons in /readyz, which are empty when it is ready, or None while it does not answer."""
        try:
            async with httpx.AsyncClient(timeout=3.0, trust_env=False, verify=False) as http:
                answer = await http.get(f"{self.url}/readyz")
        except httpx.TransportError:
            return None
        return [] if answer.status_code == httpx.codes.OK else list(answer.json()["reasons"])

    async def status(self, path: str) -> int:
        async with httpx.AsyncClient(timeout=3.0, trust_env=False, verify=False) as http:
            return (await http.get(f"{self.url}{path}")).status_code

    async def until_ready(self) -> None:
        await self.until_troubles(lambda troubles: troubles == [], "it is ready")

    async def until_troubles(self, condition: object, what: str) -> list[str]:
        """Wait until the condition holds for the reasons in /readyz, and return them."""
        assert callable(condition)
        deadline = time.monotonic() + DEADLINE_S
        while True:
            troubles = await self.troubles()
            if troubles is not None and condition(troubles):
                return troubles
            assert self.process.returncode is None, f"it ended ({self.process.returncode}): {self.said[-2000:]}"
            assert time.monotonic() < deadline, f"in vain: {what}; it says {troubles}, {self.said[-2000:]}"
            await asyncio.sleep(0.1)

    async def metric(self, series: str) -> float:
        """Return the value of one series, or 0 if it does not exist."""
        async with httpx.AsyncClient(timeout=3.0, trust_env=False, verify=False) as http:
            text = (await http.get(f"{self.url}/metrics")).text
        return next((float(line.split()[-1]) for line in text.splitlines() if line.startswith(series + " ")), 0.0)

    @property
    def said(self) -> str:
        return self.log_path.read_text(encoding="utf-8", errors="replace")


def connections(pid: int, servers: str) -> int:
    """Return the number of TCP connections from a process to these servers (`host:port,…`)."""
    ports = {int(server.rsplit(":", 1)[1]) for server in servers.split(",")}
    return sum(1 for c in psutil.Process(pid).net_connections(kind="tcp") if c.raddr and c.raddr.port in ports)
