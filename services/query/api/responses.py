"""Models of the responses, for the OpenAPI document. `serializers` writes them; tests keep the two consistent."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from schemas.bodies import ChatKind, Role
from schemas.errors import Reason
from services.runtime.web.openapi import TokenText, example

_ANNA: Final = "11111111-1111-4111-8111-111111111111"
_BEN: Final = "22222222-2222-4222-8222-222222222222"
_CHAT: Final = "f89e858f-5f2e-5152-b188-6a52cbec990b"
_MESSAGE: Final[dict[str, Any]] = {
    "message_id": "c6e6b694-c64b-5364-9024-70428ec7b06e",
    "chat_id": _CHAT,
    "seq": 1,
    "position": 2,
    "changed_position": 2,
    "sender_id": _ANNA,
    "client_generated_id": "hello-1",
    "text": "Is the log gap-free?",
    "reply_to_message_id": None,
    "media_urls": [],
    "metadata": None,
    "sent_at": "2026-01-31T12:00:00.045Z",
    "edited_at": None,
    "deleted_at": None,
    "status": "sent",
    "reactions": [],
    "reply_count": 0,
}
_ONE_CHAT: Final[dict[str, Any]] = {
    "chat_id": _CHAT,
    "kind": "group",
    "name": "ops",
    "peer_id": None,
    "created_by": _ANNA,
    "created_at": "2026-01-31T11:59:00.000Z",
    "last_seq": 1,
    "last_position": 2,
    "last_activity_at": "2026-01-31T12:00:00.045Z",
    "role": "member",
    "joined_at": "2026-01-31T11:59:00.000Z",
    "joined_seq": 0,
    "read_seq": 0,
    "delivered_seq": 0,
    "unread": 1,
    "last_message": _MESSAGE,
}
_MEMBER: Final[dict[str, Any]] = {
    "user_id": _BEN,
    "role": "member",
    "joined_at": "2026-01-31T11:59:00.000Z",
    "joined_seq": 0,
}
_READ: Final[dict[str, Any]] = {"user_id": _BEN, "read_seq": 0, "delivered_seq": 1, "last_read_at": None}


class ReactionCount(BaseModel):
    emoji: str
    count: int
    mine: bool


class Message(BaseModel):
    """A message. If it is deleted, `text` and `metadata` are null and `media_urls` is empty; seq and ids stay."""

    model_config = example(_MESSAGE)

    message_id: UUID
    chat_id: UUID
    seq: int
    position: int
    changed_position: int
    sender_id: UUID
    client_generated_id: str
    text: str | None
    reply_to_message_id: UUID | None
    media_urls: list[str]
    metadata: dict[str, Any] | None
    sent_at: datetime
    edited_at: datetime | None
    deleted_at: datetime | None
    status: Literal["sent", "delivered", "read"] = Field(
        description="`read` or `delivered` if every other present member who joined before the message has read or"
        " received it, else `sent`; `sent` also if there is no such member."
    )
    reactions: list[ReactionCount]
    reply_count: int


class History(BaseModel):
    """Messages ascending by seq. On an empty page the flags refer to messages before and after the bound."""

    model_config = example(
        {
            "messages": [_MESSAGE],
            "has_more_before": False,
            "has_more_after": False,
        }
    )

    messages: list[Message]
    has_more_before: bool
    has_more_after: bool


class LatestSeq(BaseModel):
    model_config = example({"seq": 1})

    seq: int = Field(description="0 in a chat without messages.")


class Unread(BaseModel):
    model_config = example({"unread": 1})

    unread: int


class ChatUnread(BaseModel):
    chat_id: UUID
    unread: int


class AllUnread(BaseModel):
    model_config = example(
        {
            "total": 1,
            "chats": [{"chat_id": _CHAT, "unread": 1}],
        }
    )

    total: int
    chats: list[ChatUnread] = Field(description="The chats with at least one unread message.")


class Chat(BaseModel):
    """A chat as the caller, a member of it, sees it."""

    model_config = example(_ONE_CHAT)

    chat_id: UUID
    kind: ChatKind
    name: str | None = Field(description="The name of a group; null for a direct chat.")
    peer_id: UUID | None = Field(
        description="In a direct chat, the other user, or the caller in a chat with themselves."
    )
    created_by: UUID
    created_at: datetime
    last_seq: int
    last_position: int
    last_activity_at: datetime = Field(description="Time of the last message, or of the creation.")
    role: Role
    joined_at: datetime
    joined_seq: int
    read_seq: int
    delivered_seq: int
    unread: int
    last_message: Message | None


class Chats(BaseModel):
    model_config = example({"items": [_ONE_CHAT], "next": None})

    items: list[Chat]
    next: str | None


class Member(BaseModel):
    user_id: UUID
    role: Role
    joined_at: datetime
    joined_seq: int


class Members(BaseModel):
    model_config = example({"items": [_MEMBER], "next": None})

    items: list[Member]
    next: str | None


class MemberReadState(BaseModel):
    user_id: UUID
    read_seq: int
    delivered_seq: int
    last_read_at: datetime | None


class ReadState(BaseModel):
    model_config = example({"items": [_READ], "next": None})

    items: list[MemberReadState]
    next: str | None


class CommandStatus(BaseModel):
    """The status of a command. For an accepted message it has the fields of the response to the send."""

    model_config = example(
        {
            "outcome": "accepted",
            "chat_id": _CHAT,
            "command_id": _MESSAGE["message_id"],
            "message_id": _MESSAGE["message_id"],
            "seq": 1,
            "position": 2,
            "sent_at": _MESSAGE["sent_at"],
            "token": "5:1042",
        }
    )

    outcome: Literal["pending", "accepted", "unchanged", "rejected"]
    chat_id: UUID
    command_id: UUID
    message_id: UUID | None = Field(default=None, description="Set for an accepted message.")
    reason: Reason | None = Field(default=None, description="Why it was rejected.")
    detail: str | None = Field(
        default=None,
        description="What was wrong with this command, if it was rejected, as in the response to it. For a command"
        " decided before the read model stored this: what the reason means.",
    )
    seq: int | None = None
    position: int | None = None
    sent_at: datetime | None = Field(default=None, description="Set for an accepted message.")
    token: TokenText | None = Field(
        default=None, description="The token of its outcome, while that is stored: for Gapless-At-Least."
    )


class Me(BaseModel):
    model_config = example(
        {
            "user_id": _ANNA,
            "claim": _ANNA,
            "scopes": ["producer"],
            "expires_at": "2026-02-01T12:00:00.000Z",
        }
    )

    user_id: UUID
    claim: str = Field(description="The value of the token's user claim from which user_id is derived.")
    scopes: list[str]
    expires_at: datetime
