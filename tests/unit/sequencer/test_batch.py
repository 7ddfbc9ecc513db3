"""Batches: however commands are cut into appends, and however appends overlap, the outcomes are the same."""

from __future__ import annotations

import tempfile
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas import ids
from schemas.bodies import Body, ChatCreate, Mark, MemberAdd, MemberRemove, MessageDelete, MessageSend, canonical_body
from schemas.errors import LogCorrupt
from schemas.ids import UserId
from schemas.log import Head
from schemas.wire.encoding import Command, ReplyTo
from services.sequencer.partition import batch as batch_module
from services.sequencer.partition.batch import APPEND_BYTES, DecidedBatch, decide_into, new_batch
from services.sequencer.ports import LogPosition
from services.sequencer.rules.state import StateChanges
from services.sequencer.store.rocks import RocksStore
from tests.support.examples import examples
from tests.support.simulated_log import RecordList

USERS = [UserId(f"{n}1111111-1111-4111-8111-111111111111") for n in "abc"]
CHATS = [ids.group_chat_id(USERS[0], name) for name in ("one", "two")]
OPEN = LogPosition(next_offset=1, head=Head(term=1))


def _creations() -> list[tuple[str, Body, int, int, str]]:
    return [
        ("chat.create.v1", ChatCreate(kind="group", name=name, members=[USERS[1]]), chat, 0, f"create-{chat}")
        for chat, name in enumerate(("one", "two"))
    ]


chats, users = st.integers(0, 1), st.integers(0, 2)
actions = st.one_of(
    st.tuples(
        st.just("message.send.v1"), st.builds(MessageSend, text=st.sampled_from(["x", "y"])), chats, users,
        st.sampled_from([f"k{i}" for i in range(6)]),
    ),
    st.tuples(
        st.just("message.delete.v1"), st.builds(MessageDelete, seq=st.integers(1, 6)), chats, users,
        st.sampled_from([f"d{i}" for i in range(6)]),
    ),
    st.tuples(st.just("read.mark.v1"), st.builds(Mark, up_to_seq=st.integers(0, 6)), chats, users, st.just("")),
    st.tuples(
        st.just("member.remove.v1"), st.builds(MemberRemove, user_id=st.sampled_from(USERS)), chats, users,
        st.sampled_from(["r1", "r2"]),
    ),
    st.tuples(
        st.just("member.add.v1"),
        st.builds(MemberAdd, user_id=st.sampled_from(USERS), role=st.just("member")), chats, users,
        st.sampled_from(["a1", "a2", "a3"]),
    ),
)  # fmt: skip


def _commands(drawn: list[tuple[str, Body, int, int, str]]) -> list[Command]:
    return [
        Command(
            offset=offset,
            type=command_type,
            body=canonical_body(body),
            chat_id=CHATS[chat],
            sender_id=USERS[user],
            client_generated_id=key or None,
            command_id=ids.command_id(CHATS[chat], USERS[user], key) if key else None,
            reply_to=ReplyTo(0, f"r{offset}"),
        )
        for offset, (command_type, body, chat, user, key) in enumerate([*_creations(), *drawn])
    ]


def _run(commands: list[Command], cuts: list[int], *, overlap: bool, records_per_write: int = 1_000) -> list[object]:
    """Decide in batches of the given sizes; with `overlap`, each is decided before the one before is applied."""
    with tempfile.TemporaryDirectory() as folder:
        store = RocksStore(Path(folder) / "s", "topic", records_per_write=records_per_write)
        store.apply(StateChanges(), OPEN)
        waiting, sizes = deque(commands), iter(cuts)
        records: list[object] = []
        replies: list[object] = []
        before: DecidedBatch | None = None
        while waiting or before is not None:
            batch = None
            if waiting:
                size = next(sizes, 3)
                taken = deque(waiting.popleft() for _ in range(min(size, len(waiting))))
                if not overlap and before is not None:
                    _apply(store, before)
                    before = None
                made = RecordList()
                batch = new_batch(made, store=store, before=before)
                while taken:  # some at a time, as they are read
                    some = deque(taken.popleft() for _ in range(min(size, 2, len(taken))))
                    _decide(batch, some, store, 1_000)
                    assert not some
                records += made
                replies += batch.replies
            if before is not None:
                _apply(store, before)
            before = batch
        store.close()
    return records + replies


