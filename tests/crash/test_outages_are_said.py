"""Idle processes of every kind report within seconds that Kafka is gone, and when it is back."""

from __future__ import annotations

import asyncio
from pathlib import Path

import httpx

from devstack.kafka import KafkaCluster
from tests.support.sequencer_process import SequencerProcess
from tests.support.sequencing import Scene

GAUGE = 'gapless_dependency_reachable{dependency="kafka"}'
LINES = 60
"""Limit of log lines per process and outage: some of each library, one or two of each of our events. Unlimited:
300/s.
"""


def test_every_idle_process_says_that_kafka_is_gone_and_when_it_is_back(tmp_path: Path, database: str) -> None:
    others = {"GAPLESS_POSTGRES_DSN": database, "GAPLESS_JWT_SECRET": "x" * 32, "GAPLESS_HTTP_PORT": "0"}

    async def main() -> None:
        cluster = KafkaCluster(tmp_path / "kafka")
        await cluster.start()
        try:
            async with (
                Scene.on(cluster.bootstrap_servers, partitions=2) as scene,
                SequencerProcess.on(scene, tmp_path) as sequencer,
                SequencerProcess.on(scene, tmp_path, service="projector", **others) as projector,
                SequencerProcess.on(scene, tmp_path, service="api", **others) as api,
            ):
                every = (sequencer, projector, api)
                await asyncio.gather(*(each.until_ready() for each in every))
                for each in every:
                    assert await each.metric(GAUGE) == 1
                lines = {each.url: len(each.said.splitlines()) for each in every}

                await cluster.brokers[0].kill()
                await asyncio.gather(*(each.until_troubles(_speak_of_kafka, "it says so") for each in every))
                for each in every:
                    assert await each.metric(GAUGE) == 0
                    assert await each.status("/healthz") == httpx.codes.OK

                await cluster.brokers[0].start()
                await asyncio.gather(*(each.until_ready() for each in every))
                for each in every:
                    assert await each.metric(GAUGE) == 1
                    said = [line for line in each.said.splitlines() if '"dependency"' in line and '"kafka"' in line]
                    events = [next(e for e in ("unreachable", "reachable") if f"dependency.{e}" in s) for s in said]
                    assert events == ["unreachable", "reachable"], said
                    written = each.said.splitlines()[lines[each.url] :]
                    assert len(written) < LINES, "\n".join(written)
        finally:
            await cluster.stop()

    asyncio.run(main())


def _speak_of_kafka(troubles: list[str]) -> bool:
    return any(trouble.startswith("Kafka cannot be reached at ") for trouble in troubles)
