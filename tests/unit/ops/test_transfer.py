"""The format of an archive: what goes in comes out, and no byte of it can change unseen."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest
from aiokafka.producer.message_accumulator import BatchBuilder
from hypothesis import assume, given
from hypothesis import strategies as st
from msgspec import structs

from schemas.log import Head
from services.ops.transfer.entries import EntriesBroken, Entry, KeptBatch, KeptRecord, pack_entry, unpack
from services.ops.transfer.manifest import (
    LogIdentity,
    Manifest,
    ManifestBroken,
    PartitionCopy,
    Topic,
    TopicCopy,
    check_whole,
    decode_manifest,
    empty_manifest,
    encode_manifest,
    newer,
    segment_path,
)
from services.ops.transfer.plan import Alone, Markers, Together, pieces
from services.ops.transfer.segments import Segment, SegmentBroken, SegmentBuilder, content_of, entries_in
from services.ops.transfer.writing import empty_records
from services.runtime.kafka.batches import BATCH_BYTES, BatchBody, CopiedBatch, batches_in

nullable = st.none() | st.binary(max_size=30)
headers = st.lists(st.tuples(st.text(max_size=8), nullable), max_size=4)
times = st.integers(-1, 2**62)


@st.composite
def rows(draw: st.DrawFn) -> list[Entry]:
    """Return entries as a partition has them: in order, some offsets missing."""
    at, found = draw(st.integers(0, 2**40)), []
    for _ in range(draw(st.integers(1, 8))):
        at += draw(st.sampled_from((0, 0, 0, 1, 3)))
        entry: Entry
        if draw(st.integers(0, 4)) == 0:
            data = draw(st.binary(max_size=40))
            entry = KeptBatch(at, draw(times), draw(times), draw(st.integers(1, 5)), draw(st.integers(0, 4)), data)
        else:
            entry = KeptRecord(at, draw(times), draw(nullable), draw(nullable), draw(headers))
        found.append(entry)
        at = entry.next_offset
    return found


def sealed(entries: list[Entry]) -> tuple[Segment, bytes]:
    builder = SegmentBuilder()
    for entry in entries:
        builder.add(entry)
    return builder.seal()


@given(rows())
def test_a_segment_holds_what_was_put_into_it(entries: list[Entry]) -> None:
    segment, stored = sealed(entries)
    assert entries_in(segment, content_of(segment, stored)) == entries
    assert (segment.first, segment.last) == (entries[0].offset, entries[-1].next_offset - 1)
    assert segment.records == sum(entry.next_offset - entry.offset for entry in entries)


@given(rows(), st.data())
def test_every_changed_byte_of_a_segment_is_found(entries: list[Entry], data: st.DataObject) -> None:
    segment, stored = sealed(entries)
    every_bit = [1 << bit for bit in range(8)]  # one in the header of a compressed frame has no meaning
    for at in range(len(stored)):
        for flips in (*every_bit, data.draw(st.integers(1, 255))):
            changed = stored[:at] + bytes([stored[at] ^ flips]) + stored[at + 1 :]
            with pytest.raises(SegmentBroken):
                content_of(segment, changed)
    for shorter in (stored[:-1], stored + b"\0", b""):
        with pytest.raises(SegmentBroken, match="bytes, not"):
            content_of(segment, shorter)


@given(rows(), rows())
def test_a_segment_is_not_taken_for_another(entries: list[Entry], others: list[Entry]) -> None:
    (segment, _), (other, stored) = sealed(entries), sealed(others)
    assume(segment.digest != other.digest)
    with pytest.raises(SegmentBroken):
        content_of(segment, stored)
    with pytest.raises(SegmentBroken):
        content_of(structs.replace(other, digest=segment.digest), stored)


@given(rows())
def test_the_digest_of_a_log_does_not_depend_on_where_it_was_cut(entries: list[Entry]) -> None:
    whole, stored = sealed(entries)
    parts = [content_of(*sealed([entry])) for entry in entries]
    assert b"".join(parts) == content_of(whole, stored)


NOT_UTF8 = pack_entry(KeptRecord(0, 0, None, None, [("name", None)])).replace(b"name", b"nam\xff")


@pytest.mark.parametrize(
    "content",
    [b"\0\0", b"\0\0\0\5abc", b"\0\0\0\3abc", b"\0\0\0\1\xc0", NOT_UTF8],
)
def test_content_that_is_no_row_of_entries_is_refused(content: bytes) -> None:
    with pytest.raises(EntriesBroken):
        unpack(content)


def test_entries_out_of_order_are_refused() -> None:
    one, two = KeptRecord(1, 0, None, b"1", []), KeptRecord(2, 0, None, b"2", [])
    segment, _ = sealed([one, two])
    for content in (pack_entry(two) + pack_entry(one), pack_entry(one) * 2, pack_entry(one)):
        with pytest.raises(SegmentBroken):
            entries_in(segment, content)


# --- the manifest -----------------------------------------------------------------------------------------------------

LOG = LogIdentity(partitions=2, events="chat.events", events_id="e", commands="chat.commands", commands_id="c")


def segment_of(first: int, last: int) -> Segment:
    return sealed([KeptRecord(offset, 0, None, b"x", []) for offset in range(first, last + 1)])[0]


def whole() -> Manifest:
    """Return a manifest whose first partition has two events and the commands 4 to 6, of which 5 was decided last."""
    events = TopicCopy(end=2, segments=(segment_of(0, 0), segment_of(1, 1)))
    commands = TopicCopy(begin=4, end=7, segments=(segment_of(2, 4), segment_of(5, 6)))
    first = PartitionCopy(partition=0, head=Head(1, 1, 5, 9), events=events, commands=commands)
    return Manifest(exported_at="then", log=LOG, partitions=(first, PartitionCopy(partition=1)))


def test_a_manifest_is_read_back_and_every_changed_byte_is_found() -> None:
    raw = encode_manifest(whole())
    assert msgspec.structs.replace(decode_manifest(raw), digest="") == whole()
    for at in range(len(raw)):
        for flips in (1, 2, 0x20, 0x80):
            with pytest.raises(ManifestBroken):
                decode_manifest(raw[:at] + bytes([raw[at] ^ flips]) + raw[at + 1 :])
    for other in (raw[:-1], raw + b"\n", b"", b"{}", b'{"format": 2}'):
        with pytest.raises(ManifestBroken):
            decode_manifest(other)


def in_partition_0(**changes: object) -> Callable[[Manifest], Manifest]:
    def change(manifest: Manifest) -> Manifest:
        first, *rest = manifest.partitions
        return structs.replace(manifest, partitions=(structs.replace(first, **changes), *rest))

    return change


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda m: structs.replace(m, partitions=m.partitions[1:]), "names partitions"),
        (in_partition_0(events=TopicCopy(end=2, segments=(segment_of(1, 1),))), "leaves out events .* from offset 0"),
        (in_partition_0(events=TopicCopy(end=3, segments=(segment_of(0, 1),))), "leaves out events .* from offset 2"),
        (in_partition_0(commands=TopicCopy(begin=4, end=7, segments=(segment_of(5, 6), segment_of(2, 4)))), "order"),
        (in_partition_0(head=Head(1, 1, 7, 9)), "the next one to decide is 8"),
        (in_partition_0(head=Head(1, 1, 2, 9)), "the next one to decide is 3"),
    ],
)
def test_an_archive_that_no_sequencer_could_go_on_with_is_refused(
    change: Callable[[Manifest], Manifest], why: str
) -> None:
    check_whole(whole())
    check_whole(in_partition_0(head=Head(1, 1, 6, 9))(whole()))
    check_whole(in_partition_0(head=Head(1, 1, 3, 9))(whole()))
    with pytest.raises(ManifestBroken, match=why):
        check_whole(change(whole()))


def test_only_segments_that_reach_into_the_topic_are_imported() -> None:
    copy = whole().partitions[0].commands
    assert copy.present() == copy.segments
    assert structs.replace(copy, begin=5).present() == copy.segments[1:]


def test_an_unfinished_export_counts_if_it_got_further() -> None:
    less, more = empty_manifest(LOG), whole()
    assert newer(less, more) is more
    assert newer(more, less) is more
    assert newer(more, whole()) is more
    assert newer(None, more) is more
    assert newer(more, None) is more
    assert newer(None, None) is None


def test_a_path_names_the_content() -> None:
    one, other = segment_of(0, 1), sealed([KeptRecord(0, 1, None, b"x", []), KeptRecord(1, 0, None, b"x", [])])[0]
    assert segment_path(Topic.EVENTS, 3, one) != segment_path(Topic.EVENTS, 3, other)
    assert segment_path(Topic.EVENTS, 3, one).startswith("events/00003/")


# --- what is appended -------------------------------------------------------------------------------------------------


@given(rows(), st.integers(0, 200), st.integers(0, 3))
def test_pieces_have_every_entry_once_in_order_and_without_a_gap(
    entries: list[Entry], max_bytes: int, before: int
) -> None:
    at = max(0, entries[0].offset - before)
    found: list[Entry] = []
    for piece in pieces(entries, at=at, max_bytes=max_bytes):
        assert piece.first == at
        assert piece.next_offset > at
        if isinstance(piece, Together):
            assert len(piece.records) == 1 or sum(record.size for record in piece.records) <= max_bytes
            found += piece.records
        elif isinstance(piece, Alone):
            found.append(piece.batch)
        else:
            assert isinstance(piece, Markers)
        at = piece.next_offset
    assert found == entries


@given(st.lists(st.builds(KeptRecord, st.just(0), times, nullable, nullable, headers), min_size=1, max_size=8))
def test_a_record_takes_no_more_of_a_batch_than_it_says(records: list[KeptRecord]) -> None:
    batch = BatchBuilder(BATCH_BYTES, 0)
    empty = batch.size()
    for record in records:
        batch.append(timestamp=record.timestamp, key=record.key, value=record.value, headers=record.headers)
    assert batch.size() - empty <= sum(record.size for record in records)


@pytest.mark.parametrize("count", [1, 63, 64, 65, 8_192, 8_193, 40_000])
def test_empty_records_are_as_many_as_said_and_fit_into_a_batch_of_commands(count: int) -> None:
    raw = CopiedBatch(BatchBody(count, 0, 0, 0, empty_records(count)))._build()
    assert len(raw) < 400_000
    (batch,) = batches_in(raw)
    assert batch.validate_crc()
    assert batch.next_offset - batch.base_offset == count
    assert [(r.offset, r.key, r.value, list(r.headers)) for r in batch.records()] == [
        (offset, None, None, []) for offset in range(count)
    ]