def _decide(batch: DecidedBatch, commands: deque[Any], store: RocksStore, now_ms: int) -> None:
    decide_into(batch, commands, store=store, partition=0, source=b"/t", now_ms=lambda: now_ms)


def _apply(store: RocksStore, batch: DecidedBatch) -> None:
    next_offset = store.position.next_offset + len(batch.records)
    store.apply(batch.changes, replace(store.position, next_offset=next_offset, head=batch.head))


@examples(60)
@given(st.lists(actions, max_size=40), st.lists(st.integers(1, 7), max_size=30), st.sampled_from([1, 5, 1_000]))
def test_any_cut_into_batches_and_any_overlap_gives_the_same_outcomes(
    drawn: list[tuple[str, Body, int, int, str]], cuts: list[int], records_per_write: int
) -> None:
    commands = _commands(drawn)
    one_by_one = _run(commands, [1] * len(commands), overlap=False)
    assert _run(commands, cuts, overlap=False, records_per_write=records_per_write) == one_by_one
    assert _run(commands, cuts, overlap=True, records_per_write=records_per_write) == one_by_one


@pytest.mark.parametrize("second", [1, 2])
def test_a_command_that_does_not_come_after_the_one_before_it_is_not_decided(tmp_path: Path, second: int) -> None:
    send: tuple[str, Body, int, int, str] = ("message.send.v1", MessageSend(text="x"), 0, 0, "k")
    commands = _commands([send])
    store = RocksStore(tmp_path / "s", "topic")
    store.apply(StateChanges(), OPEN)
    records = RecordList()
    batch = new_batch(records, store=store, before=None)
    waiting = deque([*commands, replace(commands[2], offset=second)])
    with pytest.raises(LogCorrupt, match=f"command {second} was read after command 2"):
        _decide(batch, waiting, store, 1_000)
    assert len(records) == 3
    assert [command.offset for command in waiting] == [second]
    store.close()


def test_an_append_is_closed_before_it_outgrows_a_record_batch(tmp_path: Path) -> None:
    store = RocksStore(tmp_path / "s", "topic")
    store.apply(StateChanges(), OPEN)
    drawn = [("message.send.v1", MessageSend(text="x" * 16_000), 0, 0, f"big-{i}") for i in range(100)]
    waiting = deque(_commands(drawn))  # type: ignore[arg-type]
    batches: list[RecordList] = []
    count = len(waiting)
    while waiting:
        batches.append(RecordList())
        batch = new_batch(batches[-1], store=store, before=None)
        while waiting and not batch.full:
            some = deque(waiting.popleft() for _ in range(min(7, len(waiting))))
            _decide(batch, some, store, 1)
            waiting.extendleft(reversed(some))  # those for which there was no room
        _apply(store, batch)
    assert store.position.head.index == count
    sizes = [sum(record.size for record in records) for records in batches]
    assert len(sizes) == 2
    assert max(sizes) <= APPEND_BYTES
    store.close()


def test_a_command_that_is_larger_than_an_append_goes_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = RocksStore(tmp_path / "s", "topic")
    store.apply(StateChanges(), OPEN)
    monkeypatch.setattr(batch_module, "APPEND_BYTES", 10)
    waiting = deque(_commands([]))
    for left in (1, 0):
        records = RecordList()
        batch = new_batch(records, store=store, before=None)
        _decide(batch, waiting, store, 1)
        assert (len(records), len(waiting), batch.full) == (1, left, bool(left))
        decided = batch.head
        _decide(batch, waiting, store, 2)
        assert batch.head == decided, "a later look at a full batch leaves it as it is, its time too"
        _apply(store, batch)
    store.close()


def test_timestamps_never_fall_when_the_clock_does(tmp_path: Path) -> None:
    store = RocksStore(tmp_path / "s", "topic")
    store.apply(StateChanges(), LogPosition(next_offset=1, head=Head(term=1, last_timestamp_ms=5_000)))
    records = RecordList()
    _decide(new_batch(records, store=store, before=None), deque(_commands([])), store, 4_000)
    assert {record.timestamp_ms for record in records} == {5_000}
    store.close()
