"""Kafka is restored from an older copy, under running services and between two starts, and is created anew.

The tables, and the sequencers' states and snapshots, then belong to a log that no longer exists.
"""

from __future__ import annotations

import asyncio
import shutil
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from schemas.ids import ChatId, UserId, group_chat_id, partition_of
from tests.support.running_stack import RunningStack

CHATS = 3
KEPT = 5
"""Messages of each chat that are in the copy."""
LOST = 12
"""Messages of each chat that are sent after the copy."""
WAY_OUT = ("gapless projection rebuild", "gapless projection cutover", "gapless projection drop")

pytestmark = [pytest.mark.proof, pytest.mark.timeout(900)]


@dataclass(slots=True)
class Talk:
    """One user in chats of different partitions."""

    user: UserId = field(default_factory=lambda: UserId(str(uuid4())))
    keys: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        partitions: set[int] = set()
        while len(self.keys) < CHATS:
            key = str(uuid4())
            if (partition := partition_of(group_chat_id(self.user, key), 8)) not in partitions:
                partitions.add(partition)
                self.keys.append(key)

    @property
    def chats(self) -> list[ChatId]:
        return [group_chat_id(self.user, key) for key in self.keys]

    @asynccontextmanager
    async def up(self, folder: Path) -> AsyncIterator[tuple[RunningStack, Caller]]:
        snapshots = {
            "GAPLESS_SEQUENCER_SNAPSHOTS": f"file://{folder}/snapshots",
            "GAPLESS_SEQUENCER_SNAPSHOT_EVERY_S": "1",
            "GAPLESS_SEQUENCER_SNAPSHOT_AHEAD": "1",
        }
        async with RunningStack.up(folder, environment=snapshots) as stack, stack.client() as http:
            http.headers["Authorization"] = f"Bearer {stack.token(self.user)}"
            yield stack, Caller(http, self)


@dataclass(slots=True)
class Caller:
    """The user at the API."""

    http: httpx.AsyncClient
    talk: Talk

    async def post(self, path: str, body: dict[str, Any], key: str) -> dict[str, Any]:
        """Retry until there is an outcome, as a client does."""
        deadline_s = time.monotonic() + 120
        while True:
            answer = await self.http.post(path, json=body, headers={"Idempotency-Key": key, "Prefer": "wait=10"})
            if answer.status_code in (200, 201):
                found: dict[str, Any] = answer.json()
                return found
            assert answer.status_code in (202, 503), answer.text
            assert time.monotonic() < deadline_s, answer.text
            await asyncio.sleep(0.2)

    async def create(self) -> None:
        for key in self.talk.keys:
            await self.post("/v1/chats", {"kind": "group", "name": key, "members": []}, key)

    async def say(self, chat: ChatId, count: int) -> list[int]:
        """Send messages and return their seqs."""
        path = f"/v1/chats/{chat}/messages"
        return [(await self.post(path, {"text": "hello"}, str(uuid4())))["seq"] for _ in range(count)]

    async def history(self, chat: ChatId) -> list[int]:
        answer = await self.http.get(f"/v1/chats/{chat}/messages")
        assert answer.status_code == 200, answer.text
        return [message["seq"] for message in answer.json()["messages"]]


async def readyz(stack: RunningStack, name: str) -> dict[str, Any]:
    async with httpx.AsyncClient(timeout=5.0, trust_env=False, verify=False) as http:
        found: dict[str, Any] = (await http.get(f"{stack.document['ops_urls'][name]}/readyz")).json()
    return found


async def until_ready(stack: RunningStack, name: str) -> None:
    deadline_s = time.monotonic() + 60
    while not (said := await readyz(stack, name))["ready"]:
        assert time.monotonic() < deadline_s, said
        await asyncio.sleep(0.2)


async def until_stopped(stack: RunningStack, word: str) -> str:
    """Wait until the projector needs an operator, and return its reasons."""
    deadline_s = time.monotonic() + 90
    while not (said := await readyz(stack, "projector-1"))["needs_operator"] or word not in str(said["reasons"]):
        assert time.monotonic() < deadline_s, said
        await asyncio.sleep(0.2)
    return " ".join(said["reasons"])


async def until_said(stack: RunningStack, *words: str) -> None:
    """Wait until `gapless up` has printed these words."""

    def said() -> str:
        return (stack.folder.parent / "up.log").read_text()

    await stack.until(lambda: all(word in said() for word in words), f"{words} in {said()}")


