"""An operator changes the topics under running processes: adds partitions, switches retention or compaction on."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from subprocess import PIPE

import httpx
import pytest
from aiokafka.admin import NewPartitions

from schemas.topics import topic_specs
from schemas.wire.encoding import Encoded
from services.runtime.kafka.connection import KafkaConnection
from services.runtime.kafka.producer import Producer
from tests.crash.test_liveness import group_of
from tests.support.forked import start_gapless
from tests.support.group_members import members_of
from tests.support.sequencer_process import SequencerProcess
from tests.support.sequencing import Scene
from tests.support.topic_settings import admin, alter

PARTITIONS = 2


def environment(scene: Scene) -> dict[str, str]:
    return {
        **os.environ,
        "GAPLESS_KAFKA_BOOTSTRAP": scene.kafka,
        "GAPLESS_KAFKA_TOPIC_PREFIX": scene.names.commands.removesuffix("chat.commands"),
        "GAPLESS_KAFKA_PARTITIONS": str(scene.partitions),
        "GAPLESS_KAFKA_REPLY_PARTITIONS": str(scene.reply_partitions),
    }


async def gapless(scene: Scene, *arguments: str, **others: str) -> tuple[int | None, str, str]:
    """Run `gapless` and return its exit code, standard output and standard error."""
    process = await start_gapless(*arguments, env={**environment(scene), **others}, stdout=PIPE, stderr=PIPE)
    out, err = await asyncio.wait_for(process.communicate(), 90)
    return process.returncode, out.decode(), err.decode()


async def notes(process: SequencerProcess) -> list[str]:
    async with httpx.AsyncClient(timeout=3.0, trust_env=False, verify=False) as http:
        found: list[str] = (await http.get(f"{process.url}/readyz")).json()["notes"]
    return found


async def until_noted(process: SequencerProcess, *needles: str) -> list[str]:
    async with asyncio.timeout(60):
        while True:
            said = await notes(process)
            if all(any(needle in note for note in said) for needle in needles):
                return said
            await asyncio.sleep(0.1)


def test_partitions_that_somebody_adds_are_ignored_by_those_that_run_and_by_those_that_start(
    kafka: str, database: str, tmp_path: Path
) -> None:
    others = {"GAPLESS_POSTGRES_DSN": database, "GAPLESS_JWT_SECRET": "x" * 32, "GAPLESS_HTTP_PORT": "0"}

    async def main() -> None:
        async with (
            Scene.on(kafka, partitions=PARTITIONS) as scene,
            SequencerProcess.on(scene, tmp_path) as before,
        ):
            await before.until_ready()
            chat = await scene.create("grown")
            assert (await scene.outcome_of(chat.partition, await scene.send(chat, "1", key="k1"))).seq == 1

            names = (scene.names.commands, scene.names.events, scene.names.replies)
            async with admin(kafka) as client:
                grown = {name: NewPartitions(total_count=scene.reply_partitions + 3) for name in names}
                await client.create_partitions(grown)
            await until_noted(before, *names)
            await _put_beyond(scene)

            async with (
                SequencerProcess.on(scene, tmp_path) as after,
                SequencerProcess.on(scene, tmp_path, service="projector", **others) as projector,
                SequencerProcess.on(scene, tmp_path, service="api", **others) as api,
            ):
                for each in (before, after, projector, api):
                    await each.until_ready()
                    said = await until_noted(each, f"{scene.names.events} has")
                    assert any("is ever read or decided" in note for note in said)
                await until_noted(api, "(1 records are there)")
                series = f'gapless_topic_partitions_ignored{{topic="{scene.names.events}"}}'
                assert await after.metric(series) == scene.reply_partitions + 3 - PARTITIONS
                assert await after.metric(f'gapless_topic_faults{{topic="{scene.names.events}"}}') == 0

                given = await members_of(kafka, group_of(scene))
                assert len(given) == 2
                assert sorted(p for partitions in given.values() for p in partitions) == list(range(PARTITIONS))
                assert (await scene.outcome_of(chat.partition, await scene.send(chat, "2", key="k2"))).seq == 2

            code, out, _ = await gapless(scene, "topics", "check", "--json")
            assert code == 0
            assert any("are ignored" in note for note in json.loads(out)["notes"])
            code, out, err = await gapless(scene, "log", "verify", "--json")
            assert (code, json.loads(out)["sound"]) == (0, True), err
            more = str(scene.reply_partitions + 3)
            for advice in ({"GAPLESS_KAFKA_PARTITIONS": more}, {"GAPLESS_KAFKA_PARTITIONS": "1"}):
                code, _, err = await gapless(scene, "topics", "check", **advice)
                assert code == 1
                assert f"was written for {PARTITIONS} partitions" in err, "the log decides, not the topics"

    asyncio.run(main())


async def _put_beyond(scene: Scene) -> None:
    """Append a command to a partition outside the log, like a client that counts the topic's partitions."""
    producer = Producer(kafka=KafkaConnection.plain(scene.kafka), client_id="stranger")
    try:
        await producer.send(scene.names.commands, scene.reply_partitions, Encoded(b"key", b"{}", []), 20.0)
    finally:
        await producer.stop()


@pytest.mark.parametrize(
    ("setting", "value"), [("retention_ms", "3600000"), ("cleanup_policy", "compact"), ("retention_bytes", "1000000")]
)
def test_a_setting_that_deletes_history_is_said_at_once_by_those_that_run(
    kafka: str, database: str, tmp_path: Path, setting: str, value: str
) -> None:
    async def main() -> None:
        async with (
            Scene.on(kafka, partitions=1) as scene,
            SequencerProcess.on(scene, tmp_path) as sequencer,
            SequencerProcess.on(scene, tmp_path, service="projector", GAPLESS_POSTGRES_DSN=database) as projector,
        ):
            _, events, _ = topic_specs(
                scene.names, partitions=1, reply_partitions=scene.reply_partitions, replication_factor=1
            )
            series = f'gapless_topic_faults{{topic="{events.name}"}}'
            sentence = f"{events.name} has {setting.replace('_', '.')}={value}; alter it to "
            every = (sequencer, projector)
            for each in every:
                await each.until_ready()
                assert await each.metric(series) == 0
            await alter(kafka, events, **{setting: value})
            for each in every:
                await each.until_troubles(lambda troubles: any(sentence in t for t in troubles), sentence)
                assert await each.metric(series) == 1
            await alter(kafka, events)
            for each in every:
                await each.until_ready()
                assert await each.metric(series) == 0

    asyncio.run(main())
