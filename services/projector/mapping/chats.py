"""Chats: creating and renaming one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from schemas.bodies import ChatCreate, ChatRename
from schemas.ids import UserId
from schemas.types import EventType
from services.projector.mapping.builder import Accepted, RowBuilder
from services.projector.mapping.decode import ChangeEvent
from services.projector.mapping.tables import ChatCreated, ChatMoved, ChatRenamed, RowChanges


def created(builder: RowBuilder, accepted: Accepted[ChangeEvent]) -> None:
    event, chat = accepted.event, accepted.chat
    body: ChatCreate = event.body
    chat_id, creator = event.chat_id, event.sender_id
    chat.created = ChatCreated(
        chat_id, body.kind, body.name, creator, accepted.at, 0, event.position, None, event.index
    )
    chat.last_seq = 0
    others = "owner" if body.kind == "direct" else "member"
    for user_id, role in {**dict.fromkeys(body.members, others), creator: "owner"}.items():
        builder.join(accepted, UserId(user_id), role, 0)


def renamed(_: RowBuilder, accepted: Accepted[ChangeEvent]) -> None:
    body: ChatRename = accepted.event.body
    accepted.chat.name = body.name


MAPPED: Final[dict[str, Callable[[RowBuilder, Accepted[ChangeEvent]], None]]] = {
    EventType.CHAT_CREATED.value: created,
    EventType.CHAT_RENAMED.value: renamed,
}


def add_rows(builder: RowBuilder, changes: RowChanges) -> None:
    for chat_id, chat in builder.chats.items():
        if chat.created is not None:
            changes.chats_created.append(
                chat.created._replace(
                    name=chat.name or chat.created.name,
                    last_seq=chat.last_seq or 0,
                    last_position=chat.position,
                    last_message_at=chat.last_message_at,
                    changed_index=chat.index,
                )
            )
        else:
            changes.chats_moved.append(
                ChatMoved(chat_id, chat.last_seq, chat.position, chat.last_message_at, chat.index)
            )
            if chat.name is not None:
                changes.chats_renamed.append(ChatRenamed(chat_id, chat.name))
