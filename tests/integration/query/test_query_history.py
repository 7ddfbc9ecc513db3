"""History over a real read model: every bound, both flags, ticks, and permissions."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from schemas.ids import ChatId, UserId
from services.query.api.message_json import MESSAGE_COLUMNS
from services.query.api.paths.chats import CHAT_COLUMNS
from services.query.api.paths.messages import History, Message
from services.query.snapshot.pipeline import Pipelines, Row
from services.runtime.postgres.sql import load_sql
from tests.support.read_model import Api, World, read_model_database, run, somebody, world_of

LIMITS = (1, 2, 3, 7)
BEYOND = 9223372036854775807


@pytest.fixture(scope="module")
def read_model(postgres: str) -> Iterator[str]:
    with read_model_database(postgres) as dsn:
        yield dsn


@pytest.fixture
def world(read_model: str) -> Iterator[World]:
    with world_of(read_model) as world:
        yield world


def expected(seqs: list[int], bound: str | None, at: int, limit: int) -> tuple[list[int], bool, bool]:
    """Return the page by its definition, from the whole chat (around has a separate test)."""
    if bound == "before_seq":
        lower = [s for s in seqs if s < at]
        return lower[-limit:], len(lower) > limit, any(s >= at for s in seqs)
    if bound == "after_seq":
        higher = [s for s in seqs if s > at]
        return higher[:limit], any(s <= at for s in seqs), len(higher) > limit
    return seqs[-limit:], len(seqs) > limit, False


@pytest.mark.parametrize("size", [0, 1, 2, 6])
def test_every_page_of_a_small_chat_is_right(read_model: str, world: World, size: int) -> None:
    anna, ben, carl = somebody(), somebody(), somebody()
    chat = world.chat(anna, ben, carl)
    sender_of = {world.send(chat, (anna, ben)[i % 3 == 1]): (anna, ben)[i % 3 == 1] for i in range(size)}

    async def story(api: Api) -> int:
        asked = 0
        for sender in (None, anna, ben, carl):
            seqs = [seq for seq, by in sender_of.items() if sender in (None, by)]
            for limit in LIMITS:
                bounds: list[tuple[str | None, int]] = [(None, 0)]
                bounds += [(b, at) for b in ("before_seq", "after_seq") for at in (*range(size + 3), BEYOND)]
                for bound, at in bounds:
                    query: dict[str, Any] = {} if bound is None else {bound: at}
                    page = await history(api, chat, anna, limit=limit, sender_id=sender, **query)
                    assert page == expected(seqs, bound, at, limit), (sender, bound, at, limit)
                    asked += 1
                for at in (*range(size + 3), BEYOND):
                    found, before, after = await history(api, chat, anna, limit=limit, sender_id=sender, around_seq=at)
                    assert_around(seqs, at, limit, found, before=before, after=after)
                    asked += 1
        return asked

    assert run(read_model, story) == 4 * len(LIMITS) * (1 + 3 * (size + 4))


def assert_around(seqs: list[int], at: int, limit: int, found: list[int], *, before: bool, after: bool) -> None:
    assert len(found) == min(limit, len(seqs))
    if not seqs:
        assert (before, after) == (False, False)
        return
    first = seqs.index(found[0])
    assert found == seqs[first : first + limit], "one run of the chat"
    assert (before, after) == (first > 0, first + limit < len(seqs))
    assert at in found or at not in seqs


async def history(api: Api, chat: ChatId, user: UserId, **query: Any) -> tuple[list[int], bool, bool]:
    page = await api.json(f"/v1/chats/{chat}/messages", user, **query)
    return [m["seq"] for m in page["messages"]], page["has_more_before"], page["has_more_after"]


def test_around_has_its_message_in_the_middle(read_model: str, world: World) -> None:
    anna = somebody()
    chat = world.chat(anna)
    for _ in range(20):
        world.send(chat, anna)

    async def story(api: Api) -> None:
        assert await history(api, chat, anna, around_seq=10, limit=5) == ([8, 9, 10, 11, 12], True, True)
        assert await history(api, chat, anna, around_seq=2, limit=5) == ([1, 2, 3, 4, 5], False, True)
        assert await history(api, chat, anna, around_seq=20, limit=5) == ([16, 17, 18, 19, 20], True, False)
        assert await history(api, chat, anna, around_seq=500, limit=5) == ([16, 17, 18, 19, 20], True, False)

    run(read_model, story)


def test_a_page_is_fifty_messages_if_nothing_is_said(read_model: str, world: World) -> None:
    anna = somebody()
    chat = world.chat(anna)
    for _ in range(53):
        world.send(chat, anna)

    async def story(api: Api) -> None:
        assert await history(api, chat, anna) == (list(range(4, 54)), True, False)

    run(read_model, story)


def test_a_message_comes_back_with_everything_it_was_sent_with(read_model: str, world: World) -> None:
    anna, ben = somebody(), somebody()
    chat = world.chat(anna, ben)
    world.send(chat, anna, "first")
    first = world.sql("SELECT message_id::text FROM chat_messages WHERE chat_id = %(chat)s", chat=chat)[0][0]
    text = 'line\n"quoted" \\ \u2028 \U0001f600 end'
    metadata = {"n": [1, 2.5, None], "deep": {"ü": "\x01"}}
    urls = ["https://a.example/?q=1,2&{x}", 'http://b.example/"']
    world.send(
        chat,
        ben,
        text,
        client_generated_id='key"\\1',
        reply_to_message_id=first,
        root_seq=1,
        media_urls=urls,
        metadata=metadata,
        sent_at="2026-03-04T05:06:07.089Z",
        edited_at="2026-03-04T06:06:07+01:00",
        changed_position=9,
    )

    async def story(api: Api) -> None:
        page = await api.json(f"/v1/chats/{chat}/messages", anna)
        History.model_validate(page)
        message = page["messages"][1]
        assert message["text"] == text
        assert message["client_generated_id"] == 'key"\\1'
        assert message["metadata"] == metadata
        assert message["media_urls"] == urls
        assert (message["chat_id"], message["sender_id"], message["seq"]) == (chat, ben, 2)
        assert (message["reply_to_message_id"], message["reply_count"]) == (first, 0)
        assert (message["position"], message["changed_position"]) == (3, 9)
        assert message["sent_at"] == "2026-03-04T05:06:07.089Z"
        assert message["edited_at"] == "2026-03-04T05:06:07.000Z"
        assert message["deleted_at"] is None
        assert message["reactions"] == []
        assert await api.json(f"/v1/chats/{chat}/messages/2", anna) == message

    run(read_model, story)


def test_a_deleted_message_keeps_its_place_and_nothing_else(read_model: str, world: World) -> None:
    anna = somebody()
    chat = world.chat(anna)
    world.send(chat, anna, "secret", media_urls=["https://a.example"], metadata={"a": 1}, deleted_at="now")

    async def story(api: Api) -> None:
        message = await api.json(f"/v1/chats/{chat}/messages/1", anna)
        assert (message["text"], message["media_urls"], message["metadata"]) == (None, [], None)
        assert message["seq"] == 1
        assert message["deleted_at"] is not None
        Message.model_validate(message)

    run(read_model, story)


def test_delivery_status_follow_the_slowest_other_present_member(read_model: str, world: World) -> None:
    anna, ben, carl, dora = (somebody() for _ in range(4))
    chat = world.chat(anna, ben, carl, dora)
    for _ in range(4):
        world.send(chat, anna)
    world.send(chat, ben)

    async def story(api: Api) -> None:
        async def statuses(reader: UserId) -> list[str]:
            page = await api.json(f"/v1/chats/{chat}/messages", reader)
            single = [(await api.json(f"/v1/chats/{chat}/messages/{n}", reader))["status"] for n in range(1, 6)]
            statuses = [m["status"] for m in page["messages"]]
            assert single == statuses
            return statuses

        assert await statuses(anna) == ["sent"] * 5
        world.mark(chat, ben, read=4)
        world.mark(chat, carl, read=2, delivered=3)
        assert await statuses(anna) == ["sent"] * 5, "dora has nothing yet"
        world.leave(chat, dora)
        assert await statuses(anna) == ["read", "read", "delivered", "sent", "sent"]
        assert await statuses(carl) == ["read", "read", "delivered", "sent", "sent"], "everybody sees the same"
        world.mark(chat, carl, read=5)
        assert await statuses(anna) == ["read"] * 4 + ["sent"], "the fifth is ben's, and anna has not read it"
        world.mark(chat, anna, delivered=5)
        assert await statuses(ben) == ["read"] * 4 + ["delivered"]
        world.leave(chat, ben)
        world.leave(chat, carl)
        assert await statuses(anna) == ["sent"] * 4 + ["delivered"], "alone: nobody else can have read her own"

    run(read_model, story)


def test_only_members_read_and_a_stranger_learns_nothing(read_model: str, world: World) -> None:
    anna, ben, stranger = somebody(), somebody(), somebody()
    chat = world.chat(anna, ben)
    world.send(chat, anna)
    world.leave(chat, ben)
    nowhere = somebody()
    paths = ["/messages", "/messages/1", "/latest-seq", "/unread", "/read-state", "/members", ""]

    async def story(api: Api) -> None:
        for path in paths:
            assert (await api.get(f"/v1/chats/{chat}{path}", anna)).status_code == 200, path
            former = await api.get(f"/v1/chats/{chat}{path}", ben)
            assert (former.status_code, former.json()["type"]) == (403, "/problems/not_member"), path
            never = await api.get(f"/v1/chats/{chat}{path}", stranger)
            missing = await api.get(f"/v1/chats/{nowhere}{path}", stranger)
            assert never.status_code == missing.status_code == 404, path
            assert never.json() | {"request_id": ""} == missing.json() | {"request_id": ""}, path
            assert never.json()["type"] == "/problems/unknown_chat"
            producer = await api.get(f"/v1/chats/{chat}{path}", stranger, scopes=["producer"])
            assert producer.status_code == 404, "a producer sends for others; it does not read for them"

    run(read_model, story)


def test_a_stranger_and_a_member_are_answered_in_one_round_trip_each(
    read_model: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stranger's request neither fetches first nor asks first whether it may."""
    anna, stranger = somebody(), somebody()
    chat = world.chat(anna)
    for _ in range(3):
        world.send(chat, anna)
    trips: list[list[int]] = []
    run_together = Pipelines.run

    async def noted(self: Pipelines, connection: Any, statements: Any, **how: Any) -> list[list[Row]]:
        rows = await run_together(self, connection, statements, **how)
        if any(name == "page" for name, _ in statements):  # and not a readiness probe
            trips.append([len(each) for each in rows])
        return rows

    monkeypatch.setattr(Pipelines, "run", noted)

    async def story(api: Api) -> None:
        for user in (anna, stranger):
            await api.get(f"/v1/chats/{chat}/messages", user)

    run(read_model, story)
    of_anna, of_stranger = trips
    assert len(of_anna) == len(of_stranger)
    assert sum(of_anna) > 3
    assert sum(of_stranger) == 0


