"""`GAPLESS_INGEST_WORKERS`: ingest as several processes on one port, one for each core that it may use.

Each worker is a complete ingest with its own reply partition; they share the port through SO_REUSEPORT, and are
independent of each other. The parent reserves the port, starts the workers and stops with them: if one ends
unexpectedly, all end with an error, and our supervisor restarts us. A worker whose parent is gone stops too, because
its standard input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import signal
import socket
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Iterator, Mapping
from typing import Final

import structlog

from services.ingest.settings import IngestProcessSettings
from services.runtime.process.lifecycle import ExitCode, Supervisor
from services.runtime.serving.server import cannot_listen
from services.runtime.settings import SettingsError

WORKER_FLAG: Final = "--worker"
STOP_TIMEOUT_S: Final = 9.0
"""Deadline for workers to stop, within that of the parent."""

_log = structlog.get_logger(__name__)


class WorkerEnded(Exception):
    """A worker ended before a stop was requested; its own log says why."""


async def run_ingest_workers(settings: IngestProcessSettings, supervisor: Supervisor) -> None:
    """Serve until the supervisor requests a stop. Raises SettingsError if the workers refuse theirs, or WorkerEnded."""
    workers: dict[asyncio.Task[int], int] = {}
    processes: list[Process] = []
    stop = asyncio.create_task(supervisor.stop_requested())
    supervisor.on_hangup(lambda: _pass_on(signal.SIGHUP, processes))
    try:
        with _held_port(settings.http.host, settings.http.port) as port:
            for number, environment in enumerate(worker_environments(settings, port)):
                process = await asyncio.create_subprocess_exec(
                    sys.executable, "-P", "-m", "services.ops", "ingest", WORKER_FLAG,
                    env=os.environ | environment, stdin=PIPE, stdout=DEVNULL, start_new_session=True,
                )  # fmt: skip
                processes.append(process)
                workers[asyncio.create_task(process.wait())] = number
                _log.info("worker_started", worker=number, pid=process.pid)
            await asyncio.wait({stop, *workers}, return_when=asyncio.FIRST_COMPLETED)
            ended = next((task for task in workers if task.done()), None)
            if ended is not None and not supervisor.stopping:
                if ended.result() == ExitCode.WRONG_SETTINGS:
                    raise SettingsError("The workers of ingest refuse their settings: their own sentence is above.")
                raise WorkerEnded(f"worker {workers[ended]} ended with {ended.result()}")
    finally:
        stop.cancel()
        await _stop(processes)


def worker_environments(settings: IngestProcessSettings, port: int) -> list[Mapping[str, str]]:
    """Return the variables of each worker that differ from our own."""
    ingest, ops_port = settings.ingest, settings.http.ops_port
    first = secrets.randbelow(ingest.kafka.reply_partitions)
    return [
        {
            "GAPLESS_INGEST_WORKERS": "1",
            "GAPLESS_INGEST_REPLY_PARTITION": str((first + number) % ingest.kafka.reply_partitions),
            "GAPLESS_HTTP_PORT": str(port),
            "GAPLESS_HTTP_REUSE_PORT": "true",
            "GAPLESS_OPS_PORT": str(ops_port + number if ops_port else 0),
        }
        for number in range(ingest.workers)
    ]


async def stop_at_end_of_input(supervisor: Supervisor) -> None:
    """Request a stop when the parent of this worker is gone."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    try:
        await reader.read()
        supervisor.request_stop("the process that started this worker is gone")
    finally:
        transport.close()


@contextlib.contextmanager
def _held_port(host: str, port: int) -> Iterator[int]:
    """Reserve a port while workers come and go: bound but not listened on, so the kernel sends nothing here. Yields the
    port, a free one for 0. Raises CannotListen."""
    with contextlib.ExitStack() as stack:
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
            held = stack.enter_context(socket.socket(family, socket.SOCK_STREAM))
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            held.bind((host, port))
        except OSError as error:
            raise cannot_listen(host, port, error, "GAPLESS_HTTP_PORT") from None
        yield held.getsockname()[1]


def _pass_on(number: signal.Signals, processes: list[Process]) -> None:
    """Pass a signal to all workers, for example SIGHUP, at which each reloads its certificate."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)


async def _stop(processes: list[Process]) -> None:
    """Stop all workers concurrently, and kill those that do not end in time."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
    waits = [asyncio.ensure_future(process.wait()) for process in processes]
    if waits:
        await asyncio.wait(waits, timeout=STOP_TIMEOUT_S)
    for process in processes:
        if process.returncode is None:
            process.kill()
            await process.wait()
