from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from schemas.bodies import Mark, canonical_body, decoder
from schemas.errors import Reason
from schemas.events import OutcomeKind
from schemas.ids import ChatId, CommandId, UserId
from schemas.wire.encoding import Command
from schemas.wire.replies import Reply
from services.ingest.sending.dispatch import ClientGone
from services.ingest.sending.pending import Pending
from services.ingest.sending.receipts import ReceiptCoalescer
from services.runtime.web.problems import Problem

CHAT = ChatId("f89e858f-5f2e-5152-b188-6a52cbec990b")
ALICE = UserId("11111111-1111-4111-8111-111111111111")
BOB = UserId("22222222-2222-4222-8222-222222222222")


def mark(up_to_seq: int, *, user: UserId = ALICE, command_type: str = "read.mark.v1") -> Command:
    return Command(
        offset=-1,
        type=command_type,
        body=canonical_body(Mark(up_to_seq=up_to_seq)),
        chat_id=CHAT,
        sender_id=user,
        command_id=CommandId(f"00000000-0000-4000-8000-{up_to_seq:012d}"),
    )


def seq_of(command: Command) -> int:
    mark: Mark = decoder(Mark)(command.body)
    return mark.up_to_seq


class Writer:
    """Decides marks as the sequencer does in a chat of `last_seq` messages, and records what it got."""

    def __init__(self, last_seq: int = 1_000) -> None:
        self.last_seq = last_seq
        self.sent: list[tuple[str | None, int]] = []
        self.waits_s: list[float] = []
        self.answering = asyncio.Event()
        self.answering.set()
        self.failure: Problem | None = None

    async def send(self, command: Command, wait_s: float, _: ClientGone | None) -> Reply | Pending:
        up_to_seq = seq_of(command)
        self.sent.append((command.sender_id, up_to_seq))
        self.waits_s.append(wait_s)
        if self.failure is not None:
            raise self.failure
        try:
            async with asyncio.timeout(wait_s):
                await self.answering.wait()
        except TimeoutError:
            return Pending(command=command, partition=0, offset=len(self.sent))
        if up_to_seq > self.last_seq:
            return reply(OutcomeKind.REJECTED, up_to_seq, reason=Reason.INVALID)
        return reply(OutcomeKind.ACCEPTED, up_to_seq)

    @property
    def seqs(self) -> list[int]:
        return [seq for _, seq in self.sent]


def reply(outcome: OutcomeKind, read_seq: int, reason: Reason | None = None) -> Reply:
    return Reply(
        request_id="r", outcome=outcome, reason=reason, read_seq=read_seq, partition=0, index=1, command_offset=0
    )


Test = Callable[[ReceiptCoalescer, Writer], Awaitable[None]]


def run(test: Test, writer: Writer | None = None, window_s: float = 0.05) -> None:
    async def main() -> None:
        deciding = writer or Writer()
        coalescer = ReceiptCoalescer(deciding.send, window_s=window_s)
        try:
            async with asyncio.timeout(120):
                await test(coalescer, deciding)
        finally:
            await coalescer.stop()
        assert coalescer.open_windows == 0

    asyncio.run(main())


def read_seq(outcome: Reply | Pending) -> int | None:
    assert isinstance(outcome, Reply)
    return outcome.read_seq


def test_the_first_mark_goes_at_once() -> None:
    async def test(coalescer: ReceiptCoalescer, writer: Writer) -> None:
        assert read_seq(await coalescer.send(mark(5), 5, 2.0)) == 5

    run(test, window_s=3_600.0)


def test_later_marks_of_the_window_travel_as_the_highest() -> None:
    async def test(coalescer: ReceiptCoalescer, writer: Writer) -> None:
        outcomes = await asyncio.gather(*(coalescer.send(mark(seq), seq, 2.0) for seq in (5, 9, 7, 8)))
        assert [read_seq(outcome) for outcome in outcomes] == [5, 9, 9, 9]
        assert writer.seqs == [5, 9]

    run(test)


def test_a_merged_mark_opens_the_next_window() -> None:
    async def test(coalescer: ReceiptCoalescer, writer: Writer) -> None:
        await asyncio.gather(coalescer.send(mark(1), 1, 2.0), coalescer.send(mark(2), 2, 2.0))
        await asyncio.gather(coalescer.send(mark(3), 3, 2.0), coalescer.send(mark(4), 4, 2.0))
        assert writer.seqs == [1, 2, 4]

    run(test)


