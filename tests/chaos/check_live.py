"""What streams brought, frame by frame, and the copies that their readers have in the end.

For each chat of a connection the checker knows how far it has come (`reached`, a position). An event between that and
the next frame is missing if the reader was a member after it; receipts may be left out.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tests.chaos import streamed
from tests.chaos.check_log import Folded
from tests.chaos.evidence import Json, Op
from tests.chaos.violations import Kind, Violation
from tests.oracle.oracle import apply
from tests.oracle.records import Outcome
from tests.oracle.state import Message, State

KINDS: Final = ("stream", "copy")


def check_live(ops: Sequence[Op], folded: Folded, violations: list[Violation]) -> dict[str, int]:
    """Check all streams and copies. Return how many connections, frames of events, gaps and copies there were."""
    live = [op for op in ops if op.kind in KINDS and op.answer is not None]
    if not live:
        return {}
    accepted: dict[str, list[Outcome]] = {chat_id: [] for chat_id in folded.state.chats}
    for log in folded.logs.values():
        for outcome in log.outcomes:
            if outcome.kind == "accepted":
                accepted[outcome.chat or ""].append(outcome)
    chats = {chat_id: _Chat(chat_id, outcomes) for chat_id, outcomes in accepted.items()}
    counts: Counter[str] = Counter()
    for op in live:
        if op.kind == "stream":
            counts["connections"] += 1
            _Stream(op, chats, violations).judge(counts)
        else:
            counts["copies"] += 1
            _check_copy(op, chats, violations)
    return dict(counts)


class _Chat:
    """The accepted outcomes of one chat; the nth has position n, or `check_log` has reported it."""

    def __init__(self, chat_id: str, outcomes: Sequence[Outcome]) -> None:
        self.chat_id = chat_id
        self.outcomes = outcomes
        self._indexes = [outcome.index for outcome in outcomes]
        self._members: dict[str, list[bool]] = {}

    def position_at(self, index: int) -> int:
        """Return the position of the chat's last event up to an index of its partition."""
        return bisect_right(self._indexes, index)

    def at(self, position: int) -> Outcome | None:
        return self.outcomes[position - 1] if 0 < position <= len(self.outcomes) else None

    def is_member(self, user: str, position: int) -> bool:
        """Return whether the user is a member after the event at a position; False at 0."""
        if user not in self._members:
            known = [False]
            for outcome in self.outcomes:
                member = known[-1] or streamed.joins(outcome, user)
                known.append(member and not streamed.removes(outcome, user))
            self._members[user] = known
        known = self._members[user]
        return known[min(position, len(known) - 1)]

    def owed(self, user: str, after: int, before: int | None = None) -> list[int]:
        """Return the positions after `after` and before `before` of events that the user must be sent."""
        last = len(self.outcomes) if before is None else before - 1
        return [
            position
            for position in range(after + 1, last + 1)
            if self.is_member(user, position) and self.outcomes[position - 1].type not in streamed.RECEIPTS
        ]

    def content_before(self, position: int) -> int:
        """Return the position of the last event before, receipts not counted; 0 for the first."""
        earlier = range(position - 1, 0, -1)
        return next((at for at in earlier if self.outcomes[at - 1].type not in streamed.RECEIPTS), 0)


