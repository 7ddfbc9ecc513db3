"""A hub with its log, for examples that read like what happens: create, send, follow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, final

from schemas.bodies import ChatCreate, Mark, MemberAdd, MemberRemove, MessageSend
from schemas.ids import ChatId, UserId
from schemas.types import EventType
from services.live.frames.frame import Form
from services.live.hub.entry import Entry
from services.live.hub.hub import CaughtUp, Hub
from services.live.hub.ring import Ring
from services.live.hub.stream import Stream, User
from tests.unit.live.sockets import Socket
from tests.unit.live.world import LOG_ID, PARTITION_OF, PARTITIONS, Event, World

BIG: Final = 10_000_000


@final
class Process:
    """Takes each event as it happens."""

    def __init__(self, *, ring_bytes: int = BIG) -> None:
        self.world = World()
        self.hub = Hub(Ring(max_bytes=ring_bytes, max_age_s=1e9), partitions=PARTITIONS)
        self.hub.log_id = LOG_ID
        for partition in range(PARTITIONS):
            self.hub.begin(partition, 0)

    # What happens

    def create(self, chat: ChatId, creator: UserId, *members: UserId) -> Event:
        body = ChatCreate(kind="group", name="new", members=list(members))
        return self._happen(chat, EventType.CHAT_CREATED, creator, body)

    def send(self, chat: ChatId, sender: UserId, text: str = "a") -> Event:
        return self._happen(chat, EventType.MESSAGE_SENT, sender, MessageSend(text))

    def read(self, chat: ChatId, user: UserId, up_to: int) -> Event:
        return self._happen(chat, EventType.READ_ADVANCED, user, Mark(up_to))

    def add(self, chat: ChatId, by: UserId, user: UserId) -> Event:
        return self._happen(chat, EventType.MEMBER_ADDED, by, MemberAdd(user, "member"))

    def remove(self, chat: ChatId, by: UserId, user: UserId) -> Event:
        return self._happen(chat, EventType.MEMBER_REMOVED, by, MemberRemove(user))

    def _happen(self, chat: ChatId, event_type: EventType, sender: UserId, body: Any) -> Event:
        event = self.world.append(chat, event_type, sender, body)
        if self.takes:
            self.take()
        return event

    takes = True
    """Whether the hub takes each event as it happens."""

    def take(self) -> None:
        """Take what has happened, of each partition at once."""
        for partition, outcomes in enumerate(self.world.log):
            piece = []
            for index in range(self.hub.heads[partition] + 1, len(outcomes) + 1):
                event = outcomes[index - 1]
                assert event is not None
                piece.append(Entry(partition, index, event.outcome))
            self.hub.take(piece, 0.0)

    # Streams

    def learn(self, user: UserId, at: Mapping[int, int] | None = None, *, with_empty: bool = True) -> User:
        """:param at: the read model's snapshot; the end of the log if it is not given."""
        return self.hub.learn(user, self.world.standing(user, at or self.world.end(), with_empty=with_empty))

    def stream(
        self, user: UserId, form: Form = Form.SSE, *, at: Mapping[int, int] | None = None, high: int = BIG, **how: Any
    ) -> tuple[Stream, Socket]:
        """Return a stream that is open and catching up, after `at` or at the head."""
        socket = Socket(form, high=high, wrote=lambda _: None)
        known = self.hub.user(user) or self.learn(user)
        stream = Stream(known, socket, form, **how)
        stream.at = dict(at or self.hub.heads)
        assert self.hub.open(stream)
        socket.on_pause = lambda: self.hub.pause(stream)
        return stream, socket

    def live(self, user: UserId, form: Form = Form.SSE, **how: Any) -> tuple[Stream, Socket]:
        stream, socket = self.stream(user, form, **how)
        assert self.hub.catch_up(stream) is CaughtUp.LIVE
        return stream, socket

    def head(self, chat: ChatId) -> int:
        return self.hub.heads[PARTITION_OF[chat]]


def frames(socket: Socket) -> list[dict[str, Any]]:
    """Return what was written since the last time."""
    found = []
    while (frame := socket.read()) is not None:
        found.append(frame)
    socket.drained()
    return found


def kinds(socket: Socket) -> list[tuple[str, int | None]]:
    """Return the same: of each frame its type and position."""
    return [(frame["type"], frame.get("position")) for frame in frames(socket)]
