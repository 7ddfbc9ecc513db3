"""Hypothesis strategies for the wire: bodies within all limits, bodies broken on purpose, arbitrary records."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from schemas.bodies import (
    Body,
    ChatCreate,
    ChatRename,
    Mark,
    MemberAdd,
    MemberRemove,
    MemberRole,
    MessageDelete,
    MessageEdit,
    MessageSend,
    Reaction,
)
from schemas.canonical import canonical_json
from schemas.checks import EMOJI_PATTERN
from schemas.ids import normalise_creation_name
from schemas.types import CommandType

SAFE: Final = 2**53 - 1
storable: Final = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
texts: Final = st.text(storable, min_size=1, max_size=60)
names: Final = st.text(storable, min_size=1, max_size=200).filter(normalise_creation_name)
uuids: Final = st.uuids().map(str)
seqs: Final = st.integers(1, SAFE)
roles: Final = st.sampled_from(["owner", "admin", "member"])
urls: Final = st.builds(
    lambda scheme, rest: scheme + rest, st.sampled_from(["http://", "https://"]), st.text(storable, max_size=40)
)
instants: Final = st.datetimes(datetime(1970, 1, 1), timezones=st.just(UTC)).map(  # noqa: DTZ001  (made aware)
    lambda at: at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
)
json_values: Final = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-SAFE, SAFE)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(storable, max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(storable, max_size=8), inner, max_size=4),
    max_leaves=15,
)
metadatas: Final = st.dictionaries(st.text(storable, max_size=8), json_values, max_size=5).filter(
    lambda metadata: len(canonical_json(metadata)) <= 16_384 and depth_of(metadata) <= 16
)


def depth_of(value: object) -> int:
    """Return the nesting depth of objects and arrays, including the value itself."""
    if isinstance(value, dict):
        return 1 + max(map(depth_of, value.values()), default=0)
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0


emojis = st.text(storable, min_size=1, max_size=16).filter(lambda text: re.fullmatch(EMOJI_PATTERN, text) is not None)
BODIES: Final[dict[CommandType, SearchStrategy[Body]]] = {
    CommandType.CHAT_CREATE: st.builds(
        ChatCreate, kind=st.just("group"), name=names, members=st.lists(uuids, unique=True, max_size=5)
    )
    | st.builds(ChatCreate, kind=st.just("direct"), name=st.none(), members=st.lists(uuids, max_size=1)),
    CommandType.MEMBER_ADD: st.builds(MemberAdd, user_id=uuids, role=roles),
    CommandType.MEMBER_REMOVE: st.builds(MemberRemove, user_id=uuids),
    CommandType.MEMBER_ROLE: st.builds(MemberRole, user_id=uuids, role=roles),
    CommandType.CHAT_RENAME: st.builds(ChatRename, name=names),
    CommandType.MESSAGE_SEND: st.builds(
        MessageSend,
        text=texts,
        reply_to_message_id=st.none() | uuids,
        media_urls=st.none() | st.lists(urls, max_size=10),
        metadata=st.none() | metadatas,
        original_sent_at=st.none() | instants,
    )
    | st.builds(MessageSend, text=st.just(""), media_urls=st.lists(urls, min_size=1, max_size=10)),
    CommandType.MESSAGE_EDIT: st.builds(
        MessageEdit,
        seq=seqs,
        text=texts,
        media_urls=st.none() | st.lists(urls, max_size=10),
        metadata=st.none() | metadatas,
        if_revision=st.none() | st.integers(0, SAFE),
    )
    | st.builds(MessageEdit, seq=seqs, text=st.just(""), media_urls=st.lists(urls, min_size=1, max_size=10)),
    CommandType.MESSAGE_DELETE: st.builds(MessageDelete, seq=seqs),
    CommandType.REACTION_ADD: st.builds(Reaction, seq=seqs, emoji=emojis),
    CommandType.REACTION_REMOVE: st.builds(Reaction, seq=seqs, emoji=emojis),
    CommandType.READ_MARK: st.builds(Mark, up_to_seq=st.integers(0, SAFE)),
    CommandType.DELIVERED_MARK: st.builds(Mark, up_to_seq=st.integers(0, SAFE)),
}


def bodies() -> SearchStrategy[tuple[CommandType, Body]]:
    """Return pairs of a command type and a body within all its limits."""
    return st.sampled_from(CommandType).flatmap(lambda kind: st.tuples(st.just(kind), BODIES[kind]))


_PIECES: Final[Sequence[bytes]] = (
    b"", b"{", b"}", b"[", b"]", b'"', b"\\", b",", b":", b"null", b"NaN", b"1e400", b"-", b"9" * 40, b"\0", b"\xff",
    b"\\u0000", b"\\ud800", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"[" * 30, b'{"a":' * 20_000, b'"text":"x",',
)  # fmt: skip


@st.composite
def mangled(draw: st.DrawFn, raw: bytes) -> bytes:
    """Return the bytes with a few pieces inserted, and a few parts removed or repeated."""
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(raw)))
        end = draw(st.integers(at, min(len(raw), at + 10)))
        middle = draw(st.sampled_from(_PIECES) | st.binary(max_size=4) | st.just(raw[at:end] * 2))
        raw = raw[:at] + middle + raw[end:]
    return raw
