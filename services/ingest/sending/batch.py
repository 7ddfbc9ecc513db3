"""Sends many commands at once: appended by partition, each settled separately, in the order of the request per chat.

The commands of a partition are grouped into few appends, sent one after the other: each only once its predecessor is
acknowledged. If one fails, the later ones are not sent, so that no later message of a chat is logged unless all earlier
ones of the same request are known to be.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import Final

from msgspec.structs import replace

from schemas.wire.encoding import Command
from schemas.wire.replies import Reply
from services.ingest.problems import not_behind, outcome_unknown, too_many, unreachable
from services.ingest.sending.pending import Pending
from services.ingest.sending.publisher import Append, Publisher, TooManyAppends
from services.ingest.sending.replies import ReplyListener, Waiters
from services.runtime.kafka.errors import AppendUnknown
from services.runtime.kafka.producer import BATCH_BYTES
from services.runtime.web.problems import Problem

RECORD_BYTES: Final = 512
"""Maximum size of a command's record without its body, with all headers at their longest."""


class CommandBatch:
    """The commands of one request. Call `send`, await `all_settled`, then replies if wanted, then call `outcomes`."""

    def __init__(self, commands: Sequence[Command], publisher: Publisher, replies: ReplyListener) -> None:
        self._commands = commands
        self._publisher = publisher
        self._waiters: Waiters = replies.expect_many(len(commands))
        self._problems: dict[int, Problem] = {}
        """Index in the request → problem of a command that expects no reply, unless one arrives anyway."""
        self._offsets: dict[int, tuple[int, int]] = {}
        """Index in the request → (partition, offset) of an acknowledged command."""
        self._under_way = 0
        self._settled_future: asyncio.Future[None] | None = None

    def send(self) -> None:
        """Send the first append of each partition; the others follow automatically."""
        places: dict[int, list[int]] = {}
        for place, command in enumerate(self._commands):
            places.setdefault(self._publisher.partition_of(command), []).append(place)
        self._under_way = len(places)
        for partition, of_partition in places.items():
            self._send_next(partition, deque(self._appends_of(of_partition)))

    async def all_settled(self) -> None:
        """Wait until every append is settled, which the producer's deadlines bound."""
        if self._under_way:
            self._settled_future = asyncio.get_running_loop().create_future()
            await self._settled_future

    def outcomes(self, *, replies_wanted: bool) -> list[Reply | Pending | Problem]:
        """Return each command's outcome, in the order of the request, once all are settled. Pending means in the log
        without a reply yet, or that no replies are wanted: a client that does not wait gets 202 even if the reply is
        already here."""
        return [self._outcome(place, replies_wanted) for place in range(len(self._commands))]

    @property
    def waiters(self) -> Waiters:
        return self._waiters

    def _appends_of(self, places: Sequence[int]) -> list[list[int]]:
        """Split the commands into appends that each fit a record batch."""
        appends: list[list[int]] = []
        room = 0
        for place in places:
            size = len(self._commands[place].body) + RECORD_BYTES
            if size > room:
                appends.append([])
                room = BATCH_BYTES
            appends[-1].append(place)
            room -= size
        return appends

    def _send_next(self, partition: int, waiting: deque[list[int]]) -> None:
        if not waiting:
            self._under_way -= 1
            if not self._under_way and self._settled_future is not None and not self._settled_future.done():
                self._settled_future.set_result(None)
            return
        places = waiting.popleft()

        def on_settled(append: Append) -> None:
            if append.error is None:
                assert append.first_offset is not None
                for offset, place in enumerate(places, start=append.first_offset):
                    self._offsets[place] = (partition, offset)
            else:
                unknown = isinstance(append.error, AppendUnknown)
                for place in places:
                    self._problems[place] = outcome_unknown(self._commands[place]) if unknown else unreachable()
                if not unknown:
                    self._waiters.give_up(places)
                self._leave_out(waiting)
            self._send_next(partition, waiting)

        reply_to = self._waiters.reply_to
        commands = [replace(self._commands[place], reply_to=reply_to(place)) for place in places]
        try:
            self._publisher.append(partition, commands, on_settled)
        except TooManyAppends:
            for place in places:
                self._problems[place] = too_many()
            self._waiters.give_up(places)
            self._leave_out(waiting)
            self._send_next(partition, waiting)

    def _leave_out(self, waiting: deque[list[int]]) -> None:
        for places in waiting:
            for place in places:
                self._problems[place] = not_behind()
            self._waiters.give_up(places)
        waiting.clear()

    def _outcome(self, place: int, reply_wanted: bool) -> Reply | Pending | Problem:
        reply = self._waiters.replies[place]
        if reply is not None and (reply_wanted or place not in self._offsets):
            return reply
        problem = self._problems.get(place)
        if problem is not None:
            return problem
        partition, offset = self._offsets[place]
        return Pending(command=self._commands[place], partition=partition, offset=offset)
