"""Every read as of one snapshot: the tables showed one prefix of the chat's log, and later reads never a shorter one.

An answer that names its `position` has to be what the chat showed at that position. Any other has to be what it showed
at some position that was possible: at least that of the read's token and of what any reader had been shown before the
request, and before the first event whose command was sent only after the answer. What a search finds depends on its
index as well, which follows the log by a position of its own (`found`).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from tests.chaos import found, shown
from tests.chaos.acknowledged import command_id_of
from tests.chaos.check_log import Folded
from tests.chaos.evidence import Json, Op
from tests.chaos.violations import Kind, Violation
from tests.oracle.oracle import apply
from tests.oracle.records import Outcome
from tests.oracle.state import Chat, State

OF_A_CHAT: Final = frozenset({"latest", *shown.SHOWN})
NO_END: Final = 2**53


def check_snapshots(ops: Sequence[Op], folded: Folded, violations: list[Violation]) -> dict[str, int]:
    """Check all readers' answers and return their numbers by kind. The readers' user stays in the run's chats."""
    reads = [op for op in ops if op.kind in OF_A_CHAT or op.kind == "search"]
    answered = [op for op in reads if op.answer is not None and op.answer["http"] in (200, 403, 404)]
    histories = _histories(ops, folded)
    looks: defaultdict[str, list[Look]] = defaultdict(list)
    for op in answered:
        if op.kind in OF_A_CHAT and op.asked["chat"] in histories:
            looks[op.asked["chat"]].append(_look(op, op.answer or {}, histories[op.asked["chat"]]))
    searches = [op for op in answered if op.kind == "search"]
    for look, chat_id in _searches(searches, histories, violations):
        looks[chat_id].append(look)
    for chat_id, of_chat in looks.items():
        histories[chat_id].judge(of_chat, violations)
    return dict(Counter(op.kind for op in answered if op.kind != "latest"))


@dataclass(slots=True, kw_only=True)
class Look:
    """An answer as far as it is about one chat."""

    op: Op
    fits: Callable[[Chat | None], bool] | None
    """Whether the answer is right if the tables showed this state of the chat, or None before its creation. No
    function: `check_readers` decides alone."""
    at: int | None = None
    """The position that the answer names."""
    shows: int = 0
    """A position that it shows at least."""
    due: int
    """The position that its token stands for."""
    before: int = 0
    """The position that any reader was shown before it was asked."""
    last: int = NO_END
    """The last position that was possible."""
    right: list[int] = field(default_factory=list)
    """Positions at which the answer is right, ascending."""

    @property
    def answered_s(self) -> float:
        return self.op.answered_s or self.op.asked_s

    @property
    def first(self) -> int:
        """The first position that was possible."""
        return max(self.due, self.before)

    @property
    def chosen(self) -> int | None:
        """The first possible position at which the answer is right."""
        at = bisect_left(self.right, self.first)
        return self.right[at] if at < len(self.right) and self.right[at] <= self.last else None

    def violation(self) -> Violation:
        """Return what is wrong, given all positions at which the answer is right."""
        earlier = [position for position in self.right if position < self.first]
        if earlier and earlier[-1] < self.due:
            kind, why = Kind.READ_TOO_OLD, f"its token stands for position {self.due}"
        elif earlier:
            kind, why = Kind.READ_STEPPED_BACK, f"position {self.before} had been shown before"
        elif self.right:
            kind, why = Kind.READ_AHEAD, f"what follows position {self.last} was sent after the answer"
        else:
            kind, why = Kind.READ_DIFFERS, "the chat never was like this"
        answer = f"{self.op.kind} {self.op.asked} was answered {self.op.answer}"
        right = f"right at positions {self.right[:5]}{' …' if len(self.right) > 5 else ''}"
        return Violation(kind, self.op.place, f"{why}; {right}: {answer}"[:1200])


