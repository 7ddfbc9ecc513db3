"""Following a chat, without a network: the event stream, what is new of it, and the lines that are printed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ops.cli.chat_lines import line_of
from services.ops.following.event_stream import EventStreamParser, StreamEvent
from services.ops.following.followed_chat import FollowedChat

ANNA = "11111111-1111-4111-8111-111111111111"
CARL = "33333333-3333-4333-8333-333333333333"
BEN = "22222222-2222-4222-8222-222222222222"


def events(*pieces: bytes) -> list[StreamEvent]:
    parser = EventStreamParser()
    return [event for piece in pieces for event in parser.feed(piece)]


@pytest.mark.parametrize(
    ("stream", "found"),
    [
        (b"data: a\n\n", [("message", "a")]),
        (b"event: x\ndata: a\ndata:b\n\n", [("x", "a\nb")]),
        (b"data:  a\r\n\r\ndata: b\r\rdata\n\n", [("message", " a"), ("message", "b"), ("message", "")]),
        (b":\n\n: comment\nretry: 5\nother: 1\n\n", []),
        (b"event: x\n\ndata: a\n\n", [("message", "a")]),
        (b"\xef\xbb\xbfdata: a\n\ndata: cut", [("message", "a")]),
        ("data: ü \u2028 \x85 \x0b\n\n".encode(), [("message", "ü \u2028 \x85 \x0b")]),
    ],
)
def test_an_event_stream_is_read_as_the_standard_says(stream: bytes, found: list[tuple[str, str]]) -> None:
    assert events(stream) == found
    assert events(*(stream[n : n + 1] for n in range(len(stream)))) == found


@given(
    st.lists(
        st.sampled_from([b"data: a", b"data: \xf0\x9f\x91\x8d", b"event: x", b"id: 7", b"", b"\r", b"\n", b"\r\n"])
    ),
    st.data(),
)
def test_however_a_stream_is_cut_into_pieces_its_events_are_the_same(parts: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)))))
    pieces = [stream[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    # A CR at the end is held back until what follows is known.
    assert events(*pieces, b"x") == events(stream, b"x")


def test_a_block_with_an_id_and_no_data_is_no_event() -> None:
    assert events(b"id: c1\n\nid: c2\ndata: a\n\n") == [("message", "a")]


def message(seq: int, position: int) -> dict[str, Any]:
    return {"seq": seq, "position": position, "chat_id": "c"}


def sent(seq: int, position: int, prev: int | None) -> dict[str, Any]:
    return {"type": "message", "position": position, "prev": prev, "message": message(seq, position)}


def test_what_a_page_had_is_not_shown_again_by_the_stream() -> None:
    chat = FollowedChat()
    assert [frame["message"]["seq"] for frame in chat.of_page([message(1, 1), message(2, 3), message(3, 4)])] == [
        1,
        2,
        3,
    ]
    chat.caught_up(2)  # of the first page: seqs 2 and 3 came while others were read
    edit = {"type": "edited", "position": 5, "prev": 4, "seq": 1}
    frames = [sent(1, 1, None), sent(2, 3, 1), sent(3, 4, 3), edit, edit, sent(4, 6, 5)]
    assert [chat.of_stream(frame) for frame in frames] == [None, None, None, edit, None, frames[-1]]
    assert list(chat.of_page([message(4, 6)])) == []
    assert (chat.position, chat.last_seq) == (6, 4)


def test_a_frame_whose_predecessor_was_not_received_is_noticed() -> None:
    chat = FollowedChat()
    chat.caught_up(5)
    assert not chat.misses_something_before(sent(1, 6, 5))
    assert not chat.misses_something_before(sent(1, 6, 3)), "receipts have positions too"
    assert not chat.misses_something_before(sent(1, 6, None)), "the process does not know it"
    assert not chat.misses_something_before({"type": "receipt", "position": 9})
    assert chat.misses_something_before(sent(1, 8, 7))


def changes(*, messages: Sequence[Any] = (), members: Sequence[Any] = (), name: str = "ops") -> dict[str, Any]:
    return {"chat": {"chat_id": "c", "name": name}, "messages": messages, "members": members}


def member(user_id: str, role: str, left_at: str | None = None) -> dict[str, Any]:
    return {"user_id": user_id, "role": role, "left_at": left_at}


def test_changes_say_what_differs_from_what_was_shown() -> None:
    chat = FollowedChat(after_seq=2)
    chat.name, chat.roles = "ops", {ANNA: "owner", BEN: "member"}
    edited = message(1, 1) | {"changed_position": 9}
    assert list(chat.of_changes(changes(messages=[edited, message(3, 8)]))) == [
        {"type": "changed", "chat_id": "c", "position": 9, "message": edited}
    ], "a new message is read from history, in the order of seqs"
    read = changes(members=[member(ANNA, "owner"), member(BEN, "member")])
    assert list(chat.of_changes(read)) == [], "only their cursors have changed"
    assert [
        (f["user_id"], f["change"])
        for f in chat.of_changes(changes(members=[member(BEN, "admin"), member(CARL, "member")]))
    ] == [
        (BEN, "role"),
        (CARL, "added"),
    ]
    gone = {"type": "member", "position": 10, "user_id": CARL, "change": "removed"}
    assert chat.of_stream(gone) == gone
    assert [
        f["change"] for f in chat.of_changes(changes(members=[member(BEN, "admin", AT), member(CARL, "member", AT)]))
    ] == ["removed"]
    assert list(chat.of_changes(changes(name="new"))) == [{"type": "chat", "chat_id": "c", "name": "new"}]
    assert list(chat.of_changes(changes(name="new"))) == []


def test_signals_have_no_position_and_change_none() -> None:
    chat = FollowedChat()
    typing = {"type": "typing", "chat_id": "c", "user_id": BEN, "state": "started"}
    assert chat.of_stream(typing) == typing
    assert chat.position == 0


AT = "2026-01-31T12:00:01.045Z"
OF_A_MESSAGE: dict[str, Any] = {
    "seq": 7, "sender_id": BEN, "text": "one\ntwo", "sent_at": AT, "deleted_at": None, "media_urls": [], "revision": 0,
    "reactions": [],
}  # fmt: skip


@pytest.mark.parametrize(
    ("frame", "line"),
    [
        ({"type": "message", "message": OF_A_MESSAGE}, "     7  12:00:01  22222222  one\ntwo"),
        (
            {
                "type": "message",
                "message": OF_A_MESSAGE
                | {"sender_id": ANNA, "revision": 2, "reactions": [{"emoji": "👍", "count": 2, "mine": True}]},
            },
            "     7  12:00:01  you       one\ntwo  (edited)  👍 2",
        ),
        ({"type": "message", "message": OF_A_MESSAGE | {"deleted_at": AT}}, "     7  12:00:01  22222222  (deleted)"),
        ({"type": "edited", "seq": 7, "text": "x", "by": BEN, "at": AT}, "        12:00:01  22222222  edited 7: x"),
        ({"type": "deleted", "seq": 7, "by": ANNA, "at": AT}, "        12:00:01  you       deleted 7"),
        (
            {"type": "reaction", "seq": 7, "emoji": "👍", "change": "added", "by": BEN, "at": AT},
            "        12:00:01  22222222  reacted to 7 with 👍",
        ),
        (
            {"type": "reaction", "seq": 7, "emoji": "👍", "change": "removed", "by": BEN, "at": AT},
            "        12:00:01  22222222  no longer reacts to 7 with 👍",
        ),
        (
            {"type": "member", "user_id": BEN, "change": "added", "role": "member", "by": ANNA, "at": AT},
            "        12:00:01  you       added 22222222 member",
        ),
        (
            {"type": "member", "user_id": BEN, "change": "role", "role": "admin", "by": ANNA, "at": AT},
            "        12:00:01  you       made 22222222 admin",
        ),
        (
            {"type": "member", "user_id": BEN, "change": "removed", "by": BEN, "at": AT},
            "        12:00:01  22222222  left",
        ),
        (
            {"type": "chat", "kind": "group", "name": "ops", "created_by": ANNA, "members": [ANNA, BEN], "at": AT},
            "        12:00:01  you       created the chat with you, 22222222",
        ),
        ({"type": "chat", "name": "x", "by": BEN, "at": AT}, "        12:00:01  22222222  renamed the chat: x"),
        ({"type": "receipt", "user_id": BEN, "read_seq": 7, "at": AT}, "        12:00:01  22222222  has read up to 7"),
        (
            {"type": "receipt", "user_id": BEN, "delivered_seq": 7, "at": AT},
            "        12:00:01  22222222  has received up to 7",
        ),
        (
            {"type": "changed", "message": OF_A_MESSAGE | {"revision": 1}},
            "     7  12:00:01  22222222  is now: one\ntwo  (edited)",
        ),
        (
            {"type": "member", "user_id": BEN, "change": "removed", "role": None},
            "                  22222222  is no longer a member",
        ),
        (
            {"type": "member", "user_id": BEN, "change": "role", "role": "admin"},
            "                  22222222  is admin now",
        ),
        ({"type": "chat", "name": "x"}, "                            renamed the chat: x"),
        ({"type": "typing", "user_id": BEN, "state": "started"}, None),
    ],
)
def test_the_line_of_each_frame(frame: dict[str, Any], line: str | None) -> None:
    assert line_of(frame, me=ANNA) == line
