"""A client of sync and live that keeps a copy of its chats, as docs/live.md says, and notes where the server was wrong.

async with LiveReader(url, token) as reader:
    ...
    await reader.reaches({chat_id: position})
    reader.copy(chat_id)
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import httpx

from tests.support.event_stream_parser import EventStreamParser

PAUSE_S = 0.05
DEADLINE_S = 180.0
Frame = dict[str, Any]


@dataclass(slots=True)
class ChatCopy:
    """A chat as its client has it."""

    position: int = 0
    messages: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Seq → text, whether deleted, revision, count of each reaction."""
    removed: bool = False
    """By a stream, or as a read says that was refused: then `removed` has yet to come, and frames are not applied."""


class LiveReader:
    """Follows all chats of a user, or one, until it is closed. It comes back by itself after every cut.

    :param chat_id: follow this chat alone, by its own stream.
    :param token: returns the token of the moment.
    """

    def __init__(self, url: str, token: Callable[[], str], user_id: str, *, chat_id: str | None = None) -> None:
        self._http = httpx.AsyncClient(base_url=url, timeout=40.0, trust_env=False, verify=False)
        self._token = token
        self._user_id = user_id
        self._chat_id = chat_id
        self._following: asyncio.Task[None] | None = None
        self._news = asyncio.Event()
        self.chats: dict[str, ChatCopy] = {}
        self.cursor: str | None = None
        self.faults: list[str] = []
        self.frames: list[Frame] = []
        self.connections = 0
        self._seen: dict[str, int] = {}
        """The position of each chat's last frame in this connection."""
        self._said_removed: set[str] = set()
        """The chats from which this connection said that we are removed."""
        self.ended: str | None = None
        """Why the stream of one chat ended for good."""

    async def __aenter__(self) -> Self:
        if self._chat_id is None:
            await self._sync()
        else:
            await self._fetch(self._chat_id, None)
        self._following = asyncio.create_task(self._follow())
        await self.until(lambda: self.connections > 0, "the stream is open")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._following is not None:
            self._following.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._following
        await self._http.aclose()

    def copy(self, chat_id: str) -> dict[int, dict[str, Any]]:
        return self.chats[chat_id].messages

    async def until(self, condition: Callable[[], object], what: str) -> None:
        """Wait for a condition that frames bring about."""
        async with asyncio.timeout(DEADLINE_S):
            while not (condition() or self.faults):
                if self._following is not None and self._following.done():
                    self._following.result()
                self._news.clear()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._news.wait(), 0.5)
        assert not self.faults, (what, self.faults)

    async def reaches(self, positions: Mapping[str, int]) -> None:
        """Wait until the copies are at these positions."""
        await self.until(
            lambda: all(chat in self.chats and self.chats[chat].position >= at for chat, at in positions.items()),
            "the copies are complete",
        )

    async def _sync(self) -> None:
        answer = await self._get("/v1/sync", {"limit": 200} | ({} if self.cursor is None else {"since": self.cursor}))
        while True:
            for head in answer["chats"]:
                await self._fetch(head["chat_id"], None)
            for chat_id in answer["removed"]:
                self.chats.setdefault(chat_id, ChatCopy()).removed = True
            self.cursor = answer["next"]
            if not answer["has_more"]:
                return
            answer = await self._get("/v1/sync", {"limit": 200, "since": self.cursor})

    async def _fetch(self, chat_id: str, at_least: str | None) -> None:
        """Bring the copy of a chat up to the read model."""
        chat = self.chats.setdefault(chat_id, ChatCopy())
        after, changed = chat.position, dict[int, dict[str, Any]]()
        while True:
            page = await self._get(f"/v1/chats/{chat_id}/changes", {"after_position": after}, at_least)
            if page is None:
                chat.removed = True
                return
            changed |= {message["seq"]: known_of(message) for message in page["messages"]}
            after = page["next_position"]
            if not page["has_more"]:
                # All pages at once: a page shows later states than its `next_position`, so a frame between the two
                # must not be applied to it.
                chat.messages |= changed
                chat.position = max(chat.position, page["position"])
                chat.removed = False
                return

    async def _get(self, path: str, parameters: Mapping[str, Any], at_least: str | None = None) -> Any:
        """Return an answer, or None for a chat that is no longer ours. Asks again while the server cannot answer."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                headers = {"Authorization": f"Bearer {self._token()}"}
                if at_least is not None:
                    headers["Gapless-At-Least"] = at_least
                with contextlib.suppress(httpx.TransportError):
                    answer = await self._http.get(path, params=dict(parameters), headers=headers)
                    if answer.status_code == 200:
                        return answer.json()
                    if answer.status_code in (403, 404):
                        return None
                    assert answer.status_code in (401, 429, 503), answer.text
                await asyncio.sleep(PAUSE_S)

    async def _follow(self) -> None:
        while self.ended is None:
            with contextlib.suppress(httpx.TransportError):
                await self._one_connection()
            await asyncio.sleep(PAUSE_S)

    async def _one_connection(self) -> None:
        if self._chat_id is None:
            path, parameters = "/v1/live", {} if self.cursor is None else {"since": self.cursor}
        else:
            path = f"/v1/chats/{self._chat_id}/live"
            parameters = {"after_position": str(self.chats[self._chat_id].position)}
        headers = {"Authorization": f"Bearer {self._token()}"}
        async with self._http.stream("GET", path, params=parameters, headers=headers) as response:
            if response.status_code != 200:
                if response.status_code in (403, 404):
                    self.ended = str(response.status_code)
                return
            self.connections += 1
            self._news.set()
            self._seen, self._said_removed = {}, set()
            parser = EventStreamParser()
            async for piece in pieces(response):
                for event in parser.feed(piece):
                    await self._take(json.loads(event.data))
                if parser.last_event_id and self._chat_id is None:
                    self.cursor = parser.last_event_id
                self._news.set()

    async def _take(self, frame: Frame) -> None:
        """Apply one frame."""
        self.frames.append(frame)
        kind = frame["type"]
        if kind == "bye":
            if frame["reason"] == "removed":
                self.ended = "removed"
        elif kind == "gap":
            self._said_removed.discard(frame["chat_id"])
            await self._fetch(frame["chat_id"], frame["token"])
        elif kind == "removed":
            self._said_removed.add(frame["chat_id"])
            self.chats.setdefault(frame["chat_id"], ChatCopy()).removed = True
        elif "position" in frame:
            await self._event(frame["chat_id"], frame)

    async def _event(self, chat_id: str, frame: Frame) -> None:
        chat, position = self.chats.setdefault(chat_id, ChatCopy()), frame["position"]
        joins = frame["type"] == "chat" or (
            frame["type"] == "member" and frame["change"] == "added" and frame["user_id"] == self._user_id
        )
        if chat_id in self._said_removed and not joins:
            self.faults.append(f"after the removal: {frame}")
        if position <= self._seen.get(chat_id, 0):
            self.faults.append(f"repeated in one connection: {frame}")
        self._seen[chat_id] = position
        if joins:
            self._said_removed.discard(chat_id)
            if position > chat.position:
                await self._fetch(chat_id, frame["token"])  # what happened before
            else:
                chat.removed = False
        if chat.removed or position <= chat.position:
            return
        if frame.get("prev") is not None and frame["prev"] > chat.position:
            self.faults.append(f"a hole before {frame}, after {chat.position}")
            return
        apply(chat, frame)
        chat.position = position


def apply(chat: ChatCopy, frame: Frame) -> None:
    """Apply the effect of an event."""
    kind = frame["type"]
    if kind == "message":
        chat.messages[frame["message"]["seq"]] = known_of(frame["message"])
    elif kind in ("edited", "deleted", "reaction"):
        message = chat.messages[frame["seq"]]
        if kind == "edited":
            message["text"] = frame["text"]
            message["revision"] += 1
        elif kind == "deleted":
            message |= {"text": None, "deleted": True}
        else:
            counts = message["reactions"]
            count = counts.get(frame["emoji"], 0) + (1 if frame["change"] == "added" else -1)
            counts[frame["emoji"]] = count
            if not count:
                del counts[frame["emoji"]]


def known_of(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a copy keeps of a message."""
    return {
        "text": message["text"],
        "deleted": message["deleted_at"] is not None,
        "revision": message["revision"],
        "reactions": {each["emoji"]: each["count"] for each in message["reactions"]},
    }


async def pieces(response: httpx.Response) -> AsyncIterator[bytes]:
    """Yield whole blocks of an event stream; what follows the last of them waits for its end."""
    rest = b""
    async for piece in response.aiter_bytes():
        whole, end, rest = (rest + piece).rpartition(b"\n\n")
        if end:
            yield whole + end
