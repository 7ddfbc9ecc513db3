"""The status of a command: pending, then the outcome, and only for its sender."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import psycopg
import pytest

from schemas import ids
from schemas.ids import ChatId, UserId
from services.ingest.api.paths.messages import MessageSent
from tests.support.read_model import PARTITIONS, Api, World, read_model_database, run, somebody, world_of


@pytest.fixture(scope="module")
def read_model(postgres: str) -> Iterator[str]:
    with read_model_database(postgres) as dsn:
        yield dsn


@pytest.fixture
def world(read_model: str) -> Iterator[World]:
    with world_of(read_model) as world:
        yield world


def url(chat: ChatId, command_id: str) -> str:
    return f"/v1/chats/{chat}/commands/{command_id}"


def partition(chat: ChatId) -> int:
    return ids.partition_of(chat, PARTITIONS)


def figures(found: Any) -> Any:
    return {name: found[name] for name in ("outcome", "reason", "seq", "position") if name in found}


async def status(api: Api, chat: ChatId, command_id: str, user: UserId, **more: Any) -> Any:
    return figures(await api.json(url(chat, command_id), user, **more))


def test_a_command_is_pending_until_the_projection_has_come_to_it(read_model: str, world: World) -> None:
    anna = somebody()
    chat = world.chat(anna)
    command = ids.command_id(chat, anna, "k-1")
    at = f"{partition(chat)}:40"

    async def story(api: Api) -> None:
        async def answer() -> Any:
            found = await api.get(url(chat, command), anna, at=at)
            assert found.status_code == 200
            return found

        before = await answer()  # no projection of this partition has begun
        assert before.json() == {"outcome": "pending", "chat_id": chat, "command_id": command}
        assert before.headers["Retry-After"] == "1"
        world.head(partition(chat), index=30, command_offset=39)
        assert figures((await answer()).json()) == {"outcome": "pending"}
        with world.transaction():
            world.send(chat, anna)
            world.head(partition(chat), index=31, command_offset=40)
        after = await answer()
        assert figures(after.json()) == {"outcome": "accepted", "seq": 1, "position": 2}
        assert "Retry-After" not in after.headers

    run(read_model, story)


def test_of_an_accepted_message_the_status_has_what_the_answer_to_the_send_has(read_model: str, world: World) -> None:
    anna = somebody()
    chat = world.chat(anna)
    command = ids.command_id(chat, anna, "k-1")
    seq = world.send(chat, anna, sent_at="2026-01-31T12:00:00.045Z")
    world.outcome(partition(chat), 150, command, anna, "accepted", seq=seq, position=2)

    async def story(api: Api) -> None:
        found = await api.get(url(chat, command), anna)
        sent = {name: found.json()[name] for name in MessageSent.model_fields if name != "duplicate"}
        assert sent == {
            "message_id": command,
            "chat_id": chat,
            "seq": seq,
            "position": 2,
            "sent_at": "2026-01-31T12:00:00.045Z",
            "token": f"{partition(chat)}:150",
        }
        assert found.headers["Location"] == f"/v1/chats/{chat}/messages/{seq}"

    run(read_model, story)


def test_past_its_place_a_command_without_an_outcome_is_unknown(read_model: str, world: World) -> None:
    anna = somebody()
    chat = world.chat(anna)
    world.head(partition(chat), index=50, command_offset=50)

    async def story(api: Api) -> None:
        for at in (None, f"{partition(chat)}:50"):
            answer = await api.get(url(chat, str(uuid4())), anna, at=at)
            assert (answer.status_code, answer.json()["type"]) == (404, "/problems/unknown_command")

    run(read_model, story)


def test_a_rejection_is_told_with_its_reason_and_the_last_one_counts(read_model: str, world: World) -> None:
    anna = somebody()
    chat = world.chat(anna)
    command = str(uuid4())
    world.outcome(partition(chat), 101, command, anna, "rejected", reason="not_member")
    world.outcome(partition(chat), 102, command, anna, "rejected", reason="forbidden")

    async def story(api: Api) -> None:
        assert await status(api, chat, command, anna) == {"outcome": "rejected", "reason": "forbidden"}
        world.outcome(partition(chat), 103, command, anna, "unchanged", position=7)
        assert await status(api, chat, command, anna) == {"outcome": "unchanged", "position": 7}
        world.outcome(partition(chat), 104, command, anna, "accepted", position=8)
        world.outcome(partition(chat), 105, command, anna, "rejected", reason="forbidden")
        assert await status(api, chat, command, anna) == {"outcome": "accepted", "position": 8}

    run(read_model, story)


def test_a_rejection_has_its_own_detail_or_if_none_is_stored_the_title_of_its_reason(
    read_model: str, world: World
) -> None:
    anna = somebody()
    chat = world.chat(anna)
    new, old = str(uuid4()), str(uuid4())
    world.outcome(partition(chat), 501, new, anna, "rejected", reason="invalid", detail="the chat's last seq is 7")
    world.outcome(partition(chat), 502, old, anna, "rejected", reason="invalid")

    async def story(api: Api) -> None:
        assert (await api.json(url(chat, new), anna))["detail"] == "The chat's last seq is 7."
        assert (await api.json(url(chat, old), anna))["detail"] == "The command is not valid."

    run(read_model, story)


def test_a_read_model_of_an_older_release_is_unavailable_and_not_an_error(postgres: str) -> None:
    """Query was upgraded before the projectors, whose migration adds a column."""

    async def story(api: Api) -> None:
        answer = await api.get(url(ChatId(str(uuid4())), str(uuid4())), somebody())
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
        assert "upgrade the projectors" in answer.json()["detail"]

    with read_model_database(postgres) as dsn:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("ALTER VIEW chat.outcomes RENAME COLUMN detail TO not_yet_there")
        run(dsn, story)


def test_neither_a_duplicate_nor_a_conflict_hides_the_acceptance(read_model: str, world: World) -> None:
    anna = somebody()
    chat = world.chat(anna)
    p = partition(chat)
    message, creation, pruned = ids.command_id(chat, anna, "k-1"), str(uuid4()), str(uuid4())
    world.send(chat, anna)
    for index, command in enumerate((message, creation), start=200):
        world.outcome(p, index, command, anna, "rejected", reason="conflict")
    world.outcome(p, 190, creation, anna, "accepted", position=1)
    world.outcome(p, 210, message, anna, "duplicate", seq=1, position=2)
    world.outcome(p, 211, pruned, anna, "duplicate", position=5)
    world.outcome(p, 212, pruned, anna, "rejected", reason="conflict")

    async def story(api: Api) -> None:
        assert await status(api, chat, message, anna) == {"outcome": "accepted", "seq": 1, "position": 2}
        assert await status(api, chat, creation, anna) == {"outcome": "accepted", "position": 1}
        assert await status(api, chat, pruned, anna) == {"outcome": "accepted", "position": 5}

    run(read_model, story)


def test_a_command_is_for_its_sender_and_for_producers_only(read_model: str, world: World) -> None:
    anna, ben = somebody(), somebody()
    chat = world.chat(anna, ben)
    world.send(chat, anna)
    sent, refused = ids.command_id(chat, anna, "k-1"), str(uuid4())
    world.outcome(partition(chat), 301, refused, anna, "rejected", reason="forbidden")

    async def story(api: Api) -> None:
        for command, expected in ((sent, "accepted"), (refused, "rejected")):
            assert (await status(api, chat, command, anna))["outcome"] == expected
            assert (await status(api, chat, command, somebody(), scopes=["producer"]))["outcome"] == expected
            for user, scopes in ((ben, []), (somebody(), ["import"])):
                answer = await api.get(url(chat, command), user, scopes=scopes)
                assert answer.status_code == 404, "a fellow member is not its sender"
                assert answer.json()["type"] == "/problems/unknown_command"
        world.leave(chat, anna)
        assert (await status(api, chat, sent, anna))["outcome"] == "accepted", "the sender since removed still learns"

    run(read_model, story)


def test_a_command_is_found_in_its_own_chat_only(read_model: str, world: World) -> None:
    anna = somebody()
    chat = world.chat(anna)
    other = next(c for _ in range(200) if partition(c := world.chat(anna)) != partition(chat))
    world.send(chat, anna)
    refused = str(uuid4())
    world.outcome(partition(chat), 401, refused, anna, "rejected", reason="forbidden")

    async def story(api: Api) -> None:
        for command in (ids.command_id(chat, anna, "k-1"), refused):
            assert (await api.get(url(other, command), anna)).status_code == 404

    run(read_model, story)
