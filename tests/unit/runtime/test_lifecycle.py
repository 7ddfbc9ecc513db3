"""The life of a process: real processes, real signals, real exit codes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from services.runtime.process.lifecycle import ExitCode

ROOT = Path(__file__).parents[3]
DEADLINE_S = 20

HEAD = """
import asyncio, os, sys, time
from services.runtime.process.crashpoints import crash_point, declare_crash_point
from services.runtime.process.lifecycle import Supervisor, run_service
from services.runtime.settings import KafkaSettings, LogSettings, load_settings

SEAM = declare_crash_point("test.before_append", "Nothing is in the log.")
def say(word): print(word, flush=True)
"""
TAIL = """
sys.exit(run_service(serve, service="test", logs=LogSettings(format="json"), shutdown_timeout_s=DEADLINE))
"""

Spawn = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def spawn() -> Iterator[Spawn]:
    """Return a function that starts a process with the given `serve`."""
    started: list[subprocess.Popen[str]] = []

    def start(serve: str, *, shutdown_timeout_s: float = 5, **variables: str) -> subprocess.Popen[str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("GAPLESS_")} | variables
        process = subprocess.Popen(
            [sys.executable, "-c", HEAD + serve + TAIL.replace("DEADLINE", str(shutdown_timeout_s))],
            cwd=ROOT,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=DEADLINE_S)


def wait_for(process: subprocess.Popen[str], word: str) -> None:
    assert process.stdout is not None
    assert process.stdout.readline().strip() == word


def end_of(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    """Return the exit code, standard output and standard error."""
    out, err = process.communicate(timeout=DEADLINE_S)
    return process.returncode, out, err


GRACEFUL = """
async def serve(supervisor):
    say("up")
    await supervisor.stop_requested()
    say("cleaned up")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_lets_the_service_clean_up(spawn: Spawn, number: signal.Signals) -> None:
    process = spawn(GRACEFUL)
    wait_for(process, "up")
    process.send_signal(number)
    code, out, err = end_of(process)
    assert (code, out) == (ExitCode.STOPPED, "cleaned up\n")
    assert number.name in err


def test_a_crashed_task_stops_the_process_loudly(spawn: Spawn) -> None:
    code, out, err = end_of(
        spawn("""
async def worker():
    raise RuntimeError("the disk is gone")
async def serve(supervisor):
    supervisor.start("worker 3", worker())
    await supervisor.stop_requested()
    say("cleaned up")
""")
    )
    assert (code, out) == (ExitCode.CRASHED, "cleaned up\n")
    assert '"event": "task_crashed"' in err
    assert "worker 3" in err
    assert "RuntimeError: the disk is gone" in err


def test_a_task_that_just_ends_is_a_crash_too_unless_it_may(spawn: Spawn) -> None:
    source = """
async def worker(): pass
async def serve(supervisor):
    supervisor.start("worker", worker(), may_end=MAY_END)
    await asyncio.wait({asyncio.ensure_future(supervisor.stop_requested())}, timeout=0.3)
"""
    code, _, err = end_of(spawn(source.replace("MAY_END", "False")))
    assert code == ExitCode.CRASHED
    assert "returned before a stop was requested" in err
    assert end_of(spawn(source.replace("MAY_END", "True")))[0] == ExitCode.STOPPED


def test_a_service_that_fails_says_why_and_ends_its_tasks(spawn: Spawn) -> None:
    code, out, err = end_of(
        spawn("""
async def worker():
    try: await asyncio.Event().wait()
    finally: say("worker ended")
async def serve(supervisor):
    supervisor.start("worker", worker())
    await asyncio.sleep(0)
    raise RuntimeError("no topic")
""")
    )
    assert (code, out) == (ExitCode.CRASHED, "worker ended\n")
    assert "RuntimeError: no topic" in err


@pytest.mark.parametrize(
    "stuck",
    [
        "await asyncio.Event().wait()",
        "\n    while True:\n        try: await asyncio.Event().wait()\n        except asyncio.CancelledError: pass",
        "time.sleep(60)",
    ],
    ids=["waits", "refuses to be cancelled", "blocks the loop"],
)
def test_past_the_deadline_the_process_is_cut_off(spawn: Spawn, stuck: str) -> None:
    process = spawn(
        f"""
async def serve(supervisor):
    say("up")
    await supervisor.stop_requested()
    {stuck}
""",
        shutdown_timeout_s=0.2,
    )
    wait_for(process, "up")
    process.terminate()
    assert end_of(process)[0] == ExitCode.STOP_OVERDUE


def test_a_second_signal_ends_it_at_once(spawn: Spawn) -> None:
    process = spawn(
        """
async def serve(supervisor):
    say("up")
    await supervisor.stop_requested()
    say("stopping")
    await asyncio.Event().wait()
""",
        shutdown_timeout_s=60,
    )
    wait_for(process, "up")
    process.terminate()
    wait_for(process, "stopping")
    process.terminate()
    assert end_of(process)[0] == 128 + signal.SIGTERM


def test_a_wrong_setting_is_one_sentence_and_a_code_of_its_own(spawn: Spawn) -> None:
    code, _, err = end_of(
        spawn("async def serve(supervisor): load_settings(KafkaSettings)\n", GAPLESS_KAFKA_PARTITIONS="many")
    )
    assert code == ExitCode.WRONG_SETTINGS
    assert err.splitlines()[-1].startswith("GAPLESS_KAFKA_PARTITIONS is wrong: ")
    assert "Traceback" not in err


PASSES = """
async def serve(supervisor):
    for _ in range(3):
        say("before")
        crash_point(SEAM)
    say("through")
"""


def test_a_crash_point_does_nothing_unless_armed(spawn: Spawn) -> None:
    code, out, _ = end_of(spawn(PASSES))
    assert (code, out.splitlines()[-1]) == (ExitCode.STOPPED, "through")


@pytest.mark.parametrize(("armed", "passages"), [("test.before_append", 1), ("test.before_append:3", 3)])
def test_an_armed_crash_point_kills_at_the_nth_passage(spawn: Spawn, armed: str, passages: int) -> None:
    code, out, err = end_of(spawn(PASSES, GAPLESS_CRASH_AT=armed))
    assert code == -signal.SIGKILL
    assert out == "before\n" * passages
    assert "crash point test.before_append reached" in err


@pytest.mark.parametrize("value", ["test.nowhere", "test.before_append:0", "test.before_append:x", "nonsense"])
def test_a_crash_point_that_is_not_there_is_refused(spawn: Spawn, value: str) -> None:
    code, out, err = end_of(spawn(PASSES, GAPLESS_CRASH_AT=value))
    assert (code, out) == (ExitCode.WRONG_SETTINGS, "")
    assert err.splitlines()[-1] == (
        "GAPLESS_CRASH_AT must be <crash point>[:n][:stop], with one of: test.before_append."
    )
