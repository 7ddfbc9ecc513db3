"""`GAPLESS_INGEST_WORKERS`: ingest as several processes behind one port, one for each core that it may use.

Each is a whole ingest with a reply partition of its own; they share the port by SO_REUSEPORT, and know nothing of each
other. The first process holds the port, starts the others and stops with them: when one ends unasked all end, loudly,
and whoever supervises us starts us again. A worker whose parent is gone stops too: its standard input has an end.
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
"""Within the deadline of the process that waits for them."""

_log = structlog.get_logger(__name__)


class WorkerEnded(Exception):
    """A worker ended although nobody had asked it to; its own log says why."""


async def run_ingest_workers(settings: IngestProcessSettings, supervisor: Supervisor) -> None:
    """Serves until the supervisor says stop. Raises SettingsError where the workers refuse theirs, or WorkerEnded."""
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
    """What each worker is told beyond what we were told ourselves."""
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
    """For a worker: returns and asks for the stop when whoever started it is gone."""
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
    """A port that stays ours while workers come and go: bound, and not listened on, so that the kernel sends nothing
    here. 0 becomes a free one. Raises CannotListen."""
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
    """Each worker shows a certificate of its own."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(number)


async def _stop(processes: list[Process]) -> None:
    """Asks all at once, and cuts off who does not leave in time."""
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
