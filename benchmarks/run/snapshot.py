"""Snapshots: a sequencer that starts on a long log with a snapshot but no local state; and the cost of taking one.

    gapless bench snapshot --commands 5000000

A real sequencer decides the commands and takes snapshots meanwhile, with a folder as the store; the last messages come
after its last snapshot. Then another process without any state starts. It is measured from its start, and from the
group's assignment of the partition, to the outcome of a command that is already waiting: with the snapshot, and in turn
with the baseline, which folds the same log from offset 0.

In addition, in this process: the longest time for which a writer's event loop is blocked while a snapshot of a large
state is taken, and while RocksDB's own checkpoint of it is made.
"""

from __future__ import annotations

import asyncio
import json
import random
import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain, islice
from pathlib import Path
from typing import Final

from rocksdict import Checkpoint

from benchmarks.load.conversations import Chat, chats_of, sends
from benchmarks.load.filling import built, fill
from benchmarks.report.machine import Machine, MachineWatch
from benchmarks.servers.ground import CHECK_EVERY_S, Ends, Ground, Log
from benchmarks.servers.processes import DEADLINE_S
from schemas.ids import CommandKey
from schemas.log import Head
from schemas.wire.encoding import Encoded
from services.sequencer.ports import LogPosition
from services.sequencer.rules.state import StateChanges, pack_dedup
from services.sequencer.snapshots.manifest import decode_manifest
from services.sequencer.snapshots.object_store import SnapshotStore
from services.sequencer.snapshots.take import SnapshotTaker
from services.sequencer.store.rocks import Frozen, RocksStore

BASELINE: Final = "folding the same log from offset 0, without a snapshot"
AT_ONCE: Final = 500_000
"""Commands that are built and written to the log in one piece."""
WORTH_IT: Final = 400_000
"""Number of outcomes below which the log may be folded before a snapshot is found."""
TAKEN_AFTER_S: Final = 5.0
"""Time from the last command to the last snapshot, and between snapshots while commands arrive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    commands: int = 1_000_000
    tail: int = 100_000
    """How many of them come after the snapshot."""
    chats: int = 1_000
    rounds: int = 3
    state: int = 2_000_000
    """Number of remembered commands in the state that this process takes snapshots of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One start of a process that has no state."""

    from_start_s: float
    """Seconds from the start of the process to the next outcome in the log."""
    from_word_s: float
    """Seconds from the group's assignment to the next outcome in the log."""
    installed_s: float | None
    """Seconds to find, fetch, verify and open the snapshot; None if none was installed."""
    memory_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Pauses:
    """The longest times that an event loop was blocked, in ms."""

    entries: int
    idle_ms: float
    """While there were only writes."""
    snapshot_ms: float
    """While a snapshot was taken and stored."""
    snapshot_calls_ms: float
    """Longest time in the snapshot's own calls on the loop; the rest is the scheduler's."""
    checkpoint_ms: float
    """While rocksdict.Checkpoint made a checkpoint in a thread."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Results; the first four are medians over the rounds."""

    from_start_s: float
    from_word_s: float
    installed_s: float
    baseline: str
    baseline_s: float
    """Time from the start of the process, like `from_start_s`."""
    ratio: float
    """The baseline's time divided by ours."""
    outcomes: int
    tail: int
    snapshot_mb: float
    snapshot_files: int
    memory_mb: float
    with_snapshot: Sequence[Start]
    folded: Sequence[Start]
    pauses: Pauses
    machine: Machine


