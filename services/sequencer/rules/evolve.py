"""What an outcome makes of the state: pure, and the same for the live path and for recovery.

A function here reads the state through `view` and writes new values into `changes`, which lie over it: a batch of
outcomes shares one, so that an outcome costs no container of its own. After an error `changes` is worth nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from schemas.bodies import ChatCreate, Mark, MemberAdd, MemberRemove, MemberRole, MessageDelete, Role
from schemas.commands import digest
from schemas.errors import LogCorrupt, UnknownType
from schemas.events import Outcome, decode_accepted
from schemas.ids import UserId
from schemas.types import COMMAND_OF, MARKS, EventType
from schemas.wire.records import command_key
from services.sequencer.rules.state import Changes, Chat, Member, View, keep

_COMMAND_OF: Final = {event: command.value for event, command in COMMAND_OF.items()}
_NO_EFFECT: Final = frozenset({EventType.DUPLICATE.value, EventType.UNCHANGED.value, EventType.REJECTED.value})


def evolve(view: View, outcome: Outcome, changes: Changes) -> None:
    """Adds the values that change by a valid outcome. `view` sees what `changes` holds already.

    Raises UnknownType for an outcome that this program was built before, LogCorrupt for one that cannot follow the
    state it meets: a reader's gap would become everybody's.
    """
    if outcome.type in _NO_EFFECT:
        return
    evolve_accepted = _EVOLVERS.get(outcome.type)
    if evolve_accepted is None:
        raise UnknownType(
            f"outcome type {outcome.type!r:.100}: deploy the newer sequencer before its commands are sent"
        )
    evolve_accepted(view, outcome, changes)
    command_type = _COMMAND_OF[outcome.type]
    # A mark has no key: whatever its record says, its ce_id was never checked and is nobody's to use up.
    if outcome.client_generated_id is not None and command_type not in MARKS:
        if outcome.chat_id is None or outcome.command_id is None or outcome.position is None:
            raise LogCorrupt(f"an accepted {outcome.type} without chat, command_id or position")
        try:
            key = command_key(outcome.chat_id, outcome.command_id)
        except ValueError:
            raise LogCorrupt(
                f"an accepted {outcome.type} of command {outcome.command_id!r:.80}, which is no id"
            ) from None
        changes.remembered[key] = keep(
            digest(command_type, outcome.body), outcome.seq or 0, outcome.position, outcome.at_ms
        )


def _chat_created(view: View, outcome: Outcome, changes: Changes) -> None:
    body = decode_accepted(outcome)
    assert isinstance(body, ChatCreate)
    if outcome.chat_id is None or outcome.sender_id is None or outcome.position != 1:
        raise LogCorrupt(f"a chat.created at position {outcome.position}")
    if view.chat(outcome.chat_id) is not None:
        raise LogCorrupt(f"chat {outcome.chat_id} is created twice")
    others = [UserId(m) for m in body.members if m != outcome.sender_id]
    role: Role = "owner" if body.kind == "direct" else "member"
    changes.chats[outcome.chat_id] = Chat(
        kind=body.kind,
        last_seq=0,
        last_position=1,
        members=1 + len(others),
        owners=1 + (len(others) if role == "owner" else 0),
    )
    changes.members[outcome.chat_id, outcome.sender_id] = _joined("owner", 0, creator=True)
    for user in others:
        changes.members[outcome.chat_id, user] = _joined(role, 0, creator=False)


def _member_added(view: View, outcome: Outcome, changes: Changes) -> None:
    body = decode_accepted(outcome)
    assert isinstance(body, MemberAdd)
    chat = _move_head(view, outcome, changes, members=1, owners=1 if body.role == "owner" else 0)
    assert outcome.chat_id is not None
    key = outcome.chat_id, UserId(body.user_id)
    before = view.member(key)
    changes.members[key] = _joined(body.role, chat.last_seq, creator=before is not None and before.creator)


def _member_removed(view: View, outcome: Outcome, changes: Changes) -> None:
    body = decode_accepted(outcome)
    assert isinstance(body, MemberRemove)
    member = _known_member(view, outcome, UserId(body.user_id))
    _move_head(view, outcome, changes, members=-1, owners=-1 if member.role == "owner" else 0)
    assert outcome.chat_id is not None
    changes.members[outcome.chat_id, UserId(body.user_id)] = Member(
        role=member.role,
        present=False,
        joined_seq=member.joined_seq,
        read_seq=member.read_seq,
        delivered_seq=member.delivered_seq,
        creator=member.creator,
    )


def _member_role_changed(view: View, outcome: Outcome, changes: Changes) -> None:
    body = decode_accepted(outcome)
    assert isinstance(body, MemberRole)
    member = _known_member(view, outcome, UserId(body.user_id))
    _move_head(view, outcome, changes, owners=(body.role == "owner") - (member.role == "owner"))
    assert outcome.chat_id is not None
    changes.members[outcome.chat_id, UserId(body.user_id)] = Member(
        role=body.role,
        present=member.present,
        joined_seq=member.joined_seq,
        read_seq=member.read_seq,
        delivered_seq=member.delivered_seq,
        creator=member.creator,
    )


def _message_sent(view: View, outcome: Outcome, changes: Changes) -> None:
    _move_head(view, outcome, changes)
    if outcome.chat_id is None or outcome.sender_id is None or outcome.seq is None:
        raise LogCorrupt(f"a {outcome.type} without a seq, or of nobody")
    changes.senders[outcome.chat_id].append(outcome.sender_id)


def _message_deleted(view: View, outcome: Outcome, changes: Changes) -> None:
    body = decode_accepted(outcome)
    assert isinstance(body, MessageDelete)
    chat = _move_head(view, outcome, changes)
    assert outcome.chat_id is not None
    assert outcome.position is not None
    if outcome.seq is not None or not 1 <= body.seq <= chat.last_seq:
        raise LogCorrupt(
            f"message {body.seq} of chat {outcome.chat_id}, which stands at seq {chat.last_seq}, is deleted by an"
            f" outcome of seq {outcome.seq}"
        )
    key = (outcome.chat_id, body.seq)
    if view.deleted(key) is not None:
        raise LogCorrupt(f"message {body.seq} of chat {outcome.chat_id} is deleted twice")
    changes.deleted[key] = outcome.position


def _read_advanced(view: View, outcome: Outcome, changes: Changes) -> None:
    _marked(view, outcome, changes, read=True)


def _delivered_advanced(view: View, outcome: Outcome, changes: Changes) -> None:
    _marked(view, outcome, changes, read=False)


def _marked(view: View, outcome: Outcome, changes: Changes, *, read: bool) -> None:
    body = decode_accepted(outcome)
    assert isinstance(body, Mark)
    if outcome.sender_id is None or outcome.chat_id is None:
        raise LogCorrupt(f"a {outcome.type} of nobody")
    member = _known_member(view, outcome, outcome.sender_id)
    _move_head(view, outcome, changes)
    changes.members[outcome.chat_id, outcome.sender_id] = Member(
        role=member.role,
        present=member.present,
        joined_seq=member.joined_seq,
        read_seq=body.up_to_seq if read else member.read_seq,
        delivered_seq=member.delivered_seq if read else body.up_to_seq,
        creator=member.creator,
    )


_EVOLVERS: Final[dict[str, Callable[[View, Outcome, Changes], None]]] = {
    EventType.CHAT_CREATED.value: _chat_created,
    EventType.MEMBER_ADDED.value: _member_added,
    EventType.MEMBER_REMOVED.value: _member_removed,
    EventType.MEMBER_ROLE_CHANGED.value: _member_role_changed,
    EventType.MESSAGE_SENT.value: _message_sent,
    EventType.MESSAGE_DELETED.value: _message_deleted,
    EventType.READ_ADVANCED.value: _read_advanced,
    EventType.DELIVERED_ADVANCED.value: _delivered_advanced,
}


def _joined(role: Role, last_seq: int, *, creator: bool) -> Member:
    """Joining, for the first time or again, counts everything before it as read and delivered."""
    return Member(
        role=role, present=True, joined_seq=last_seq, read_seq=last_seq, delivered_seq=last_seq, creator=creator
    )


def _known_member(view: View, outcome: Outcome, user: UserId) -> Member:
    member = view.member((outcome.chat_id, user)) if outcome.chat_id is not None else None
    if member is None:
        raise LogCorrupt(f"a {outcome.type} of {user}, who never was a member of chat {outcome.chat_id}")
    return member


def _move_head(view: View, outcome: Outcome, changes: Changes, *, members: int = 0, owners: int = 0) -> Chat:
    """Writes the chat's next head and returns the one before. Positions and seqs are dense, or the log is corrupt."""
    chat = view.chat(outcome.chat_id) if outcome.chat_id is not None else None
    if chat is None or outcome.chat_id is None:
        raise LogCorrupt(f"a {outcome.type} in chat {outcome.chat_id}, which was never created")
    seq = chat.last_seq if outcome.seq is None else outcome.seq
    if outcome.position != chat.last_position + 1 or (outcome.seq is not None and seq != chat.last_seq + 1):
        raise LogCorrupt(
            f"chat {outcome.chat_id} stands at position {chat.last_position}, seq {chat.last_seq};"
            f" {outcome.type} has position {outcome.position}, seq {outcome.seq}"
        )
    changes.chats[outcome.chat_id] = Chat(
        kind=chat.kind,
        last_seq=seq,
        last_position=outcome.position,
        members=chat.members + members,
        owners=chat.owners + owners,
    )
    return chat
