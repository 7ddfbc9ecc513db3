"""Threads, earlier texts and receipts of a message as readers see them, on rows that the projector writes."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from schemas.ids import ChatId
from tests.support.chat_log import ANNA, BEN, CARL, DORA, ChatLog
from tests.support.projection import write_records
from tests.support.read_model import PARTITIONS, Api, read_model_database, run


@pytest.fixture(scope="module")
def dsn(postgres: str) -> Iterator[str]:
    with read_model_database(postgres) as dsn:
        yield dsn


def project(dsn: str, log: ChatLog, *, since: int = 0) -> None:
    """Write the log's records from there on, as one batch of the projector."""

    async def write() -> None:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            await write_records(connection, 1, log.events[since:], partition=log.partition)

    asyncio.run(write())


_partitions = iter(range(PARTITIONS))


def new_log() -> ChatLog:
    """Return the log of a partition that no other test uses: they share the database."""
    log = ChatLog(partition=next(_partitions), partitions=PARTITIONS)
    log.open()
    return log


async def pages(api: Api, path: str, *, limit: int) -> list[dict[str, Any]]:
    """Return the items of all pages, and check that no page is longer than the limit."""
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        page = await api.json(path, BEN, limit=limit, cursor=cursor)
        assert len(page["items"]) <= limit
        found += page["items"]
        assert len(found) < 100, "pages go round in circles"
        cursor = page["next"]
        if cursor is None:
            return found


def with_two_threads(log: ChatLog) -> ChatId:
    """Seqs 1 and 2 begin threads; 3, 5 and 6 answer the first, 4 and 7 the second."""
    chat = log.create(ANNA, log.name_here(ANNA, "ops"), [BEN])
    first, second = log.send(chat, ANNA, "one"), log.send(chat, BEN, "two")
    reply = log.send(chat, BEN, "one, first", reply_to_message_id=first.id)
    log.send(chat, ANNA, "two, first", reply_to_message_id=second.id)
    log.send(chat, ANNA, "one, second", reply_to_message_id=reply.id)
    log.send(chat, ANNA, "one, third", reply_to_message_id=first.id)
    log.send(chat, BEN, "two, second", reply_to_message_id=second.id)
    return chat


def test_a_thread_has_all_its_replies_in_chat_order_and_the_threads_follow_their_last_one(dsn: str) -> None:
    log = new_log()
    chat = with_two_threads(log)
    project(dsn, log)

    async def story(api: Api) -> None:
        path = f"/v1/chats/{chat}"
        assert [m["seq"] for m in await pages(api, f"{path}/messages/1/replies", limit=2)] == [3, 5, 6]
        assert [m["seq"] for m in await pages(api, f"{path}/messages/2/replies", limit=200)] == [4, 7]
        assert await pages(api, f"{path}/messages/3/replies", limit=2) == [], "a reply begins no thread"
        threads = await pages(api, f"{path}/threads", limit=1)
        assert [(m["seq"], m["reply_count"], m["last_reply_seq"]) for m in threads] == [(2, 2, 7), (1, 3, 6)]
        for asked in (f"{path}/messages/1/replies", f"{path}/threads", f"{path}/messages"):
            page = await api.json(asked, BEN)
            assert (page["position"], page["last_seq"]) == (8, 7), asked
        assert (await api.get(f"{path}/threads", DORA)).status_code == 404
        assert (await api.get(f"{path}/messages/1/replies", DORA)).status_code == 404

    run(dsn, story)


def test_a_deleted_reply_no_longer_counts_and_moves_its_thread_back(dsn: str) -> None:
    log = new_log()
    chat = with_two_threads(log)
    project(dsn, log)
    for seq, threads in ((7, [(1, 3, 6), (2, 1, 4)]), (6, [(1, 2, 5), (2, 1, 4)]), (4, [(1, 2, 5)])):
        before = len(log.events)
        gone = log.delete(chat, ANNA, seq)
        project(dsn, log, since=before)

        async def story(api: Api) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any]]:
            path = f"/v1/chats/{chat}"
            page = await api.json(f"{path}/messages", BEN)
            threads = await pages(api, f"{path}/threads", limit=50)
            return threads, await pages(api, f"{path}/messages/2/replies", limit=50), page

        shown, replies, page = run(dsn, story)
        assert [(m["seq"], m["reply_count"], m["last_reply_seq"]) for m in shown] == threads
        assert [m["seq"] for m in replies] == [4, 7], "a deleted reply keeps its place"
        assert max(m["changed_position"] for m in page["messages"][:2]) == gone.position


def test_the_earlier_texts_of_a_message_are_listed_newest_first_until_it_is_deleted(dsn: str) -> None:
    log = new_log()
    chat = log.create(ANNA, log.name_here(ANNA, "ops"), [BEN])
    log.send(chat, ANNA, "zero")
    project(dsn, log)
    before = len(log.events)
    for text in ("one", "two", "three"):
        log.edit(chat, ANNA, 1, text)
    project(dsn, log, since=before)

    async def edited(api: Api) -> None:
        path = f"/v1/chats/{chat}/messages/1"
        items = await pages(api, f"{path}/edits", limit=2)
        assert [(item["revision"], item["text"]) for item in items] == [(2, "two"), (1, "one"), (0, "zero")]
        message = await api.json(path, BEN)
        assert items[-1]["written_at"] == message["sent_at"]
        assert (message["text"], message["revision"]) == ("three", 3)
        assert (await api.get(f"{path}/edits", DORA)).status_code == 404

    run(dsn, edited)
    before = len(log.events)
    log.delete(chat, ANNA, 1)
    project(dsn, log, since=before)

    async def deleted(api: Api) -> None:
        assert await pages(api, f"/v1/chats/{chat}/messages/1/edits", limit=50) == []

    run(dsn, deleted)


def test_the_receipts_of_a_message_are_of_those_who_were_there_when_it_was_sent(dsn: str) -> None:
    log = new_log()
    chat = log.create(ANNA, log.name_here(ANNA, "ops"), [BEN, CARL])
    log.send(chat, ANNA)
    log.send(chat, ANNA)
    log.add(chat, ANNA, DORA)
    log.read(chat, BEN, 1)
    log.delivered(chat, BEN, 2)
    project(dsn, log)

    async def story(api: Api) -> None:
        async def receipts(seq: int) -> tuple[Any, ...]:
            page = await api.json(f"/v1/chats/{chat}/messages/{seq}/receipts", BEN)
            items = [(item["user_id"], item["status"]) for item in page["items"]]
            return page["recipient_count"], page["delivered_count"], page["read_count"], items, page["next"]

        assert await receipts(1) == (2, 1, 1, [(BEN, "read")], None)
        assert await receipts(2) == (2, 1, 0, [(BEN, "delivered")], None)
        missing = await api.get(f"/v1/chats/{chat}/messages/3/receipts", BEN)
        assert (missing.status_code, missing.json()["type"]) == (404, "/problems/unknown_message")

    run(dsn, story)


def test_receipts_are_paged_by_user(dsn: str) -> None:
    log = new_log()
    readers = [BEN, CARL, DORA]
    chat = log.create(ANNA, log.name_here(ANNA, "ops"), readers)
    log.send(chat, ANNA)
    for reader in readers:
        log.read(chat, reader, 1)
    project(dsn, log)

    async def story(api: Api) -> None:
        items = await pages(api, f"/v1/chats/{chat}/messages/1/receipts", limit=1)
        assert [item["user_id"] for item in items] == sorted(readers)
        assert {item["status"] for item in items} == {"read"}

    run(dsn, story)
