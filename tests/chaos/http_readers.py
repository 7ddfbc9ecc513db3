"""HTTP readers: they follow chats page by page, and read all that is kept of messages, while the system is broken.

They record an answer in the form in which the checker derives it from the log (`shown`, `found`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Final

from tests.chaos.acknowledged import milliseconds
from tests.chaos.evidence import Json, message_digest
from tests.chaos.http_clients import Http
from tests.chaos.shown import EMOJIS

LIMITS: Final = (1, 5, 20, 50)
WORDS: Final = ("http", "edited", "over Kafka", "edited 2", "still here", "kafka reply", "nowhere")
"""Searches that find many messages, few, or none. The last word of each may go on."""


class HttpReader(Http):
    """Follows every chat page by page, reads older pages, and reads with the token of the latest answer.

    Half of its requests are about what came to messages later: threads, edits, reactions, receipts, and search.
    """

    async def run(self) -> None:
        cursors = dict.fromkeys(self.stage.chats, 0)
        while not self.stage.closing.is_set():
            if self.rng.random() < 0.5:
                await self._history(cursors)
            else:
                await self._of_messages()
            await asyncio.sleep(self.rng.uniform(0.0, 0.2))

    async def _history(self, cursors: dict[str, int]) -> None:
        chat, chance = self.rng.choice(self.stage.chats), self.rng.random()
        token = self._token(chat, 0.3)
        limit = self.rng.choice(LIMITS)
        if chance < 0.3:
            await self.latest(chat, token)
        elif chance < 0.4:
            await self.page(chat, None, limit, token)
        elif chance < 0.5:
            await self.page(chat, self.rng.randint(0, cursors[chat]), limit, token)
        else:
            answer = await self.page(chat, cursors[chat], limit, token)
            if answer is not None and answer.get("messages"):
                cursors[chat] = answer["messages"][-1][0]

    async def _of_messages(self) -> None:
        what = self.rng.choices(("threads", "replies", "edits", "reactions", "receipts", "search"), (3, 3, 3, 4, 3, 4))[
            0
        ]
        chat, seq = self._message(what)
        token, limit = self._token(chat, 0.5), self.rng.choice(LIMITS)
        match what:
            case "threads":
                await self.threads(chat, limit, token)
            case "replies":
                await self.replies(chat, seq, limit, token)
            case "edits":
                await self.edits(chat, seq, limit, token)
            case "reactions":
                await self.reactions(chat, seq, self.rng.choice((None, None, *EMOJIS)), limit, token)
            case "receipts":
                await self.receipts(chat, seq, limit, token)
            case _:
                await self._search(limit)

    def _message(self, what: str) -> tuple[str, int]:
        """Return a message that likely has what is asked for, or any, perhaps one that is missing."""
        changed = self.stage.changed[what]
        if changed and self.rng.random() < 0.7:
            return self.rng.choice(changed)
        chat = self.rng.choice(self.stage.chats)
        return chat, self.rng.randint(1, self.stage.last_seq.get(chat, 0) + 1)

    def _token(self, chat: str, chance: float) -> str | None:
        return self.stage.tokens.get(chat) if self.rng.random() < chance else None

    async def _search(self, limit: int) -> None:
        """Search for a message that was sent, by its key in quotes, or for common words, in one chat or in all."""
        rng = self.rng
        if self.stage.sent and rng.random() < 0.6:
            sent = rng.choice(self.stage.sent[-200:])
            chat, query = sent.chat, f'"{sent.key}"'
        else:
            chat, query = rng.choice(self.stage.chats), rng.choice(WORDS)
        token = self._token(chat, 0.8)
        await self.search(query, chat if rng.random() < 0.7 else None, limit, token)

    async def page(self, chat: str, after_seq: int | None, limit: int, token: str | None) -> Json | None:
        """Return a page of history in the checker's form, or None if there was no answer."""
        query: Json = {"limit": limit, **({"after_seq": after_seq} if after_seq is not None else {})}
        asked: Json = {"chat": chat, "after_seq": after_seq, "limit": limit}
        return await self._read("page", asked, f"/v1/chats/{chat}/messages", query, token, _page)

    async def latest(self, chat: str, token: str | None) -> Json | None:
        return await self._read(
            "latest", {"chat": chat}, f"/v1/chats/{chat}/latest-seq", {}, token, lambda body: {"seq": body["seq"]}
        )

    async def threads(self, chat: str, limit: int, token: str | None) -> None:
        await self._read(
            "threads", {"chat": chat, "limit": limit}, f"/v1/chats/{chat}/threads", {"limit": limit}, token, _messages
        )

    async def replies(self, chat: str, seq: int, limit: int, token: str | None) -> None:
        """Read a whole thread, page by page: no later event moves a reply, so a page begins after the one before."""
        after_seq = 0
        query: Json = {"limit": limit}
        while True:
            asked = {"chat": chat, "seq": seq, "limit": limit, "after_seq": after_seq}
            cursors: list[str] = []
            path = f"/v1/chats/{chat}/messages/{seq}/replies"
            answer = await self._read("replies", asked, path, query, token, _messages, cursors)
            if answer is None or not cursors:
                return
            after_seq, query = answer["items"][-1][0], {"limit": limit, "cursor": cursors[0]}

    async def edits(self, chat: str, seq: int, limit: int, token: str | None) -> None:
        asked = {"chat": chat, "seq": seq, "limit": limit}
        await self._read("edits", asked, f"/v1/chats/{chat}/messages/{seq}/edits", {"limit": limit}, token, _edits)

    async def reactions(self, chat: str, seq: int, emoji: str | None, limit: int, token: str | None) -> None:
        query: Json = {"limit": limit, **({"emoji": emoji} if emoji is not None else {})}
        asked = {"chat": chat, "seq": seq, "emoji": emoji, "limit": limit}
        await self._read("reactions", asked, f"/v1/chats/{chat}/messages/{seq}/reactions", query, token, _reactions)

    async def receipts(self, chat: str, seq: int, limit: int, token: str | None) -> None:
        asked, query = {"chat": chat, "seq": seq, "limit": limit}, {"limit": limit}
        await self._read("receipts", asked, f"/v1/chats/{chat}/messages/{seq}/receipts", query, token, _receipts)

    async def search(self, words: str, chat: str | None, limit: int, token: str | None) -> None:
        """Search, page by page, while pages are full: then the next begins after the last item."""
        query: Json = {"q": words, "limit": limit, **({"chat_id": chat} if chat is not None else {})}
        after: list[Any] | None = None
        for _ in range(3):
            asked = {"q": words, "chat": chat, "limit": limit, "after": after}
            cursors: list[str] = []
            answer = await self._read("search", asked, "/v1/search", query, token, _found, cursors)
            if answer is None or not cursors or len(answer["items"]) < limit:
                return
            chat_id, seq, _, _, sent_ms, *_ = answer["items"][-1]
            after, query = [sent_ms, chat_id, seq], {**query, "cursor": cursors[0]}

    async def _read(
        self,
        kind: str,
        asked: Json,
        path: str,
        query: Json,
        token: str | None,
        shown: Callable[[Json], Json],
        cursors: list[str] | None = None,
    ) -> Json | None:
        """Read and record, and return the answer in the checker's form, or None if there was none. The cursor of the
        next page, if there is one, is appended to `cursors`.
        """
        asked = {**asked, "caller": self.stage.creator, **({"token": token} if token is not None else {})}
        op = self.stage.recorder.ask(self.client, kind, **asked)
        headers = {"Gapless-At-Least": token} if token is not None else {}
        response = await self.request("GET", path, headers, params=query)
        if response is None:
            return None
        answer: Json = {"http": response.status_code}
        if response.status_code == 200:
            body = response.json()
            answer |= shown(body)
            if cursors is not None and body["next"] is not None:
                cursors.append(body["next"])
        elif response.status_code in (403, 404):
            answer["problem"] = response.json()["type"].rsplit("/", 1)[-1]
        self.stage.recorder.answer(op, answer)
        return answer


