"""The sequencer: commands per second, CPU per command, and the time from an append to its outcome.

    gapless bench sequencer
    gapless bench sequencer --only one_partition --commands 300000 --rounds 1 --no-baseline --profile flame.svg

Throughput: chat.commands is filled before. A `gapless sequencer` process with everything on (validation, dedupe,
RocksDB, acks=all) is measured from its first outcome to its last. CPU time is that of this process with all its
threads, so the broker and the observer on the same cores do not count. Each run has its own topics and state, and ends
with a check of the outcomes: every send accepted once, every repeat found.

Latency: an open loop (benchmarks/load/open_loop.py) at a steady rate, from the moment a command is due to be appended
to the moment a consumer has its outcome.

The baseline runs in turn with ours, in each round.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.load import trigger
from benchmarks.load.conversations import chats_in, chats_of, loads_of, repeats_among, sends
from benchmarks.load.filling import Load, built, fill
from benchmarks.load.open_loop import Latencies, outcome_latencies
from benchmarks.report.machine import Machine, MachineWatch
from benchmarks.servers.ground import CHECK_EVERY_S, Ends, Ground
from benchmarks.servers.processes import DEADLINE_S, Mark, Service, profiled

LATENCY_RATES_PER_S: Final = (500, 5_000)
LATENCY_WARM_UP_S: Final = 2
COUNTED_WITHIN_S = 5.0
"""Time after the last append within which the metrics must count it."""
DURABILITY: Final = (
    "Gapless: acks=all on one broker, acknowledged from the page cache (durable by replicas in production);"
    " trigger: each commit synced to disk"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """The workload: the number of chats and of partitions, in one process."""

    name: str
    chats: int
    partitions: int = 1


SHAPES: Final = (
    Shape(name="one_partition", chats=1_000),
    Shape(name="hot_chat", chats=1),
    Shape(name="four_partitions", chats=1_000, partitions=4),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One pass over a filled log, from the first outcome seen to the last."""

    commands_per_s: float
    cpu_us_per_command: float
    """CPU time of the sequencer's process."""
    broker_us_per_command: float
    cores: float
    """CPU seconds per second of the sequencer's process; near 1 means that its one thread was the limit."""
    memory_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """Medians over the rounds of one shape; `runs` has each."""

    name: str
    chats: int
    partitions: int
    commands: int
    commands_per_s: float
    cpu_us_per_command: float
    broker_us_per_command: float
    memory_mb: float
    runs: Sequence[Run]
    baseline_per_s: float | None
    """The trigger's rate with the same number of chats; None if the baseline was skipped."""
    ratio: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Results; the first five are those of the first shape and of the lowest rate."""

    commands_per_s: float | None
    cpu_us_per_command: float | None
    p50_ms: float | None
    p99_ms: float | None
    ratio: float | None
    baseline: str
    durability: str
    throughput: Sequence[Throughput]
    latency: Sequence[Latencies]
    baseline_latency: Latencies | None
    """The trigger's, with 1,000 chats, closed loop."""
    machine: Machine


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options; `only` names a shape, or `latency`."""

    commands: int = 1_000_000
    chats: int | None = None
    """Replaces each shape's own number if set."""
    rounds: int = 3
    only: str | None = None
    baseline: bool = True
    baseline_stored: int = 200_000
    baseline_s: int = 8
    latency_s: int = 20
    profile: Path | None = None
    """File for py-spy's profile of the last throughput pass."""


async def run(options: Options, ground: Ground, on_step: Callable[[str], None] = lambda _step: None) -> Figures:
    """Run the benchmark.

    Raises RuntimeError if the outcomes are not the expected ones.
    """
    watched = MachineWatch()
    bench = _Bench(ground, options, on_step)
    throughput = [await bench.throughput(shape) for shape in SHAPES if options.only in (None, shape.name)]
    latency = [await bench.latency(rate) for rate in LATENCY_RATES_PER_S if options.only in (None, "latency")]
    first, slow = next(iter(throughput), None), next(iter(latency), None)
    return Figures(
        commands_per_s=first.commands_per_s if first else None,
        cpu_us_per_command=first.cpu_us_per_command if first else None,
        p50_ms=slow.p50_ms if slow else None,
        p99_ms=slow.p99_ms if slow else None,
        ratio=first.ratio if first else None,
        baseline=trigger.NAME,
        durability=DURABILITY,
        throughput=throughput,
        latency=latency,
        baseline_latency=bench.baseline_latency,
        machine=watched.summary(),
    )


