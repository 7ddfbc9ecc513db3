"""`log verify` on a real Kafka: a sound log passes, and faults that only both topics together show are named.

Each single rule is tested in tests/unit/ops/test_log_checks.py, on the same records.
"""

from __future__ import annotations

import asyncio
import struct
import time
from collections.abc import Callable

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.record._crc32c import crc
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from schemas.bodies import MessageSend
from schemas.events import OtherOutcome
from schemas.log import Stamp
from schemas.types import CommandType, EventType
from schemas.wire.encoding import encode_outcome, event_source
from services.ops.errors import UsageError
from services.ops.verify.log.verify import LogReport, verify_log
from services.runtime.kafka.connection import KafkaConnection
from services.runtime.kafka.topics import delete_records
from services.runtime.settings import KafkaSettings
from tests.support.chat_log import ANNA, BEN, ChatLog, conversation
from tests.support.proving import append, create_log, kafka_settings, write_log


def verified(bootstrap_servers: str, *logs: ChatLog) -> LogReport:
    settings = kafka_settings(bootstrap_servers, partitions=len(logs))

    async def scenario() -> LogReport:
        await write_log(settings, *logs)
        return await verify_log(settings)

    return asyncio.run(scenario())


def new_log(partition: int = 0, partitions: int = 1) -> ChatLog:
    log = ChatLog(partition=partition, partitions=partitions)
    log.open()
    conversation(log)
    return log


def test_a_sound_log_of_several_partitions_is_counted_and_compared_whole(kafka: str) -> None:
    logs = [new_log(partition, 3) for partition in range(3)]
    report = verified(kafka, *logs)
    assert report.violations == []
    assert report.sound
    for log, seen in zip(logs, report.partitions, strict=True):
        assert (seen.counts.records, seen.end_offset) == (len(log.events), len(log.events))
        assert seen.commands_compared == len(log.commands) == seen.counts.outcomes
        assert (seen.counts.terms, seen.term, seen.chats) == (2, 2, 1)


def test_faults_are_named_by_partition_and_offset(kafka: str) -> None:
    logs = [new_log(partition, 2) for partition in range(2)]
    chat = logs[1].create(ANNA, logs[1].name_here(ANNA, "damaged"))
    logs[1].accept(logs[1].command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="a")), seq=5)
    offset = len(logs[1].events) - 1
    logs[1].accept(logs[1].command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="a")), seq=6, sender_id=BEN)
    report = verified(kafka, *logs)
    assert {(f.partition, f.offset, f.rule) for f in report.violations} == {
        (1, offset, "seq"), (1, offset + 1, "not_member"), (1, offset + 1, "identity"),
        (1, offset + 1, "command_identity"),
    }  # fmt: skip
    assert report.violation_count == 4


def a_command_passed_over(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops again")
    log.command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="never answered"))
    log.send(chat, ANNA)


def an_answer_to_nothing(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops again")
    sent = log.command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="a"))
    log.commands.pop()
    log.accept(sent)


def an_answer_to_another(log: ChatLog) -> None:
    chat = log.create(ANNA, "ops again")
    log.command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="a"))
    other = log.command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="b"))
    log.index += 1
    log.accept(other, stamp=Stamp(log.term, log.index, other.offset - 1))


@pytest.mark.parametrize(
    ("plant", "rule"),
    [
        (a_command_passed_over, "skipped"),
        (an_answer_to_nothing, "no_command"),
        (an_answer_to_another, "command_identity"),
    ],
)
def test_what_the_commands_show_is_named(kafka: str, plant: Callable[[ChatLog], None], rule: str) -> None:
    log = new_log()
    plant(log)
    report = verified(kafka, log)
    assert {violation.rule for violation in report.violations} == {rule}
    assert {violation.offset for violation in report.violations} == {len(log.events) - 1}


def test_undecided_commands_at_the_end_are_no_fault(kafka: str) -> None:
    log = new_log()
    chat = log.create(ANNA, "ops again")
    log.command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="on its way"))
    assert verified(kafka, log).sound


def test_trimmed_commands_are_not_missed(kafka: str) -> None:
    log = new_log()
    settings = kafka_settings(kafka)

    async def scenario() -> LogReport:
        names = await write_log(settings, log)
        await delete_records(KafkaConnection.plain(kafka), names.commands, {0: len(log.commands) - 2})
        return await verify_log(settings)

    report = asyncio.run(scenario())
    assert report.sound, report.violations
    assert report.partitions[0].commands_compared == 2


def test_void_records_are_counted_and_are_no_fault(kafka: str) -> None:
    log = new_log()
    late = OtherOutcome(type=EventType.MESSAGE_SENT, at_ms=log.at_ms, body=b"{}", position=1, seq=1)
    log.append(encode_outcome(late, Stamp(1, log.index + 1, 10_000), event_source(0)))
    log.append(log.events[3].encoded())
    report = verified(kafka, log)
    assert report.sound
    assert report.partitions[0].counts.void == 2


