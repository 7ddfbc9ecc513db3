"""Unread over HTTP: with ten unread, and with a million.

    gapless bench unread

One chat, its messages by five members in turn. One reader has read all but ten, another nothing, and a member who wrote
a fifth of them has read nothing either. The number is flat: what it costs does not depend on what it is. The baseline,
in turn with it, is what people write instead: SELECT count(*) of the messages above the cursor, by pgbench.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.ground import SECRET, Ground
from benchmarks.http_load import Generator, get, host_of
from benchmarks.machine import Machine, MachineWatch
from benchmarks.open_loop import Latencies
from benchmarks.pgbench import pgbench
from benchmarks.read_model import READER_OF_ALL_BUT_TEN, READER_OF_NOTHING, chat_id, filled, user_id
from services.runtime.auth import mint_token

BASELINE: Final = "SELECT count(*) of the messages above the read cursor, pgbench, prepared, one client"
WRITER: Final = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    unread: int = 1_000_000
    requests: int = 3_000
    rounds: int = 3
    baseline_s: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """One client that asks again and again."""

    unread: int
    own: int
    """Of the messages above its cursor, that are the reader's own."""
    p50_ms: float
    p99_ms: float
    counted_p50_ms: float
    """The baseline's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Medians over the rounds; the first four are of the reader with most unread."""

    requests_per_s: float
    cpu_us_per_request: float
    p50_ms: float
    p99_ms: float
    baseline: str
    baseline_p50_ms: float
    ratio: float
    """The baseline's median time to ours, at most unread."""
    flatness: float
    """Our median time at most unread to that at ten: 1 is flat."""
    readers: Sequence[Reader]
    machine: Machine


async def run(options: Options, ground: Ground, on_step: Callable[[str], None] = lambda _step: None) -> Figures:
    """Raises RuntimeError where an answer is another number."""
    watched = MachineWatch()
    log = await ground.log(partitions=8)
    messages = options.unread - options.unread % 5
    on_step(f"filling one chat of {messages:,} messages")
    await filled(log, chats=1, messages=messages)
    own = messages // 5
    wanted = {READER_OF_ALL_BUT_TEN: (10, 0), WRITER: (messages - own, own), READER_OF_NOTHING: (messages, 0)}
    measured: dict[int, list[Latencies]] = {number: [] for number in wanted}
    counted: dict[int, list[float]] = {number: [] for number in wanted}
    rates: list[float] = []
    cpu_us: list[float] = []
    async with Generator.started() as generator, ground.service("query", log) as query:
        await query.until_ready()
        for number in [*wanted] * options.rounds:
            target = f"/v1/chats/{chat_id(1)}/unread"
            requests = [get(host_of(query.url), target, mint_token(SECRET, user_id(number)))] * options.requests
            await generator.ask(query.url, requests[: len(requests) // 10], connections=1)
            before = query.mark()
            answers = await generator.ask(query.url, requests, connections=1)
            answers.require(200)
            rates.append(answers.per_s)
            cpu_us.append(1e6 * (query.mark().cpu_s - before.cpu_s) / len(requests))
            said = json.loads(answers.sample.split(b"\r\n\r\n", 1)[1])
            if said != {"unread": wanted[number][0]}:
                raise RuntimeError(f"{said}, but {wanted[number][0]} are unread")
            measured[number].append(Latencies.of(answers.waits_s, round(answers.per_s)))
            found = await pgbench(
                log.dsn,
                Path(__file__).with_name("unread_counted.pgbench"),
                clients=1,
                seconds=options.baseline_s,
                variables={"reader": str(number)},
            )
            counted[number].append(found.latencies.p50_ms)
            on_step(
                f"{wanted[number][0]:,} unread: p50 {measured[number][-1].p50_ms} ms; counted {counted[number][-1]}"
            )
    readers = [
        Reader(
            unread=unread,
            own=own,
            p50_ms=statistics.median(m.p50_ms for m in measured[number]),
            p99_ms=statistics.median(m.p99_ms for m in measured[number]),
            counted_p50_ms=statistics.median(counted[number]),
        )
        for number, (unread, own) in wanted.items()
    ]
    least, most = readers[0], readers[-1]
    return Figures(
        requests_per_s=round(statistics.median(rates), 1),
        cpu_us_per_request=round(statistics.median(cpu_us), 1),
        p50_ms=most.p50_ms,
        p99_ms=most.p99_ms,
        baseline=BASELINE,
        baseline_p50_ms=most.counted_p50_ms,
        ratio=round(most.counted_p50_ms / most.p50_ms, 2),
        flatness=round(most.p50_ms / least.p50_ms, 2),
        readers=readers,
        machine=watched.told(),
    )
