from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest
from msgspec.structs import replace

from schemas.events import AcceptedOutcome, OutcomeKind
from schemas.ids import ChatId, CommandId, UserId, command_id
from schemas.log import Stamp
from schemas.wire.encoding import Command, Encoded, read_command
from schemas.wire.replies import Reply
from services.ingest.sending.dispatch import UNWATCHED_S, Dispatcher
from services.ingest.sending.pending import Pending
from services.ingest.sending.publisher import Publisher
from services.ingest.sending.replies import ReplyListener
from services.runtime.kafka.connection import KafkaConnection
from services.runtime.kafka.errors import AppendUnknown, KafkaError, KafkaUnavailable
from services.runtime.kafka.producer import Settled
from services.runtime.web.problems import Problem
from tests.support.ingest_records import StoredRecord

CHAT = ChatId("f89e858f-5f2e-5152-b188-6a52cbec990b")
SENDER = UserId("11111111-1111-4111-8111-111111111111")
COMMAND = Command(
    offset=-1,
    type="message.send.v1",
    body=b'{"text":"Hi"}',
    chat_id=CHAT,
    sender_id=SENDER,
    client_generated_id="k-1",
    command_id=CommandId("c6e6b694-c64b-5364-9024-70428ec7b06e"),
)


class Log:
    """A log that accepts appends as configured; `decided` replies like a writer that saw the record."""

    def __init__(self) -> None:
        self.records: list[tuple[int, Encoded]] = []
        self.appends: list[int] = []
        self.failure: KafkaError | None = None
        self.acknowledging = asyncio.Event()
        self.acknowledging.set()
        self.appended = asyncio.Event()

    def append(
        self, topic: str, partition: int, records: Sequence[Encoded], timeout_s: float, settled: Settled
    ) -> None:
        assert topic == "chat.commands"
        first = len(self.records)
        self.records += [(partition, record) for record in records]
        self.appends.append(len(records))
        self.appended.set()

        async def settle() -> None:
            await self.acknowledging.wait()
            settled(-1 if self.failure is not None else first, self.failure)

        self.settling = asyncio.create_task(settle())

    def decided(self, replies: ReplyListener, offset: int = 0) -> Reply:
        partition, record = self.records[offset]
        command = read_command(StoredRecord.of(record, offset=offset), partition, 8)
        assert command.reply_to is not None
        assert command.reply_to.partition == replies.partition
        outcome = Reply(
            request_id=command.reply_to.request_id,
            outcome=OutcomeKind.ACCEPTED,
            seq=1,
            position=2,
            partition=partition,
            index=offset + 1,
            command_offset=offset,
        )
        replies.hand_over(outcome)
        return outcome


def commands(count: int, text_bytes: int = 10) -> list[Command]:
    """Return commands in one chat."""
    body = b'{"text":"%s"}' % (b"x" * text_bytes)
    keys = [f"k-{n}" for n in range(count)]
    return [
        replace(COMMAND, client_generated_id=key, command_id=command_id(CHAT, SENDER, key), body=body) for key in keys
    ]


Test = Callable[[Dispatcher, Log, ReplyListener], Awaitable[None]]


def run(test: Test, *, max_appends: int = 100, max_append_bytes: int = 10_000) -> None:
    async def main() -> None:
        log = Log()
        replies = ReplyListener(
            kafka=KafkaConnection.plain(""), topic="chat.replies", reply_partitions=16, client_id="test"
        )
        publisher = Publisher(
            log,
            topic="chat.commands",
            partitions=8,
            append_timeout_s=5.0,
            max_appends=max_appends,
            max_append_bytes=max_append_bytes,
        )
        async with asyncio.timeout(120):
            await test(Dispatcher(publisher, replies), log, replies)
        assert replies.waiting == 0

    asyncio.run(main())


def test_the_reply_is_the_outcome() -> None:
    async def test(dispatcher: Dispatcher, log: Log, replies: ReplyListener) -> None:
        sending = asyncio.create_task(dispatcher.send(COMMAND, 2.0))
        await log.appended.wait()
        assert replies.waiting == 1
        expected = log.decided(replies)
        assert await sending == expected
        assert log.records[0][0] == 5  # the partition of the vector in the wire contract

    run(test)


