"""The snapshot of a read: what it holds, what it waits for, and reads without a snapshot."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

import psycopg
import pytest
from prometheus_client import REGISTRY
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from pydantic import SecretStr

from schemas.ids import ChatId, UserId
from services.projector.versions.migrations import create_projection, index_projection
from services.projector.versions.registry import point_views
from services.query.settings import QuerySettings
from services.query.snapshot import feeding
from services.query.snapshot.reader import Row, SnapshotReader, Statement
from services.runtime.settings import PostgresSettings
from services.runtime.web.problems import Problem
from tests.support.cuttable import CuttableProxy
from tests.support.read_model import Api, World, read_model_database, run, somebody, world_of

PATIENCE_S = 30.0


@pytest.fixture(scope="module")
def read_model(postgres: str) -> Iterator[str]:
    with read_model_database(postgres) as dsn:
        yield dsn


@pytest.fixture
def world(read_model: str) -> Iterator[World]:
    with world_of(read_model) as world:
        yield world


def messages(chat: ChatId) -> str:
    return f"/v1/chats/{chat}/messages"


def waits(result: str) -> float:
    return REGISTRY.get_sample_value("gapless_query_at_least_waits_total", {"result": result}) or 0.0


async def until(condition: Any) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.002)


def test_a_token_that_is_reached_costs_no_wait(read_model: str, world: World) -> None:
    anna = somebody()
    chat = world.chat(anna)
    world.head(1, index=7)

    async def story(api: Api) -> None:
        held = waits("held")
        for token in ("1:0", "1:6", "1:7"):
            await api.json(messages(chat), anna, at_least=token)
        assert waits("held") == held + 3

    run(read_model, story)


def test_a_read_waits_until_its_snapshot_holds_the_token(read_model: str, world: World) -> None:
    anna = somebody()
    chat = world.chat(anna)
    world.head(2, index=10)

    async def story(api: Api) -> None:
        waited = waits("waited")
        reads = [
            asyncio.create_task(api.json(path, anna, at_least="2:12"))
            for path in (messages(chat), f"/v1/chats/{chat}/latest-seq", "/v1/chats")
        ]
        waiting = "gapless_query_at_least_waiting"
        await until(lambda: REGISTRY.get_sample_value(waiting) == 3)
        world.send(chat, anna, "eleven")
        world.head(2, index=11)
        await api.json(messages(chat), anna, at_least="2:11")  # so the watch has checked since
        assert not any(read.done() for read in reads)
        with world.transaction():
            world.send(chat, anna, "twelve")
            world.head(2, index=12)
        async with asyncio.timeout(PATIENCE_S):
            history, latest, chats = await asyncio.gather(*reads)
        assert [m["text"] for m in history["messages"]] == ["eleven", "twelve"]
        assert latest == {"seq": 2}
        assert chats["items"][0]["last_message"]["text"] == "twelve"
        assert waits("waited") == waited + 3
        assert REGISTRY.get_sample_value(waiting) == 0

    run(read_model, story)


def test_a_token_out_of_reach_ends_in_503_after_the_bounded_wait(read_model: str, world: World) -> None:
    anna = somebody()
    chat = world.chat(anna)
    world.head(3, index=1)

    async def story(api: Api) -> None:
        for token in ("3:2", "4:1"):  # behind; and a partition whose projection has not begun
            began_s = time.monotonic()
            answer = await api.get(messages(chat), anna, at_least=token)
            assert 0.2 <= time.monotonic() - began_s < PATIENCE_S
            assert answer.status_code == 503
            assert answer.json()["type"] == "/problems/unavailable"
            assert answer.headers["Retry-After"] == "1"

    run(read_model, story, at_least_timeout_s=0.2)


def test_all_statements_of_a_page_see_one_moment(read_model: str, world: World) -> None:
    """Sends and marks run in one transaction each; no page may show half of one."""
    anna, ben = somebody(), somebody()
    chat = world.chat(anna, ben)

    def write(rounds: int) -> None:
        for _ in range(rounds):
            with world.transaction():
                seq = world.send(chat, anna)
                world.mark(chat, ben, read=seq)

    async def story(api: Api) -> None:
        writing = asyncio.create_task(asyncio.to_thread(write, 150))
        pages = 0
        while not writing.done():
            page = await api.json(messages(chat), ben, limit=5)
            assert {m["status"] for m in page["messages"]} <= {"read"}
            chats = await api.json("/v1/chats", ben)
            assert chats["items"][0]["unread"] == 0
            assert (chats["items"][0]["last_message"] or {"status": "read"})["status"] == "read"
            pages += 1
        await writing
        assert pages > 10

    run(read_model, story)


def test_statements_that_follow_from_the_first_rows_see_the_same_moment(read_model: str, world: World) -> None:
    anna = somebody()
    chat = world.chat(anna)
    world.send(chat, anna)
    latest_seq = Statement("latest_seq", {"chat_id": chat, "caller_id": anna})

    async def story() -> None:
        reader = SnapshotReader(QuerySettings(postgres=PostgresSettings(dsn=SecretStr(read_model))))
        await reader.open()
        try:

            def following(rows: Sequence[list[Row]]) -> list[Statement]:
                assert rows == [[(1,)]]
                world.send(chat, anna)
                return [latest_seq, latest_seq]

            assert await reader.read(latest_seq, following=following) == [[(1,)]] * 3
            assert await reader.read(latest_seq) == [[(2,)]], "it was committed meanwhile"

            def refusing(_: Sequence[list[Row]]) -> list[Statement]:
                raise Problem("malformed")

            for _ in range(20):  # more than the pool has connections: none is left in its transaction
                with pytest.raises(Problem):
                    await reader.read(latest_seq, following=refusing)
            assert await reader.read(latest_seq) == [[(2,)]]
            ((in_transaction,),) = world.sql(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
                " AND application_name = 'gapless-query' AND state LIKE 'idle in transaction%%'", x=1
            )  # fmt: skip
            assert in_transaction == 0
        finally:
            await reader.close()

    asyncio.run(story())


def test_a_reader_does_not_step_back_over_a_switch_of_projections(postgres: str) -> None:
    """The reader arrives while the switch holds its lock and the new version still gets rows.

    Its snapshot must be from after the switch: one from before, read through the views from after, would show the new
    version as it was when it was behind.
    """
    anna = somebody()

    async def story(dsn: str, old: World, new: World) -> None:
        chat = old.chat(anna)
        new.copy_chat(chat, [anna], "ops", "2026-01-01T00:00:00Z")
        for _ in range(3):
            old.send(chat, anna)
        new.send(chat, anna)  # two behind
        switch = await psycopg.AsyncConnection.connect(dsn, autocommit=True)
        async with switch, Api(dsn) as api:
            assert await api.json(f"/v1/chats/{chat}/latest-seq", anna) == {"seq": 3}
            async with switch.transaction():
                await switch.execute("LOCK TABLE chat.active_projection IN ACCESS EXCLUSIVE MODE")
                await point_views(switch, 2)
                reading = asyncio.create_task(api.json(messages(chat), anna))
                await until_somebody_waits_for_a_lock(dsn)
                new.send(chat, anna)
                new.send(chat, anna)
            async with asyncio.timeout(PATIENCE_S):
                page = await reading
            assert [m["seq"] for m in page["messages"]] == [1, 2, 3]
            assert await api.json(f"/v1/chats/{chat}/latest-seq", anna) == {"seq": 3}

    async def second_version(dsn: str) -> None:
        async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
            await create_projection(connection, 2)
            await index_projection(lambda: nullcontext(connection), 2, lambda _: None)

    with read_model_database(postgres) as dsn:
        asyncio.run(second_version(dsn))
        with world_of(dsn) as old, world_of(dsn, "chat_v2") as new:
            asyncio.run(story(dsn, old, new))


async def until_somebody_waits_for_a_lock(dsn: str) -> None:
    async with await psycopg.AsyncConnection.connect(dsn, autocommit=True) as connection:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                waiting = await connection.execute(
                    "SELECT count(*) FROM pg_locks WHERE NOT granted"
                    " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
                )
                if (await waiting.fetchone() or (0,))[0]:
                    return
                await asyncio.sleep(0.005)


def test_a_read_writes_nothing_and_leaves_no_transaction_open(read_model: str, world: World) -> None:
    anna = somebody()
    chat = world.chat(anna)

    async def story(api: Api) -> None:
        await api.json(messages(chat), anna)

        def states() -> set[tuple[Any, ...]]:
            return set(
                world.sql(
                    "SELECT state FROM pg_stat_activity WHERE application_name = 'gapless-query'"
                    " AND datname = current_database()"
                )
            )

        await until(lambda: states() == {("idle",)})  # a session that the pool is opening is active for a moment

    run(read_model, story)


def test_a_database_without_a_projection_is_unavailable_and_not_an_error(database: str) -> None:
    async def story(api: Api) -> None:
        answer = await api.get("/v1/chats", somebody())
        assert answer.status_code == 503
        assert "no projection yet" in answer.json()["detail"]
        ready = await api.get("/readyz", somebody())
        assert ready.status_code == 503
        assert ready.json()["reasons"] == ["The read model has no projection yet; ask again."]

    run(database, story)


def test_what_readers_see_and_nobody_feeds_is_told_and_still_read(
    read_model: str, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    anna = somebody()
    chat = world.chat(anna)
    world.send(chat, anna)
    world.head(5, index=1)
    monkeypatch.setattr(feeding, "CHECK_EVERY_S", 0.05)
    stale = "UPDATE chat.projection_positions SET updated_at = now() - interval '100 s' WHERE partition = 5"

    async def story(api: Api) -> None:
        async def notes(expected: bool) -> list[str]:
            async with asyncio.timeout(PATIENCE_S):
                while bool(found := (await api.get("/readyz", anna)).json()["notes"]) != expected:
                    await asyncio.sleep(0.05)
            return list(found)

        async def update(statement: str) -> None:
            async with await psycopg.AsyncConnection.connect(read_model, autocommit=True) as connection:
                await connection.execute(statement.encode())

        await notes(False)
        await update(stale)
        (note,) = await notes(True)
        assert note.startswith("No projector has fed partition 5 of the serving projection for 10")
        assert REGISTRY.get_sample_value("gapless_query_partitions_not_fed") == 1
        assert (await api.get("/readyz", anna)).status_code == 200
        await api.json(messages(chat), anna)
        await update(stale.replace("100 s", "1 s"))
        await notes(False)
        assert REGISTRY.get_sample_value("gapless_query_partitions_not_fed") == 0

    world.sql("UPDATE projection_positions SET updated_at = now()")
    run(read_model, story)


def through(proxy: CuttableProxy, dsn: str) -> str:
    return make_conninfo(dsn, host="127.0.0.1", port=proxy.port)


def proxy_to(dsn: str) -> CuttableProxy:
    parts = conninfo_to_dict(dsn)
    return CuttableProxy(str(parts["host"]), int(str(parts["port"])))


async def ready(api: Api, user: UserId, expected: int) -> list[str]:
    """Wait until /readyz has the expected status, and return its reasons: dependencies are probed in the background."""
    async with asyncio.timeout(PATIENCE_S):
        while (answer := await api.get("/readyz", user)).status_code != expected:
            await asyncio.sleep(0.05)
    reasons: list[str] = answer.json()["reasons"]
    return reasons


def test_while_postgres_is_away_reads_are_503_and_recover_by_themselves(read_model: str, world: World) -> None:
    anna = somebody()
    chat = world.chat(anna)
    world.send(chat, anna)

    async def story() -> None:
        async with (
            proxy_to(read_model) as proxy,
            Api(through(proxy, read_model), acquire_timeout_s=0.5, pool_min_size=2, pool_max_size=4) as api,
        ):
            await asyncio.gather(*(api.json(messages(chat), anna) for _ in range(4)))
            await ready(api, anna, 200)
            await proxy.cut()
            for _ in range(3):
                answer = await api.get(messages(chat), anna)
                assert (answer.status_code, answer.json()["type"]) == (503, "/problems/unavailable")
                assert int(answer.headers["Retry-After"]) >= 1
                assert "127.0.0.1" not in answer.text, "nothing of how the database is reached gets out"
            assert (await ready(api, anna, 503))[0].startswith("The read model")
            await asyncio.sleep(4)  # an outage long enough for the pool's pauses to have grown
            await proxy.mend()
            mended_s = time.monotonic()
            while (await api.get(messages(chat), anna)).status_code != 200:
                assert time.monotonic() - mended_s < PATIENCE_S
            await ready(api, anna, 200)

    asyncio.run(story())


def test_a_connection_that_broke_unseen_costs_no_request(read_model: str, world: World) -> None:
    anna = somebody()
    chat = world.chat(anna)

    async def story(api: Api) -> None:
        for _ in range(3):
            await api.json(messages(chat), anna)
            ended = world.sql(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'gapless-query'"
                " AND datname = current_database()"
            )
            assert ended
            assert (await api.get(messages(chat), anna)).status_code == 200

    run(read_model, story, pool_min_size=2)


def test_a_server_that_hangs_is_answered_503_within_the_deadline(read_model: str, world: World) -> None:
    anna: UserId = somebody()
    chat = world.chat(anna)

    async def story() -> None:
        async with (
            proxy_to(read_model) as proxy,
            Api(through(proxy, read_model), read_timeout_s=0.3, acquire_timeout_s=0.5, connect_timeout_s=1.0) as api,
        ):
            await api.json(messages(chat), anna)
            await ready(api, anna, 200)  # from now on /readyz reports the result of the last probe
            proxy.stall()
            began_s = time.monotonic()
            answer = await api.get(messages(chat), anna)
            assert answer.status_code == 503
            assert time.monotonic() - began_s < 120
            (reason,) = await ready(api, anna, 503)
            # The pool's message, or the probe's if abandoning a statement takes longer than the probe may.
            assert reason in (
                "The read model did not answer in time; ask again.",
                "No answer from postgres within 3 s.",
            )
            proxy.flow()
            async with asyncio.timeout(PATIENCE_S):
                while (await api.get(messages(chat), anna)).status_code != 200:
                    pass

    asyncio.run(story())
