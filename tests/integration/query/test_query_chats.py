"""A member's view except history: chats, unread counts, cursors, members."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from schemas.ids import ChatId, UserId
from services.query.api.paths.chats import Chat, Chats
from services.query.api.paths.members import Members
from services.query.api.paths.receipts import AllUnread, ReadState
from tests.support.read_model import Api, World, read_model_database, run, somebody, world_of


@pytest.fixture(scope="module")
def read_model(postgres: str) -> Iterator[str]:
    with read_model_database(postgres) as dsn:
        yield dsn


@pytest.fixture
def world(read_model: str) -> Iterator[World]:
    with world_of(read_model) as world:
        yield world


def test_unread_is_what_others_sent_above_the_cursor(read_model: str, world: World) -> None:
    anna, ben, carl = somebody(), somebody(), somebody()
    chat = world.chat(anna, ben, carl)
    other = world.chat(carl, ben)

    async def story(api: Api) -> None:
        async def unread(user: UserId) -> int:
            answer = await api.json(f"/v1/chats/{chat}/unread", user)
            assert list(answer) == ["unread"]
            return int(answer["unread"])

        def counted(user: UserId) -> int:
            ((n,),) = world.sql(
                "SELECT count(*) FROM chat_messages m JOIN chat_participants p USING (chat_id) WHERE chat_id = %(chat)s"
                " AND p.user_id = %(user)s AND m.seq > p.read_seq AND m.sender_id <> p.user_id",
                chat=chat, user=user,
            )  # fmt: skip
            return int(n)

        assert [await unread(u) for u in (anna, ben, carl)] == [0, 0, 0]
        for sender in (anna, anna, ben, anna, ben, ben, anna):
            world.send(chat, sender)
        world.send(other, carl)
        assert [await unread(u) for u in (anna, ben, carl)] == [3, 4, 7]
        for user, read in ((anna, 3), (ben, 7), (carl, 1)):
            world.mark(chat, user, read=read)
            assert await unread(user) == counted(user)
        assert [await unread(u) for u in (anna, ben, carl)] == [2, 0, 6]
        everything = await api.json("/v1/unread", carl)
        AllUnread.model_validate(everything)
        assert everything == {"total": 6, "chats": [{"chat_id": chat, "unread": 6}]}, "his own message is read"
        world.send(other, ben)
        both = await api.json("/v1/unread", carl)
        assert both["total"] == 7
        assert {c["chat_id"]: c["unread"] for c in both["chats"]} == {chat: 6, other: 1}
        world.leave(chat, carl)
        assert (await api.json("/v1/unread", carl))["total"] == 1

    run(read_model, story)


def test_unread_leaves_out_what_is_deleted_and_an_own_message_once(read_model: str, world: World) -> None:
    anna, ben, carl = somebody(), somebody(), somebody()
    chat, other = world.chat(anna, ben, carl), world.chat(anna, ben)
    world.send(other, anna)
    for n in range(270):
        world.send(chat, (anna, ben)[n % 2])  # Anna's have odd seqs
    world.mark(chat, ben, read=100)

    async def story(api: Api) -> None:
        async def unread(user: UserId) -> int:
            """Return the unread count, which must be the same on every route."""
            alone = (await api.json(f"/v1/chats/{chat}/unread", user))["unread"]
            one = (await api.json(f"/v1/chats/{chat}", user))["unread"]
            listed = {c["chat_id"]: c["unread"] for c in (await api.json("/v1/chats", user))["items"]}[chat]
            summed = {c["chat_id"]: c["unread"] for c in (await api.json("/v1/unread", user))["chats"]}[chat]
            assert one == listed == summed == alone
            return int(alone)

        assert [await unread(u) for u in (anna, ben, carl)] == [135, 85, 270]
        for seq in (1, 2, 101, 102, 255, 256, 257, 270):  # 1, 101, 255, 257 are Anna's; above Ben's cursor all but 1, 2
            world.delete(chat, seq)
        assert [await unread(u) for u in (anna, ben, carl)] == [135 - 4, 85 - 3, 270 - 8]
        world.mark(chat, ben, read=256)
        world.mark(chat, carl, read=255)
        assert [await unread(u) for u in (ben, carl)] == [6, 15 - 3]
        last = (await api.json(f"/v1/chats/{chat}", carl))["last_message"]
        assert (last["seq"], last["text"], last["media_urls"], last["metadata"]) == (270, None, [], None)
        assert last["deleted_at"] is not None
        assert (await api.json("/v1/unread", ben))["total"] == 7

    run(read_model, story)


def test_latest_seq_is_zero_in_an_empty_chat(read_model: str, world: World) -> None:
    anna = somebody()
    chat = world.chat(anna)

    async def story(api: Api) -> None:
        assert await api.json(f"/v1/chats/{chat}/latest-seq", anna) == {"seq": 0}
        world.send(chat, anna)
        world.send(chat, anna)
        assert await api.json(f"/v1/chats/{chat}/latest-seq", anna) == {"seq": 2}

    run(read_model, story)


def test_a_chat_shows_its_last_message_its_delivery_status_and_the_caller_s_unread(
    read_model: str, world: World
) -> None:
    anna, ben, carl = somebody(), somebody(), somebody()
    chat = world.chat(anna, ben, carl, name='the "ops" room')

    async def story(api: Api) -> None:
        empty = await api.json(f"/v1/chats/{chat}", ben)
        Chat.model_validate(empty)
        assert (empty["last_message"], empty["last_seq"], empty["unread"]) == (None, 0, 0)
        assert (empty["name"], empty["kind"], empty["role"]) == ('the "ops" room', "group", "member")
        assert empty["last_activity_at"] == empty["created_at"] == "2026-01-01T00:00:00.000Z"
        world.send(chat, anna, "one")
        world.send(chat, anna, "two", sent_at="2026-02-01T00:00:00.250Z")
        world.mark(chat, ben, read=2)
        world.mark(chat, carl, delivered=2)
        seen = await api.json(f"/v1/chats/{chat}", carl)
        assert (seen["unread"], seen["last_seq"], seen["last_position"]) == (2, 2, 3)
        assert (seen["last_message"]["text"], seen["last_message"]["status"]) == ("two", "delivered")
        assert seen["last_activity_at"] == seen["last_message"]["sent_at"] == "2026-02-01T00:00:00.250Z"
        assert seen["last_message"] == await api.json(f"/v1/chats/{chat}/messages/2", carl)
        owner = await api.json(f"/v1/chats/{chat}", anna)
        assert (owner["role"], owner["unread"]) == ("owner", 0)
        assert (await api.json("/v1/chats", carl))["items"] == [seen]

    run(read_model, story)


async def all_chats(api: Api, user: UserId, limit: int) -> list[dict[str, Any]]:
    """Return all pages of a user's chats, concatenated."""
    found: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = await api.json("/v1/chats", user, limit=limit, cursor=cursor)
        Chats.model_validate(page)
        assert len(page["items"]) <= limit
        found += page["items"]
        cursor = page["next"]
        if cursor is None:
            return found
        assert len(page["items"]) == limit, "only the last page may be short"