def test_a_reply_that_comes_before_the_acknowledgement_is_kept() -> None:
    async def test(dispatcher: Dispatcher, log: Log, replies: ReplyListener) -> None:
        log.acknowledging.clear()
        sending = asyncio.create_task(dispatcher.send(COMMAND, 2.0))
        await log.appended.wait()
        expected = log.decided(replies)
        log.acknowledging.set()
        assert await sending == expected

    run(test)


def outcome_of(reply: Reply, event: str = "message.sent.v1") -> AcceptedOutcome:
    """Return the event that a reply is about."""
    return AcceptedOutcome(
        type=event, at_ms=reply.sent_at_ms or 0, body=COMMAND.body, chat_id=CHAT, sender_id=SENDER,
        position=reply.position or 0, seq=reply.seq, command_id=COMMAND.command_id, client_generated_id="k-1",
    )  # fmt: skip


def test_a_message_is_answered_from_the_log_and_its_reply_says_the_same() -> None:
    async def test(dispatcher: Dispatcher, log: Log, replies: ReplyListener) -> None:
        sending = asyncio.create_task(dispatcher.send(COMMAND, 60.0))
        await log.appended.wait()
        await log.settling
        replies.seen_in_log(5, Stamp(1, 1, 7), outcome_of(replied(log, 7, 7)))  # of another command
        replies.seen_in_log(4, Stamp(1, 1, 0), outcome_of(replied(log, 8, 8)))  # of another partition
        replies.seen_in_log(5, Stamp(1, 1, 0), outcome_of(replied(log, 9, 9), "message.edited.v1"))
        await asyncio.sleep(0)
        assert not sending.done()
        expected = replied(log, 3, 4)
        replies.seen_in_log(5, Stamp(2, expected.index, 0), outcome_of(expected))
        assert await sending == expected
        log.decided(replies)  # its reply comes later, without effect
        replies.seen_in_log(5, Stamp(2, expected.index, 0), outcome_of(expected))

    run(test)


def replied(log: Log, seq: int, position: int) -> Reply:
    """Return what a writer would reply to the first command."""
    partition, record = log.records[0]
    reply_to = read_command(StoredRecord.of(record, offset=0), partition, 8).reply_to
    assert reply_to is not None
    return Reply(
        request_id=reply_to.request_id, outcome=OutcomeKind.ACCEPTED, command_id=COMMAND.command_id, seq=seq,
        position=position, sent_at_ms=1_769_860_800_045, partition=partition, index=6, command_offset=0,
    )  # fmt: skip


def test_an_acknowledgement_that_comes_after_the_client_has_left_leaves_nothing_behind() -> None:
    async def test(dispatcher: Dispatcher, log: Log, replies: ReplyListener) -> None:
        log.acknowledging.clear()
        sending = asyncio.create_task(dispatcher.send(COMMAND, 60.0))
        await log.appended.wait()
        sending.cancel()
        await asyncio.wait({sending})
        log.acknowledging.set()
        await log.settling
        assert not replies._placed

    run(test)


def test_who_does_not_wait_is_told_where_to_ask_also_when_the_reply_was_faster() -> None:
    async def test(dispatcher: Dispatcher, log: Log, replies: ReplyListener) -> None:
        log.acknowledging.clear()
        sending = asyncio.create_task(dispatcher.send(COMMAND, 0.0))
        await log.appended.wait()
        log.decided(replies)
        log.acknowledging.set()
        assert await sending == Pending(command=COMMAND, partition=5, offset=0)
        log.acknowledging.clear()
        log.appended.clear()
        sent = commands(2)
        batch = asyncio.create_task(dispatcher.send_all(sent, 0.0))
        await log.appended.wait()
        log.decided(replies, 1)
        log.decided(replies, 2)
        log.acknowledging.set()
        assert await batch == [Pending(command=sent[n], partition=5, offset=1 + n) for n in range(2)]

    run(test)


@pytest.mark.parametrize("wait_s", [0.0, 0.02, UNWATCHED_S + 0.05])
def test_without_a_reply_in_time_the_command_is_pending_at_its_offset(wait_s: float) -> None:
    async def test(dispatcher: Dispatcher, log: Log, replies: ReplyListener) -> None:
        never = asyncio.Event()
        outcome = await dispatcher.send(COMMAND, wait_s, never.wait)
        assert outcome == Pending(command=COMMAND, partition=5, offset=0)
        log.decided(replies)  # too late, without effect

    run(test)


