"""The fast path of a plain send matches the slow path, and nearly every command takes it."""

from __future__ import annotations

import json
import tempfile
from collections import deque
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas import ids, limits
from schemas.bodies import Body, ChatCreate, Mark, MemberAdd, MemberRemove, MessageDelete, MessageSend, canonical_body
from schemas.commands import parse_body
from schemas.errors import LogCorrupt, Refused
from schemas.ids import UserId
from schemas.log import Head
from schemas.wire.encoding import Command, CommandReader, ReplyTo, encode_command
from schemas.wire.records import command_reader
from services.runtime.kafka.batches import OutcomeBatch, new_outcome_batch
from services.sequencer.partition import batch as batch_module
from services.sequencer.partition import sends as sends_module
from services.sequencer.partition.batch import APPEND_BYTES, DecidedBatch, decide_into, new_batch
from services.sequencer.partition.sends import keys_of
from services.sequencer.ports import LogPosition
from services.sequencer.rules.decide import decide
from services.sequencer.rules.state import StateChanges
from services.sequencer.store.rocks import RocksStore
from tests.support.any_records import TRACEPARENT
from tests.support.examples import examples
from tests.support.record_batches import batch_of, parsed
from tests.support.ways import SCAN, compares

pytestmark = compares
is_plain: Any = SCAN.is_plain if SCAN is not None else None

ANNA, BEN, CLEO = (UserId(f"{n}1111111-1111-4111-8111-111111111111") for n in "abc")
CHATS = [ids.group_chat_id(ANNA, name) for name in ("one", "two", "never made")]
SOURCE = b"/gapless/chat.events/0"
NEAR_LIMIT = "x" * limits.TEXT_CHARACTERS


def text_body(text: str) -> bytes:
    return canonical_body(MessageSend(text=text))


SPELT = [
    text_body("Hi"),
    text_body('two lines\nand a "quote", a \\ and a tab\t'),
    text_body("Grüße, 世界 👋"),
    text_body(NEAR_LIMIT),
    text_body("é" * limits.TEXT_CHARACTERS),
    text_body(NEAR_LIMIT + "x"),
    text_body("é" * limits.TEXT_CHARACTERS + "x"),
    text_body("\x7f"),
    text_body("0"),
    text_body("\0"),
    text_body("1" * 40 + "{[" * 40),
    b'{"text":""}',
    b'{"text":"a" }',
    b'{"text": "a"}',
    b' {"text":"a"}',
    b'{"text":"a"}\n',
    b'{"text":"\\u00e9"}',
    b'{"text":"\\ud800"}',
    b'{"text":"\\u0000"}',
    b'{"text":"\\x"}',
    b'{"text":"a\\"}',
    b'{"text":"a\\\\"}',
    b'{"text":"\\"}',
    b'{"text":"a\nb"}',
    b'{"text":"a","text":"b"}',
    b'{"text":"a","more":"b"}',
    b'{"text":"\xff"}',
    b'{"text":"\xed\xa0\x80"}',
    b'{"text":"\xc3"}',
    b'{"text":"\xc0\x80"}',
    b'{"text":1}',
    b'{"text":"',
    b'{"text":"}',
    b'"}',
    b"",
    canonical_body(MessageSend(text="a", reply_to_message_id=ids.command_id(CHATS[0], ANNA, "k0"))),
    canonical_body(MessageSend(text="a", metadata={"a": 1})),
]
bodies = (
    st.sampled_from(SPELT)
    | st.text(max_size=30).map(lambda text: json.dumps({"text": text}, ensure_ascii=False).encode(errors="replace"))
    | st.text(max_size=30).map(lambda text: json.dumps({"text": text}, separators=(",", ":")).encode())
    | st.binary(max_size=12).map(lambda inside: b'{"text":"' + inside + b'"}')
)  # fmt: skip


def _judged_alike(body: bytes) -> None:
    try:
        parsed = parse_body("message.send.v1", body)
    except Refused:
        parsed = None
    if is_plain(body):
        assert isinstance(parsed, MessageSend)
        assert json.loads(body) == {"text": parsed.text}
        assert parsed == MessageSend(text=parsed.text)


@examples(1_000)
@given(bodies)
def test_what_is_plain_is_a_text_that_is_accepted(body: bytes) -> None:
    _judged_alike(body)


@pytest.mark.parametrize("body", SPELT, ids=range(len(SPELT)))
def test_each_way_to_spell_a_body_is_judged_alike(body: bytes) -> None:
    _judged_alike(body)


def test_texts_as_our_own_code_spells_them_are_plain() -> None:
    """Otherwise the fast path would be useless."""
    assert [is_plain(body) for body in SPELT[:4]] == [True] * 4


