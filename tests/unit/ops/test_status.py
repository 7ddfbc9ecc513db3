"""What counts as stopped, and what `gapless status` prints of it: pure."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from services.ops.cli.status_lines import LINES, status_json, status_lines
from services.ops.inspect.asked import Asked, asked_of
from services.ops.inspect.heartbeats import Heard, Listener
from services.ops.inspect.lag import Backlog, PartitionBacklog
from services.ops.inspect.status import (
    FED_WITHIN_S,
    Ends,
    LastOpening,
    PartitionStatus,
    Status,
    spans,
    standbys_of,
    stopped,
    writer_of,
)
from services.runtime.kafka.errors import KafkaUnavailable
from services.sequencer.peers.heartbeat import Heartbeat, encode_heartbeat
from tests.support.chat_log import LogRecord

NONE = Backlog(records=0, seconds=0.0)
READY = Asked(name="query", url="http://query", ready=True)


def heartbeat(name: str, serves: dict[int, int], stands_by: set[int] | None = None, number: int = 1) -> Heartbeat:
    return Heartbeat(process=f"{name}-run", name=name, number=number, serves=serves, stands_by=stands_by or set())


def partition(number: int, writer: str | None = "s1", standbys: tuple[str, ...] = ("s2",), **backlogs: Backlog) -> Any:
    undecided = backlogs.pop("undecided", NONE)
    return PartitionStatus(
        partition=number,
        opening=LastOpening(partition=number, term=7, owner="0f" * 16, host="h1", at_ms=1_700_000_000_000 + number),
        writer=writer,
        standbys=standbys,
        backlog=PartitionBacklog(partition=number, undecided=undecided, unprojected={"v1": NONE, **backlogs}),
        ends=Ends(commands=1, events=1, index=0),
    )


def status(*partitions: PartitionStatus, **more: Any) -> Status:
    given: dict[str, Any] = {"heard": ["s1", "s2"], "processes": [READY], "serving": "v1", "fed_s": {0: 1.0}, **more}
    return Status(at_ms=1_700_000_100_000, partitions=partitions, **given)


def test_a_system_in_which_all_is_well_has_nothing_stopped() -> None:
    well = status(partition(0), partition(1))
    assert stopped(well) == []
    assert status_lines(well)[0] == ("Nothing is stopped: 2 partitions are written and served.", "green")
    assert (status_json(well)["ok"], status_json(well)["stopped"]) == (True, [])


@pytest.mark.parametrize(
    ("ill", "sentence"),
    [
        (status(partition(0), partition(1, writer=None, undecided=Backlog(records=5, seconds=1.0))),
         "No sequencer is heard to write partitions 1: 5 commands wait there."),
        (status(partition(0), processes=[replace(READY, ready=False, reasons=("partition 3 is stopped.",))]),
         "query is not ready: partition 3 is stopped."),
        (status(partition(0, v1=Backlog(records=0, seconds=0.0, beyond=1_000))),
         "v1 is 1,000 records ahead of the log"),
        (status(partition(0), fed_s={0: FED_WITHIN_S + 60, 1: 2.0}),
         "No projector has fed partitions 0 of v1 for 90 s."),
        (status(partition(0), troubles=["Postgres does not serve this: no."]), "Postgres does not serve this: no."),
    ],
)  # fmt: skip
def test_what_is_stopped_is_named_with_its_reason(ill: Status, sentence: str) -> None:
    [said] = stopped(ill)
    assert said.startswith(sentence)
    assert status_lines(ill)[0][1] == "red"
    assert any(sentence in line for line, _ in status_lines(ill))


def test_a_writer_that_nothing_could_tell_of_is_not_called_stopped() -> None:
    unknown = status(partition(0, writer=None, standbys=()), heard=None)
    assert stopped(unknown) == []
    assert any("writer unknown" in line for line, _ in status_lines(unknown))
    asked = status(partition(0, writer=None), heard=None, processes=[replace(READY, terms={1: 3})])
    assert len(stopped(asked)) == 1


def test_the_writer_is_the_process_that_writes_in_the_last_term() -> None:
    heartbeats = [heartbeat("replaced", {0: 6}), heartbeat("writer", {0: 7}, {1}), heartbeat("other", {1: 9}, {0})]
    assert writer_of(0, 7, heartbeats, []) == "writer"
    assert writer_of(0, 8, heartbeats, []) is None
    assert writer_of(2, 0, heartbeats, []) is None
    assert writer_of(0, 8, heartbeats, [replace(READY, name="asked", terms={0: 8})]) == "asked"
    assert standbys_of(0, heartbeats) == ("other",)


def test_a_process_that_is_silent_is_not_heard() -> None:
    heard = Heard(1.0)
    heard.take(heartbeat("a", {0: 1}, number=2), 10.0)
    heard.take(heartbeat("a", {0: 9}, number=1), 10.2)  # appended late: it is older
    heard.take(heartbeat("b", {1: 1}), 10.9)
    assert [each.name for each in heard.now(11.0)] == ["a", "b"]
    assert heard.now(11.0)[0].serves == {0: 1}
    assert [each.name for each in heard.now(11.5)] == ["b"]


class Arriving:
    """A reader of heartbeats that arrive one by one, whenever the test says so."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[bytes | KafkaUnavailable] = asyncio.Queue()

    async def read(self, *, max_records: int, timeout_s: float) -> list[LogRecord]:
        value = await self.sent.get()
        if isinstance(value, KafkaUnavailable):
            raise value
        return [LogRecord(offset=0, timestamp=1, key=None, value=value, headers=[])]