async def run(options: Options, ground: Ground, on_step: Callable[[str], None] = lambda _step: None) -> Figures:
    """Run the benchmark.

    Raises RuntimeError if a sequencer never serves, or takes no snapshot.
    """
    watched = MachineWatch()
    store = ground.fresh_folder()
    log = await ground.log(partitions=1)
    chats = chats_of(0, 1, options.chats)
    records = chain((chat.creation for chat in chats), sends(chats, options.commands))
    on_step(f"deciding {options.commands:,} commands, with snapshots")
    state = ground.fresh_folder()
    before = islice(records, options.chats + options.commands - options.tail)
    outcomes = await _decided(ground, log, before, state, store)
    outcomes = await _decided(ground, log, records, state, None, already=outcomes)
    manifest = decode_manifest(_manifests(store)[-1].read_bytes())
    on_step(f"a snapshot of {manifest.bytes / 1e6:,.0f} MB, at {manifest.position.next_offset:,} of {outcomes:,}")
    with_snapshot: list[Start] = []
    folded: list[Start] = []
    for number in range(1, options.rounds + 1):
        with_snapshot.append(await _start(ground, log, chats[0], 2 * number, store))
        folded.append(await _start(ground, log, chats[0], 2 * number + 1, None))
        ours, theirs = with_snapshot[-1], folded[-1]
        on_step(f"round {number}: with the snapshot {ours.from_start_s} s, folded {theirs.from_start_s} s")
    if outcomes > WORTH_IT and any(start.installed_s is None for start in with_snapshot):
        raise RuntimeError("a snapshot was at hand, and was not installed")
    pauses = await _pauses(ground.fresh_folder(), options.state)
    from_start_s, baseline_s = (statistics.median(s.from_start_s for s in each) for each in (with_snapshot, folded))
    return Figures(
        from_start_s=from_start_s,
        from_word_s=statistics.median(s.from_word_s for s in with_snapshot),
        installed_s=statistics.median(s.installed_s or 0.0 for s in with_snapshot),
        baseline=BASELINE,
        baseline_s=baseline_s,
        ratio=round(baseline_s / from_start_s, 2),
        outcomes=outcomes,
        tail=outcomes - manifest.position.next_offset,
        snapshot_mb=round(manifest.bytes / 1e6, 1),
        snapshot_files=len(manifest.files),
        memory_mb=max(s.memory_mb for s in with_snapshot),
        with_snapshot=with_snapshot,
        folded=folded,
        pauses=pauses,
        machine=watched.summary(),
    )


def _settings(store: Path | None) -> dict[str, str]:
    if store is None:
        return {}
    return {"GAPLESS_SEQUENCER_SNAPSHOTS": store.as_uri(), "GAPLESS_SEQUENCER_SNAPSHOT_EVERY_S": str(TAKEN_AFTER_S)}


def _manifests(store: Path) -> list[Path]:
    return sorted(store.glob("*/*/manifests/*"))


async def _decided(
    ground: Ground, log: Log, records: Iterable[Encoded], state: Path, store: Path | None, *, already: int = 0
) -> int:
    """Let a sequencer decide the records and, if `store` is given, take a snapshot of all of them.

    Returns the number of records in events.
    """
    count = 0
    pieces = iter(records)
    while piece := list(islice(pieces, AT_ONCE)):
        count += len(piece)
        await fill(ground.connection, log.names.commands, [built(piece)])
    async with (
        Ends.of(ground.connection, log.names.events, 1) as ends,
        ground.service("sequencer", log, state=state, settings=_settings(store)) as sequencer,
    ):
        deadline = time.monotonic() + DEADLINE_S + count / 5_000
        wanted = already + 1 + count
        while (found := await ends.total()) < wanted:
            sequencer.refuse_to_wait(deadline, f"{wanted} records of events, there are {found}")
            await asyncio.sleep(CHECK_EVERY_S)
        while store is not None and not any(int(m.name.split("-")[0]) >= found for m in _manifests(store)):
            sequencer.refuse_to_wait(deadline, "a snapshot of all that was decided")
            await asyncio.sleep(CHECK_EVERY_S)
    return found


