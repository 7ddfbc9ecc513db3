"""The validity rule, compared with its table, and tested on every order in which writers' records can arrive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import LogCorrupt
from schemas.log import EMPTY, Head, Stamp, Verdict, advance, classify, read_stamp
from tests.support.examples import examples
from tests.support.reference_rule import Claimed, Counted, Row, rows


def _verdict(head: Head, stamp: Stamp) -> str:
    try:
        return classify(head, stamp).name.lower()
    except LogCorrupt:
        return "corrupt"


def _read(records: Sequence[Claimed], head: Head = EMPTY) -> tuple[list[str], Head]:
    """Return a reader's verdicts, up to the record that stops it, and its head then."""
    verdicts = []
    for record in records:
        stamp = Stamp(record.term, record.index, record.command_offset)
        verdicts.append(_verdict(head, stamp))
        if verdicts[-1] == "corrupt":
            break
        if verdicts[-1] != "void":
            head = advance(head, stamp, 0, record.commands_from)
    return verdicts, head


# --- one record ------------------------------------------------------------------------------------------------


def test_every_head_and_every_stamp_have_the_verdict_of_the_table() -> None:
    reached = set()
    for term, index, offset in product(range(4), range(4), range(-1, 3)):
        for its_term, its_index, its_offset in product(range(5), range(6), range(4)):
            claimed = Claimed(its_term, its_index, its_offset if its_index else -1)
            (row,) = rows([claimed], Counted(term, index, offset))
            reached.add(row)
            stamp = Stamp(claimed.term, claimed.index, claimed.command_offset)
            assert _verdict(Head(term, index, offset), stamp) == row.verdict, f"{claimed} after {term, index, offset}"
    assert reached == set(Row)


def test_what_corrupts_the_log_is_named_with_both_sides() -> None:
    with pytest.raises(LogCorrupt, match=r"index=9.*index=7"):
        classify(Head(3, 7, 19), Stamp(3, 9, 20))


@given(st.integers(0, 9), st.integers(0, 9), st.none() | st.integers(0, 9), st.integers(1, 9))
def test_the_head_keeps_the_latest_time(now: int, then: int, commands_from: int | None, index: int) -> None:
    head = Head(1, 5, 5, then)
    opened = advance(head, Stamp(2, 0, -1), now, commands_from)
    assert opened == Head(2, 5, 5 if commands_from is None else commands_from - 1, max(now, then))
    assert advance(head, Stamp(1, index, 6), now) == Head(1, index, 6, max(now, then))


# --- any records ------------------------------------------------------------------------------------------------

claims = st.builds(
    lambda term, index, offset, start: Claimed(term, index, offset if index else -1, start if index == 0 else None),
    st.integers(0, 3),
    st.integers(0, 4),
    st.integers(0, 5),
    st.none() | st.integers(0, 5),
)


@examples(250)
@given(st.lists(claims, max_size=30))
def test_any_records_have_the_verdicts_of_the_table(records: list[Claimed]) -> None:
    assert _read(records)[0] == [row.verdict for row in rows(records)]


@examples(300)
@given(st.lists(claims, max_size=30), st.data())
def test_a_reader_that_goes_on_from_a_stored_head_gives_the_same_verdicts(
    records: list[Claimed], data: st.DataObject
) -> None:
    whole, end = _read(records)
    cut = data.draw(st.integers(0, len(records)))
    first, stored = _read(records[:cut])
    if "corrupt" in first:
        return
    rest, end_again = _read(records[cut:], stored)
    assert first + rest == whole
    assert end_again == end


@examples(300)
@given(st.lists(claims, max_size=30))
def test_valid_indexes_are_dense_in_any_log(records: list[Claimed]) -> None:
    verdicts, head = _read(records)
    valid = [record.index for record, verdict in zip(records, verdicts, strict=False) if verdict == "valid"]
    assert valid == list(range(1, len(valid) + 1))
    assert head.index == len(valid)


# --- writers that keep to the protocol, and a network that does not --------------------------------------------------


