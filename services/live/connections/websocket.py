"""A WebSocket as the connection of a stream. Messages of its client are passed on one by one, in order."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final, final

from services.live.connections.connection import Owner
from services.live.connections.session import AUTH_WITHIN_S, START_WITHIN_S, Session
from services.live.frames import control
from services.live.frames.frame import Form
from services.live.hub.stream import Stream
from services.runtime.serving.framing import PING
from services.runtime.serving.websocket import WebSocketConnection

WAITING_MESSAGES: Final = 32
CLOSE_CODES: Final = {
    "token_expired": 4401,
    "unauthorized": 4401,
    "protocol": 4400,
    "not_started": 4408,
    "cursor_of_another_log": 4409,
    "full_for_user": 4429,
    "draining": 1012,
    "full": 1013,
    "unavailable": 1013,
}
"""Reason of a bye → close code. 4400 and up are of gapless.v1; the others of RFC 6455 and its registry."""
_NORMAL: Final = 1000

OnMessage = Callable[["WebSocketStream", str], Awaitable[None]]


@final
class WebSocketStream:
    """A Connection."""

    __slots__ = (
        "_on_message",
        "_owner",
        "_token_ends_at_s",
        "_waiting",
        "_working",
        "expires_at_s",
        "is_paused",
        "kind",
        "paused_since_s",
        "session",
        "stream",
        "transport",
        "user_id",
        "wire",
    )

    def __init__(self, owner: Owner, on_message: OnMessage) -> None:
        self.kind = Form.WEBSOCKET.name.lower()
        self._owner = owner
        self._on_message = on_message
        self.transport: asyncio.Transport | None = None
        self._waiting: deque[str] = deque()
        self._working: asyncio.Task[None] | None = None
        self.session = Session()
        self.user_id: str | None = None
        self.expires_at_s = time.time() + AUTH_WITHIN_S
        self._token_ends_at_s = 0.0
        self.is_paused = False
        self.paused_since_s = 0.0
        self.stream: Stream | None = None
        self.wire = WebSocketConnection(
            on_text=self._text, on_lost=self._lost, on_unwritable=self._pause, on_writable=self._resume
        )

    def authenticated(self, user_id: str, until_s: float) -> None:
        """The caller is known until the end of its token. A connection that is not started has less time."""
        if self.user_id is None:
            self.expires_at_s = min(until_s, time.time() + START_WITHIN_S)
        elif self.session.is_started:
            self.expires_at_s = until_s
        self.user_id, self._token_ends_at_s = user_id, until_s
        self.session.authenticated()

    def started(self) -> None:
        self.expires_at_s = self._token_ends_at_s

    # Sink

    def write(self, data: bytes) -> None:
        if self.transport is not None:
            self.transport.write(data)

    def takes_more(self) -> bool:
        return not self.is_paused

    def say_cursor(self, cursor: str) -> None:
        self.write(control.cursor(cursor).in_form(Form.WEBSOCKET))

    def close(self, reason: str) -> None:
        self.bye(reason, 0)

    # What `Streams` calls

    def heartbeat(self) -> None:
        """A ping, which the client's library answers: a connection that is gone is noticed."""
        self.write(PING)

    def bye(self, reason: str, after_ms: int) -> None:
        if reason == "token_expired" and not self.session.is_started:
            reason = "not_started"
        if self.transport is None or self.wire.closing:
            return
        self.write(control.bye(reason, after_ms).in_form(Form.WEBSOCKET))
        self.wire.close(CLOSE_CODES.get(reason, _NORMAL), reason)
        self.transport = None

    def abort(self) -> None:
        """A connection that was sent `bye` is ended by its wire."""
        if self.transport is not None:
            self.transport.abort()

    # What the wire calls

    def _text(self, text: str) -> None:
        if len(self._waiting) >= WAITING_MESSAGES:
            self._owner.overrun(self)
            return
        self._waiting.append(text)
        if self._working is None:
            self._working = asyncio.ensure_future(self._work())

    async def _work(self) -> None:
        try:
            while self._waiting and self.transport is not None:
                await self._on_message(self, self._waiting.popleft())
        finally:
            self._working = None

    def _pause(self) -> None:
        self.is_paused = True
        self.paused_since_s = asyncio.get_running_loop().time()
        self._owner.paused(self)

    def _resume(self) -> None:
        self.is_paused = False
        self._owner.resumed(self)

    def _lost(self) -> None:
        self.transport = None
        self._waiting.clear()
        if self._working is not None:
            self._working.cancel()
        self._owner.lost(self)
