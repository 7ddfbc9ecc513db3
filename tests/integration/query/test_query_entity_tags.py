"""A message's ETag on a real read model: whatever changes what a reader is shown changes the tag."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.read_model import Api, World, read_model_database, run, somebody, world_of


@pytest.fixture(scope="module")
def dsn(postgres: str) -> Iterator[str]:
    with read_model_database(postgres) as dsn:
        yield dsn


@pytest.fixture
def world(dsn: str) -> Iterator[World]:
    with world_of(dsn) as world:
        yield world


def test_a_304_hides_no_change_of_what_a_reader_is_shown(dsn: str, world: World) -> None:
    anna, ben, carl = somebody(), somebody(), somebody()
    chat = world.chat(anna, ben, carl)
    seq = world.send(chat, anna, "first")

    def edit() -> None:
        world.sql(
            "UPDATE chat_messages SET message_text = 'second', revision = 1, edited_at = now() WHERE chat_id = %(c)s",
            c=chat,
        )

    def count_a_reply() -> None:
        world.sql("UPDATE chat_messages SET reply_count = reply_count + 1 WHERE chat_id = %(c)s", c=chat)

    def unreact() -> None:
        world.sql("DELETE FROM reactions WHERE chat_id = %(c)s", c=chat)
        world.sql("DELETE FROM reaction_counts WHERE chat_id = %(c)s", c=chat)

    def mark(**cursor: int) -> None:
        for user in (ben, carl):
            world.mark(chat, user, **cursor)

    changes: dict[str, Callable[[], None]] = {
        "an edit": edit,
        "a reaction": lambda: world.react(chat, seq, ben, "👍"),
        "a second one": lambda: world.react(chat, seq, carl, "👍"),
        "no reaction": unreact,
        "a reply": count_a_reply,
        "the delivered tick": lambda: mark(delivered=seq),
        "the read tick": lambda: mark(read=seq),
        "a member who joined before it and leaves": lambda: world.leave(chat, carl),
        "the deletion": lambda: world.delete(chat, seq),
    }

    async def story(api: Api) -> None:
        path = f"/v1/chats/{chat}/messages/{seq}"
        seen: dict[str, bytes] = {}
        answer = await api.get(path, anna)
        for what, change in changes.items():
            tag = answer.headers["etag"]
            same = await api.get(path, anna, if_none_match=f'"0.x", {tag}')
            assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", tag), what
            assert same.headers["cache-control"] == "private, no-store"
            assert "content-type" not in same.headers
            seen[tag] = answer.content
            change()
            answer = await api.get(path, anna, if_none_match=tag)
            if what == "a member who joined before it and leaves":
                assert (answer.status_code, answer.headers["etag"]) == (304, tag), "nothing that is shown has changed"
                answer = await api.get(path, anna)
                continue
            assert answer.status_code == 200, what
            assert answer.headers["etag"] not in seen, what
            assert answer.headers["etag"].startswith(f'"{answer.json()["revision"]}.')
        other = f"/v1/chats/{chat}/messages/{world.send(chat, anna)}"
        world.react(chat, seq + 1, ben, "❤")
        annas, bens = await api.get(other, anna), await api.get(other, ben)
        assert annas.headers["etag"] != bens.headers["etag"], "`mine` is shown differently"
        assert (await api.get(path, carl, if_none_match="*")).status_code == 403, "the right to read comes first"
        assert (await api.get(path, somebody(), if_none_match="*")).status_code == 404
        assert (await api.get(f"/v1/chats/{chat}/messages/9", anna, if_none_match="*")).status_code == 404
        assert (await api.get(path, anna, if_none_match="*")).status_code == 304

    run(dsn, story)