def test_a_direct_chat_names_the_other_side_and_a_group_nobody(read_model: str, world: World) -> None:
    anna, ben = somebody(), somebody()
    direct, alone, group = world.chat(anna, ben), world.chat(anna), world.chat(anna, ben)
    world.sql("UPDATE chats SET kind = 'direct', name = NULL WHERE chat_id IN (%(a)s, %(b)s)", a=direct, b=alone)
    world.leave(direct, ben)

    async def story(api: Api) -> None:
        expected = {direct: ben, alone: anna, group: None}
        for chat_id, peer_id in expected.items():
            assert (await api.json(f"/v1/chats/{chat_id}", anna))["peer_id"] == peer_id
        listed = await api.json("/v1/chats", anna)
        assert {chat["chat_id"]: chat["peer_id"] for chat in listed["items"]} == expected

    run(read_model, story)


def test_chats_come_by_last_activity_and_every_page_size_gives_the_same_list(read_model: str, world: World) -> None:
    anna, ben = somebody(), somebody()
    at_the_same_instant = "2026-05-01T00:00:00Z"
    chats = [world.chat(anna, ben, created_at=f"2026-04-{day:02}T00:00:00Z") for day in range(1, 4)]
    tied = [world.chat(anna, created_at=at_the_same_instant) for _ in range(4)]
    left = world.chat(ben, anna)
    world.leave(left, anna)
    world.chat(ben)
    world.send(chats[1], ben, sent_at="2026-06-01T00:00:00.000001Z")
    world.send(chats[0], ben, sent_at="2026-06-01T00:00:00Z")
    expected = [chats[1], chats[0], *sorted(tied, reverse=True), chats[2]]

    async def story(api: Api) -> None:
        for limit in (1, 2, 3, 6, 7, 200):
            assert [c["chat_id"] for c in await all_chats(api, anna, limit)] == expected

    run(read_model, story)


