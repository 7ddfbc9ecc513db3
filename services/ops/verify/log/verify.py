"""Verifies the log itself: every partition, every record, and every decided command that was not trimmed yet.

Events and commands of a partition are read together, once. The end of the events is read first: what is appended
meanwhile is for the next run.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass, field

from schemas.topics import TopicNames
from schemas.wire.encoding import Command, CommandReader, Record, Unreadable
from services.ops.verify.log.commands import against_command
from services.ops.verify.log.memory import ACCEPTED_SCHEMA
from services.ops.verify.log.partition import Answered, CannotContinue, Counts, PartitionChecks, Violation
from services.ops.verify.reading import OnProgress, partition_reader, records_until, topics_of
from services.ops.verify.scratch import open_scratch
from services.runtime.kafka.errors import OffsetMissing
from services.runtime.kafka.reader import PartitionReader
from services.runtime.settings import KafkaSettings

DEFAULT_LIMIT = 1_000
OnPlan = Callable[[int], OnProgress]


@dataclass(slots=True)
class PartitionReport:
    """What was read in one partition."""

    partition: int
    counts: Counts = field(default_factory=Counts)
    chats: int = 0
    commands_compared: int = 0
    term: int = 0
    end_offset: int = 0


@dataclass(slots=True)
class LogReport:
    """The result. `violations` holds the first `limit` of `violation_count`, ordered by partition and offset."""

    limit: int
    partitions: list[PartitionReport] = field(default_factory=list)
    violations: list[Violation] = field(default_factory=list)
    violation_count: int = 0

    @property
    def sound(self) -> bool:
        return not self.violation_count

    def take(self, violation: Violation) -> None:
        self.violation_count += 1
        if len(self.violations) < self.limit:
            self.violations.append(violation)


async def verify_log(kafka: KafkaSettings, *, limit: int = DEFAULT_LIMIT, on_plan: OnPlan | None = None) -> LogReport:
    """Read the whole log and name every violation; no content of a record raises.

    :param limit: number of violations that are kept; all are counted.
    :raises KafkaError: the log cannot be read.
    """
    names = await topics_of(kafka)
    report = LogReport(limit=limit)
    bounds: list[tuple[int, int]] = []
    for partition in range(kafka.partitions):
        async with partition_reader(kafka, names.events, partition) as reader:
            bounds.append(await reader.bounds())
    on_progress = on_plan(sum(end for _, end in bounds)) if on_plan is not None else None
    for partition, (start, end) in enumerate(bounds):
        report.partitions.append(await _partition(kafka, names, partition, start, end, report, on_progress))
    report.violations.sort(key=lambda violation: (violation.partition, violation.offset))
    return report


async def _partition(
    kafka: KafkaSettings,
    names: TopicNames,
    partition: int,
    start: int,
    end: int,
    report: LogReport,
    on_progress: OnProgress | None,
) -> PartitionReport:
    seen = PartitionReport(partition=partition, end_offset=end)
    if start > 0:
        detail = f"the log begins at offset {start}: its history was deleted; restore the topic from a backup"
        report.take(Violation(partition=partition, offset=0, rule="log_start", detail=detail))
        return seen
    with open_scratch(ACCEPTED_SCHEMA) as scratch:
        checks = PartitionChecks(partition=partition, partitions=kafka.partitions, scratch=scratch, report=report.take)
        async with (
            partition_reader(kafka, names.events, partition) as events,
            partition_reader(kafka, names.commands, partition) as commands_reader,
        ):
            commands = _Commands(commands_reader, kafka.partitions, report.limit)
            await commands.restart(0)
            try:
                async for record in records_until(events, end, on_progress):
                    await _record(record, checks, commands)
            except CannotContinue:
                pass  # the violation says why; the other partitions are still checked
    for violation in commands.violations:
        report.take(violation)
    report.violation_count += commands.violation_count - len(commands.violations)
    seen.counts = checks.counts
    seen.chats = len(checks.chats)
    seen.commands_compared = commands.compared
    seen.term = checks.head.term
    return seen


async def _record(record: Record, checks: PartitionChecks, commands: _Commands) -> None:
    decided = checks.record(record)
    if checks.commands_from is not None:
        start, checks.commands_from = checks.commands_from, None
        await commands.restart(start)
    if decided is not None:
        await commands.answered(decided)


class _Commands:
    """The commands of a partition, read together with its events, and the violations between the two."""

    def __init__(self, reader: PartitionReader, partitions: int, limit: int) -> None:
        self.compared = 0
        self.violations: list[Violation] = []
        self.violation_count = 0
        self._reader = reader
        self._command_reader = CommandReader(reader.partition, partitions)
        self._limit = limit
        self._first = 0
        self._end = 0
        self._records: AsyncGenerator[Record] | None = None
        self._ahead: Record | None = None

    async def restart(self, offset: int) -> None:
        """Continue at `offset`, the `commands_from` of an opening. The outcomes before it answered commands of another
        topic, so what was found by comparing them with this topic's commands means nothing."""
        self.violations.clear()
        self.violation_count = self.compared = 0
        await self._go_to(offset)

    async def answered(self, decided: Answered) -> None:
        """Compare the next outcome with its command, and report the commands before it that have no outcome."""
        offset = decided.stamp.command_offset
        while (command := await self._peek()) is not None and command.offset < offset:
            self._ahead = None
            self._violation(decided, "skipped", f"command {command.offset} has no outcome; the next answers {offset}")
        if command is None or command.offset > offset:
            if offset >= self._first:  # otherwise it was trimmed after it was decided
                self._violation(decided, "no_command", f"it answers command {offset}, which is not there")
            return
        self._ahead = None
        self.compared += 1
        for rule, detail in against_command(decided, self._read(command)):
            self._violation(decided, rule, detail)

    def _read(self, record: Record) -> Command | Unreadable:
        return self._command_reader.read(record)

    def _violation(self, decided: Answered, rule: str, detail: str) -> None:
        self.violation_count += 1
        if len(self.violations) < self._limit:
            violation = Violation(partition=self._reader.partition, offset=decided.offset, rule=rule, detail=detail)
            self.violations.append(violation)

    async def _peek(self) -> Record | None:
        while self._ahead is None:
            assert self._records is not None, "restart() was not called"
            try:
                self._ahead = await anext(self._records, None)
            except OffsetMissing:  # trimmed during this run: decided, and older than the keep time
                await self._go_to(self._reader.position)
                continue
            if self._ahead is None:
                return None
        return self._ahead

    async def _go_to(self, offset: int) -> None:
        self._first, self._end = await self._reader.bounds()
        self._first = max(self._first, offset)
        await self._reader.seek(self._first)
        self._ahead = None
        self._records = records_until(self._reader, self._end)
