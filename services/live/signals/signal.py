"""A signal of one member to the others of a chat. Pure.

Signals go between processes of one release and are no part of the public contract; an unreadable one is skipped.
"""

from __future__ import annotations

from typing import Final, Literal, final

from msgspec import MsgspecError, Struct
from msgspec.json import Decoder, Encoder

from schemas.ids import ChatId, UserId, is_uuid

SignalKind = Literal["typing", "presence"]
STATES: Final[dict[SignalKind, tuple[str, str]]] = {"typing": ("started", "stopped"), "presence": ("here", "away")}
"""The states of each kind; the first lasts FOR_S seconds, unless it is sent again."""
FOR_S: Final = 6
"""How long a reader shows a signal without news."""


@final
class Signal(Struct, frozen=True):
    kind: SignalKind
    chat_id: ChatId
    user_id: UserId
    state: str


_encode: Final = Encoder().encode
_decode: Final = Decoder(Signal).decode


def encode_signal(signal: Signal) -> bytes:
    return _encode(signal)


def decode_signal(raw: bytes) -> Signal:
    """Raises ValueError if the bytes are no signal."""
    try:
        signal = _decode(raw)
    except (MsgspecError, RecursionError) as error:
        raise ValueError(f"no signal: {error!s:.200}") from None
    if signal.state not in STATES[signal.kind] or not (is_uuid(signal.chat_id) and is_uuid(signal.user_id)):
        raise ValueError("no signal")
    return signal
