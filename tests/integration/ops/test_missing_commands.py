"""A partition goes on after commands were lost for good, on a real Kafka with real writers."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from schemas.topics import TopicNames, topic_specs
from services.ops.errors import UsageError
from services.ops.repair.missing_commands import CommandsFrom, decide, find_missing, go_on
from services.ops.verify.log.verify import verify_log
from services.runtime.kafka.connection import KafkaConnection
from services.runtime.kafka.topics import create_topics, delete_records
from services.runtime.settings import KafkaSettings
from services.sequencer.partition.writer import Status
from tests.support import topic_settings
from tests.support.chat_log import ANNA, ChatLog
from tests.support.forked import run_gapless
from tests.support.proving import kafka_settings, write_log
from tests.support.sequencing import Scene


def settings_of(scene: Scene) -> KafkaSettings:
    return KafkaSettings(
        bootstrap_servers=scene.kafka,
        partitions=scene.partitions,
        reply_partitions=scene.reply_partitions,
        topic_prefix=scene.names.events.removesuffix("chat.events"),
    )


@pytest.mark.parametrize(
    ("next_command", "first", "end", "asked", "expected"),
    [
        (3, 0, 3, None, None),
        (3, 3, 9, None, None),
        (0, 0, 0, None, None),
        (3, 0, 5, "end", None),  # nothing is missing: nothing is skipped
        (3, 5, 9, None, 5),
        (3, 5, 9, "end", 9),
        (3, 5, 9, 7, 7),
        (3, 5, 5, None, 5),
        (9, 0, 4, "first", 0),
        (9, 0, 4, "end", 4),
        (9, 2, 4, 3, 3),
    ],
)
def test_where_a_partition_can_go_on(
    next_command: int, first: int, end: int, asked: CommandsFrom | None, expected: int | None
) -> None:
    assert decide(next_command, first, end, asked) == expected


@pytest.mark.parametrize(
    ("next_command", "first", "end", "asked", "said"),
    [(9, 0, 4, None, "--from first"), (9, 0, 4, 5, "holds 0 to 3"), (3, 5, 9, 4, "holds 5 to 8")],
)
def test_an_operator_has_to_say_what_cannot_be_known(
    next_command: int, first: int, end: int, asked: CommandsFrom | None, said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        decide(next_command, first, end, asked)


def test_after_commands_were_deleted_undecided_the_partition_goes_on_and_the_log_is_sound(
    kafka: str, tmp_path: Path
) -> None:
    async def main() -> None:
        async with Scene.on(kafka) as scene:
            settings = settings_of(scene)
            chat = await scene.create("lost")
            first = await scene.send(chat, "decided", key="m0")
            async with scene.writer(chat.partition, state_dir=tmp_path):
                assert (await scene.outcome_of(chat.partition, first)).seq == 1
            assert await find_missing(settings, chat.partition, None) is None
            for number in range(3):
                last = await scene.send(chat, "undecided", key=f"lost-{number}")
            await delete_records(KafkaConnection.plain(kafka), scene.names.commands, {chat.partition: last})
            async with scene.writer(chat.partition, state_dir=tmp_path) as stopped:
                await stopped.until(Status.STOPPED)
                assert "skip-missing-commands" in (stopped.writer.reason or "")

            missing = await find_missing(settings, chat.partition, None)
            assert missing is not None
            assert (missing.next_command, missing.commands_from, missing.given_up) == (first + 1, last, 2)
            assert await find_missing(settings, chat.partition, None) == missing, "it only looks"
            assert await go_on(settings, missing, operator="anna@here") == missing.head.term + 1
            assert await find_missing(settings, chat.partition, None) is None, "asking again does no harm"

            repeat = await scene.send(chat, "decided", key="m0")
            again = await scene.send(chat, "undecided", key="lost-0")
            async with scene.writer(chat.partition, state_dir=tmp_path):
                assert (await scene.outcome_of(chat.partition, last)).seq == 2, "the one that was left"
                assert (await scene.outcome_of(chat.partition, repeat)).type == "command.duplicate.v1"
                assert (await scene.outcome_of(chat.partition, again)).seq == 3
            assert (await verify_log(settings)).violations == []

    asyncio.run(main())


@pytest.mark.parametrize(("asked", "decided_again", "seq"), [("first", 3, 4), ("end", 2, 3)])
def test_after_the_topic_was_made_anew_the_partition_goes_on_from_where_the_operator_says(
    kafka: str, tmp_path: Path, asked: CommandsFrom, decided_again: int, seq: int
) -> None:
    async def main() -> None:
        async with Scene.on(kafka) as scene:
            settings = settings_of(scene)
            chat = await scene.create("anew")
            for number in range(2):
                last = await scene.send(chat, "before", key=f"m{number}")
            async with scene.writer(chat.partition, state_dir=tmp_path):
                assert (await scene.outcome_of(chat.partition, last)).seq == 2
            await topic_settings.delete(kafka, scene.names.commands)
            specs = topic_specs(
                scene.names, partitions=scene.partitions, reply_partitions=scene.reply_partitions, replication_factor=1
            )
            await create_topics(KafkaConnection.plain(kafka), specs)
            await scene.send(chat, "in the new topic", key="n0")

            missing = await find_missing(settings, chat.partition, asked)
            assert missing is not None
            assert (missing.given_up, missing.decided_again) == (0, decided_again)
            await go_on(settings, missing, operator="anna@here")
            await scene.send(chat, "later", key="n1")
            async with scene.writer(chat.partition, state_dir=tmp_path):
                sent: dict[str | None, int | None] = {}
                while "n1" not in sent:
                    outcomes = [entry.outcome for entry in await scene.log(chat.partition) if entry.stamp.index]
                    sent = {each.client_generated_id: each.seq for each in outcomes}
                assert sent["n1"] == seq
                assert sent.get("n0") == (3 if asked == "first" else None)

    asyncio.run(main())


def test_the_command_says_what_is_given_up_and_does_it_only_when_told(kafka: str) -> None:
    settings, log = kafka_settings(kafka), ChatLog()
    log.open()
    log.send(log.create(ANNA, "ops"), ANNA)
    asyncio.run(write_log(settings, log))
    variables = {
        "GAPLESS_KAFKA_BOOTSTRAP": settings.bootstrap_servers,
        "GAPLESS_KAFKA_PARTITIONS": str(settings.partitions),
        "GAPLESS_KAFKA_REPLY_PARTITIONS": str(settings.reply_partitions),
        "GAPLESS_KAFKA_TOPIC_PREFIX": settings.topic_prefix,
    }

    def skip(*arguments: str) -> tuple[int, str]:
        done = run_gapless("log", "skip-missing-commands", "--partition", "0", *arguments, env=variables)
        return done.returncode, (done.stdout + done.stderr).decode()

    assert skip() == (0, "No command of partition 0 is missing; nothing was changed.\n")
    commands = f"{settings.topic_prefix}chat.commands"
    asyncio.run(topic_settings.delete(kafka, commands))
    specs = topic_specs(
        TopicNames.prefixed(settings.topic_prefix), partitions=1, reply_partitions=1, replication_factor=1
    )
    asyncio.run(create_topics(KafkaConnection.plain(kafka), specs))
    code, said = skip()
    assert (code, "--from first" in said) == (2, True), said
    code, said = skip("--from", "first")
    assert (code, "2 offsets" in said, "add --yes" in said) == (1, True, True), said
    code, said = skip("--from", "first", "--yes")
    assert (code, "Restart the sequencers" in said) == (0, True), said
    assert skip("--yes")[0] == 0, "what is so already is success"
