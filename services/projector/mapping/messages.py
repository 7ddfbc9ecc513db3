"""Messages: sending, replies, editing and deleting."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from schemas.bodies import MessageDelete, MessageEdit, MessageSend
from schemas.canonical import canonical_json
from schemas.errors import LogCorrupt
from schemas.ids import ChatId, MessageId
from schemas.types import EventType
from services.projector.mapping.builder import Accepted, Deletion, Edits, Replies, RowBuilder
from services.projector.mapping.decode import ChangeEvent, MessageEvent, instant, original_instant
from services.projector.mapping.deletions import blocks_deleted, chats_deleted
from services.projector.mapping.tables import (
    AnyMessageRow,
    MessageDeleted,
    MessageEdited,
    MessageRow,
    RootReplied,
    RowChanges,
    TextReplaced,
)


def sent(builder: RowBuilder, accepted: Accepted[MessageEvent]) -> None:
    event = accepted.event
    body: MessageSend = event.body
    chat_id, position = event.chat_id, event.position
    reply_to: MessageId | None = None
    root_seq: int | None = None
    if body.reply_to_message_id is not None:
        reply_to = MessageId(body.reply_to_message_id)
        root_seq = _root_seq_of(builder, reply_to, chat_id)
        replies = builder.replies.setdefault((chat_id, root_seq), Replies())
        replies.live.append(event.seq)
        replies.position = position
    row = MessageRow(
        chat_id, event.seq, event.command_id, event.sender_id, body.text, event.client_generated_id, reply_to,
        root_seq, 0, body.media_urls or [], body.metadata, accepted.at,
        original_instant(body.original_sent_at) if body.original_sent_at else None, None, position, position, None,
    )  # fmt: skip
    builder.append(row, accepted.chat, accepted.at)


def _root_seq_of(builder: RowBuilder, message_id: MessageId, chat_id: ChatId) -> int:
    """Return the seq of the first message of the thread that is replied to.

    Raises LogCorrupt if the replied-to message is not in the chat.
    """
    here = builder.message_by_id(message_id)
    if here is not None and here.chat_id == chat_id:
        return here.seq if here.is_view or here.root_seq is None else here.root_seq
    root = builder.looked_up.roots.get(message_id)
    if here is not None or root is None or root.chat_id != chat_id:
        raise LogCorrupt(f"a reply in chat {chat_id} to message {message_id}, which is not in that chat")
    return root.seq


def edited(builder: RowBuilder, accepted: Accepted[ChangeEvent]) -> None:
    event = accepted.event
    body: MessageEdit = event.body
    key = (event.chat_id, body.seq)
    if key in builder.deletions:
        raise LogCorrupt(f"message {body.seq} of chat {event.chat_id} is edited after it was deleted")
    edits = builder.edits.get(key)
    if edits is None:
        edits = builder.edits[key] = _edits_of(builder, *key)
    if edits.text is not None:
        edits.replaced.append(TextReplaced(*key, edits.revision, edits.text, edits.at))
    edits.revision += 1
    edits.text, edits.at, edits.position = body.text, accepted.at, event.position
    if body.media_urls is not None:
        edits.media_urls = body.media_urls
    if body.metadata is not None:
        edits.metadata = body.metadata


def _edits_of(builder: RowBuilder, chat_id: ChatId, seq: int) -> Edits:
    """Return a message before its first edit of the batch."""
    here = builder.message_at(chat_id, seq)
    if here is not None:
        row = message_row(here)
        return Edits(text=row.message_text, at=row.sent_at)
    written = builder.looked_up.written.get((chat_id, seq))
    return Edits() if written is None else Edits(*written)


def deleted(builder: RowBuilder, accepted: Accepted[ChangeEvent]) -> None:
    event = accepted.event
    body: MessageDelete = event.body
    key = (event.chat_id, body.seq)
    if key in builder.deletions:
        raise LogCorrupt(f"message {body.seq} of chat {event.chat_id} is deleted twice")
    builder.deletions[key] = Deletion(accepted.at, event.position)


MAPPED: Final[dict[str, Callable[[RowBuilder, Accepted[Any]], None]]] = {
    EventType.MESSAGE_SENT.value: sent,
    EventType.MESSAGE_EDITED.value: edited,
    EventType.MESSAGE_DELETED.value: deleted,
}


def apply_deletions(builder: RowBuilder, changes: RowChanges) -> None:
    """Apply the deletions of the batch. Call it before any `add_rows`.

    The batch's own messages are emptied and no longer count as their senders'. For older ones the database does that.
    """
    if not builder.deletions:
        return
    here: set[tuple[ChatId, int]] = set()
    for at, message in enumerate(builder.messages):
        deletion = builder.deletions.get((message.chat_id, message.seq))
        if deletion is not None:
            here.add((message.chat_id, message.seq))
            _leave_thread(builder, message, deletion)
            builder.messages[at] = message_row(message)._replace(
                message_text=None, media_urls=[], metadata=None, deleted_at=deletion.at,
                changed_position=deletion.position,
            )  # fmt: skip
    for (chat_id, _), member in builder.members.items():
        member.own_after_read = [seq for seq in member.own_after_read if (chat_id, seq) not in here]
    changes.messages_deleted.extend(
        MessageDeleted(*key, deletion.at, deletion.position)
        for key, deletion in builder.deletions.items()
        if key not in here
    )
    changes.chats_deleted.extend(chats_deleted(builder.deletions))
    changes.blocks_deleted.extend(blocks_deleted(builder.deletions))


def _leave_thread(builder: RowBuilder, message: AnyMessageRow, deletion: Deletion) -> None:
    """Remove a message of the batch from the replies of its thread, if it is a reply."""
    if message.is_view or message.root_seq is None:
        return
    replies = builder.replies[message.chat_id, message.root_seq]
    replies.live.remove(message.seq)
    replies.position = max(replies.position, deletion.position)


def add_rows(builder: RowBuilder, changes: RowChanges) -> None:
    replies_to = builder.replies
    if replies_to or builder.reacted:
        changes.messages.extend(_with_changes(message, builder) for message in builder.messages)
    else:
        changes.messages.extend(builder.messages)
    changes.roots_replied.extend(
        RootReplied(chat_id, seq, len(replies.live), _last(replies), replies.position)
        for (chat_id, seq), replies in replies_to.items()
    )
    changes.messages_edited.extend(
        MessageEdited(
            *key, edits.text or "", _json(edits.media_urls), _json(edits.metadata), edits.at, edits.revision,
            key in builder.deletions, edits.position,
        )
        for key, edits in builder.edits.items()
    )  # fmt: skip
    for key, edits in builder.edits.items():
        if key not in builder.deletions:
            changes.texts_replaced.extend(edits.replaced)


def _json(value: object) -> str | None:
    return None if value is None else canonical_json(value).decode()


def _with_changes(message: AnyMessageRow, builder: RowBuilder) -> AnyMessageRow:
    """Return a message of the batch with its replies and the position of its last reaction in the batch, which are
    taken from the builder: what is left there is of older messages."""
    key = (message.chat_id, message.seq)
    replies, reacted_position = builder.replies.pop(key, None), builder.reacted.pop(key, 0)
    if replies is None and not reacted_position:
        return message
    row = message_row(message)
    if replies is not None:
        row = row._replace(
            reply_count=len(replies.live), last_reply_seq=_last(replies),
            changed_position=max(row.changed_position, replies.position),
        )  # fmt: skip
    return row._replace(changed_position=max(row.changed_position, reacted_position))


def _last(replies: Replies) -> int | None:
    return replies.live[-1] if replies.live else None


def message_row(message: AnyMessageRow) -> MessageRow:
    """Return the full row."""
    if not message.is_view:
        return message
    return MessageRow(
        message.chat_id, message.seq, message.message_id, message.sender_id, message.text,
        message.client_generated_id, None, None, 0, [], None, instant(message.at_ms), None, None, message.position,
        message.position, None,
    )  # fmt: skip
