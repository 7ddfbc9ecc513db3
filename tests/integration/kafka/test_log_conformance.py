"""The promises of readers and appenders, checked on the real broker and on the simulated log.

The simulation of tests/simulation is only as good as its log: the production writer relies on each of these statements,
and both logs must keep them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise

import pytest

from schemas.events import OtherOutcome, Outcome
from schemas.log import Stamp
from schemas.wire.encoding import Encoded, Record, Undecodable, encode_outcome
from services.runtime.kafka import appender, batches
from services.runtime.kafka.errors import AppendUnknown, OffsetMissing
from services.runtime.kafka.plain_records import plain_records
from services.sequencer.ports import LogReader
from tests.support.log_backends import SOURCE, Backend, Check, Stamped, append, on_kafka, on_simulated

Holds = Callable[[Check], None]


@pytest.fixture(params=["simulated", "kafka", "kafka, by its client's codec"])
def holds(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Holds:
    """Return a function that runs a check on one of them."""
    if request.param == "simulated":
        return on_simulated
    if request.param != "kafka":
        monkeypatch.setattr(appender, "new_outcome_batch", batches.OutcomeBatch)
        monkeypatch.setattr(batches, "split_records", plain_records)
    kafka: str = request.getfixturevalue("kafka")
    return lambda check: on_kafka(kafka, check)


def test_an_append_is_acknowledged_where_its_first_record_stands(holds: Holds) -> None:
    async def check(log: Backend) -> None:
        appender = await log.appender()
        assert [await append(appender, _batch(f"{n}", n), 10) for n in (1, 3, 2, 1)] == [0, 1, 4, 6]

    holds(check)


def test_what_is_acknowledged_is_inside_the_bounds_and_readable_at_once(holds: Holds) -> None:
    async def check(log: Backend) -> None:
        appender, reader = await log.appender(), await log.reader(0)
        assert await reader.bounds() == (0, 0)
        for n in range(5):
            base = await append(appender, _batch(f"{n}", 2), 10)
            assert await reader.bounds() == (0, base + 2)
            assert [r.offset for r in await _exactly(reader, 2)] == [base, base + 1]

    holds(check)


def test_a_reader_gets_every_record_as_it_was_appended_in_order(holds: Holds) -> None:
    async def check(log: Backend) -> None:
        appender = await log.appender()
        sent = [
            (OtherOutcome("term.opened.v1", 1_700_000_000_000, b""), Stamp(1, 0, -1)),
            (_text("é"), Stamp(1, 1, 7)),
            (OtherOutcome("x.v1", 1_600_000_000_000, b"\x00\xff", key=b""), Stamp(1, 2, 1 << 40)),
        ]
        await append(appender, sent[:2], 10)
        await append(appender, sent[2:], 10)
        found = await _exactly(await log.reader(0), 3)
        assert [r.offset for r in found] == [0, 1, 2]
        told = [Encoded(r.key, r.value or b"", list(r.headers), r.timestamp) for r in found]
        assert told == [encode_outcome(*each, SOURCE) for each in sent]

    holds(check)


def test_a_reader_at_the_end_waits_and_gets_nothing_in_vain(holds: Holds) -> None:
    async def check(log: Backend) -> None:
        appender, reader = await log.appender(), await log.reader(0)
        await append(appender, _batch("x", 2), 10)
        await _exactly(reader, 2)
        began_s = _now_s()
        assert await reader.read(max_records=10, timeout_s=0.5) == []
        assert 0.4 < _now_s() - began_s < 60
        assert reader.position == 2

    holds(check)


def test_a_waiting_reader_is_served_as_soon_as_something_lands(holds: Holds) -> None:
    async def check(log: Backend) -> None:
        appender, reader = await log.appender(), await log.reader(0)
        waiting = asyncio.create_task(reader.read(max_records=10, timeout_s=120))
        await asyncio.sleep(0.3)
        assert not waiting.done()
        began_s = _now_s()
        await append(appender, _batch("x", 1), 10)
        assert [r.offset for r in await waiting] == [0]
        assert _now_s() - began_s < 60

    holds(check)


def test_a_read_that_is_cut_off_at_any_moment_loses_nothing_once_the_reader_is_sought_back(holds: Holds) -> None:
    """A standby that takes over cancels its read, and folds on with the same reader."""

    async def check(log: Backend) -> None:
        appender, reader = await log.appender(), await log.reader(0)
        found: list[int] = []
        for n in range(40):
            reading = asyncio.create_task(reader.read(max_records=10, timeout_s=5))
            appending = asyncio.create_task(append(appender, _batch(f"{n}", 1), 10))
            await asyncio.sleep(n * 0.0002)  # from the moment of the request to well after the answer
            reading.cancel()
            await asyncio.wait({reading, appending})
            if not reading.cancelled():
                found += [r.offset for r in reading.result()]
            await reader.seek(len(found))
        found += [r.offset for r in await _exactly(reader, 40 - len(found))]
        assert found == list(range(40))

    holds(check)


def test_a_read_gives_no_more_than_asked_for_and_the_next_goes_on(holds: Holds) -> None:
    async def check(log: Backend) -> None:
        appender, reader = await log.appender(), await log.reader(0)
        await append(appender, _batch("x", 7), 10)
        found: list[int] = []
        while len(found) < 7:
            records = await reader.read(max_records=3, timeout_s=1)
            assert len(records) <= 3
            found += [r.offset for r in records]
            assert reader.position == len(found)
        assert found == list(range(7))

    holds(check)


def test_a_reader_may_begin_anywhere_and_seek_anywhere(holds: Holds) -> None:
    async def check(log: Backend) -> None:
        appender = await log.appender()
        await append(appender, _batch("x", 6), 10)
        reader = await log.reader(4)
        assert [r.offset for r in await _exactly(reader, 2)] == [4, 5]
        for offset in (0, 3, 5, 1):
            await reader.seek(offset)
            assert reader.position == offset
            assert [r.offset for r in await _exactly(reader, 6 - offset)] == list(range(offset, 6))
        await reader.seek(6)
        assert await reader.read(max_records=10, timeout_s=0.3) == []
        await append(appender, _batch("y", 1), 10)
        assert [r.offset for r in await _exactly(reader, 1)] == [6]

    holds(check)


@pytest.mark.parametrize("where", ["before the first record", "beyond the end"])
def test_an_offset_that_the_log_does_not_hold_is_missing_and_a_seek_mends_it(holds: Holds, where: str) -> None:
    async def check(log: Backend) -> None:
        appender = await log.appender()
        await append(appender, _batch("x", 6), 10)
        await log.trim(3)
        reader = await log.reader(1 if where.startswith("before") else 9)
        assert await reader.bounds() == (3, 6)
        with pytest.raises(OffsetMissing):
            await _exactly(reader, 1)
        await reader.seek(3)
        assert [r.offset for r in await _exactly(reader, 3)] == [3, 4, 5]

    holds(check)


def test_trimming_leaves_the_end_and_the_offsets_as_they_are(holds: Holds) -> None:
    async def check(log: Backend) -> None:
        appender = await log.appender()
        await append(appender, _batch("x", 4), 10)
        await log.trim(4)
        reader = await log.reader(4)
        assert await reader.bounds() == (4, 4)
        assert await append(appender, _batch("y", 1), 10) == 4
        assert [r.offset for r in await _exactly(reader, 1)] == [4]

    holds(check)


def test_appenders_interleave_by_whole_batches_and_each_keeps_its_order(holds: Holds) -> None:
    async def check(log: Backend) -> None:
        bases: dict[str, list[int]] = {}

        async def write(name: str) -> None:
            appender = await log.appender()
            bases[name] = [await append(appender, _batch(f"{name}{n}", 3), 10) for n in range(8)]

        await asyncio.gather(*(write(name) for name in "abc"))
        found = await _exactly(await log.reader(0), 3 * 8 * 3)
        values = [r.value for r in found]
        for name, told in bases.items():
            assert all(low < high for low, high in pairwise(told))
            for n, base in enumerate(told):
                assert values[base : base + 3] == [f"{name}{n}.{i}".encode() for i in range(3)]

    holds(check)


@pytest.mark.parametrize("end", ["stop", "discard"])
def test_an_appender_that_ended_appends_no_more_and_keeps_what_it_had(holds: Holds, end: str) -> None:
    async def check(log: Backend) -> None:
        appender = await log.appender()
        await append(appender, _batch("x", 2), 10)
        if end == "stop":
            await appender.stop()
        else:
            assert await appender.discard()
        with pytest.raises(AppendUnknown):
            await append(appender, _batch("y", 1), 3)
        other = await log.appender()
        assert await append(other, _batch("z", 1), 10) == 2
        assert [r.value for r in await _exactly(await log.reader(0), 3)] == [b"x.0", b"x.1", b"z.0"]

    holds(check)


def test_an_append_that_nobody_waits_for_any_more_is_there_whole_or_not_at_all(holds: Holds) -> None:
    async def check(log: Backend) -> None:
        for n in range(6):
            abandoned = await log.appender()
            appending = asyncio.create_task(append(abandoned, _batch(f"abandoned {n}", 4), 10))
            await asyncio.sleep(0.0005 * n)
            appending.cancel()
            await asyncio.wait({appending})
            await abandoned.discard()
        last = await append(await log.appender(), _batch("last", 1), 10)
        reader = await log.reader(0)
        values = [r.value or b"" for r in await _exactly(reader, last + 1)]
        for n in range(6):
            there = [v for v in values if v.startswith(b"abandoned %d." % n)]
            assert there in ([], [b"abandoned %d.%d" % (n, i) for i in range(4)])

    holds(check)


def test_an_offset_without_a_record_is_passed(holds: Holds) -> None:
    """A transaction's marker takes one: positions go past it, and a reader at the end is after it."""

    async def check(log: Backend) -> None:
        assert await log.append_in_a_transaction(encode_outcome(*_batch("t", 1)[0], SOURCE)) == 0
        appender, reader = await log.appender(), await log.reader(0)
        assert await append(appender, _batch("x", 1), 10) == 2
        assert [r.offset for r in await _exactly(reader, 2)] == [0, 2]
        assert await log.append_in_a_transaction(encode_outcome(*_batch("t", 1)[0], SOURCE)) == 3
        assert [r.offset for r in await _exactly(reader, 1)] == [3]
        await _until_position(reader, 5)
        assert await reader.bounds() == (0, 5)

    holds(check)


