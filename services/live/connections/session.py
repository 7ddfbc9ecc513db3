"""The protocol of a WebSocket's client, subprotocol `gapless.v1`: what each of its messages asks. Pure.

auth      {"type":"auth","token":"…"}                  first, within AUTH_WITHIN_S; later, to renew it
start     {"type":"start","since":"…","chats":["…"],"receipts":"all"}   once, within START_WITHIN_S
typing    {"type":"typing","chat_id":"…","state":"started"}
presence  {"type":"presence","chat_id":"…","state":"here"}
ping      {"type":"ping"}                              answered with {"type":"pong"}
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, TypeAlias

from msgspec import Meta, MsgspecError, Struct
from msgspec.json import Decoder

from schemas.ids import ChatId, is_uuid
from schemas.sync_cursor import MAX_CHARACTERS
from services.live.signals.signal import STATES, SignalKind

AUTH_WITHIN_S: Final = 5.0
START_WITHIN_S: Final = 10.0
"""A connection counts against the limit of its user when it is started: none may wait for long."""
CHATS: Final = 200
"""Maximum chats that a stream of some chats names."""


class Auth(Struct, frozen=True, tag_field="type", tag="auth"):
    token: Annotated[str, Meta(max_length=8_192)]


class Start(Struct, frozen=True, tag_field="type", tag="start"):
    since: Annotated[str, Meta(max_length=MAX_CHARACTERS)] | None = None
    chats: Annotated[list[str], Meta(max_length=CHATS)] | None = None
    receipts: Literal["all", "some"] = "some"


class TypingSignal(Struct, frozen=True, tag_field="type", tag="typing"):
    chat_id: str
    state: str


class PresenceSignal(Struct, frozen=True, tag_field="type", tag="presence"):
    chat_id: str
    state: str


class Ping(Struct, frozen=True, tag_field="type", tag="ping"):
    pass


Message: TypeAlias = Auth | Start | TypingSignal | PresenceSignal | Ping
_decode: Final = Decoder(Message).decode


class Refused(Exception):
    """The client broke the protocol: the connection ends. The message says how."""


class Session:
    """Checks the order of a client's messages."""

    __slots__ = ("is_authenticated", "is_started")

    def __init__(self) -> None:
        self.is_authenticated = False
        self.is_started = False

    def take(self, text: str) -> Message:
        """Return the client's next message. Raises Refused."""
        try:
            message: Message = _decode(text)
        except (MsgspecError, RecursionError) as error:
            raise Refused(f"This is no message of gapless.v1: {str(error)[:200]}.") from None
        if isinstance(message, Auth | Ping):
            return message
        if not self.is_authenticated:
            raise Refused("The first message is auth.")
        if isinstance(message, Start):
            if self.is_started:
                raise Refused("A connection is started once.")
            if message.chats is not None and not all(map(is_uuid, message.chats)):
                raise Refused("A chat is named by its id, a UUID in lower case.")
            self.is_started = True
            return message
        kind = kind_of(message)
        if not is_uuid(message.chat_id) or message.state not in STATES[kind]:
            raise Refused(f"A {kind} names a chat and {' or '.join(STATES[kind])}.")
        return message

    def authenticated(self) -> None:
        self.is_authenticated = True


def kind_of(message: TypingSignal | PresenceSignal) -> SignalKind:
    return "typing" if isinstance(message, TypingSignal) else "presence"


def chats_of(start: Start) -> frozenset[ChatId] | None:
    return None if start.chats is None else frozenset(map(ChatId, start.chats))
