"""What a reader trusts in a record batch: where the broker put it and how many records it has, and nothing else."""

from __future__ import annotations

import random
import struct
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.wire.encoding import Encoded, Undecodable
from services.runtime.kafka.decompression import MAX_BYTES, decompressed
from tests.support.examples import examples
from tests.support.forged_batches import CODECS, Forged, ForgedRecord, any_batch, raw
from tests.support.record_batches import parsed
from tests.support.ways import SPLITS, WAYS

BASE = 1_000
RECORD = ForgedRecord(key=b"k", value=b"v", headers=[(b"a", b"1")])


def stored(forged: Forged) -> bytes:
    """Return the batch as a broker stores it."""
    return struct.pack(">q", BASE) + raw(forged)[8:]


def _seen(record: Any) -> tuple[object, ...]:
    return record.offset, record.timestamp, record.key, record.value, [*record.headers]


@examples(1_500)
@given(st.integers(0, 2**32))
def test_whatever_a_producer_writes_there_is_one_record_for_each_offset_the_same_by_both_ways(seed: int) -> None:
    rng = random.Random(seed)
    commands = [Encoded(b"k", b"%d" % i, [("a", b"1"), ("b", b"2")]) for i in range(rng.randint(1, 5))]
    forged = any_batch(rng, commands)
    if forged.last_offset_delta not in (None, len(commands) - 1):
        return  # refused by a broker
    by_ways = [parsed(stored(forged), split) for split in SPLITS]
    for found in by_ways:
        assert [_seen(record) for record in found] == [_seen(record) for record in by_ways[0]]
        if not forged.attributes & 0x20:
            assert [record.offset for record in found] == [BASE + i for i in range(len(commands))]


@pytest.mark.parametrize("split", SPLITS, ids=WAYS)
@pytest.mark.parametrize("deltas", [(0, 0), (0, 1_000), (5,), (1, 0), (-1,), (1 << 30, 1)], ids=str)
def test_a_record_that_says_it_is_elsewhere_is_undecodable_where_it_is(split: Any, deltas: tuple[int, ...]) -> None:
    found = parsed(stored(Forged(records=[replace(RECORD, delta=delta) for delta in deltas])), split)
    assert [record.offset for record in found] == [BASE + i for i in range(len(deltas))]
    assert [isinstance(record, Undecodable) for record in found] == [delta != i for i, delta in enumerate(deltas)]


@pytest.mark.parametrize("split", SPLITS, ids=WAYS)
def test_attributes_of_a_record_are_one_byte_and_mean_nothing(split: Any) -> None:
    found = parsed(
        stored(Forged(records=[replace(RECORD, attributes=a) for a in (0, 1, 0x80)], first_timestamp=0)), split
    )
    assert [_seen(record)[2:] for record in found] == [(b"k", b"v", [("a", b"1")])] * 3


@pytest.mark.parametrize("split", SPLITS, ids=WAYS)
def test_sizes_are_read_as_kafka_reads_them(split: Any) -> None:
    odd = [
        replace(RECORD, high_bits=True),
        replace(RECORD, longer_numbers=True),
        replace(RECORD, key=None, key_size=-7),
    ]
    assert [_seen(record)[2:] for record in parsed(stored(Forged(records=odd)), split)] == [
        (b"k", b"v", [("a", b"1")]), (b"k", b"v", [("a", b"1")]), (None, b"v", [("a", b"1")]),
    ]  # fmt: skip


@pytest.mark.parametrize("split", SPLITS, ids=WAYS)
def test_a_batch_of_another_format_is_one_undecodable_record(split: Any) -> None:
    other = raw(Forged(records=[RECORD], magic=1))
    first, second = parsed(other + stored(Forged(records=[RECORD])), split)
    assert (type(first), first.offset, second.offset, second.value) == (Undecodable, 0, BASE, b"v")


@pytest.mark.parametrize("split", SPLITS, ids=WAYS)
@pytest.mark.parametrize("codec", [1, 2, 3, 4])
def test_compressed_records_are_read_up_to_a_limit(split: Any, codec: int) -> None:
    found = parsed(stored(Forged(records=[RECORD, RECORD], attributes=codec)), split)
    assert [_seen(record)[2:] for record in found] == [(b"k", b"v", [("a", b"1")])] * 2
    bomb = parsed(stored(Forged(records=[RECORD, RECORD], attributes=codec, more=bytes(MAX_BYTES + 1))), split)
    assert [(record.offset, type(record)) for record in bomb] == [(BASE, Undecodable), (BASE + 1, Undecodable)]


@pytest.mark.parametrize("codec", [1, 2, 3, 4, 5, 7])
@pytest.mark.parametrize("damaged", [b"", b"x", b"\xff" * 40, b"\x82SNAPPY\0\0\0\0\1\0\0\0\1\0\0\0\x09x"])
def test_damaged_data_cannot_be_decompressed_and_says_so(codec: int, damaged: bytes) -> None:
    with pytest.raises(ValueError, match=r"decompressed|codec|block"):
        decompressed(codec, damaged)
    whole = CODECS.get(codec, bytes)(b"abc" * 1_000)
    if codec in CODECS:
        assert decompressed(codec, whole) == b"abc" * 1_000