class _Bench:
    """Measures shapes and rates on the given servers."""

    def __init__(self, ground: Ground, options: Options, on_step: Callable[[str], None]) -> None:
        self._ground = ground
        self._options = options
        self._on_step = on_step
        self.baseline_latency: Latencies | None = None

    async def throughput(self, shape: Shape) -> Throughput:
        options = self._options
        chats = max(options.chats or shape.chats, shape.partitions)
        self._on_step(f"{shape.name}: encoding {options.commands:,} commands")
        loads = loads_of(partitions=shape.partitions, chats=chats, commands=options.commands)
        runs: list[Run] = []
        baseline: list[trigger.TriggerFigures] = []
        async with AsyncExitStack() as stack:
            table = None
            if options.baseline:
                table = await stack.enter_async_context(
                    trigger.Trigger.on(self._ground.dsn, stored=options.baseline_stored)
                )
            for number in range(1, options.rounds + 1):
                last = number == options.rounds
                runs.append(await self._pass(shape, chats, loads, options.profile if last else None))
                self._on_step(f"{shape.name}, round {number}: {_told(runs[-1])}")
                if table is not None:
                    baseline.append(await table.run(chats=chats, seconds=options.baseline_s))
                    self._on_step(f"{shape.name}, round {number}: trigger {baseline[-1].commands_per_s:,.0f}/s")
        if baseline and shape.name == SHAPES[0].name:
            self.baseline_latency = baseline[-1].latencies
        rate = statistics.median(r.commands_per_s for r in runs)
        baseline_per_s = statistics.median(b.commands_per_s for b in baseline) if baseline else None
        return Throughput(
            name=shape.name,
            chats=chats,
            partitions=shape.partitions,
            commands=sum(load.records for load in loads),
            commands_per_s=rate,
            cpu_us_per_command=statistics.median(r.cpu_us_per_command for r in runs),
            broker_us_per_command=statistics.median(r.broker_us_per_command for r in runs),
            memory_mb=max(r.memory_mb for r in runs),
            runs=runs,
            baseline_per_s=baseline_per_s,
            ratio=round(rate / baseline_per_s, 2) if baseline_per_s else None,
        )

    async def _pass(self, shape: Shape, chats: int, loads: Sequence[Load], profile: Path | None) -> Run:
        ground = self._ground
        log = await ground.log(partitions=shape.partitions)
        await fill(ground.connection, log.names.commands, loads)
        total = sum(load.records for load in loads)
        async with (
            Ends.of(ground.connection, log.names.events, log.partitions) as ends,
            ground.service("sequencer", log) as sequencer,
            profiled(sequencer.pid, profile),
        ):
            # Each partition's log begins with the opening of its term, which is not an outcome.
            before, _ = await self._until(ends, sequencer, shape.partitions + 1)
            _, after = await self._until(ends, sequencer, shape.partitions + total)
            await _check(sequencer, shape, chats, loads)
        took_s = after.sequencer.at_s - before.sequencer.at_s
        cpu_s = after.sequencer.cpu_s - before.sequencer.cpu_s
        broker_cpu_s = after.broker.cpu_s - before.broker.cpu_s if before.broker and after.broker else 0.0
        return Run(
            commands_per_s=round(total / took_s, 1),
            cpu_us_per_command=round(1e6 * cpu_s / total, 2),
            broker_us_per_command=round(1e6 * broker_cpu_s / total, 2),
            cores=round(cpu_s / took_s, 2),
            memory_mb=round(after.sequencer.memory_mb, 1),
        )

    async def _until(self, ends: Ends, sequencer: Service, wanted: int) -> tuple[_Seen, _Seen]:
        """Return the last check before `wanted` records of events existed, and the first that found them."""
        deadline = time.monotonic() + DEADLINE_S
        seen = _Seen(sequencer=sequencer.mark(), broker=self._ground.broker_mark())
        while True:
            records = await ends.total()
            before, seen = seen, _Seen(sequencer=sequencer.mark(), broker=self._ground.broker_mark())
            if records >= wanted:
                return before, seen
            sequencer.refuse_to_wait(deadline, f"{wanted} records of events, there are {records}")
            await asyncio.sleep(CHECK_EVERY_S)

    async def latency(self, per_s: int) -> Latencies:
        """Measure latency with 1,000 chats in one partition of one process that does nothing else."""
        ground = self._ground
        chats = chats_of(0, 1, self._options.chats or SHAPES[0].chats)
        warm_up = min(LATENCY_WARM_UP_S, self._options.latency_s) * per_s
        records = list(sends(chats, warm_up + self._options.latency_s * per_s))
        log = await ground.log(partitions=1)
        await fill(ground.connection, log.names.commands, [built(chat.creation for chat in chats)])
        async with ground.service("sequencer", log) as sequencer:
            await sequencer.until_ready()
            found = await outcome_latencies(ground.connection, log.names, records, per_s=per_s, warm_up=warm_up)
        self._on_step(f"latency at {per_s:,}/s: p50 {found.p50_ms} ms, p99 {found.p99_ms} ms, max {found.max_ms} ms")
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    sequencer: Mark
    broker: Mark | None


async def _check(sequencer: Service, shape: Shape, chats: int, loads: Sequence[Load]) -> None:
    """Check the outcomes.

    Raises RuntimeError if they are not the expected ones.
    """
    per_partition = [load.records - chats_in(shape.partitions, chats, p) for p, load in enumerate(loads)]
    repeats = sum(repeats_among(count) for count in per_partition)
    wanted = {
        "chat.created.v1": chats,
        "message.sent.v1": sum(per_partition) - repeats,
        "command.duplicate.v1": repeats,
        "command.rejected.v1": 0,
    }
    series = 'gapless_sequencer_outcomes_total{{partition="{}",type="{}"}}'
    deadline = time.monotonic() + COUNTED_WITHIN_S
    while True:  # the last append is in the log a moment before it is counted
        found = {
            name: int(sum([await sequencer.metric(series.format(p, name)) for p in range(shape.partitions)]))
            for name in wanted
        }
        if found == wanted:
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"the outcomes are {found}, not {wanted}")
        await asyncio.sleep(0.05)


def _told(run: Run) -> str:
    return (
        f"{run.commands_per_s:,.0f} commands/s, {run.cpu_us_per_command} µs CPU each (broker"
        f" {run.broker_us_per_command}), {run.cores} cores, {run.memory_mb:,.0f} MB"
    )