def test_a_message_that_is_not_there_is_unknown(read_model: str, world: World) -> None:
    anna = somebody()
    chat = world.chat(anna)
    world.send(chat, anna)

    async def story(api: Api) -> None:
        for seq in (2, BEYOND):
            answer = await api.get(f"/v1/chats/{chat}/messages/{seq}", anna)
            assert (answer.status_code, answer.json()["type"]) == (404, "/problems/unknown_message")

    run(read_model, story)


def test_the_same_question_goes_on_being_answered_right(read_model: str, world: World) -> None:
    """Postgres changes a prepared statement's plan after its fifth run."""
    anna = somebody()
    chat = world.chat(anna)
    for _ in range(9):
        world.send(chat, anna)

    async def story(api: Api) -> None:
        for _ in range(12):
            assert await history(api, chat, anna, before_seq=6, limit=2) == ([4, 5], True, True)
            assert await history(api, chat, anna, before_seq=6, limit=2, sender_id=anna) == ([4, 5], True, True)

    run(read_model, story, pool_max_size=1)


def test_the_columns_of_the_sql_fragments_are_the_parameters_of_their_serializers_in_order(world: World) -> None:
    """Rows are passed to the serializers by position: two columns swapped would be shown under each other's name."""
    statements = load_sql("services.query.sql")
    assert columns(world, statements.text("page")) == MESSAGE_COLUMNS
    assert columns(world, statements.text("page_of_sender")) == MESSAGE_COLUMNS
    assert columns(world, statements.text("message")) == MESSAGE_COLUMNS
    of_a_chat = CHAT_COLUMNS + MESSAGE_COLUMNS
    assert of_a_chat == columns(world, statements.text("chats_of_caller"))
    assert of_a_chat == columns(world, statements.text("chat_of_caller"))


def columns(world: World, statement: str) -> tuple[str, ...]:
    return world.columns(re.sub(r"%\(\w+\)s", "NULL", statement))
