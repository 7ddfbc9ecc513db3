"""Unread over HTTP: with ten unread messages, with a million, and with half a million deleted messages; in chats of two
and of ten thousand members.

    gapless bench unread

One chat with messages by five members in turn. One reader has read all but ten, another nothing, and a member who wrote
a fifth of them has read nothing either. These rows are made by the server itself. In another chat of the same length,
whose rows come from the projector itself (deleted_messages.py), every other message is deleted: one reader has ten
unread there, and a member who wrote a tenth has read nothing. Two more chats of that length have two and ten thousand
members, among them such readers. The cost should be flat: it should depend neither on the number of unread messages nor
on that of the members. The baseline, which runs in turn with it in the first two chats, is the usual query: SELECT
count(*) of the messages above the cursor, by pgbench.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

from benchmarks.load.deleted_messages import LIVE_UNREAD, WRITER, filled_and_half_deleted
from benchmarks.load.http_load import Generator, get, host_of
from benchmarks.load.open_loop import Latencies
from benchmarks.load.pgbench import pgbench
from benchmarks.load.read_model import READER_OF_ALL_BUT_TEN, READER_OF_NOTHING, chat_id, filled, user_id
from benchmarks.report.machine import Machine, MachineWatch
from benchmarks.servers.ground import SECRET, Ground, Log
from benchmarks.servers.processes import Service
from services.runtime.access.auth import mint_token

OF_TWO: Final = 1
"""The chat of two members, in a database of its own with that of many."""
OF_MANY: Final = 2
BASELINE: Final = "SELECT count(*) of the messages above the read cursor, pgbench, prepared, one client"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    unread: int = 1_000_000
    members: int = 10_000
    """Members of the largest chat."""
    requests: int = 3_000
    rounds: int = 3
    baseline_s: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """One client that repeats its request."""

    members: int
    """Present members of the chat."""
    unread: int
    own: int
    """The reader's own messages above its cursor."""
    deleted: int
    """Deleted messages above its cursor."""
    p50_ms: float
    p99_ms: float
    counted_p50_ms: float | None
    """The baseline's latency; None in the chats of two and of many members, where it is not measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Medians over the rounds; the first four are those of the reader with most unread and none deleted."""

    requests_per_s: float
    cpu_us_per_request: float
    p50_ms: float
    p99_ms: float
    baseline: str
    baseline_p50_ms: float
    ratio: float
    """The baseline's median divided by ours, for the reader with most unread."""
    flatness: float
    """Our median with most unread divided by that with ten; 1 is flat."""
    flatness_beside_deleted: float
    """The same in the chat with deleted messages."""
    flatness_beside_members: float
    """The slowest median divided by the fastest, of ten and most unread in the chats of two and of most members."""
    readers: Sequence[Reader]
    machine: Machine


class _Above(NamedTuple):
    """A reader, and what is above its cursor: live messages by others, its own live ones, and deleted ones."""

    user: int
    unread: int
    own: int = 0
    deleted: int = 0
    chat: int = 1
    members: int = 7

    def __str__(self) -> str:
        return f"{self.members:,} members, {self.unread:,} unread, {self.own:,} own, {self.deleted:,} deleted"


class _Place(NamedTuple):
    """A chat in its own database, with a query service."""

    log: Log
    query: Service
    readers: Sequence[_Above]


