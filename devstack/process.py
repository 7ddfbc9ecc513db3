"""One child server: started in its own session, watched, signalled by its process id, never left behind.

- Its own session, so that a Ctrl-C meant for the parent does not reach it before the parent stops it.
- On Linux the kernel signals it when the parent dies (launch.py). Elsewhere, and before launch.py has arranged that,
  the record file lets the next start on the same folder find and end a leftover server.
- Independent of any event loop: a server may be started under one loop and stopped under another.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from devstack.errors import ServerFailedError
from devstack.folder import read_json, write_json
from devstack.life import NUMBERS, Watch, is_silent

LAUNCHER = Path(__file__).with_name("launch.py")
ROTATE_LOG_BYTES = 10_000_000
TAIL_BYTES = 8_192
TAIL_LINES = 20
# Poll interval for a process that is not our child: the kernel notifies only the parent.
POLL_INTERVAL_S = 0.02
# Interval of checks for signs of life.
WATCH_EVERY_S = 0.25

# For the kernel, the parent is the THREAD that forked: a server started from a short-lived worker thread would be
# signalled when that thread ends. This thread lives as long as the process.
_forking_thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="devstack-fork")


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The ordinary user that a server runs as if we are root, and the one capability it keeps (launch.become)."""

    uid: int
    gid: int
    capability: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """How to start one server or one-off command. Its stdout and stderr are appended to `log_path`."""

    name: str
    command: Sequence[str]
    log_path: Path
    environment: Mapping[str, str]
    folder: Path
    death_signal: signal.Signals = signal.SIGKILL
    account: Account | None = None
    record_path: Path | None = None


