"""Follows one message, command or chat through the system: its records in both topics, and its rows.

The rows of the serving projection say where in the log to look: `outcomes` has partition and index for 7 days, a
message has its time. Records that the projection has not applied yet are read from its position on. Anything else is
found only by reading the whole partition (`scan`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Final

from schemas import ids
from schemas.cursor import Decided
from schemas.ids import ChatId
from schemas.types import EventType
from services.ops.errors import FaultFound
from services.ops.inspect.found import (
    ChatFound,
    CommandFound,
    Found,
    OutcomeFound,
    Writer,
    command_found,
    compare,
    compare_chat,
    outcome_found,
)
from services.ops.inspect.lag import next_undecided
from services.ops.inspect.places import Places, by_command, by_index, by_time, open_places, record_at
from services.ops.inspect.rows import Rows, Snapshot, open_rows
from services.ops.verify.reading import partition_reader, records_until, topics_of
from services.runtime.settings import KafkaSettings, PostgresSettings

ALL: Final = 10_000
"""How many outcomes of one command are shown at most: a producer may repeat a command without end."""


class NotFound(FaultFound):
    """Neither the log, as far as it was read, nor the tables have it."""


class _Looking:
    """One look at the system: the log's partitions are opened when they are needed."""

    def __init__(self, kafka: KafkaSettings, commands: str, events: str, snapshot: Snapshot, stack: AsyncExitStack):
        self.kafka = kafka
        self.commands = commands
        self.events = events
        self.snapshot = snapshot
        self._stack = stack
        self._places: dict[int, Places] = {}

    async def places(self, partition: int) -> Places:
        if partition not in self._places:
            opened = open_places(self.kafka, self.events, partition)
            self._places[partition] = await self._stack.enter_async_context(opened)
        return self._places[partition]


@asynccontextmanager
async def _looking(kafka: KafkaSettings, postgres: PostgresSettings) -> AsyncIterator[_Looking]:
    names = await topics_of(kafka)
    async with AsyncExitStack() as stack:
        # The rows first: whatever they hold is in the log then.
        snapshot = await stack.enter_async_context(open_rows(postgres))
        yield _Looking(kafka, names.commands, names.events, snapshot, stack)


async def show_message(
    kafka: KafkaSettings, postgres: PostgresSettings, *, chat_id: ChatId | None, seq: int, command_id: str, scan: bool
) -> Found:
    """Show a message by its id, or by chat and seq.

    Raises NotFound, UsageError, KafkaError, psycopg.OperationalError.
    """
    async with _looking(kafka, postgres) as looking:
        if chat_id is None:
            return await _of_command_id(looking, None, command_id, scan=scan)
        rows = await looking.snapshot.of_message(chat_id, seq)
        partition = ids.partition_of(chat_id, kafka.partitions)

        def is_it(decided: Decided) -> bool:
            outcome = decided.outcome
            sent = outcome.type == EventType.MESSAGE_SENT and outcome.chat_id == chat_id and outcome.seq == seq
            return sent or (rows.message is not None and outcome.command_id == rows.message.message_id)

        found = await _by_rows(looking, partition, rows, is_it, scan=scan)
        if not found and rows.message is None:
            raise NotFound(f"There is no message {chat_id}/{seq} in {_where(rows, partition, scan=scan)}.")
        if rows.message is None:
            rows = await looking.snapshot.of_command(found[0].outcome.command_id)
        return await _complete(looking, partition, rows, found)


async def show_command(
    kafka: KafkaSettings, postgres: PostgresSettings, *, chat_id: ChatId | None, command_id: str, scan: bool
) -> Found:
    """Show a command by its id; the chat says in which partition to look if the tables do not know it."""
    async with _looking(kafka, postgres) as looking:
        return await _of_command_id(looking, chat_id, command_id, scan=scan)


