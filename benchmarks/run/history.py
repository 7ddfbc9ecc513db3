"""History: pages of fifty over HTTP, compared with the bare SQL of the same pages on the same tables.

    gapless bench history

Random pages of random chats. A page over HTTP is one snapshot of three statements (a lock, membership with the cursors
for delivery statuses, the rows) and its JSON. The baseline, which runs in turn with it, is only the statement for the
rows, by pgbench. With few cores, the database and the load generator compete with the measured process, so its CPU time
is reported too.
"""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.load.http_load import Generator, get, host_of
from benchmarks.load.open_loop import Latencies
from benchmarks.load.pgbench import Transactions, pgbench
from benchmarks.load.read_model import chat_id, filled, user_id
from benchmarks.report.machine import Machine, MachineWatch
from benchmarks.servers.ground import SECRET, Ground
from services.runtime.access.auth import mint_token

PAGE: Final = 50
CLIENTS: Final = 8
BASELINE: Final = "bare SQL: one keyset SELECT of the same page, pgbench, prepared"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    requests: int = 15_000
    alone: int = 2_000
    """Number of requests of the single client whose latency is compared."""
    chats: int = 200
    messages: int = 500
    """Messages per chat."""
    rounds: int = 3
    baseline_s: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    per_s: float
    """Rate with eight clients, without pauses."""
    cpu_us: float
    """CPU time of the query process per page."""
    generator_us: float
    alone: Latencies
    """Latencies of one client that requests one page after the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Medians over the rounds."""

    requests_per_s: float
    cpu_us_per_request: float
    per_core_s: float
    """Pages per second of the query process's CPU time."""
    p50_ms: float
    """Latency of one client."""
    p99_ms: float
    baseline: str
    baseline_per_s: float
    baseline_p50_ms: float
    behind_baseline_ms: float
    """How much later than bare SQL a page arrives, at the median."""
    ratio: float
    """Our rate divided by the baseline's, with eight clients."""
    memory_mb: float
    runs: Sequence[Run]
    machine: Machine


async def run(options: Options, ground: Ground, on_step: Callable[[str], None] = lambda _step: None) -> Figures:
    """Run the benchmark.

    Raises RuntimeError if a page was incomplete.
    """
    watched = MachineWatch()
    log = await ground.log(partitions=8)
    on_step(f"filling {options.chats} chats of {options.messages} messages")
    await filled(log, chats=options.chats, messages=options.messages)
    runs: list[Run] = []
    many: list[Transactions] = []
    alone: list[Transactions] = []
    variables = {"chats": str(options.chats), "messages": str(options.messages), "lowest": str(PAGE + 1)}
    script = Path(__file__).with_name("history.pgbench")
    async with Generator.started() as generator, ground.service("query", log) as query:
        await query.until_ready()
        requests = _pages(query.url, options)
        await generator.ask(query.url, requests[: len(requests) // 5], connections=CLIENTS)
        for number in range(1, options.rounds + 1):
            before = query.mark()
            answers = await generator.ask(query.url, requests, connections=CLIENTS)
            answers.require(200)
            cpu_s = query.mark().cpu_s - before.cpu_s
            page = json.loads(answers.sample.split(b"\r\n\r\n", 1)[1])
            if len(page["messages"]) != PAGE:
                raise RuntimeError(f"a page of {len(page['messages'])} messages")
            single = await generator.ask(query.url, requests[: options.alone], connections=1)
            runs.append(
                Run(
                    per_s=round(answers.per_s, 1),
                    cpu_us=round(1e6 * cpu_s / len(requests), 1),
                    generator_us=round(1e6 * answers.cpu_s / len(requests), 1),
                    alone=Latencies.of(single.waits_s, round(single.per_s)),
                )
            )
            on_step(f"round {number}: {runs[-1].per_s:,.0f}/s, {runs[-1].cpu_us} µs, p50 {runs[-1].alone.p50_ms} ms")
            many.append(
                await pgbench(log.dsn, script, clients=CLIENTS, seconds=options.baseline_s, variables=variables)
            )
            alone.append(await pgbench(log.dsn, script, clients=1, seconds=options.baseline_s, variables=variables))
            on_step(f"round {number}, SQL: {many[-1].per_s:,.0f}/s, p50 {alone[-1].latencies.p50_ms} ms")
        memory_mb = query.mark().memory_mb
    rate, sql_rate = statistics.median(r.per_s for r in runs), statistics.median(t.per_s for t in many)
    cpu_us = statistics.median(r.cpu_us for r in runs)
    p50_ms = statistics.median(r.alone.p50_ms for r in runs)
    sql_p50_ms = statistics.median(t.latencies.p50_ms for t in alone)
    return Figures(
        requests_per_s=rate,
        cpu_us_per_request=cpu_us,
        per_core_s=round(1e6 / cpu_us, 1),
        p50_ms=p50_ms,
        p99_ms=statistics.median(r.alone.p99_ms for r in runs),
        baseline=BASELINE,
        baseline_per_s=sql_rate,
        baseline_p50_ms=sql_p50_ms,
        behind_baseline_ms=round(p50_ms - sql_p50_ms, 3),
        ratio=round(rate / sql_rate, 3),
        memory_mb=round(memory_mb, 1),
        runs=runs,
        machine=watched.summary(),
    )


def _pages(url: str, options: Options) -> list[bytes]:
    chance = random.Random(1)
    token = mint_token(SECRET, user_id(0))
    return [
        get(
            host_of(url),
            f"/v1/chats/{chat_id(chance.randint(1, options.chats))}/messages"
            f"?before_seq={chance.randint(PAGE + 1, options.messages)}",
            token,
        )
        for _ in range(options.requests)
    ]
