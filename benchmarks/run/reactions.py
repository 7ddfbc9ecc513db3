"""Pages of fifty messages without reactions, with ten to each message, and with a thousand.

    gapless bench reactions

Five emojis to each message. The cost of a page should depend on the emojis that it shows, not on the users behind
them. The baseline, which runs in turn with it, is the usual query: the counts are made when a page is read, GROUP BY
emoji over the rows of the reactions, by pgbench.
"""

from __future__ import annotations

import json
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from benchmarks.load.http_load import Generator, get, host_of
from benchmarks.load.open_loop import Latencies
from benchmarks.load.pgbench import pgbench
from benchmarks.load.read_model import chat_id, filled, user_id, with_reactions
from benchmarks.report.machine import Machine, MachineWatch
from benchmarks.servers.ground import SECRET, Ground
from services.runtime.access.auth import mint_token

PAGE: Final = 50
EMOJIS: Final = 5
BASELINE: Final = "count(*) GROUP BY emoji for each message of the page, pgbench, prepared, one client"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    reactions: Sequence[int] = (0, 10, 1_000)
    """Reactions to each message, chat by chat."""
    messages: int = 500
    """Messages of each chat."""
    requests: int = 2_000
    rounds: int = 3
    baseline_s: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Pages:
    """Pages of one chat, requested by one client one after the other."""

    reactions: int
    """To each message."""
    p50_ms: float
    p99_ms: float
    cpu_us: float
    """CPU time of the query process per page."""
    counted_p50_ms: float
    """The baseline's latency."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Medians over the rounds."""

    pages: Sequence[Pages]
    baseline: str
    flatness: float
    """Our median with the most reactions divided by that with the fewest but none; 1 is flat."""
    ratio: float
    """The baseline's median divided by ours, with the most reactions."""
    machine: Machine


async def run(options: Options, ground: Ground, on_step: Callable[[str], None] = lambda _step: None) -> Figures:
    """Run the benchmark.

    Raises RuntimeError if a page has another number of reactions.
    """
    watched = MachineWatch()
    log = await ground.log(partitions=8)
    on_step(f"filling {len(options.reactions)} chats of {options.messages} messages")
    await filled(log, chats=len(options.reactions), messages=options.messages)
    for chat, reactions in enumerate(options.reactions, 1):
        await with_reactions(log, chat=chat, emojis=EMOJIS, users=reactions // EMOJIS)
    measured: dict[int, list[Latencies]] = {reactions: [] for reactions in options.reactions}
    cpu_us: dict[int, list[float]] = {reactions: [] for reactions in options.reactions}
    counted: dict[int, list[float]] = {reactions: [] for reactions in options.reactions}
    async with Generator.started() as generator, ground.service("query", log) as query:
        await query.until_ready()
        for chat, reactions in [*enumerate(options.reactions, 1)] * options.rounds:
            requests = _requests(query.url, chat, options)
            await generator.ask(query.url, requests[: len(requests) // 10], connections=1)
            before = query.mark()
            answers = await generator.ask(query.url, requests, connections=1)
            answers.require(200)
            cpu_us[reactions].append(1e6 * (query.mark().cpu_s - before.cpu_s) / len(requests))
            _check(json.loads(answers.sample.split(b"\r\n\r\n", 1)[1]), reactions)
            measured[reactions].append(Latencies.of(answers.waits_s, round(answers.per_s)))
            found = await pgbench(
                log.dsn,
                Path(__file__).with_name("reactions.pgbench"),
                clients=1,
                seconds=options.baseline_s,
                variables={"chat": str(chat), "messages": str(options.messages), "lowest": str(PAGE + 1)},
            )
            counted[reactions].append(found.latencies.p50_ms)
            on_step(f"{reactions:,} each: p50 {measured[reactions][-1].p50_ms} ms; counted {counted[reactions][-1]}")
    pages = [
        Pages(
            reactions=reactions,
            p50_ms=statistics.median(m.p50_ms for m in measured[reactions]),
            p99_ms=statistics.median(m.p99_ms for m in measured[reactions]),
            cpu_us=round(statistics.median(cpu_us[reactions]), 1),
            counted_p50_ms=statistics.median(counted[reactions]),
        )
        for reactions in options.reactions
    ]
    _, few, *_, most = pages
    return Figures(
        pages=pages,
        baseline=BASELINE,
        flatness=round(most.p50_ms / few.p50_ms, 2),
        ratio=round(most.counted_p50_ms / most.p50_ms, 2),
        machine=watched.summary(),
    )


def _requests(url: str, chat: int, options: Options) -> list[bytes]:
    chance = random.Random(chat)
    token = mint_token(SECRET, user_id(0))
    path = f"/v1/chats/{chat_id(chat)}/messages"
    bounds = (chance.randint(PAGE + 1, options.messages) for _ in range(options.requests))
    return [get(host_of(url), f"{path}?before_seq={before}", token) for before in bounds]


def _check(page: dict[str, Any], reactions: int) -> None:
    shown = [sum(each["count"] for each in message["reactions"]) for message in page["messages"]]
    if shown != [reactions] * PAGE:
        raise RuntimeError(f"a page shows {sum(shown)} reactions, not {reactions} to each of {PAGE} messages")
