"""The models of the commands' bodies, in the order of the wire contract, and canonical JSON."""

from __future__ import annotations

import json
from functools import cache
from typing import Annotated, Any, Final, Literal

from msgspec.json import encode
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Role = Literal["owner", "admin", "member"]
ChatKind = Literal["group", "direct"]
Uuid = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")]
FIRST_FAULT: Final[Any] = Field(fail_fast=True)
"""The first wrong item says enough: to list the 130,000 that one body can hold takes a third of a second."""


class Body(BaseModel):
    """A command's body. The order of the fields is the order of the keys in canonical JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class ChatCreate(Body):
    kind: ChatKind
    name: str | None = None
    members: Annotated[list[Uuid], FIRST_FAULT]


class MemberAdd(Body):
    user_id: Uuid
    role: Role


class MemberRemove(Body):
    user_id: Uuid


class MemberRole(Body):
    user_id: Uuid
    role: Role


class ChatRename(Body):
    name: str


class MessageSend(Body):
    text: str
    reply_to_message_id: Uuid | None = None
    media_urls: Annotated[list[str], FIRST_FAULT] | None = None
    metadata: dict[str, Any] | None = None
    original_sent_at: str | None = None


class MessageEdit(Body):
    seq: int
    text: str


class MessageDelete(Body):
    seq: int


class Reaction(Body):
    seq: int
    emoji: str


class Mark(Body):
    up_to_seq: int


def canonical_json(value: object) -> bytes:
    """UTF-8, no spaces, nothing escaped that need not be. Raises ValueError for NaN, infinities, lone surrogates."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


@cache
def fields_of(model: type[BaseModel]) -> tuple[str, ...]:
    """Return the names of a model's fields in declared order. Cached: pydantic's own look-up takes longer than parsing
    a small body."""
    return tuple(model.model_fields)


def canonical_body(body: Body, model: type[Body] | None = None) -> bytes:
    """Return the one spelling of a body, so that a retry has the same bytes: keys in declared order, no spaces, absent
    optionals left out, strings unchanged, metadata with keys sorted at every level.

    :param model: the command's model, if `body` is of a subclass that adds fields. Those are left out.
    """
    given = vars(body)
    fields = {name: value for name in fields_of(model or type(body)) if (value := given[name]) is not None}
    metadata = fields.get("metadata")
    if metadata is None:
        # Strings, lists of them and whole numbers: msgspec spells them as json does, twenty times as fast.
        return encode(fields)
    fields["metadata"] = _sorted(metadata)
    return canonical_json(fields)


def _sorted(value: object) -> object:
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    if isinstance(value, list):
        return [_sorted(inner) for inner in value]
    return value
