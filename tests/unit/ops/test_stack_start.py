"""`gapless up` waits for services that need time, and gives up when nothing makes progress any more."""

from __future__ import annotations

import asyncio
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from devstack.process import Launch, ServerProcess
from services.ops.cli import stack as stack_commands
from services.ops.stack import embedded as stack_module
from services.ops.stack.children import Service
from services.ops.stack.embedded import EmbeddedStack, StackFailed, StackPlan

ROOT = Path(__file__).parents[3]
WORKS = "while True: pass"
HANGS = "import time; time.sleep(600)"


class Folding(http.server.BaseHTTPRequestHandler):
    """A service whose first answers say that it is not ready."""

    answers_left = 0

    def do_GET(self) -> None:
        ready = type(self).answers_left <= 0
        type(self).answers_left -= 1
        body = b'{"ready": false, "reasons": ["partition 3 is being folded."]}'
        self.send_response(200 if ready else 503)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def folding_port() -> Iterator[int]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Folding)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield server.server_address[1]
    server.shutdown()
    thread.join()
    server.server_close()


async def child(folder: Path, program: str) -> ServerProcess:
    return await ServerProcess.spawn(
        Launch(
            name="child",
            command=[sys.executable, "-I", "-S", "-c", program],
            log_path=folder / "child.log",
            environment=dict(os.environ),
            folder=folder,
        )
    )


async def wait_ready(folder: Path, port: int, program: str) -> None:
    """Run the wait of `up` for one service: a process that runs `program` and answers at `port`."""
    stack = EmbeddedStack(StackPlan(data_dir=folder, sequencers=1, projectors=0, ingests=0))
    service = Service("sequencer-1", "sequencer", folder=folder, log_path=folder / "child.log", environment=dict)
    process, postgres = await child(folder, program), await child(folder, HANGS)
    service._process, stack._servers.postgres._process = process, postgres
    stack._services, stack._ports = {"sequencer-1": service}, {"sequencer-1": port}
    try:
        await stack._wait_ready()
    finally:
        await process.kill()
        await postgres.kill()


def test_a_service_that_hangs_is_given_up_with_what_it_said_last(
    tmp_path: Path, folding_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack_module, "READY_SILENCE_S", 1.0)
    monkeypatch.setattr(Folding, "answers_left", 1_000_000)
    expected = r"nothing has moved for 1 s \(sequencer-1: partition 3 is being folded.\): see the logs in"
    with pytest.raises(StackFailed, match=expected):
        asyncio.run(wait_ready(tmp_path, folding_port, HANGS))


def test_a_service_that_folds_a_long_log_is_waited_for(
    tmp_path: Path, folding_port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Answered every POLL_INTERVAL_S at most: longer than the limit, in which only its CPU time changes.
    monkeypatch.setattr(stack_module, "READY_SILENCE_S", 2.0)
    monkeypatch.setattr(Folding, "answers_left", int(1.6 * 2.0 / stack_module.POLL_INTERVAL_S))
    asyncio.run(wait_ready(tmp_path, folding_port, WORKS))


DEAF_HOLDER = """
import signal, sys, time
from pathlib import Path
signal.signal(signal.SIGTERM, signal.SIG_IGN)
sys.argv[:] = ["gapless", "up"]
from devstack.folder import FolderLock
lock = FolderLock(Path.cwd())
lock.acquire()
print("held", flush=True)
time.sleep(600)
"""


def test_down_gives_up_when_what_it_stops_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stack_commands, "DOWN_SILENCE_S", 1.0)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    holder = subprocess.Popen(
        [sys.executable, "-c", DEAF_HOLDER], cwd=tmp_path, env=environment, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(typer.Exit) as ended:
            stack_commands._stop(tmp_path)
        assert ended.value.exit_code == 1
    finally:
        holder.kill()
        holder.communicate()
