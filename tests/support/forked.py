"""`gapless` commands and services, forked from a process that has already imported them.

Each of our processes spends most of a second of CPU on imports, and the tests start hundreds. A fork of a process that
has done so is still a process of its own: it has its own id, environment, output, signals and crash points, and it
exits as an interpreter does. Tests of the start itself run the real program: `gapless up` and its services.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import importlib
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any, Final, Protocol

ROOT: Final = Path(__file__).parents[2]
PROGRAM: Final = (sys.executable, "-P", "-m", "services.ops")
CAN_FORK: Final = sys.platform == "linux"
MESSAGE_BYTES: Final = 1 << 20
Output = IO[bytes] | int | None


class Process(Protocol):
    """The part of asyncio.subprocess.Process that the tests use."""

    @property
    def pid(self) -> int: ...

    @property
    def returncode(self) -> int | None: ...

    async def wait(self) -> int: ...

    async def communicate(self) -> tuple[bytes, bytes]: ...

    def send_signal(self, signal: int) -> None: ...

    def terminate(self) -> None: ...

    def kill(self) -> None: ...


async def start_gapless(
    *arguments: str,
    env: Mapping[str, str],
    stdout: Output = None,
    stderr: Output = None,
    folder: Path | None = None,
) -> Process:
    """Start `gapless` with these arguments, in its own session, in `folder` or the current one."""
    if not CAN_FORK:
        return await asyncio.create_subprocess_exec(
            *PROGRAM, *arguments, env=env, stdout=stdout, stderr=stderr, cwd=folder, start_new_session=True
        )
    return _forks().start(arguments, env, stdout, stderr, folder)


def run_gapless(
    *arguments: str, env: Mapping[str, str], timeout_s: float = 120.0
) -> subprocess.CompletedProcess[bytes]:
    """Run `gapless` with these arguments to its end, and return its exit code and output."""
    if not CAN_FORK:
        command = [*PROGRAM, *arguments]
        return subprocess.run(command, env=env, capture_output=True, timeout=timeout_s, check=False)
    process = _forks().start(arguments, env, subprocess.PIPE, subprocess.PIPE)
    try:
        if not select.select([process], [], [], timeout_s)[0]:
            raise subprocess.TimeoutExpired(arguments, timeout_s)
    finally:
        process.kill()
    return subprocess.CompletedProcess(arguments, process.result(), *process.said())


class ForkedProcess:
    """A child of the forking process; a Process."""

    def __init__(self, forks: Forks, pid: int, outputs: tuple[IO[bytes] | None, IO[bytes] | None]) -> None:
        self._forks = forks
        self._outputs = outputs
        self._code: int | None = None
        self._handle = os.pidfd_open(pid)  # not waited for yet, so the id cannot have been reused
        self.pid = pid

    def fileno(self) -> int:
        """Return a descriptor that is readable when the process has ended."""
        return self._handle

    @property
    def returncode(self) -> int | None:
        if self._code is None and select.select([self], [], [], 0)[0]:
            return self.result()
        return self._code

    def result(self) -> int:
        """Wait for the end and return the exit code."""
        if self._code is None:
            self._code = self._forks.reap(self.pid)
        return self._code

    async def wait(self) -> int:
        if self.returncode is None:
            loop, ended = asyncio.get_running_loop(), asyncio.Event()
            handle = os.dup(self._handle)
            loop.add_reader(handle, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(handle)
                os.close(handle)
        return self.result()

    async def communicate(self) -> tuple[bytes, bytes]:
        await self.wait()
        return self.said()

    def said(self) -> tuple[bytes, bytes]:
        """Return what it wrote to the outputs that were requested as pipes."""
        out, err = (b"" if file is None else _content(file) for file in self._outputs)
        return out, err

    def send_signal(self, signal: int) -> None:
        if self.returncode is None:
            os.kill(self.pid, signal)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def _content(file: IO[bytes]) -> bytes:
    with file:
        file.seek(0)
        return file.read()


class Forks:
    """The forking process, and the socket that carries orders to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.forked", str(theirs.fileno())],
            cwd=ROOT, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()], start_new_session=True,
        )  # fmt: skip
        theirs.close()

    def start(
        self,
        arguments: tuple[str, ...],
        env: Mapping[str, str],
        stdout: Output,
        stderr: Output,
        folder: Path | None = None,
    ) -> ForkedProcess:
        order = {"arguments": arguments, "environment": dict(env), "folder": str(folder or Path.cwd())}
        files = [_file() if given == subprocess.PIPE else None for given in (stdout, stderr)]
        outputs = [_number(given, file, own) for given, file, own in zip((stdout, stderr), files, (1, 2), strict=True)]
        pid = int(self._ask(order, outputs))
        return ForkedProcess(self, pid, (files[0], files[1]))

    def reap(self, pid: int) -> int:
        return int(self._ask({"reap": pid}, []))

    def close(self) -> None:
        """End the forking process, which kills its children."""
        self._socket.close()
        self._process.wait()

    def _ask(self, order: dict[str, Any], files: list[int]) -> bytes:
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(order).encode()], files)
            answer = self._socket.recv(MESSAGE_BYTES)
        assert answer, "the forking process has ended"
        return answer


def _file() -> IO[bytes]:
    """Return a file that stands in for a pipe, since a pipe would have to be read while the process runs."""
    return tempfile.TemporaryFile()


def _number(given: Output, file: IO[bytes] | None, own: int) -> int:
    if file is not None:
        return file.fileno()
    if given is None:
        return own
    if given == subprocess.DEVNULL:
        return _nothing()
    return given if isinstance(given, int) else given.fileno()


@cache
def _nothing() -> int:
    return os.open(os.devnull, os.O_WRONLY)


@cache
def _forks() -> Forks:
    forks = Forks()
    atexit.register(forks.close)
    return forks


def _import_everything() -> None:
    for path in sorted((ROOT / "services").rglob("*.py")):
        if path.stem not in ("__init__", "__main__"):
            importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))


def _serve(orders: socket.socket) -> None:
    """Fork for each order until the socket is closed. Returns only in a child."""
    children: set[int] = set()
    while True:
        message, files, _, _ = socket.recv_fds(orders, MESSAGE_BYTES, 2)
        if not message:
            for child in children:
                os.kill(child, signal.SIGKILL)
            sys.exit()
        order = json.loads(message)
        if (ended := order.get("reap")) is not None:
            children.discard(ended)
            orders.send(str(os.waitstatus_to_exitcode(os.waitpid(ended, 0)[1])).encode())
            continue
        assert threading.active_count() == 1, "a thread would not be in the fork, and the locks that it holds would"
        child = os.fork()
        if child == 0:
            orders.close()
            _become(order, files)
            return
        children.add(child)
        for file in files:
            os.close(file)
        orders.send(str(child).encode())


def _become(order: dict[str, Any], files: list[int]) -> None:
    """Turn this fork into what `python -m services.ops` would be."""
    os.setsid()
    os.chdir(order["folder"])
    for file, own in zip(files, (1, 2), strict=True):
        os.dup2(file, own)
        os.close(file)
    os.environ.clear()
    os.environ.update(order["environment"])
    random.seed()
    main = sys.modules["__main__"]
    main.__spec__ = find_spec("services.ops.__main__")
    main.__package__ = "services.ops"
    assert main.__spec__ is not None
    assert main.__spec__.origin is not None
    sys.argv = [main.__spec__.origin, *order["arguments"]]


if __name__ == "__main__":
    _import_everything()
    gc.freeze()
    _serve(socket.socket(fileno=int(sys.argv[1])))
    from services.ops.cli.main import main

    main()
