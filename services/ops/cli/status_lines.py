"""What `gapless status` prints: at most 24 lines for people, or a document. Pure; escaping is the terminal's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

from schemas.instants import instant_of
from services.ops.inspect.lag import Backlog
from services.ops.inspect.status import PartitionStatus, Status, spans, stopped

Line = tuple[str, str]
"""A line and its style."""
LINES: Final = 24
EACH_PARTITION: Final = 8
"""Up to so many partitions have a line each; more are put together by their writer."""
OWNER_CHARACTERS: Final = 8
_WRITERS: Final = 8
_STOPPED: Final = 5


def status_lines(status: Status) -> list[Line]:
    """Return at most LINES lines."""
    reasons = stopped(status)
    count = len(status.partitions)
    if reasons:
        lines: list[Line] = [(f"{len(reasons)} stopped, of {count} partitions and what serves them:", "red")]
        lines += [(f"  {reason}", "red") for reason in _some(reasons, _STOPPED)]
    else:
        lines = [(f"Nothing is stopped: {count} partitions are written and served.", "green")]
    lines += _partition_lines(status) if count <= EACH_PARTITION else _writer_lines(status)
    lines.append((_standbys(status), ""))
    lines.append((f"undecided commands: {behind(status.undecided)}", _style(status.undecided)))
    for each in _some_projections(status):
        lines.append(each)
    if status.processes:
        ready = [each.name for each in status.processes if each.ready]
        notes = sum(len(each.notes) for each in status.processes)
        noted = f"; {notes} notes, see --json" if notes else ""
        lines.append((f"ready: {len(ready)} of {len(status.processes)}: {_names(ready)}{noted}", ""))
    else:
        lines.append(("no process was asked: name them with --ask NAME=URL", "dim"))
    return lines[:LINES]


def _partition_lines(status: Status) -> list[Line]:
    return [
        (partition_line(each, known=_writers_known(status)), "" if each.writer else "yellow")
        for each in status.partitions
    ]


def partition_line(each: PartitionStatus, *, known: bool) -> str:
    """Return the line of a partition. `known`: whether anything says which process writes."""
    opening = each.opening
    if opening is None:
        return f"partition {each.partition:>3}  no term was opened yet"
    writer = each.writer or ("no writer" if known else "writer unknown")
    undecided = each.backlog.undecided
    waits = f"  {behind(undecided)} undecided" if undecided.records else ""
    return (
        f"partition {each.partition:>3}  term {opening.term:<5} owner {opening.owner[:OWNER_CHARACTERS]}"
        f"  on {opening.host}  since {instant_of(opening.at_ms)[:19]}Z  {writer}{waits}"
    )


def _writer_lines(status: Status) -> list[Line]:
    by_writer: dict[tuple[str, str], list[PartitionStatus]] = {}
    for each in status.partitions:
        host = each.opening.host if each.opening is not None else "-"
        by_writer.setdefault((each.writer or "", host), []).append(each)
    lines: list[Line] = []
    for (writer, host), partitions in sorted(by_writer.items()):
        terms = [each.opening.term for each in partitions if each.opening is not None]
        of = f"terms {min(terms)}-{max(terms)}" if terms else "no term"
        name = writer or ("no writer" if _writers_known(status) else "writer unknown")
        text = f"{name} on {host}: partitions {_cut(spans([p.partition for p in partitions]))}  {of}"
        lines.append((text, "" if writer else "yellow"))
    if len(lines) > _WRITERS:
        lines[_WRITERS - 1 :] = [(f"… and {len(lines) - _WRITERS + 1} more writers: --json has all", "dim")]
    return lines


def _writers_known(status: Status) -> bool:
    return status.heard is not None or any(each.terms for each in status.processes)


def _standbys(status: Status) -> str:
    if status.heard is None:
        return "standbys: unknown, heartbeats cannot be read or are not sent"
    of: dict[str, list[int]] = {}
    for each in status.partitions:
        for name in each.standbys:
            of.setdefault(name, []).append(each.partition)
    without = [each.partition for each in status.partitions if not each.standbys]
    parts = [f"{name} for {_cut(spans(partitions))}" for name, partitions in sorted(of.items())[:4]]
    parts += [f"{len(of) - 4} more"] if len(of) > 4 else []
    parts += [f"none for {_cut(spans(without))}"] if without else []
    return f"standbys: {', '.join(parts)}"


def _some_projections(status: Status) -> list[Line]:
    lines = [
        (f"{each.name}{' (serving)' if each.serving else ''}: {behind(each.behind)}", _style(each.behind))
        for each in status.projections
    ]
    shown = 4
    return (
        [*lines[:shown], (f"… and {len(lines) - shown} more projections", "dim")] if len(lines) > shown + 1 else lines
    )


def behind(backlog: Backlog) -> str:
    """Return a backlog in words."""
    if backlog.beyond:
        return f"{backlog.beyond:,} ahead of the log"
    return f"{backlog.records:,} ({backlog.seconds:.1f} s)" if backlog.records else "0"


def _style(backlog: Backlog) -> str:
    return "red" if backlog.beyond else ""


def _some(sentences: Sequence[str], limit: int) -> list[str]:
    if len(sentences) <= limit:
        return list(sentences)
    return [*sentences[: limit - 1], f"… and {len(sentences) - limit + 1} more: --json has all"]


def _names(names: Sequence[str]) -> str:
    return ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")


def _cut(text: str, width: int = 60) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def status_json(status: Status) -> dict[str, Any]:
    """Return the document of a status."""
    reasons = stopped(status)
    return {
        "at": instant_of(status.at_ms),
        "ok": not reasons,
        "stopped": reasons,
        "partitions": [partition_json(each) for each in status.partitions],
        "sequencers_heard": None if status.heard is None else list(status.heard),
        "undecided": asdict(status.undecided),
        "projections": [
            {"name": each.name, "serving": each.serving, **asdict(each.behind)} for each in status.projections
        ],
        "serving": status.serving,
        "processes": [
            {
                "name": each.name,
                "url": each.url,
                "ready": each.ready,
                "reasons": list(each.reasons),
                "needs_operator": list(each.needs_operator),
                "notes": list(each.notes),
            }
            for each in status.processes
        ],
        "live_streams": status.streams,
    }


def partition_json(each: PartitionStatus) -> dict[str, Any]:
    """Return the document of a partition."""
    opening = each.opening
    return {
        "partition": each.partition,
        "term": opening.term if opening is not None else None,
        "owner": opening.owner if opening is not None else None,
        "host": opening.host if opening is not None else None,
        "opened_at": instant_of(opening.at_ms) if opening is not None else None,
        "writer": each.writer,
        "standbys": list(each.standbys),
        "undecided": asdict(each.backlog.undecided),
        "unprojected": {name: asdict(backlog) for name, backlog in each.backlog.unprojected.items()},
        "ends": {"commands": each.ends.commands, "events": each.ends.events},
        "index": each.ends.index,
    }
