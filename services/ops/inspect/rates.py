"""What changed between two looks at the system, per second. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from services.ops.inspect.status import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """What came into a partition per second; None if that is not known."""

    commands: float | None = None
    events: float | None = None


UNKNOWN = Rate()


def rates(before: Status | None, now: Status) -> dict[int, Rate]:
    """Return partition → rate. It is unknown at the first look, and if an end went back: that is another topic."""
    seconds = (now.at_ms - before.at_ms) / 1000 if before is not None else 0.0
    ends = {each.partition: each.ends for each in before.partitions} if before is not None else {}
    found: dict[int, Rate] = {}
    for each in now.partitions:
        earlier = ends.get(each.partition)
        if earlier is None or seconds <= 0:
            found[each.partition] = UNKNOWN
            continue
        found[each.partition] = Rate(
            commands=_per_second(each.ends.commands - earlier.commands, seconds),
            events=_per_second(each.ends.events - earlier.events, seconds),
        )
    return found


def total_rate(by_partition: dict[int, Rate]) -> Rate:
    """Return the rate of all partitions of which it is known."""
    known = [rate for rate in by_partition.values() if rate.commands is not None and rate.events is not None]
    if not known:
        return UNKNOWN
    return Rate(commands=sum(rate.commands or 0.0 for rate in known), events=sum(rate.events or 0.0 for rate in known))


def _per_second(records: int, seconds: float) -> float | None:
    return records / seconds if records >= 0 else None
