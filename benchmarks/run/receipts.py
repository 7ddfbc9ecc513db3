"""Receipts: one chat of ten thousand members, ten messages a second, and every member marking delivered and read.

    gapless bench receipts --marks 2000

One ingest, one sequencer, one projector. First ten messages a second alone, as an open loop; then the same with the
given number of marks a second in addition, also as an open loop. The members mark in turn, alternately delivered and
read, each up to the message sent two seconds before. Reported are the sends' latency in both parts, and the backlog
when the load ends: commands without an outcome, and outcomes that are not in the tables. The baseline is the same chat
without marks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

from benchmarks.load.conversations import Chat, add_member, chats_of, message_body, user
from benchmarks.load.filling import built, fill
from benchmarks.load.http_load import Answers, Generator, host_of, post
from benchmarks.load.open_loop import Latencies
from benchmarks.report.machine import Machine, MachineWatch
from benchmarks.servers.ground import CHECK_EVERY_S, SECRET, Ends, Ground, Positions
from benchmarks.servers.processes import DEADLINE_S, Service
from schemas.ids import UserId
from services.runtime.access.auth import mint_token

PARTITIONS: Final = 1
SENDS_PER_S: Final = 10
BEHIND_S: Final = 2
SETTLE_S: Final = 1.0
"""Pause after the load, for what is in flight; what is still unprocessed after it is the backlog."""
BASELINE: Final = "the same chat and the same sends, without marks"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    members: int = 10_000
    marks_per_s: int = 2_000
    seconds: int = 30
    """Duration of each of the two parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Results; `p50_ms` and `p99_ms` are those of the sends with marks."""

    members: int
    marks_per_s: float
    """Rate of the answered marks."""
    p50_ms: float
    p99_ms: float
    baseline: str
    baseline_p50_ms: float
    ratio: float
    """Median with marks divided by the median without; the goal is at most 2."""
    undecided: int
    unprojected: int
    """Backlog one second after the load."""
    sends: Latencies
    sends_alone: Latencies
    marks: Latencies
    """Latencies of marks; a mark waits up to a quarter of a second to be merged with others of the same member."""
    cpu_us_per_mark: float
    """CPU time of ingest, sequencer and projector together, beyond what the sends alone took."""
    machine: Machine


async def run(options: Options, ground: Ground, on_step: Callable[[str], None] = lambda _step: None) -> Figures:
    """Run the benchmark.

    Raises RuntimeError if a send or a mark was refused.
    """
    watched = MachineWatch()
    log = await ground.log(partitions=PARTITIONS)
    (chat,) = chats_of(0, PARTITIONS, 1)
    newcomers = [user(1_000_000 + n) for n in range(options.members - len(chat.members))]
    added = (add_member(chat, newcomer) for newcomer in newcomers)
    await fill(ground.connection, log.names.commands, [built([chat.creation, *added])])
    members = [*chat.members, *newcomers]
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        services = [await enter(ground.service(name, log)) for name in ("sequencer", "projector", "ingest")]
        for service in services:
            await service.until_ready()
        ingest = services[-1]
        commands = await enter(Ends.of(ground.connection, log.names.commands, PARTITIONS))
        events = await enter(Ends.of(ground.connection, log.names.events, PARTITIONS))
        positions = await enter(Positions.of(log))
        async with asyncio.timeout(DEADLINE_S):
            while await positions.total() < PARTITIONS + 1 + len(newcomers):  # opening, creation, members added
                await asyncio.sleep(CHECK_EVERY_S)
        one, other = await enter(Generator.started()), await enter(Generator.started())
        on_step(f"a chat of {options.members:,} members")
        before = _cpu_s(services)
        alone = await _sends(one, ingest, chat, 0, options.seconds)
        between = _cpu_s(services)
        sends, marks = await asyncio.gather(
            _sends(one, ingest, chat, options.seconds, options.seconds), _marks(other, ingest, chat, members, options)
        )
        after = _cpu_s(services)
        await asyncio.sleep(SETTLE_S)
        ended = await events.total()
        undecided, unprojected = await commands.total() - (ended - PARTITIONS), ended - await positions.total()
    warm_up = SENDS_PER_S
    beside = Latencies.of(sends.waits_s[warm_up:] or sends.waits_s, SENDS_PER_S)
    without = Latencies.of(alone.waits_s[warm_up:] or alone.waits_s, SENDS_PER_S)
    on_step(f"sends: p50 {without.p50_ms} ms alone, {beside.p50_ms} ms beside marks; {undecided}, {unprojected} left")
    return Figures(
        members=options.members,
        marks_per_s=round(marks.per_s, 1),
        p50_ms=beside.p50_ms,
        p99_ms=beside.p99_ms,
        baseline=BASELINE,
        baseline_p50_ms=without.p50_ms,
        ratio=round(beside.p50_ms / without.p50_ms, 2),
        undecided=max(0, undecided),
        unprojected=max(0, unprojected),
        sends=beside,
        sends_alone=without,
        marks=Latencies.of(marks.waits_s, options.marks_per_s),
        cpu_us_per_mark=round(1e6 * ((after - between) - (between - before)) / len(marks.waits_s), 1),
        machine=watched.summary(),
    )


async def _sends(generator: Generator, ingest: Service, chat: Chat, from_s: int, seconds: int) -> Answers:
    host, token = host_of(ingest.url), mint_token(SECRET, chat.members[0])
    target = f"/v1/chats/{chat.chat_id}/messages"
    first = from_s * SENDS_PER_S
    numbers = range(first, first + seconds * SENDS_PER_S)
    requests = [post(host, target, token, message_body(n), Idempotency_Key=f"send-{n}") for n in numbers]
    answers = await generator.ask(ingest.url, requests, connections=16, per_s=SENDS_PER_S)
    answers.require(201)
    return answers


async def _marks(
    generator: Generator, ingest: Service, chat: Chat, members: Sequence[UserId], options: Options
) -> Answers:
    host = host_of(ingest.url)
    tokens = [mint_token(SECRET, member) for member in members]
    sent_before = options.seconds * SENDS_PER_S
    requests = []
    for number in range(options.seconds * options.marks_per_s):
        sent = sent_before + SENDS_PER_S * (number // options.marks_per_s - BEHIND_S)
        kind = "delivered" if number // len(members) % 2 == 0 else "read"
        body = b'{"up_to_seq":%d}' % max(1, sent)
        target = f"/v1/chats/{chat.chat_id}/{kind}"
        requests.append(post(host, target, tokens[number % len(members)], body))
    # A connection is blocked while its mark waits to be merged, so there are enough for all marks due in that time.
    answers = await generator.ask(
        ingest.url, requests, connections=max(16, options.marks_per_s // 2), per_s=options.marks_per_s
    )
    answers.require(200)
    return answers


def _cpu_s(services: Sequence[Service]) -> float:
    return sum(service.mark().cpu_s for service in services)
