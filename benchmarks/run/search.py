"""Search over HTTP, next to Postgres' own words with a GIN index, and to ILIKE, on the same messages.

    gapless bench search --messages 10000000

Messages of ten words, as frequent as in a natural language, in a thousand chats; the reader is in a hundred of them.
One client asks one query after the other. The baselines are the bare statements: `to_tsvector('simple')` with a GIN
index and a filter on the caller's chats, and ILIKE. Indexing is what the projector does with a batch in hand: tokens,
COPY and the index of a table that is full, one transaction for each 10,000 messages. The lag is that of a real
projector on the same tables, while commands with such texts arrive at a steady rate at a real sequencer.
"""

from __future__ import annotations

import json
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlencode

from benchmarks.load.conversations import chats_in, chats_of
from benchmarks.load.filling import built, fill
from benchmarks.load.http_load import Generator, get, host_of
from benchmarks.load.lag import Lags, lags
from benchmarks.load.read_model import chat_id, user_id
from benchmarks.load.search_rows import NEWEST, READER, SearchRows, filled, queries
from benchmarks.report.machine import Machine, MachineWatch
from benchmarks.servers.database import session
from benchmarks.servers.ground import SECRET, Ground, Log
from services.projector.mapping.search import AnyFound, MessageFound, SearchChanges
from services.projector.mapping.validity import ReaderPosition
from services.projector.writing.apply import load_position
from services.projector.writing.guard import Move
from services.projector.writing.search import search_sql, write_search
from services.runtime.access.auth import mint_token
from services.runtime.postgres.sql import load_sql

BASELINE: Final = "to_tsvector('simple') with GIN and a filter on the caller's chats, bare SQL"
BATCH: Final = 10_000
PARTITIONS: Final = 8
_SQL: Final = load_sql("benchmarks.load", "search_rows.sql").bind()


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    messages: int = 1_000_000
    chats: int = 1_000
    mine: int = 100
    words: int = 200_000
    days: int = 365
    requests: int = 200
    """Queries of each kind."""
    asked_of_baseline: int = 40
    asked_by_ilike: int = 3
    indexed: int = 200_000
    arrivals_per_s: int = 2_000
    arrivals_s: int = 30
    """Duration of the measurement of the lag, in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Queries of one kind: latencies in milliseconds."""

    name: str
    items: int
    """Items of the last page."""
    p50_ms: float
    p95_ms: float
    max_ms: float
    simple_p50_ms: float | None
    """The baseline's; None for a prefix."""
    simple_p95_ms: float | None
    ilike_p50_ms: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    messages: int
    mine: int
    p50_ms: float
    """Over the queries of all kinds, as many of each."""
    p95_ms: float
    baseline: str
    baseline_p50_ms: float
    ratio: float
    """The baseline's median, over the kinds that it answers, divided by ours."""
    cpu_us_per_request: float
    indexed_per_s: float
    lags: Lags
    """How far tables and search were behind the log while commands arrived."""
    index_built_s: float
    index_mb: float
    table_mb: float
    simple_index_mb: float
    messages_mb: float
    kinds: Sequence[Kind]
    machine: Machine


async def run(options: Options, ground: Ground, on_step: Callable[[str], None] = lambda _step: None) -> Figures:
    """Run the benchmark.

    Raises RuntimeError if a query fails, or finds nothing of a message that is there.
    """
    watched = MachineWatch()
    log = await ground.log(partitions=PARTITIONS)
    rows = SearchRows(
        messages=options.messages, chats=options.chats, mine=options.mine, words=options.words, days=options.days
    )
    on_step(f"filling {options.messages:,} messages")
    built_s = await filled(log, rows)
    asked = await queries(log, rows, options.requests)
    on_step("filling the baseline")
    sizes = await _baseline(log)
    kinds: list[Kind] = []
    waits_s: list[float] = []
    cpu_s = 0.0
    token = mint_token(SECRET, user_id(READER))
    async with Generator.started() as generator, ground.service("query", log) as query:
        await query.until_ready()
        host = host_of(query.url)
        for name, texts in asked.items():
            requests = [get(host, f"/v1/search?{urlencode({'q': text})}", token) for text in texts]
            await generator.ask(query.url, requests[:5], connections=1)
            before = query.mark()
            answers = await generator.ask(query.url, requests, connections=1)
            answers.require(200)
            cpu_s += query.mark().cpu_s - before.cpu_s
            sample = json.loads(answers.sample.split(b"\r\n\r\n", 1)[1])
            if "message" in name and not sample["items"]:
                raise RuntimeError(f"{name} finds nothing")
            simple, ilike = await _ask_baselines(log, name, texts, options)
            waits_s += answers.waits_s
            kinds.append(
                Kind(
                    name=name,
                    items=len(sample["items"]),
                    p50_ms=_at(answers.waits_s, 50),
                    p95_ms=_at(answers.waits_s, 95),
                    max_ms=_at(answers.waits_s, 100),
                    simple_p50_ms=_at(simple, 50) if simple else None,
                    simple_p95_ms=_at(simple, 95) if simple else None,
                    ilike_p50_ms=_at(ilike, 50) if ilike else None,
                )
            )
            last = kinds[-1]
            on_step(f"{name}: p50 {last.p50_ms} ms, p95 {last.p95_ms} ms; simple {last.simple_p50_ms} ms")
    lagged = await _lag(ground, log, options)
    on_step(
        f"{lagged.per_s:,.0f} commands/s: search is at most {lagged.search.max_s} s behind, p50 {lagged.search.p50_s} s"
    )
    indexed_per_s = await _index(log, options)
    compared = [kind for kind in kinds if kind.simple_p50_ms is not None]
    baseline_p50_ms = statistics.median(kind.simple_p50_ms or 0.0 for kind in compared)
    return Figures(
        messages=options.messages,
        mine=options.mine,
        p50_ms=_at(waits_s, 50),
        p95_ms=_at(waits_s, 95),
        baseline=BASELINE,
        baseline_p50_ms=round(baseline_p50_ms, 2),
        ratio=round(baseline_p50_ms / statistics.median(kind.p50_ms for kind in compared), 2),
        cpu_us_per_request=round(1e6 * cpu_s / max(1, len(waits_s)), 1),
        indexed_per_s=round(indexed_per_s, 1),
        lags=lagged,
        index_built_s=round(built_s, 1),
        index_mb=sizes[0],
        table_mb=sizes[1],
        simple_index_mb=sizes[2],
        messages_mb=sizes[3],
        kinds=kinds,
        machine=watched.summary(),
    )


