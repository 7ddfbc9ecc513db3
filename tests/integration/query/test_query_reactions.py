"""Reactions as readers see them: the counts of a page, whose they are, and who reacts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from schemas.ids import UserId
from tests.support.read_model import Api, World, read_model_database, run, somebody, world_of


@pytest.fixture(scope="module")
def dsn(postgres: str) -> Iterator[str]:
    with read_model_database(postgres) as dsn:
        yield dsn


@pytest.fixture
def world(dsn: str) -> Iterator[World]:
    with world_of(dsn) as world:
        yield world


def shown(message: dict[str, Any]) -> list[tuple[str, int, bool]]:
    return [(each["emoji"], each["count"], each["mine"]) for each in message["reactions"]]


def test_each_reader_sees_the_same_counts_in_the_order_of_first_use_and_their_own(dsn: str, world: World) -> None:
    anna, ben, carl = somebody(), somebody(), somebody()
    chat = world.chat(anna, ben, carl)
    for _ in range(3):
        world.send(chat, anna)
    for user, emoji in ((ben, "👍"), (anna, '"❤\\'), (carl, "👍"), (ben, "👩‍👩‍👧")):
        world.react(chat, 2, user, emoji)

    async def story(api: Api) -> None:
        path = f"/v1/chats/{chat}/messages"
        for user, mine in ((anna, (False, True, False)), (ben, (True, False, True)), (carl, (True, False, False))):
            counts = list(zip(("👍", '"❤\\', "👩‍👩‍👧"), (2, 1, 1), mine, strict=True))
            page = (await api.json(path, user))["messages"]
            assert [shown(message) for message in page] == [[], counts, []]
            assert shown(await api.json(f"{path}/2", user)) == counts
        world.react(chat, 3, anna, "👍")
        last = (await api.json(f"/v1/chats/{chat}", ben))["last_message"]
        assert shown(last) == [("👍", 1, False)]

    run(dsn, story)


def test_who_reacts_is_paged_by_emoji_and_user(dsn: str, world: World) -> None:
    users: list[UserId] = sorted(somebody() for _ in range(7))
    chat = world.chat(*users)
    world.send(chat, users[0])
    for user in users:
        world.react(chat, 1, user, "👍")
    for user in users[:2]:
        world.react(chat, 1, user, "❤")
    everything = [("❤", user) for user in users[:2]] + [("👍", user) for user in users]

    async def pages(api: Api, emoji: str | None = None) -> list[tuple[str, str]]:
        path, found, cursor = f"/v1/chats/{chat}/messages/1/reactions", [], None
        while True:
            page = await api.json(path, users[3], limit=2, emoji=emoji, cursor=cursor)
            found += [(item["emoji"], item["user_id"]) for item in page["items"]]
            if page["next"] is None:
                return found
            cursor = page["next"]

    async def story(api: Api) -> None:
        assert await pages(api) == everything
        assert await pages(api, "👍") == everything[2:]
        assert await pages(api, "❤️") == everything[:2], "U+FE0F makes no difference"
        assert await pages(api, "x") == []
        stranger = await api.get(f"/v1/chats/{chat}/messages/1/reactions", somebody())
        assert stranger.status_code == 404

    run(dsn, story)
