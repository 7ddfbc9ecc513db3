"""Receives outcomes from this process's partition of `chat.replies`, and those of messages also from the log itself.

Several processes may share a partition: request ids are unique across processes, and unknown ones are ignored. Replies
may be lost (this process was down or restarted); the log is the truth, and the client gets the URL of the outcome.

A process that follows the log for live passes each valid outcome to `seen_in_log`, which knows the waiter by the place
of its command. So a message is answered one way through Kafka sooner, and also if its writer died before it replied.
Events of other types lack some of the figures of an answer; those wait for their reply.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import time
from collections.abc import Sequence
from typing import Final

import structlog

from schemas import ids
from schemas.events import AcceptedOutcome
from schemas.log import Stamp
from schemas.types import EventType
from schemas.wire.encoding import Record, ReplyTo
from schemas.wire.replies import Reply, decode_replies
from services.ingest import metrics
from services.runtime.kafka.connection import KafkaConnection
from services.runtime.kafka.errors import KafkaError, KafkaUnavailable, OffsetMissing
from services.runtime.kafka.reader import PartitionReader
from services.runtime.observe.repeated_lines import warn_throttled
from services.runtime.process.backoff import Backoff
from services.runtime.process.tasks import end

LONGEST_PAUSE_S: Final = 5.0
MAX_RECORDS: Final = 500
READ_TIMEOUT_S: Final = 1.0
PROBE_TIMEOUT_S: Final = 3.0
PROBE_INTERVAL_S: Final = 5.0
"""Silence after which the listener checks whether the broker still answers."""

_log = structlog.get_logger(__name__)


class Waiter:
    """An expected reply, made by `ReplyListener.expect`. The caller passes it to `ReplyListener.forget` at the end."""

    __slots__ = ("_reply", "_woken", "place", "reply_to")

    def __init__(self, reply_to: ReplyTo) -> None:
        self.reply_to = reply_to
        self.place: tuple[int, int] | None = None
        """(partition, offset) of the command, once it is acknowledged."""
        self._reply: Reply | None = None
        self._woken: asyncio.Future[None] | None = None

    async def reply(self, timeout_s: float) -> Reply | None:
        """Return the reply, or None if it does not arrive in time or `wake` was called. May be called repeatedly, but
        not by two tasks at once.

        Uses only one future and one timer, since every command passes here.
        """
        if self._reply is None and timeout_s > 0:
            loop = asyncio.get_running_loop()
            self._woken = loop.create_future()
            timer = loop.call_later(timeout_s, self.wake)
            try:
                await self._woken
            finally:
                timer.cancel()
                self._woken = None
        return self._reply

    def settle(self, reply: Reply) -> None:
        if self._reply is None:  # duplicate replies are identical
            self._reply = reply
            self.wake()

    def wake(self) -> None:
        """End the wait, with or without a reply."""
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)


class Waiters:
    """The expected replies of many commands that are answered together. Made by `ReplyListener.expect_many`."""

    __slots__ = ("_missing", "_place_of", "_woken", "partition", "replies", "request_ids")

    def __init__(self, partition: int, request_ids: Sequence[str]) -> None:
        self.partition = partition
        self.request_ids = request_ids
        self.replies: list[Reply | None] = [None] * len(request_ids)
        """Replies in the order of the commands."""
        self._place_of = {request_id: place for place, request_id in enumerate(request_ids)}
        self._missing = set(request_ids)
        self._woken: asyncio.Future[None] | None = None

    def reply_to(self, place: int) -> ReplyTo:
        return ReplyTo(self.partition, self.request_ids[place])

    async def reply(self, timeout_s: float) -> bool | None:
        """Return True once all possible replies are here, None if they are not in time. May be called repeatedly."""
        if self._missing and timeout_s > 0:
            loop = asyncio.get_running_loop()
            self._woken = loop.create_future()
            timer = loop.call_later(timeout_s, self._wake)
            try:
                await self._woken
            finally:
                timer.cancel()
                self._woken = None
        return None if self._missing else True

    def settle(self, reply: Reply) -> None:
        place = self._place_of[reply.request_id]
        if self.replies[place] is None:
            self.replies[place] = reply
            self._done(reply.request_id)

    def give_up(self, places: Sequence[int]) -> None:
        """Stop expecting replies to these commands, which are not in the log."""
        for place in places:
            self._done(self.request_ids[place])

    def _done(self, request_id: str) -> None:
        self._missing.discard(request_id)
        if not self._missing:
            self._wake()

    def _wake(self) -> None:
        if self._woken is not None and not self._woken.done():
            self._woken.set_result(None)


class ReplyListener:
    """Listens continuously from the end of the partition; after an outage it resumes at its position."""

    def __init__(
        self,
        *,
        kafka: KafkaConnection,
        topic: str,
        reply_partitions: int,
        client_id: str,
        partition: int | None = None,
    ) -> None:
        """Prepare the listener. `partition` is the one to listen on; a random one by default."""
        self._kafka = kafka
        self._topic = topic
        self._client_id = client_id
        instance_id = secrets.token_hex(8)
        self._request_ids = (f"{instance_id}-{n}" for n in itertools.count(1))
        self._partition = ids.partition_of(instance_id, reply_partitions) if partition is None else partition
        self._waiters: dict[str, Waiter | Waiters] = {}
        self._placed: dict[tuple[int, int], Waiter] = {}
        """The waiters of single commands by their place, from the acknowledgement on."""
        self._position: int | None = None
        self._backoff = Backoff(LONGEST_PAUSE_S)
        self._listening = asyncio.Event()
        self._said_unavailable = False
        self._task: asyncio.Task[None] | None = None

    @property
    def partition(self) -> int:
        return self._partition

    @property
    def waiting(self) -> int:
        """The number of expected replies."""
        return len(self._waiters)

    @property
    def listening(self) -> bool:
        return self._listening.is_set()

    def expect(self) -> Waiter:
        """Return a waiter with a new request id, which the command must carry when it is appended."""
        request_id = next(self._request_ids)
        waiter = Waiter(ReplyTo(self._partition, request_id))
        self._waiters[request_id] = waiter
        metrics.WAITERS.inc()
        return waiter

    def forget(self, waiter: Waiter) -> None:
        """Remove a waiter. A later reply to it is ignored."""
        del self._waiters[waiter.reply_to.request_id]
        if waiter.place is not None:
            del self._placed[waiter.place]
        metrics.WAITERS.dec()

    def expect_many(self, count: int) -> Waiters:
        """Return the same for many commands that are answered together; pass it to `forget_many` at the end."""
        request_ids = [next(self._request_ids) for _ in range(count)]
        waiters = Waiters(self._partition, request_ids)
        self._waiters.update(dict.fromkeys(request_ids, waiters))
        metrics.WAITERS.inc(count)
        return waiters

    def forget_many(self, waiters: Waiters) -> None:
        for request_id in waiters.request_ids:
            del self._waiters[request_id]
        metrics.WAITERS.dec(len(waiters.request_ids))

    def hand_over(self, reply: Reply) -> None:
        """Pass a reply to its waiter. There is no waiter if it is another process's reply, or came too late."""
        waiter = self._waiters.get(reply.request_id)
        if waiter is not None:
            waiter.settle(reply)

    def placed(self, waiter: Waiter, partition: int, offset: int) -> None:
        """Record where the waiter's command is in `chat.commands`, unless the waiter was forgotten."""
        if waiter.reply_to.request_id in self._waiters:
            waiter.place = partition, offset
            self._placed[waiter.place] = waiter

    def seen_in_log(self, partition: int, stamp: Stamp, outcome: AcceptedOutcome) -> None:
        """Answer the waiter of a message with its valid outcome, which was read from `chat.events`."""
        waiter = self._placed.get((partition, stamp.command_offset))
        if waiter is not None and outcome.type == EventType.MESSAGE_SENT:
            metrics.ANSWERED_FROM_LOG.inc()
            reply = Reply(
                request_id=waiter.reply_to.request_id,
                outcome=outcome.kind,
                partition=partition,
                index=stamp.index,
                command_offset=stamp.command_offset,
                command_id=outcome.command_id,
                seq=outcome.seq,
                position=outcome.position,
                sent_at_ms=outcome.at_ms,
            )
            waiter.settle(reply)

    async def start(self, timeout_s: float) -> bool:
        """Start to listen. Returns whether it listens within `timeout_s`; it keeps trying in any case."""
        self._task = asyncio.create_task(self._listen_for_ever(), name=f"replies {self._topic}-{self._partition}")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._listening.wait()
        return self.listening

    async def stop(self) -> None:
        if self._task is not None:
            await end({self._task})
            if not self._task.cancelled():
                self._task.result()  # raises an unexpected error instead of losing it

    async def ended(self) -> None:
        """Wait until listening ends; raises the error that ended it. Meant for a supervisor."""
        assert self._task is not None, "start() was not called"
        await asyncio.shield(self._task)

    async def _listen_for_ever(self) -> None:
        while True:
            try:
                await self._listen()
            except OffsetMissing:
                # Replies are kept for ten minutes, and this process was away for longer (or the topic is new).
                self._position = None
                _log.warning("replies_lost", topic=self._topic, partition=self._partition)
            except KafkaError as error:
                if not self._said_unavailable:  # once per outage
                    _log.warning("replies_unavailable", partition=self._partition, error=str(error))
                self._said_unavailable = True
            finally:
                self._listening.clear()
            metrics.REPLY_LISTENER_RESTARTS.inc()
            await self._backoff.pause()

    async def _listen(self) -> None:
        """Listen until an error. Raises KafkaError."""
        reader = PartitionReader(
            kafka=self._kafka,
            topic=self._topic,
            partition=self._partition,
            client_id=self._client_id,
        )
        try:
            await reader.start(self._position or 0)
            _, end = await reader.bounds()
            if self._position is None:
                self._position = end  # earlier replies were for other processes
                await reader.seek(end)
            self._listening.set()
            self._said_unavailable = False
            probe_at_s = time.monotonic() + PROBE_INTERVAL_S
            while True:
                records = await reader.read(max_records=MAX_RECORDS, timeout_s=READ_TIMEOUT_S)
                for record in records:
                    self._take(record)
                self._position = reader.position
                if records:
                    self._backoff.reset()
                    probe_at_s = time.monotonic() + PROBE_INTERVAL_S
                elif time.monotonic() > probe_at_s:
                    await self._probe(reader)
                    probe_at_s = time.monotonic() + PROBE_INTERVAL_S
        finally:
            await reader.close()

    async def _probe(self, reader: PartitionReader) -> None:
        """Check after a silence whether the broker answers and the log did not shrink; the client reports neither."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT_S):
                _, end = await reader.bounds()
        except TimeoutError:
            raise KafkaUnavailable(f"the broker is silent for {PROBE_TIMEOUT_S:g} s") from None
        if reader.position > end:
            raise OffsetMissing(f"{self._topic}-{self._partition} ends before offset {reader.position}")
        self._backoff.reset()

    def _take(self, record: Record) -> None:
        try:
            replies = decode_replies(record.value or b"")
        except (ValueError, RecursionError) as error:
            metrics.REPLIES_UNREADABLE.inc()
            warn_throttled(_log, "reply_unreadable", partition=self._partition, offset=record.offset, error=str(error))
            return
        for reply in replies:
            self.hand_over(reply)