def test_after_a_window_without_marks_the_next_goes_at_once() -> None:
    async def test(coalescer: ReceiptCoalescer, writer: Writer) -> None:
        await coalescer.send(mark(1), 1, 2.0)
        while coalescer.open_windows:
            await asyncio.sleep(0.005)
        await coalescer.send(mark(2), 2, 2.0)
        assert writer.seqs == [1, 2]

    run(test)


def test_users_and_kinds_of_mark_are_not_merged_with_each_other() -> None:
    async def test(coalescer: ReceiptCoalescer, writer: Writer) -> None:
        await asyncio.gather(
            coalescer.send(mark(1), 1, 2.0),
            coalescer.send(mark(2, user=BOB), 2, 2.0),
            coalescer.send(mark(3, command_type="delivered.mark.v1"), 3, 2.0),
        )
        assert sorted(writer.seqs) == [1, 2, 3]

    run(test, window_s=3_600.0)


def test_a_bad_mark_fails_alone() -> None:
    async def test(coalescer: ReceiptCoalescer, writer: Writer) -> None:
        first, good, bad, better = await asyncio.gather(
            *(coalescer.send(mark(seq), seq, 2.0) for seq in (5, 7, 999, 8)), return_exceptions=False
        )
        assert [read_seq(outcome) for outcome in (first, good, better)] == [5, 7, 8]
        assert isinstance(bad, Reply)
        assert bad.reason is Reason.INVALID
        assert sorted(writer.seqs) == [5, 7, 8, 999]

    run(test, Writer(last_seq=10))


def test_who_does_not_wait_is_not_merged() -> None:
    async def test(coalescer: ReceiptCoalescer, writer: Writer) -> None:
        await coalescer.send(mark(5), 5, 2.0)
        outcome = await coalescer.send(mark(6), 6, 0.0)
        assert isinstance(outcome, Reply)
        assert writer.seqs == [5, 6]

    run(test, window_s=3_600.0)


def test_whose_wait_runs_out_is_told_where_their_own_mark_stands() -> None:
    async def test(coalescer: ReceiptCoalescer, writer: Writer) -> None:
        await coalescer.send(mark(1), 1, 2.0)
        writer.answering.clear()
        low, high = await asyncio.gather(coalescer.send(mark(5), 5, 0.15), coalescer.send(mark(9), 9, 0.15))
        assert isinstance(low, Pending)
        assert isinstance(high, Pending)
        assert (seq_of(low.command), seq_of(high.command)) == (5, 9)
        assert writer.seqs[:2] == [1, 9]
        assert 5 in writer.seqs[2:]

    run(test)


def test_a_wait_shorter_than_the_window_is_kept() -> None:
    async def test(coalescer: ReceiptCoalescer, writer: Writer) -> None:
        await coalescer.send(mark(1), 1, 2.0)
        outcome = await coalescer.send(mark(5), 5, 0.02)
        assert isinstance(outcome, Reply | Pending)
        assert writer.seqs == [1, 5]

    run(test, window_s=3_600.0)


def test_a_failure_is_told_to_all_who_travelled_together() -> None:
    async def test(coalescer: ReceiptCoalescer, writer: Writer) -> None:
        await coalescer.send(mark(1), 1, 2.0)
        writer.failure = Problem("unavailable")
        outcomes = await asyncio.gather(
            *(coalescer.send(mark(seq), seq, 2.0) for seq in (5, 6)), return_exceptions=True
        )
        assert outcomes == [writer.failure, writer.failure]
        assert writer.seqs == [1, 6]

    run(test)


def test_a_mark_whose_client_left_is_sent_all_the_same() -> None:
    async def test(coalescer: ReceiptCoalescer, writer: Writer) -> None:
        await coalescer.send(mark(1), 1, 2.0)
        waiting = asyncio.create_task(coalescer.send(mark(5), 5, 2.0))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        while writer.seqs != [1, 5]:
            await asyncio.sleep(0.005)

    run(test)


def test_one_who_leaves_does_not_cancel_the_others() -> None:
    async def test(coalescer: ReceiptCoalescer, writer: Writer) -> None:
        await coalescer.send(mark(1), 1, 2.0)
        writer.answering.clear()
        leaving = asyncio.create_task(coalescer.send(mark(9), 9, 2.0))
        staying = asyncio.create_task(coalescer.send(mark(5), 5, 2.0))
        while 9 not in writer.seqs:
            await asyncio.sleep(0.005)
        leaving.cancel()
        await asyncio.wait({leaving})
        writer.answering.set()
        assert read_seq(await staying) == 9
        assert writer.seqs == [1, 9]

    run(test)
