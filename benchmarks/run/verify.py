"""The verifiers: how long it takes to prove a log, and a read model against it.

    gapless bench verify

`gapless log verify` reads events and commands; `gapless projection verify` folds the log by a fold of its own and
compares it with the tables, row by row. The baseline, which runs in turn with them, only reads both topics.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.load import log_read
from benchmarks.load.conversations import loads_of
from benchmarks.report.machine import Machine, MachineWatch
from benchmarks.servers.ground import Ground
from benchmarks.servers.processes import Command, command

PARTITIONS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    commands: int = 200_000
    chats: int = 1_000
    rounds: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Proof:
    """One command, from its start to its end."""

    name: str
    events_per_s: float
    cpu_us_per_event: float
    memory_mb: float
    seconds: Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Medians over the rounds; the first rates are those of `gapless log verify`."""

    outcomes: int
    events_per_s: float
    cpu_us_per_event: float
    baseline: str
    baseline_per_s: float
    ratio: float
    proofs: Sequence[Proof]
    machine: Machine


async def run(options: Options, ground: Ground, on_step: Callable[[str], None] = lambda _step: None) -> Figures:
    """Run the benchmark.

    Raises RuntimeError if a verification fails.
    """
    watched = MachineWatch()
    log = await ground.log(partitions=PARTITIONS)
    on_step(f"deciding and projecting {options.commands:,} commands")
    loads = loads_of(partitions=PARTITIONS, chats=options.chats, commands=options.commands)
    outcomes = await ground.decided(log, loads)
    await ground.projected(log, outcomes)
    settings = ground.variables(log)
    ran: dict[str, list[Command]] = {"log verify": [], "projection verify": []}
    reads: list[log_read.LogRead] = []
    for number in range(1, options.rounds + 1):
        for name, runs in ran.items():
            runs.append(await command(*name.split(), settings=settings))
            on_step(f"round {number}: {name} {runs[-1].seconds:.1f} s")
        reads.append(await log_read.read_all(ground.connection, [log.names.events, log.names.commands], PARTITIONS))
    if not all(c.answer["sound"] for c in ran["log verify"]):
        raise RuntimeError("the log is not sound")
    if not all(c.answer["equal"] for c in ran["projection verify"]):
        raise RuntimeError("the tables are not what the log says")
    proofs = [_proof(name, runs, outcomes) for name, runs in ran.items()]
    baseline_per_s = outcomes / statistics.median(r.seconds for r in reads)
    return Figures(
        outcomes=outcomes,
        events_per_s=proofs[0].events_per_s,
        cpu_us_per_event=proofs[0].cpu_us_per_event,
        baseline=log_read.NAME,
        baseline_per_s=round(baseline_per_s, 1),
        ratio=round(proofs[0].events_per_s / baseline_per_s, 3),
        proofs=proofs,
        machine=watched.summary(),
    )


def _proof(name: str, runs: Sequence[Command], outcomes: int) -> Proof:
    return Proof(
        name=name,
        events_per_s=round(outcomes / statistics.median(c.seconds for c in runs), 1),
        cpu_us_per_event=round(1e6 * statistics.median(c.cpu_s for c in runs) / outcomes, 2),
        memory_mb=round(max(c.memory_mb for c in runs), 1),
        seconds=[round(c.seconds, 3) for c in runs],
    )
