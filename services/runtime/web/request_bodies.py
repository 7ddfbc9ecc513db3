"""Reads request bodies whole before the handler starts, within limits on size, time and memory.

So a handler never waits for its client, and the limit of concurrent requests (`concurrency`) counts only complete ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.runtime.web.headers import only_header
from services.runtime.web.problems import Problem

DRAIN_LIMIT_BYTES: Final = 16 * 1024 * 1024
DRAIN_TIMEOUT_S: Final = 5.0
_DIGITS: Final = 18
"""Maximum digits of a content length to parse: more than any limit has, few enough to parse cheaply."""


class RequestBodyMiddleware:
    """Responds with 413 to a body over the limit, announced or not, with 408 to a body that is not complete in time,
    and with 503 to the oldest incomplete body when all of them together exceed `memory_bytes`.

    The framework has a size limit too, but applies it to an announced length only after the handler has run, and
    responds in plain text.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        limit_bytes: int,
        limit_bytes_by_path: Mapping[str, int],
        timeout_s: float,
        memory_bytes: int,
    ) -> None:
        self._app = app
        self._limit_bytes = limit_bytes
        self._limit_bytes_by_path = dict(limit_bytes_by_path)
        self._timeout_s = timeout_s
        self._memory = BodyMemory(memory_bytes)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit_bytes = self._limit_bytes_by_path.get(scope["path"], self._limit_bytes)
        if announced_bytes(only_header(scope, b"content-length")) > limit_bytes:
            await _answer_too_large(limit_bytes, scope, receive, send, drained=False)
            return
        # The bytes received are counted, whatever length was announced.
        message: Message | None = await receive()
        assert message is not None
        if message.get("more_body", False):
            try:
                with ComingBody(self._memory) as coming:
                    message = await self._whole(message, limit_bytes, receive, coming)
            except _TooLarge:
                await _answer_too_large(limit_bytes, scope, receive, send, drained=False)
                return
            except TimeoutError:
                await _answer(self._too_slow(coming), scope, receive, send)
                return
        elif len(message.get("body", b"")) > limit_bytes:
            await _answer_too_large(limit_bytes, scope, receive, send, drained=True)
            return
        if message["type"] == "http.disconnect":
            return

        async def receive_whole() -> Message:
            nonlocal message
            if message is None:
                return await receive()
            whole, message = message, None
            return whole

        await self._app(scope, receive_whole, send)

    async def _whole(self, message: Message, limit_bytes: int, receive: Receive, coming: ComingBody) -> Message:
        """Return one message with the whole body, or the disconnect message if the client has gone."""
        pieces: list[bytes] = []
        async with asyncio.timeout(self._timeout_s) as deadline:
            while message["type"] == "http.request":
                piece = message.get("body", b"")
                pieces.append(piece)
                if coming.size_bytes + len(piece) > limit_bytes:
                    raise _TooLarge
                coming.grow(len(piece), deadline)
                if not message.get("more_body", False):
                    return {"type": "http.request", "body": b"".join(pieces), "more_body": False}
                message = await receive()
        return message

    def _too_slow(self, coming: ComingBody) -> Problem:
        close = {"Connection": "close"}
        if coming.evicted:
            detail = "More request bodies are coming in than this process can hold."
            return Problem("unavailable", detail, retry_after_s=1, headers=close)
        detail = f"The body was not complete within {self._timeout_s:g} s."
        return Problem("request_timeout", detail, headers=close)


def announced_bytes(content_length: bytes | None) -> int:
    """Return the size that `Content-Length` announces, with any number of leading zeros; 0 if absent."""
    if content_length is None or not content_length.isdigit():
        return 0
    return int(content_length.lstrip(b"0")[:_DIGITS] or b"0")


class BodyMemory:
    """Limits the total size of all incomplete bodies."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.held_bytes = 0
        self.coming: dict[ComingBody, asyncio.Timeout] = {}
        """Incomplete bodies, oldest first."""

    def make_room(self) -> None:
        """Evict the oldest incomplete bodies until the rest fits."""
        while self.held_bytes > self.limit_bytes and self.coming:
            longest = next(iter(self.coming))
            longest.evict(self.coming.pop(longest))


class ComingBody:
    """An incomplete body. Leaving the block releases its memory."""

    def __init__(self, memory: BodyMemory) -> None:
        self._memory = memory
        self.size_bytes = 0
        self.evicted = False

    def __enter__(self) -> ComingBody:
        return self

    def __exit__(self, *_exc_info: object) -> None:
        self._memory.coming.pop(self, None)
        if not self.evicted:
            self._memory.held_bytes -= self.size_bytes

    def grow(self, by_bytes: int, deadline: asyncio.Timeout) -> None:
        """Count a piece. `deadline` is the timeout of the wait for the next one. Raises TimeoutError once evicted."""
        if self.evicted:
            raise TimeoutError
        self.size_bytes += by_bytes
        self._memory.held_bytes += by_bytes
        self._memory.coming.setdefault(self, deadline)
        self._memory.make_room()

    def evict(self, deadline: asyncio.Timeout) -> None:
        self.evicted = True
        self._memory.held_bytes -= self.size_bytes
        deadline.reschedule(0)


class _TooLarge(Exception):
    """Stops reading a body; never leaves RequestBodyMiddleware."""


async def _answer(problem: Problem, scope: Scope, receive: Receive, send: Send) -> None:
    await problem.response(request_id=scope["state"]["request_id"])(scope, receive, send)


async def _answer_too_large(limit_bytes: int, scope: Scope, receive: Receive, send: Send, *, drained: bool) -> None:
    drained = drained or await _drain(scope, receive)
    detail = f"The body is larger than {limit_bytes} bytes."
    headers = {} if drained else {"Connection": "close"}
    await _answer(Problem("too_large", detail, limit_bytes=limit_bytes, headers=headers), scope, receive, send)


async def _drain(scope: Scope, receive: Receive) -> bool:
    """Discard the rest of a body, within bounds. Returns whether all of it arrived.

    A connection closed with unread bytes is reset, and many clients then never see the response. A client that sent
    `Expect: 100-continue` waits for our response and sends nothing if it is a refusal.
    """
    if only_header(scope, b"expect") is not None:
        return False
    drained_bytes = 0
    try:
        async with asyncio.timeout(DRAIN_TIMEOUT_S):
            while drained_bytes <= DRAIN_LIMIT_BYTES:
                message = await receive()
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return True
                drained_bytes += len(message.get("body", b""))
    except TimeoutError:
        pass
    return False