async def _baseline(log: Log) -> list[float]:
    """Create the baseline's table and index. Returns the sizes, in megabytes."""
    async with await session(log.dsn) as connection:
        for name in ("simple", "simple_index", "simple_chats"):
            await connection.execute(_SQL[name])
        await connection.execute("VACUUM ANALYZE public.simple")
        row = await (await connection.execute(_SQL["sizes"])).fetchone()
    assert row is not None
    return [round(size / 1e6, 1) for size in row]


async def _ask_baselines(
    log: Log, name: str, texts: Sequence[str], options: Options
) -> tuple[Sequence[float], Sequence[float]]:
    """Return the seconds of each query by the two baselines; neither knows prefixes."""
    if "prefix" in name:
        return (), ()
    waits: dict[str, list[float]] = {"ask_simple": [], "ask_ilike": []}
    async with await session(log.dsn) as connection:
        for block, count in (("ask_simple", options.asked_of_baseline), ("ask_ilike", options.asked_by_ilike)):
            for text in texts[:count]:
                words = text.replace('"', "")
                began_s = time.perf_counter()
                await (await connection.execute(_SQL[block], {"words": words})).fetchall()
                waits[block].append(time.perf_counter() - began_s)
    return waits["ask_simple"], waits["ask_ilike"]


async def _lag(ground: Ground, log: Log, options: Options) -> Lags:
    """Let a sequencer and a projector run on the full tables, and more messages arrive, in other chats."""
    chats = [chats_of(p, PARTITIONS, chats_in(PARTITIONS, options.chats, p)) for p in range(PARTITIONS)]
    await fill(ground.connection, log.names.commands, [built(chat.creation for chat in here) for here in chats])
    texts = await _texts(log)
    chance = random.Random(6)
    count = options.arrivals_per_s * options.arrivals_s // PARTITIONS
    arriving = [[chance.choice(here).send(n, chance.choice(texts)) for n in range(count)] for here in chats]
    async with ground.service("sequencer", log) as sequencer, ground.service("projector", log) as projector:
        for service in (sequencer, projector):
            await service.until_ready()
        return await lags(ground, log, arriving, per_s=options.arrivals_per_s)


async def _texts(log: Log) -> list[str]:
    async with await session(log.dsn) as connection:
        return [text for (text,) in await (await connection.execute(_SQL["texts"], {"count": BATCH})).fetchall()]


async def _index(log: Log, options: Options) -> float:
    """Index more messages, as the projector does. Returns how many a second."""
    sql = search_sql(1)
    texts = await _texts(log)
    async with await session(log.dsn) as connection:
        _, position = await load_position(connection, sql, partition=PARTITIONS, topic_id="benchmark")
        began_s = time.perf_counter()
        at_ms = int(NEWEST.timestamp() * 1000)
        for first in range(0, options.indexed, BATCH):
            found: list[AnyFound] = [
                MessageFound(chat_id(n % options.chats), 10**9 + n, user_id(0), at_ms + n, texts[n % len(texts)])
                for n in range(first, min(first + BATCH, options.indexed))
            ]
            end = ReaderPosition(next_offset=position.next_offset + len(found), head=position.head)
            move = Move(partition=PARTITIONS, topic_id="benchmark", start=position, end=end)
            await write_search(connection, sql, move, SearchChanges(search_added=found))
            position = end
        return options.indexed / (time.perf_counter() - began_s)


def _at(waits_s: Sequence[float], percentile: int) -> float:
    ordered = sorted(waits_s)
    return round(1_000 * ordered[min(len(ordered) - 1, len(ordered) * percentile // 100)], 2)