async def until_projected(stack: RunningStack) -> None:
    deadline_s = time.monotonic() + 60
    while True:
        lag = (await stack.gapless("lag"))["partitions"]
        behind = [p for p in lag if p["undecided"]["records"] or any(b["records"] for b in p["unprojected"].values())]
        if not behind:
            return
        assert time.monotonic() < deadline_s, behind
        await asyncio.sleep(0.2)


async def put_back(stack: RunningStack, copy: Path) -> None:
    """Kill the broker during operation, and let it return with the copy's data."""
    stack.process.send_signal(signal.SIGSTOP)  # otherwise it restarts the broker at once
    try:
        broker = stack.signal("kafka-1", signal.SIGKILL)
        await stack.until(lambda: _is_dead(broker), "the broker is dead")
        shutil.rmtree(stack.folder / "kafka")
        shutil.copytree(copy, stack.folder / "kafka")
    finally:
        stack.process.send_signal(signal.SIGCONT)
    await stack.replaced("kafka-1", broker)


def _is_dead(pid: int) -> bool:
    try:
        return " Z " in Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True


async def the_way_out(stack: RunningStack, *, old: str, new: str) -> None:
    """Do what /readyz, the log of `gapless up` and docs/operations.md tell the operator."""
    await stack.gapless("projection", "rebuild", "--to", new)
    assert (await stack.gapless("projection", "verify", "--version", new))["equal"]
    switched = await stack.gapless("projection", "cutover", "--to", new)
    assert (switched["from"], switched["to"]) == (old, new)
    assert switched["not_of_this_log"], "nobody is sent back to the old one"
    assert (await stack.gapless("projection", "drop", old, "--yes"))["freed_bytes"] > 0
    assert [(p["version"], p["state"]) for p in await stack.gapless("projection", "list")] == [(new, "serving")]
    await until_ready(stack, "projector-1")


def test_kafka_put_back_from_an_older_copy_and_made_anew_is_recovered_from_as_it_is_told(tmp_path: Path) -> None:
    asyncio.run(_main(tmp_path))


async def _main(folder: Path) -> None:
    copy, talk = folder / "copy", Talk()
    grown, *short = talk.chats
    kept, after = list(range(1, KEPT + 1)), list(range(KEPT + 1, KEPT + LOST + 10))

    async with talk.up(folder) as (stack, user):
        await user.create()
        assert [await user.say(chat, KEPT) for chat in talk.chats] == [kept] * CHATS
        await until_projected(stack)
        shutil.copytree(stack.folder / "kafka", copy)
        for chat in talk.chats:
            await user.say(chat, LOST)
        await until_projected(stack)
        await put_back(stack, copy)
        # All sequencers, serving or standby, drop what is no longer in the log, and continue from what is.
        assert await user.say(grown, len(after)) == after
        assert [await user.say(chat, 1) for chat in short] == [[KEPT + 1]] * (CHATS - 1)
        assert "gapless projection rebuild" in await until_stopped(stack, "the log ends at")

    async with talk.up(folder) as (stack, user):
        # One partition has grown past the tables again: only its records distinguish it from the former log.
        await until_said(stack, "projector-1 is not ready", "the log ends at", "has grown again", *WAY_OUT)
        assert [await user.say(chat, 1) for chat in short] == [[KEPT + 2]] * (CHATS - 1)
        assert (await stack.gapless("log", "verify"))["sound"]
        await the_way_out(stack, old="v1", new="v2")
        await until_projected(stack)
        assert [await user.history(chat) for chat in short] == [[*kept, KEPT + 1, KEPT + 2]] * (CHATS - 1)
        assert await user.history(grown) == [*kept, *after]

    shutil.rmtree(folder / "d" / "kafka")
    async with talk.up(folder) as (stack, user):
        await until_said(stack, "projector-1 is not ready", "is now", *WAY_OUT)
        await user.create()
        assert [await user.say(chat, 2) for chat in talk.chats] == [[1, 2]] * CHATS
        await the_way_out(stack, old="v2", new="v1")
        await until_projected(stack)
        assert [await user.history(chat) for chat in talk.chats] == [[1, 2]] * CHATS
        for name in stack.document["ops_urls"]:
            await until_ready(stack, name)
    logs = [path.read_text() for path in (folder / "d" / "logs").glob("sequencer-*.log")]
    refused = [line for log in logs for line in log.splitlines() if "snapshot.rejected" in line]
    assert any("stale" in line for line in refused), "no snapshot of what was lost was looked at"
