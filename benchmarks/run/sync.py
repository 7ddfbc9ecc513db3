"""A sync over HTTP of which three chats changed, for users in a hundred chats and in a thousand.

    gapless bench sync

The chats are in eight partitions, and each of the other chats was changed as recently as the cursor allows: none can be
left out but by comparing its own partition's index. The cost should depend on what changed, hardly on the number of
chats. The baseline, which runs in turn with it, is what a client requests that cannot ask for changes: the list of its
chats with their last messages, by pgbench.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from benchmarks.load.http_load import Generator, get, host_of, post
from benchmarks.load.open_loop import Latencies
from benchmarks.load.pgbench import pgbench
from benchmarks.load.read_model import changed_since, chat_id, filled, user_id
from benchmarks.report.machine import Machine, MachineWatch
from benchmarks.servers.ground import SECRET, Ground
from schemas.sync_cursor import SyncCursor, encode_sync_cursor
from services.runtime.access.auth import mint_token

PARTITIONS: Final = 8
LOG: Final = "6f6c1f0e-8a4b-4d3c-9b1a-0a1b2c3d4e5f"
SEEN_INDEX: Final = 1_000_000
CHANGED: Final = 3
FIRST_READER: Final = 100
"""The number of the first reader; they are in no chat of read_model.py."""
BASELINE: Final = "all chats of the user with their last messages, pgbench, prepared, one client"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    chats: Sequence[int] = (100, 1_000)
    """Number of chats that each reader is in."""
    messages: int = 100
    """Messages of each chat."""
    requests: int = 1_000
    rounds: int = 3
    baseline_s: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Reader:
    """One client that repeats its sync."""

    chats: int
    changed: int
    p50_ms: float
    p99_ms: float
    cpu_us: float
    """CPU time of the query process per sync."""
    with_changes_p50_ms: float
    """Latency of a sync that names the chats that changed, and gets what changed in them."""
    listed_p50_ms: float
    """The baseline's latency."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Medians over the rounds; the first two are those of the reader in most chats."""

    p50_ms: float
    p99_ms: float
    baseline: str
    ratio: float
    """The baseline's median divided by ours, for that reader."""
    flatness: float
    """Our median in most chats divided by that in fewest; 1 is flat."""
    readers: Sequence[Reader]
    machine: Machine


async def run(options: Options, ground: Ground, on_step: Callable[[str], None] = lambda _step: None) -> Figures:
    """Run the benchmark.

    Raises RuntimeError if an answer has other chats.
    """
    watched = MachineWatch()
    log = await ground.log(partitions=PARTITIONS)
    most = max(options.chats)
    on_step(f"filling {most} chats of {options.messages} messages")
    await filled(log, chats=most, messages=options.messages)
    readers = {FIRST_READER + n: chats for n, chats in enumerate(options.chats)}
    await changed_since(log, LOG, SEEN_INDEX, partitions=PARTITIONS, readers=readers, changed=CHANGED)
    since = encode_sync_cursor(SyncCursor(LOG, dict.fromkeys(range(PARTITIONS), SEEN_INDEX)))
    synced: dict[int, list[Latencies]] = {reader: [] for reader in readers}
    with_changes: dict[int, list[float]] = {reader: [] for reader in readers}
    cpu_us: dict[int, list[float]] = {reader: [] for reader in readers}
    listed: dict[int, list[float]] = {reader: [] for reader in readers}
    # What changed is each chat's last message: the client has everything before it.
    named = {chat_id(chat): options.messages for chat in range(1, CHANGED + 1)}
    async with Generator.started() as generator, ground.service("query", log) as query:
        await query.until_ready()

        async def ask(request: bytes) -> tuple[Latencies, float, Mapping[str, Any]]:
            await generator.ask(query.url, [request] * (options.requests // 10), connections=1)
            before = query.mark()
            answers = await generator.ask(query.url, [request] * options.requests, connections=1)
            answers.require(200)
            used_us = 1e6 * (query.mark().cpu_s - before.cpu_s) / options.requests
            page = json.loads(answers.sample.split(b"\r\n\r\n", 1)[1])
            if {chat["chat_id"] for chat in page["chats"]} != named.keys() or page["removed"] or page["has_more"]:
                raise RuntimeError("the sync has other chats than those that changed")
            return Latencies.of(answers.waits_s, round(answers.per_s)), used_us, page

        for reader, chats in [*readers.items()] * options.rounds:
            token = mint_token(SECRET, user_id(reader))
            host = host_of(query.url)
            latencies, used_us, _ = await ask(get(host, f"/v1/sync?since={quote(since)}", token))
            synced[reader].append(latencies)
            cpu_us[reader].append(used_us)
            body = json.dumps({"since": since, "chats": named}).encode()
            latencies, _, page = await ask(post(host, "/v1/sync", token, body, content_type="application/json"))
            if any(len(changes["messages"]) != 1 for changes in page["changes"].values()):
                raise RuntimeError("a chat has other changes than its last message")
            with_changes[reader].append(latencies.p50_ms)
            found = await pgbench(
                log.dsn,
                Path(__file__).with_name("sync_listed.pgbench"),
                clients=1,
                seconds=options.baseline_s,
                variables={"reader": str(reader)},
            )
            listed[reader].append(found.latencies.p50_ms)
            on_step(f"{chats:,} chats: p50 {synced[reader][-1].p50_ms} ms; all listed {listed[reader][-1]}")
    found_readers = [
        Reader(
            chats=chats,
            changed=CHANGED,
            p50_ms=statistics.median(m.p50_ms for m in synced[reader]),
            p99_ms=statistics.median(m.p99_ms for m in synced[reader]),
            cpu_us=round(statistics.median(cpu_us[reader]), 1),
            with_changes_p50_ms=statistics.median(with_changes[reader]),
            listed_p50_ms=statistics.median(listed[reader]),
        )
        for reader, chats in readers.items()
    ]
    fewest_chats, *_, most_chats = found_readers
    return Figures(
        p50_ms=most_chats.p50_ms,
        p99_ms=most_chats.p99_ms,
        baseline=BASELINE,
        ratio=round(most_chats.listed_p50_ms / most_chats.p50_ms, 2),
        flatness=round(most_chats.p50_ms / fewest_chats.p50_ms, 2),
        readers=found_readers,
        machine=watched.summary(),
    )
