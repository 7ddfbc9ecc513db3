"""A model producer: it sends each message under one key until it gets an outcome.

Used by the demo and by the tests that kill processes. It keeps the responses, so that they can be compared with the
log.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Final

import httpx

ANSWERED: Final = frozenset({200, 201})
PAUSE_S: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    """The response to one message."""

    chat_id: str
    key: str
    text: str
    seq: int
    position: int
    message_id: str
    sent_at: str
    token: str
    duplicate: bool
    attempts: int
    answered_s: float
    """time.monotonic() when the response arrived."""


class NotAnswered(Exception):
    """A response that a retry does not change, or none within the deadline."""


class ProducerClient:
    """A user who sends messages over HTTP."""

    def __init__(self, http: httpx.AsyncClient, token: str, *, deadline_s: float = 60.0) -> None:
        self._http = http
        self._headers = {"Authorization": f"Bearer {token}"}
        self._deadline_s = deadline_s
        self.unanswered = 0
        """Number of messages without a response yet."""

    async def send(self, chat_id: str, text: str, *, key: str) -> Ack:
        """Send until the response is 201 or 200; retry with the same key after a 202, a 5xx or a broken connection.

        Raises NotAnswered for any other response, or when the deadline has passed.
        """
        self.unanswered += 1
        try:
            return await self._send(chat_id, text, key)
        finally:
            self.unanswered -= 1

    async def _send(self, chat_id: str, text: str, key: str) -> Ack:
        deadline = time.monotonic() + self._deadline_s
        attempts = 0
        last = "no answer"
        while time.monotonic() < deadline:
            attempts += 1
            try:
                answer = await self._http.post(
                    f"/v1/chats/{chat_id}/messages",
                    json={"text": text},
                    headers={**self._headers, "Idempotency-Key": key},
                )
            except httpx.TransportError as error:
                last = repr(error)
            else:
                if answer.status_code in ANSWERED:
                    return _ack_of(answer.json(), key, text, attempts)
                last = f"{answer.status_code} {answer.text}"
                if answer.status_code != 202 and answer.status_code < 500:
                    raise NotAnswered(f"{key}: {last}")
            await asyncio.sleep(PAUSE_S)
        raise NotAnswered(f"{key}: within {self._deadline_s:g} s and {attempts} attempts, last: {last}")


def _ack_of(body: dict[str, object], key: str, text: str, attempts: int) -> Ack:
    return Ack(
        chat_id=str(body["chat_id"]),
        key=key,
        text=text,
        seq=int(str(body["seq"])),
        position=int(str(body["position"])),
        message_id=str(body["message_id"]),
        sent_at=str(body["sent_at"]),
        token=str(body["token"]),
        duplicate=bool(body["duplicate"]),
        attempts=attempts,
        answered_s=time.monotonic(),
    )