@dataclass
class Writer:
    """One process: it folds, opens, appends, and knows of an append only what the network reports."""

    verdicts: list[Verdict] = field(default_factory=list)
    """The verdicts of everything that it has folded."""
    head: Head = EMPTY
    term: int | None = None
    """Its own term, once its opening was found to count."""
    waits_for: int | None = None
    """The append in flight; it appends nothing on top of it."""


@dataclass
class World:
    """A partition, its writers, and what is in flight: appends to the log, and acknowledgements to their writers."""

    writers: list[Writer]
    log: list[Claimed] = field(default_factory=list)
    sent: list[tuple[int, list[Claimed]]] = field(default_factory=list)
    """Every append ever: its sender and its records."""
    under_way: list[int] = field(default_factory=list)
    acknowledged: list[tuple[int, int]] = field(default_factory=list)
    """An append, and where it landed in the log."""
    reigns: list[tuple[int, int]] = field(default_factory=list)
    """Each term that a writer found to be its own, and that writer."""

    def fold(self, writer: Writer) -> None:
        """Fold to the end of the log. A writer that finds a later term than its own stops being one."""
        for record in self.log[len(writer.verdicts) :]:
            stamp = Stamp(record.term, record.index, record.command_offset)
            writer.verdicts.append(classify(writer.head, stamp))
            if writer.verdicts[-1] is not Verdict.VOID:
                writer.head = advance(writer.head, stamp, 0)
        if writer.term is not None and writer.head.term > writer.term:
            writer.term = None

    def open(self, number: int) -> None:
        """Steps 2 and 3: fold to the end, send the next term's opening. An append in flight is abandoned, not
        cancelled.
        """
        writer = self.writers[number]
        self.fold(writer)
        writer.term = None
        self._send(number, [Claimed(writer.head.term + 1, 0, -1)])

    def append(self, number: int, size: int, skipped: int) -> None:
        """Step 5: send outcomes of the next commands, on top of what was folded. Offsets of commands may skip."""
        writer = self.writers[number]
        if writer.term is None or writer.waits_for is not None:
            return
        index, offset = writer.head.index + 1, writer.head.command_offset + 1 + skipped
        self._send(number, [Claimed(writer.term, index + n, offset + n) for n in range(size)])

    def _send(self, number: int, batch: list[Claimed]) -> None:
        self.writers[number].waits_for = len(self.sent)
        self.under_way.append(len(self.sent))
        self.sent.append((number, batch))

    def arrive(self, which: int, *, again: bool) -> None:
        """Land an append; with `again`, a copy of it is still in flight."""
        append = self.under_way[which] if again else self.under_way.pop(which)
        self.acknowledged.append((append, len(self.log)))
        self.log.extend(self.sent[append][1])

    def hear(self, which: int) -> None:
        """Step 6, by the rule: an acknowledgement reaches its writer, which may have abandoned the append long ago."""
        append, at = self.acknowledged.pop(which)
        number, batch = self.sent[append]
        writer = self.writers[number]
        if writer.waits_for != append:
            return
        writer.waits_for = None
        self.fold(writer)
        if batch[0].index == 0 and writer.verdicts[at] is Verdict.OPENS and writer.head.term == batch[0].term:
            writer.term = batch[0].term
            self.reigns.append((writer.term, number))


