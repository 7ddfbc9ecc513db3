"""Processes that load partitions for a rebuild in parallel: one process keeps only one core busy.

The rebuilding process loads as well. It starts the others, writes the next partition to their standard input, and
reads their progress from their standard output; both are lines of JSON. Each runs a Loader and nothing else: the guard
of each batch holds between processes as it does between projectors. When the rebuilding process ends, in whatever way,
their input ends, and they end too, at whole batches.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import deque
from dataclasses import asdict
from typing import Any, Final, NoReturn

import psycopg
import uvloop
from pydantic import SecretStr

from services.projector.errors import LoadEnded, LostRace, PartitionStopped
from services.projector.following.consumer import YOUNG_OBJECTS, TopicId
from services.projector.versions.load import Loaded, Loader, OnLoaded
from services.projector.versions.throttle import throttle_by_lag
from services.runtime.kafka.errors import KafkaError, KafkaUnavailable
from services.runtime.observe.logs import configure_logging
from services.runtime.postgres.pool import open_pool
from services.runtime.process.collector import infrequent_gc
from services.runtime.settings import KafkaSettings, LogSettings, PostgresSettings, load_settings

APPLICATION: Final = "gapless-rebuild"
_LINE_BYTES: Final = 1024 * 1024
_KINDS: Final[tuple[tuple[type[Exception], type[Exception]], ...]] = (
    (PartitionStopped, PartitionStopped),
    (LostRace, LostRace),
    (KafkaError, KafkaUnavailable),
    (psycopg.OperationalError, psycopg.OperationalError),
    (psycopg.Error, psycopg.Error),
    (TimeoutError, TimeoutError),
    (OSError, OSError),
)
"""What a load raises, narrow types before wide ones, and the type that the rebuilding process raises for it."""
_RAISED: Final = {ours.__name__: ours for _, ours in _KINDS}
_STOP_TIMEOUT_S: Final = 5.0


async def load_in_processes(
    left: deque[int],
    *,
    processes: int,
    at_once: int,
    version: int,
    kafka: KafkaSettings,
    postgres: PostgresSettings,
    max_batch_records: int,
    on_loaded: OnLoaded,
    max_lag: int | None = None,
) -> None:
    """Load the partitions in `left`, `at_once` at a time in each process, of a version that is being built.

    Other loaders may share `left`: the one that takes a partition out of it loads it.
    Raises a group of what Loader.load raises, mapped by _KINDS, with LoadEnded in it if a process ended by itself. The
    first failure ends all of them.
    """
    assert processes > 0
    assert at_once > 0
    task = {
        "version": version,
        "kafka": kafka.model_dump(mode="json"),
        "postgres": postgres.model_dump(mode="json") | {"dsn": postgres.dsn.get_secret_value()},
        "max_batch_records": max_batch_records,
        "max_lag": max_lag,
    }
    async with asyncio.TaskGroup() as group:
        for _ in range(processes):
            group.create_task(_one_process(task, left, at_once, on_loaded))


async def _one_process(task: dict[str, Any], left: deque[int], at_once: int, on_loaded: OnLoaded) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", __name__,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=_LINE_BYTES,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    under_way = 0
    try:
        _say(process.stdin, task)
        ready = await process.stdout.readline()  # no partition is assigned to a process that is still starting
        if not ready:
            raise await _ended(process)
        while True:
            while left and under_way < at_once:
                _say(process.stdin, left.popleft())
                under_way += 1
            if not under_way:
                process.stdin.close()
                async with asyncio.timeout(_STOP_TIMEOUT_S):
                    await process.wait()
                return
            line = await process.stdout.readline()
            if not line:
                raise await _ended(process)
            said = json.loads(line)
            if "raised" in said:
                raise _RAISED[said["raised"]](said["text"])
            if said["loaded"] is None:
                under_way -= 1
            else:
                on_loaded(Loaded(**said["loaded"]))
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _ended(process: asyncio.subprocess.Process) -> LoadEnded:
    return LoadEnded(
        f"a process that loads for this rebuild ended with {await process.wait()}; its own words are above; what is"
        " loaded stays, run the rebuild again"
    )


def _say(pipe: asyncio.StreamWriter, message: object) -> None:
    pipe.write(json.dumps(message).encode() + b"\n")


def main() -> None:
    """Run a load process until its input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent process decides
    configure_logging(load_settings(LogSettings), service="rebuild")
    with infrequent_gc(YOUNG_OBJECTS), asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve())


async def _serve() -> None:
    lines = asyncio.StreamReader(limit=_LINE_BYTES)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin.buffer)
    task = json.loads(await lines.readline() or "null")
    if task is None:
        return
    kafka = KafkaSettings.model_validate(task["kafka"])
    postgres = PostgresSettings.model_validate(task["postgres"] | {"dsn": SecretStr(task["postgres"]["dsn"])})
    async with (
        open_pool(postgres, application_name=APPLICATION, autocommit=True) as pool,
        throttle_by_lag(task["max_lag"], pool=pool, kafka=kafka) as throttle,
    ):
        loader = Loader(
            version=task["version"],
            pool=pool,
            kafka=kafka,
            topic=TopicId(kafka),
            max_batch_records=task["max_batch_records"],
            building=True,
            on_loaded=lambda loaded: _tell({"loaded": asdict(loaded)}),
            throttle=throttle,
        )
        _tell("ready")
        loads: set[asyncio.Task[None]] = set()
        while line := await lines.readline():
            loads.add(asyncio.create_task(_load(loader, json.loads(line))))
        if not all(load.done() for load in loads):
            _end_here()


async def _load(loader: Loader, partition: int) -> None:
    try:
        await loader.load(partition)
    except tuple(theirs for theirs, _ in _KINDS) as error:
        kind = next(ours for theirs, ours in _KINDS if isinstance(error, theirs))
        _tell({"raised": kind.__name__, "text": str(error)})
    except Exception:  # noqa: BLE001
        # A bug: the traceback goes to standard error, and the parent process sees that this one has ended.
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    else:
        _tell({"loaded": None})


def _tell(message: object) -> None:
    try:
        os.write(sys.stdout.fileno(), json.dumps(message).encode() + b"\n")
    except BrokenPipeError:
        _end_here()


def _end_here() -> NoReturn:
    """End at once, as by SIGKILL, when no process waits for us. Postgres rolls back what is not committed."""
    os._exit(0)


if __name__ == "__main__":
    main()
