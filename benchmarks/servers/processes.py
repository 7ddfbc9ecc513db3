"""The real processes that are measured, and what they used between two marks."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import psutil

from devstack.ports import HOST, choose_ports
from schemas.wire.extensions import PURE_VARIABLE

DEADLINE_S: Final = 300.0
WITH_AN_API: Final = ("ingest", "query", "live", "api")
"""Services that serve /readyz and /metrics on their API's port."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """The resources that a process had used at one moment."""

    at_s: float
    cpu_s: float
    memory_mb: float


def mark(pid: int, *, workers: bool = False) -> Mark:
    """Return CPU of all threads, user and system, in seconds, and resident memory in MB (10^6). Includes the workers if
    `workers`; finding them takes milliseconds."""
    process = psutil.Process(pid)
    cpu_s = memory_mb = 0.0
    for each in (process, *(process.children(recursive=True) if workers else ())):
        with each.oneshot():
            times = each.cpu_times()
            cpu_s += times.user + times.system
            memory_mb += each.memory_info().rss / 1e6
    return Mark(at_s=time.monotonic(), cpu_s=cpu_s, memory_mb=memory_mb)


def cpu_between(before: Mark, after: Mark) -> float:
    """Return CPU seconds, never 0. The system counts in ticks of 10 ms; less than one tick counts as half of one."""
    return max(after.cpu_s - before.cpu_s, 0.005)


class Service:
    """A running `gapless <service>`."""

    def __init__(self, process: asyncio.subprocess.Process, url: str, log_path: Path, *, workers: bool = False) -> None:
        self._process = process
        self._workers = workers
        self.url = url
        self.log_path = log_path

    @property
    def pid(self) -> int:
        return self._process.pid

    def mark(self) -> Mark:
        return mark(self.pid, workers=self._workers)

    async def until_ready(self) -> None:
        """Wait until the service is ready. Raises RuntimeError with its reasons if it does not get ready."""
        deadline = time.monotonic() + DEADLINE_S
        async with httpx.AsyncClient(timeout=3.0, trust_env=False, verify=False) as http:
            while True:
                said = "it does not answer"
                try:
                    answer = await http.get(f"{self.url}/readyz")
                    if answer.status_code == httpx.codes.OK:
                        return
                    said = answer.text
                except httpx.TransportError:
                    pass
                self.refuse_to_wait(deadline, f"to be ready; it says {said}")
                await asyncio.sleep(0.05)

    def refuse_to_wait(self, deadline: float, what: str) -> None:
        """Raise RuntimeError if the process ended or the deadline passed."""
        if self._process.returncode is not None or time.monotonic() > deadline:
            tail = self.log_path.read_text(encoding="utf-8", errors="replace")[-2_000:]
            raise RuntimeError(f"waited in vain for {what} (exit code {self._process.returncode}):\n{tail}")

    async def metric(self, series: str) -> float:
        """Return the sum over all series whose line starts with `series`; 0 if none does."""
        async with httpx.AsyncClient(timeout=10.0, trust_env=False, verify=False) as http:
            text = (await http.get(f"{self.url}/metrics")).text
        return sum(float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(series))


@asynccontextmanager
async def running(name: str, folder: Path, settings: Mapping[str, str]) -> AsyncIterator[Service]:
    """Run `gapless <name>` with only these GAPLESS_* variables; stopped at the end. Its log is in `folder`."""
    port, ops_port = choose_ports(2)
    ports = {"GAPLESS_HTTP_PORT": str(port), "GAPLESS_OPS_PORT": str(ops_port)}
    command = [sys.executable, "-P", "-m", "services.ops", name]
    variables = ports | {"GAPLESS_LOG_FORMAT": "json"} | dict(settings)
    serves = name in WITH_AN_API
    url = f"http://{HOST}:{port if serves else ops_port}"
    async with _started(command, variables, url, folder / f"{name}.log", workers=serves) as service:
        yield service


@asynccontextmanager
async def uvicorn(app: str) -> AsyncIterator[Service]:
    """Serve a baseline's application as we serve ours: one process, no access log."""
    (port,) = choose_ports(1)
    command = [sys.executable, "-m", "uvicorn", app, "--host", HOST, "--port", str(port)]
    command += ["--no-access-log", "--log-level", "warning"]
    with tempfile.TemporaryDirectory(prefix="uvicorn-") as folder:
        async with _started(command, {}, f"http://{HOST}:{port}", Path(folder) / "log") as service:
            await service.until_ready()
            yield service


@asynccontextmanager
async def _started(
    command: Sequence[str], variables: Mapping[str, str], url: str, log_path: Path, *, workers: bool = False
) -> AsyncIterator[Service]:
    with log_path.open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command, env=environment(variables), stderr=log, start_new_session=True
        )
    try:
        yield Service(process, url, log_path, workers=workers)
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), 15.0)
            except TimeoutError:
                process.kill()
                await process.wait()


def forget_settings() -> None:
    """Remove the caller's settings from this process's environment: what is measured uses defaults."""
    kept = ("GAPLESS_CACHE", PURE_VARIABLE)
    for name in [name for name in os.environ if name.startswith("GAPLESS_") and name not in kept]:
        del os.environ[name]


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Return these variables and the caller's, of whose GAPLESS_* ones only GAPLESS_PURE is passed on."""
    callers = {
        variable: value
        for variable, value in os.environ.items()
        if not variable.startswith("GAPLESS_") or variable == PURE_VARIABLE
    }
    return callers | dict(settings)


@asynccontextmanager
async def profiled(pid: int, output: Path | None) -> AsyncIterator[None]:
    """Sample the process with py-spy during the block, if an output is given: `.svg` for a flame graph, `.json` for
    speedscope, anything else for collapsed stacks as text."""
    if output is None:
        yield
        return
    form = {".svg": "flamegraph", ".json": "speedscope"}.get(output.suffix, "raw")
    sampler = await asyncio.create_subprocess_exec(
        str(Path(sys.executable).with_name("py-spy")),
        *("record", "--pid", str(pid), "--output", str(output), "--format", form),
        *("--rate", "200", "--duration", "3600"),
        stdout=asyncio.subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        if sampler.returncode is None:
            sampler.send_signal(signal.SIGINT)
        await sampler.wait()


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A `gapless` command that ran to its end."""

    answer: Any
    """The JSON that it printed."""
    seconds: float
    cpu_s: float
    """CPU seconds, including its child processes, as does the memory."""
    memory_mb: float
    """The highest memory observed, in MB."""


async def command(*words: str, settings: Mapping[str, str]) -> Command:
    """Run `gapless <words> --json`. Raises RuntimeError if it fails."""
    began_s, before_s = time.monotonic(), _ended_cpu_s()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "services.ops", *words, "--json"),
        env=environment(settings),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    told = asyncio.create_task(process.communicate())
    memory_mb = 0.0
    while not told.done():
        try:
            memory_mb = max(memory_mb, mark(process.pid, workers=True).memory_mb)
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            break
        await asyncio.wait({told}, timeout=0.25)  # to look takes milliseconds
    output, errors = await told
    if process.returncode != 0:
        raise RuntimeError(f"gapless {' '.join(words)} failed ({process.returncode}): {errors.decode()[-1000:]}")
    return Command(
        answer=json.loads(output),
        seconds=time.monotonic() - began_s,
        cpu_s=_ended_cpu_s() - before_s,
        memory_mb=memory_mb,
    )


def _ended_cpu_s() -> float:
    """Return the CPU seconds of processes that we waited for, and of those that they waited for."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
