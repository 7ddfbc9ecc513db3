"""Where a command's time goes in the sequencer: its stages one by one, in this process, without Kafka and asyncio.

    gapless bench stages

The log is in memory as record batches. Groups of commands go through the stages as they do in a term
(services/sequencer/partition/term.py), but each stage handles the whole group before the next one, so that it can be
timed. Stages are measured in CPU time of the working thread; RocksDB's own threads have a line of their own. What
`gapless bench sequencer` finds beyond the sum is the rest of the process: sockets, the producer, the event loop, and
cold caches.

The baseline is aiokafka's codec, which parses each command and builds a record of the same parts: the least that a
sequencer on Kafka has to do if it works with objects.
"""

from __future__ import annotations

import asyncio
import statistics
import struct
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final

from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.memory_records import MemoryRecords

from benchmarks.load.conversations import loads_of, repeats_among
from benchmarks.report.machine import Machine, MachineWatch
from benchmarks.servers.ground import Ground
from schemas.log import Head
from schemas.types import EventType
from schemas.wire.encoding import Record, event_source
from schemas.wire.records import command_reader
from services.runtime.kafka.batches import batches_in, new_outcome_batch
from services.runtime.process.collector import infrequent_gc
from services.sequencer.partition.batch import DecidedBatch, decide_loaded
from services.sequencer.partition.sends import keys_of
from services.sequencer.partition.term import COMMANDS_PER_READ
from services.sequencer.ports import LogPosition
from services.sequencer.rules.state import Overlay
from services.sequencer.store.rocks import RocksStore

BASELINE: Final = "aiokafka's codec, taking each command apart and building a record of the same parts"
ROCKSDB_THREADS: Final = "RocksDB's threads"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    commands: int = 200_000
    chats: int = 1_000
    rounds: int = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One stage; `us` is its CPU time per command."""

    name: str
    us: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """Medians over the rounds."""

    commands: int
    rounds: int
    parts: Sequence[Part]
    cpu_us_per_command: float
    """Sum of all parts."""
    baseline: str
    baseline_us: float
    ratio: float
    """The whole divided by the codec's time."""
    machine: Machine


async def run(options: Options, _ground: Ground, on_step: Callable[[str], None] = lambda _step: None) -> Figures:
    """Run the benchmark, which uses no server.

    Raises RuntimeError if the outcomes are not the expected ones.
    """
    watched = MachineWatch()
    (load,) = loads_of(partitions=1, chats=options.chats, commands=options.commands)
    log = _log(load.batches)
    rounds, codecs = [], []
    for number in range(1, options.rounds + 1):
        rounds.append(await asyncio.to_thread(_pass, log, load.records, repeats_among(load.records - options.chats)))
        codecs.append(await asyncio.to_thread(_codec, log, load.records))
        on_step(f"round {number}: {sum(rounds[-1].values()):.2f} µs")
    parts = [Part(name=name, us=round(statistics.median(r[name] for r in rounds), 2)) for name in rounds[0]]
    whole = round(statistics.median(sum(r.values()) for r in rounds), 2)
    codec = round(statistics.median(codecs), 2)
    return Figures(
        commands=load.records,
        rounds=options.rounds,
        parts=parts,
        cpu_us_per_command=whole,
        baseline=BASELINE,
        baseline_us=codec,
        ratio=round(whole / codec, 2),
        machine=watched.summary(),
    )


def _log(batches: Sequence[Any]) -> list[bytes]:
    """Return record batches as a broker has them, with their offsets."""
    log, offset = [], 0
    for batch in batches:
        log.append(struct.pack(">q", offset) + bytes(batch._build())[8:])
        offset += batch.record_count()
    return log


def _records(log: Sequence[bytes]) -> Iterator[Record]:
    for raw in log:
        for batch in batches_in(raw):
            batch.validate_crc()
            yield from batch.records()


def _codec(log: Sequence[bytes], commands: int) -> float:
    """Return the CPU time of aiokafka's codec per command, in µs."""
    began_ns = time.thread_time_ns()
    for raw in log:
        found = MemoryRecords(raw)
        while found.has_next():
            batch, made = found.next_batch(), BatchBuilder(2 * len(raw), 0)
            batch.validate_crc()
            for number, record in enumerate(batch):
                made._builder.append(number, record.timestamp, record.key, record.value, record.headers)
            made._build()
    return (time.thread_time_ns() - began_ns) / 1_000 / commands


def _pass(log: Sequence[bytes], commands: int, repeats: int) -> dict[str, float]:
    """Send all commands through all stages; return stage → CPU µs per command."""
    spent: dict[str, int] = {}
    last_ns = 0

    def done(stage: str) -> None:
        nonlocal last_ns
        now_ns = time.thread_time_ns()
        spent[stage] = spent.get(stage, 0) + now_ns - last_ns
        last_ns = now_ns

    with tempfile.TemporaryDirectory() as folder, infrequent_gc():
        store = RocksStore(Path(folder) / "state", "topic")
        store.apply(Overlay(store).changes, LogPosition(next_offset=1, head=Head(term=1)))
        read, source, waiting = command_reader(0, 1), event_source(0), _records(log)
        duplicates = decided = 0
        process_ns, last_ns = time.process_time_ns(), time.thread_time_ns()
        began_ns = last_ns
        while True:
            records = list(islice(waiting, COMMANDS_PER_READ))
            done("take apart")
            if not records:
                break
            commands_read = deque(read(records))
            done("read")
            at_ms, made = time.time_ns() // 1_000_000, new_outcome_batch()
            loaded = store.load(*keys_of(commands_read, 1 << 30))
            batch = DecidedBatch(head=store.position.head, view=Overlay(loaded), records=made)
            done("look up")
            decide_loaded(batch, commands_read, loaded, partition=0, source=source, at_ms=at_ms)
            done("decide, evolve and encode")
            made._build()
            done("build")
            next_offset = store.position.next_offset + len(records)
            store.apply(batch.changes, LogPosition(next_offset=next_offset, head=batch.head))
            done("write")
            duplicates += batch.outcomes.count(EventType.DUPLICATE)
            decided += len(batch.outcomes)
            last_ns = time.thread_time_ns()
        store.close()
        done("write")
        beside_ns = time.process_time_ns() - process_ns - (time.thread_time_ns() - began_ns)
    if (decided, duplicates) != (commands, repeats):
        raise RuntimeError(f"{decided} commands, {duplicates} of them repeats; wanted are {commands} and {repeats}")
    return {name: ns / 1_000 / commands for name, ns in spent.items()} | {
        ROCKSDB_THREADS: max(0, beside_ns) / 1_000 / commands
    }
