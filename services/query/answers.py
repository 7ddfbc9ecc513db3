"""The shapes of the answers, for the OpenAPI document. `shapes` writes them; tests hold the two together."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from pydantic import BaseModel, Field

from schemas.bodies import ChatKind, Role
from schemas.errors import Reason


class ReactionCount(BaseModel):
    emoji: str
    count: int
    mine: bool


class Message(BaseModel):
    """Of a deleted message `text` and `metadata` are null and `media_urls` is empty; seq and ids stay."""

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
        description="Whether every other present member who joined before the message has read it, or at least received"
        " it; `sent` if there is no such member."
    )
    reactions: list[ReactionCount]
    reply_count: int


class History(BaseModel):
    """Ascending by seq. Of an empty page the flags speak of what lies before and after the bound."""

    messages: list[Message]
    has_more_before: bool
    has_more_after: bool


class LatestSeq(BaseModel):
    seq: int = Field(description="0 in a chat without messages.")


class Unread(BaseModel):
    unread: int


class ChatUnread(BaseModel):
    chat_id: UUID
    unread: int


class AllUnread(BaseModel):
    total: int
    chats: list[ChatUnread] = Field(description="Those with at least one unread message.")


class Chat(BaseModel):
    """A chat as the caller, a member of it, sees it."""

    chat_id: UUID
    kind: ChatKind
    name: str | None = Field(description="Of a group.")
    peer_id: UUID | None = Field(
        description="Of a direct chat: the other user, or the caller in a chat with themselves."
    )
    created_by: UUID
    created_at: datetime
    last_seq: int
    last_position: int
    last_activity_at: datetime = Field(description="Of the last message, or of the creation.")
    role: Role
    joined_at: datetime
    joined_seq: int
    read_seq: int
    delivered_seq: int
    unread: int
    last_message: Message | None


class Chats(BaseModel):
    items: list[Chat]
    next: str | None


class Member(BaseModel):
    user_id: UUID
    role: Role
    joined_at: datetime
    joined_seq: int


class Members(BaseModel):
    items: list[Member]
    next: str | None


class MemberReadState(BaseModel):
    user_id: UUID
    read_seq: int
    delivered_seq: int
    last_read_at: datetime | None


class ReadState(BaseModel):
    items: list[MemberReadState]
    next: str | None


class CommandStatus(BaseModel):
    """Of an accepted message it has what the answer to the send has."""

    outcome: Literal["pending", "accepted", "unchanged", "rejected"]
    chat_id: UUID
    command_id: UUID
    message_id: UUID | None = Field(default=None, description="Of an accepted message.")
    reason: Reason | None = Field(default=None, description="Of a rejection.")
    detail: str | None = Field(default=None, description="What the reason means.")
    seq: int | None = None
    position: int | None = None
    sent_at: datetime | None = Field(default=None, description="Of an accepted message.")
    token: str | None = Field(default=None, description="Of its outcome, while that is kept: for Gapless-At-Least.")


class Me(BaseModel):
    user_id: UUID
    claim: str = Field(description="The value of the token's user claim that user_id stands for.")
    scopes: list[str]
    expires_at: datetime