async def show_command_at(kafka: KafkaSettings, postgres: PostgresSettings, *, partition: int, offset: int) -> Found:
    """Show the command at an offset of `chat.commands`. Raises as `show_message`."""
    async with _looking(kafka, postgres) as looking:
        places = await looking.places(partition)
        record = await record_at(kafka, looking.commands, partition, offset)
        found = await _first(places, await places.first(by_command(offset)), lambda d: d.stamp.command_offset >= offset)
        if found is not None and found.stamp.command_offset != offset:
            found = None
        if record is None and found is None:
            raise NotFound(f"chat.commands has no record at {partition}:{offset}, and the log no outcome of it.")
        command = command_found(record, partition, kafka.partitions) if record is not None else None
        command_id = found.outcome.command_id if found is not None else command.command_id if command else None
        rows = await looking.snapshot.of_command(command_id)
        # Other commands under the same key have rows too: they are repeats of this one, or this one repeats them.
        outcomes = await _by_rows(looking, partition, rows, lambda d: d.outcome.command_id == command_id, scan=False)
        if found is not None and all(each.stamp != found.stamp for each in outcomes):
            outcomes.append(outcome_found(partition, found))
            outcomes.sort(key=lambda each: each.offset)
        result = await _complete(looking, partition, rows, outcomes, command)
        if found is None:
            await _say_undecided(places, result, offset)
        return result


async def show_chat(kafka: KafkaSettings, postgres: PostgresSettings, *, chat_id: ChatId, scan: bool) -> ChatFound:
    """Show a chat: its row, the record that created it, its last event. Raises as `show_message`."""
    async with _looking(kafka, postgres) as looking:
        rows, row = await looking.snapshot.of_chat(chat_id)
        partition = ids.partition_of(chat_id, kafka.partitions)
        places = await looking.places(partition)
        found = ChatFound(chat_id=chat_id, partition=partition, row=row, rows=rows)

        def created(decided: Decided) -> bool:
            return decided.outcome.chat_id == chat_id and decided.outcome.type == EventType.CHAT_CREATED

        if row is not None:
            first = await _first(
                places,
                await places.first(by_time(row.created_at_ms)),
                lambda d: created(d) or _after(d, row.created_at_ms),
            )
            if first is not None and created(first):
                found.created = await _with_writer(places, outcome_found(partition, first))
            if row.changed_index is not None:
                index = row.changed_index
                last = await _first(places, await places.first(by_index(index)), lambda d: d.stamp.index >= index)
                if last is not None and last.stamp.index == index and last.outcome.chat_id == chat_id:
                    found.last = await _with_writer(places, outcome_found(partition, last))
        begin = 0 if scan and row is None else rows.applied(partition)
        async for event in places.events(begin):
            if not isinstance(event, Decided) or event.outcome.chat_id != chat_id or event.outcome.position is None:
                continue
            if event.offset >= rows.applied(partition):
                found.unapplied.append(outcome_found(partition, event))
            elif row is None:
                found.last = outcome_found(partition, event)
            if row is None and created(event):
                found.created = outcome_found(partition, event)
        if row is None and found.last is None and not found.unapplied:
            raise NotFound(f"There is no chat {chat_id} in {_where(rows, partition, scan=scan)}.")
        compare_chat(found)
        return found


async def _of_command_id(looking: _Looking, chat_id: ChatId | None, command_id: str, *, scan: bool) -> Found:
    rows = await looking.snapshot.of_command(command_id)
    partitions = looking.kafka.partitions
    known = {row.partition for row in rows.outcomes}
    if rows.message is not None:
        known.add(ids.partition_of(rows.message.chat_id, partitions))
    if chat_id is not None:
        known = {ids.partition_of(chat_id, partitions)}
    for partition in sorted(known or range(partitions)):
        found = await _by_rows(looking, partition, rows, lambda d: d.outcome.command_id == command_id, scan=scan)
        command = None if found else await _waiting(looking, partition, command_id)
        if found or command is not None or known:
            if not found and command is None and rows.message is None and not rows.outcomes:
                break
            result = await _complete(looking, partition, rows, found, command)
            if command is not None:
                await _say_undecided(await looking.places(partition), result, command.offset)
            return result
    where = _where(rows, min(known) if len(known) == 1 else None, scan=scan)
    raise NotFound(f"There is no command {command_id} in {where}.")


