"""Every user of Postgres, through a real PgBouncer with its defaults, in both of its usual modes.

In transaction mode all clients share a few server connections, so two transactions of a session rarely run on the same
one. The database's own defaults are hostile, so a setting that is not pinned again in each transaction shows.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import pytest
from psycopg.conninfo import make_conninfo

from schemas.ids import ChatId
from services.ops.inspect.lag import projection_offsets
from services.ops.verify.projection.verify import verify_projection
from services.projector.errors import ProjectionMissing
from services.projector.following.consumer import PartitionConsumer, TopicId
from services.projector.following.prune import prune
from services.projector.following.worker import PartitionWorker
from services.projector.versions.cutover import cutover, projections
from services.projector.versions.migrations import migrate
from services.projector.versions.operators import only_one
from services.projector.versions.rebuild import rebuild
from services.projector.versions.retirement import drop
from services.runtime.health.health import Readiness
from services.runtime.postgres.pool import PostgresPool, open_pool, postgres_trouble
from services.runtime.settings import KafkaSettings, PostgresSettings
from tests.support.chat_log import ANNA, BEN, ChatLog
from tests.support.hostile import make_hostile
from tests.support.pgbouncer import needs_pgbouncer, pgbouncer
from tests.support.projection import (
    LogWriter,
    contradictions,
    log_of_its_own,
    make_topics,
    postgres_of,
    until,
)
from tests.support.read_model import Api

pytestmark = [pytest.mark.anyio, needs_pgbouncer]
TEXT = "It's \\ 日本 😀"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["session", "transaction"])
def pooled(request: pytest.FixtureRequest, database: str) -> Iterator[str]:
    """Yield the DSN of a hostile database through PgBouncer."""
    make_hostile(database)
    few = {"default_pool_size": 3} if request.param == "transaction" else {}
    with pgbouncer(database, pool_mode=request.param, **few) as dsn:
        yield dsn


@asynccontextmanager
async def feeding(kafka: KafkaSettings, pool: PostgresPool, readiness: Readiness) -> AsyncIterator[None]:
    consumer = PartitionConsumer(version=1, partition=0, pool=pool, kafka=kafka, topic=TopicId(kafka))
    worker = PartitionWorker(consumer, readiness=readiness, max_batch_records=500, backoff_max_s=0.5)
    task = asyncio.create_task(worker.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])


async def test_everything_works_as_without_one(kafka: str, pooled: str) -> None:
    settings, log = log_of_its_own(kafka), ChatLog()
    postgres = postgres_of(pooled)
    await make_topics(settings, commands=True)
    log.open()
    chat = log.create(ANNA, "ops 日本", [BEN])
    log.send(chat, ANNA, TEXT, metadata={"k": TEXT})
    async with LogWriter(settings, log) as writer, open_pool(postgres, application_name="t", autocommit=True) as pool:
        async with pool.connection() as connection:
            assert connection.pooled
            await migrate(connection)
        readiness = Readiness()
        async with feeding(settings, pool, readiness), Api(pooled) as one, Api(pooled) as another:
            for n in range(30):  # small batches, with reads of two processes all the time
                log.send(chat, BEN, TEXT)
                log.read(chat, ANNA, n + 1)
                await writer.flush()
                await asyncio.gather(*(_reads(api, chat) for api in (one, another) for _ in range(4)))
            for _ in range(40):  # and a large one, by COPY
                log.send(chat, ANNA, TEXT)
            end = await writer.flush()

            async def reached() -> bool:
                async with projection_offsets(postgres) as positions:
                    return (await positions()).get("v1", {}).get(0) == end

            await until(reached, "the end of the log in the tables")
            assert (await readiness.report()).ready
            page = await one.json(f"/v1/chats/{chat}/messages", BEN, limit=200)
            assert [m["text"] for m in page["messages"]] == [TEXT] * 71
            assert (await one.json(f"/v1/chats/{chat}/messages/71", BEN))["sent_at"].endswith("Z")
            assert (await another.json("/v1/chats", ANNA))["items"][0]["name"] == "ops 日本"
            assert await postgres_trouble(pool, writes=True) is None
        async with pool.connection() as connection:
            assert await contradictions(connection, "chat_v1") == []
            assert await prune(connection, 1, 0, datetime(2020, 1, 1, tzinfo=UTC)) == 0
        await _replay(settings, postgres)


async def _reads(api: Api, chat: ChatId) -> None:
    page = await api.get(f"/v1/chats/{chat}/messages", ANNA)
    assert page.status_code in (200, 404), page.text  # 404: the chat itself is still on its way
    chats = await api.get("/v1/chats", BEN)
    assert chats.status_code == 200, chats.text


async def _replay(kafka: KafkaSettings, postgres: PostgresSettings) -> None:
    await rebuild(2, kafka=kafka, postgres=postgres, processes=1)
    report = await verify_projection(kafka, postgres, version="v2")
    assert report.equal, report.differences
    assert (await cutover(2, kafka=kafka, postgres=postgres)).to_version == 2
    async with only_one(postgres, 1, command="gapless projection rebuild --to v1"):
        with pytest.raises(ProjectionMissing, match=r"another process is changing v1: .* runs `.* rebuild --to v1`"):
            await drop(1, postgres=postgres)
    await drop(1, postgres=postgres)  # the lock was released with its connection
    assert [projection.version for projection in await projections(postgres=postgres)] == [2]


@pytest.mark.parametrize("mode", ["session", "transaction"])
async def test_a_rebuild_that_was_cut_off_leaves_no_lock_in_the_pooler(database: str, mode: str) -> None:
    with pgbouncer(database, pool_mode=mode) as dsn:
        postgres = postgres_of(dsn)
        holding = only_one(postgres, 2, command="a rebuild")
        connection = await holding.__aenter__()
        connection.pgconn.finish()  # as when the process dies

        async def free() -> bool:
            try:
                async with only_one(postgres, 2, command="a rebuild"):
                    return True
            except ProjectionMissing:
                return False

        await until(free, "the lock of a rebuild whose connection is gone")


async def test_what_the_pooler_refuses_is_said_on_readyz(database: str) -> None:
    with pgbouncer(database, pool_mode="session") as dsn:
        with_options = make_conninfo(dsn, options="-c work_mem=8MB")
        async with Api(with_options) as api, open_pool(postgres_of(with_options), application_name="t") as pool:

            async def said() -> bool:
                of_query = (await api.get("/readyz", ANNA)).json()["reasons"]
                sentence = "Postgres refuses the connection: unsupported startup parameter: options."
                return of_query == [sentence] and await postgres_trouble(pool, timeout_s=0.2) == sentence

            await until(said, "the pooler's reason on readyz")
