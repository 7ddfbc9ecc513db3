"""Every record put straight into chat.commands is answered, and the next good command is sequenced."""

from __future__ import annotations

import asyncio

import pytest
from aiokafka.errors import MessageSizeTooLargeError

from schemas.events import OutcomeKind
from schemas.wire.encoding import Encoded
from tests.support.poison import ACCEPTED, REJECTED, TEXT, headers, put_undecodable
from tests.support.sequencing import Scene


def test_every_bad_record_is_rejected_with_its_reason_and_the_next_good_one_is_sequenced(kafka: str) -> None:
    async def main() -> None:
        async with Scene.on(kafka) as scene:
            chat = await scene.create("bad input")
            async with scene.writer(chat.partition):
                good = 0
                for i, (name, (poison, reason)) in enumerate(REJECTED.items()):
                    offset = await scene.put(chat.partition, poison(chat, f"bad-{i}"))
                    next_good = await scene.send(chat, f"after {name}", key=f"good-{i}")
                    assert await scene.reason_of(chat.partition, offset) == reason, name
                    good += 1
                    assert (await scene.outcome_of(chat.partition, next_good)).seq == good, name
                for i, (name, odd) in enumerate(ACCEPTED.items()):
                    offset = await scene.put(chat.partition, odd(chat, f"odd-{i}"))
                    good += 1
                    outcome = await scene.outcome_of(chat.partition, offset)
                    assert outcome.seq == good, name
                    assert outcome.traceparent is None, name

    asyncio.run(main())


def test_a_command_in_another_partition_is_refused_there_and_its_chat_lives_once(kafka: str) -> None:
    async def main() -> None:
        async with Scene.on(kafka) as scene:
            chat = await scene.create("here")
            elsewhere = (chat.partition + 1) % scene.partitions
            async with scene.writer(chat.partition), scene.writer(elsewhere):
                offset = await scene.put(elsewhere, Encoded(chat.chat_id.encode(), TEXT, headers(chat, "k")))
                assert await scene.reason_of(elsewhere, offset) == "wrong_partition"
                at_home = await scene.send(chat, "x", key="k")
                assert (await scene.outcome_of(chat.partition, at_home)).seq == 1

    asyncio.run(main())


def test_a_forged_mark_does_not_use_up_the_key_of_another(kafka: str) -> None:
    """A receipt's ce_id is not checked; if it has a ce_clientid too, it must not be remembered as that command."""

    async def main() -> None:
        async with Scene.on(kafka) as scene:
            chat = await scene.create("forged")
            async with scene.writer(chat.partition):
                await scene.outcome_of(chat.partition, await scene.send(chat, "first", key="m1"))
                mark = headers(chat, "mine", "read.mark.v1")
                await scene.put(chat.partition, Encoded(chat.chat_id.encode(), b'{"up_to_seq":1}', mark))
                mine = await scene.send(chat, "mine", key="mine")
                assert (await scene.outcome_of(chat.partition, mine)).seq == 2

    asyncio.run(main())


def test_a_plain_producer_that_writes_by_the_wire_contract_is_sequenced_in_every_codec(kafka: str) -> None:
    async def main() -> None:
        async with Scene.on(kafka) as scene:
            chat = await scene.create("plain")
            async with scene.writer(chat.partition):
                for seq, codec in enumerate((None, "gzip", "snappy", "lz4", "zstd"), start=1):
                    async with scene.plain_producer(compression_type=codec) as producer:
                        sent = await producer.send_and_wait(
                            scene.names.commands,
                            value=TEXT,
                            key=chat.chat_id.encode(),
                            headers=headers(chat, f"codec-{codec}"),
                            partition=chat.partition,
                        )
                    outcome = await scene.outcome_of(chat.partition, sent.offset)
                    assert (outcome.type, outcome.seq) == ("message.sent.v1", seq)
                    assert outcome.body == TEXT, "the body passes through untouched"

    asyncio.run(main())


def test_bombs_are_refused_by_the_broker_and_the_partition_goes_on(kafka: str) -> None:
    async def main() -> None:
        async with Scene.on(kafka) as scene:
            chat = await scene.create("bombs")
            big = {"max_request_size": 80_000_000, "max_batch_size": 80_000_000}
            async with scene.writer(chat.partition):
                bomb = b'{"text":"' + b"x" * 50_000_000 + b'"}'
                for value, key, codec in (
                    (bomb, chat.chat_id.encode(), "gzip"),
                    (TEXT, b"k" * 900_000, None),
                ):
                    async with scene.plain_producer(compression_type=codec, **big) as producer:
                        with pytest.raises(MessageSizeTooLargeError):
                            await producer.send_and_wait(
                                scene.names.commands, value=value, key=key, partition=chat.partition
                            )
                good = await scene.send(chat, "after the bombs", key="good")
                assert (await scene.outcome_of(chat.partition, good)).seq == 1

    asyncio.run(main())


def test_a_record_that_the_client_cannot_decode_is_answered_and_passed(kafka: str) -> None:
    """A header key that is not UTF-8 always raises in aiokafka's parser; the commands around it are not lost."""

    async def main() -> None:
        async with Scene.on(kafka) as scene:
            chat = await scene.create("undecodable")
            before = await scene.send(chat, "before", key="before")
            bad = await put_undecodable(kafka, scene.names.commands, chat.partition)
            after = await scene.send(chat, "after", key="after")
            async with scene.writer(chat.partition):
                assert (await scene.outcome_of(chat.partition, before)).seq == 1
                assert await scene.reason_of(chat.partition, bad) == "malformed"
                assert (await scene.outcome_of(chat.partition, after)).seq == 2
                live = await put_undecodable(kafka, scene.names.commands, chat.partition)
                assert await scene.reason_of(chat.partition, live) == "malformed"

    asyncio.run(main())


def test_the_answer_of_a_command_reaches_its_reply_partition(kafka: str) -> None:
    async def main() -> None:
        async with Scene.on(kafka) as scene:
            chat = await scene.create("replies")
            async with scene.writer(chat.partition):
                record = Encoded(chat.chat_id.encode(), TEXT, [*headers(chat, "r"), ("ce_replyto", b"1/request-7")])
                first = await scene.put(chat.partition, record)
                repeat = await scene.put(chat.partition, record)
                await scene.answers(1, repeat)
            replies = {r.command_offset: r for r in await scene.replies(1)}
            assert replies[first].outcome is OutcomeKind.ACCEPTED
            assert replies[repeat].outcome is OutcomeKind.DUPLICATE
            assert (replies[repeat].seq, replies[repeat].position, replies[repeat].sent_at_ms) == (
                replies[first].seq,
                replies[first].position,
                replies[first].sent_at_ms,
            )
            assert replies[first].request_id == "request-7"

    asyncio.run(main())
