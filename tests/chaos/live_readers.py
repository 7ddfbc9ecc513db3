"""Readers of streams: they follow all chats of a user, or one, and keep a copy, while the system is broken.

Each cuts its own connection again and again, wherever it stands: in a frame, in a page of changes, before the first
byte. What each connection brought is recorded, and at the end the copy.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final

from schemas.ids import parse_token
from schemas.sync_cursor import decode_sync_cursor
from tests.chaos.acknowledged import milliseconds
from tests.chaos.evidence import Json
from tests.chaos.stage import Stage
from tests.support.live_reader import LiveReader

CONNECTION_S: Final = 2.5
"""How long a connection is kept, on the average; many are cut at once, few are kept for long."""


class CuttingReader:
    """Follows the chats of `user`, or only `chat_id`."""

    def __init__(
        self, stage: Stage, client: str, url: str, token: Callable[[], str], user: str, chat_id: str | None = None
    ) -> None:
        self._stage = stage
        self._client = client
        self._reader = _Recorded(stage, client, url, token, user, chat_id)
        self._closed = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Follow until `finish`."""
        async with self._reader:
            await self._closed.wait()

    async def finish(self) -> None:
        """Wait until the copy has everything that the read model has; then record it."""
        try:
            await self._reader.is_complete()
        except (TimeoutError, AssertionError) as error:
            self._stage.unanswered.append(f"{self._client}: its copy is not complete: {error!r:.600}")
        self._reader.record_copy()
        self._closed.set()


class _Recorded(LiveReader):
    def __init__(
        self, stage: Stage, client: str, url: str, token: Callable[[], str], user: str, chat_id: str | None
    ) -> None:
        super().__init__(url, token, user, chat_id=chat_id)
        self._stage = stage
        self._client = client
        self._rng: random.Random = stage.rng(client)

    async def _one_connection(self) -> None:
        asked: Json = {"caller": self._user_id, "chat": self._chat_id}
        if self._chat_id is not None:
            asked["after_position"] = self.chats[self._chat_id].position
        elif self.cursor is not None:
            asked["since"] = sorted(decode_sync_cursor(self.cursor).indexes.items())
        began = len(self.frames)
        op = self._stage.recorder.ask(self._client, "stream", **asked)
        whole = self._stage.closing.is_set()
        try:
            async with asyncio.timeout(None if whole else self._rng.expovariate(1 / CONNECTION_S)):
                await super()._one_connection()
        except TimeoutError:
            pass
        finally:
            self._stage.recorder.answer(op, {"frames": [_recorded(frame) for frame in self.frames[began:]]})
            del self.frames[began:]

    async def is_complete(self) -> None:
        """Wait until the copy is where the read model stands. Raises TimeoutError."""
        due: dict[str, int] = {}
        since: Json = {}
        while True:
            answer = await self._get("/v1/sync", {"limit": 200, **since})
            due |= {head["chat_id"]: head["position"] for head in answer["chats"]}
            if not answer["has_more"]:
                break
            since = {"since": answer["next"]}
        await self.reaches({chat: at for chat, at in due.items() if self._chat_id in (None, chat)})

    def record_copy(self) -> None:
        op = self._stage.recorder.ask(self._client, "copy", caller=self._user_id, chat=self._chat_id)
        chats = {
            chat_id: {
                "position": chat.position, "removed": chat.removed,
                "messages": [[seq, message] for seq, message in sorted(chat.messages.items())],
            }
            for chat_id, chat in self.chats.items()
        }  # fmt: skip
        self._stage.recorder.answer(op, {"chats": chats, "faults": self.faults})


def _recorded(frame: Json) -> Json:
    """Return a frame in the checker's form, as `streamed.frame` does."""
    found = dict(frame)
    if "at" in found:
        found["at"] = milliseconds(found["at"])
    if "message" in found:
        found["message"] = {**found["message"], "sent_at": milliseconds(found["message"]["sent_at"])}
    if "token" in found:
        found["token"] = list(parse_token(found["token"]))
    return found