@examples(250)
@given(st.data())
def test_however_writers_records_arrive_the_valid_ones_are_dense(data: st.DataObject) -> None:
    """Late, lost, twice, in any order between writers: no record corrupts the log, no index and no command is
    repeated.
    """
    world = World([Writer() for _ in range(data.draw(st.integers(1, 3), label="writers"))])
    numbers = st.integers(0, len(world.writers) - 1)
    acts = st.sampled_from(["open", "append", "append", "arrive", "arrive", "hear", "hear", "lose"])
    for _ in range(data.draw(st.integers(0, 40), label="steps")):
        act = data.draw(acts)
        if act == "open":
            world.open(data.draw(numbers))
        elif act == "append":
            world.append(data.draw(numbers), data.draw(st.integers(1, 3)), data.draw(st.integers(0, 2)))
        elif act == "arrive" and world.under_way:
            world.arrive(data.draw(st.integers(0, len(world.under_way) - 1)), again=data.draw(st.booleans()))
        elif act == "hear" and world.acknowledged:
            world.hear(data.draw(st.integers(0, len(world.acknowledged) - 1)))
        elif act == "lose" and world.under_way:
            world.under_way.pop(data.draw(st.integers(0, len(world.under_way) - 1)))
    verdicts, head = _read(world.log)
    assert "corrupt" not in verdicts
    valid = [record for record, verdict in zip(world.log, verdicts, strict=True) if verdict == "valid"]
    assert [record.index for record in valid] == list(range(1, len(valid) + 1))
    offsets = [record.command_offset for record in valid]
    assert offsets == sorted(set(offsets))
    assert head.index == len(valid)
    terms = [term for term, _ in world.reigns]
    assert len(terms) == len(set(terms)), f"a term has one writer: {world.reigns}"


def test_such_worlds_reach_every_row_but_corruption() -> None:
    """A void opening, a repeated copy and a fenced writer, by hand: shows that the test above covers them."""
    world = World([Writer(), Writer()])
    first, second = world.writers
    world.open(0)
    world.open(1)
    world.arrive(0, again=False)
    world.hear(0)
    world.arrive(0, again=False)  # the second writer sent an opening of the same term: void
    world.hear(0)
    assert (first.term, second.term) == (1, None)
    world.append(0, 2, 0)
    world.arrive(0, again=True)
    world.arrive(0, again=False)  # the same batch once more: void
    world.hear(0)
    world.append(0, 1, 3)  # stays in flight while another opens
    world.open(1)
    world.arrive(1, again=False)
    world.hear(-1)
    world.arrive(0, again=False)  # of a fenced writer: void
    world.hear(-1)
    assert (first.term, second.term) == (None, 2)
    world.append(1, 1, 0)
    world.arrive(0, again=False)
    assert list(rows(world.log)) == [
        Row.OPENING_OF_A_LATER_TERM,
        Row.OPENING_OF_NO_LATER_TERM,
        Row.NEXT_OUTCOME,
        Row.NEXT_OUTCOME,
        Row.REPEATED_COPY,
        Row.REPEATED_COPY,
        Row.OPENING_OF_A_LATER_TERM,
        Row.OUTCOME_OF_A_FENCED_WRITER,
        Row.NEXT_OUTCOME,
    ]


# --- the stamp ------------------------------------------------------------------------------------------------


@given(st.integers(0, 10**18 - 1), st.integers(0, 10**18 - 1), st.integers(0, 10**18 - 1))
def test_a_stamp_comes_back_from_its_headers(term: int, index: int, offset: int) -> None:
    headers = [("ce_id", b"%d/%d" % (term, index))] + ([("ce_command", b"%d" % offset)] if index else [])
    assert read_stamp(headers) == Stamp(term, index, offset if index else -1)


HEADER_NAMES = st.sampled_from(["ce_id", "ce_command", "ce_type", "x"])
HEADER_VALUES = st.none() | st.binary(max_size=20) | st.sampled_from([b"1/1", b"1/0", b"7", b"\xd9\xa3/8", b"1/1\n"])


@given(st.lists(st.tuples(HEADER_NAMES, HEADER_VALUES), max_size=6))
def test_headers_of_anything_give_a_stamp_or_a_corrupt_log(headers: list[tuple[str, bytes]]) -> None:
    try:
        stamp = read_stamp(headers)
    except LogCorrupt:
        return
    said = dict(headers)
    assert list(map(int, said["ce_id"].split(b"/"))) == [stamp.term, stamp.index]
    assert stamp.command_offset == (int(said["ce_command"]) if stamp.index else -1)


def test_of_a_header_that_is_there_twice_the_last_counts() -> None:
    headers = [("ce_id", b"1/1"), ("ce_command", b"1"), ("ce_id", b"2/2"), ("ce_command", b"5")]
    assert read_stamp(headers) == Stamp(2, 2, 5)
