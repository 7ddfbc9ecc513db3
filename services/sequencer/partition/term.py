"""One term of one writer: steps 3 to 6 of the protocol, from the opening to the end of the term.

The loop overlaps three things: reading commands, deciding the next batch, and the append in flight. Only one append is
in flight at a time; meanwhile the next batch is decided on top of it, some commands at a time, and is sent only when
the one before is known to be valid.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Final

from schemas.cursor import Decided, Opened
from schemas.events import TermOpened, encode_term_opened
from schemas.log import Stamp
from schemas.wire.encoding import CommandRead, Record, event_source, opening_outcome
from schemas.wire.records import command_reader, record_digest
from services.runtime.kafka.errors import AppendUnknown, OffsetMissing
from services.runtime.process.crashpoints import crash_point, declare_crash_point
from services.sequencer import metrics
from services.sequencer.errors import PartitionStopped, Superseded
from services.sequencer.partition.batch import DecidedBatch, decide_into, new_batch
from services.sequencer.ports import LogAppender, LogPosition, LogReader, Logs, ReplyPublisher, StateStore
from services.sequencer.store.fold import ReplayStats, fold, is_in_log

COMMANDS_PER_READ: Final = 250
"""Commands read and decided at once: few enough for the processor's caches and for other tasks of the loop."""
COMMANDS_PER_APPEND: Final = 1_000
"""Maximum commands decided into one append. With fewer, an append costs more than its content."""
READ_TIMEOUT_S: Final = 1.0

