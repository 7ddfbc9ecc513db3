"""The state of the whole system at one moment, and what of it is stopped. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from services.ops.inspect.asked import Asked
from services.ops.inspect.lag import Backlog, PartitionBacklog
from services.sequencer.peers.heartbeat import Heartbeat

FED_WITHIN_S: Final = 30.0
"""A projector confirms each partition that it feeds more often than that, whether or not there are events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LastOpening:
    """The opening of the last term of a partition."""

    partition: int
    term: int
    owner: str
    host: str
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """The ends of a partition, for rates."""

    commands: int
    events: int
    index: int
    """Index of the last outcome: what the log has besides it are openings and void records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionStatus:
    """One partition."""

    partition: int
    opening: LastOpening | None
    """None if no term was opened yet."""
    writer: str | None
    """Name of the process that says that it writes in the last term; None if none does."""
    standbys: tuple[str, ...]
    backlog: PartitionBacklog
    ends: Ends


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectionStatus:
    """A projection, or its search, over all partitions."""

    name: str
    serving: bool
    behind: Backlog


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """The whole system."""

    at_ms: int
    partitions: Sequence[PartitionStatus]
    heard: Sequence[str] | None
    """Names of the sequencers that are heard; None if heartbeats cannot be read."""
    processes: Sequence[Asked]
    """What the processes that were asked say; empty if no address of any is known."""
    serving: str | None = None
    """The serving projection, as "v1"."""
    fed_s: Mapping[int, float] = field(default_factory=dict)
    """Partition → time since a projector confirmed it in the serving projection."""
    troubles: Sequence[str] = ()
    """What could not be looked at, a sentence each."""

    @property
    def undecided(self) -> Backlog:
        return total([each.backlog.undecided for each in self.partitions])

    @property
    def projections(self) -> list[ProjectionStatus]:
        names = sorted({name for each in self.partitions for name in each.backlog.unprojected})
        return [
            ProjectionStatus(
                name=name,
                serving=self.serving is not None and name.split()[0] == self.serving,
                behind=total([p.backlog.unprojected[name] for p in self.partitions if name in p.backlog.unprojected]),
            )
            for name in names
        ]

    @property
    def streams(self) -> int | None:
        """Open live connections; None if no process that serves them was asked."""
        known = [each.streams for each in self.processes if each.streams is not None]
        return sum(known) if known else None

    @property
    def openings(self) -> list[LastOpening]:
        """The last opening of each partition, the newest first."""
        found = [each.opening for each in self.partitions if each.opening is not None]
        return sorted(found, key=lambda opening: (-opening.at_ms, opening.partition))


def total(backlogs: Sequence[Backlog]) -> Backlog:
    """Return the sum of the records, and the age of the oldest."""
    return Backlog(
        records=sum(each.records for each in backlogs),
        seconds=max((each.seconds for each in backlogs), default=0.0),
        beyond=sum(each.beyond for each in backlogs),
    )


def writer_of(partition: int, term: int, heard: Sequence[Heartbeat], asked: Sequence[Asked]) -> str | None:
    """Return the name of the process that writes a partition in `term` or a later one: heard, or else asked.

    A process that says it writes in an earlier term was replaced and does not know it yet.
    """
    claims = [
        (heartbeat.serves[partition], heartbeat.name)
        for heartbeat in heard
        if heartbeat.serves.get(partition, 0) >= max(1, term)
    ]
    claims += [(each.terms[partition], each.name) for each in asked if each.terms.get(partition, 0) >= max(1, term)]
    return max(claims, key=lambda claim: claim[0])[1] if claims else None


def standbys_of(partition: int, heard: Sequence[Heartbeat]) -> tuple[str, ...]:
    return tuple(heartbeat.name for heartbeat in heard if partition in heartbeat.stands_by)


def stopped(status: Status) -> list[str]:
    """Return what is stopped and why, a sentence each; what a process says of itself comes first."""
    return [*status.troubles, *_processes(status), *_partitions(status), *_projections(status)]


def _processes(status: Status) -> Iterator[str]:
    for each in status.processes:
        if not each.ready:
            yield f"{each.name} is not ready: {' '.join(each.reasons) or 'it does not say why.'}"


def _partitions(status: Status) -> Iterator[str]:
    if status.heard is None and not any(each.terms for each in status.processes):
        return  # nothing tells which process writes
    unwritten = [each for each in status.partitions if each.writer is None]
    if unwritten:
        numbers = spans([each.partition for each in unwritten])
        waiting = sum(each.backlog.undecided.records for each in unwritten)
        yield f"No sequencer is heard to write partitions {numbers}: {waiting:,} commands wait there."


def _projections(status: Status) -> Iterator[str]:
    for each in status.projections:
        if each.behind.beyond:
            yield (
                f"{each.name} is {each.behind.beyond:,} records ahead of the log: it was folded from another log, or"
                " the log has lost records."
            )
    unfed = {partition: seconds for partition, seconds in status.fed_s.items() if seconds > FED_WITHIN_S}
    if unfed:
        longest = max(unfed.values())
        yield f"No projector has fed partitions {spans(sorted(unfed))} of {status.serving} for {longest:,.0f} s."


def spans(numbers: Sequence[int]) -> str:
    """Return numbers in ascending order as "0-3, 5"."""
    found: list[list[int]] = []
    for number in numbers:
        if found and number == found[-1][1] + 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ", ".join(f"{low}" if low == high else f"{low}-{high}" for low, high in found)
