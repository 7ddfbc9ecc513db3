"""Readers that send requests at a steady pace, whether or not the last one was answered, and check every answer.

    async with SteadyReaders.reading(stack.api_url, tokens, chats, rate_per_s=200) as readers: ...
    readers.steps_back, readers.errors, readers.answered

Each reader remembers the answers that it got. What an answer must hold is fixed when its request is sent: everything
that this reader had received by then. So requests of one reader may overlap, without exceptions to the check.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from tests.support.lean_http import LeanHttp

LIMIT = 20
TIMEOUT_S = 60.0
CONNECTIONS_OF_A_READER = 8
TICKS = {"sent": 0, "delivered": 1, "read": 2}
PLACES_APART = 500
KINDS = ("latest", "newest", "latest", "after", "before", "around", "chat")


class Asked(NamedTuple):
    """A request, and what its answer must at least hold."""

    kind: str
    chat_id: str
    bound: int
    floor: Floor
    sent_s: float


class Floor(NamedTuple):
    """What a reader knows of a chat."""

    latest: int = 0
    position: int = 0
    read_seq: int = 0
    delivered_seq: int = 0

    def at_least(self, other: Floor) -> Floor:
        return Floor(*map(max, self, other))


class Known(NamedTuple):
    """What a reader knows of a message, and since when."""

    told_s: float
    fixed: tuple[object, ...]
    changed_position: int
    reply_count: int
    delivery_status: int


@dataclass(slots=True)
class _Reader:
    name: str
    token: str
    http: LeanHttp
    floors: dict[str, Floor] = field(default_factory=dict)
    known: dict[tuple[str, int], Known] = field(default_factory=dict)


class SteadyReaders:
    """What the readers found; all figures are since the start."""

    def __init__(self, url: str, tokens: Sequence[str], chats: Sequence[str], rate_per_s: float) -> None:
        self._readers = [
            _Reader(f"reader {n}", token, LeanHttp(url, connections=CONNECTIONS_OF_A_READER))
            for n, token in enumerate(tokens, start=1)
        ]
        self._chats = chats
        self._interval_s = 1 / rate_per_s
        self._random = random.Random(7)
        self._under_way: set[asyncio.Task[None]] = set()
        self._began_s = time.monotonic()
        self._ended_s: float | None = None
        self.asked: Counter[str] = Counter()
        self.answered = 0
        self.compared = 0
        """Number of messages compared with what the same reader had received of them before."""
        self.errors: list[str] = []
        self.steps_back: list[str] = []
        self.latencies_s: list[float] = []
        """Times since each request was due, so that a stalled server shows in all requests that came meanwhile."""

    @classmethod
    @asynccontextmanager
    async def reading(
        cls, url: str, tokens: Sequence[str], chats: Sequence[str], *, rate_per_s: float
    ) -> AsyncIterator[SteadyReaders]:
        """Read until the block is left; then wait for every answer."""
        readers = cls(url, tokens, chats, rate_per_s)
        pacing = asyncio.create_task(readers._pace(), name="steady readers")
        try:
            yield readers
        finally:
            pacing.cancel()
            await asyncio.wait({pacing})
            readers._ended_s = time.monotonic()
            if readers._under_way:
                await asyncio.wait(readers._under_way, timeout=2 * TIMEOUT_S)
            for reader in readers._readers:
                await reader.http.close()
        if not pacing.cancelled():
            pacing.result()

    @property
    def rate_per_s(self) -> float:
        """Average rate of their requests."""
        return self.asked.total() / ((self._ended_s or time.monotonic()) - self._began_s)

    def latency_s(self, share: float) -> float:
        return sorted(self.latencies_s)[int(share * (len(self.latencies_s) - 1))]

    async def _pace(self) -> None:
        """Send by the clock and not by the answers: delays are made up for at once."""
        number = 0
        while True:
            due_s = self._began_s + number * self._interval_s
            if (ahead_s := due_s - time.monotonic()) > 0:
                await asyncio.sleep(ahead_s)
            reader = self._readers[number % len(self._readers)]
            task = asyncio.create_task(self._read(reader, due_s))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            number += 1

    async def _read(self, reader: _Reader, due_s: float) -> None:
        chat_id = self._random.choice(self._chats)
        kind = self._random.choice(KINDS)
        floor = reader.floors.get(chat_id, Floor())
        # Few places, so that the same pages are read again and again; they are within the known part of the chat.
        bound = max(1, floor.latest * self._random.randrange(1, 5) // 5 // PLACES_APART * PLACES_APART)
        asked = Asked(kind, chat_id, bound, floor, time.monotonic())
        self.asked[kind] += 1
        try:
            answer = await reader.http.get(_target(asked), reader.token, timeout_s=TIMEOUT_S)
        except (OSError, EOFError, TimeoutError) as error:
            self.errors.append(f"{reader.name}, {kind}: {error!r}")
            return
        self.latencies_s.append(time.monotonic() - due_s)
        self.answered += 1
        if answer.status != 200:
            self.errors.append(f"{reader.name}, {kind}: {answer.status} {answer.body[:300]!r}")
            return
        body = json.loads(answer.body)
        told_s = time.monotonic()
        steps_back = list(_steps_back(asked, body)) + list(self._messages_back(reader, asked, body, told_s))
        self.steps_back += [f"{reader.name}, {kind} of {chat_id} from {bound}: {step}" for step in steps_back]
        now = reader.floors.get(chat_id, Floor())
        reader.floors[chat_id] = now.at_least(_floor_of(kind, body))

    def _messages_back(self, reader: _Reader, asked: Asked, body: dict[str, Any], told_s: float) -> Iterator[str]:
        for message in body.get("messages", ()):
            key = (asked.chat_id, message["seq"])
            now = Known(
                told_s,
                (message["message_id"], message["position"], message["text"], message["sent_at"]),
                message["changed_position"],
                message["reply_count"],
                TICKS[message["status"]],
            )
            before = reader.known.get(key)
            reader.known[key] = now
            if before is None:
                continue
            if before.fixed != now.fixed:
                yield f"message {key[1]} became another one: {before.fixed} → {now.fixed}"
            if before.told_s >= asked.sent_s:
                reader.known[key] = Known(told_s, now.fixed, *map(max, before[2:], now[2:]))
                continue  # the two requests overlapped, so either answer may be the older one
            self.compared += 1
            if any(n < b for n, b in zip(now[2:], before[2:], strict=True)):
                yield f"message {key[1]}: (changed_position, reply_count, tick) {before[2:]} → {now[2:]}"


def _target(asked: Asked) -> str:
    chat = f"/v1/chats/{asked.chat_id}"
    match asked.kind:
        case "latest":
            return f"{chat}/latest-seq"
        case "chat":
            return chat
        case "newest":
            return f"{chat}/messages?limit={LIMIT}"
        case bound:
            return f"{chat}/messages?{bound}_seq={asked.bound}&limit={LIMIT}"


def _steps_back(asked: Asked, body: dict[str, Any]) -> Iterator[str]:
    """Yield what this answer lacks of what its reader knew when it sent the request."""
    floor, bound = asked.floor, asked.bound
    if asked.kind == "latest":
        if body["seq"] < floor.latest:
            yield f"latest seq {floor.latest} → {body['seq']}"
        return
    if asked.kind == "chat":
        now = _floor_of("chat", body)
        if now.at_least(floor) != now:
            yield f"{floor} → {now}"
        return
    seqs = [message["seq"] for message in body["messages"]]
    positions = [message["position"] for message in body["messages"]]
    if positions != sorted(set(positions)):
        yield f"positions do not ascend: {positions}"
    match asked.kind:
        case "newest":
            first, last = max(1, (seqs[-1] if seqs else 0) - LIMIT + 1), max(seqs[-1] if seqs else 0, floor.latest)
        case "after":
            first, last = bound + 1, max(seqs[-1] if seqs else 0, min(bound + LIMIT, floor.latest))
        case "before":
            first, last = max(1, bound - LIMIT), bound - 1
        case _:
            first = min(seqs[0] if seqs else bound, bound)
            last = max(seqs[-1] if seqs else 0, min(first + LIMIT - 1, floor.latest))
    if floor.latest and seqs != list(range(first, last + 1)):
        yield f"{first}…{last} should be there: {seqs}"
    if seqs and seqs[0] > 1 and not body["has_more_before"]:
        yield f"{seqs[0]} is said to be the first"
    if seqs and seqs[-1] < floor.latest and not body["has_more_after"]:
        yield f"{seqs[-1]} is said to be the last"


def _floor_of(kind: str, body: dict[str, Any]) -> Floor:
    if kind == "latest":
        return Floor(latest=body["seq"])
    if kind == "chat":
        return Floor(body["last_seq"], body["last_position"], body["read_seq"], body["delivered_seq"])
    messages = body["messages"]
    if not messages:
        return Floor()
    return Floor(latest=messages[-1]["seq"], position=max(m["changed_position"] for m in messages))