class History:
    """The accepted outcomes of one chat. The nth has position n, or `check_log` has reported it."""

    def __init__(
        self, chat_id: str, outcomes: Sequence[Outcome], final: Chat, first_sent_s: Mapping[str, float]
    ) -> None:
        """`first_sent_s` is by command_id."""
        self.chat_id = chat_id
        self.final = final
        self.vocabulary = found.Vocabulary(final)
        self._outcomes = outcomes
        self._indexes = [outcome.index for outcome in outcomes]
        sent = sorted(
            (first_sent_s[outcome.command_id], position)
            for position, outcome in enumerate(outcomes, 1)
            if outcome.command_id is not None and outcome.command_id in first_sent_s
        )
        self._sent_s = [at_s for at_s, _ in sent]
        self._earliest = [position for _, position in sent]
        """The lowest position of a command that was first sent at this time or later."""
        for number in reversed(range(len(sent) - 1)):
            self._earliest[number] = min(self._earliest[number], self._earliest[number + 1])

    def __len__(self) -> int:
        return len(self._outcomes)

    def due(self, token: str | None) -> int:
        """Return the position that a token stands for; 0 for none, and for one of another partition."""
        partition, index = (int(part) for part in (token or "-1:0").split(":"))
        return bisect_right(self._indexes, index) if partition == self.final.partition else 0

    def latest(self, at_s: float) -> int:
        """Return the last position that an answer of this time may show."""
        number = bisect_right(self._sent_s, at_s)
        return self._earliest[number] - 1 if number < len(self._earliest) else len(self._outcomes)

    def position_of(self, seq: int) -> int:
        """Return the position of a message; 0 if it does not exist."""
        message = self.final.messages.get(seq)
        return 0 if message is None else message.position

    def judge(self, looks: Sequence[Look], violations: list[Violation]) -> None:
        """Find the position that each answer shows, and report the answers that show none that was possible."""
        for look in looks:
            look.last = self.latest(look.answered_s)
        _in_real_time(looks, lambda look: look.shows)
        self._replay([(look, look.first, look.last) for look in looks])
        wrong: list[Look] = []

        def shows(look: Look) -> int:
            if look.fits is not None and look.chosen is None:
                wrong.append(look)
            return max(look.shows, look.chosen or 0)

        _in_real_time(looks, shows)
        self._replay([(look, 0, NO_END) for look in wrong])
        violations += [look.violation() for look in wrong]

    def _replay(self, looks: Sequence[tuple[Look, int, int]]) -> None:
        """Fold the chat's log again, and find the positions at which each answer is right, from one to another."""
        ahead = []
        for look, first, last in looks:
            look.right = []
            if look.fits is not None:
                ahead.append((first, last, look) if look.at is None else (look.at, look.at, look))
        ahead.sort(key=lambda each: -each[0])
        state, under_way = State(), list[tuple[int, int, Look]]()
        for position in range(len(self._outcomes) + 1):
            if position > 0:
                apply(state, self._outcomes[position - 1])
            while ahead and ahead[-1][0] <= position:
                under_way.append(ahead.pop())
            chat = state.chats.get(self.chat_id)
            for _, _, look in under_way:
                if look.fits is not None and look.fits(chat):
                    look.right.append(position)
            under_way = [each for each in under_way if each[1] > position]


def _histories(ops: Sequence[Op], folded: Folded) -> dict[str, History]:
    first_sent_s: dict[str, float] = {}
    for op in ops:
        command_id = command_id_of(op) if op.kind == "command" else None
        if command_id is not None:
            first_sent_s[command_id] = min(op.asked_s, first_sent_s.get(command_id, op.asked_s))
    accepted: defaultdict[str, list[Outcome]] = defaultdict(list)
    for log in folded.logs.values():
        for outcome in log.outcomes:
            if outcome.kind == "accepted":
                accepted[outcome.chat or ""].append(outcome)
    return {
        chat_id: History(chat_id, accepted[chat_id], chat, first_sent_s) for chat_id, chat in folded.state.chats.items()
    }


