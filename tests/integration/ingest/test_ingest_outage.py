"""Ingest while its broker is killed and returns: the answers, and that nothing acknowledged is lost or doubled."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from devstack.kafka import KafkaCluster
from tests.support.ingest_api import IngestApi, ingest_on, kafka_settings
from tests.support.sequencing import BEN, Scene


@asynccontextmanager
async def own_kafka(folder: Path) -> AsyncIterator[KafkaCluster]:
    cluster = KafkaCluster(folder)
    await cluster.start()
    try:
        yield cluster
    finally:
        await cluster.stop()


async def ready(api: IngestApi, expected: int, timeout_s: float = 60.0) -> list[str]:
    """Wait until /readyz has the expected status, and return its reasons."""
    deadline = time.monotonic() + timeout_s
    while True:
        status, reasons = await api.ready()
        if status == expected:
            return reasons
        assert time.monotonic() < deadline, f"/readyz stays {status}: {reasons}"
        await asyncio.sleep(0.1)


def test_while_the_broker_is_away_sends_are_503_and_afterwards_their_retries_are_one_message_each(
    tmp_path: Path,
) -> None:
    async def main() -> None:
        async with (
            asyncio.timeout(200),
            own_kafka(tmp_path) as cluster,
            Scene.on(cluster.bootstrap_servers, partitions=1) as scene,
            scene.writer(0),
            ingest_on(kafka_settings(scene), append_timeout_s=1.0) as api,
        ):
            chat_id = await api.create_group("Ops room", BEN)
            assert (await api.send(chat_id, "0", key="k-0")).json()["seq"] == 1

            await cluster.brokers[0].kill()
            refused = await asyncio.gather(*(api.send(chat_id, f"{n}", key=f"k-{n}", prefer=None) for n in range(1, 6)))
            for response in refused:
                assert response.status_code == 503, response.text
                assert response.json()["type"] == "/problems/unavailable"
                assert int(response.headers["retry-after"]) >= 1
            reasons = await ready(api, 503)
            assert any("Kafka" in reason for reason in reasons)

            await cluster.brokers[0].start()
            await ready(api, 200)
            seqs = []
            for n in range(6):
                deadline = time.monotonic() + 60
                while (response := await api.send(chat_id, f"{n}", key=f"k-{n}", prefer="wait=10")).status_code not in (
                    200,
                    201,
                ):
                    assert response.status_code in (202, 503), response.text
                    assert time.monotonic() < deadline, "ingest does not recover"
                    await asyncio.sleep(0.2)
                seqs.append(response.json()["seq"])
            assert sorted(seqs) == [1, 2, 3, 4, 5, 6], "each send is one message, accepted in the outage or after it"
            assert seqs[0] == 1
            assert api.service.replies.waiting == 0

    asyncio.run(main())


def test_ingest_that_started_without_its_broker_serves_as_soon_as_it_is_there(tmp_path: Path) -> None:
    async def main() -> None:
        async with (
            asyncio.timeout(200),
            own_kafka(tmp_path) as cluster,
            Scene.on(cluster.bootstrap_servers, partitions=1) as scene,
        ):
            await cluster.brokers[0].kill()
            async with ingest_on(kafka_settings(scene)) as api:
                chat = scene.group("Ops room")
                assert (await api.send(chat.chat_id, "Hi", key="k-1")).status_code == 503
                assert (await api.ready())[0] == 503
                await cluster.brokers[0].start()
                await ready(api, 200)
                async with scene.writer(0):
                    chat_id = await api.create_group("Ops room", BEN)
                    assert (await api.send(chat_id, "Hi", key="k-1")).status_code == 201

    asyncio.run(main())
