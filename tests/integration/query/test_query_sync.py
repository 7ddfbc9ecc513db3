"""What changed since a cursor: in one chat, and in all of a user's chats, on rows that the projector writes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from schemas.ids import ChatId, UserId, direct_chat_id, partition_of
from schemas.sync_cursor import SyncCursor, decode_sync_cursor, encode_sync_cursor
from services.query.api.change_pages import MAX_ANSWER_BYTES
from tests.support.chat_log import ANNA, BEN, CARL, DORA, ChatLog
from tests.support.projection import TOPIC_ID, empty, write_records
from tests.support.read_model import PARTITIONS, Api, read_model_database, run

NOBODY: UserId = UserId("99999999-0000-4000-8000-000000000000")
Json = dict[str, Any]


@pytest.fixture(scope="module")
def dsn(postgres: str) -> Iterator[str]:
    with read_model_database(postgres) as dsn:
        yield dsn


class Logs:
    """The log and the read model of one test, which has the database for itself."""

    def __init__(self, dsn: str) -> None:
        self._dsn = dsn
        self._logs = [ChatLog(partition=n, partitions=PARTITIONS) for n in range(PARTITIONS)]
        self._written = [0] * PARTITIONS
        for log in self._logs:
            log.open()

    def __getitem__(self, partition: int) -> ChatLog:
        return self._logs[partition]

    def group(self, partition: int, creator: UserId, *members: UserId, name: str = "ops") -> ChatId:
        log = self[partition]
        return log.create(creator, log.name_here(creator, name), members)

    def of(self, chat: ChatId) -> ChatLog:
        return self[partition_of(chat, PARTITIONS)]

    async def project(self) -> None:
        """Write what is new, as one batch for each partition."""
        async with await psycopg.AsyncConnection.connect(self._dsn, autocommit=True) as connection:
            for partition, log in enumerate(self._logs):
                new = log.events[self._written[partition] :]
                if new:
                    await write_records(connection, 1, new, partition=partition)
                self._written[partition] = len(log.events)


@pytest.fixture
def logs(dsn: str) -> Logs:
    async def prepare() -> None:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            await empty(connection, 1)

    asyncio.run(prepare())
    return Logs(dsn)


def seqs(page: Json) -> list[int]:
    return [message["seq"] for message in page["messages"]]


def ids(page: Json) -> list[str]:
    return [chat["chat_id"] for chat in page["chats"]]


# --- changes of a chat ------------------------------------------------------------------------------------------


def test_a_chats_changes_are_its_messages_and_members_as_they_are_now_each_once(dsn: str, logs: Logs) -> None:
    chat = logs.group(0, ANNA, BEN, CARL)  # 1
    log = logs[0]
    for n in range(4):
        log.send(chat, ANNA, f"text {n}")  # 2 to 5
    log.edit(chat, ANNA, 1, "edited")  # 6
    log.edit(chat, ANNA, 1, "edited twice")  # 7
    log.delete(chat, ANNA, 3)  # 8
    log.read(chat, BEN, 2)  # 9
    log.remove(chat, ANNA, CARL)  # 10
    log.rename(chat, ANNA, "new name")  # 11

    async def story(api: Api) -> None:
        await logs.project()
        path = f"/v1/chats/{chat}/changes"
        page = await api.json(path, ANNA)
        assert [(m["seq"], m["changed_position"]) for m in page["messages"]] == [(2, 3), (4, 5), (1, 7), (3, 8)]
        assert [(m["text"], m["deleted_at"] is None) for m in page["messages"][-2:]] == [
            ("edited twice", True),
            (None, False),
        ]
        assert [(m["user_id"], m["left_at"] is None) for m in page["members"]] == [
            (ANNA, True), (BEN, True), (CARL, False),
        ]  # fmt: skip
        assert [(c["user_id"], c["read_seq"]) for c in page["cursors"]] == [(ANNA, 0), (BEN, 2)]
        assert (page["next_position"], page["position"], page["last_seq"], page["has_more"]) == (11, 11, 4, False)
        assert page["chat"]["name"] == "new name"
        assert page["chat"]["last_message"]["seq"] == 4
        assert (page["chat"]["position"], page["chat"]["my_role"], page["chat"]["unread"]) == (11, "owner", 0)

        since = await api.json(path, ANNA, after_position=8)
        assert (since["messages"], [m["user_id"] for m in since["members"]]) == ([], [BEN, CARL])
        nothing = await api.json(path, ANNA, after_position=11)
        assert (nothing["messages"], nothing["members"], nothing["cursors"]) == ([], [], [])
        assert (nothing["next_position"], nothing["has_more"]) == (11, False)

    run(dsn, story)


def test_what_one_event_changed_is_on_one_page_whatever_the_limit(dsn: str, logs: Logs) -> None:
    chat = logs.group(0, ANNA, BEN, CARL)
    root = logs[0].send(chat, ANNA, "root")
    logs[0].send(chat, ANNA, "between")
    logs[0].send(chat, BEN, "reply", reply_to_message_id=root.id)
    logs[0].send(chat, ANNA, "last")

    async def story(api: Api) -> None:
        await logs.project()
        pages = []
        after, more = 0, True
        while more:
            page = await api.json(f"/v1/chats/{chat}/changes", ANNA, after_position=after, limit=1)
            pages.append((page["next_position"], seqs(page), len(page["members"])))
            after, more = page["next_position"], page["has_more"]
        assert pages == [(1, [], 3), (3, [2], 0), (4, [1, 3], 0), (5, [4], 0)]

    run(dsn, story)


def test_what_changes_between_two_pages_comes_again_and_nothing_is_skipped(dsn: str, logs: Logs) -> None:
    chat = logs.group(0, ANNA, BEN)
    for n in range(4):
        logs[0].send(chat, ANNA, f"text {n}")

    async def story(api: Api) -> None:
        await logs.project()
        path = f"/v1/chats/{chat}/changes"
        first = await api.json(path, BEN, limit=2)
        assert (seqs(first), first["has_more"]) == ([1, 2], True)
        logs[0].edit(chat, ANNA, 1, "shown before")
        logs[0].edit(chat, ANNA, 3, "would have been next")
        await logs.project()
        second = await api.json(path, BEN, after_position=first["next_position"])
        assert [(m["seq"], m["text"]) for m in second["messages"]] == [
            (4, "text 3"), (1, "shown before"), (3, "would have been next"),
        ]  # fmt: skip

    run(dsn, story)


def test_a_position_beyond_the_chat_is_refused_with_the_chats_own(dsn: str, logs: Logs) -> None:
    chat = logs.group(0, ANNA)

    async def story(api: Api) -> None:
        await logs.project()
        answer = await api.get(f"/v1/chats/{chat}/changes", ANNA, after_position=2)
        assert answer.status_code == 400
        (error,) = answer.json()["errors"]
        assert (error["in"], error["pointer"]) == ("query", "/after_position")
        assert "which is at 1" in error["detail"]

    run(dsn, story)


def test_only_members_learn_what_changed(dsn: str, logs: Logs) -> None:
    chat = logs.group(0, ANNA, BEN)
    logs[0].send(chat, ANNA)
    logs[0].remove(chat, ANNA, BEN)

    async def story(api: Api) -> None:
        await logs.project()
        path = f"/v1/chats/{chat}/changes"
        assert (await api.get(path, DORA, after_position=99)).json()["type"] == "/problems/unknown_chat"
        assert (await api.get(path, BEN, after_position=99)).json()["type"] == "/problems/not_member"
        for user, removed in ((DORA, []), (BEN, [chat])):
            page = (await api.post("/v1/sync", user, {"chats": {chat: 0}})).json()
            assert (page["chats"], page["removed"], page["changes"]) == ([], removed, {})

    run(dsn, story)


# --- sync -------------------------------------------------------------------------------------------------------


def test_the_first_sync_has_all_chats_and_the_next_one_only_what_changed_since(dsn: str, logs: Logs) -> None:
    chats = [logs.group(n % 3, ANNA, BEN, name=f"ops {n}") for n in range(6)]
    direct = logs.of(direct_chat_id(ANNA, DORA)).create_direct(ANNA, DORA)
    for at, chat in enumerate(chats):
        logs.of(chat).at_ms += 1_000 * at
        logs.of(chat).send(chat, BEN, "hello")

    async def story(api: Api) -> None:
        await logs.project()
        first = await api.json("/v1/sync", ANNA)
        listed = (await api.json("/v1/chats", ANNA))["items"]
        assert [(c["chat_id"], c["kind"], c["peer_id"]) for c in first["chats"]] == [
            (c["chat_id"], c["kind"], c["peer_id"]) for c in listed
        ]
        assert set(ids(first)) == {*chats, direct}
        assert [c["last_message"] for c in first["chats"]] == [c["last_message"] for c in listed]
        assert [(c["position"], c["last_seq"], c["read_seq"], c["unread"], c["my_role"]) for c in first["chats"]] == [
            (c["last_position"], c["last_seq"], c["read_seq"], c["unread"], c["role"]) for c in listed
        ]
        assert (first["removed"], first["has_more"]) == ([], False)
        assert decode_sync_cursor(first["next"]) == SyncCursor(
            TOPIC_ID, {p: logs[p].index for p in {partition_of(chat, PARTITIONS) for chat in (*chats, direct)}}
        )

        logs.of(chats[1]).read(chats[1], BEN, 1)
        logs.of(chats[4]).send(chats[4], BEN, "again")
        await logs.project()
        second = await api.json("/v1/sync", ANNA, since=first["next"])
        assert set(ids(second)) == {chats[1], chats[4]}
        again = await api.json("/v1/sync", ANNA, since=first["next"])
        assert again == second, "nothing is stored for a client"
        third = await api.json("/v1/sync", ANNA, since=second["next"])
        assert (third["chats"], third["removed"], third["next"]) == ([], [], second["next"])

    run(dsn, story)


def test_leaving_joining_and_joining_again_are_changes(dsn: str, logs: Logs) -> None:
    left, back, joined = (logs.group(n, ANNA, name=name) for n, name in enumerate(("left", "back", "joined")))
    for chat in (left, back):
        logs.of(chat).add(chat, ANNA, BEN)

    async def story(api: Api) -> None:
        await logs.project()
        first = await api.json("/v1/sync", BEN)
        assert set(ids(first)) == {left, back}
        logs.of(left).remove(left, BEN, BEN)
        logs.of(left).send(left, ANNA, "after he left")
        logs.of(back).remove(back, BEN, BEN)
        logs.of(back).add(back, ANNA, BEN)
        logs.of(joined).add(joined, ANNA, BEN)
        await logs.project()
        second = await api.json("/v1/sync", BEN, since=first["next"])
        assert (set(ids(second)), second["removed"]) == ({back, joined}, [left])

        logs.of(left).send(left, ANNA, "no longer his")
        await logs.project()
        third = await api.json("/v1/sync", BEN, since=second["next"])
        assert (third["chats"], third["removed"]) == ([], [])
        assert (await api.json("/v1/sync", BEN))["removed"] == []
        assert (await api.json("/v1/sync", BEN, since=first["next"]))["removed"] == [left], "it never expires"

        logs.of(left).add(left, ANNA, BEN)
        await logs.project()
        fourth = await api.json("/v1/sync", BEN, since=third["next"])
        assert (ids(fourth), fourth["removed"]) == ([left], [])

    run(dsn, story)


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_the_pages_of_a_sync_end_in_the_cursor_of_the_first_one(dsn: str, logs: Logs, limit: int) -> None:
    chats = [logs.group(n % 2, ANNA, BEN, name=f"ops {n}") for n in range(4)]
    left = logs.group(1, ANNA, BEN, name="left")
    for at, chat in enumerate(chats):
        logs.of(chat).at_ms += 1_000 * at
        logs.of(chat).send(chat, BEN, "hello")

    async def story(api: Api) -> None:
        await logs.project()
        start = (await api.json("/v1/sync", ANNA))["next"]
        for chat in chats:
            logs.of(chat).send(chat, BEN, "again")
        logs.of(left).remove(left, ANNA, ANNA)
        await logs.project()
        found: list[str] = []
        removed: list[str] = []
        since, more, whole = start, True, await api.json("/v1/sync", ANNA, since=start)
        *others, mover = map(ChatId, ids(whole))
        while more:
            page = await api.json("/v1/sync", ANNA, since=since, limit=limit)
            assert 0 < len(page["chats"]) + len(page["removed"]) <= limit
            found += ids(page)
            removed += page["removed"]
            if more := page["has_more"]:
                # A chat of the last page moves to the front: this sync misses it, and the next one has it.
                logs.of(mover).at_ms += 60_000
                logs.of(mover).send(mover, BEN, "meanwhile")
                await logs.project()
            since = page["next"]
        assert (found, removed) == (others, [left])
        assert since == whole["next"]
        assert ids(await api.json("/v1/sync", ANNA, since=since)) == [mover]

    run(dsn, story)


def test_a_cursor_of_another_log_is_refused_and_so_is_what_is_no_cursor(dsn: str, logs: Logs) -> None:
    logs.group(0, ANNA)
    another = encode_sync_cursor(SyncCursor(str(NOBODY), {0: 1}))
    beyond = encode_sync_cursor(SyncCursor(TOPIC_ID, {PARTITIONS: 1}))
    ours = encode_sync_cursor(SyncCursor(TOPIC_ID, {0: 0}))
    of_page = f"p.1.{NOBODY}.{another}.{another}"

    async def story(api: Api) -> None:
        await logs.project()
        for since in (another, of_page):
            for answer in (
                await api.get("/v1/sync", ANNA, since=since),
                await api.post("/v1/sync", ANNA, {"since": since}),
            ):
                assert (answer.status_code, answer.json()["type"]) == (409, "/problems/cursor_of_another_log")
        for since in (
            "x",
            ours + "=",
            beyond,
            f"p.1.x.{ours}.",
            f"p.1.{NOBODY}.{ours}",
            f"p.1.{NOBODY}.{ours}.{another}",
        ):
            of_query, of_body = (
                await api.get("/v1/sync", ANNA, since=since),
                await api.post("/v1/sync", ANNA, {"since": since}),
            )
            for answer, place in ((of_query, "query"), (of_body, "body")):
                assert answer.status_code == 400, since
                assert [(e["in"], e["pointer"]) for e in answer.json()["errors"]] == [(place, "/since")]
        assert (await api.get("/v1/sync", ANNA, since=ours)).status_code == 200

    run(dsn, story)


def test_a_client_that_is_ahead_of_the_read_model_does_not_go_back(dsn: str, logs: Logs) -> None:
    chat = logs.group(0, ANNA)

    async def story(api: Api) -> None:
        await logs.project()
        ahead = encode_sync_cursor(SyncCursor(TOPIC_ID, {0: 5}))
        page = (await api.post("/v1/sync", ANNA, {"since": ahead, "chats": {chat: 5}})).json()
        assert (page["chats"], page["next"]) == ([], ahead)
        of_chat = page["changes"][chat]
        assert (of_chat["next_position"], of_chat["position"], of_chat["limited"], of_chat["chat"]) == (
            5,
            1,
            False,
            None,
        )

    run(dsn, story)


def test_a_sync_that_names_chats_has_what_changed_in_them_or_the_newest_of_it(dsn: str, logs: Logs) -> None:
    few, many, same = (logs.group(n, ANNA, BEN, name=name) for n, name in enumerate(("few", "many", "same")))
    for n in range(60):
        logs.of(many).send(many, ANNA, f"text {n}")
    logs.of(few).send(few, ANNA, "hello")
    logs.of(few).read(few, BEN, 1)

    async def story(api: Api) -> None:
        await logs.project()
        page = (await api.post("/v1/sync", BEN, {"chats": {same: 1, many: 1, few: 1, str(NOBODY): 3}})).json()
        without = await api.json("/v1/sync", BEN)
        changes = page.pop("changes")
        assert page == without
        heads = {chat["chat_id"]: chat for chat in page["chats"]}
        assert changes.keys() == {few, many, same}
        nothing: Json = {"messages": [], "members": [], "cursors": []}
        assert changes[same] == nothing | {
            "chat": None, "next_position": 1, "position": 1, "last_seq": 0, "limited": False,
        }  # fmt: skip
        assert changes[few]["messages"] == [heads[few]["last_message"]]
        assert [c["user_id"] for c in changes[few]["cursors"]] == [BEN]
        assert (changes[few]["next_position"], changes[few]["limited"], changes[few]["chat"]) == (3, False, heads[few])
        assert seqs(changes[many]) == list(range(11, 61))
        assert (changes[many]["next_position"], changes[many]["limited"], changes[many]["position"]) == (1, True, 61)

    run(dsn, story)


BIG = '"' * 16_384
"""Twice as long in JSON."""


def test_no_answer_is_longer_than_one_mebibyte_and_the_pages_have_everything(dsn: str, logs: Logs) -> None:
    chats = [logs.group(0, ANNA, BEN, name=f"ops {n}") for n in range(40)]
    for chat in chats:
        logs[0].send(chat, ANNA, BIG)
    small = [logs.group(1, ANNA, BEN, name=f"small {n}") for n in range(5)]
    for chat in small:
        logs[1].send(chat, ANNA, "small")
    for _ in range(60):
        logs[0].send(chats[0], ANNA, BIG, media_urls=["https://example.org/" + "x" * 2_000] * 10)

    async def story(api: Api) -> None:
        await logs.project()
        found: list[int] = []
        after, more = 0, True
        while more:
            answer = await api.get(f"/v1/chats/{chats[0]}/changes", BEN, after_position=after)
            assert MAX_ANSWER_BYTES // 2 < len(answer.content) <= MAX_ANSWER_BYTES or not answer.json()["has_more"]
            found += seqs(answer.json())
            after, more = answer.json()["next_position"], answer.json()["has_more"]
        assert found == list(range(1, 62))

        heads: list[str] = []
        since, more = None, True
        while more:
            answer = await api.get("/v1/sync", BEN, since=since)
            assert len(answer.content) <= MAX_ANSWER_BYTES
            heads += ids(answer.json())
            since, more = answer.json()["next"], answer.json()["has_more"]
        assert sorted(heads) == sorted([*chats, *small])

        answer = await api.post("/v1/sync", BEN, {"chats": dict.fromkeys([*chats, *small], 0)})
        assert MAX_ANSWER_BYTES // 2 < len(answer.content) <= MAX_ANSWER_BYTES
        page = answer.json()
        assert page["has_more"]
        assert page["changes"].keys() == {*chats, *small}
        for chat, changes in page["changes"].items():
            assert changes["limited"] or changes["next_position"] == changes["position"]
            assert not changes["limited"] or changes["next_position"] == 0
            newest = 61 if chat == chats[0] else 1
            assert seqs(changes) == list(range(newest - len(changes["messages"]) + 1, newest + 1))
        assert {chat for chat, changes in page["changes"].items() if not changes["limited"]} == set(small)

    run(dsn, story)


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"chats": {"ops": 1}}, "/chats/ops/[key]"),
        ({"chats": {str(NOBODY): -1}}, f"/chats/{NOBODY}"),
        ({"chats": {str(NOBODY): "1"}}, f"/chats/{NOBODY}"),
        ({"chats": {f"{n:08}-0000-4000-8000-000000000000": 0 for n in range(201)}}, "/chats"),
        ({"limit": 201}, "/limit"),
        ({"limit": "5"}, "/limit"),
        ({"since": 5}, "/since"),
        ({"sinse": "x"}, "/sinse"),
        ([], ""),
    ],
)
def test_bad_input_in_a_body_is_named_where_it_stands(dsn: str, body: object, pointer: str) -> None:
    async def story(api: Api) -> None:
        answer = await api.post("/v1/sync", ANNA, body)
        assert answer.status_code == 400, answer.text
        assert answer.json()["type"] == "/problems/malformed"
        assert [(e["in"], e["pointer"]) for e in answer.json()["errors"]] == [("body", pointer)]

    run(dsn, story)


@pytest.mark.parametrize("at_least", [None, "0:0"])
@pytest.mark.parametrize(
    ("raw", "content_type", "status"),
    [
        (b'{"limit": 5, "limit": 5}', "application/json", 400),
        (b'{"limit": NaN}', "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"limit": ' + b"9" * 5_000 + b"}", "application/json", 400),
        (b'{"since": "\\ud800"}', "application/json", 400),
        ('{"limit": 5}'.encode("utf-16"), "application/json", 400),
        (b"", "application/json", 400),
        (b"{}", "text/plain", 415),
        (b"{}", "application/x-www-form-urlencoded", 200),
        (b"{}", "application/json; charset=utf-8", 200),
    ],
)
def test_a_body_is_read_as_the_bodies_of_commands_are(
    dsn: str, logs: Logs, raw: bytes, content_type: str, status: int, at_least: str | None
) -> None:
    async def story(api: Api) -> None:
        await logs.project()
        answer = await api.post_raw("/v1/sync", ANNA, raw, content_type, at_least=at_least)
        assert answer.status_code == status, answer.text

    run(dsn, story)


def test_a_token_is_waited_for_as_in_every_read(dsn: str, logs: Logs) -> None:
    chat = logs.group(3, ANNA)
    log = logs[3]

    async def story(api: Api) -> None:
        await logs.project()
        log.send(chat, ANNA, "soon")
        token = f"3:{log.index}"
        asked = [
            asyncio.create_task(api.json("/v1/sync", ANNA, at_least=token)),
            asyncio.create_task(api.json(f"/v1/chats/{chat}/changes", ANNA, at_least=token)),
            asyncio.create_task(api.post("/v1/sync", ANNA, {"chats": {chat: 0}}, at_least=token)),
        ]
        await asyncio.wait(asked, timeout=0.1)
        assert not any(each.done() for each in asked)
        await logs.project()
        heads, changes, both = await asyncio.gather(*asked)
        assert heads["chats"][0]["last_seq"] == 1
        assert seqs(changes) == [1]
        assert seqs(both.json()["changes"][chat]) == [1]

    run(dsn, story)


def test_without_a_projector_a_sync_is_not_taken_for_an_empty_one(dsn: str, logs: Logs) -> None:
    async def story(api: Api) -> None:
        answer = await api.get("/v1/sync", ANNA)
        assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")

    run(dsn, story)
