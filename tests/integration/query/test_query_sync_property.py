"""A client that only ever syncs has what the read model has: from any cursor, whatever happens between its requests."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any, Final, cast
from unittest import mock

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.ids import UserId, direct_chat_id, partition_of
from services.query.api.paths import sync
from tests.support.chat_log import ChatLog
from tests.support.examples import examples
from tests.support.projection import USERS, Action, History, actions, empty, write_records
from tests.support.read_model import PARTITIONS, Api, read_model_database, run

Json = dict[str, Any]
IN_USE: Final = (2, 5)
"""The partitions that have chats."""


@pytest.fixture(scope="module")
def dsn(postgres: str) -> Iterator[str]:
    with read_model_database(postgres) as dsn:
        yield dsn


class _History(History):
    """A history whose chats are all in the partition of their log."""

    def _create(self, step: Action) -> None:
        direct = direct_chat_id(USERS[step.b % len(USERS)], USERS[step.c % len(USERS)])
        if step.a % 4 == 0 and partition_of(direct, PARTITIONS) != self.log.partition:
            step = step._replace(a=step.a + 1)
        super()._create(step)


class _Writer:
    """Writes a history piece by piece into the read model."""

    def __init__(self, dsn: str, steps: Sequence[Action]) -> None:
        self._dsn = dsn
        self._histories = [_History(ChatLog(partition=n, partitions=PARTITIONS)) for n in IN_USE]
        # Several chats of everybody from the start, so that a sync has pages.
        creations = [Action("create", 1, n, 31) for n in range(3 * len(IN_USE))]
        self._steps = [*creations, *steps]
        self._written = [0] * len(IN_USE)

    async def write(self, count: int) -> None:
        """Write the next steps, alternately into each partition, or what is left of them."""
        for _ in range(min(count, len(self._steps))):
            step = self._steps.pop(0)
            self._histories[len(self._steps) % len(IN_USE)].run([step])
        async with await psycopg.AsyncConnection.connect(self._dsn, autocommit=True) as connection:
            for n, history in enumerate(self._histories):
                new = history.log.events[self._written[n] :]
                if new:
                    await write_records(connection, 1, new, partition=history.log.partition)
                self._written[n] = len(history.log.events)

    async def write_rest(self) -> None:
        await self.write(len(self._steps))


@dataclass(slots=True)
class _Chat:
    head: Json
    position: int = 0
    messages: dict[int, Json] = field(default_factory=dict)
    members: dict[str, Json] = field(default_factory=dict)
    cursors: dict[str, Json] = field(default_factory=dict)

    def take(self, changes: Json) -> None:
        """Replace what changed."""
        self.messages |= {message["seq"]: message for message in changes["messages"]}
        self.cursors |= {cursor["user_id"]: cursor for cursor in changes["cursors"]}
        for member in changes["members"]:
            self.members[member["user_id"]] = member
            if member["left_at"] is not None:
                self.cursors.pop(member["user_id"], None)
        self.position = changes["next_position"]
        if changes["chat"] is not None:
            self.head = changes["chat"]


@dataclass(slots=True)
class _Client:
    """What a client stores: a cursor and its chats. It never asks for a whole list."""

    since: str | None = None
    chats: dict[str, _Chat] = field(default_factory=dict)


class _Run:
    """One example: clients of one user, and a writer that is at work between any two requests."""

    def __init__(self, api: Api, writer: _Writer, user: UserId, numbers: Sequence[int]) -> None:
        self.api = api
        self.writer = writer
        self.user = user
        self._numbers = cycle(numbers)

    def number(self, below: int) -> int:
        return next(self._numbers) % below

    async def between(self) -> None:
        """Let something happen, or nothing."""
        if count := self.number(4):
            await self.writer.write(count)

    async def sync(self, client: _Client) -> None:
        """Bring a client up to date, as of the first page: what happens meanwhile may be missing."""
        limit, more = 1 + self.number(3), True
        while more:
            page = await self._page(client, limit)
            assert len(page["chats"]) <= limit
            for head in page["chats"]:
                known = client.chats.get(head["chat_id"])
                client.chats[head["chat_id"]] = _Chat(head) if known is None else known
                client.chats[head["chat_id"]].head = head
            for chat_id in page["removed"]:
                client.chats.pop(chat_id, None)
            for chat_id, changes in page.get("changes", {}).items():
                if chat_id in client.chats:
                    client.chats[chat_id].take(changes)
            client.since, more = page["next"], page["has_more"]
            await self.between()
        for chat_id in list(client.chats):
            await self._fill(client, chat_id)

    async def _page(self, client: _Client, limit: int) -> Json:
        if self.number(2):
            page: Json = await self.api.json("/v1/sync", self.user, since=client.since, limit=limit)
            return page
        body: Json = {"chats": {chat_id: chat.position for chat_id, chat in client.chats.items()}, "limit": limit}
        if client.since is not None:
            body["since"] = client.since
        answer = await self.api.post("/v1/sync", self.user, body)
        assert answer.status_code == 200, answer.text
        return cast("Json", answer.json())

    async def _fill(self, client: _Client, chat_id: str) -> None:
        """Read a chat's changes up to the head that the client was shown."""
        chat = client.chats[chat_id]
        limit = 1 + self.number(3)
        while chat.position < chat.head["position"]:
            answer = await self.api.get(
                f"/v1/chats/{chat_id}/changes", self.user, after_position=chat.position, limit=limit
            )
            if answer.status_code == 403:  # left meanwhile: the next sync says so
                return
            assert answer.status_code == 200, answer.text
            page = answer.json()
            assert page["next_position"] > chat.position
            assert len(page["messages"]) <= limit + 1
            assert page["has_more"] is (page["next_position"] < page["position"])
            chat.take(page)
            await self.between()

    async def check(self, client: _Client) -> None:
        """Compare the client with what the other paths show."""
        listed = (await self.api.json("/v1/chats", self.user, limit=200))["items"]
        assert client.chats.keys() == {chat["chat_id"] for chat in listed}
        for shown in listed:
            chat = client.chats[shown["chat_id"]]
            assert chat.head == {
                "position": shown["last_position"],
                "my_role": shown["role"],
                **{name: shown[name] for name in chat.head if name in shown},
            }
            path = f"/v1/chats/{shown['chat_id']}"
            assert chat.position == shown["last_position"]
            messages = (await self.api.json(f"{path}/messages", self.user, limit=200))["messages"]
            # A message's status follows from the cursors: it changes without the message.
            assert [_apart(chat.messages[seq], "status") for seq in sorted(chat.messages)] == [
                _apart(message, "status") for message in messages
            ]
            members = (await self.api.json(f"{path}/members", self.user, limit=200))["items"]
            present = [chat.members[user] for user in sorted(chat.members) if chat.members[user]["left_at"] is None]
            assert [_apart(member, "left_at") for member in present] == members
            cursors = (await self.api.json(f"{path}/read-state", self.user, limit=200))["items"]
            assert [chat.cursors[user] for user in sorted(chat.cursors)] == cursors


