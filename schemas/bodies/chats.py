"""Bodies about chats."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from schemas import limits
from schemas.bodies.body import Body, Uuid
from schemas.checks import check_name
from schemas.errors import Reason, Refused

ChatKind = Literal["group", "direct"]
Name = Annotated[str, Meta(title="Name", extra_json_schema={"minLength": 1, "maxLength": limits.NAME_CHARACTERS})]


class ChatCreate(Body, frozen=True, kw_only=True):
    kind: ChatKind
    name: str | None = None
    members: Annotated[
        list[Uuid], Meta(extra_json_schema={"maxItems": limits.MEMBERS_PER_COMMAND, "uniqueItems": True})
    ]

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


class ChatRename(Body, frozen=True):
    name: Name

    def check_limits(self) -> None:
        check_name(self.name)
