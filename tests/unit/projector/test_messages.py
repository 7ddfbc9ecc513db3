"""Plain messages stay encoded as in their records, and become the same rows as by their events. Pure."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, Final, TypeVar
from unittest import mock

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas import ids
from schemas.errors import LogCorrupt
from schemas.events import AcceptedOutcome
from schemas.log import EMPTY, Head, Stamp
from schemas.types import EventType
from schemas.wire.encoding import Encoded, Record, encode_outcome, event_source
from schemas.wire.records import messages_from
from services.projector.mapping.decode import Event
from services.projector.mapping.lookups import LookedUp, lookups_of
from services.projector.mapping.messages import message_row
from services.projector.mapping.rows import changes_of, outcome_row
from services.projector.mapping.search import search_changes_of
from services.projector.mapping.tables import RowChanges
from services.projector.mapping.validity import Classified, ReaderPosition, classify_records
from services.projector.writing.copy import CompiledEncoder, PlainEncoder
from tests.support.any_records import CHAT, KNOWN_HEADERS, TRACEPARENT, WORDS
from tests.support.chat_log import ANNA, BEN, ChatLog
from tests.support.examples import examples
from tests.support.projection import Action, History, actions
from tests.support.record_batches import as_read, batch_of, parsed
from tests.support.ways import COPY, compares

pytestmark = compares

_Read = TypeVar("_Read", RowChanges, Classified)

START: Final = ReaderPosition()
PARTITION: Final = 3
MESSAGE: Final = AcceptedOutcome(
    type=EventType.MESSAGE_SENT.value,
    at_ms=1_700_000_000_123,
    body=b'{"text":"Hi"}',
    chat_id=CHAT,
    command_id=ids.command_id(CHAT, ANNA, "k-1"),
    client_generated_id="k-1",
    sender_id=ANNA,
    position=7,
    seq=5,
    traceparent=TRACEPARENT,
)
"""An outcome as a writer appends it, with every optional part."""


def classified(start: ReaderPosition, records: Sequence[Record], *, short: bool) -> Classified:
    """Classify the records; without `short`, each message by its event."""
    if short:
        return classify_records(start, records, read_up_to=0)
    with mock.patch("schemas.cursor.messages_from", return_value=[]):
        return classify_records(start, records, read_up_to=0)


def rows_of(classified: Classified, *, outcomes_since_ms: int = 0) -> RowChanges:
    """Return the rows of a batch whose lookups find nothing: every root and chat is in the batch itself."""
    return changes_of(classified.events, LookedUp(), partition=PARTITION, outcomes_since_ms=outcomes_since_ms)


def in_full(changes: RowChanges) -> dict[str, Any]:
    told = {each.name: getattr(changes, each.name) for each in fields(changes)}
    told["messages"] = [message_row(row) for row in changes.messages]
    told["outcomes"] = [outcome_row(row, PARTITION) for row in changes.outcomes]
    return told


def copied(changes: RowChanges, *, plain: bool = False) -> tuple[bytes, bytes]:
    """Return the bytes for COPY."""
    encoder = PlainEncoder() if plain else CompiledEncoder(COPY)
    return encoder.messages(changes.messages), encoder.outcomes(changes.outcomes, partition=PARTITION)


def searched(classified: Classified, *, plain: bool = False) -> bytes:
    """Return the bytes for the COPY of search. Raises LogCorrupt."""
    encoder = PlainEncoder() if plain else CompiledEncoder(COPY)
    return encoder.search(search_changes_of(classified.events).search_added)


def searched_in_full(classified: Classified) -> bytes:
    return searched(classified, plain=True)


def different(short: RowChanges, long: RowChanges) -> list[str]:
    """Return the tables whose rows differ, or "bytes". Names only: describing the difference takes longer than finding
    it.
    """
    written = {copied(short), copied(long), copied_in_full(short), copied_in_full(long)}
    return _other_tables(short, long) + ["bytes"] * (len(written) > 1)


def _other_tables(short: RowChanges, long: RowChanges) -> list[str]:
    told = [in_full(each) for each in (short, long)]
    return [table for table, rows in told[0].items() if rows != told[1][table]]


def copied_in_full(changes: RowChanges) -> tuple[bytes, bytes]:
    return copied(changes, plain=True)


@examples()
@given(steps=actions, cut=st.integers(0, 200))
def test_any_history_becomes_the_same_rows_by_either_way(steps: list[Action], cut: int) -> None:
    records = as_read(History().run(steps))
    before = classified(START, records[: cut % len(records)], short=True)
    rests = [classified(before.end, records[cut % len(records) :], short=short) for short in (True, False)]
    assert lookups_of(rests[0].events) == lookups_of(rests[1].events)
    short, long = (classified(START, records, short=short) for short in (True, False))
    assert (short.end, short.voids, short.stop) == (long.end, long.voids, long.stop)
    since_ms = records[len(records) // 2].timestamp
    for outcomes_since_ms in (0, since_ms):
        rows = [rows_of(each, outcomes_since_ms=outcomes_since_ms) for each in (short, long)]
        assert different(*rows) == []
    found = [search_changes_of(each.events) for each in (short, long)]
    assert found[0].search_forgotten == found[1].search_forgotten
    assert found[0].search_reworded == found[1].search_reworded
    assert len({to_bytes(each) for each in (short, long) for to_bytes in (searched, searched_in_full)}) == 1


def test_a_usual_message_takes_the_fast_path() -> None:
    """Otherwise it would be useless. In one batch: replied to, read, deleted, and in a second term."""
    log = ChatLog()
    log.open()
    chat = log.create(ANNA, "ops", [BEN])
    first = log.send(chat, ANNA, 'two lines\nand a "quote", a \\ and a tab\t')
    log.send(chat, BEN, "Grüße, 世界 👋")
    log.read(chat, ANNA, 1)
    log.send(chat, BEN, "yes", reply_to_message_id=first.id)
    log.open()
    log.send(chat, ANNA, "later")
    log.delete(chat, BEN, 2)
    short, long = (classified(START, as_read(log.events), short=short) for short in (True, False))
    assert [not isinstance(event, Event) for event in short.events] == [
        False, True, True, False, False, True, False,
    ]  # fmt: skip
    assert different(rows_of(short), rows_of(long)) == []
    assert [message_row(row).message_text for row in rows_of(short).messages] == [
        'two lines\nand a "quote", a \\ and a tab\t', None, "yes", "later",
    ]  # fmt: skip


TEXTS: Final = (
    st.text(max_size=30)
    .map(lambda text: json.dumps({"text": text}, ensure_ascii=False, separators=(",", ":")))
    .map(lambda spelt: spelt.encode(errors="replace"))
    | st.lists(st.sampled_from([rb"\n", rb"\"", rb"\\", rb"\/", rb"\b", rb"\f", rb"\r", rb"\t", b"n", "é".encode()]))
    .map(lambda parts: b'{"text":"' + b"".join(parts) + b'"}')
    | st.binary(max_size=12).map(lambda inside: b'{"text":"' + inside + b'"}')
)  # fmt: skip


@examples(500)
@given(st.lists(TEXTS, min_size=1, max_size=4))
@example([b'{"text":"\\u0000"}'])
@example([b'{"text":"\\ud800"}'])
@example([b'{"text":"' + b"x" * 20_000 + b'"}'] * 40)
@example([b'{"text":"See HTTPS://Example.org:80/a?b and a:/ b:// c"}', b'{"text":"::/ :// "}', b'{"text":"a:/b ://"}'])
@example([b'{"text":"' + b" ".join(b"W%d" % (n % 400) for n in range(1_000)) + b'"}', b'{"text":"@AZ[`az{/09:"}'])
@example([b'{"text":"' + (b"y" * 64 + b" ") * 2 + b"y" * 65 + b" " + b"y" * 63 + b'"}'] * 2)
def test_any_text_is_the_same_in_either_row(bodies: list[bytes]) -> None:
    records = [_written(index, body=body) for index, body in enumerate(bodies, 1)]
    _told_alike(records)


def _written(index: int, **changed: Any) -> Encoded:
    return encode_outcome(replace(MESSAGE, **changed), Stamp(1, index, 10 * index), event_source(PARTITION))


def _told_alike(written: list[Encoded]) -> None:
    """Check that both paths, after the head of term 1, find the same records, and the same rows or the same error, in
    the tables and in search."""
    records = parsed(batch_of(written))
    told: list[object] = []
    rows: list[RowChanges] = []
    for short in (True, False):
        found = classified(ReaderPosition(head=Head(1, 0, -1, 0)), records, short=short)
        told.append((found.end, found.voids, repr(found.stop)))
        told.append([_bytes_or_error(to_bytes, found) for to_bytes in (searched, searched_in_full)])
        try:
            rows.append(rows_of(found))
            told.append([_bytes_or_error(to_bytes, rows[-1]) for to_bytes in (copied, copied_in_full)])
        except LogCorrupt as error:
            told.append(str(error))
    assert told[:3] == told[3:]
    assert len(rows) in (0, 2)
    if rows:
        assert _other_tables(*rows) == []


def _bytes_or_error(to_bytes: Callable[[_Read], object], changes: _Read) -> int | str:
    """Return the hash of the bytes, which is quickly compared, or the error."""
    try:
        return hash(to_bytes(changes))
    except LogCorrupt as error:
        return str(error)


wrong_headers = st.lists(
    st.tuples(st.sampled_from(KNOWN_HEADERS), st.sampled_from([*WORDS, None]) | st.binary(max_size=40)), max_size=2
)


@examples(1_000)
@given(
    wrong_headers,
    st.sampled_from([MESSAGE.key, None, b"", b"f89e858f", b"F" * 36]),
    st.sampled_from([MESSAGE.at_ms, 0, -1, 253_402_300_799_999, 253_402_300_800_000]),
    st.integers(0, 2),
)  # fmt: skip
def test_a_record_that_is_nearly_as_a_writer_appends_it_counts_alike(
    changed: list[tuple[str, bytes | None]], key: bytes | None, at_ms: int, place: int
) -> None:
    written = [_written(index) for index in range(1, 4)]
    headers: list[tuple[str, Any]] = [(name, dict(changed).get(name, value)) for name, value in written[place].headers]
    written[place] = Encoded(key, written[place].value, headers, at_ms)
    _told_alike(written)


@pytest.mark.parametrize(
    ("stamp", "taken"),
    [
        (Stamp(1, 2, 20), 3),
        (Stamp(0, 2, 20), 1),
        (Stamp(2, 2, 20), 1),
        (Stamp(1, 1, 20), 1),
        (Stamp(1, 3, 20), 1),
        (Stamp(1, 2, 10), 1),
        (Stamp(1, 2, 9), 1),
        (Stamp(1, 0, -1), 1),
    ],
)
def test_the_run_ends_before_a_record_that_is_not_the_next(stamp: Stamp, taken: int) -> None:
    written = [_written(index) for index in range(1, 4)]
    written[1] = encode_outcome(MESSAGE, stamp, event_source(PARTITION))
    records = parsed(batch_of(written))
    assert len(messages_from(records, 0, Head(1, 0, -1, 0)) or ()) == taken
    _told_alike(written)


def test_the_run_begins_where_it_is_told_to() -> None:
    records = parsed(batch_of([_written(index) for index in range(1, 4)]))
    found = messages_from(records, 2, Head(1, 2, 20, 0))
    assert found is not None
    (last,) = found
    assert (last.index, last.command_offset, last.position, last.seq) == (3, 30, 7, 5)
    assert (last.chat_id, last.sender_id, last.text) == (MESSAGE.chat_id, MESSAGE.sender_id, "Hi")
    assert (str(last.message_id), last.client_generated_id, last.at_ms) == (MESSAGE.command_id, "k-1", MESSAGE.at_ms)
    assert messages_from(tuple(records), 3, Head(1, 3, 30, 0)) == []
    assert messages_from(records, 0, EMPTY) == []


def test_the_lexemes_of_time_are_those_of_each_messages_own_hour() -> None:
    hour_ms = 3_600_000
    first = MESSAGE.at_ms // hour_ms * hour_ms
    times = [first, first + hour_ms - 1, first + hour_ms, first - 1, first]
    records = parsed(batch_of([_written(index, at_ms=at_ms) for index, at_ms in enumerate(times, 1)]))
    found = classified(ReaderPosition(head=Head(1, 0, -1, 0)), records, short=True)
    assert [message.at_ms for message in found.events] == times
    assert not any(isinstance(message, Event) for message in found.events)
    assert searched(found) == searched_in_full(found)


def test_others_among_the_rows_are_written_in_their_places() -> None:
    log = ChatLog()
    log.open()
    chat = log.create(ANNA, "ops", [BEN])
    log.send(chat, ANNA, "plain")
    log.send(chat, BEN, "not", metadata={"n": "x" * 200_000})
    log.send(chat, ANNA, "plain again")
    changes = rows_of(classified(START, as_read(log.events), short=True))
    assert [isinstance(row, tuple) for row in changes.messages] == [False, True, False]
    assert copied(changes) == copied_in_full(changes)
