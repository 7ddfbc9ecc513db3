"""`gapless up` and `gapless down` as a user runs them: real processes on their own folder."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import psutil

from tests.support.chat_log import ANNA, BEN
from tests.support.running_stack import GAPLESS, RunningStack

PROCESSES = ["postgres", "kafka-1", "sequencer-1", "projector-1", "api-1", "api-2"]
SMALL = ("--sequencers", "1", "--ingests", "2")


async def gapless(*arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *GAPLESS, *arguments, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await asyncio.wait_for(process.communicate(), 90)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def say(stack: RunningStack, text: str, key: str) -> dict[str, Any]:
    """Send a message to Anna's group `ops`, which is created if it does not exist."""
    headers = {"Authorization": f"Bearer {stack.token(ANNA)}"}
    async with stack.client(headers=headers) as http:
        created = await http.post(
            "/v1/chats",
            json={"kind": "group", "name": "ops", "members": [BEN]},
            headers={"Idempotency-Key": "ops", "Prefer": "wait=20"},
        )
        assert created.status_code in (200, 201), created.text
        sent = await http.post(
            f"/v1/chats/{created.json()['chat_id']}/messages",
            json={"text": text},
            headers={"Idempotency-Key": key, "Prefer": "wait=20"},
        )
        assert sent.status_code in (200, 201), sent.text
        answer: dict[str, Any] = sent.json()
        return answer


def alive(pids: Iterable[int]) -> list[int]:
    return [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]


def test_a_stack_is_one_thing_that_is_started_kept_alive_refused_twice_stopped_and_started_again(
    tmp_path: Path,
) -> None:
    async def scenario() -> None:
        async with RunningStack.up(tmp_path, *SMALL) as stack:
            document = stack.document
            assert sorted(document["processes"]) == sorted(PROCESSES)
            assert len(alive(document["processes"].values())) == len(PROCESSES)
            assert stat.S_IMODE((stack.folder / "stack.json").stat().st_mode) == 0o600  # it holds a password
            for name in PROCESSES:
                assert (stack.folder / "logs" / f"{name}.log").exists()
            assert (await say(stack, "first", "k1"))["seq"] == 1

            code, _, error = await gapless("up", "--data-dir", str(stack.folder))
            assert code == 2
            assert error.strip().splitlines()[-1].startswith(f"The data folder {stack.folder} is in use by process")
            assert stack.document == document, "the second one disturbed the first"

            for name in ("api-1", "projector-1", "sequencer-1"):
                await stack.kill(name)
                assert len(alive([stack.document["processes"][name]])) == 1
            assert stack.api_url == document["api_url"]
            assert (await say(stack, "first", "k1"))["duplicate"] is True

            pids = stack.document["processes"].values()
            code, out, _ = await gapless("down", "--data-dir", str(stack.folder), "--json")
            assert (code, json.loads(out)) == (0, {"stopped": True})
            assert alive(pids) == []
            assert not (stack.folder / "stack.json").exists()
            assert await asyncio.wait_for(stack.process.wait(), 120) == 0

        async with RunningStack.up(tmp_path, *SMALL) as again:
            assert again.api_url == document["api_url"]
            repeated = await say(again, "first", "k1")
            assert (repeated["seq"], repeated["duplicate"]) == (1, True)
            assert (await say(again, "second", "k2"))["seq"] == 2
            report = await again.gapless("projection", "verify")
            assert report["equal"] is True
            assert (await again.gapless("log", "verify"))["sound"] is True

    asyncio.run(scenario())


def test_no_process_survives_a_supervisor_that_was_killed(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with RunningStack.up(tmp_path, "--sequencers", "1") as stack:
            pids = list(stack.document["processes"].values())
            assert stack.document["supervisor"] == stack.process.pid
            # A stopped process cannot clean up after itself: the kernel has to.
            os.kill(stack.document["processes"]["sequencer-1"], signal.SIGSTOP)
            stack.process.kill()
            await stack.process.wait()
            await stack.until(lambda: alive(pids) == [], "all processes are gone", timeout_s=20.0)
            code, out, _ = await gapless("down", "--data-dir", str(stack.folder), "--json")
            assert (code, json.loads(out)) == (0, {"stopped": False})
            assert (stack.folder / "stack.json").exists()
            await stopped_while_it_starts(stack.folder)

    asyncio.run(scenario())


async def stopped_while_it_starts(folder: Path) -> None:
    """Check that the remains of a killed supervisor are no longer reported, and that `down` can end a start."""
    starting = await asyncio.create_subprocess_exec(*GAPLESS, "up", "--data-dir", str(folder))
    try:
        async with asyncio.timeout(30):
            while (folder / "stack.json").exists() or not (folder / "lock").read_bytes():
                await asyncio.sleep(0.02)
        code, out, error = await gapless("down", "--data-dir", str(folder), "--json")
        assert (code, out) == (0, '{"stopped": true}\n'), error
        assert await asyncio.wait_for(starting.wait(), 120) == 0
        assert not (folder / "stack.json").exists()
    finally:
        if starting.returncode is None:
            starting.kill()


def test_down_leaves_a_folder_alone_that_something_else_holds(tmp_path: Path) -> None:
    from devstack.folder import FolderLock

    lock = FolderLock(tmp_path)
    lock.acquire()
    try:
        code, _, error = asyncio.run(gapless("down", "--data-dir", str(tmp_path)))
    finally:
        lock.release()
    assert code == 2
    assert "in use by process" in error


def test_two_brokers_are_refused() -> None:
    code, _, error = asyncio.run(gapless("up", "--brokers", "2"))
    assert code == 2
    assert "1 broker or 3" in error