def test_a_late_reply_is_waited_for_while_the_client_is_there() -> None:
    async def test(dispatcher: Dispatcher, log: Log, replies: ReplyListener) -> None:
        never, watched = asyncio.Event(), asyncio.Event()

        async def client_gone() -> None:
            watched.set()
            await never.wait()

        sending = asyncio.create_task(dispatcher.send(COMMAND, 5.0, client_gone))
        await watched.wait()
        expected = log.decided(replies)
        assert await sending == expected

    run(test)


def test_a_client_that_hangs_up_leaves_no_waiter_behind() -> None:
    async def test(dispatcher: Dispatcher, log: Log, replies: ReplyListener) -> None:
        gone = asyncio.Event()
        sending = asyncio.create_task(dispatcher.send(COMMAND, 3_600.0, gone.wait))
        await log.appended.wait()
        assert replies.waiting == 1
        gone.set()
        assert isinstance(await sending, Pending)
        assert replies.waiting == 0

    run(test)


def test_a_cancelled_request_leaves_no_waiter_behind() -> None:
    async def test(dispatcher: Dispatcher, log: Log, replies: ReplyListener) -> None:
        never = asyncio.Event()
        sending = asyncio.create_task(dispatcher.send(COMMAND, 3_600.0, never.wait))
        await log.appended.wait()
        sending.cancel()
        await asyncio.wait({sending})
        assert replies.waiting == 0
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run(test)


def test_a_log_that_cannot_be_reached_is_503() -> None:
    async def test(dispatcher: Dispatcher, log: Log, replies: ReplyListener) -> None:
        log.failure = KafkaUnavailable("no broker")
        with pytest.raises(Problem) as caught:
            await dispatcher.send(COMMAND, 2.0)
        assert (caught.value.reason, caught.value.headers["Retry-After"]) == ("unavailable", "1")
        assert "not accepted" in (caught.value.detail or "")

    run(test)


def test_an_unknown_append_is_503_and_says_by_which_id_to_ask() -> None:
    async def test(dispatcher: Dispatcher, log: Log, replies: ReplyListener) -> None:
        log.failure = AppendUnknown("no acknowledgement")
        with pytest.raises(Problem) as caught:
            await dispatcher.send(COMMAND, 0.02)
        assert caught.value.reason == "unavailable"
        assert caught.value.document()["command_id"] == COMMAND.command_id

    run(test)


def test_an_unknown_append_that_was_decided_has_its_outcome() -> None:
    async def test(dispatcher: Dispatcher, log: Log, replies: ReplyListener) -> None:
        log.failure = AppendUnknown("no acknowledgement")
        sending = asyncio.create_task(dispatcher.send(COMMAND, 5.0))
        await log.appended.wait()
        expected = log.decided(replies)
        assert await sending == expected

    run(test)


@pytest.mark.parametrize("limits", [{"max_appends": 1}, {"max_append_bytes": len(COMMAND.body) + 1}])
def test_more_commands_than_fit_are_503_and_the_next_goes_when_there_is_room(limits: dict[str, int]) -> None:
    async def test(dispatcher: Dispatcher, log: Log, replies: ReplyListener) -> None:
        log.acknowledging.clear()
        first = asyncio.create_task(dispatcher.send(COMMAND, 0.0))
        await log.appended.wait()
        with pytest.raises(Problem) as caught:
            await dispatcher.send(COMMAND, 0.0)
        assert (caught.value.reason, caught.value.headers["Retry-After"]) == ("unavailable", "1")
        assert len(log.records) == 1
        log.acknowledging.set()
        await first
        assert isinstance(await dispatcher.send(COMMAND, 0.0), Pending)

    run(test, **limits)


def test_replies_of_others_and_repeated_replies_are_passed_over() -> None:
    async def test(dispatcher: Dispatcher, log: Log, replies: ReplyListener) -> None:
        replies.hand_over(
            Reply(request_id="other", outcome=OutcomeKind.ACCEPTED, partition=0, index=1, command_offset=0)
        )
        sending = asyncio.create_task(dispatcher.send(COMMAND, 2.0))
        await log.appended.wait()
        expected = log.decided(replies)
        log.decided(replies)
        assert await sending == expected

    run(test)


