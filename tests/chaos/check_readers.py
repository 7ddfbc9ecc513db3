"""What readers of history saw, by seq: no gap, no step back behind what any reader was shown before, and only what is
in the log. `check_snapshots` judges the same pages, and all other reads, by the position that they show.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from tests.chaos.check_log import Folded
from tests.chaos.evidence import Json, Op, message_digest
from tests.chaos.violations import Kind, Violation
from tests.oracle.state import Chat, Message

NO_END: Final = 2**53


def check_readers(ops: Sequence[Op], folded: Folded, violations: list[Violation]) -> int:
    """Check all readers' answers and return their number. Readers are members of their chats for the whole run."""
    by_chat: defaultdict[str, list[Read]] = defaultdict(list)
    for op in ops:
        if op.kind in ("page", "latest") and op.answer is not None and op.answer["http"] in (200, 403, 404):
            by_chat[op.asked["chat"]].append(_read(op, op.answer, op.answered_s or op.asked_s))
    for chat_id, reads in by_chat.items():
        chat = folded.state.chats.get(chat_id)
        indexes = [m.index for m in chat.messages.values()] if chat is not None else []
        for read in reads:
            _content(read, chat, violations)
            _token(read, chat, indexes, violations)
        _no_step_back(reads, violations)
        if chat is not None:
            _stays_deleted(reads, chat, violations)
    return sum(len(reads) for reads in by_chat.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """An answer and its extent."""

    op: Op
    answer: Json
    answered_s: float
    shown: int
    """The highest seq in it; 0 if it has none."""
    shows: int
    """It leaves out nothing up to this seq; what is before its bound was not requested."""
    reach: int
    """Everything up to this seq had to be shown: a page ends at its limit."""

    def __str__(self) -> str:
        return f"{self.op.kind} {self.op.asked} shows all up to seq {self.shows} (http {self.answer['http']})"


def _read(op: Op, answer: Json, answered_s: float) -> Read:
    shown, shows, reach = 0, 0, NO_END
    if answer["http"] == 200 and op.kind == "latest":
        shown = shows = answer["seq"]
    elif answer["http"] == 200:
        after, seqs = op.asked["after_seq"], [seq for seq, *_ in answer["messages"]]
        shown = seqs[-1] if seqs else 0
        shows = shown or after or 0
        if after is not None and answer["more"]:
            reach = after + op.asked["limit"]
    return Read(op=op, answer=answer, answered_s=answered_s, shown=shown, shows=shows, reach=reach)


def _no_step_back(reads: Sequence[Read], violations: list[Violation]) -> None:
    """Check each answer against all that any reader got before it was requested."""
    answered = sorted(reads, key=lambda read: read.answered_s)
    furthest: Read | None = None
    following = 0
    for read in sorted(reads, key=lambda read: read.op.asked_s):
        while following < len(answered) and answered[following].answered_s < read.op.asked_s:
            if furthest is None or answered[following].shown > furthest.shown:
                furthest = answered[following]
            following += 1
        if furthest is not None and read.shows < min(furthest.shown, read.reach):
            earlier_s = read.op.asked_s - furthest.answered_s
            what = f"{read}, yet {furthest.op.place} was shown seq {furthest.shown} {earlier_s:.3f} s before"
            violations.append(Violation(Kind.READ_STEPPED_BACK, read.op.place, what))


def _content(read: Read, chat: Chat | None, violations: list[Violation]) -> None:
    """Check that the answer holds only what is in the log."""
    op, answer = read.op, read.answer
    if answer["http"] != 200:
        return
    if op.kind == "latest":
        last = chat.last_seq if chat is not None else 0
        if answer["seq"] > last:
            what = f"latest seq {answer['seq']}; the log of chat {op.asked['chat']} ends at {last}"
            violations.append(Violation(Kind.READ_DIFFERS, op.place, what))
        return
    _page(read, violations)
    for seq, digest, *_ in answer["messages"]:
        message = chat.messages.get(seq) if chat is not None else None
        if message is None or digest not in (*_live(message), _deleted(message)):
            what = f"message {seq} of chat {op.asked['chat']} is not what the log has there"
            violations.append(Violation(Kind.READ_DIFFERS, op.place, what))


def _stays_deleted(reads: Sequence[Read], chat: Chat, violations: list[Violation]) -> None:
    """Check that a deleted message's text is not shown after the deletion.

    It may not be shown to a reader that has a token of the deletion, nor to any reader that asks after one was first
    shown the deletion.
    """
    gone_s: dict[int, float] = {}
    """Seq → when a reader was first shown that it is deleted."""
    pages = [read for read in reads if read.op.kind == "page" and read.answer["http"] == 200]
    for read in pages:
        for seq, digest, *_ in read.answer["messages"]:
            message = chat.messages.get(seq)
            if message is not None and digest == _deleted(message):
                gone_s[seq] = min(gone_s.get(seq, read.answered_s), read.answered_s)
    for read in pages:
        partition, index = (int(part) for part in read.op.asked.get("token", "-1:0").split(":"))
        for seq, digest, *_ in read.answer["messages"]:
            message = chat.messages.get(seq)
            if message is None or message.deleted_index is None or digest not in _live(message):
                continue
            due = partition == chat.partition and message.deleted_index <= index
            if due or gone_s.get(seq, read.op.asked_s) < read.op.asked_s:
                what = f"{read}, with what the deleted message {seq} said"
                kind = Kind.READ_TOO_OLD if due else Kind.READ_STEPPED_BACK
                violations.append(Violation(kind, read.op.place, what))


def _page(read: Read, violations: list[Violation]) -> None:
    """Check that seqs are consecutive from the bound on, and that only the last page is not full."""
    after, limit = read.op.asked["after_seq"], read.op.asked["limit"]
    seqs = [seq for seq, *_ in read.answer["messages"]]
    first = after + 1 if after is not None else max(1, (seqs[-1] if seqs else 0) - limit + 1)
    if seqs != list(range(first, first + len(seqs))):
        violations.append(Violation(Kind.READ_GAP, read.op.place, f"after {after} came {seqs}"[:600]))
    elif read.answer["more"] and len(seqs) < limit:
        what = f"{len(seqs)} messages after {after}, limit {limit}, and yet more are said to follow"
        violations.append(Violation(Kind.READ_GAP, read.op.place, what))


def _token(read: Read, chat: Chat | None, indexes: list[int], violations: list[Violation]) -> None:
    """Check that the answer includes what its token stands for; `indexes` of the chat's messages ascend."""
    token = read.op.asked.get("token")
    if token is None or chat is None or read.answer["http"] != 200:
        return
    partition, index = (int(part) for part in token.split(":"))
    due = bisect_right(indexes, index) if partition == chat.partition else 0
    if read.shows < min(due, read.reach):
        what = f"{read}, yet its token {token} stands for seq {due}"
        violations.append(Violation(Kind.READ_TOO_OLD, read.op.place, what))


def _live(message: Message) -> list[str]:
    """Return the digests of a message as it was sent, and after each edit."""
    return [_digest(message, body["text"]) for body in (message.body, *(each.body for each in message.edits))]


def _deleted(message: Message) -> str | None:
    """Return the digest of a message as it is shown after its deletion, or None if it was not deleted."""
    return None if message.deleted_at is None else _digest(message, None)


def _digest(message: Message, text: str | None) -> str:
    return message_digest(
        message_id=message.message_id, sender=message.sender, key=message.key, text=text,
        sent_at_ms=message.sent_at, reply_to=message.body.get("reply_to_message_id"), position=message.position,
    )  # fmt: skip