def _in_real_time(looks: Sequence[Look], shows: Callable[[Look], int]) -> None:
    """Give each answer the highest position of those that had been answered when it was asked."""
    events = [(look.op.asked_s, False, number) for number, look in enumerate(looks)]
    events += [(look.answered_s, True, number) for number, look in enumerate(looks)]
    highest = 0
    for _, is_answer, number in sorted(events):
        if is_answer:
            highest = max(highest, shows(looks[number]))
        else:
            looks[number].before = highest


def _look(op: Op, answer: Json, history: History) -> Look:
    at = answer.get("position")
    shows = at or 0
    if op.kind == "latest":
        shows = history.position_of(answer.get("seq", 0))
    elif op.kind == "page" and at is None:
        shows = max((history.position_of(seq) for seq, *_ in answer.get("messages", ())), default=0)

    def fits(chat: Chat | None) -> bool:
        return answer == (shown.unknown("unknown_chat") if chat is None else shown.SHOWN[op.kind](chat, op.asked))

    by_seq_alone = op.kind == "latest" or (op.kind == "page" and at is None)
    due = history.due(op.asked.get("token"))
    return Look(op=op, fits=None if by_seq_alone else fits, at=at, shows=min(shows, len(history)), due=due)


def _searches(
    ops: Sequence[Op], histories: Mapping[str, History], violations: list[Violation]
) -> Iterator[tuple[Look, str]]:
    """Yield each search with each chat that it is about."""
    by_asked = sorted(ops, key=lambda op: op.asked_s)
    by_answered = sorted(ops, key=lambda op: op.answered_s or op.asked_s)
    indexed: defaultdict[str, int] = defaultdict(int)
    """chat → the position that its index had reached in any search that was answered."""
    following = 0
    for op in by_asked:
        while following < len(by_answered) and (by_answered[following].answered_s or 0) < op.asked_s:
            for chat_id, position in _indexed_by(by_answered[following], histories):
                indexed[chat_id] = max(indexed[chat_id], position)
            following += 1
        answer, only = op.answer or {}, op.asked["chat"]
        strange = answer["http"] != 200 or any(
            item[0] not in histories or only not in (None, item[0]) for item in answer["items"]
        )
        if strange or found.is_out_of_order(answer, op.asked["limit"]):
            what = f"{op.asked} was answered {answer}, no list of messages, newest first, of the chats of the search"
            violations.append(Violation(Kind.READ_DIFFERS, op.place, what[:1200]))
            continue
        for chat_id in histories if only is None else (only,):
            if (look := _search_in(op, answer, histories[chat_id], indexed[chat_id])) is not None:
                yield look, chat_id


def _search_in(op: Op, answer: Json, history: History, indexed: int) -> Look | None:
    """Return a search as far as it is about one chat, or None if it never could find something there."""
    query = found.Query.of(op.asked["q"])
    candidates = history.vocabulary.candidates(query)
    items = [item for item in answer["items"] if item[0] == history.chat_id]
    if not items and (not candidates or op.asked["caller"] not in history.final.members):
        return None
    due = history.due(op.asked.get("token"))
    page = found.Page.of(
        op.asked, answer, chat_id=history.chat_id, query=query, indexed=max(due, indexed),
        newest_indexed=history.latest(op.answered_s or op.asked_s),
    )  # fmt: skip
    return Look(
        op=op, fits=lambda chat: page.agrees(chat, history.final, candidates), due=due,
        shows=max((history.position_of(item[1]) for item in items), default=0),
    )  # fmt: skip


def _indexed_by(op: Op, histories: Mapping[str, History]) -> Iterator[tuple[str, int]]:
    query = found.Query.of(op.asked["q"])
    for chat_id, seq, *_ in (op.answer or {}).get("items", ()):
        message = histories[chat_id].final.messages.get(seq) if chat_id in histories else None
        if message is not None:
            yield chat_id, found.first_match(message, query)
