"""Producers retry, processes die, and every answer matches the log and Postgres."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx
import psycopg
import pytest

from services.ops.producer import Ack, ProducerClient
from tests.support.running_stack import RunningStack

PRODUCERS = 20
CHATS = 10
UNANSWERED = 50
ROOM = 80
"""Sends in flight: while a sequencer is down, those to its chats fill this, and the others wait."""


@dataclass(frozen=True, slots=True)
class Size:
    messages: int
    """At least so many are sent; more if the kills are not done by then."""
    kills: int
    pace_s: float
    """Pause between two sends, except right before a kill."""


SHORT = Size(messages=200, kills=1, pace_s=0.05)
LONG = Size(messages=5_000, kills=3, pace_s=0.02)
LONG_PROOF = (pytest.mark.proof, pytest.mark.long)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("size", [pytest.param(SHORT, id="short"), pytest.param(LONG, id="long", marks=LONG_PROOF)])
def test_twenty_producers_lose_and_double_nothing_while_sequencer_and_projector_are_killed(
    tmp_path: Path, size: Size
) -> None:
    async def main() -> None:
        async with RunningStack.up(tmp_path, "--sequencers", "2", "--projectors", "1") as stack, stack.client() as http:
            await _run(stack, http, size)

    asyncio.run(main())


async def _run(stack: RunningStack, http: httpx.AsyncClient, size: Size) -> None:
    users = [str(uuid4()) for _ in range(PRODUCERS)]
    tokens = [stack.token(user) for user in users]
    chats = await _create_chats(http, users, tokens)
    producers = [ProducerClient(http, token, deadline_s=120) for token in tokens]
    told: list[Ack] = []
    under_way: dict[str, int] = dict.fromkeys(chats, 0)
    room = asyncio.Semaphore(ROOM)

    async def send(n: int) -> None:
        chat = chats[n % CHATS]
        under_way[chat] += 1
        try:
            copies = 2 if n % 5 == 0 else 1  # concurrently
            producer = producers[n % PRODUCERS]
            told.extend(
                await asyncio.gather(*(producer.send(chat, f"message {n}", key=f"n-{n}") for _ in range(copies)))
            )
        finally:
            under_way[chat] -= 1
            room.release()

    async def send_until_killed() -> int:
        """Send until all kills are done; return the number of messages, the same in each chat."""
        n = 0
        async with asyncio.TaskGroup() as group:
            while n < size.messages or n % CHATS or not killed.is_set():
                await room.acquire()
                if not crowded.is_set():
                    await asyncio.sleep(size.pace_s)
                group.create_task(send(n))
                n += 1
        return n

    terms_before = await _terms(stack)
    killed, crowded = asyncio.Event(), asyncio.Event()
    sending = asyncio.create_task(send_until_killed())
    for kill in range(size.kills):
        await _progress(told, size.messages * (kill + 1) // (size.kills + 1), sending)
        crowded.set()
        await _kill_a_sequencer(stack, chats, under_way, sending)
        await _kill_the_projector(stack, sending, under_way, crowded)
    killed.set()
    messages = await sending
    assert await _terms(stack) >= terms_before + size.kills, "each kill was followed by a new term"

    # Repeat a fifth again afterwards.
    again = random.Random(1).sample(range(messages), messages // 5)
    for start in range(0, len(again), 100):
        repeats = [
            producers[n % PRODUCERS].send(chats[n % CHATS], f"message {n}", key=f"n-{n}")
            for n in again[start : start + 100]
        ]
        told_again = await asyncio.gather(*repeats)
        assert all(t.duplicate for t in told_again)
        told.extend(told_again)

    _assert_answers_agree(told, messages)
    await _assert_tables_agree(http, told, chats, messages // CHATS, tokens[0])
    log = await stack.gapless("log", "verify")
    assert log["sound"], log
    assert (await stack.gapless("projection", "verify"))["equal"]


async def _create_chats(http: httpx.AsyncClient, users: list[str], tokens: list[str]) -> list[str]:
    chats = []
    for n in range(CHATS):
        answer = await http.post(
            "/v1/chats",
            json={"kind": "group", "name": f"chat {n}", "members": users[1:]},
            headers={"Authorization": f"Bearer {tokens[0]}", "Idempotency-Key": f"chat-{n}", "Prefer": "wait=30"},
        )
        assert answer.status_code == 201, answer.text
        chats.append(answer.json()["chat_id"])
    return chats


async def _progress(told: list[Ack], count: int, sending: asyncio.Task[int]) -> None:
    while len(told) < count:
        assert not sending.done(), sending
        await asyncio.sleep(0.01)


async def _kill_a_sequencer(
    stack: RunningStack, chats: list[str], under_way: dict[str, int], sending: asyncio.Task[int]
) -> None:
    """Kill the sequencer with the most unanswered sends when there are at least 50.

    It is stopped while they are counted, so that they stay unanswered.
    """
    while True:
        assert not sending.done(), sending
        owners: defaultdict[str, list[str]] = defaultdict(list)
        for chat in chats:
            owner = await stack.owner(chat)
            if owner is not None:
                owners[owner].append(chat)
        if not owners:
            await asyncio.sleep(0.05)
            continue
        victim = max(owners, key=lambda name: sum(under_way[c] for c in owners[name]))
        pid = stack.signal(victim, signal.SIGSTOP)
        for _ in range(1_000):  # sends pile up behind it, slowly on a busy machine
            unanswered = sum(under_way[c] for c in owners[victim])
            if unanswered >= UNANSWERED:
                break
            await asyncio.sleep(0.01)
        stack.signal(victim, signal.SIGKILL)
        await stack.replaced(victim, pid)
        if unanswered >= UNANSWERED:
            return


async def _kill_the_projector(
    stack: RunningStack, sending: asyncio.Task[int], under_way: dict[str, int], crowded: asyncio.Event
) -> None:
    before = await _projected(stack)
    while sum(under_way.values()) < UNANSWERED:
        assert not sending.done(), sending
        await asyncio.sleep(0.005)
    crowded.clear()
    await stack.kill("projector-1")
    deadline_s = time.monotonic() + 120
    while await _projected(stack) <= before:
        assert time.monotonic() < deadline_s, "the projector did not resume"
        await asyncio.sleep(0.05)


async def _projected(stack: RunningStack) -> int:
    async with await psycopg.AsyncConnection.connect(stack.document["postgres"]) as connection:
        cursor = await connection.execute("SELECT sum(next_offset) FROM chat_v1.projection_positions")
        row = await cursor.fetchone()
        return int(row[0]) if row is not None and row[0] is not None else 0


async def _terms(stack: RunningStack) -> int:
    """Return the number of terms ever opened, by the log."""
    report = await stack.gapless("log", "verify")
    return sum(partition["term"] for partition in report["partitions"])


def _assert_answers_agree(told: list[Ack], messages: int) -> None:
    by_message: defaultdict[tuple[str, str], set[tuple[object, ...]]] = defaultdict(set)
    for t in told:
        by_message[t.chat_id, t.key].add((t.seq, t.position, t.message_id, t.sent_at))
    assert len(by_message) == messages
    torn = {key: found for key, found in by_message.items() if len(found) != 1}
    assert not torn, "a repeat got other figures than the original"
    seqs: defaultdict[str, list[int]] = defaultdict(list)
    for (chat, _), found in by_message.items():
        seqs[chat].append(int(str(next(iter(found))[0])))
    for chat, of_chat in seqs.items():
        assert sorted(of_chat) == list(range(1, messages // CHATS + 1)), chat


async def _assert_tables_agree(
    http: httpx.AsyncClient, told: list[Ack], chats: list[str], messages_of_each: int, token: str
) -> None:
    by_message_id = {t.message_id: t for t in told}
    latest = {t.chat_id: t.token for t in told}
    for chat in chats:
        after, seen = 0, []
        while True:
            page = await http.get(
                f"/v1/chats/{chat}/messages",
                params={"after_seq": after, "limit": 200},
                headers={"Authorization": f"Bearer {token}", "Gapless-At-Least": latest[chat]},
            )
            assert page.status_code == 200, page.text
            messages = page.json()["messages"]
            seen += messages
            if not page.json()["has_more_after"]:
                break
            after = messages[-1]["seq"]
        assert [m["seq"] for m in seen] == list(range(1, messages_of_each + 1))
        for message in seen:
            t = by_message_id[message["message_id"]]
            assert (message["seq"], message["position"], message["text"], message["sent_at"]) == (
                t.seq,
                t.position,
                t.text,
                t.sent_at,
            )