def test_commands_of_a_batch_are_one_append_and_each_has_its_own_outcome() -> None:
    async def test(dispatcher: Dispatcher, log: Log, replies: ReplyListener) -> None:
        sent = commands(3)
        sending = asyncio.create_task(dispatcher.send_all(sent, 2.0))
        await log.appended.wait()
        assert log.appends == [3]
        expected = [log.decided(replies, offset) for offset in (2, 0, 1)]
        assert await sending == [expected[1], expected[2], expected[0]]

    run(test)


def test_without_replies_the_commands_of_a_batch_are_pending_each_at_its_offset() -> None:
    async def test(dispatcher: Dispatcher, log: Log, replies: ReplyListener) -> None:
        sent = commands(3)
        sending = asyncio.create_task(dispatcher.send_all(sent, 0.05))
        await log.appended.wait()
        second = log.decided(replies, 1)
        pending = [Pending(command=command, partition=5, offset=offset) for offset, command in enumerate(sent)]
        assert await sending == [pending[0], second, pending[2]]
        assert await dispatcher.send_all(sent[:1], 0.0) == [Pending(command=sent[0], partition=5, offset=3)]

    run(test)


def test_a_batch_too_large_for_one_append_is_several_in_order_and_the_next_waits_for_the_one_before() -> None:
    """Five commands of 100 KB, three to an append."""

    async def test(dispatcher: Dispatcher, log: Log, replies: ReplyListener) -> None:
        log.acknowledging.clear()
        sent = commands(5, 100_000)
        sending = asyncio.create_task(dispatcher.send_all(sent, 5.0))
        await log.appended.wait()
        await asyncio.sleep(0.01)
        assert log.appends == [3]
        log.acknowledging.set()
        await log.settling
        await log.settling
        assert log.appends == [3, 2]
        expected = [log.decided(replies, offset) for offset in range(5)]
        assert await sending == expected
        ids = [dict(record.headers)["ce_id"].decode() for _, record in log.records]
        assert ids == [command.command_id for command in sent]

    run(test, max_append_bytes=1_000_000)


@pytest.mark.parametrize("failure", [AppendUnknown("no acknowledgement"), KafkaUnavailable("no broker")])
def test_behind_an_append_that_failed_nothing_of_the_batch_is_handed_over(failure: KafkaError) -> None:
    async def test(dispatcher: Dispatcher, log: Log, replies: ReplyListener) -> None:
        log.failure = failure
        unknown = isinstance(failure, AppendUnknown)
        sent = commands(5, 100_000)
        sending = asyncio.create_task(dispatcher.send_all(sent, 0.05 if unknown else 30.0))
        await log.appended.wait()
        decided = log.decided(replies, 1) if unknown else None
        outcomes = await sending
        assert log.appends == [3], "a later message would stand in the log without the earlier ones"
        problems = [outcome for outcome in outcomes if isinstance(outcome, Problem)]
        assert {problem.reason for problem in problems} == {"unavailable"}
        in_doubt = [problem.members.get("command_id") for problem in problems]
        if unknown:  # and the one that was decided all the same has its outcome
            assert outcomes[1] == decided
            assert in_doubt == [sent[0].command_id, sent[2].command_id, None, None]
        else:
            assert in_doubt == [None] * 5

    run(test, max_append_bytes=1_000_000)


def test_a_batch_that_finds_no_room_is_refused_at_once() -> None:
    async def test(dispatcher: Dispatcher, log: Log, replies: ReplyListener) -> None:
        outcomes = await dispatcher.send_all(commands(3), 3_600.0)
        assert all(isinstance(outcome, Problem) for outcome in outcomes)
        assert log.records == []

    run(test, max_appends=2)


def test_a_client_that_hangs_up_on_a_batch_leaves_no_waiter_behind() -> None:
    async def test(dispatcher: Dispatcher, log: Log, replies: ReplyListener) -> None:
        gone = asyncio.Event()
        sending = asyncio.create_task(dispatcher.send_all(commands(3), 3_600.0, gone.wait))
        await log.appended.wait()
        assert replies.waiting == 3
        gone.set()
        assert all(isinstance(outcome, Pending) for outcome in await sending)

    run(test)
