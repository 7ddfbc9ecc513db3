"""Senders that go on at a modest pace over HTTP, and keep the answers."""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx

WAIT_S = 30
MARK_EVERY = 5
"""Sends per read receipt."""


class SteadySends:
    """Messages, replies and marks, each by the next member, in chats that all of them are in."""

    def __init__(
        self,
        http: httpx.AsyncClient,
        tokens: Sequence[str],
        roots: Mapping[str, Sequence[str]],
        *,
        rate_per_s: float,
    ) -> None:
        """:param roots: chat → messages in it that are replied to."""
        self._http = http
        self._tokens = tokens
        self._roots = roots
        self._interval_s = 1 / rate_per_s
        self._random = random.Random(11)
        self._under_way: set[asyncio.Task[None]] = set()
        self.told: defaultdict[str, dict[int, dict[str, Any]]] = defaultdict(dict)
        """Chat → seq → the answer, with the text and key of its request."""
        self.faults: list[str] = []
        self.marks = 0

    @classmethod
    @asynccontextmanager
    async def going_on(
        cls,
        http: httpx.AsyncClient,
        tokens: Sequence[str],
        roots: Mapping[str, Sequence[str]],
        *,
        rate_per_s: float,
    ) -> AsyncIterator[SteadySends]:
        """Send until the block is left; then wait for every answer."""
        sends = cls(http, tokens, roots, rate_per_s=rate_per_s)
        pacing = asyncio.create_task(sends._pace(), name="steady sends")
        try:
            yield sends
        finally:
            pacing.cancel()
            await asyncio.wait({pacing})
            if sends._under_way:
                await asyncio.wait(sends._under_way, timeout=2 * WAIT_S)
        if not pacing.cancelled():
            pacing.result()

    @property
    def count(self) -> int:
        return sum(len(by_seq) for by_seq in self.told.values())

    async def _pace(self) -> None:
        began_s = time.monotonic()
        number = 0
        while True:
            await asyncio.sleep(max(0.0, began_s + number * self._interval_s - time.monotonic()))
            task = asyncio.create_task(self._send(number))
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)
            number += 1

    async def _send(self, number: int) -> None:
        chat_id = self._random.choice(list(self._roots))
        token = self._tokens[number % len(self._tokens)]
        body: dict[str, Any] = {"text": f"live message {number}"}
        if number % 3 == 0:
            body["reply_to_message_id"] = self._random.choice(self._roots[chat_id])
        headers = {"Authorization": f"Bearer {token}", "Prefer": f"wait={WAIT_S}"}
        try:
            sent = await self._post(f"/v1/chats/{chat_id}/messages", body, headers, f"live-{number}")
            if sent.status_code not in (200, 201):
                self.faults.append(f"live-{number}: {sent.status_code} {sent.text[:300]}")
                return
            answer = sent.json()
            self.told[chat_id][answer["seq"]] = {**answer, "text": body["text"], "key": f"live-{number}"}
            if number % MARK_EVERY == 0:
                marked = await self._http.post(
                    f"/v1/chats/{chat_id}/read", json={"up_to_seq": answer["seq"]}, headers=headers
                )
                if marked.status_code != 200:
                    self.faults.append(f"mark after live-{number}: {marked.status_code} {marked.text[:300]}")
                self.marks += 1
        except httpx.TransportError as error:
            self.faults.append(f"live-{number}: {error!r}")

    async def _post(self, path: str, body: dict[str, Any], headers: dict[str, str], key: str) -> httpx.Response:
        """Send once more if the connection broke: the server may close an idle one just as a request is sent on it."""
        headers = {**headers, "Idempotency-Key": key}
        try:
            return await self._http.post(path, json=body, headers=headers)
        except httpx.ReadError:
            return await self._http.post(path, json=body, headers=headers)
