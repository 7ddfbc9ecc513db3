"""HTTP clients that send: producers that retry with the same key, a user who joins and leaves, a founder of groups."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final
from urllib.parse import quote, urlsplit
from uuid import UUID, uuid5

import httpx

from tests.chaos.acknowledged import REJECTIONS
from tests.chaos.evidence import Json
from tests.chaos.shown import EMOJIS
from tests.chaos.stage import SEND, Sent, Stage
from tests.oracle.records import command_id_of

REQUEST_TIMEOUT_S: Final = 8.0
ANSWER_DEADLINE_S: Final = 180.0
"""Deadline of one command with all its attempts, several times the longest outage of the nemesis."""
PROMISES: Final = frozenset({200, 201})
SETTLED: Final = PROMISES | REJECTIONS


class Http:
    """Requests of one client, each recorded with its answer."""

    def __init__(self, stage: Stage, client: str, http: httpx.AsyncClient, token: str) -> None:
        """`token` has the scope `producer`, so it may send for every user."""
        self.stage = stage
        self.client = client
        self.rng = stage.rng(client)
        self._http = http
        self._authorization = {"Authorization": f"Bearer {token}"}

    async def command(
        self,
        command_type: str,
        chat: str,
        sender: str,
        key: str | None,
        body: Json,
        method: str,
        path: str,
        sends: Json | None,
        more_headers: Mapping[str, str] = MappingProxyType({}),
    ) -> Json | None:
        """Send until an attempt is answered with an outcome, and return that answer, or None after the deadline."""
        deadline = time.monotonic() + ANSWER_DEADLINE_S
        headers = {"Gapless-Sender": sender, **({"Idempotency-Key": key} if key is not None else {}), **more_headers}
        asked = {"via": "http", "type": command_type, "chat": chat, "sender": sender, "key": key, "body": body}
        while time.monotonic() < deadline:
            answer = await self._attempt(asked, method, path, headers, sends)
            if answer is not None and answer["http"] in SETTLED:
                return answer
            if answer is not None and answer["http"] == 202 and key is not None and self.rng.random() < 0.5:
                await self._ask_status(chat, answer["location"])
            await asyncio.sleep(self.rng.uniform(0.05, 0.5))
        self.stage.unanswered.append(f"{self.client}: {asked}")
        return None

    async def send(self, chat: str, sender: str, key: str, body: Json) -> Json | None:
        answer = await self.command(SEND, chat, sender, key, body, "POST", f"/v1/chats/{chat}/messages", body)
        if answer is not None and answer["http"] in PROMISES:
            self.stage.told(chat, answer["body"]["seq"], answer["body"]["token"])
        return answer

    async def _attempt(
        self, asked: Json, method: str, path: str, headers: dict[str, str], sends: Json | None
    ) -> Json | None:
        recorder = self.stage.recorder
        op = recorder.ask(self.client, "command", **{k: v for k, v in asked.items() if v is not None})
        response = await self.request(method, path, headers, json=sends)
        if response is None:
            return None
        answer: Json = {"http": response.status_code, "body": _json(response)}
        if "gapless-token" in response.headers:
            answer["token"] = response.headers["gapless-token"]
        recorder.answer(op, answer)
        if response.status_code == 202 and asked.get("key") is not None:
            partition, offset = answer["body"]["at"].split(":")
            recorder.appended(op, int(partition), int(offset))
        return {**answer, "location": response.headers.get("location", "")}

    async def _ask_status(self, chat: str, location: str) -> None:
        """Request the status of a command that was answered with 202, before it is sent again."""
        await asyncio.sleep(self.rng.uniform(0.1, 1.0))
        parts = urlsplit(location)
        command_id, at = parts.path.rsplit("/", 1)[-1], parts.query.removeprefix("at=")
        op = self.stage.recorder.ask(self.client, "status", chat=chat, command_id=command_id, at=at)
        response = await self.request("GET", location, {})
        if response is not None:
            self.stage.recorder.answer(op, {"http": response.status_code, "body": _json(response)})

    async def request(self, method: str, path: str, headers: dict[str, str], **others: Any) -> httpx.Response | None:
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT_S):
                return await self._http.request(method, path, headers=self._authorization | headers, **others)
        except (httpx.TransportError, TimeoutError):
            return None


class HttpProducer(Http):
    """Sends one command after another: mostly messages, sometimes what a confused or malicious client would send."""

    async def run(self) -> None:
        while not self.stage.closing.is_set():
            await self._one()
            await asyncio.sleep(self.rng.uniform(0.0, 0.1))

    async def _one(self) -> None:
        stage, rng = self.stage, self.rng
        chat, sender, chance = rng.choice(stage.chats), rng.choice(stage.users), rng.random()
        old = rng.choice(stage.sent) if stage.sent else None
        if chance < 0.72 or old is None:
            await self._fresh(chat, sender, copies=2 if chance < 0.1 else 1)
        elif chance < 0.82:
            await self.send(old.chat, old.sender, old.key, old.body)
        elif chance < 0.86:
            await self.send(old.chat, old.sender, old.key, {**old.body, "text": "something else"})
        elif chance < 0.92:
            await self._mark(chat, sender, "read" if chance < 0.89 else "delivered")
        elif chance < 0.94:
            await self._react(chat, sender)
        elif chance < 0.96:
            await self._edit(old)
        elif chance < 0.97:
            await self._delete(chat, sender)
        elif chance < 0.98:
            await self.send(chat, stage.stranger, stage.fresh_key(self.client), {"text": "let me in"})
        else:
            await self.send(chat, sender, stage.fresh_key(self.client), {"text": "x" * 16_385})

    async def _fresh(self, chat: str, sender: str, *, copies: int) -> None:
        """Send a new message, perhaps twice at once, like an impatient client."""
        key = self.stage.fresh_key(self.client)
        body = self._body(chat, key)
        answers = await asyncio.gather(*(self.send(chat, sender, key, body) for _ in range(copies)))
        told = [answer["body"]["seq"] for answer in answers if answer is not None and answer["http"] in PROMISES]
        if told:
            self.stage.sent.append(Sent(chat=chat, sender=sender, key=key, body=body, seq=told[0]))

    def _body(self, chat: str, key: str) -> Json:
        """Return a body with its keys in canonical order, as ingest writes it."""
        body: Json = {"text": f"{key} " + "ä" * self.rng.choice((0, 3, 30, 300))}
        if self.rng.random() < 0.15:
            earlier = [s for s in self.stage.sent[-50:] if s.chat == chat]
            if earlier:
                parent = self.rng.choice(earlier)
                body["reply_to_message_id"] = self._message_id(parent)
                if parent.seq is not None:
                    self.stage.changed["replies"].append((chat, parent.seq))
        if self.rng.random() < 0.1:
            body["media_urls"] = ["https://example.org/a.png"]
            body["metadata"] = {"a": [1, 2.5, None], "b": {"c": "ü"}}
            if self.rng.random() < 0.3:
                body["text"] = ""
        return body

    def _message_id(self, sent: Sent) -> str:
        found = command_id_of(sent.chat, sent.sender, sent.key)
        assert found is not None
        return found

    async def _edit(self, sent: Sent) -> None:
        """Edit a message of the sender's, or any, perhaps only at a revision that it may have."""
        rng, chat = self.rng, sent.chat
        seq = sent.seq if sent.seq is not None and rng.random() < 0.8 else self._any_seq(chat)
        key, path = self.stage.fresh_key(self.client), f"/v1/chats/{chat}/messages/{seq}"
        sends: Json = {"text": f"edited {rng.randint(0, 3)}"}
        if rng.random() < 0.3:
            sends["media_urls"] = rng.choice(([], ["https://example.org/b.png"]))
        headers, body = {}, {"seq": seq, **sends}
        if rng.random() < 0.3:
            body["if_revision"] = rng.randint(0, 2)
            headers["If-Match"] = f'"{body["if_revision"]}"'
        answer = await self.command("message.edit.v1", chat, sent.sender, key, body, "PATCH", path, sends, headers)
        self._changed("edits", chat, seq, answer)

    async def _react(self, chat: str, sender: str) -> None:
        """Add or remove one of few reactions to one of the latest messages, which others react to as well."""
        rng, last = self.rng, self.stage.last_seq.get(chat, 0)
        seq, emoji = max(1, last - rng.randint(0, 3)), rng.choice(EMOJIS)
        verb, method = rng.choice((("add", "PUT"), ("add", "PUT"), ("remove", "DELETE")))
        path, key = f"/v1/chats/{chat}/messages/{seq}/reactions/{quote(emoji)}", self.stage.fresh_key(self.client)
        body = {"seq": seq, "emoji": emoji}
        answer = await self.command(f"reaction.{verb}.v1", chat, sender, key, body, method, path, None)
        self._changed("reactions", chat, seq, answer)

    async def _delete(self, chat: str, sender: str) -> None:
        """Delete any message, its own or not, perhaps an edited one, or one that does not exist yet."""
        seq = self._any_seq(chat)
        if self.stage.changed["edits"] and self.rng.random() < 0.3:
            chat, seq = self.rng.choice(self.stage.changed["edits"])
        key, path = self.stage.fresh_key(self.client), f"/v1/chats/{chat}/messages/{seq}"
        answer = await self.command("message.delete.v1", chat, sender, key, {"seq": seq}, "DELETE", path, None)
        if answer is not None and answer["http"] in PROMISES:
            self.stage.told(chat, 0, answer["body"]["token"])

    def _any_seq(self, chat: str) -> int:
        return self.rng.randint(1, self.stage.last_seq.get(chat, 0) + 1)

    def _changed(self, what: str, chat: str, seq: int, answer: Json | None) -> None:
        if answer is not None and answer["http"] in PROMISES:
            self.stage.told(chat, 0, answer["body"]["token"])
            self.stage.changed[what].append((chat, seq))

    async def _mark(self, chat: str, sender: str, which: str) -> None:
        body = {"up_to_seq": self.rng.randint(0, self.stage.last_seq.get(chat, 0))}
        path = f"/v1/chats/{chat}/{which}"
        answer = await self.command(f"{which}.mark.v1", chat, sender, None, body, "POST", path, body)
        if answer is not None and answer["http"] in PROMISES and body["up_to_seq"] > 0:
            self.stage.told(chat, 0, answer["token"])
            self.stage.changed["receipts"].append((chat, body["up_to_seq"]))


