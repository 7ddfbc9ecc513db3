"""The models of the commands' bodies, in the order of the wire contract, and canonical JSON."""

from __future__ import annotations

from functools import cache
from typing import Annotated, Any, Final, Literal

from msgspec.json import encode
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from schemas import limits
from schemas.canonical import canonical_json
from schemas.checks import (
    check_emoji,
    check_media_urls,
    check_metadata,
    check_name,
    check_number,
    check_text,
    parse_instant,
)
from schemas.errors import Reason, Refused

Role = Literal["owner", "admin", "member"]
ChatKind = Literal["group", "direct"]
Uuid = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$")]
FIRST_FAULT: Final[Any] = Field(fail_fast=True)
"""The first wrong item says enough: to list the 130,000 that one body can hold takes a third of a second."""


class Body(BaseModel):
    """A command's body. The order of the fields is the order of the keys in canonical JSON."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    def check_limits(self) -> None:
        """Raise Refused, with the JSON pointer of the part at fault, if a part is outside its limit.

        A subclass that adds fields for its own use inherits the check of the command's model. Here there is nothing to
        check: a UUID or a role is in order if it parses.
        """


class ChatCreate(Body):
    kind: ChatKind
    name: str | None = None
    members: Annotated[list[Uuid], FIRST_FAULT]

    def check_limits(self) -> None:
        if self.kind == "direct":
            if self.name is not None:
                raise Refused(Reason.INVALID, "a direct chat has no name", "/name")
            if len(self.members) > 1:
                raise Refused(Reason.INVALID, "a direct chat's members are the other user, or none", "/members")
        else:
            check_name(self.name if self.name is not None else "")
        if len(self.members) > limits.MEMBERS_PER_COMMAND:
            raise Refused(Reason.INVALID, f"one command names at most {limits.MEMBERS_PER_COMMAND} members", "/members")
        if len(set(self.members)) != len(self.members):
            raise Refused(Reason.INVALID, "a member is named twice", "/members")


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

    def check_limits(self) -> None:
        check_name(self.name)


class MessageSend(Body):
    text: str
    reply_to_message_id: Uuid | None = None
    media_urls: Annotated[list[str], FIRST_FAULT] | None = None
    metadata: dict[str, Any] | None = None
    original_sent_at: str | None = None

    def check_limits(self) -> None:
        if self.text or not self.media_urls:
            check_text(self.text, "a message has a text, or media_urls, or both")
        if self.media_urls is not None:
            check_media_urls(self.media_urls)
        if self.metadata is not None:
            check_metadata(self.metadata)
        if self.original_sent_at is not None:
            parse_instant(self.original_sent_at)


class MessageEdit(Body):
    seq: int
    text: str

    def check_limits(self) -> None:
        check_number(self.seq, "/seq", 1)
        check_text(self.text)


class MessageDelete(Body):
    seq: int

    def check_limits(self) -> None:
        check_number(self.seq, "/seq", 1)


class Reaction(Body):
    seq: int
    emoji: str

    def check_limits(self) -> None:
        check_number(self.seq, "/seq", 1)
        check_emoji(self.emoji)


class Mark(Body):
    up_to_seq: int

    def check_limits(self) -> None:
        check_number(self.up_to_seq, "/up_to_seq", 0)


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
