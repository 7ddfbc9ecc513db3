"""What a standby costs: two sequencers that share the partitions, with standbys and without, in turn.

    gapless bench standby

The same commands are decided twice: by two processes that do nothing else, and by two of which each also folds what the
other serves. Compared are the CPU time of both processes together, per command and while idle, and their memory.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import httpx

from benchmarks.load.conversations import loads_of
from benchmarks.load.filling import Load, fill
from benchmarks.report.machine import Machine, MachineWatch
from benchmarks.servers.ground import Ground, Log
from benchmarks.servers.processes import DEADLINE_S, Service, cpu_between

PROCESSES: Final = 2
CHECK_EVERY_S: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The size of a run."""

    commands: int = 200_000
    chats: int = 1_000
    partitions: int = 8
    idle_s: float = 20.0
    rounds: int = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Pass:
    """Figures of both processes together, unless a field says otherwise."""

    standby: int
    cpu_us_per_command: float
    commands_per_s: float
    """Rate until all were decided, by processes that share the machine with each other and the broker."""
    idle_cpu_percent: float
    """Share of one core, per process."""
    memory_mb: float
    """Memory of the larger process, after the commands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Medians over the rounds, and all passes."""

    commands: int
    partitions: int
    cpu_us_per_command: float
    cpu_us_per_command_without: float
    ratio: float
    """CPU time per command with standbys divided by that without."""
    idle_cpu_percent: float
    idle_cpu_percent_without: float
    memory_mb: float
    memory_mb_without: float
    baseline: str
    passes: tuple[Pass, ...]
    machine: Machine


async def run(options: Options, ground: Ground, on_step: Callable[[str], None] = lambda _step: None) -> Figures:
    """Run the benchmark on its own logs."""
    watch = MachineWatch()
    loads = loads_of(partitions=options.partitions, chats=options.chats, commands=options.commands)
    passes: list[Pass] = []
    for number in range(options.rounds):
        for standby in (0, 1) if number % 2 == 0 else (1, 0):
            passes.append(await _pass(options, ground, loads, standby))
            found = passes[-1]
            on_step(
                f"standby {standby}: {found.cpu_us_per_command:.1f} µs CPU a command, idle"
                f" {found.idle_cpu_percent:.1f} %, {found.memory_mb:.0f} MB"
            )

    def median(name: str, standby: int) -> float:
        return float(statistics.median(getattr(p, name) for p in passes if p.standby == standby))

    return Figures(
        commands=options.commands,
        partitions=options.partitions,
        cpu_us_per_command=median("cpu_us_per_command", 1),
        cpu_us_per_command_without=median("cpu_us_per_command", 0),
        ratio=median("cpu_us_per_command", 1) / median("cpu_us_per_command", 0),
        idle_cpu_percent=median("idle_cpu_percent", 1),
        idle_cpu_percent_without=median("idle_cpu_percent", 0),
        memory_mb=median("memory_mb", 1),
        memory_mb_without=median("memory_mb", 0),
        baseline="the same two sequencers with GAPLESS_SEQUENCER_STANDBY=0",
        passes=tuple(passes),
        machine=watch.summary(),
    )


async def _pass(options: Options, ground: Ground, loads: Sequence[Load], standby: int) -> Pass:
    log = await ground.log(partitions=options.partitions)
    async with _sequencers(ground, log, standby) as services:
        await _shared(services, options.partitions, standby)
        before = [service.mark() for service in services]
        await asyncio.sleep(options.idle_s)  # the idle time that is measured
        idle = [service.mark() for service in services]
        await fill(ground.connection, log.names.commands, loads)
        commands = sum(load.records for load in loads)
        await _until(services, "gapless_sequencer_outcomes_total", commands)
        decided_s = time.monotonic()
        if standby:
            await _until(services, "gapless_sequencer_folded_records_total", commands)
        after = [service.mark() for service in services]
    return Pass(
        standby=standby,
        cpu_us_per_command=1e6 * sum(cpu_between(a, b) for a, b in zip(idle, after, strict=True)) / commands,
        commands_per_s=commands / (decided_s - idle[0].at_s),
        idle_cpu_percent=100
        * statistics.mean((b.cpu_s - a.cpu_s) / (b.at_s - a.at_s) for a, b in zip(before, idle, strict=True)),
        memory_mb=max(mark.memory_mb for mark in after),
    )


@asynccontextmanager
async def _sequencers(ground: Ground, log: Log, standby: int) -> AsyncIterator[list[Service]]:
    async with AsyncExitStack() as stack:
        settings = {"GAPLESS_SEQUENCER_STANDBY": str(standby)}
        yield [
            await stack.enter_async_context(ground.service("sequencer", log, settings=settings))
            for _ in range(PROCESSES)
        ]


async def _shared(services: Sequence[Service], partitions: int, standby: int) -> None:
    """Wait until each process serves its share and is a standby for the other's."""
    share = partitions // PROCESSES
    deadline = time.monotonic() + DEADLINE_S
    while True:
        serving = [await _partitions(service, "serving", partitions) for service in services]
        ready = [await _partitions(service, "standing_by", partitions) for service in services]
        if serving == [share] * PROCESSES and ready == [standby and share] * PROCESSES:
            return
        services[0].refuse_to_wait(deadline, f"both to have their share; they serve {serving}, stand by for {ready}")
        await asyncio.sleep(CHECK_EVERY_S)


async def _partitions(service: Service, status: str, partitions: int) -> int:
    """Return how many partitions of a process have that status, or -1 while it does not answer."""
    try:
        found = [
            await service.metric(f'gapless_sequencer_partition_status{{partition="{p}",status="{status}"}}')
            for p in range(partitions)
        ]
    except httpx.TransportError:
        return -1
    return int(sum(found))


async def _until(services: Sequence[Service], series: str, wanted: int) -> None:
    """Wait until both together have counted `wanted`."""
    deadline = time.monotonic() + DEADLINE_S
    while (found := sum([await service.metric(series) for service in services])) < wanted:
        services[0].refuse_to_wait(deadline, f"{series} to be {wanted}, it is {found:g}")
        await asyncio.sleep(CHECK_EVERY_S)
