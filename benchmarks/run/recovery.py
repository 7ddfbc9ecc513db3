"""Recovery: a sequencer that starts on a long log, without its state and with it.

    gapless bench recovery

Measured from the start of the process until it reports that it serves: on an empty log (the cost of a start), on a log
of many outcomes without any local state (everything is folded from offset 0), and again with the state that this left.
The baseline, which runs in turn with the fold, only reads the same records.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import log_read
from benchmarks.load.conversations import loads_of
from benchmarks.report.machine import Machine, MachineWatch
from benchmarks.servers.ground import Ground, Log
from benchmarks.servers.processes import profiled


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    commands: int = 1_000_000
    chats: int = 1_000
    rounds: int = 3
    profile: Path | None = None
    """File for py-spy's profile of the last fold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One start of the process, until it serves."""

    ready_s: float
    cpu_s: float
    memory_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Medians over the rounds."""

    outcomes: int
    empty_s: float
    """Start on an empty log."""
    cold_s: float
    """Start without state."""
    warm_s: float
    """Start with state."""
    events_per_s: float
    """Rate of the fold alone: a cold start minus an empty one."""
    cpu_us_per_event: float
    baseline: str
    baseline_per_s: float
    ratio: float
    memory_mb: float
    cold: Sequence[Start]
    warm: Sequence[Start]
    machine: Machine


async def run(options: Options, ground: Ground, on_step: Callable[[str], None] = lambda _step: None) -> Figures:
    """Run the benchmark.

    Raises RuntimeError if a sequencer never serves.
    """
    watched = MachineWatch()
    empty_log = await ground.log(partitions=1)
    log = await ground.log(partitions=1)
    on_step(f"deciding {options.commands:,} commands")
    outcomes = await ground.decided(log, loads_of(partitions=1, chats=options.chats, commands=options.commands))
    empty: list[Start] = []
    cold: list[Start] = []
    warm: list[Start] = []
    reads: list[log_read.LogRead] = []
    for number in range(1, options.rounds + 1):
        state = ground.fresh_folder()
        empty.append(await _start(ground, empty_log, ground.fresh_folder(), None))
        cold.append(await _start(ground, log, state, options.profile if number == options.rounds else None))
        warm.append(await _start(ground, log, state, None))
        reads.append(await log_read.read_all(ground.connection, [log.names.events], 1))
        on_step(
            f"round {number}: empty {empty[-1].ready_s} s, cold {cold[-1].ready_s} s, warm {warm[-1].ready_s} s;"
            f" reading alone {reads[-1].seconds:.1f} s"
        )
    empty_s, cold_s = (statistics.median(s.ready_s for s in starts) for starts in (empty, cold))
    cpu_s = statistics.median(s.cpu_s for s in cold) - statistics.median(s.cpu_s for s in empty)
    per_s = outcomes / max(cold_s - empty_s, 1e-3)
    baseline_per_s = statistics.median(r.records / r.seconds for r in reads)
    return Figures(
        outcomes=outcomes,
        empty_s=empty_s,
        cold_s=cold_s,
        warm_s=statistics.median(s.ready_s for s in warm),
        events_per_s=round(per_s, 1),
        cpu_us_per_event=round(1e6 * cpu_s / outcomes, 2),
        baseline=log_read.NAME,
        baseline_per_s=round(baseline_per_s, 1),
        ratio=round(per_s / baseline_per_s, 3),
        memory_mb=max(s.memory_mb for s in cold),
        cold=cold,
        warm=warm,
        machine=watched.summary(),
    )


async def _start(ground: Ground, log: Log, state: Path, profile: Path | None) -> Start:
    began_s = time.monotonic()
    async with ground.service("sequencer", log, state=state) as sequencer, profiled(sequencer.pid, profile):
        await sequencer.until_ready()
        mark = sequencer.mark()
    return Start(ready_s=round(mark.at_s - began_s, 3), cpu_s=round(mark.cpu_s, 3), memory_mb=round(mark.memory_mb, 1))
