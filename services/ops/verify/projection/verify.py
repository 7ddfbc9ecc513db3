"""Verifies a projection against the log: folds each partition up to exactly the position of a snapshot of the tables.

First both sides are summarised per chat (count, bounds, digest), each streamed once; then only the chats that
differ are compared row by row, so that every difference has a name. It works while the projector runs: what
the projector commits meanwhile is not in the snapshot. It imports nothing from the projector.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from schemas import ids
from schemas.cursor import Decided, LogCursor, Stop
from schemas.errors import LogCorrupt, UnknownType
from schemas.log import EMPTY, Head
from services.ops.errors import FaultFound
from services.ops.verify.projection.diff import Difference, compare_position, compare_rows
from services.ops.verify.projection.digest import Summaries, TableDigest
from services.ops.verify.projection.fold import LogFold
from services.ops.verify.projection.search import SearchFold
from services.ops.verify.projection.snapshot import ProjectionPosition, TableSnapshot, open_snapshot
from services.ops.verify.projection.statements import ROWS_SCHEMA
from services.ops.verify.projection.tables import CHAT_TABLES, OUTCOMES, TABLES, Table, Value
from services.ops.verify.reading import OnProgress, partition_reader, records_until, topics_of
from services.ops.verify.scratch import open_scratch
from services.runtime.kafka.topics import topic_id
from services.runtime.settings import KafkaSettings, PostgresSettings

DEFAULT_LIMIT = 1_000
OnPlan = Callable[[int], OnProgress]
"""Called with the number of offsets to fold; returns the callback for each step."""


@dataclass(slots=True)
class ProjectionReport:
    """The result. `differences` holds the first `limit` of `difference_count`."""

    version: str
    limit: int
    positions: dict[int, ProjectionPosition] = field(default_factory=dict)
    log: dict[str, TableDigest] = field(default_factory=lambda: {table.name: TableDigest() for table in TABLES})
    held: dict[str, TableDigest] = field(default_factory=dict)
    differences: list[Difference] = field(default_factory=list)
    difference_count: int = 0
    faults: list[str] = field(default_factory=list)
    """Partitions that could not be folded, each as a sentence."""

    @property
    def equal(self) -> bool:
        return not self.difference_count and not self.faults

    def differs(self, difference: Difference) -> None:
        self.difference_count += 1
        if len(self.differences) < self.limit:
            self.differences.append(difference)


async def verify_projection(
    kafka: KafkaSettings,
    postgres: PostgresSettings,
    *,
    version: str | None = None,
    limit: int = DEFAULT_LIMIT,
    on_plan: OnPlan | None = None,
) -> ProjectionReport:
    """Compare the projection `version` ("v2"; None: the serving one) with the log.

    :param limit: number of differences that are kept; all are counted.
    :raises UsageError: the projection does not exist.
    :raises KafkaError: the log cannot be read.
    :raises psycopg.OperationalError: Postgres is unavailable.
    """
    names = await topics_of(kafka)
    true_topic_id = await topic_id(kafka.connection, names.events)
    async with open_snapshot(postgres, version) as tables:
        report = ProjectionReport(version=tables.version, limit=limit, positions=dict(tables.positions))
        on_progress = on_plan(_offsets_to_fold(tables)) if on_plan is not None else None
        held = {table.name: await _sum_up(tables, table) for table in TABLES}
        report.held = {name: summaries.total() for name, summaries in held.items()}
        check = _Check(kafka, names.events, true_topic_id, tables, held, report, on_progress)
        for partition in sorted({*range(kafka.partitions), *tables.positions, *tables.search_positions}):
            await check.partition(partition)
        await check.unknown_to_the_log()
    return report


def _offsets_to_fold(tables: TableSnapshot) -> int:
    places = (tables.positions, tables.search_positions)
    return sum(
        max(place[partition].next_offset for place in places if partition in place)
        for partition in tables.positions.keys() | tables.search_positions.keys()
    )


async def _sum_up(tables: TableSnapshot, table: Table) -> Summaries:
    summaries = Summaries(table)
    async for page in tables.rows(table):
        summaries.add(page)
    return summaries


class _Check:
    """One run. Groups that were compared are removed from `held`; the log does not know what is left at the end."""

    def __init__(
        self,
        kafka: KafkaSettings,
        topic: str,
        true_topic_id: str,
        tables: TableSnapshot,
        held: dict[str, Summaries],
        report: ProjectionReport,
        on_progress: OnProgress | None,
    ) -> None:
        self._kafka = kafka
        self._topic = topic
        self._topic_id = true_topic_id
        self._tables = tables
        self._held = held
        self._report = report
        self._on_progress = on_progress

    async def partition(self, partition: int) -> None:
        """Fold one partition up to the snapshot's position, and compare all its chats and outcomes."""
        with open_scratch(ROWS_SCHEMA) as scratch:
            fold = LogFold(scratch, partition)
            try:
                await self._fold(fold, SearchFold(scratch), partition)
            except FaultFound as fault:
                self._report.faults.append(str(fault))
                self._leave_out(partition)
                return
            fold.finish()
            async for indexes in self._tables.without_detail(partition):
                fold.leave_out_details(indexes)
            for table in TABLES:
                await self._compare(fold, table)

    async def unknown_to_the_log(self) -> None:
        """Report every row of a chat, or partition, that the log does not contain."""
        for table in TABLES:
            for group in sorted(self._held[table.name].by_group, key=str):
                await self._take(compare_rows(table, iter(()), self._tables.group(table, group)))

    async def _fold(self, fold: LogFold, search: SearchFold, partition: int) -> None:
        """Fold the tables and search, each up to exactly its own position, in one pass through the log."""
        position, of_search = self._tables.positions.get(partition), self._tables.search_positions.get(partition)
        # Without a position nothing is projected, and any row is extra.
        until = position.next_offset if position is not None else 0
        search_until = of_search.next_offset if of_search is not None else 0
        head = search_head = EMPTY
        if position is None and of_search is None:
            return
        async with partition_reader(self._kafka, self._topic, partition) as reader:
            start, end = await reader.bounds()
            if start > 0:
                raise FaultFound(
                    f"{self._topic}-{partition} no longer begins at offset 0 but at {start}: its history was deleted;"
                    " restore the topic from a backup."
                )
            cursor = LogCursor(compiled=False)
            async for record in records_until(reader, min(max(until, search_until), end), self._on_progress):
                event = cursor.read_one(record)
                try:
                    if isinstance(event, Stop):
                        raise event.error
                    if isinstance(event, Decided) and record.offset < until:
                        fold.apply(event.stamp, event.outcome)
                    if isinstance(event, Decided) and record.offset < search_until:
                        search.apply(event.outcome)
                except (LogCorrupt, UnknownType) as error:
                    raise FaultFound(
                        f"{self._topic}-{partition} cannot be folded past offset {record.offset}: {error}."
                        " `gapless log verify` says more."
                    ) from None
                if record.offset < until:
                    head = cursor.head
                if record.offset < search_until:
                    search_head = cursor.head
        if position is not None:
            self._positions_differ("projection_positions", position, head, end)
        if of_search is not None:
            self._positions_differ("search_positions", of_search, search_head, end)

    def _positions_differ(self, table: str, position: ProjectionPosition, head: Head, end: int) -> None:
        for difference in compare_position(table, position, head, self._topic_id, end):
            self._report.differs(difference)

    async def _compare(self, fold: LogFold, table: Table) -> None:
        since_us = self._tables.since_us
        said = Summaries(table)
        said.add(fold.rows(table, since_us))
        self._report.log[table.name].merge(said.total())
        held = self._held[table.name].by_group
        for group, summary in sorted(said.by_group.items(), key=str):
            if held.pop(group, None) != summary:
                rows = fold.group(table, group, since_us)
                await self._take(compare_rows(table, rows, self._tables.group(table, group)))

    async def _take(self, found: AsyncIterator[Difference]) -> None:
        async for difference in found:
            self._report.differs(difference)

    def _leave_out(self, partition: int) -> None:
        """Leave out a partition that cannot be folded: nothing is known about its rows, so they are not extra."""
        self._held[OUTCOMES.name].by_group.pop(partition, None)
        for table in CHAT_TABLES:
            by_group = self._held[table.name].by_group
            for chat in [chat for chat in by_group if self._lives_in(chat, partition)]:
                del by_group[chat]

    def _lives_in(self, chat: Value, partition: int) -> bool:
        return ids.partition_of(str(chat), self._kafka.partitions) == partition
