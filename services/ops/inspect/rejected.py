"""Counts the commands that were rejected since a time, by reason and sender."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field

from schemas.cursor import Decided
from schemas.errors import Reason
from schemas.events import OutcomeKind, decode_rejected
from services.ops.inspect.places import by_time, open_places
from services.ops.verify.reading import topics_of
from services.runtime.settings import KafkaSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A rejected command."""

    partition: int
    command_offset: int
    index: int
    at_ms: int
    reason: Reason
    detail: str
    command_type: str | None
    chat_id: str | None
    sender_id: str | None
    client_generated_id: str | None

    @property
    def place(self) -> str:
        """Its place in `chat.commands`, as `gapless show command` takes it."""
        return f"{self.partition}:{self.command_offset}"


@dataclass(slots=True)
class Count:
    """The rejections of one sender for one reason."""

    count: int = 0
    last_at_ms: int = 0


@dataclass(slots=True)
class Rejections:
    """Rejections, counted by reason and sender, and the first `limit` of them."""

    limit: int = 0
    total: int = 0
    counts: dict[tuple[Reason, str | None], Count] = field(default_factory=dict)
    named: list[Rejection] = field(default_factory=list)

    def add(self, rejection: Rejection) -> None:
        self.total += 1
        if len(self.named) < self.limit:
            self.named.append(rejection)
        counted = self.counts.setdefault((rejection.reason, rejection.sender_id), Count())
        counted.count += 1
        counted.last_at_ms = max(counted.last_at_ms, rejection.at_ms)

    def most(self) -> list[tuple[Reason, str | None, Count]]:
        """Return reason, sender and count, the highest counts first."""
        found = [(reason, sender, counted) for (reason, sender), counted in self.counts.items()]
        return sorted(found, key=lambda each: (-each[2].count, each[0].value, each[1] or ""))


async def rejections(
    kafka: KafkaSettings,
    *,
    partitions: Iterable[int],
    since_ms: int,
    reason: Reason | None = None,
    chat_id: str | None = None,
) -> AsyncIterator[Rejection]:
    """Yield the rejections of these partitions since a time, each partition in order. Raises KafkaError, LogCorrupt."""
    names = await topics_of(kafka)
    for partition in partitions:
        async with open_places(kafka, names.events, partition) as places:
            async for event in places.events(await places.first(by_time(since_ms))):
                if not isinstance(event, Decided) or event.outcome.kind is not OutcomeKind.REJECTED:
                    continue
                found = rejection_of(partition, event)
                if found.at_ms >= since_ms and reason in (None, found.reason) and chat_id in (None, found.chat_id):
                    yield found


def rejection_of(partition: int, event: Decided) -> Rejection:
    """Return the rejection in an outcome that is one. Raises LogCorrupt."""
    outcome, body = event.outcome, decode_rejected(event.outcome.body)
    return Rejection(
        partition=partition,
        command_offset=event.stamp.command_offset,
        index=event.stamp.index,
        at_ms=outcome.at_ms,
        reason=body.reason,
        detail=body.detail,
        command_type=body.command_type,
        chat_id=outcome.chat_id,
        sender_id=outcome.sender_id,
        client_generated_id=outcome.client_generated_id,
    )
