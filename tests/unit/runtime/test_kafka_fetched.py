"""What was fetched of a partition is read once and in order, however it is cut, damaged, or mixed with markers."""

from __future__ import annotations

from typing import Final

import pytest
from aiokafka import errors as kafka_errors
from hypothesis import given
from hypothesis import strategies as st

from schemas.wire.encoding import Encoded, Undecodable
from services.runtime.kafka.fetched import Fetched
from tests.support import record_batches

ENOUGH: Final = 1_000_000


def batch_of(offset: int, count: int) -> bytes:
    return record_batches.batch_of([Encoded(b"k", b"v", [], 1)] * count, base_offset=offset)


def damaged(batch: bytes) -> bytes:
    return batch[:-1] + bytes([batch[-1] ^ 1])


def marker(offset: int) -> bytes:
    """Return a transaction marker, which only a broker writes."""
    return record_batches.batch_of([Encoded(b"k", b"v", [], 1)], base_offset=offset, attributes=0x20)


class Broker:
    """Batches of some records each, in some number of responses."""

    def __init__(self, responses: list[list[tuple[str, int]]]) -> None:
        self.responses: list[list[tuple[int, bytes]]] = []
        """Batches: the offset after each, and its bytes."""
        self.records: list[int] = []
        self.end = 0
        for response in responses:
            self.responses.append([self._batch(kind, count) for kind, count in response])

    def _batch(self, kind: str, count: int) -> tuple[int, bytes]:
        start, self.end = self.end, self.end + (1 if kind == "marker" else count)
        if kind == "marker":
            return self.end, marker(start)
        self.records += range(start, self.end)
        batch = batch_of(start, count)
        return self.end, batch if kind == "batch" else damaged(batch)

    def fetch(self, offset: int) -> bytes:
        """Return the rest of the response in which the offset is, from its batch on."""
        for response in self.responses:
            rest = b"".join([raw for end, raw in response if end > offset])
            if rest:
                return rest
        return b""


any_responses = st.lists(
    st.lists(st.tuples(st.sampled_from(["batch", "damaged", "marker"]), st.integers(1, 4)), max_size=4), max_size=4
)


@given(any_responses, st.integers(0, 3))
def test_every_batch_is_read_once_in_order_and_whole(responses: list[list[tuple[str, int]]], begin_at: int) -> None:
    broker = Broker(responses)
    fetched = Fetched(begin_at)
    found: list[int] = []
    while fetched.add(broker.fetch(fetched.fetch_offset), ENOUGH):
        while batches := fetched.take_batches():
            for batch, records in batches:
                offsets = [record.offset for record in records]
                assert offsets == list(range(batch.base_offset, batch.next_offset))
                found += offsets
    first = found[0] if found else begin_at
    assert first <= begin_at or first == next(offset for offset in broker.records if offset >= begin_at)
    assert found == [offset for offset in broker.records if offset >= first]
    assert fetched.position == max(broker.end, begin_at)


@given(
    any_responses,
    st.integers(1, 5),
    st.integers(0, 3),
)
def test_every_offset_is_read_once_in_order(
    responses: list[list[tuple[str, int]]], at_most: int, begin_at: int
) -> None:
    broker = Broker(responses)
    fetched = Fetched(begin_at)
    found: list[int] = []
    while fetched.add(broker.fetch(fetched.fetch_offset), ENOUGH):
        while records := fetched.take(at_most):
            assert len(records) <= at_most
            found += [record.offset for record in records]
    assert found == [offset for offset in broker.records if offset >= begin_at]
    assert fetched.position == max(broker.end, begin_at)


def test_a_damaged_batch_is_fetched_once_more_and_then_each_of_its_records_is_undecodable() -> None:
    fetched = Fetched(0)
    raw = batch_of(0, 2) + damaged(batch_of(2, 3)) + batch_of(5, 1)
    assert fetched.add(raw, ENOUGH)
    assert fetched.fetch_offset == 6
    assert [record.offset for record in fetched.take(10)] == [0, 1]
    assert (fetched.position, fetched.fetch_offset) == (2, 2)
    assert fetched.add(raw, ENOUGH), "the broker sends the whole of it again"
    records = fetched.take(10)
    assert [record.offset for record in records] == [2, 3, 4, 5]
    assert [isinstance(record, Undecodable) for record in records] == [True, True, True, False]


def test_a_batch_that_was_damaged_in_transit_is_read_as_it_is() -> None:
    fetched = Fetched(0)
    fetched.add(damaged(batch_of(0, 2)), ENOUGH)
    assert fetched.take(10) == []
    fetched.add(batch_of(0, 2), ENOUGH)
    assert [type(record) is Undecodable for record in fetched.take(10)] == [False, False]


def test_the_beginning_of_a_batch_alone_is_too_large() -> None:
    fetched = Fetched(0)
    with pytest.raises(kafka_errors.RecordTooLargeError):
        fetched.add(batch_of(0, 2)[:-3], ENOUGH)
    assert not fetched.add(b"", ENOUGH)