actions = st.one_of(
    st.tuples(st.just("message.send.v1"), bodies, st.sampled_from([f"k{i}" for i in range(8)])),
    st.tuples(st.just("message.send.v1"), st.sampled_from(SPELT[:3]), st.integers(0, 30).map(str)),
    st.tuples(st.just("message.delete.v1"), st.integers(1, 6).map(lambda seq: canonical_body(MessageDelete(seq=seq))),
              st.sampled_from(["d1", "d2", "k1"])),
    st.tuples(st.just("read.mark.v1"), st.integers(0, 6).map(lambda seq: canonical_body(Mark(up_to_seq=seq))),
              st.none()),
    st.tuples(st.just("member.remove.v1"),
              st.sampled_from([ANNA, BEN, CLEO]).map(lambda user: canonical_body(MemberRemove(user_id=user))),
              st.sampled_from(["r1", "r2"])),
    st.tuples(st.just("member.add.v1"),
              st.sampled_from([BEN, CLEO]).map(lambda user: canonical_body(MemberAdd(user_id=user, role="member"))),
              st.sampled_from(["a1", "a2", "a3"])),
)  # fmt: skip
senders = st.tuples(st.integers(0, 2), st.sampled_from([ANNA, BEN, CLEO]), st.booleans(), st.booleans())
Drawn = tuple[tuple[str, bytes, str | None], tuple[int, UserId, bool, bool]]


def _commands(drawn: Sequence[Drawn]) -> list[Command]:
    made: list[Drawn] = [
        (
            ("chat.create.v1", canonical_body(ChatCreate(kind="group", name=name, members=[BEN])), name),
            (number, ANNA, True, True),
        )
        for number, name in enumerate(("one", "two"))
    ]
    return [
        Command(
            offset=offset,
            type=command_type,
            body=body,
            chat_id=CHATS[chat],
            sender_id=user,
            client_generated_id=key,
            command_id=ids.command_id(CHATS[chat], user, key if key is not None else f"mark {offset}"),
            reply_to=ReplyTo(offset % 3, f"r{offset}") if awaited else None,
            traceparent=TRACEPARENT if traced else None,
        )
        for offset, ((command_type, body, key), (chat, user, awaited, traced)) in enumerate([*made, *drawn])
    ]


def _run(commands: list[Command], cuts: Sequence[int], *, short: bool, overlap: bool, room: int) -> list[object]:
    """Return everything that leaves the batches when commands are read and decided by one of the two paths."""
    raw = batch_of([encode_command(command, "/test") for command in commands])
    found: list[object] = []
    with (
        tempfile.TemporaryDirectory() as folder,
        mock.patch.object(batch_module, "APPEND_BYTES", room),
    ):
        store = RocksStore(Path(folder) / "s", "topic", records_per_write=7)
        store.apply(StateChanges(), LogPosition(next_offset=1, head=Head(term=1)))
        read_all = command_reader(0, 1) if short else (lambda records: [CommandReader(0, 1).read(r) for r in records])
        waiting, sizes, times = deque(read_all(parsed(raw))), iter(cuts), count(1_000)
        before: DecidedBatch | None = None
        while waiting or before is not None:
            batch = None
            if waiting:
                if not overlap and before is not None:
                    _apply(store, before)
                    before = None
                records = new_outcome_batch() if short else OutcomeBatch()
                records._set_producer_state(7, 0, 0)
                batch = new_batch(records, store=store, before=before)
                for _ in range(2):
                    some = deque([waiting.popleft() for _ in range(min(next(sizes, 5), len(waiting)))])
                    decide_into(batch, some, store=store, partition=0, source=SOURCE, now_ms=times.__next__)
                    waiting.extendleft(reversed(some))
                    if batch.full:
                        break
                found.append((bytes(records._build()), batch.last, batch.head))
                found.append((batch.replies, batch.outcomes, batch.size, batch.full, batch.changes))
            if before is not None:
                _apply(store, before)
            before = batch
        store.close()
    return found


def _apply(store: RocksStore, batch: DecidedBatch) -> None:
    next_offset = store.position.next_offset + len(batch.records)
    store.apply(batch.changes, replace(store.position, next_offset=next_offset, head=batch.head))


def _send(text: str, key: str, user: UserId = BEN, chat: int = 0) -> Drawn:
    return ("message.send.v1", text_body(text), key), (chat, user, True, False)


def _by_anna(command_type: str, body: Body, key: str) -> Drawn:
    return (command_type, canonical_body(body), key), (0, ANNA, False, False)


