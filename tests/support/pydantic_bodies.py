"""The bodies of commands as pydantic models, as they were before they were Structs; to compare with them."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

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
