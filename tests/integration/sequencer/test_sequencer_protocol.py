"""The log protocol on a real broker: two writers, late and unknown appends, lost states, logs that must not go on."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from uuid import uuid4

import pytest
from msgspec.structs import replace

from schemas import ids
from schemas.bodies import Mark, MemberAdd, MemberRemove, MessageSend
from schemas.events import OtherOutcome, TermOpened, encode_term_opened
from schemas.ids import CommandId, UserId
from schemas.log import Stamp, Verdict
from schemas.wire.encoding import ReplyTo, encode_outcome, event_source, opening_outcome
from schemas.wire.records import command_key
from services.runtime.kafka.connection import KafkaConnection
from services.runtime.kafka.errors import AppendUnknown
from services.runtime.kafka.topics import delete_records, topic_id
from services.sequencer.partition.writer import Status
from services.sequencer.ports import LogAppender, LogReader, Logs, OutcomeBatch
from services.sequencer.rules.state import Chat as ChatHead
from services.sequencer.rules.state import StateChanges
from services.sequencer.store.rocks import RocksStore
from services.sequencer.trimming import Trimmer
from tests.support.sequencing import ANNA, BEN, Chat, Scene, until


class Troubled:
    """Real logs with an appender that treats each append after the opening as the test says."""

    def __init__(self, inner: Logs) -> None:
        self._inner = inner
        self.hold: asyncio.Event | None = None
        self.holding = asyncio.Event()
        self.lose_acknowledgement = False
        self.never_send = False

    async def events_topic_id(self) -> str:
        return await self._inner.events_topic_id()

    async def read_events(self, offset: int, *, patient: bool = False) -> LogReader:
        return await self._inner.read_events(offset, patient=patient)

    async def read_commands(self, offset: int) -> LogReader:
        return await self._inner.read_commands(offset)

    async def append_events(self) -> LogAppender:
        return _TroubledAppender(self, await self._inner.append_events())


class _TroubledAppender:
    def __init__(self, troubles: Troubled, inner: LogAppender) -> None:
        self._troubles = troubles
        self._inner = inner
        self._opened = False

    def new_batch(self) -> OutcomeBatch:
        return self._inner.new_batch()

    async def append(self, batch: OutcomeBatch, timeout_s: float) -> int:
        troubles = self._troubles
        if not self._opened:  # a term's first append is its opening
            self._opened = True
            return await self._inner.append(batch, timeout_s)
        if troubles.hold is not None:
            troubles.holding.set()
            await troubles.hold.wait()
        if troubles.never_send:
            troubles.never_send = False
            raise AppendUnknown("by the test, not sent")
        offset = await self._inner.append(batch, timeout_s)
        if troubles.lose_acknowledgement:
            troubles.lose_acknowledgement = False
            raise AppendUnknown("by the test, sent")
        return offset

    async def discard(self) -> bool:
        return await self._inner.discard()

    async def stop(self) -> None:
        await self._inner.stop()


async def _send_answered(scene: Scene, chat: Chat, text: str, key: str) -> int:
    return await scene.command(
        chat, "message.send.v1", MessageSend(text=text), key=key, reply_to=ReplyTo(0, f"req-{uuid4().hex[:8]}")
    )


async def _assert_one_log(scene: Scene, chat: Chat, messages: int) -> None:
    """Check that indexes and seqs are dense, and that each command was answered once and in order."""
    valid = [e for e in await scene.log(chat.partition) if e.verdict is Verdict.VALID]
    assert [e.stamp.index for e in valid] == list(range(1, len(valid) + 1))
    offsets = [e.stamp.command_offset for e in valid]
    assert offsets == sorted(set(offsets))
    seqs = [e.outcome.seq for e in valid if e.outcome.type == "message.sent.v1"]
    assert seqs == list(range(1, messages + 1))


def test_a_zombies_append_is_void_and_nobody_was_told_of_it(kafka: str) -> None:
    """Two writers both believe that they own the partition; the old one has an append pending when the new one
    opens.
    """

    async def main() -> None:
        async with Scene.on(kafka) as scene:
            chat = await scene.create("zombie")
            troubles: list[Troubled] = []

            def trouble(inner: Logs) -> Logs:
                troubles.append(Troubled(inner))
                return troubles[0]

            async with scene.writer(chat.partition, logs=trouble, assignment_timeout_s=30) as old:
                await old.until(Status.SERVING)
                await scene.outcome_of(chat.partition, await scene.send(chat, "first", key="m1"))
                troubles[0].hold = asyncio.Event()
                pending = await _send_answered(scene, chat, "pending", "m2")
                await troubles[0].holding.wait()
                async with scene.writer(chat.partition) as new:
                    await new.until(Status.SERVING)
                    assert (await scene.outcome_of(chat.partition, pending)).seq == 2
                    told = await scene.answers(0, pending)
                    troubles[0].hold.set()
                    await old.until(Status.SUPERSEDED)
                    await scene.outcome_of(chat.partition, await scene.send(chat, "after", key="m3"))
                    voids = [e for e in await scene.log(chat.partition) if e.verdict is Verdict.VOID]
                    assert [e.outcome.command_id for e in voids], "the zombie's batch is in the log, and void"
                    assert await scene.answers(0, pending) == told, "the zombie told nobody"
                    assert len(told) == 1
                await _assert_one_log(scene, chat, messages=3)

    asyncio.run(main())


@pytest.mark.parametrize("landed", [True, False])
def test_an_unknown_append_is_never_retried_on_top_and_the_command_is_decided_once(kafka: str, landed: bool) -> None:
    async def main() -> None:
        async with Scene.on(kafka) as scene:
            chat = await scene.create("unknown")
            troubles: list[Troubled] = []

            def trouble(inner: Logs) -> Logs:
                troubles.append(Troubled(inner))
                return troubles[0]

            async with scene.writer(chat.partition, logs=trouble) as running:
                await running.until(Status.SERVING)
                await scene.outcome_of(chat.partition, await scene.send(chat, "first", key="m1"))
                if landed:
                    troubles[0].lose_acknowledgement = True
                else:
                    troubles[0].never_send = True
                lost = await _send_answered(scene, chat, "lost", "m2")
                assert (await scene.outcome_of(chat.partition, lost)).seq == 2
                repeat = await _send_answered(scene, chat, "lost", "m2")
                outcome = await scene.outcome_of(chat.partition, repeat)
                assert outcome.type == "command.duplicate.v1"
                terms = {e.stamp.term for e in await scene.log(chat.partition)}
                assert len(terms) == 2, "an unknown result ends the term"
                if landed:
                    assert not [r for r in await scene.replies(0) if r.command_offset == lost]
                await _assert_one_log(scene, chat, messages=2)

    asyncio.run(main())


def test_a_batch_behind_anothers_void_record_is_judged_by_the_rule_and_told(kafka: str) -> None:
    """The second branch of step 6: acknowledged at a later offset than expected, but valid."""

    async def main() -> None:
        async with Scene.on(kafka) as scene:
            chat = await scene.create("fold branch")
            async with scene.writer(chat.partition) as running:
                await running.until(Status.SERVING)
                await scene.outcome_of(chat.partition, await scene.send(chat, "first", key="m1"))
                stale = opening_outcome(_opening(scene.partitions), 1)
                await scene.append_raw(
                    chat.partition, encode_outcome(stale, Stamp(1, 0, -1), event_source(chat.partition))
                )
                behind = await _send_answered(scene, chat, "behind", "m2")
                assert (await scene.outcome_of(chat.partition, behind)).seq == 2
                assert [r.seq for r in await scene.answers(0, behind)] == [2]
                assert {e.stamp.term for e in await scene.log(chat.partition)} == {1}, "the same term went on"

    asyncio.run(main())


def test_a_later_term_of_nobody_is_superseded_in_turn(kafka: str) -> None:
    """An opening whose writer died at once: the owner by the hint waits for an assignment, and then takes over
    again.
    """

    async def main() -> None:
        async with Scene.on(kafka) as scene:
            chat = await scene.create("stray")
            async with scene.writer(chat.partition, assignment_timeout_s=0.3) as running:
                await running.until(Status.SERVING)
                stray = opening_outcome(_opening(scene.partitions), 1)
                await scene.append_raw(
                    chat.partition, encode_outcome(stray, Stamp(7, 0, -1), event_source(chat.partition))
                )
                sent = await scene.send(chat, "first", key="m1")
                assert (await scene.outcome_of(chat.partition, sent)).seq == 1
                assert max(e.stamp.term for e in await scene.log(chat.partition)) == 8
                await _assert_one_log(scene, chat, messages=1)

    asyncio.run(main())


def test_who_lost_the_hint_writes_on_until_another_has_opened(kafka: str) -> None:
    async def main() -> None:
        async with Scene.on(kafka) as scene:
            chat = await scene.create("handover")
            async with scene.writer(chat.partition) as old:
                await old.until(Status.SERVING)
                old.hint.on_assignment(ours=False)
                sent = await scene.send(chat, "still served", key="m1")
                assert (await scene.outcome_of(chat.partition, sent)).seq == 1
                async with scene.writer(chat.partition) as new:
                    await new.until(Status.SERVING)
                    await old.until(Status.WAITING)  # though no command comes in, it checks and lets go
                    sent = await scene.send(chat, "by the new one", key="m2")
                    assert (await scene.outcome_of(chat.partition, sent)).seq == 2
                await _assert_one_log(scene, chat, messages=2)

    asyncio.run(main())


def test_a_fresh_fold_gives_the_state_of_the_live_path(kafka: str, tmp_path: Path) -> None:
    async def main() -> None:
        async with Scene.on(kafka) as scene:
            chat = await scene.create("fold")
            carl = UserId(str(uuid4()))
            for i in range(5):
                await scene.send(chat, f"{i}", key=f"m{i}")
            await scene.command(chat, "member.add.v1", MemberAdd(user_id=carl, role="admin"), key="add")
            await scene.command(chat, "read.mark.v1", Mark(up_to_seq=4), key="", sender=BEN)
            await scene.command(chat, "delivered.mark.v1", Mark(up_to_seq=5), key="", sender=BEN)
            await scene.command(chat, "member.remove.v1", MemberRemove(user_id=BEN), key="leave", sender=BEN)
            last = await scene.send(chat, "0", key="m0")
            live, fresh = tmp_path / "live", tmp_path / "fresh"
            async with scene.writer(chat.partition, state_dir=live):
                await scene.outcome_of(chat.partition, last)
            async with scene.writer(chat.partition, state_dir=fresh) as running:
                await running.until(Status.SERVING)
            ours = await topic_id(KafkaConnection.plain(scene.kafka), scene.names.events)
            views = []
            for folder in (live, fresh):
                store = RocksStore(folder / str(chat.partition), ours)
                view = store.load([], [], [])
                keys = [CommandId(_command_id(chat, f"m{i}")) for i in range(5)]
                views.append(
                    (
                        view.chat(chat.chat_id),
                        [view.member((chat.chat_id, u)) for u in (ANNA, BEN, carl)],
                        [view.dedup(command_key(chat.chat_id, k)) for k in keys],
                    )
                )
                store.close()
            assert views[0] == views[1]
            chat_head, members, dedup = views[0]
            assert chat_head is not None
            assert (chat_head.last_seq, chat_head.last_position, chat_head.members) == (5, 10, 2)
            assert members[1] is not None
            assert (members[1].present, members[1].read_seq, members[1].delivered_seq) == (False, 4, 5)
            assert [r.seq for r in dedup if r is not None] == [1, 2, 3, 4, 5]

    asyncio.run(main())


@pytest.mark.parametrize("damage", ["gone", "torn", "of another log", "of another history"])
def test_a_state_that_is_not_of_this_log_is_thrown_away(kafka: str, tmp_path: Path, damage: str) -> None:
    async def main() -> None:
        async with Scene.on(kafka) as scene, Scene.on(kafka) as other:
            chat = await scene.create("state")
            folder = tmp_path / str(chat.partition)
            first = await scene.send(chat, "first", key="m1")
            async with scene.writer(chat.partition, state_dir=tmp_path):
                await scene.outcome_of(chat.partition, first)
            if damage == "gone":
                shutil.rmtree(folder)
            elif damage == "torn":
                for file in folder.glob("*.log"):
                    file.write_bytes(file.read_bytes()[:-20])
                for file in folder.glob("CURRENT"):
                    file.write_bytes(b"nonsense")
            elif damage == "of another history":
                store = RocksStore(folder, await topic_id(KafkaConnection.plain(scene.kafka), scene.names.events))
                wrong = StateChanges()
                wrong.chats[chat.chat_id] = ChatHead(kind="group", last_seq=9, last_position=9, members=2, owners=1)
                store.apply(wrong, replace(store.position, last_record=b"another record.."))
                store.close()
            else:
                shutil.rmtree(folder)
                elsewhere = await other.create("state")
                await other.send(elsewhere, "foreign", key="m1")
                last = await other.send(elsewhere, "foreign", key="m2")
                async with other.writer(chat.partition, state_dir=tmp_path):
                    await other.outcome_of(chat.partition, last)
            second = await scene.send(chat, "second", key="m2")
            repeat = await scene.send(chat, "first", key="m1")
            async with scene.writer(chat.partition, state_dir=tmp_path):
                assert (await scene.outcome_of(chat.partition, second)).seq == 2
                assert (await scene.outcome_of(chat.partition, repeat)).type == "command.duplicate.v1"
            await _assert_one_log(scene, chat, messages=2)

    asyncio.run(main())


def test_missing_commands_stop_their_partition_and_no_other(kafka: str) -> None:
    async def main() -> None:
        async with Scene.on(kafka) as scene:
            chat = await scene.create("trimmed")
            for i in range(4):
                await scene.send(chat, "x", key=f"m{i}")
            await delete_records(KafkaConnection.plain(scene.kafka), scene.names.commands, {chat.partition: 3})
            elsewhere = await _chat_elsewhere(scene, chat)
            async with scene.writer(chat.partition) as stopped, scene.writer(elsewhere.partition):
                await stopped.until(Status.STOPPED)
                assert stopped.writer.reason is not None
                assert "commands 0 to 2 were deleted" in stopped.writer.reason
                sent = await scene.send(elsewhere, "served", key="m1")
                assert (await scene.outcome_of(elsewhere.partition, sent)).seq == 1

    asyncio.run(main())


def test_an_error_that_nobody_foresaw_stops_its_partition_in_the_end_and_no_other(kafka: str) -> None:
    class Surprising(Troubled):
        async def read_commands(self, offset: int) -> LogReader:
            raise ZeroDivisionError(f"by the test, at {offset}")

    async def main() -> None:
        async with Scene.on(kafka) as scene:
            chat = await scene.create("surprise")
            elsewhere = await _chat_elsewhere(scene, chat)
            async with scene.writer(chat.partition, logs=Surprising) as stopped, scene.writer(elsewhere.partition):
                await stopped.until(Status.STOPPED)
                assert stopped.writer.reason is not None
                assert "5 times in a row ZeroDivisionError" in stopped.writer.reason
                sent = await scene.send(elsewhere, "served", key="m1")
                assert (await scene.outcome_of(elsewhere.partition, sent)).seq == 1

    asyncio.run(main())


CORRUPT = {
    "an index is skipped": (Stamp(1, 9, 99), "message.sent.v1", "cannot follow"),
    "a term that nobody opened": (Stamp(9, 2, 99), "message.sent.v1", "cannot follow"),
    "a command answered twice": (Stamp(1, 2, 0), "message.sent.v1", "cannot follow"),
    "a type of the future": (Stamp(1, 2, 99), "message.sung.v9", "deploy the newer sequencer"),
    "a position is skipped": (Stamp(1, 2, 99), "message.sent.v1", "stands at position 1"),
}


@pytest.mark.parametrize("case", CORRUPT)
def test_a_log_that_no_writer_wrote_stops_its_partition_with_the_place(kafka: str, case: str) -> None:
    stamp, event_type, complaint = CORRUPT[case]

    async def main() -> None:
        async with Scene.on(kafka) as scene:
            chat = await scene.create("corrupt")
            async with scene.writer(chat.partition) as running:
                await running.until(Status.SERVING)
                await until(lambda: running.writer.decided_offset == 0, "the chat is created")
            outcome = OtherOutcome(
                type=event_type,
                at_ms=2**41,
                body=b'{"text":"x"}',
                key=chat.chat_id.encode(),
                chat_id=chat.chat_id,
                sender_id=ANNA,
                command_id=_command_id(chat, "k"),
                client_generated_id="k",
                position=5,
                seq=1,
            )
            offset = await scene.append_raw(
                chat.partition, encode_outcome(outcome, stamp, event_source(chat.partition))
            )
            async with scene.writer(chat.partition) as running:
                await running.until(Status.STOPPED)
                assert running.writer.reason is not None
                assert complaint in running.writer.reason
                assert f"offset {offset}" in running.writer.reason

    asyncio.run(main())


def test_a_log_of_another_partition_count_is_refused(kafka: str) -> None:
    async def main() -> None:
        async with Scene.on(kafka) as scene:
            chat = await scene.create("count")
            async with scene.writer(chat.partition) as running:
                await running.until(Status.SERVING)
            async with scene.writer(chat.partition, partitions=scene.partitions * 2) as running:
                await running.until(Status.STOPPED)
                assert running.writer.reason is not None
                assert "written for 4 partitions" in running.writer.reason

    asyncio.run(main())


def test_only_decided_commands_are_trimmed_and_the_writer_goes_on(kafka: str) -> None:
    async def main() -> None:
        async with Scene.on(kafka) as scene:
            chat = await scene.create("trim")
            last = await scene.send(chat, "x", key="m1")
            async with scene.writer(chat.partition) as running:
                await scene.outcome_of(chat.partition, last)
                await until(lambda: running.writer.decided_offset == last, "it is applied")

                def trimmer(keep_s: float) -> Trimmer:
                    return Trimmer(
                        lambda: [(chat.partition, running.writer)],
                        kafka=KafkaConnection.plain(scene.kafka),
                        topic=scene.names.commands,
                        keep_s=keep_s,
                        now_ms=lambda: 2**42,
                    )

                assert await trimmer(10.0**10).trim_once() == {}, "younger than the keep time"
                assert await trimmer(1.0).trim_once() == {chat.partition: last + 1}
                first, end = await (await scene.reader(scene.names.commands, chat.partition)).bounds()
                assert (first, end) == (last + 1, last + 1)
                sent = await scene.send(chat, "x", key="m2")
                assert (await scene.outcome_of(chat.partition, sent)).seq == 2
            async with scene.writer(chat.partition):
                sent = await scene.send(chat, "x", key="m3")
                assert (await scene.outcome_of(chat.partition, sent)).seq == 3, "a trimmed log is resumed"

    asyncio.run(main())


def test_aborted_transactions_of_a_producer_count_and_their_markers_are_passed(kafka: str) -> None:
    """chat.commands is read uncommitted: offsets may skip, and nothing stalls on a marker."""

    async def main() -> None:
        async with Scene.on(kafka) as scene:
            chat = await scene.create("transactions")
            async with scene.plain_producer(transactional_id=f"tx-{uuid4()}") as producer:
                await producer.begin_transaction()
                aborted = await producer.send_and_wait(
                    scene.names.commands, value=b"{}", key=b"k", partition=chat.partition
                )
                await producer.abort_transaction()
            async with scene.writer(chat.partition):
                assert await scene.reason_of(chat.partition, aborted.offset) == "malformed"
                sent = await scene.send(chat, "after the marker", key="m1")
                assert sent > aborted.offset + 1, "the marker took an offset"
                assert (await scene.outcome_of(chat.partition, sent)).seq == 1
            async with scene.writer(chat.partition):
                sent = await scene.send(chat, "after the restart", key="m2")
                assert (await scene.outcome_of(chat.partition, sent)).seq == 2

    asyncio.run(main())


def _opening(partitions: int) -> bytes:
    return encode_term_opened(TermOpened(owner=str(uuid4()), host="elsewhere", partitions=partitions))


def _command_id(chat: Chat, key: str) -> CommandId:
    return ids.command_id(chat.chat_id, ANNA, key)


async def _chat_elsewhere(scene: Scene, chat: Chat) -> Chat:
    """Create a chat in another partition."""
    n = 0
    while scene.group(f"elsewhere {n}").partition == chat.partition:
        n += 1
    return await scene.create(f"elsewhere {n}")
