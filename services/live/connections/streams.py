"""All connections of a process: opening them, catching up, cursors, heartbeats, the ends of tokens, the drain.

One task serves all of them, so an idle connection costs nothing but its memory.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Final

import structlog

from schemas.ids import ChatId, UserId
from services.live import metrics
from services.live.connections.connection import Connection
from services.live.errors import LiveError, NotReading, StandingUnavailable
from services.live.frames import control
from services.live.hub.hub import CaughtUp, Hub, NotCovered, UserStanding
from services.live.hub.stream import Stream, User
from services.live.settings import LiveSettings
from services.live.tail.standing import StandingReader
from services.runtime.process.backoff import Backoff
from services.runtime.process.tasks import end
from services.runtime.web.problems import Problem

TICK_S: Final = 0.25
"""Time between two cursors of a stream, at least."""
CATCH_UPS_AT_ONCE: Final = 32
"""Reads of standings at once."""
WAIT_FOR_HEAD_S: Final = 5.0
RECOVER_WITHIN_S: Final = 30.0
COME_BACK_S: Final = 5.0
"""Time over which clients come back that were sent away for a reason that passes."""
ENDED_WITHIN_S: Final = 10.0
"""How long a connection may take to end after its `bye`; then it is cut off."""
PIECES_IN_A_ROW: Final = 8

_log = structlog.get_logger(__name__)


class Streams:
    """:param hub: what is followed."""

    def __init__(self, settings: LiveSettings, hub: Hub, standings: StandingReader) -> None:
        self._settings = settings
        self._hub = hub
        self._standings = standings
        self._connections: set[Connection] = set()
        self._of_user: Counter[UserId] = Counter()
        self._reading = asyncio.Semaphore(CATCH_UPS_AT_ONCE)
        self._loading: dict[UserId, asyncio.Future[User]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._recovering: set[Stream] = set()
        self._ending: dict[Connection, float] = {}
        """Connections that were sent `bye`, and when they are cut off."""
        self._head_moved = asyncio.Event()
        self.is_draining = False

    # Before a stream is opened

    def refusal(self, user_id: UserId | None, *, opened: bool = False) -> str | None:
        """Return why no stream of this user can be opened: `draining`, `full`, `full_for_user`; None if it can."""
        if self.is_draining:
            return "draining"
        if not opened and len(self._connections) >= self._settings.max_connections:
            return "full"
        if user_id is not None and self._of_user[user_id] >= self._settings.connections_per_user:
            return "full_for_user"
        return None

    async def user(self, user_id: UserId) -> User:
        """Return a user with their memberships at the hub's head. Raises LiveError."""
        known = self._hub.user(user_id)
        if known is not None:
            return known
        loading = self._loading.get(user_id)
        if loading is None:
            loading = self._loading[user_id] = asyncio.ensure_future(self._load(user_id))
            loading.add_done_callback(lambda _: self._loading.pop(user_id, None))
        return await asyncio.shield(loading)

    async def _load(self, user_id: UserId) -> User:
        try:
            return self._hub.learn(user_id, await self.standing(user_id))
        except NotCovered as error:
            raise StandingUnavailable(f"The read model is too far behind ({error}); ask again later.") from error

    async def standing(self, user_id: UserId) -> UserStanding:
        """Return the user's chats in the read model. Raises LiveError."""
        async with self._reading:
            standing = await self._standings.of_user(user_id)
        await self.reach(standing.heads)  # the hub knows no memberships that are ahead of it
        return standing

    async def no_member(self, user_id: UserId, chat_id: ChatId) -> Problem:
        """Return the problem of a user who is not a member of a chat. Raises LiveError."""
        standing = await self.standing(user_id)
        if any(chat.chat_id == chat_id for chat in standing.chats):
            return Problem("not_member", "You are no longer a member of this chat.")
        return Problem("unknown_chat", "There is no chat with this id, or you never were a member of it.")

    async def reach(self, indexes: Mapping[int, int]) -> None:
        """Wait until the hub has taken these indexes, which were read elsewhere. Raises NotReading if it does not."""
        heads = self._hub.heads
        await self._until(lambda: all(heads.get(p, index) >= index for p, index in indexes.items()))

    async def reach_position(self, chat_id: ChatId, position: int) -> None:
        """Wait until the hub has taken an event of a chat that it knows. Raises NotReading if it does not."""
        ring = self._hub.ring
        await self._until(lambda: (ring.position_of(chat_id) or position) >= position)

    async def _until(self, condition: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + WAIT_FOR_HEAD_S
        while not condition():
            left_s = deadline_s - time.monotonic()
            self._head_moved.clear()
            try:
                await asyncio.wait_for(self._head_moved.wait(), max(0.0, left_s))
            except TimeoutError:
                raise NotReading("The log is not read as far as this yet; ask again.") from None

    def head_moved(self) -> None:
        self._head_moved.set()

    # Streams

    def add(self, connection: Connection, stream: Stream, standing: UserStanding | None) -> None:
        """Open a stream whose connection was taken over. Its `at` is set; `standing` was read if events were missed."""
        refusal = self.refusal(stream.user.user_id, opened=connection in self._connections)
        if refusal is not None or not self._hub.open(stream):
            # Others came first while this one was being prepared, or its user was forgotten.
            self._bye(connection, refusal or "unavailable", self._spread_ms(COME_BACK_S))
            return
        connection.stream = stream
        self._of_user[stream.user.user_id] += 1
        if connection not in self._connections:
            self.track(connection)
        missed = self._hub.missed_partitions(stream)
        if missed and standing is not None:
            metrics.GAPS.inc()
            try:
                self._hub.skip(stream, missed, standing)
            except NotCovered:
                pass  # the ring has moved on meanwhile: `recover` reads again
        self._go_on(connection)

    def _go_on(self, connection: Connection) -> None:
        stream = connection.stream
        if stream is None or stream.is_live or stream in self._recovering:
            return
        for _ in range(PIECES_IN_A_ROW):
            result = self._hub.catch_up(stream)
            if result is CaughtUp.MISSED:
                self._recovering.add(stream)
                self._start(self._recover(connection, stream))
                return
            if result is not CaughtUp.MORE:
                return
        asyncio.get_running_loop().call_soon(self._go_on, connection)  # others have their turn

    async def _recover(self, connection: Connection, stream: Stream) -> None:
        """Let a stream go on that was too slow for the ring, from where the read model stands."""
        try:
            if await self._skipped(connection, stream):
                self._recovering.discard(stream)
                self._go_on(connection)
        finally:
            self._recovering.discard(stream)

    async def _skipped(self, connection: Connection, stream: Stream) -> bool:
        """Let a stream skip what it missed. Returns False if it was closed."""
        metrics.LAGGED.inc()
        stream.send(control.lagged())
        backoff = Backoff(2.0)
        deadline_s = time.monotonic() + RECOVER_WITHIN_S
        while connection in self._connections:
            try:
                standing = await self.standing(stream.user.user_id)
                if connection not in self._connections:
                    return False
                self._hub.skip(stream, self._hub.missed_partitions(stream), standing)
            except (LiveError, NotCovered) as error:
                if time.monotonic() > deadline_s:
                    _log.warning("live.not_recovered", error=str(error))
                    self._bye(connection, "unavailable", self._spread_ms(COME_BACK_S))
                    return False
                await backoff.pause()
            else:
                return True
        return False

    def track(self, connection: Connection) -> None:
        """Count a connection that has no stream yet."""
        self._connections.add(connection)
        metrics.STREAMS.labels(kind=connection.kind).inc()
        metrics.OPENED.labels(kind=connection.kind).inc()

    def end(self, connection: Connection, reason: str) -> None:
        """Say why, and close."""
        self._bye(connection, reason)

    # What connections call

    def paused(self, connection: Connection) -> None:
        if connection.stream is not None:
            self._hub.pause(connection.stream)

    def resumed(self, connection: Connection) -> None:
        self._go_on(connection)

    def overrun(self, connection: Connection) -> None:
        self._bye(connection, "protocol")

    def lost(self, connection: Connection) -> None:
        self._ending.pop(connection, None)
        self._remove(connection)

    def _remove(self, connection: Connection) -> None:
        if connection not in self._connections:
            return
        self._connections.discard(connection)
        metrics.STREAMS.labels(kind=connection.kind).dec()
        stream, connection.stream = connection.stream, None
        if stream is not None:
            self._of_user[stream.user.user_id] -= 1
            if not self._of_user[stream.user.user_id]:
                del self._of_user[stream.user.user_id]
            self._hub.forget(stream)

    def _bye(self, connection: Connection, reason: str, after_ms: int = 0) -> None:
        metrics.CLOSED.labels(reason=reason).inc()
        connection.bye(reason, after_ms)
        self._remove(connection)
        self._ending[connection] = asyncio.get_running_loop().time() + ENDED_WITHIN_S

    # The one task

    async def run(self) -> None:
        """Serve all connections until cancelled."""
        ticks = max(1, round(self._settings.heartbeat_s / TICK_S))
        slots: defaultdict[int, list[Connection]] = defaultdict(list)
        number = 0
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        try:
            while True:
                due_s = max(due_s + TICK_S, loop.time())
                await asyncio.sleep(due_s - loop.time())
                self._hub.say_cursors()
                if number % 4 == 0:
                    self._check(loop.time())
                    metrics.RING_BYTES.set(self._hub.ring.size_bytes)
                if number % ticks == 0:
                    slots = defaultdict(list)
                    for at, connection in enumerate(self._connections):
                        slots[at % ticks].append(connection)
                for connection in slots.pop(number % ticks, ()):
                    if connection in self._connections and not connection.is_paused:
                        connection.heartbeat()
                number += 1
        finally:
            await end(self._tasks)

    def _check(self, now_s: float) -> None:
        wall_s = time.time()
        for connection in [connection for connection, until_s in self._ending.items() if until_s < now_s]:
            connection.abort()
            del self._ending[connection]
        behind = 0
        for connection in tuple(self._connections):
            behind += connection.stream is not None and not connection.stream.is_live
            if connection.expires_at_s <= wall_s:
                self._bye(connection, "token_expired")
            elif connection.is_paused and now_s - connection.paused_since_s > self._settings.stalled_s:
                metrics.CLOSED.labels(reason="stalled").inc()
                connection.abort()
                self._remove(connection)
        metrics.CATCHING_UP.set(behind)

    async def drain(self) -> None:
        """Tell all clients to come back, to other processes, each at its own moment within `drain_s`."""
        self.is_draining = True
        for connection in tuple(self._connections):
            self._bye(connection, "draining", self._spread_ms(self._settings.drain_s))

    def _spread_ms(self, longest_s: float) -> int:
        return round(random.uniform(0, longest_s * 1000))  # noqa: S311

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