def test_a_record_that_cannot_be_decoded_stands_in_its_place(holds: Holds) -> None:
    async def check(log: Backend) -> None:
        appender = await log.appender()
        await append(appender, _batch("x", 2), 10)
        assert await log.append_undecodable() == 2
        await append(appender, _batch("y", 2), 10)
        found = await _exactly(await log.reader(0), 5)
        assert [r.offset for r in found] == [0, 1, 2, 3, 4]
        assert [isinstance(r, Undecodable) for r in found] == [False, False, True, False, False]

    holds(check)


def _batch(name: str, records: int) -> list[Stamped]:
    return [(_text(f"{name}.{n}", n), Stamp(1, n + 1, n)) for n in range(records)]


def _text(body: str, n: int = 0) -> Outcome:
    return OtherOutcome("message.sent.v1", 1_700_000_000_000 + n, body.encode(), key=b"k", seq=n)


async def _exactly(reader: LogReader, count: int) -> list[Record]:
    """Read exactly that many, and check that no more arrive at once."""
    found: list[Record] = []
    async with asyncio.timeout(120):
        while len(found) < count:
            found += await reader.read(max_records=1_000, timeout_s=0.5)
    assert len(found) == count
    return found


async def _until_position(reader: LogReader, position: int) -> None:
    async with asyncio.timeout(120):
        while reader.position < position:
            assert await reader.read(max_records=10, timeout_s=0.3) == []


def _now_s() -> float:
    return asyncio.get_running_loop().time()