def _apart(row: Json, name: str) -> Json:
    return {key: value for key, value in row.items() if key != name}


@pytest.mark.proof
@mock.patch.object(sync, "MESSAGES_OF_A_CHAT", 2)
@mock.patch.object(sync, "MEMBERS_OF_A_CHAT", 2)
@settings(examples(80), suppress_health_check=[HealthCheck.too_slow])
@given(actions, st.sampled_from(USERS), st.lists(st.integers(0, 11), min_size=5, max_size=30))
def test_a_client_that_syncs_from_any_cursor_at_any_moment_has_what_the_read_model_has(
    dsn: str, steps: list[Action], user: UserId, numbers: list[int]
) -> None:
    async def story(api: Api) -> None:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            await empty(connection, 1)
        writer = _Writer(dsn, steps)
        await writer.write(10)
        running = _Run(api, writer, user, numbers)
        kept = [_Client()]
        for _ in range(3):
            client = copy.deepcopy(kept[running.number(len(kept))])
            await running.sync(client)
            kept.append(client)
        await writer.write_rest()
        for client in kept:
            await running.sync(client)
            await running.check(client)
            page = await api.json("/v1/sync", user, since=client.since)
            assert (page["chats"], page["removed"], page["next"]) == ([], [], client.since)

    run(dsn, story)