def _page(body: Json) -> Json:
    messages = [_message(m) for m in body["messages"]]
    return {"messages": messages, "more": body["has_more_after"], **_standing(body)}


def _messages(body: Json) -> Json:
    return {"items": [_message(m) for m in body["items"]], "more": body["next"] is not None, **_standing(body)}


def _standing(body: Json) -> Json:
    return {"position": body["position"], "last_seq": body["last_seq"]}


def _message(message: Json) -> list[Any]:
    """Return [seq, digest of what its send determines, what came later], as `shown.message` does."""
    digest = message_digest(
        message_id=message["message_id"], sender=message["sender_id"], key=message["client_generated_id"],
        text=message["text"], sent_at_ms=milliseconds(message["sent_at"]),
        reply_to=message["reply_to_message_id"], position=message["position"],
    )  # fmt: skip
    later = {
        "changed_position": (message["changed_position"], message["position"]),
        "revision": (message["revision"], 0),
        "edited_at": (_milliseconds(message["edited_at"]), None),
        "deleted_at": (_milliseconds(message["deleted_at"]), None),
        "media_urls": (message["media_urls"], []),
        "metadata": (message["metadata"], None),
        "status": (message["status"], "sent"),
        "reactions": ([[r["emoji"], r["count"], r["mine"]] for r in message["reactions"]], []),
        "reply_count": (message["reply_count"], 0),
        "last_reply_seq": (message["last_reply_seq"], None),
    }
    return [message["seq"], digest, {name: value for name, (value, usual) in later.items() if value != usual}]


def _milliseconds(text: str | None) -> int | None:
    return None if text is None else milliseconds(text)


def _edits(body: Json) -> Json:
    items = [[item["revision"], item["text"], milliseconds(item["written_at"])] for item in body["items"]]
    return {"items": items, "more": body["next"] is not None}


def _reactions(body: Json) -> Json:
    items = [[item["emoji"], item["user_id"]] for item in body["items"]]
    return {"items": items, "more": body["next"] is not None}


def _receipts(body: Json) -> Json:
    counts = [body["recipient_count"], body["delivered_count"], body["read_count"]]
    items = [[item["user_id"], item["status"]] for item in body["items"]]
    return {"counts": counts, "items": items, "more": body["next"] is not None}


def _found(body: Json) -> Json:
    items = [
        [
            item["chat_id"], item["seq"], item["message_id"], item["sender_id"], milliseconds(item["sent_at"]),
            item["snippet"], item["snippet_start"], [[match["start"], match["end"]] for match in item["matches"]],
        ]
        for item in body["items"]
    ]  # fmt: skip
    return {"items": items, "more": body["next"] is not None}
