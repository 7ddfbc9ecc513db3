"""Finds the commands of a trace: those whose `traceparent` names it, in the log since a time and among what waits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from schemas.cursor import Decided
from services.ops.inspect.found import CommandFound, OutcomeFound, command_found, outcome_found
from services.ops.inspect.lag import next_undecided
from services.ops.inspect.places import by_time, open_places
from services.ops.verify.reading import partition_reader, records_until, topics_of
from services.runtime.observe.trace_context import trace_id_for, trace_id_of, valid_traceparent
from services.runtime.settings import KafkaSettings

SHOWN: Final = 10_000
"""How many outcomes are kept; a client may send everything under one trace."""


@dataclass(slots=True, kw_only=True)
class Traced:
    """What was found of a trace."""

    trace_id: str
    outcomes: list[OutcomeFound] = field(default_factory=list)
    """In the order of their times."""
    waiting: list[CommandFound] = field(default_factory=list)
    """Commands without an outcome."""
    more: int = 0
    """Outcomes beyond SHOWN."""


def trace_named(name: str) -> str:
    """Return the trace id that a trace id, a traceparent or a request id names."""
    return trace_id_of(name) if valid_traceparent(name) else trace_id_for(name)


def is_of(traceparent: str | None, trace_id: str) -> bool:
    return traceparent is not None and valid_traceparent(traceparent) and trace_id_of(traceparent) == trace_id


async def find_trace(kafka: KafkaSettings, trace_id: str, *, since_ms: int) -> Traced:
    """Return what a trace sent. Raises KafkaError, LogCorrupt, UsageError."""
    names = await topics_of(kafka)
    found = Traced(trace_id=trace_id)
    for partition in range(kafka.partitions):
        async with open_places(kafka, names.events, partition) as places:
            async for event in places.events(await places.first(by_time(since_ms))):
                if not isinstance(event, Decided) or not is_of(event.outcome.traceparent, trace_id):
                    continue
                if event.outcome.at_ms < since_ms:
                    continue
                if len(found.outcomes) < SHOWN:
                    found.outcomes.append(outcome_found(partition, event))
                else:
                    found.more += 1
            next_command = await next_undecided(places.reader, places.start, places.end)
        async with partition_reader(kafka, names.commands, partition) as commands:
            start, end = await commands.bounds()
            await commands.seek(max(start, next_command))
            async for record in records_until(commands, end):
                command = command_found(record, partition, kafka.partitions)
                if is_of(dict(command.headers).get("traceparent"), trace_id):
                    found.waiting.append(command)
    found.outcomes.sort(key=lambda each: (each.outcome.at_ms, each.partition, each.offset))
    return found