class ComerAndGoer(Http):
    """Adds one user to chats and removes it again, while that user keeps sending."""

    async def run(self) -> None:
        await asyncio.gather(self._membership(), self._sending())

    async def _membership(self) -> None:
        stage = self.stage
        while not stage.closing.is_set():
            chat = self.rng.choice(stage.chats)
            path, key = f"/v1/chats/{chat}/members/{stage.comer}", stage.fresh_key(self.client)
            if self.rng.random() < 0.5:
                body = {"user_id": stage.comer, "role": "member"}
                await self.command("member.add.v1", chat, stage.creator, key, body, "PUT", path, {"role": "member"})
            else:
                who = self.rng.choice([stage.creator, stage.comer])
                body = {"user_id": stage.comer}
                await self.command("member.remove.v1", chat, who, key, body, "DELETE", path, None)
            await asyncio.sleep(self.rng.uniform(0.0, 0.4))

    async def _sending(self) -> None:
        stage = self.stage
        while not stage.closing.is_set():
            await self.send(self.rng.choice(stage.chats), stage.comer, stage.fresh_key(self.client), {"text": "me?"})
            await asyncio.sleep(self.rng.uniform(0.0, 0.4))


class Founder(Http):
    """Creates groups with one name by its keys; all members leave each, and its creator joins again."""

    async def run(self) -> None:
        stage, rng = self.stage, self.rng
        while not stage.closing.is_set():
            founder, other = rng.sample(stage.users, 2)
            key = stage.fresh_key(self.client)
            chat = str(uuid5(UUID(founder), f"key/{key}"))
            body: Json = {"kind": "group", "name": "one name", "members": [other]}
            sends = {**body, "unique_name": False}
            await self.command("chat.create.v1", chat, founder, key, body, "POST", "/v1/chats", sends)
            await self._say(chat, other)
            for who in (other, founder):
                path, user = f"/v1/chats/{chat}/members/{who}", {"user_id": who}
                key = stage.fresh_key(self.client)
                await self.command("member.remove.v1", chat, who, key, user, "DELETE", path, None)
            for who, role in ((other, "owner"), (founder, "member"), (founder, "owner")):
                path, body = f"/v1/chats/{chat}/members/{who}", {"user_id": who, "role": role}
                key = stage.fresh_key(self.client)
                await self.command("member.add.v1", chat, who, key, body, "PUT", path, {"role": role})
                await self._say(chat, who)
            await self._hand_over(chat, founder, other)
            await self._rename(chat, founder, other)
            await asyncio.sleep(rng.uniform(0.0, 1.0))

    async def _hand_over(self, chat: str, founder: str, other: str) -> None:
        """Change the owner. The last owner cannot leave the role before there is another, who may then demote the
        first.
        """
        path, body = f"/v1/chats/{chat}/members/{other}", {"user_id": other, "role": "admin"}
        key = self.stage.fresh_key(self.client)
        await self.command("member.add.v1", chat, founder, key, body, "PUT", path, {"role": "admin"})
        for sender, who, role in (
            (other, other, "owner"),
            (founder, founder, "member"),
            (founder, other, "owner"),
            (founder, other, "owner"),
            (other, founder, self.rng.choice(("admin", "member"))),
        ):
            path, body = f"/v1/chats/{chat}/members/{who}", {"user_id": who, "role": role}
            key = self.stage.fresh_key(self.client)
            await self.command("member.role.v1", chat, sender, key, body, "PATCH", path, {"role": role})

    async def _rename(self, chat: str, *senders: str) -> None:
        """Rename the group by turns, with and without the right, sometimes to the name that it has."""
        for _ in range(3):
            sender, body = self.rng.choice(senders), {"name": self.rng.choice(("one name", "another", "Ünïcode 名前"))}
            key = self.stage.fresh_key(self.client)
            await self.command("chat.rename.v1", chat, sender, key, body, "PATCH", f"/v1/chats/{chat}", body)

    async def _say(self, chat: str, sender: str) -> None:
        await self.send(chat, sender, self.stage.fresh_key(self.client), {"text": "still here"})


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        return {}
