"""The probe of Kafka against a real broker, none, one that hangs, and partitions without a leader."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from devstack.ports import choose_ports
from services.runtime.health.dependencies import PROBE_TIMEOUT_S, ProbeResult
from services.runtime.kafka.connection import KafkaConnection
from services.runtime.kafka.probe import KafkaProbe
from tests.support.sequencing import Scene


async def answers(
    servers: str, topic: str, partitions: Collection[int], *, all_needed: bool = True, group_id: str | None = None
) -> list[ProbeResult]:
    """Run one probe twice: the second time its client already exists, or was dropped."""
    probe = KafkaProbe(
        kafka=KafkaConnection.plain(servers),
        client_id="test",
        partitions=lambda: {topic: partitions},
        group_id=group_id,
        all_needed=all_needed,
    )
    try:
        return [await probe(), await probe()]
    finally:
        await probe.close()


def test_leaders_that_answer_and_a_group_with_a_coordinator_are_no_trouble(kafka: str) -> None:
    async def main() -> None:
        async with Scene.on(kafka, partitions=2) as scene:
            # The first group of a broker waits until its coordinator is created.
            async with asyncio.timeout(60):
                while await answers(kafka, scene.names.events, (0, 1), group_id="g") != [ProbeResult(), ProbeResult()]:
                    await asyncio.sleep(0.1)
            assert await answers(kafka, scene.names.events, ()) == [ProbeResult(), ProbeResult()], "any broker will do"

    asyncio.run(main())


def test_partitions_without_a_leader_are_named_and_for_some_services_only_noted(kafka: str) -> None:
    async def main() -> None:
        async with Scene.on(kafka, partitions=2) as scene:
            said = f"Kafka does not serve partitions 7, 9 of {scene.names.events} (no leader)."
            events = scene.names.events
            assert await answers(kafka, events, (0, 7, 9)) == 2 * [ProbeResult(trouble=said)]
            assert await answers(kafka, events, (0, 7, 9), all_needed=False) == 2 * [ProbeResult(note=said)]
            assert await answers(kafka, events, (7, 9), all_needed=False) == 2 * [ProbeResult(trouble=said)]

    asyncio.run(main())


def test_a_broker_that_is_not_there_cannot_be_reached() -> None:
    async def main() -> None:
        (port,) = choose_ports(1)
        for answer in await answers(f"127.0.0.1:{port}", "chat.events", (0,)):
            assert answer.trouble is not None
            assert answer.trouble.startswith(f"Kafka cannot be reached at 127.0.0.1:{port} (")

    asyncio.run(main())


def test_a_broker_that_hangs_is_given_up_and_the_others_are_asked(kafka: str) -> None:
    async def main() -> None:
        async def hang(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
            await reader.read()

        async with Scene.on(kafka, partitions=1) as scene, await asyncio.start_server(hang, "127.0.0.1", 0) as hanging:
            address = f"127.0.0.1:{hanging.sockets[0].getsockname()[1]}"
            async with asyncio.timeout(4 * PROBE_TIMEOUT_S):
                for answer in await answers(address, scene.names.events, (0,)):
                    assert answer.trouble is not None
                    assert answer.trouble.startswith(f"Kafka cannot be reached at {address}")
                assert await answers(f"{address},{kafka}", scene.names.events, (0,)) == [ProbeResult(), ProbeResult()]

    asyncio.run(main())