def test_an_import_starts_the_commands_anew(kafka: str) -> None:
    """After it the commands are in another topic: earlier outcomes are not compared with them."""
    old, settings = new_log(), kafka_settings(kafka)
    new = ChatLog()
    new.events, new.term, new.index, new.at_ms = old.events, old.term, old.index, old.at_ms
    new.open(commands_from=0)
    new.create(ANNA, "after the import")

    async def scenario() -> LogReport:
        names = await create_log(settings)
        await append(settings, names.commands, 0, new.commands)
        await append(settings, names.events, 0, new.events)
        return await verify_log(settings)

    report = asyncio.run(scenario())
    assert report.sound, report.violations
    assert report.partitions[0].commands_compared == 1


def test_a_log_whose_beginning_is_gone_is_a_fault(kafka: str) -> None:
    log, settings = new_log(), kafka_settings(kafka)

    async def scenario() -> LogReport:
        names = await write_log(settings, log)
        await delete_records(KafkaConnection.plain(kafka), names.events, {0: 3})
        return await verify_log(settings)

    assert [violation.rule for violation in asyncio.run(scenario()).violations] == ["log_start"]


async def append_undecodable(settings: KafkaSettings, topic: str) -> None:
    """Append a record that aiokafka cannot parse: its header key is not UTF-8, but its checksum is right."""
    producer = AIOKafkaProducer(bootstrap_servers=settings.bootstrap_servers)
    await producer.start()
    try:
        builder = DefaultRecordBatchBuilder(
            magic=2, compression_type=0, is_transactional=0, producer_id=-1, producer_epoch=-1, base_sequence=-1,
            batch_size=10_000,
        )  # fmt: skip
        builder.append(0, timestamp=int(time.time() * 1000), key=b"k", value=b"{}", headers=[("zz", b"1")])
        raw = bytearray(builder.build())
        at = raw.index(b"zz")
        raw[at : at + 2] = b"\xff\xfe"
        raw[17:21] = struct.pack(">I", crc(bytes(raw[21:])))
        batch = producer.create_batch()
        batch.append(key=b"k", value=b"{}", timestamp=0, headers=[("zz", b"1")])
        batch.close()
        batch._buffer = raw
        await asyncio.wait_for(await producer.send_batch(batch, topic, partition=0), 120)
    finally:
        await producer.stop()


def test_an_undecodable_event_stops_its_partition_and_the_others_go_on(kafka: str) -> None:
    logs, settings = [new_log(partition, 2) for partition in range(2)], kafka_settings(kafka, partitions=2)

    async def scenario() -> LogReport:
        names = await write_log(settings, *logs)
        await append_undecodable(settings, names.events)
        return await verify_log(settings)

    report = asyncio.run(scenario())
    assert [(f.partition, f.offset, f.rule) for f in report.violations] == [(0, len(logs[0].events), "corrupt")]
    assert report.partitions[1].counts.records == len(logs[1].events)


def test_an_undecodable_command_must_have_been_rejected(kafka: str) -> None:
    """If it was rejected, as malformed and without any identity, there is no violation."""
    log, settings = new_log(), kafka_settings(kafka)
    chat = log.create(ANNA, "ops again")

    async def scenario(*, rejected: bool) -> LogReport:
        names = await create_log(settings)
        await append(settings, names.commands, 0, log.commands)
        await append_undecodable(settings, names.commands)
        command = log.command(CommandType.MESSAGE_SEND, chat, ANNA, MessageSend(text="a"))
        body = b'{"reason":"malformed","detail":"the record cannot be decoded"}'
        if rejected:
            log.answer(
                command, EventType.REJECTED, body, key=None, chat_id=None, command_id=None, client_generated_id=None,
                sender_id=None,
            )  # fmt: skip
        else:
            log.accept(command)
        await append(settings, names.events, 0, log.events)
        return await verify_log(settings)

    assert asyncio.run(scenario(rejected=True)).sound
    log, settings = new_log(), kafka_settings(kafka)
    chat = log.create(ANNA, "ops again")
    report = asyncio.run(scenario(rejected=False))
    assert "must_reject" in {violation.rule for violation in report.violations}


def test_a_wrong_number_of_partitions_is_refused(kafka: str) -> None:
    settings = kafka_settings(kafka, partitions=2)

    async def scenario() -> None:
        await create_log(settings)
        await verify_log(settings.model_copy(update={"partitions": 1}))

    with pytest.raises(UsageError, match="has 2 partitions"):
        asyncio.run(scenario())


def test_a_log_that_is_not_there_is_refused(kafka: str) -> None:
    with pytest.raises(UsageError, match="gapless topics create"):
        asyncio.run(verify_log(kafka_settings(kafka)))