async def _start(ground: Ground, log: Log, chat: Chat, number: int, store: Path | None) -> Start:
    """Start a process without state that finds a new command waiting, and measure it."""
    await fill(ground.connection, log.names.commands, [built([chat.send(10**9 + number)])])
    async with Ends.of(ground.connection, log.names.events, 1) as ends:
        before = await ends.total()
        began_s = time.time()
        async with ground.service("sequencer", log, settings=_settings(store)) as sequencer:
            deadline = time.monotonic() + DEADLINE_S + before / 5_000
            while await ends.total() < before + 2:  # an opening, and the outcome
                sequencer.refuse_to_wait(deadline, "the next outcome")
                await asyncio.sleep(CHECK_EVERY_S)
            ended_s = time.time()
            memory_mb = sequencer.mark().memory_mb
        said = [json.loads(line) for line in sequencer.log_path.read_text().splitlines() if line.startswith("{")]
    word = next(line for line in said if line["event"] == "group.assigned" and line["partitions"])
    installed = next((line["seconds"] for line in said if line["event"] == "snapshot.installed"), None)
    return Start(
        from_start_s=round(ended_s - began_s, 3),
        from_word_s=round(ended_s - datetime.fromisoformat(word["timestamp"]).timestamp(), 3),
        installed_s=installed,
        memory_mb=round(memory_mb, 1),
    )


async def _pauses(folder: Path, entries: int) -> Pauses:
    """Measure a loop that writes a hundred commands every two ms, like one that serves 50,000 a second."""
    store = _Timed(folder / "state", "topic")
    chance = random.Random(1)
    count = 0

    def write(commands: int) -> None:
        nonlocal count
        count += 1
        changes = StateChanges()
        for _ in range(commands):
            key = CommandKey(b"r" + _CHAT + chance.randbytes(16))
            changes.dedup[key] = pack_dedup(b"x" * 16, count, count, count)
        store.apply(changes, LogPosition(next_offset=count, head=Head(1, count, count, 0), last_record=b"x"))

    for _ in range(entries // 1_000):
        write(1_000)
    held: list[float] = []

    async def writing() -> None:
        last_s = time.perf_counter()
        while True:
            await asyncio.sleep(0.002)
            write(100)
            now_s = time.perf_counter()
            held.append(now_s - last_s - 0.002)
            last_s = now_s

    def longest_ms() -> float:
        found = round(1e3 * max(held), 2)
        held.clear()
        return found

    snapshot_store = SnapshotStore((folder / "store").as_uri())
    taker = SnapshotTaker(snapshot_store, dict, partitions=1, folder=folder / "taking", every=1, every_s=1.0)
    task = asyncio.create_task(writing())
    try:
        await asyncio.sleep(3.0)
        idle_ms = longest_ms()
        await taker.take(0, store)
        snapshot_ms = longest_ms()
        db = store.freeze().db
        await asyncio.sleep(1.0)
        held.clear()
        await asyncio.to_thread(lambda: Checkpoint(db).create_checkpoint(str(folder / "checkpoint")))
        await asyncio.sleep(0.01)
        checkpoint_ms = longest_ms()
    finally:
        task.cancel()
        await asyncio.wait({task})
        store.close()
        shutil.rmtree(folder)
    return Pauses(
        entries=entries,
        idle_ms=idle_ms,
        snapshot_ms=snapshot_ms,
        snapshot_calls_ms=round(1e3 * store.longest_s, 2),
        checkpoint_ms=checkpoint_ms,
    )


_CHAT: Final = bytes.fromhex("c1111111111141118111111111111111")


class _Timed(RocksStore):
    """A store that measures how long a snapshot's calls block it."""

    longest_s = 0.0

    def freeze(self) -> Frozen:
        began_s = time.perf_counter()
        frozen = super().freeze()
        self.longest_s = max(self.longest_s, time.perf_counter() - began_s)
        return frozen

    def link(self, frozen: Frozen, folder: Path) -> bool:
        began_s = time.perf_counter()
        linked = super().link(frozen, folder)
        self.longest_s = max(self.longest_s, time.perf_counter() - began_s)
        return linked
