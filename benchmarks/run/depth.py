"""Depth: is a partition of ten million messages as fast as one of a hundred thousand, and how much memory does it take?

    gapless bench depth --commands 10000000

One partition of one `gapless sequencer` process, from an empty state to the end of all commands in one pass. The
idempotency keys of all commands are remembered, and 2 % of the sends repeat an earlier one. The baseline is the same
process at the beginning of the same pass.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain, islice

from benchmarks.load.conversations import chats_of, sends
from benchmarks.load.filling import built, fill
from benchmarks.report.machine import Machine, MachineWatch
from benchmarks.servers.ground import Ends, Ground
from benchmarks.servers.processes import DEADLINE_S, Mark

CHECK_EVERY_S = 0.1
BASELINE = "the same process after the first commands of the same pass"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    commands: int = 10_000_000
    chats: int = 1_000
    early_after: int = 100_000
    window: int = 500_000
    """Length of each of the two stretches that are compared, in commands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stretch:
    """A stretch of the pass, which begins after `after` commands."""

    after: int
    commands_per_s: float
    cpu_us_per_command: float
    memory_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Results; the first two are those of the late stretch."""

    commands_per_s: float
    cpu_us_per_command: float
    memory_mb: float
    """Peak over the whole pass."""
    baseline: str
    ratio: float
    """The late stretch's rate divided by the early one's."""
    early: Stretch
    late: Stretch
    machine: Machine


async def run(options: Options, ground: Ground, on_step: Callable[[str], None] = lambda _step: None) -> Figures:
    """Run the benchmark.

    Raises RuntimeError if the sequencer stops.
    """
    watched = MachineWatch()
    log = await ground.log(partitions=1)
    chats = chats_of(0, 1, options.chats)
    records = chain((chat.creation for chat in chats), sends(chats, options.commands))
    while piece := list(islice(records, options.window)):
        await fill(ground.connection, log.names.commands, [built(piece)])
        on_step(f"filled {len(piece):,} more")
    total = options.chats + options.commands
    seen: list[tuple[int, Mark]] = []
    async with (
        Ends.of(ground.connection, log.names.events, 1) as ends,
        ground.service("sequencer", log) as sequencer,
    ):
        deadline = time.monotonic() + DEADLINE_S + options.commands / 5_000
        while not seen or seen[-1][0] < total:
            seen.append((await ends.total() - 1, sequencer.mark()))
            sequencer.refuse_to_wait(deadline, f"{total} outcomes, there are {seen[-1][0]}")
            await asyncio.sleep(CHECK_EVERY_S)
    early = _stretch(seen, options.early_after, options.early_after + options.window)
    late = _stretch(seen, total - options.window, total)
    on_step(f"early {early.commands_per_s:,.0f}/s, late {late.commands_per_s:,.0f}/s, {late.memory_mb:,.0f} MB")
    return Figures(
        commands_per_s=late.commands_per_s,
        cpu_us_per_command=late.cpu_us_per_command,
        memory_mb=round(max(mark.memory_mb for _, mark in seen), 1),
        baseline=BASELINE,
        ratio=round(late.commands_per_s / early.commands_per_s, 3),
        early=early,
        late=late,
        machine=watched.summary(),
    )


def _stretch(seen: list[tuple[int, Mark]], start: int, end: int) -> Stretch:
    """Return the figures between the first checks that found `start` and `end` outcomes."""
    (first, before), (last, after) = (_first_at(seen, wanted) for wanted in (start, end))
    counted = max(1, last - first)
    return Stretch(
        after=first,
        commands_per_s=round(counted / max(after.at_s - before.at_s, CHECK_EVERY_S), 1),
        cpu_us_per_command=round(1e6 * (after.cpu_s - before.cpu_s) / counted, 2),
        memory_mb=round(after.memory_mb, 1),
    )


def _first_at(seen: list[tuple[int, Mark]], wanted: int) -> tuple[int, Mark]:
    return next((look for look in seen if look[0] >= wanted), seen[-1])