async def run(options: Options, ground: Ground, on_step: Callable[[str], None] = lambda _step: None) -> Figures:
    """Run the benchmark.

    Raises RuntimeError if an answer has another number.
    """
    watched = MachineWatch()
    log = await ground.log(partitions=8)
    other, by_members = ground.with_fresh_database(log), ground.with_fresh_database(log)
    messages = options.unread - options.unread % 10
    on_step(f"filling four chats of {messages:,} messages")
    await filled(log, chats=1, messages=messages)
    await filled(by_members, chats=2, messages=messages, of_two=OF_TWO, of_many=OF_MANY, many=options.members)
    await filled_and_half_deleted(other, messages=messages)
    fifth, tenth, half = messages // 5, messages // 10, messages // 2
    all_live = (
        _Above(READER_OF_ALL_BUT_TEN, 10),
        _Above(WRITER, messages - fifth, own=fifth),
        _Above(READER_OF_NOTHING, messages),
    )
    half_deleted = (
        _Above(READER_OF_ALL_BUT_TEN, LIVE_UNREAD, deleted=LIVE_UNREAD),
        _Above(WRITER, messages - half - tenth, own=tenth, deleted=half),
    )
    two_and_many = tuple(
        _Above(user, unread, chat=chat, members=members)
        for chat, members in ((OF_TWO, 2), (OF_MANY, options.members))
        for user, unread in ((READER_OF_ALL_BUT_TEN, 10), (READER_OF_NOTHING, messages))
    )
    measured: dict[_Above, list[Latencies]] = {above: [] for above in (*all_live, *half_deleted, *two_and_many)}
    counted: dict[_Above, list[float]] = {above: [] for above in measured}
    rates: list[float] = []
    cpu_us: list[float] = []
    async with (
        Generator.started() as generator,
        ground.service("query", log) as query,
        ground.service("query", other) as other_query,
        ground.service("query", by_members) as third_query,
    ):
        places = (
            _Place(log, query, all_live),
            _Place(other, other_query, half_deleted),
            _Place(by_members, third_query, two_and_many),
        )
        for place in places:
            await place.query.until_ready()
        for place, above in [(each, above) for each in places for above in each.readers] * options.rounds:
            target = f"/v1/chats/{chat_id(above.chat)}/unread"
            token = mint_token(SECRET, user_id(above.user))
            requests = [get(host_of(place.query.url), target, token)] * options.requests
            await generator.ask(place.query.url, requests[: len(requests) // 10], connections=1)
            before = place.query.mark()
            answers = await generator.ask(place.query.url, requests, connections=1)
            answers.require(200)
            rates.append(answers.per_s)
            cpu_us.append(1e6 * (place.query.mark().cpu_s - before.cpu_s) / len(requests))
            said = json.loads(answers.sample.split(b"\r\n\r\n", 1)[1])
            if said != {"unread": above.unread}:
                raise RuntimeError(f"{said}, but {above.unread} are unread")
            measured[above].append(Latencies.of(answers.waits_s, round(answers.per_s)))
            if above in two_and_many:
                on_step(f"{above}: p50 {measured[above][-1].p50_ms} ms")
                continue
            found = await pgbench(
                place.log.dsn,
                Path(__file__).with_name("unread_counted.pgbench"),
                clients=1,
                seconds=options.baseline_s,
                variables={"reader": str(above.user)},
            )
            counted[above].append(found.latencies.p50_ms)
            on_step(f"{above}: p50 {measured[above][-1].p50_ms} ms; counted {counted[above][-1]}")
    readers = [
        Reader(
            members=above.members,
            unread=above.unread,
            own=above.own,
            deleted=above.deleted,
            p50_ms=statistics.median(m.p50_ms for m in measured[above]),
            p99_ms=statistics.median(m.p99_ms for m in measured[above]),
            counted_p50_ms=statistics.median(counted[above]) if counted[above] else None,
        )
        for above in measured
    ]
    least, _, most, least_deleted, most_deleted, *of_members = readers
    medians = [reader.p50_ms for reader in of_members]
    counted_p50_ms = statistics.median(counted[all_live[-1]])
    return Figures(
        requests_per_s=round(statistics.median(rates), 1),
        cpu_us_per_request=round(statistics.median(cpu_us), 1),
        p50_ms=most.p50_ms,
        p99_ms=most.p99_ms,
        baseline=BASELINE,
        baseline_p50_ms=counted_p50_ms,
        ratio=round(counted_p50_ms / most.p50_ms, 2),
        flatness=round(most.p50_ms / least.p50_ms, 2),
        flatness_beside_deleted=round(most_deleted.p50_ms / least_deleted.p50_ms, 2),
        flatness_beside_members=round(max(medians) / min(medians), 2),
        readers=readers,
        machine=watched.summary(),
    )
