"""Each read of a chaos run is judged as of one snapshot: a spoiled answer of each kind is found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import pytest

from tests.chaos.evidence import Json, message_digest
from tests.chaos.found import Query
from tests.chaos.violations import Kind
from tests.support.sound_run import ANNA, BEN, CHAT, HELLO, REPLIED, REPLY, T0, P, World, command_id, sound

READS: Final = {kind for kind in Kind if kind.startswith("read_")}
FIRST: Final = command_id(ANNA, "k1")
THIRD: Final = command_id(ANNA, "k6")


def digest(message_id: str, sender: str, key: str, text: str | None, at: int, position: int) -> str:
    return message_digest(
        message_id=message_id, sender=sender, key=key, text=text, sent_at_ms=T0 + 1000 * at, reply_to=None,
        position=position,
    )  # fmt: skip


EDITED: Final = digest(FIRST, ANNA, "k1", "hello again", 2, 2)
LATEST: Final = digest(THIRD, ANNA, "k6", "hello there", 16, 10)
REACTED: Final[Json] = {
    **REPLIED, "changed_position": 8, "revision": 1, "edited_at": T0 + 12_000,
    "reactions": [["👍", 1, True], ["❤", 1, True]],
}  # fmt: skip
"""What has come to the first message at the end."""


def with_reads() -> World:
    """The sound run continued, and everything read after every step. Ben, who was removed, returns."""
    w = sound()
    steps: list[tuple[str, str, str | None, Json, str]] = [
        ("message.edit.v1", ANNA, "e", {"seq": 1, "text": "hello again"}, "message.edited.v1"),  # position 6
        ("reaction.add.v1", ANNA, "t", {"seq": 1, "emoji": "👍"}, "reaction.added.v1"),
        ("reaction.add.v1", ANNA, "h", {"seq": 1, "emoji": "❤"}, "reaction.added.v1"),
        ("member.add.v1", ANNA, "b", {"user_id": BEN, "role": "member"}, "member.added.v1"),
        ("message.send.v1", ANNA, "k6", {"text": "hello there"}, "message.sent.v1"),  # position 10
        ("delivered.mark.v1", BEN, None, {"up_to_seq": 3}, "delivered.advanced.v1"),
        ("read.mark.v1", BEN, None, {"up_to_seq": 3}, "read.advanced.v1"),
        ("message.delete.v1", ANNA, "x", {"seq": 3}, "message.deleted.v1"),
        ("message.delete.v1", ANNA, "y", {"seq": 2}, "message.deleted.v1"),  # position 14
        ("message.delete.v1", ANNA, "z", {"seq": 1}, "message.deleted.v1"),
    ]
    for number, (command_type, sender, key, body, event) in enumerate(steps):
        w.command(command_type, sender, key, body)
        figures = {"position": 6 + number, **({"seq": 3} if event == "message.sent.v1" else {})}
        w.outcome(f"2/{10 + number}", event, 9 + number, None, **figures)
        asked: Json = {"via": "http", "type": command_type, "chat": CHAT, "sender": sender, "body": body}
        w.op("command", asked | ({"key": key} if key is not None else {}), None, at_s=100.0 + 10 * number)
    return w


def token(position: int) -> str:
    """Return the token of the event at this position, from 6 on."""
    return f"{P}:{position + 4}"


@dataclass(frozen=True, slots=True)
class Read:
    """A read by Anna, asked and answered after the command at a position was sent and before the next one was."""

    kind: str
    after: int
    answer: Json
    asked: Json

    def add_to(self, w: World) -> None:
        at_s = 100.0 + 10 * (self.after - 6) + 2
        answer = {"http": 200, "more": False, **self.answer}
        w.op(self.kind, {"chat": CHAT, "caller": ANNA, "limit": 10} | self.asked, answer, at_s=at_s, took_s=1.0)


def read(kind: str, after_position: int, answer: Json, **asked: Any) -> Read:
    return Read(kind, after_position, answer, asked)


def search(after_position: int, items: list[Any], words: str = "hello", *, more: bool = False, **asked: Any) -> Read:
    return read("search", after_position, {"items": items, "more": more}, **{"q": words, "after": None} | asked)


def found(w: World) -> set[Kind]:
    return {violation.kind for violation in w.check().violations} & READS


def hit(seq: int, message_id: str, at: int, text: str, *matches: list[int]) -> list[Any]:
    """Return an item of a search by Anna for a message of hers."""
    return [CHAT, seq, message_id, ANNA, T0 + 1000 * at, text, 0, list(matches)]


HIT_3: Final = hit(3, THIRD, 16, "hello there", [0, 5])
HIT_1: Final = hit(1, FIRST, 2, "hello again", [0, 5])
FIRST_PAGE: Final[Json] = {
    "messages": [[1, EDITED, REACTED], [2, REPLY, {}], [3, LATEST, {"status": "read"}]], "position": 12, "last_seq": 3,
}  # fmt: skip
THREADS: Final[Json] = {"items": [[1, EDITED, REACTED]], "position": 12, "last_seq": 3}
REPLIES: Final[Json] = {"items": [[2, REPLY, {}]], "position": 12, "last_seq": 3}
EDITS: Final[Json] = {"items": [[0, "hello", T0 + 2000]]}
REACTIONS: Final[Json] = {"items": [["❤", ANNA], ["👍", ANNA]]}
THUMB: Final[Json] = {"items": [["👍", ANNA]]}
RECEIPTS: Final[Json] = {"items": [[BEN, "read"]], "counts": [1, 1, 1]}
DELIVERED: Final[Json] = {"items": [[BEN, "delivered"]], "counts": [1, 1, 0]}
NO_ITEMS: Final[Json] = {"items": []}
AT_4: Final[Json] = {
    "messages": [[1, HELLO, {**REPLIED, "status": "read"}]], "more": True, "position": 4, "last_seq": 2,
}  # fmt: skip
"""The first message before Ben, who had read it, was removed."""
AT_5: Final[Json] = {"items": [[1, HELLO, REPLIED]], "position": 5, "last_seq": 2}
DELETED: Final = digest(THIRD, ANNA, "k6", None, 16, 10)
AT_13: Final[Json] = {
    "messages": [[3, DELETED, {"changed_position": 13, "deleted_at": T0 + 19_000, "status": "read"}]],
    "position": 13, "last_seq": 3,
}  # fmt: skip

RIGHT: Final = (
    read("page", 12, FIRST_PAGE, after_seq=0),
    read("page", 12, {**FIRST_PAGE, "messages": FIRST_PAGE["messages"][1:]}, after_seq=None, limit=2),
    read("page", 13, AT_13, after_seq=2),
    read("page", 6, AT_4, after_seq=0, limit=1),
    read("threads", 12, THREADS),
    read("replies", 12, REPLIES, seq=1, after_seq=0),
    read("replies", 12, {**REPLIES, "items": []}, seq=1, after_seq=2),
    read("replies", 12, {**REPLIES, "items": []}, seq=2, after_seq=0),
    read("edits", 12, EDITS, seq=1),
    read("edits", 6, NO_ITEMS, seq=1),
    read("reactions", 12, REACTIONS, seq=1, emoji=None, token=token(8)),
    read("reactions", 12, THUMB, seq=1, emoji="👍"),
    read("reactions", 12, {"items": [["❤", ANNA]], "more": True}, seq=1, emoji=None, limit=1),
    read("receipts", 12, RECEIPTS, seq=3, token=token(12)),
    read("receipts", 11, DELIVERED, seq=3),
    read("receipts", 11, {"items": [], "counts": [1, 0, 0]}, seq=3),
    read("receipts", 12, {"items": [], "counts": [0, 0, 0]}, seq=1, token=token(12)),  # Ben came back after it
    read("threads", 14, {"items": [], "position": 14, "last_seq": 3}, token=token(14)),
    read("edits", 15, NO_ITEMS, seq=1, token=token(15)),
    search(12, [HIT_3, HIT_1], token=token(10)),
    search(12, [HIT_3, HIT_1], chat=None),
    search(12, [HIT_3], more=True, limit=1, token=token(10)),
    search(12, [HIT_1], after=[T0 + 16_000, CHAT, 3], token=token(10)),
    search(12, []),
    search(12, [], '"there hello"', token=token(10)),
    search(8, [], caller=BEN, token=token(8)),
    search(12, [hit(3, THIRD, 16, "hello there", [0, 11])], '"hello there"', token=token(10)),
    search(12, [hit(1, FIRST, 2, "hello again", [6, 11])], "again", token=token(10)),
    search(12, [], "again", token=f"{P}:7"),  # position 5: the index may be behind the edit
    search(13, [HIT_1], token=token(13)),
    search(13, [], more=True, token=token(13)),
)


def test_right_answers_are_right_also_if_they_overlap_and_show_different_states() -> None:
    w = with_reads()
    for each in RIGHT:
        each.add_to(w)
    report = w.check()
    assert [str(v) for v in report.violations if v.kind is not Kind.TABLE_DIFFERS] == []
    assert report.snapshots == {
        "page": 4 + 3, "threads": 2, "replies": 3, "edits": 3, "reactions": 3, "receipts": 4, "search": 12,
    }  # fmt: skip


SPOILED: Final[dict[Kind, tuple[Read, ...]]] = {
    # No state of the chat shows this.
    Kind.READ_DIFFERS: (
        read("page", 12, {**FIRST_PAGE, "last_seq": 4}, after_seq=0),
        read("page", 12, {**FIRST_PAGE, "position": 11}, after_seq=0),
        read("page", 12, {**FIRST_PAGE, "position": 14}, after_seq=0),
        read("page", 6, {**AT_4, "messages": [[1, HELLO, {**REPLIED, "revision": 1}]]}, after_seq=0, limit=1),
        read("threads", 12, {**THREADS, "items": []}),
        read("threads", 14, {**THREADS, "position": 14}),
        read("threads", 12, {**THREADS, "more": True}),
        read("threads", 12, {**THREADS, "items": [[1, EDITED, {**REACTED, "reply_count": 2}]]}),
        read("replies", 12, {**REPLIES, "items": []}, seq=1, after_seq=0),
        read("replies", 12, {**REPLIES, "items": [[2, HELLO, {}]]}, seq=1, after_seq=0),
        read("edits", 12, {"items": [[0, "hallo", T0 + 2000]]}, seq=1),
        read("edits", 12, EDITS, seq=2),
        read("reactions", 12, {"items": [["❤", BEN], ["👍", ANNA]]}, seq=1, emoji=None),
        read("reactions", 12, {"items": [["👍", ANNA], ["❤", ANNA]]}, seq=1, emoji=None),
        read("reactions", 12, {"items": [["❤", ANNA]]}, seq=1, emoji=None),
        read("receipts", 12, {**RECEIPTS, "counts": [2, 1, 1]}, seq=3),
        read("receipts", 12, {**RECEIPTS, "items": [[ANNA, "read"]]}, seq=3),
        search(12, [hit(3, THIRD, 16, "hallo there", [0, 5])]),
        search(12, [hit(3, THIRD, 16, "hello there", [6, 11])]),
        search(12, [hit(3, THIRD, 16, "hello there")]),
        search(12, [hit(3, THIRD, 16, "hello", [0, 5])]),
        search(12, [hit(3, FIRST, 16, "hello there", [0, 5])]),
        search(12, [HIT_3], "hallo"),
        search(12, [HIT_3], '"there hello"'),
        search(12, [HIT_1, HIT_3]),
        search(12, [HIT_3, HIT_3]),
        search(12, [HIT_3, HIT_1], limit=1),
        search(12, [HIT_3], after=[T0 + 16_000, CHAT, 3]),
        search(12, [HIT_3], chat=command_id(ANNA, "another chat")),
        search(12, [HIT_3], caller=command_id(ANNA, "a stranger")),
        search(12, [HIT_3], token=token(10)),
    ),
    # The chat showed it before the state that the token stands for.
    Kind.READ_TOO_OLD: (
        read("page", 6, AT_4, after_seq=0, limit=1, token=token(6)),
        read("threads", 6, AT_5, token=token(6)),
        read("replies", 6, {**REPLIES, "position": 5, "last_seq": 2}, seq=1, after_seq=0, token=token(6)),
        read("edits", 6, NO_ITEMS, seq=1, token=token(6)),
        read("edits", 15, EDITS, seq=1, token=token(15)),
        read("reactions", 12, THUMB, seq=1, emoji=None, token=token(8)),
        read("receipts", 12, DELIVERED, seq=3, token=token(12)),
        search(12, [HIT_1], token=token(10)),
        search(12, [], "again", token=token(10)),
        search(12, [hit(1, FIRST, 2, "hello", [0, 5])], token=token(6)),
        search(13, [HIT_3, HIT_1], token=token(13)),
    ),
    # The command was sent only after the answer.
    Kind.READ_AHEAD: (
        read("page", 9, FIRST_PAGE, after_seq=0),
        read("threads", 9, THREADS),
        read("replies", 9, REPLIES, seq=1, after_seq=0),
        read("edits", 5, EDITS, seq=1),
        read("reactions", 7, REACTIONS, seq=1, emoji=None),
        read("receipts", 9, RECEIPTS, seq=3),
        search(9, [HIT_3, HIT_1]),
        search(8, [HIT_1], caller=BEN, token=token(8)),
    ),
}


@pytest.mark.parametrize(("kind", "spoiled"), [(kind, each) for kind, reads in SPOILED.items() for each in reads])
def test_a_spoiled_answer_is_found(kind: Kind, spoiled: Read) -> None:
    w = with_reads()
    spoiled.add_to(w)
    assert found(w) == {kind}


def test_each_kind_of_read_is_spoiled_in_each_way_that_it_can_be() -> None:
    kinds = {"page", "threads", "replies", "edits", "reactions", "receipts", "search"}
    spoiled = {kind: {each.kind for each in reads} for kind, reads in SPOILED.items()}
    assert spoiled == dict.fromkeys((Kind.READ_DIFFERS, Kind.READ_TOO_OLD, Kind.READ_AHEAD), kinds)


@pytest.mark.parametrize(
    "old",
    [
        read("page", 13, AT_4, after_seq=0, limit=1),
        read("threads", 13, AT_5),
        read("replies", 13, {**REPLIES, "position": 5, "last_seq": 2}, seq=1, after_seq=0),
        read("edits", 13, NO_ITEMS, seq=1),
        read("reactions", 13, THUMB, seq=1, emoji=None),
        read("receipts", 13, DELIVERED, seq=3),
        search(13, [hit(1, FIRST, 2, "hello", [0, 5])]),
    ],
)
def test_no_read_shows_less_than_another_kind_of_read_has_shown(old: Read) -> None:
    w = with_reads()
    old.add_to(w)
    assert found(w) == set(), "alone it is no step back"
    w = with_reads()
    read("page", 12, FIRST_PAGE, after_seq=0).add_to(w)
    old.add_to(w)
    assert found(w) == {Kind.READ_STEPPED_BACK}


@pytest.mark.parametrize(
    ("shown", "old"),
    [
        (read("threads", 12, THREADS), read("edits", 13, NO_ITEMS, seq=1)),
        (read("edits", 12, EDITS, seq=1), read("threads", 13, AT_5)),
        (read("reactions", 12, REACTIONS, seq=1, emoji=None), read("edits", 13, NO_ITEMS, seq=1)),
        (read("receipts", 12, RECEIPTS, seq=3), read("receipts", 13, DELIVERED, seq=3)),
        (search(12, [HIT_3, HIT_1]), read("reactions", 13, THUMB, seq=1, emoji=None)),
    ],
)
def test_a_read_without_a_position_shows_the_first_state_in_which_it_is_right(shown: Read, old: Read) -> None:
    w = with_reads()
    shown.add_to(w)
    assert found(w) == set()
    old.add_to(w)
    assert found(w) == {Kind.READ_STEPPED_BACK}


def test_what_a_search_has_found_the_next_one_finds() -> None:
    w = with_reads()
    search(11, [HIT_1]).add_to(w)
    search(11, [HIT_3, HIT_1]).add_to(w)
    assert found(w) == set(), "the index may be behind, and these overlap"
    search(12, [HIT_1]).add_to(w)
    assert found(w) == {Kind.READ_STEPPED_BACK}


def test_the_index_may_have_lost_a_message_that_history_still_shows() -> None:
    w = with_reads()
    search(13, [HIT_1], token=token(12)).add_to(w)
    read("page", 14, FIRST_PAGE, after_seq=0).add_to(w)
    assert found(w) == set(), "the search shows position 12, or 13; the page, later, 12"


def test_the_first_event_that_was_sent_later_bounds_a_read_whatever_was_sent_in_between() -> None:
    w = with_reads()
    edit, thumb = (next(op.op for op in w.ops if op.asked.get("key") == key) for key in ("e", "t"))
    w.edit_op(edit, asked_s=110.0)
    w.edit_op(thumb, asked_s=100.0)
    read("edits", 5, EDITS, seq=1).add_to(w)
    assert found(w) == {Kind.READ_AHEAD}


def test_an_answer_that_is_right_in_no_state_bounds_no_other() -> None:
    w = with_reads()
    read("edits", 9, {"items": [[0, "hallo", T0]]}, seq=1).add_to(w)
    read("edits", 12, NO_ITEMS, seq=1).add_to(w)
    assert [v.place for v in w.check().violations if v.kind in READS] == [w.ops[-2].place]


@pytest.mark.parametrize(
    ("query", "text", "matches"),
    [
        ("hello", "Hello, world", True),
        ("hel", "hello", True),
        ("he", "hello", False),
        ("hello wor", "the world says hello", True),
        ('"hello wor"', "hello world", False),
        ('"hello world"', "oh, hello world", True),
        ('"hello world"', "hello, big world", False),
        ('"http-0-17"', "http-0-17 äää", True),
        ('"http-0-1"', "http-0-17 äää", False),
        ("uber", "Über", True),
        ("edited 2", "edited 2", True),
        ("edited 2", "edited 3", False),
    ],
)
def test_the_checker_has_its_own_reading_of_the_searches_that_readers_make(
    query: str, text: str, matches: bool
) -> None:
    assert Query.of(query).matches(text) is matches
