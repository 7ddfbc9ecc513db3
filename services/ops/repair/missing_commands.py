"""Lets a partition go on after commands were lost for good: `chat.commands` was trimmed, cut, or made anew.

A sequencer stops such a partition, because no outcome of the lost commands would be true. An opening with
`commands_from` (docs/log-protocol.md) says from which command on the next writer decides. This appends one: the
decision is an operator's, and stays in the log with their name.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from schemas.cursor import LogCursor, Opened, Stop
from schemas.events import TermOpened, encode_term_opened
from schemas.log import Head, Stamp
from schemas.topics import TopicNames
from schemas.wire.encoding import event_source, opening_outcome
from schemas.wire.replies import encode_replies
from services.ops.errors import FaultFound, UsageError
from services.ops.verify.reading import partition_reader, records_until, topics_of
from services.runtime.kafka.appender import PartitionAppender
from services.runtime.kafka.broker_time import BrokerTime
from services.runtime.settings import KafkaSettings

APPEND_TIMEOUT_S: Final = 10.0
CommandsFrom = int | Literal["first", "end"]
"""An offset of `chat.commands`, its first record, or its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Missing:
    """What a partition's writer needs, what `chat.commands` has, and what going on costs."""

    partition: int
    next_command: int
    """The command that would be decided next."""
    first: int
    end: int
    """First offset of `chat.commands`, and the offset after its last record."""
    commands_from: int
    """The command that the next writer decides first."""
    head: Head
    end_offset: int
    """The offset after the last record of `chat.events`."""

    @property
    def given_up(self) -> int:
        """Number of commands that are never decided."""
        return max(0, self.commands_from - self.next_command)

    @property
    def decided_again(self) -> int:
        """Number of offsets at which commands were decided before: a topic that was made anew has others there."""
        return max(0, self.next_command - self.commands_from)


def decide(next_command: int, first: int, end: int, asked: CommandsFrom | None) -> int | None:
    """Return the command from which to go on, or None if nothing is missing. Pure.

    Raises UsageError if `asked` does not fit, or is needed.
    """
    if first <= next_command <= end:
        return None
    chosen = {"first": first, "end": end}.get(asked, asked) if isinstance(asked, str) else asked
    if chosen is None:
        if first > next_command:
            return first
        raise UsageError(
            f"chat.commands ends at {end}, before command {next_command}, the next one: it was cut, or made anew. Say"
            " which: `--from end` if it was cut (what it still holds has been decided), `--from first` if it was made"
            " anew (everything in it is decided; repeats are recognised by their keys)."
        )
    if not first <= int(chosen) <= end:
        raise UsageError(f"chat.commands holds {first} to {end - 1}: --from has to be one of these, or {end}.")
    return int(chosen)


async def find_missing(
    kafka: KafkaSettings,
    partition: int,
    asked: CommandsFrom | None,
    on_plan: Callable[[int], Callable[[int], None]] | None = None,
) -> Missing | None:
    """Return what is missing in a partition; None if nothing is. Changes nothing.

    Raises UsageError, FaultFound if the log is corrupt, KafkaError.

    :param on_plan: called with the number of records of the log; returns a function that takes the number read.
    """
    if not 0 <= partition < kafka.partitions:
        raise UsageError(f"There is no partition {partition}: the log has {kafka.partitions}.")
    names = await topics_of(kafka)
    head, end_offset = await _head(kafka, names, partition, on_plan)
    async with partition_reader(kafka, names.commands, partition) as commands:
        first, end = await commands.bounds()
    next_command = head.command_offset + 1
    commands_from = decide(next_command, first, end, asked)
    if commands_from is None:
        return None
    return Missing(
        partition=partition, next_command=next_command, first=first, end=end, commands_from=commands_from, head=head,
        end_offset=end_offset,
    )  # fmt: skip


async def _head(
    kafka: KafkaSettings,
    names: TopicNames,
    partition: int,
    on_plan: Callable[[int], Callable[[int], None]] | None = None,
) -> tuple[Head, int]:
    async with partition_reader(kafka, names.events, partition) as events:
        _, end = await events.bounds()
        on_progress = None if on_plan is None else on_plan(end)
        cursor = LogCursor()
        async for record in records_until(events, end, on_progress):
            event = cursor.read_one(record)
            if isinstance(event, Stop):
                where = f"at offset {event.offset} of partition {partition}"
                raise FaultFound(f"chat.events is corrupt {where}: {event.error}")
    return cursor.head, end


async def go_on(kafka: KafkaSettings, missing: Missing, *, operator: str) -> int:
    """Append the opening, and return its term. The next writer decides from `missing.commands_from` on.

    Raises FaultFound if a writer was first: nothing is changed then; AppendUnknown, KafkaError.
    """
    names = TopicNames.prefixed(kafka.topic_prefix)
    clock = BrokerTime(
        kafka=kafka.connection, client_id=f"{kafka.client_id}-ops", topic=names.replies, value=encode_replies([])
    )
    try:
        now_ms = (await clock.read()).broker_ms
    finally:
        await clock.close()
    owner = str(uuid.uuid4())
    opened = TermOpened(owner=owner, host=operator, partitions=kafka.partitions, commands_from=missing.commands_from)
    appender = PartitionAppender(
        kafka=kafka.connection, topic=names.events, partition=missing.partition, client_id=f"{kafka.client_id}-ops"
    )
    await appender.start()
    try:
        batch = appender.new_batch()
        outcome = opening_outcome(encode_term_opened(opened), max(now_ms, missing.head.last_timestamp_ms))
        batch.add(outcome, Stamp(missing.head.term + 1, 0, -1), event_source(missing.partition))
        offset = await appender.append(batch, APPEND_TIMEOUT_S)
    finally:
        await appender.stop()
    async with partition_reader(kafka, names.events, missing.partition) as events:
        await events.seek(missing.end_offset)
        cursor = LogCursor(missing.head, next_offset=missing.end_offset)
        async for record in records_until(events, offset + 1):
            event = cursor.read_one(record)
            if isinstance(event, Opened) and event.opening.owner == owner:
                return event.stamp.term
    raise FaultFound(f"A writer opened a term of partition {missing.partition} first. Nothing was changed: try again.")
