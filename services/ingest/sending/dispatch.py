"""Sends a command and returns its outcome: append, then wait for the reply as long as the client wants."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeVar

from msgspec.structs import replace

from schemas.wire.encoding import Command
from schemas.wire.replies import Reply
from services.ingest import metrics
from services.ingest.problems import outcome_unknown, too_many, unreachable
from services.ingest.sending.batch import CommandBatch
from services.ingest.sending.pending import Pending
from services.ingest.sending.publisher import Append, Publisher, TooManyAppends
from services.ingest.sending.replies import ReplyListener, Waiter
from services.runtime.kafka.errors import AppendUnknown, KafkaUnavailable
from services.runtime.process.crashpoints import crash_point, declare_crash_point
from services.runtime.web.problems import Problem

AFTER_APPEND: Final = declare_crash_point(
    "ingest.after_append",
    "The command is in the log and will be decided; its client gets no answer, and its retry gets the original's.",
)
BEFORE_ANSWER: Final = declare_crash_point(
    "ingest.before_answer",
    "The command is decided; its client gets no answer, and its retry gets the original's figures.",
)

UNWATCHED_S: Final = 0.1
"""Wait after which a request is also watched for a disconnect. Most outcomes arrive sooner."""

ClientGone = Callable[[], Awaitable[object]]
"""Returns when the client has disconnected."""


T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Expected(Protocol[T_co]):
    """The common interface of `Waiter` and `Waiters`."""

    async def reply(self, timeout_s: float) -> T_co | None: ...


class Dispatcher:
    """Sends commands and returns their outcomes. Its only state are the waiters of running requests."""

    def __init__(self, publisher: Publisher, replies: ReplyListener) -> None:
        self._publisher = publisher
        self._replies = replies

    async def send(self, command: Command, wait_s: float, client_gone: ClientGone | None = None) -> Reply | Pending:
        """Return the outcome, or Pending if it does not arrive within `wait_s` from now or the client disconnects.

        Raises Problem `unavailable` if the command was not accepted, or its result is unknown.
        """
        waiter = self._replies.expect()
        try:
            return await self._sent(command, waiter, wait_s, client_gone)
        finally:
            self._replies.forget(waiter)

    async def send_all(
        self, commands: Sequence[Command], wait_s: float, client_gone: ClientGone | None = None
    ) -> list[Reply | Pending | Problem]:
        """Do the same for many commands, with an outcome for each, in their order. The wait is for all together."""
        started_at_s = time.monotonic()
        deadline_s = started_at_s + wait_s
        batch = CommandBatch(commands, self._publisher, self._replies)
        try:
            batch.send()
            waiters = batch.waiters
            if not await waiters.reply(min(wait_s, UNWATCHED_S)) and deadline_s > time.monotonic():
                if client_gone is None:
                    await waiters.reply(deadline_s - time.monotonic())
                else:
                    await _reply_unless_gone(waiters, deadline_s, client_gone)
            await batch.all_settled()
            metrics.REPLY_WAIT_SECONDS.observe(time.monotonic() - started_at_s)
            outcomes = batch.outcomes(replies_wanted=wait_s > 0)
        finally:
            self._replies.forget_many(batch.waiters)
        if wait_s > 0:
            metrics.WAITS_TIMED_OUT.inc(sum([isinstance(outcome, Pending) for outcome in outcomes]))
        # Decided but not answered. After a crash here, the clients' retries are repeats and get the original's figures.
        crash_point(BEFORE_ANSWER)
        return outcomes

    async def _sent(
        self, command: Command, waiter: Waiter, wait_s: float, client_gone: ClientGone | None
    ) -> Reply | Pending:
        """Append the command and wait for its reply. The reply implies the acknowledgement and comes right after it, so
        only the reply is awaited, until it is late or the append has failed."""
        started_at_s = time.monotonic()

        def on_settled(append: Append) -> None:
            if append.error is not None:
                waiter.wake()
            else:
                # In the log but not answered. After a crash here, the command is decided; only its client gets nothing.
                crash_point(AFTER_APPEND)
                assert append.first_offset is not None, "acknowledged"
                self._replies.placed(waiter, append.partition, append.first_offset)

        try:
            append = self._publisher.append(
                self._publisher.partition_of(command), (replace(command, reply_to=waiter.reply_to),), on_settled
            )
        except TooManyAppends:
            raise too_many() from None
        reply = await waiter.reply(min(wait_s, UNWATCHED_S))
        if reply is None:
            deadline_s = started_at_s + wait_s
            reply = await self._late_reply(command, append, waiter, deadline_s, client_gone, wanted=wait_s > 0)
        if reply is None:
            appended = await append.acknowledged()
            if wait_s > 0:
                metrics.WAITS_TIMED_OUT.inc()
            return Pending(command=command, partition=appended.partition, offset=appended.offset)
        metrics.REPLY_WAIT_SECONDS.observe(time.monotonic() - started_at_s)
        # Decided but not answered. After a crash here, the client's retry is a repeat and gets the original's figures.
        crash_point(BEFORE_ANSWER)
        return reply

    async def _late_reply(
        self,
        command: Command,
        append: Append,
        waiter: Waiter,
        deadline_s: float,
        client_gone: ClientGone | None,
        *,
        wanted: bool,
    ) -> Reply | None:
        """Return None if the command is in the log but no reply arrived in time, or if none is wanted: a client that
        does not wait gets 202 even if the reply is already here."""
        try:
            await append.acknowledged()
        except KafkaUnavailable:
            raise unreachable() from None
        except AppendUnknown:
            # It may still be in the log, and then a reply arrives.
            reply = await waiter.reply(deadline_s - time.monotonic())
            if reply is None:
                raise outcome_unknown(command) from None
            return reply
        if not wanted:
            return None
        if client_gone is None or deadline_s <= time.monotonic():
            return await waiter.reply(deadline_s - time.monotonic())
        return await _reply_unless_gone(waiter, deadline_s, client_gone)


async def _reply_unless_gone(waiter: Expected[T], deadline_s: float, client_gone: ClientGone) -> T | None:
    gone = asyncio.ensure_future(client_gone())
    reply = asyncio.ensure_future(waiter.reply(deadline_s - time.monotonic()))
    try:
        await asyncio.wait((gone, reply), return_when=asyncio.FIRST_COMPLETED)
        return reply.result() if reply.done() else None
    finally:
        gone.cancel()
        reply.cancel()
