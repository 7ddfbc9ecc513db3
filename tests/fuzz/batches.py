"""A storm of forged record batches into chat.commands of a real broker, with the production writer behind it.

What must hold (docs/invariants.md, "Offsets are not believed"): whatever batches the broker accepts, each record has
exactly one outcome, at its true offset; honest records among them are accepted; compiled and plain code read the same;
and `gapless log verify` finds the log sound.
"""

from __future__ import annotations

import asyncio
import random
import struct
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from schemas.cursor import LogCursor
from schemas.events import OutcomeKind
from schemas.log import Verdict
from schemas.wire.encoding import Encoded, Undecodable
from services.ops.verify.log.verify import verify_log
from services.runtime.settings import KafkaSettings
from tests.support.forged_batches import BatchRefused, Forged, ForgedRecord, RawProducer, any_batch, raw
from tests.support.poison import REJECTED, TEXT, headers
from tests.support.record_batches import parsed, plain
from tests.support.sequencing import Chat, Scene

MAX_RECORDS: Final = 6
"""Maximum number of records in a batch."""
DECIDED_TIMEOUT_S: Final = 120.0


@dataclass(slots=True)
class Storm:
    """What was written, and the result."""

    seed: int
    written: int = 0
    """Number of batches."""
    refused: Counter[str] = field(default_factory=Counter)
    """Refusals by the broker, by error."""
    records: int = 0
    """Number of records that the broker accepted."""
    undecodable: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    unsound: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Return the result as text."""
        return [
            f"seed {self.seed}: {self.written} batches, {self.refused.total()} refused by the broker"
            f" ({', '.join(f'{name} {count}' for name, count in self.refused.most_common())})",
            f"{self.records} records accepted, {self.undecodable} of them undecodable; outcomes:"
            f" {', '.join(f'{name} {count}' for name, count in self.outcomes.most_common())}",
            *(f"UNSOUND {what}" for what in self.unsound[:50]),
            f"unsound {len(self.unsound)}",
        ]


async def storm(kafka: str, result: Storm, *, batches: int, on_round: Callable[[], None] = lambda: None) -> None:
    """Run one round on its own topics: write `batches` while the writer decides, then check everything."""
    rng = random.Random(f"{result.seed}/{result.written}")
    async with Scene.on(kafka, partitions=1, reply_partitions=1) as scene:
        chat = await scene.create("storm")
        accepted: list[tuple[int, Forged]] = []
        good: set[str] = set()
        async with scene.writer(0), RawProducer.on(kafka, scene.names.commands) as producer:
            for n in range(batches):
                commands = [_command(rng, chat, f"{n}-{i}", good) for i in range(rng.randint(1, MAX_RECORDS))]
                batch = any_batch(rng, commands)
                result.written += 1
                try:
                    accepted.append((await producer.put(scene.names.commands, 0, raw(batch)), batch))
                except BatchRefused as error:
                    result.refused[str(error)] += 1
            end = await _decided(scene)
        await _check(scene, result, accepted, good, end)
    on_round()


def _command(rng: random.Random, chat: Chat, key: str, good: set[str]) -> Encoded:
    """Return a good send, whose key is added to `good`, or one whose content is rejected."""
    if rng.random() < 0.2:
        poison, _ = rng.choice([*REJECTED.values()][:12])
        return poison(chat, f"bad-{key}")
    if rng.random() < 0.1:
        key = f"{rng.randrange(50)}-0"  # most likely a repeat
    good.add(key)
    return Encoded(chat.chat_id.encode(), TEXT, headers(chat, key))


async def _decided(scene: Scene) -> int:
    """Wait until every command has an outcome, and return the number of commands."""
    commands = await scene.reader(scene.names.commands, 0)
    events = await scene.reader(scene.names.events, 0)
    _, end = await commands.bounds()
    cursor, deadline = LogCursor(), time.monotonic() + DECIDED_TIMEOUT_S
    while (decided := cursor.head.command_offset) < end - 1:
        if time.monotonic() > deadline:
            raise AssertionError(f"{end} commands, decided up to {decided} after {DECIDED_TIMEOUT_S:g} s")
        cursor.read(await events.read(max_records=10_000, timeout_s=1.0))
    return end


async def _check(scene: Scene, result: Storm, accepted: Sequence[tuple[int, Forged]], good: set[str], end: int) -> None:
    def unsound(what: str) -> None:
        result.unsound.append(f"{scene.names.commands}: {what}")

    outcomes: dict[int, Any] = {}
    for entry in await scene.log(0):
        if entry.verdict is Verdict.VALID:
            if entry.stamp.command_offset in outcomes:
                unsound(f"command {entry.stamp.command_offset} has two outcomes")
            outcomes[entry.stamp.command_offset] = entry.outcome
            result.outcomes[entry.outcome.type] += 1
    if sorted(outcomes) != list(range(end)):
        unsound(f"outcomes answer {sorted(set(outcomes) ^ set(range(end)))[:20]} too much or not")
    expected = 1  # the chat's creation
    for base, batch in accepted:
        if base != expected:
            unsound(f"a batch at {base}, where the one before it ends at {expected}")
        expected = base + len(batch.records)
        result.records += len(batch.records)
        stored = struct.pack(">q", base) + raw(batch)[8:]
        read = parsed(stored)
        if [_seen(r) for r in read] != [_seen(r) for r in plain(stored)]:
            unsound(f"compiled and plain code read the batch at {base} differently")
        for i, (record, got) in enumerate(zip(batch.records, read, strict=False)):
            result.undecodable += isinstance(got, Undecodable)
            problem = _problem(record, i, bool(batch.attributes & 7), _key(record) in good, outcomes.get(base + i))
            if problem:
                unsound(f"command {base + i}: {problem}")
    if expected != end:
        unsound(f"{expected} records were accepted, and chat.commands ends at {end}")
    prefix = scene.names.events.removesuffix("chat.events")
    report = await verify_log(
        KafkaSettings(bootstrap_servers=scene.kafka, topic_prefix=prefix, partitions=1, reply_partitions=1)
    )
    for violation in report.violations:
        unsound(f"log verify: {violation}")


def _problem(record: ForgedRecord, index: int, rebuilt: bool, good: bool, outcome: Any) -> str | None:
    """Return what is wrong with a record's outcome, as far as its producer can tell, or None.

    A forged offset is malformed, unless the broker rebuilt the batch, as it does with a compressed one. A good command
    that was left alone is accepted, or a duplicate, under its own key.
    """
    if outcome is None:
        return "it has no outcome"
    if record.delta not in (None, index) and not rebuilt:
        right = outcome.kind is OutcomeKind.REJECTED and outcome.command_id is None
        return None if right else f"its offset is forged, and it is {outcome.type} of {outcome.command_id}"
    if good and not record.touched:
        key = _key(record)
        right = outcome.kind in (OutcomeKind.ACCEPTED, OutcomeKind.DUPLICATE) and outcome.client_generated_id == key
        return None if right else f"it was sent under {key}, and its outcome is {outcome}"
    return None


def _key(record: ForgedRecord) -> str:
    return (dict(record.headers).get(b"ce_clientid") or b"").decode()


def _seen(record: Any) -> tuple[object, ...]:
    return record.offset, record.timestamp, record.key, record.value, [*record.headers]


async def storms(kafka: str, result: Storm, *, minutes: float, batches: int, on_round: Callable[[], None]) -> None:
    """Run rounds until the time is up, or until one finds a fault."""
    until_s = time.monotonic() + minutes * 60
    while time.monotonic() < until_s and not result.unsound:
        await storm(kafka, result, batches=batches, on_round=on_round)
        await asyncio.sleep(0)