def test_a_chat_that_moves_while_one_pages_disturbs_no_other(read_model: str, world: World) -> None:
    anna = somebody()
    chats = [world.chat(anna, created_at=f"2026-04-{day:02}T00:00:00Z") for day in range(1, 9)]
    newest_first = chats[::-1]

    async def story(api: Api) -> None:
        first = await api.json("/v1/chats", anna, limit=3)
        world.send(newest_first[0], anna)  # already returned
        world.send(newest_first[5], anna)  # was still to come: it is at the front now
        fresh = world.chat(anna, created_at="2027-01-01T00:00:00Z")
        second = await api.json("/v1/chats", anna, limit=3, cursor=first["next"])
        third = await api.json("/v1/chats", anna, limit=3, cursor=second["next"])
        listed = [c["chat_id"] for page in (first, second, third) for c in page["items"]]
        assert listed == [c for c in newest_first if c != newest_first[5]]
        assert third["next"] is None
        front = [c["chat_id"] for c in (await api.json("/v1/chats", anna, limit=3))["items"]]
        assert set(front) == {fresh, newest_first[0], newest_first[5]}

    run(read_model, story)


@pytest.mark.parametrize("kind", ["members", "read-state"])
def test_members_are_paged_by_user_and_nobody_is_lost_when_others_go(read_model: str, world: World, kind: str) -> None:
    users = sorted(somebody() for _ in range(7))
    nil = UserId("00000000-0000-0000-0000-000000000000")
    chat = world.chat(users[3], *users[:3], *users[4:], nil)

    async def story(api: Api) -> None:
        async def listed(limit: int) -> list[str]:
            found: list[str] = []
            cursor: str | None = None
            while True:
                page = await api.json(f"/v1/chats/{chat}/{kind}", users[3], limit=limit, cursor=cursor)
                (Members if kind == "members" else ReadState).model_validate(page)
                found += [item["user_id"] for item in page["items"]]
                cursor = page["next"]
                if cursor is None:
                    return found

        for limit in (1, 3, 4, 8, 9, 200):
            assert await listed(limit) == [nil, *users]
        first = await api.json(f"/v1/chats/{chat}/{kind}", users[3], limit=3)
        world.leave(chat, users[1])  # already returned
        world.leave(chat, users[2])  # the one in the cursor
        rest = await api.json(f"/v1/chats/{chat}/{kind}", users[3], cursor=first["next"])
        assert [item["user_id"] for item in rest["items"]] == users[3:]

    run(read_model, story)


def test_read_state_tells_both_cursors_apart(read_model: str, world: World) -> None:
    anna, ben = sorted((somebody(), somebody()))
    chat = world.chat(anna, ben)
    for _ in range(3):
        world.send(chat, anna)
    world.mark(chat, ben, delivered=1)
    world.mark(chat, ben, read=2)

    async def story(api: Api) -> None:
        assert await api.json(f"/v1/chats/{chat}/read-state", anna) == {
            "items": [
                {"user_id": anna, "read_seq": 0, "delivered_seq": 0, "last_read_at": None},
                {"user_id": ben, "read_seq": 2, "delivered_seq": 1, "last_read_at": "2026-02-03T04:05:06.789Z"},
            ],
            "next": None,
        }
        members = await api.json(f"/v1/chats/{chat}/members", ben)
        assert members["items"][0] == {
            "user_id": anna,
            "role": "owner",
            "joined_at": "2026-01-01T00:00:00.000Z",
            "joined_seq": 0,
        }

    run(read_model, story)


def test_who_never_was_anywhere_has_empty_lists(read_model: str, world: World) -> None:
    nobody: UserId = somebody()
    chats_of_others: ChatId = world.chat(somebody())
    assert chats_of_others

    async def story(api: Api) -> None:
        assert await api.json("/v1/chats", nobody) == {"items": [], "next": None}
        assert await api.json("/v1/unread", nobody) == {"total": 0, "chats": []}

    run(read_model, story)