async def _by_rows(
    looking: _Looking, partition: int, rows: Rows, is_it: Callable[[Decided], bool], *, scan: bool
) -> list[OutcomeFound]:
    """Return the outcomes that the rows lead to, and those that the projection has not applied yet."""
    places = await looking.places(partition)
    found: dict[int, Decided] = {}
    if scan:
        async for event in places.events(places.start):
            if isinstance(event, Decided) and is_it(event) and len(found) < ALL:
                found[event.offset] = event
        return [outcome_found(partition, found[offset]) for offset in sorted(found)]
    for index in [row.log_index for row in rows.outcomes if row.partition == partition][-ALL:]:
        decided = await _first(places, await places.first(by_index(index)), lambda d, i=index: d.stamp.index >= i)  # type: ignore[misc]
        if decided is not None and decided.stamp.index == index and is_it(decided):
            found[decided.offset] = decided
    message = rows.message
    if message is not None and all(each.outcome.type != EventType.MESSAGE_SENT for each in found.values()):
        at_ms = message.sent_at_ms
        decided = await _first(places, await places.first(by_time(at_ms)), lambda d: is_it(d) or _after(d, at_ms))
        if decided is not None and is_it(decided):
            found[decided.offset] = decided
    applied = rows.applied(partition)
    if applied < places.end:
        async for event in places.events(applied):
            if isinstance(event, Decided) and event.offset >= applied and is_it(event) and len(found) < ALL:
                found[event.offset] = event
    return [outcome_found(partition, found[offset]) for offset in sorted(found)]


async def _waiting(looking: _Looking, partition: int, command_id: str) -> CommandFound | None:
    """Return the command if it is in the log and not decided yet."""
    places = await looking.places(partition)
    begin = await next_undecided(places.reader, places.start, places.end)
    async with partition_reader(looking.kafka, looking.commands, partition) as commands:
        start, end = await commands.bounds()
        await commands.seek(max(start, begin))
        async for record in records_until(commands, end):
            command = command_found(record, partition, looking.kafka.partitions)
            if command.command_id == command_id:
                return command
    return None


async def _complete(
    looking: _Looking, partition: int, rows: Rows, outcomes: list[OutcomeFound], command: CommandFound | None = None
) -> Found:
    places = await looking.places(partition)
    found = Found(partition=partition, command=command, rows=rows)
    for each in outcomes:
        found.outcomes.append(await _with_writer(places, each))
    telling = found.telling
    if command is None and telling is not None:
        offset = telling.stamp.command_offset
        record = await record_at(looking.kafka, looking.commands, partition, offset)
        if record is None:
            found.notes.append(f"the command's record at {partition}:{offset} is no longer in chat.commands")
        else:
            found.command = command_found(record, partition, looking.kafka.partitions)
    compare(found)
    return found


async def _first(places: Places, offset: int, is_it: Callable[[Decided], bool]) -> Decided | None:
    async with aclosing(places.events(offset)) as events:
        async for event in events:
            if isinstance(event, Decided) and is_it(event):
                return event
    return None


async def _with_writer(places: Places, found: OutcomeFound) -> OutcomeFound:
    opened = await places.opening(found.stamp.term)
    if opened is None:
        return found
    event, at_ms = opened
    writer = Writer(owner=event.opening.owner, host=event.opening.host, offset=event.offset, at_ms=at_ms)
    return OutcomeFound(
        partition=found.partition, offset=found.offset, stamp=found.stamp, outcome=found.outcome, writer=writer
    )


def _after(decided: Decided, at_ms: int) -> bool:
    return decided.outcome.at_ms > at_ms


async def _say_undecided(places: Places, found: Found, offset: int) -> None:
    next_command = await next_undecided(places.reader, places.start, places.end)
    if offset < next_command:
        found.differences.append(f"it has no outcome, and the log has decided all commands before {next_command}")
    else:
        found.notes.append(f"the command is not decided yet: {offset - next_command} commands are before it")


def _where(rows: Rows, partition: int | None, *, scan: bool) -> str:
    """Return where was looked, for the end of a sentence."""
    part = "any partition" if partition is None else f"partition {partition}"
    if scan:
        return f"{rows.version}, nor in the log of {part}"
    return f"{rows.version}, nor among what it has not applied of {part}: --scan reads the whole log of {part}"