class _Stream:
    """One connection."""

    def __init__(self, op: Op, chats: Mapping[str, _Chat], violations: list[Violation]) -> None:
        self._op = op
        self._user: str = op.asked["caller"]
        self._chats = chats
        self._violations = violations
        self._reached: dict[str, int] = {}
        """Chat → the position up to which the reader has everything. Not there: nothing is known."""
        self._believes: dict[str, bool] = {}
        """Chat → whether the reader has to believe to be a member."""
        since = op.asked.get("since")
        if op.asked["chat"] is not None:
            self._begins(chats[op.asked["chat"]], op.asked["after_position"])
        elif since is not None:
            indexes = dict(since)  # a partition that it leaves out: nothing was seen of it
            for chat in chats.values():
                if chat.outcomes:
                    self._begins(chat, chat.position_at(indexes.get(chat.outcomes[0].partition, 0)))

    def _begins(self, chat: _Chat, position: int) -> None:
        self._reached[chat.chat_id] = position
        self._believes[chat.chat_id] = chat.is_member(self._user, position)

    def judge(self, counts: Counter[str]) -> None:
        for frame in (self._op.answer or {})["frames"]:
            kind = frame["type"]
            if kind in streamed.ABOUT_THE_STREAM or kind in streamed.SIGNALS:
                continue
            chat = self._chats.get(frame["chat_id"])
            if chat is None or self._op.asked["chat"] not in (None, chat.chat_id):
                self._wrong(Kind.LIVE_DIFFERS, frame, "it is of a chat that is not followed")
            elif kind == "gap":
                counts["gaps"] += 1
                self._gap(chat, frame)
            elif kind == "removed":
                counts["removals"] += 1
                self._removed(chat, frame)
            else:
                counts["frames"] += 1
                self._event(chat, frame)

    def _gap(self, chat: _Chat, frame: Json) -> None:
        partition, index = frame["token"]
        position = chat.position_at(index)
        if not chat.outcomes or chat.outcomes[0].partition != partition or not chat.is_member(self._user, position):
            self._wrong(Kind.LIVE_DIFFERS, frame, f"its token stands for position {position}")
        self._reached[chat.chat_id] = max(position, self._reached.get(chat.chat_id, 0))
        self._believes[chat.chat_id] = True

    def _removed(self, chat: _Chat, frame: Json) -> None:
        after = self._reached.get(chat.chat_id, 0)
        later = range(after + 1, len(chat.outcomes) + 1)
        at = next((position for position in later if streamed.removes(chat.outcomes[position - 1], self._user)), None)
        if at is None:
            self._wrong(Kind.LIVE_DIFFERS, frame, f"the reader is not removed after position {after}")
        self._reached[chat.chat_id] = after if at is None else at
        self._believes[chat.chat_id] = False

    def _event(self, chat: _Chat, frame: Json) -> None:
        position = frame["position"]
        outcome = chat.at(position)
        content = {name: value for name, value in frame.items() if name != "prev"}
        if outcome is None or content != (right := streamed.frame(outcome)):
            self._wrong(Kind.LIVE_DIFFERS, frame, "the log has nothing there" if outcome is None else f"not {right}")
            return
        if frame.get("prev") not in (None, chat.content_before(position)):
            self._wrong(Kind.LIVE_DIFFERS, frame, f"before it is position {chat.content_before(position)}")
        if not chat.is_member(self._user, position):
            self._wrong(Kind.LIVE_AFTER_REMOVAL, frame, "the reader is not a member")
        joined = streamed.joins(outcome, self._user)
        if not joined and self._believes.get(chat.chat_id) is False:
            self._wrong(Kind.LIVE_AFTER_REMOVAL, frame, "the reader was sent `removed`, and no event that adds them")
        reached = self._reached.get(chat.chat_id)
        if reached is not None and position <= reached:
            self._wrong(Kind.LIVE_REPEATED, frame, f"the stream was at position {reached}")
        elif reached is not None and not joined and (missing := chat.owed(self._user, reached, position)):
            self._wrong(Kind.LIVE_GAP, frame, f"positions {missing[:10]} were left out, after {reached}")
        self._reached[chat.chat_id] = position
        self._believes[chat.chat_id] = True

    def _wrong(self, kind: Kind, frame: Json, why: str) -> None:
        asked = {name: value for name, value in self._op.asked.items() if name != "since"}
        self._violations.append(Violation(kind, self._op.place, f"{asked} was sent {frame}: {why}"[:1200]))


def _check_copy(op: Op, chats: Mapping[str, _Chat], violations: list[Violation]) -> None:
    """Check that a copy is the fold of the log up to its positions, and that nothing is missing at the end."""
    answer, user = op.answer or {}, op.asked["caller"]
    violations += [Violation(Kind.COPY_DIFFERS, op.place, fault[:1200]) for fault in answer["faults"]]
    for chat_id, chat in chats.items():
        if op.asked["chat"] not in (None, chat_id):
            continue
        copy = answer["chats"].get(chat_id)
        at = 0 if copy is None else copy["position"]
        if chat.is_member(user, len(chat.outcomes)) and (missing := chat.owed(user, at)):
            what = f"chat {chat_id} ends at position {at}, without {missing[:10]}"
            violations.append(Violation(Kind.COPY_DIFFERS, op.place, what))
        if copy is not None and (right := _folded(chat, at)) != dict(copy["messages"]):
            had = dict(copy["messages"])
            differing = {
                seq: (had.get(seq), right.get(seq)) for seq in {*had, *right} if had.get(seq) != right.get(seq)
            }
            what = f"chat {chat_id} at position {at}: (copy, log) {differing}"
            violations.append(Violation(Kind.COPY_DIFFERS, op.place, what[:1200]))


def _folded(chat: _Chat, position: int) -> dict[int, Any]:
    state = State()
    for outcome in chat.outcomes[:position]:
        apply(state, outcome)
    folded = state.chats.get(chat.chat_id)
    return {} if folded is None else {seq: _known(message) for seq, message in folded.messages.items()}


def _known(message: Message) -> Json:
    kept = message.deleted_at is None
    return {
        "text": message.said("text") if kept else None,
        "deleted": not kept,
        "revision": len(message.edits),
        "reactions": dict(Counter(emoji for _, emoji in message.reactions)),
    }
