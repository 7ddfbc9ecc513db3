"""What `gapless top` shows: a Rich view for people, a document for programs. Pure; escaping is the terminal's."""

from __future__ import annotations

from typing import Any, Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from schemas.instants import instant_of
from services.ops.cli.status_lines import behind, partition_json, status_json
from services.ops.cli.terminal import cell
from services.ops.inspect.rates import Rate, rates, total_rate
from services.ops.inspect.status import PartitionStatus, Status, stopped

PARTITIONS_SHOWN: Final = 16
"""The busiest, if there are more."""
TAKEOVERS_SHOWN: Final = 5
STOPPED_SHOWN: Final = 5


def top_view(status: Status, before: Status | None) -> RenderableType:
    """Return the view of a look, with rates since the look before it."""
    by_partition = rates(before, status)
    every = total_rate(by_partition)
    reasons = stopped(status)
    state = cell(f"{len(reasons)} stopped", "red") if reasons else cell("nothing is stopped", "green")
    streams = "unknown" if status.streams is None else f"{status.streams:,}"
    head = Text.assemble(
        cell(f"{instant_of(status.at_ms)[:19]}Z  ", "dim"),
        state,
        cell(
            f"  commands {_rate(every.commands)}/s  events {_rate(every.events)}/s"
            f"  undecided {behind(status.undecided)}  live connections {streams}"
        ),
    )
    parts: list[RenderableType] = [head]
    parts += [cell(f"  {reason}", "red") for reason in reasons[:STOPPED_SHOWN]]
    if len(reasons) > STOPPED_SHOWN:
        parts.append(cell(f"  … and {len(reasons) - STOPPED_SHOWN} more: gapless status --json", "red"))
    parts += [_partitions(status, by_partition), _projections(status), _takeovers(status)]
    return Group(*parts)


def _partitions(status: Status, by_partition: dict[int, Rate]) -> Table:
    names = [each.name for each in status.projections]
    shown = list(status.partitions)
    if len(shown) > PARTITIONS_SHOWN:
        shown.sort(key=lambda each: (each.writer is not None, -(by_partition[each.partition].events or 0.0)))
        shown = sorted(shown[:PARTITIONS_SHOWN], key=lambda each: each.partition)
    table = Table(box=None, pad_edge=False, title=_of(len(shown), len(status.partitions), "partitions"))
    for name in ("partition", "commands/s", "events/s", "undecided", *names, "no outcome", "term"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("writer", overflow="fold")
    for each in shown:
        rate = by_partition[each.partition]
        backlogs = [each.backlog.unprojected.get(name) for name in names]
        table.add_row(
            str(each.partition),
            _rate(rate.commands),
            _rate(rate.events),
            behind(each.backlog.undecided),
            *("-" if backlog is None else behind(backlog) for backlog in backlogs),
            f"{no_outcome(each):,}",
            "-" if each.opening is None else str(each.opening.term),
            cell(each.writer or "-", "" if each.writer else "yellow"),
        )
    return table


def _projections(status: Status) -> Text:
    found = [f"{each.name}{' (serving)' if each.serving else ''} {behind(each.behind)}" for each in status.projections]
    return cell(f"projections, events behind: {', '.join(found) or 'none'}")


def _takeovers(status: Status) -> Text:
    found = [
        f"partition {each.partition} term {each.term} on {each.host} {instant_of(each.at_ms)[:19]}Z"
        for each in status.openings[:TAKEOVERS_SHOWN]
    ]
    return cell(f"last takeovers: {'; '.join(found) or 'none'}")


def no_outcome(each: PartitionStatus) -> int:
    """Return the number of records in the log that are no outcome: openings, and void records."""
    return max(0, each.ends.events - each.ends.index)


def _of(shown: int, count: int, what: str) -> str | None:
    return f"the busiest {shown} of {count} {what}" if shown < count else None


def _rate(rate: float | None) -> str:
    return "-" if rate is None else f"{rate:,.1f}" if rate < 10 else f"{rate:,.0f}"


def top_json(status: Status, before: Status | None) -> dict[str, Any]:
    """Return the document of a look: that of `gapless status`, with rates."""
    by_partition = rates(before, status)
    every = total_rate(by_partition)
    partitions = [
        partition_json(each)
        | {
            "commands_per_s": by_partition[each.partition].commands,
            "events_per_s": by_partition[each.partition].events,
            "records_without_outcome": no_outcome(each),
        }
        for each in status.partitions
    ]
    return status_json(status) | {
        "commands_per_s": every.commands,
        "events_per_s": every.events,
        "partitions": partitions,
        "takeovers": [
            {"partition": each.partition, "term": each.term, "host": each.host, "at": instant_of(each.at_ms)}
            for each in status.openings[:TAKEOVERS_SHOWN]
        ],
    }