CRASH_OPENED: Final = declare_crash_point(
    "sequencer.opened", "The log has an opening that no process serves; the next writer opens a later term."
)
CRASH_BEFORE_APPEND: Final = declare_crash_point(
    "sequencer.before_append", "Nothing is in the log; the next writer decides the batch anew."
)
CRASH_AFTER_APPEND: Final = declare_crash_point(
    "sequencer.after_append", "The batch is in the log, but no reply was sent; the client's retry gets the original."
)
CRASH_AFTER_APPLY: Final = declare_crash_point(
    "sequencer.after_apply",
    "The batch is in the log and, in memory, in the state, but no reply was sent; the retry gets the original.",
)
CRASH_AFTER_REPLY: Final = declare_crash_point(
    "sequencer.after_reply", "All is done; the next writer goes on with the next command."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class TermSettings:
    """Settings of a term."""

    partition: int
    partitions: int
    host: str
    append_timeout_s: float = 5.0


@dataclass(slots=True)
class _Append:
    batch: DecidedBatch
    acknowledged: asyncio.Task[int]
    began_s: float


class Term:
    """Opened once, served until it ends. After any error of `serve`, no more replies are sent."""

    def __init__(
        self,
        settings: TermSettings,
        *,
        logs: Logs,
        store: StateStore,
        replies: ReplyPublisher,
        appender: LogAppender,
        now_ms: Callable[[], int],
        is_uncontested: Callable[[int], bool],
        on_acknowledged: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._logs = logs
        self._store = store
        self._replies = replies
        self._appender = appender
        self._now_ms = now_ms
        self._is_uncontested = is_uncontested
        self._on_acknowledged = on_acknowledged
        self._source = event_source(settings.partition)
        self._read = command_reader(settings.partition, settings.partitions)
        self._waiting: deque[CommandRead] = deque()
        self._term = 0

    async def open(self, events: LogReader) -> None:
        """Step 3: append an opening and fold through it.

        Raises Superseded if another process's opening came first, AppendUnknown if the append may be in the log or not.
        """
        owner = str(uuid.uuid4())
        head = self._store.position.head
        opened = TermOpened(owner=owner, host=self._settings.host, partitions=self._settings.partitions)
        outcome = opening_outcome(encode_term_opened(opened), max(self._now_ms(), head.last_timestamp_ms))
        batch = self._appender.new_batch()
        batch.add(outcome, Stamp(head.term + 1, 0, -1), self._source)
        offset = await self._appender.append(batch, self._settings.append_timeout_s)
        crash_point(CRASH_OPENED)
        stats = await self._fold(events, offset + 1, watch_from=offset)
        ours = stats.watched.get(offset)
        if not isinstance(ours, Opened) or ours.opening.owner != owner:
            raise Superseded(f"the opening of term {head.term + 1} at offset {offset} is void")
        self._term = head.term + 1
        self._check_term()

    async def serve(self, stopping: asyncio.Event) -> None:
        """Steps 4 to 6, until `stopping` is set; then append and answer what is already decided.

        Raises Superseded, AppendUnknown, KafkaUnavailable, PartitionStopped, and what deciding raises.
        """
        resume = self._store.position.head.command_offset + 1
        commands = await self._logs.read_commands(resume)
        reading: asyncio.Task[list[Record]] | None = None
        append: _Append | None = None
        asked_to_stop = asyncio.create_task(stopping.wait())
        try:
            await self._check_commands(commands, resume)
            decided: DecidedBatch | None = None
            while True:
                if append is not None and append.acknowledged.done():
                    await self._settle(append)
                    append = None
                if reading is not None and reading.done():
                    found = await self._took(reading, commands)
                    reading = None
                    if not found and append is None:
                        await self._nothing_came()
                room = decided is None or not (decided.full or len(decided.records) >= COMMANDS_PER_APPEND)
                if self._waiting and room:
                    decided = self._decide(decided, append.batch if append is not None else None)
                    continue
                if reading is None and room and not stopping.is_set():
                    reading = asyncio.create_task(
                        commands.read(max_records=COMMANDS_PER_READ, timeout_s=READ_TIMEOUT_S)
                    )
                    await asyncio.sleep(0)  # lets records that were fetched already join the batch
                    continue
                if decided is not None and append is None:
                    append, decided = self._send(decided), None
                    continue
                if stopping.is_set() and append is None and decided is None:
                    return
                awaited: set[asyncio.Task[object]] = {
                    task for task in (reading, append.acknowledged if append is not None else None) if task is not None
                }
                if not stopping.is_set():
                    awaited.add(asked_to_stop)
                await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
        finally:
            # After a crash, an error or a stop here, undecided and unsent work is dropped; chat.commands still has it.
            asked_to_stop.cancel()
            if append is not None:
                append.acknowledged.cancel()
            if reading is not None:
                reading.cancel()
                await asyncio.wait({reading}, timeout=1.0)
            await commands.close()

    async def _check_commands(self, commands: LogReader, resume: int) -> None:
        """Step 4: check that the next command exists, or that the topic ends right before it."""
        first, end = await commands.bounds()
        if not first <= resume <= end:
            await self._check_still_ours()
        if first > resume:
            raise PartitionStopped(
                f"commands {resume} to {first - 1} were deleted before they were decided. Restore chat.commands from a"
                " backup, or give them up: `gapless log skip-missing-commands` (docs/operations.md, missing commands)"
            )
        if end < resume:
            raise PartitionStopped(
                f"the next command is {resume} but chat.commands ends at {end}: this is another topic, or it was"
                " truncated. Restore it from a backup, or go on without what it held: `gapless log"
                " skip-missing-commands` (docs/operations.md, missing commands)"
            )

    async def _took(self, reading: asyncio.Task[list[Record]], commands: LogReader) -> bool:
        try:
            records = reading.result()
        except OffsetMissing:
            await self._check_commands(commands, commands.position)
            raise  # the topic has them after all: read again
        self._waiting += self._read(records)
        return bool(records)

    async def _nothing_came(self) -> None:
        """Use a second without commands to write the state out and, if the hint is contested, to check in the log that
        the partition is still ours: the group may have reassigned it, or a standby taken over ahead of the group."""
        self._store.write_out()
        if not self._is_uncontested(self._term):
            await self._check_still_ours()

    def _decide(self, batch: DecidedBatch | None, before: DecidedBatch | None) -> DecidedBatch:
        if batch is None:
            batch = new_batch(self._appender.new_batch(), store=self._store, before=before)
        decide_into(
            batch,
            self._waiting,
            store=self._store,
            partition=self._settings.partition,
            source=self._source,
            now_ms=self._now_ms,
        )
        return batch

    def _send(self, batch: DecidedBatch) -> _Append:
        crash_point(CRASH_BEFORE_APPEND)
        appending = self._appender.append(batch.records, self._settings.append_timeout_s)
        return _Append(batch, asyncio.create_task(appending), perf_counter())

    async def _settle(self, append: _Append) -> None:
        """Step 6: establish that the acknowledged batch is valid, then apply it to the state, then send the replies."""
        batch = append.batch
        base = append.acknowledged.result()
        metrics.APPEND_SECONDS.observe(perf_counter() - append.began_s)
        crash_point(CRASH_AFTER_APPEND)
        expected = self._store.position.next_offset
        end = base + len(batch.records)
        if base == expected:
            last_record = record_digest(_AsRecord(batch))
            self._store.apply(batch.changes, LogPosition(next_offset=end, head=batch.head, last_record=last_record))
        elif base > expected:
            await self._fold_through(base, end)
        else:
            raise AppendUnknown(f"acknowledged at {base}, below {expected}")
        crash_point(CRASH_AFTER_APPLY)
        self._on_acknowledged()
        self._replies.publish(batch.replies)
        self._count(batch)
        crash_point(CRASH_AFTER_REPLY)
        self._check_term()

    def _check_term(self) -> None:
        """Raise Superseded if the fold found a later term: another opening may follow our own valid batch."""
        later = self._store.position.head.term
        if later != self._term:
            raise Superseded(f"term {later} has taken over from {self._term}")

    async def _fold_through(self, base: int, end: int) -> None:
        """Fold through records that precede our batch; the rule then decides whether it counts (acks=all: finally)."""
        events = await self._logs.read_events(self._store.position.next_offset)
        try:
            stats = await self._fold(events, end, watch_from=base)
        finally:
            await events.close()
        ours = {type(stats.watched.get(offset)) for offset in range(base, end)}
        if ours != {Decided}:
            raise Superseded(f"our batch at {base} is void: term {self._store.position.head.term} stands before it")

    async def _check_still_ours(self) -> None:
        """Fold to the end of the log. Raises Superseded if another process has opened a later term.

        Called when the hint is lost and no commands arrive, so that we release the partition; and before commands are
        reported missing: if this process was paused while its successor decided and trimmed them, nothing is lost.
        Raises OffsetMissing if the log no longer holds what we have folded, as after Kafka was restored from an older
        copy: the next term then begins with what it does hold.
        """
        events = await self._logs.read_events(self._store.position.next_offset)
        try:
            _, end = await events.bounds()
            position = self._store.position
            if position.next_offset > end or not await is_in_log(events, position):
                raise OffsetMissing(f"the event log no longer holds what was folded up to {position.next_offset}")
            await events.seek(position.next_offset)
            await self._fold(events, end)
        finally:
            await events.close()
        self._check_term()

    async def _fold(self, events: LogReader, end: int, watch_from: int | None = None) -> ReplayStats:
        stats = await fold(events, self._store, end=end, partitions=self._settings.partitions, watch_from=watch_from)
        if stats.voids:
            metrics.VOID_RECORDS.labels(self._settings.partition).inc(stats.voids)
        return stats

    def _count(self, batch: DecidedBatch) -> None:
        partition = self._settings.partition
        metrics.BATCH_COMMANDS.observe(len(batch.records))
        metrics.DECIDED_OFFSET.labels(partition).set(batch.head.command_offset)
        for outcome, times in Counter(batch.outcomes).items():
            metrics.OUTCOMES.labels(partition, outcome).inc(times)


class _AsRecord:
    """The last record of a batch, as a reader will see it."""

    def __init__(self, batch: DecidedBatch) -> None:
        last = batch.last
        assert last is not None, "an append has a record"
        self.offset = -1
        self.timestamp = last.timestamp_ms or 0
        self.key = last.key
        self.value = last.value
        self.headers = last.headers
