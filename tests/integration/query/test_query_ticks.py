"""Delivery statuses over real tables, against an oracle that checks every member for every message."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from schemas.ids import ChatId, UserId
from tests.support.read_model import Api, World, read_model_database, somebody, world_of


class Step(NamedTuple):
    what: str
    a: int
    b: int


WHAT = ("send", "send", "send", "join", "join", "leave", "read", "read", "delivered")
steps = st.lists(st.builds(Step, st.sampled_from(WHAT), st.integers(0, 99), st.integers(0, 99)), max_size=30)


@dataclass(slots=True)
class Member:
    joined: int
    read: int
    delivered: int


@dataclass(slots=True)
class Oracle:
    """The state of a chat by its history alone."""

    chat: ChatId
    users: tuple[UserId, ...]
    senders: list[UserId] = field(default_factory=list)
    present: dict[UserId, Member] = field(default_factory=dict)

    def status(self, seq: int) -> str:
        sender = self.senders[seq - 1]
        asked = [m for user, m in self.present.items() if user != sender and m.joined < seq]
        if asked and all(m.read >= seq for m in asked):
            return "read"
        if asked and all(max(m.read, m.delivered) >= seq for m in asked):
            return "delivered"
        return "sent"

    def take(self, step: Step, world: World) -> None:
        """Apply a step to the tables and to the oracle; skip a step that is not possible."""
        last = len(self.senders)
        user = sorted(self.present)[step.a % len(self.present)]
        absent = [user for user in self.users if user not in self.present]
        match step.what:
            case "send":
                self.senders.append(user)
                world.send(self.chat, user)
            case "join" if absent:
                joins = absent[step.b % len(absent)]
                self.present[joins] = Member(last, last, last)
                world.join(self.chat, joins)
            case "leave" if len(self.present) > 1:
                del self.present[user]
                world.leave(self.chat, user)
            case "read" if self.present[user].read < last:
                member = self.present[user]
                member.read += 1 + step.b % (last - member.read)
                world.mark(self.chat, user, read=member.read)
            case "delivered" if self.present[user].delivered < last:
                member = self.present[user]
                member.delivered += 1 + step.b % (last - member.delivered)
                world.mark(self.chat, user, delivered=member.delivered)


@pytest.fixture(scope="module")
def read_model(postgres: str) -> Iterator[str]:
    with read_model_database(postgres) as dsn:
        yield dsn


def test_every_delivery_status_is_that_of_the_members_who_were_there_before_the_message(read_model: str) -> None:
    users = tuple(somebody() for _ in range(4))

    async def told(api: Api, chat: ChatId, reader: UserId) -> tuple[list[str], list[str], str | None, str | None]:
        page = (await api.json(f"/v1/chats/{chat}/messages", reader, limit=200))["messages"]
        single = [(await api.json(f"/v1/chats/{chat}/messages/{m['seq']}", reader))["status"] for m in page[-3:]]
        last = (await api.json(f"/v1/chats/{chat}", reader))["last_message"]
        listed = {c["chat_id"]: c["last_message"] for c in (await api.json("/v1/chats", reader, limit=1))["items"]}
        return [m["status"] for m in page], single, _status(last), _status(listed[chat])

    with world_of(read_model) as world, asyncio.Runner() as runner:
        world.sql("SET synchronous_commit = off")
        api = Api(read_model)
        runner.run(api.__aenter__())

        @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
        @example(1, [Step("send", 0, 0), Step("join", 0, 0)])
        @given(st.integers(1, 4), steps)
        def check(founders: int, story: list[Step]) -> None:
            oracle = Oracle(world.chat(*users[:founders], created_at="now"), users)
            oracle.present = {user: Member(0, 0, 0) for user in users[:founders]}
            for step in story:
                oracle.take(step, world)
            expected = [oracle.status(seq) for seq in range(1, len(oracle.senders) + 1)]
            last = expected[-1] if expected else None
            reader = min(oracle.present)
            assert runner.run(told(api, oracle.chat, reader)) == (expected, expected[-3:], last, last)
            for user in oracle.present:  # so that the next chat is the newest of its readers
                world.leave(oracle.chat, user)

        try:
            check()
        finally:
            runner.run(api.__aexit__())


def _status(message: dict[str, str] | None) -> str | None:
    return message["status"] if message is not None else None
