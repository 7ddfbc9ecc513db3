"""Child processes: they end when asked, are killed when they do not, and do not outlive their parent."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import psutil
import pytest

from devstack.errors import ServerFailedError
from devstack.folder import write_json
from devstack.process import Launch, ServerProcess, end_leftover, run, wait_gone

ROOT = Path(__file__).parents[3]
READY = "print('ready', flush=True)"
SLEEP = "import time; time.sleep(600)"
DEAF = f"import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); {READY}; {SLEEP}"


def launch(folder: Path, program: str, *, record: bool = False) -> Launch:
    return Launch(
        name="child",
        command=[sys.executable, "-c", program],
        log_path=folder / "child.log",
        environment=dict(os.environ),
        folder=folder,
        record_path=folder / "process.json" if record else None,
    )


async def until_ready(process: ServerProcess) -> None:
    async with asyncio.timeout(120):
        while b"ready" not in process.log_path.read_bytes():
            assert await process.wait(0.02) is None, process.log_path.read_text()


def test_a_child_that_ignores_sigterm_is_killed_after_the_deadline(tmp_path: Path) -> None:
    async def scenario() -> None:
        process = await ServerProcess.spawn(launch(tmp_path, DEAF))
        await until_ready(process)
        assert not await process.stop(number=signal.SIGTERM, timeout_s=0.3)
        assert process.exit_code == -signal.SIGKILL

    asyncio.run(scenario())


def test_a_child_that_obeys_ends_without_being_killed(tmp_path: Path) -> None:
    async def scenario() -> None:
        process = await ServerProcess.spawn(launch(tmp_path, f"{READY}; {SLEEP}"))
        await until_ready(process)
        assert process.is_running
        assert await process.stop(number=signal.SIGTERM, timeout_s=20)
        assert process.exit_code == -signal.SIGTERM

    asyncio.run(scenario())


def test_a_child_is_in_a_session_of_its_own_so_that_ctrl_c_does_not_reach_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        process = await ServerProcess.spawn(launch(tmp_path, f"{READY}; {SLEEP}"))
        try:
            await until_ready(process)
            assert os.getsid(process.pid) == process.pid != os.getsid(0)
        finally:
            await process.kill()

    asyncio.run(scenario())


def test_a_failed_command_shows_the_last_lines_of_its_log(tmp_path: Path) -> None:
    program = "[print('line', n) for n in range(100)]; raise SystemExit('the reason')"
    with pytest.raises(ServerFailedError) as failure:
        asyncio.run(run(launch(tmp_path, program), silence_s=20))
    assert failure.value.sentence.startswith("child failed (exit code 1)")
    assert "the reason" in str(failure.value)
    assert "line 99" in failure.value.log_tail
    assert "line 0\n" not in failure.value.log_tail


def test_a_program_that_cannot_be_run_is_named(tmp_path: Path) -> None:
    missing = Launch(
        name="java",
        command=["/nowhere/java"],
        log_path=tmp_path / "java.log",
        environment={},
        folder=tmp_path,
    )
    with pytest.raises(ServerFailedError, match="cannot run /nowhere/java: No such file"):
        asyncio.run(run(missing, silence_s=20))


def test_a_command_that_shows_no_sign_of_life_is_killed(tmp_path: Path) -> None:
    with pytest.raises(ServerFailedError, match="child has shown no sign of life for"):
        asyncio.run(run(launch(tmp_path, SLEEP, record=True), silence_s=0.5))
    pid = json.loads((tmp_path / "process.json").read_text())["pid"]
    assert not psutil.pid_exists(pid)


def test_a_child_outlives_the_thread_and_the_loop_that_started_it(tmp_path: Path) -> None:
    started: list[ServerProcess] = []

    async def in_a_short_lived_thread() -> None:
        process = await ServerProcess.spawn(launch(tmp_path, f"{READY}; {SLEEP}"))
        await until_ready(process)
        started.append(process)

    thread = threading.Thread(target=lambda: asyncio.run(in_a_short_lived_thread()))
    thread.start()
    thread.join()

    async def under_another_loop() -> None:
        [process] = started
        assert await process.wait(0.3) is None, "the end of a thread was taken for the end of the parent"
        await process.kill()

    asyncio.run(under_another_loop())


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel tells children of a dead parent on Linux only")
def test_a_child_dies_with_a_parent_that_was_killed(tmp_path: Path) -> None:
    program = textwrap.dedent("""
        import asyncio, os, sys
        from pathlib import Path
        from devstack.process import Launch, ServerProcess

        async def main():
            folder = Path(sys.argv[1])
            process = await ServerProcess.spawn(Launch(
                name="child", command=[sys.executable, "-c", sys.argv[2]], log_path=folder / "child.log",
                environment=dict(os.environ), folder=folder,
            ))
            while b"ready" not in process.log_path.read_bytes():
                assert await process.wait(0.02) is None
            print(process.pid, flush=True)
            await process.wait()

        asyncio.run(main())
    """)
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path), f"{READY}; {SLEEP}"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
    finally:
        parent.kill()
        parent.wait()
    assert wait_gone([child], timeout_s=120) == []


def test_what_a_dead_parent_left_is_ended_by_its_record(tmp_path: Path) -> None:
    left = subprocess.Popen([sys.executable, "-c", SLEEP])
    try:
        record = {"pid": left.pid, "create_time": psutil.Process(left.pid).create_time()}
        write_json(tmp_path / "process.json", record)
        end_leftover(tmp_path / "process.json", number=signal.SIGTERM)
        assert left.wait(120) == -signal.SIGTERM
        assert not (tmp_path / "process.json").exists()
    finally:
        left.kill()
        left.wait()


def test_another_program_under_a_recorded_id_is_left_alone(tmp_path: Path) -> None:
    other = subprocess.Popen([sys.executable, "-c", SLEEP])
    try:
        record = {"pid": other.pid, "create_time": psutil.Process(other.pid).create_time() - 60}
        write_json(tmp_path / "process.json", record)
        end_leftover(tmp_path / "process.json", number=signal.SIGTERM)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_start_that_is_cancelled_leaves_no_child(tmp_path: Path) -> None:
    async def scenario() -> None:
        starting = asyncio.ensure_future(ServerProcess.spawn(launch(tmp_path, SLEEP, record=True)))
        await asyncio.sleep(0)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting

    asyncio.run(scenario())
    # The next spawn goes through the same thread, so the cancelled one is done by then.
    other = tmp_path / "other"
    other.mkdir()
    asyncio.run(run(launch(other, READY), silence_s=20))
    record = tmp_path / "process.json"
    if record.exists():  # forked before the cancel reached it
        pid = json.loads(record.read_text())["pid"]
        assert not psutil.pid_exists(pid) or wait_gone([psutil.Process(pid)], timeout_s=120) == []