class ServerProcess:
    """A started child process, created by `spawn`."""

    def __init__(self, launch: Launch, popen: subprocess.Popen[bytes]) -> None:
        self.name = launch.name
        self.log_path = launch.log_path
        self._popen = popen
        self._exit: Future[int] = Future()
        # A running future cannot be cancelled, so a waiter that gives up does not affect the others.
        self._exit.set_running_or_notify_cancel()
        threading.Thread(target=self._watch, name=f"devstack-{launch.name}", daemon=True).start()

    def _watch(self) -> None:
        self._exit.set_result(self._popen.wait())

    @classmethod
    async def spawn(cls, launch: Launch) -> ServerProcess:
        """Start the command. Returns once it is forked, before it is ready."""
        forked = _forking_thread.submit(cls._fork, launch)
        try:
            return await asyncio.wrap_future(forked)
        except asyncio.CancelledError:
            # No caller gets the handle: without this the server would run until our own end.
            forked.add_done_callback(_discard)
            raise

    @classmethod
    def _fork(cls, launch: Launch) -> ServerProcess:
        plan = {
            "parent_pid": os.getpid(),
            "death_signal": int(launch.death_signal),
            "account": None if launch.account is None else asdict(launch.account),
        }
        rotate_log(launch.log_path)
        with launch.log_path.open("ab") as log:
            popen = subprocess.Popen(
                [sys.executable, "-I", "-S", str(LAUNCHER), json.dumps(plan), *launch.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=launch.folder,
                env=dict(launch.environment),
                start_new_session=True,
            )
        if launch.record_path is not None:
            _record(launch.record_path, popen.pid)
        return cls(launch, popen)

    @property
    def pid(self) -> int:
        return self._popen.pid

    @property
    def is_running(self) -> bool:
        return not self._exit.done()

    @property
    def exit_code(self) -> int | None:
        """The exit code; None while it runs, negative for the signal that ended it."""
        return self._exit.result() if self._exit.done() else None

    async def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait for the end. Returns the exit code, or None after `timeout_s` seconds."""
        ended = asyncio.wrap_future(self._exit)
        await asyncio.wait({ended}, timeout=timeout_s)
        if not ended.done():
            ended.cancel()
            return None
        return ended.result()

    def send(self, number: signal.Signals) -> None:
        """Send a signal. Does nothing if the process has ended, since its id may have been reused."""
        if self.is_running:
            self._popen.send_signal(number)

    def watch(self, silence_s: float, *, noise: re.Pattern[str] = NUMBERS) -> Watch:
        """Start watching for signs of life (see life.py)."""
        return Watch(self.pid, self.log_path, silence_s=silence_s, noise=noise)

    async def wait_while_alive(self, watch: Watch) -> int | None:
        """Wait for the end without a limit. Returns the exit code, or None if it first shows no sign of life."""
        while (exit_code := await self.wait(WATCH_EVERY_S)) is None:
            if is_silent([watch]):
                return None
        return exit_code

    async def stop(self, *, number: signal.Signals, timeout_s: float) -> bool:
        """Send the signal, and SIGKILL after `timeout_s` seconds. Returns whether it ended without SIGKILL."""
        self.send(number)
        if await self.wait(timeout_s) is not None:
            return True
        await self.kill()
        return False

    async def stop_patiently(self, *, number: signal.Signals, silence_s: float) -> bool:
        """Send the signal, and SIGKILL after `silence_s` seconds without a sign of life. Returns whether it ended
        without SIGKILL. For servers: one that is killed while it writes its state must recover at the next start."""
        watch = self.watch(silence_s)
        self.send(number)
        if await self.wait_while_alive(watch) is not None:
            return True
        await self.kill()
        return False

    async def kill(self) -> None:
        """Send SIGKILL and wait until the process is gone."""
        self.send(signal.SIGKILL)
        await self.wait()

    def failure(self, sentence: str) -> ServerFailedError:
        return ServerFailedError(sentence, log_path=self.log_path, log_tail=tail(self.log_path))


async def run(launch: Launch, *, silence_s: float) -> None:
    """Run a one-off command to its end. Raises ServerFailedError if it fails or is silent for `silence_s` seconds."""
    process = await ServerProcess.spawn(launch)
    try:
        exit_code = await process.wait_while_alive(process.watch(silence_s))
    finally:
        await process.kill()
    if exit_code is None:
        raise process.failure(
            f"{launch.name} has shown no sign of life for {silence_s:.0f} s: the machine may be overloaded; try again."
        )
    if exit_code != 0:
        raise process.failure(f"{launch.name} failed (exit code {exit_code}); see why in its log and try again.")


def end_leftover(record_path: Path, *, number: signal.Signals, patience_s: float = 5.0) -> None:
    """End the server that a dead parent left behind, if any. Blocking.

    The caller must hold the folder's lock, which proves that the process that started the server is gone.
    """
    record = read_json(record_path)
    if record is None:
        return
    try:
        leftover = psutil.Process(int(record["pid"]))
        if leftover.create_time() == record["create_time"]:  # else another program has the id by now
            end_process(leftover, number=number, patience_s=patience_s)
    except psutil.NoSuchProcess:
        pass
    record_path.unlink(missing_ok=True)


def end_process(process: psutil.Process, *, number: signal.Signals, patience_s: float) -> None:
    """End a process, which need not be our child, and its children: with `number`, then SIGKILL. Blocking.

    Raises psutil.NoSuchProcess if it had ended before.
    """
    family = [process, *process.children(recursive=True)]
    process.send_signal(number)
    kill_all(wait_gone(family, timeout_s=patience_s), timeout_s=patience_s)


def kill_all(processes: Sequence[psutil.Process], *, timeout_s: float) -> None:
    """Send SIGKILL to each and wait until they are gone. Blocking."""
    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    wait_gone(processes, timeout_s=timeout_s)


def wait_gone(processes: Sequence[psutil.Process], *, timeout_s: float) -> list[psutil.Process]:
    """Wait for processes that are not our children. Returns those still alive after `timeout_s`. Blocking.

    A zombie counts as gone: it holds no resources, and in a container process 1 may never reap it.
    """
    deadline = time.monotonic() + timeout_s
    alive = [process for process in processes if _is_alive(process)]
    while alive and time.monotonic() < deadline:
        time.sleep(POLL_INTERVAL_S)
        alive = [process for process in alive if _is_alive(process)]
    return alive


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def tail(log_path: Path) -> str:
    """Return the last lines of a log, or an empty string."""
    try:
        with log_path.open("rb") as log:
            log.seek(max(0, log_path.stat().st_size - TAIL_BYTES))
            text = log.read().decode("utf-8", errors="replace")
    except FileNotFoundError:
        return ""
    return "\n".join(text.rstrip().splitlines()[-TAIL_LINES:])


def rotate_log(log_path: Path) -> None:
    """Rotate a large log, keeping one older file. Call it only before a start: a running server has the file open."""
    if log_path.exists() and log_path.stat().st_size > ROTATE_LOG_BYTES:
        log_path.replace(log_path.with_name(f"{log_path.name}.1"))


def _discard(forked: Future[ServerProcess]) -> None:
    if not forked.cancelled() and forked.exception() is None:
        forked.result().send(signal.SIGKILL)


def _record(record_path: Path, pid: int) -> None:
    try:
        create_time = psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return
    write_json(record_path, {"pid": pid, "create_time": create_time})