EACH_REASON_TO_GO_THE_LONG_WAY: list[Drawn] = [
    *(_send("Hi", str(n), user) for n, user in enumerate((ANNA, BEN, ANNA, BEN))),
    _send("Hi", "0", ANNA),
    _send("Ho", "0", ANNA),
    _send("Hi", "s", CLEO),
    _send("Hi", "n", ANNA, chat=2),
    _by_anna("member.remove.v1", MemberRemove(user_id=BEN), "r"),
    _send("gone", "g"),
    _by_anna("member.add.v1", MemberAdd(user_id=BEN, role="member"), "a"),
    _send("back", "b"),
    _send("Hi", "g"),
    (("message.send.v1", b'{"text":""}', "e"), (0, BEN, True, True)),
    _send("x" * 16_000, "x"),
    _send("Hi", "last"),
]


@examples(200)
@given(
    st.lists(st.tuples(actions, senders), max_size=30),
    st.lists(st.integers(1, 9), max_size=12),
    st.booleans(),
    st.sampled_from([1_500, 3_000, APPEND_BYTES]),
)
@example(EACH_REASON_TO_GO_THE_LONG_WAY, [40], False, APPEND_BYTES)
@example(EACH_REASON_TO_GO_THE_LONG_WAY, [1, 2] * 10, True, 17_000)
@example([_send("Hi", key) for key in "xaabbccd"], [1] * 20, True, APPEND_BYTES)  # repeats of what is in flight
@example([(("message.send.v1", SPELT[0], "k0"), (0, ANNA, True, True))] * 3, [9], True, APPEND_BYTES)
@example([(("message.send.v1", SPELT[0], str(n)), (n % 3, BEN, True, False)) for n in range(12)], [], True, 1_500)
def test_both_ways_say_the_same(drawn: list[Drawn], cuts: list[int], overlap: bool, room: int) -> None:
    commands = _commands(drawn)
    by_short, by_long = (_run(commands, cuts, short=short, overlap=overlap, room=room) for short in (True, False))
    assert by_short == by_long


@examples(200)
@given(st.lists(st.tuples(actions, senders), max_size=30), st.integers(0, 2_000))
@example(EACH_REASON_TO_GO_THE_LONG_WAY, APPEND_BYTES)
def test_both_ways_load_the_same_keys(drawn: list[Drawn], room: int) -> None:
    records = [encode_command(command, "/test") for command in _commands(drawn)]
    records[1:1] = [replace(records[0], key=b"no chat"), replace(records[0], value=b"")]
    commands = command_reader(0, 1)(parsed(batch_of(records)))
    with mock.patch.object(sends_module, "_sends", None):
        plain = keys_of(commands, room)
    assert keys_of(commands, room) == plain
    assert len(plain[0]) == len(plain[1]) <= len(commands) - 1, "an unreadable command needs nothing"


def test_all_but_a_few_sends_go_the_short_way(tmp_path: Path) -> None:
    sends = [(("message.send.v1", SPELT[n % 3], str(n)), (n % 2, BEN, n % 5 == 0, False)) for n in range(1_000)]
    commands = _commands([*sends, *sends[:20]])
    store = RocksStore(tmp_path / "s", "topic")
    store.apply(StateChanges(), LogPosition(next_offset=1, head=Head(term=1)))
    read = command_reader(0, 1)
    read(parsed(batch_of([encode_command(command, "/test") for command in commands[:3]])))  # so that all are known
    with mock.patch.object(batch_module, "decide", side_effect=decide) as long_way:
        for first, after in ((0, 2), (2, 500), (500, len(commands))):
            batch = new_batch(new_outcome_batch(), store=store, before=None)
            written = [encode_command(command, "/test") for command in commands[first:after]]
            waiting = deque(read(parsed(batch_of(written, base_offset=first))))
            decide_into(batch, waiting, store=store, partition=0, source=SOURCE, now_ms=lambda: 1)
            assert not waiting
            _apply(store, batch)
    assert long_way.call_count == 2 + 20, "the chats that are made, and the sends that are repeats"
    store.close()


@pytest.mark.parametrize("second", [1, 2])
def test_a_send_that_does_not_come_after_the_one_before_it_is_not_decided(tmp_path: Path, second: int) -> None:
    """Whatever made us read it: its outcome would make the log corrupt for every reader."""
    commands = _commands([_send("Hi", "0"), _send("Hi", "1")])
    store = RocksStore(tmp_path / "s", "topic")
    store.apply(StateChanges(), LogPosition(next_offset=1, head=Head(term=1)))
    read = command_reader(0, 1)
    raw = batch_of([encode_command(command, "/test") for command in commands])
    read(parsed(raw))  # so that all are known
    known = read(parsed(raw))
    batch = new_batch(new_outcome_batch(), store=store, before=None)
    again = read(parsed(batch_of([encode_command(commands[3], "/test")], base_offset=second)))
    waiting = deque([*known[:3], *again])
    with pytest.raises(LogCorrupt, match=f"command {second} was read after command 2"):
        decide_into(batch, waiting, store=store, partition=0, source=SOURCE, now_ms=lambda: 1)
    assert list(waiting) == again
    store.close()
