"""What `gapless top` shows: rates between two looks, and the view as text of a fixed width."""

from __future__ import annotations

from dataclasses import replace
from io import StringIO

from rich.console import Console

from services.ops.cli.top_view import PARTITIONS_SHOWN, top_json, top_view
from services.ops.inspect.asked import Asked
from services.ops.inspect.lag import Backlog, PartitionBacklog
from services.ops.inspect.rates import UNKNOWN, Rate, rates, total_rate
from services.ops.inspect.status import Ends, LastOpening, PartitionStatus, Status

NONE = Backlog(records=0, seconds=0.0)


def partition(number: int, commands: int, events: int, index: int, writer: str | None = "slot-0") -> PartitionStatus:
    unprojected = {"v1": Backlog(records=number, seconds=1.5 * number), "v1 search": NONE}
    return PartitionStatus(
        partition=number,
        opening=LastOpening(partition=number, term=7 + number, owner="0", host="h1", at_ms=1_700_000_000_000 + number),
        writer=writer,
        standbys=(),
        backlog=PartitionBacklog(partition=number, undecided=NONE, unprojected=unprojected),
        ends=Ends(commands=commands, events=events, index=index),
    )


def status(at_s: float, *partitions: PartitionStatus) -> Status:
    asked = [Asked(name="api", url="", ready=True, streams=12), Asked(name="projector", url="", ready=True)]
    at_ms = 1_700_000_000_000 + int(at_s * 1000)
    return Status(at_ms=at_ms, partitions=partitions, heard=["slot-0"], processes=asked, serving="v1")


BEFORE = status(0, partition(0, 100, 120, 110), partition(1, 5, 6, 5))
NOW = status(2, partition(0, 300, 325, 311), partition(1, 5, 6, 5, writer=None))


def text(now: Status, before: Status | None) -> str:
    out = StringIO()
    Console(file=out, width=120, no_color=True, highlight=False, emoji=False).print(top_view(now, before))
    return out.getvalue()


def test_a_rate_is_what_came_between_two_looks_per_second() -> None:
    found = rates(BEFORE, NOW)
    assert found == {0: Rate(commands=100.0, events=102.5), 1: Rate(commands=0.0, events=0.0)}
    assert total_rate(found) == Rate(commands=100.0, events=102.5)


def test_no_rate_is_known_at_the_first_look_nor_of_a_topic_that_was_made_anew() -> None:
    assert set(rates(None, NOW).values()) == {UNKNOWN}
    assert rates(replace(NOW, at_ms=BEFORE.at_ms), NOW)[0] == Rate(commands=0.0, events=0.0)
    assert rates(NOW, NOW)[0] == UNKNOWN
    anew = status(4, partition(0, 1, 1, 0))
    assert rates(NOW, anew)[0] == UNKNOWN
    assert total_rate(rates(NOW, anew)) == UNKNOWN


def test_the_view_is_one_line_for_each_partition_with_what_is_stopped_above() -> None:
    assert [line.rstrip() for line in text(NOW, BEFORE).splitlines()] == [
        "2023-11-14T22:13:22Z  1 stopped  commands 100/s  events 102/s  undecided 0  live connections 12",
        "  No sequencer is heard to write partitions 1: 0 commands wait there.",
        "partition  commands/s  events/s  undecided         v1  v1 search  no outcome  term  writer",
        "        0         100       102          0          0          0          14     7  slot-0",
        "        1         0.0       0.0          0  1 (1.5 s)          0           1     8  -",
        "projections, events behind: v1 (serving) 1 (1.5 s), v1 search (serving) 0",
        "last takeovers: partition 1 term 8 on h1 2023-11-14T22:13:20Z; partition 0 term 7 on h1 2023-11-14T22:13:20Z",
    ]
    first = text(NOW, None).splitlines()[0]
    assert "commands -/s  events -/s" in first


def test_of_many_partitions_the_busiest_and_those_without_a_writer_are_shown() -> None:
    before = status(0, *(partition(n, 0, 0, 0) for n in range(64)))
    now = status(1, *(partition(n, n, n, 0, writer=None if n == 3 else "slot-0") for n in range(64)))
    lines = text(now, before).splitlines()
    assert any("the busiest 16 of 64 partitions" in line for line in lines)
    table = next(n for n, line in enumerate(lines) if line.lstrip().startswith("partition "))
    shown = [int(line.split()[0]) for line in lines[table + 1 : table + 1 + PARTITIONS_SHOWN]]
    assert shown == [3, *range(49, 64)]


def test_a_name_that_looks_like_markup_is_shown_as_it_is() -> None:
    assert "[red]x[/]" in text(status(1, partition(0, 1, 1, 1, writer="[red]x[/]")), None)


def test_programs_get_the_status_with_rates() -> None:
    document = top_json(NOW, BEFORE)
    assert (document["commands_per_s"], document["events_per_s"], document["live_streams"]) == (100.0, 102.5, 12)
    first = document["partitions"][0]
    assert (first["events_per_s"], first["records_without_outcome"], first["term"]) == (102.5, 14, 7)
    assert [each["partition"] for each in document["takeovers"]] == [1, 0]
    assert top_json(NOW, None)["commands_per_s"] is None