def test_a_process_that_died_since_the_last_look_is_not_heard_and_the_others_are() -> None:
    silent_s = 1.0

    async def main() -> None:
        reader, loop = Arriving(), asyncio.get_running_loop()
        listener = Listener(reader, Heard(silent_s))  # type: ignore[arg-type]
        listening = asyncio.create_task(listener.run())
        began_s = loop.time()
        for name in ("died", "runs"):
            reader.sent.put_nowait(encode_heartbeat(heartbeat(name, {0: 1})))
        reader.sent.put_nowait(b"of another program")
        number = 1
        while loop.time() < began_s + 2 * silent_s:  # no one asks meanwhile
            number += 1
            reader.sent.put_nowait(encode_heartbeat(heartbeat("runs", {0: 1}, number=number)))
            await asyncio.sleep(silent_s / 20)
        while not reader.sent.empty():
            await asyncio.sleep(0)
        assert [each.name for each in await listener.heard()] == ["runs"]
        reader.sent.put_nowait(KafkaUnavailable("no broker"))
        await listening
        with pytest.raises(KafkaUnavailable, match="no broker"):
            await listener.heard()

    asyncio.run(main())


def test_the_first_look_listens_until_a_silent_process_is_known() -> None:
    async def main() -> None:
        reader = Arriving()
        listener = Listener(reader, Heard(1.0))  # type: ignore[arg-type]
        listening = asyncio.create_task(listener.run())
        asking = asyncio.create_task(listener.heard())
        await asyncio.sleep(0.05)
        assert not asking.done()
        reader.sent.put_nowait(encode_heartbeat(heartbeat("late", {0: 1})))
        assert [each.name for each in await asking] == ["late"]
        listening.cancel()

    asyncio.run(main())


def test_a_status_never_takes_more_lines_than_a_terminal_has() -> None:
    reasons = tuple(f"reason {n}." for n in range(40))
    many = [
        partition(n, writer=None if n % 3 else f"s{n}", standbys=(f"s{n + 1}", f"s{n + 2}"), v2=NONE, v3=NONE, v4=NONE)
        for n in range(64)
    ]
    processes = [Asked(name=f"p{n}", url="", ready=False, reasons=reasons[:1]) for n in range(40)]
    for shown in (many, many[:8]):
        lines = status_lines(status(*shown, processes=processes))
        assert len(lines) <= LINES
        assert "ready: 0 of 40" in lines[-1][0]
        assert any("more: --json has all" in line for line, _ in lines)
    assert len(status_json(status(*many, processes=processes))["stopped"]) == 41


def test_what_a_process_says_is_read_from_its_two_pages() -> None:
    metrics = (
        "# TYPE gapless_sequencer_term gauge\n"
        'gapless_sequencer_term{partition="3"} 7.0\ngapless_sequencer_term{partition="4"} 0.0\n'
        "# TYPE gapless_live_streams gauge\n"
        'gapless_live_streams{kind="sse"} 2.0\ngapless_live_streams{kind="websocket"} 3.0\n'
    )
    said = {"ready": False, "reasons": ["one."], "needs_operator": ["one."], "notes": ["two."]}
    found = asked_of("s", "http://s", said, metrics, answers=503)
    assert (found.ready, found.reasons, found.needs_operator, found.notes) == (False, ("one.",), ("one.",), ("two.",))
    assert (dict(found.terms), found.streams) == ({3: 7}, 5)
    quiet = asked_of("s", "http://s", {"ready": True}, "# TYPE gapless_live_streams gauge\n", answers=200)
    assert (quiet.ready, quiet.streams) == (True, 0)
    strange = asked_of("s", "http://s", ["?"], "", answers=404)
    assert (strange.ready, strange.reasons, strange.streams) == (False, ("It answers 404 at http://s/readyz.",), None)


def test_numbers_are_put_together() -> None:
    assert spans([0, 1, 2, 5, 7, 8]) == "0-2, 5, 7-8"
    assert spans([]) == ""
