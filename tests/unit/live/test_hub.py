"""What a reader gets, by example. All orders of all of it: test_streams_of_a_hub.py."""

from __future__ import annotations

from typing import Final

import pytest

from schemas.ids import token
from schemas.sync_cursor import SyncCursor, decode_sync_cursor
from services.live.frames import control
from services.live.frames.frame import Form
from services.live.hub import hub as hub_module
from services.live.hub.hub import CaughtUp, NotCovered, NotReached
from services.live.hub.stream import Stream
from tests.unit.live.process import BIG, Process, frames, kinds
from tests.unit.live.sockets import Socket
from tests.unit.live.world import CHATS, LOG_ID, PARTITION_OF, PARTITIONS, SMALL, USERS

ANNA, BEN, CARL, DORA = USERS
CHAT: Final = CHATS[0]
ELSEWHERE: Final = next(chat for chat in CHATS if PARTITION_OF[chat] != PARTITION_OF[CHAT])


def test_a_reader_who_joined_meanwhile_gets_nothing_of_before() -> None:
    process = Process()
    process.create(CHAT, ANNA)
    process.learn(BEN)
    stream, socket = process.stream(BEN)
    process.send(CHAT, ANNA, "before")
    joined = process.add(CHAT, ANNA, BEN)
    after = process.send(CHAT, ANNA, "after")
    assert process.hub.catch_up(stream) is CaughtUp.LIVE
    assert kinds(socket) == [("member", joined.position), ("message", after.position)]


def test_a_reader_who_left_and_came_back_meanwhile_gets_nothing_of_between() -> None:
    process = Process()
    process.create(CHAT, ANNA, BEN)
    stream, socket = process.stream(BEN)
    before = process.send(CHAT, ANNA)
    process.remove(CHAT, ANNA, BEN)
    process.send(CHAT, ANNA)
    again = process.add(CHAT, ANNA, BEN)
    after = process.send(CHAT, ANNA)
    process.hub.catch_up(stream)
    assert kinds(socket) == [
        ("message", before.position),
        ("removed", None),
        ("member", again.position),
        ("message", after.position),
    ]


def test_a_removal_that_was_taken_before_a_gap_does_not_hide_what_comes_after_it() -> None:
    """The stream saw the removal, then it was paused until the ring no longer had the return."""
    process = Process(ring_bytes=3_000)
    process.create(CHAT, ANNA, BEN)
    stream, socket = process.stream(BEN, high=1)
    process.remove(CHAT, ANNA, BEN)
    assert process.hub.catch_up(stream) is CaughtUp.LATER
    process.add(CHAT, ANNA, BEN)
    for _ in range(5):
        process.send(CHAT, ANNA)
    assert [frame["type"] for frame in frames(socket)] == ["removed"]
    assert process.hub.catch_up(stream) is CaughtUp.MISSED
    at = process.world.end() | {PARTITION_OF[CHAT]: process.head(CHAT) - 1}
    process.hub.skip(stream, process.hub.missed_partitions(stream), process.world.standing(BEN, at))
    assert [frame["type"] for frame in frames(socket)] == ["gap"]
    process.hub.catch_up(stream)
    assert kinds(socket) == [("message", 8)]


def test_the_first_cursor_of_a_reader_who_comes_back_claims_nothing_that_is_still_to_be_said() -> None:
    """Cut after `ready`, the reader comes back with its cursor."""
    process = Process()
    process.create(CHAT, ANNA, BEN)
    process.create(ELSEWHERE, ANNA)
    process.learn(BEN)
    since = SyncCursor(LOG_ID, {PARTITION_OF[CHAT]: process.head(CHAT)})
    process.remove(CHAT, ANNA, BEN)
    process.add(ELSEWHERE, ANNA, BEN)
    stream, _ = process.stream(BEN)
    assert process.hub.start_at(since, stream) == [ELSEWHERE], "a gap of it follows"
    assert decode_sync_cursor(process.hub.cursor_of(stream)) == since


def test_a_chat_of_a_partition_of_which_nothing_is_projected_yet_is_followed() -> None:
    process = Process()
    process.create(CHAT, ANNA, BEN)
    nothing = dict.fromkeys(range(PARTITIONS), 0)
    assert process.learn(BEN, nothing, with_empty=False).chats == {CHAT}


def test_memberships_are_those_of_the_snapshot_and_of_the_events_after_it() -> None:
    process = Process()
    process.create(CHAT, ANNA, BEN)
    process.create(ELSEWHERE, ANNA)
    snapshot = process.world.end()
    process.remove(CHAT, ANNA, BEN)
    process.add(ELSEWHERE, ANNA, BEN)
    assert process.learn(BEN, snapshot).chats == {ELSEWHERE}


def test_what_comes_at_once_is_written_at_once_and_memberships_change_in_between() -> None:
    process = Process()
    process.create(CHAT, ANNA, BEN)
    _, of_ben = process.live(BEN)
    _, of_anna = process.live(ANNA, Form.WEBSOCKET)
    writes = []
    of_anna.on_write = lambda data: writes.append(len(data))
    process.takes = False
    process.send(CHAT, ANNA)
    process.send(CHAT, BEN)
    process.remove(CHAT, ANNA, BEN)
    process.send(CHAT, ANNA)
    process.add(CHAT, ANNA, BEN)
    process.send(CHAT, ANNA)
    process.take()
    assert kinds(of_anna) == [
        ("message", 2),
        ("message", 3),
        ("member", 4),
        ("message", 5),
        ("member", 6),
        ("message", 7),
    ]
    assert len(writes) == 3, "before each change of memberships, and at the end"
    assert kinds(of_ben) == [("message", 2), ("message", 3), ("removed", None), ("member", 6), ("message", 7)]


def test_a_snapshot_that_the_hub_has_not_reached_is_not_used() -> None:
    """Its members are those of later: Ben joins after the event that the hub takes next."""
    process = Process()
    process.create(CHAT, ANNA)
    process.takes = False
    process.send(CHAT, ANNA)
    process.add(CHAT, ANNA, BEN)
    with pytest.raises(NotReached):
        process.learn(BEN)
    process.take()
    assert process.learn(BEN).chats == {CHAT}


def test_a_stream_does_not_go_on_from_a_snapshot_that_the_hub_has_not_reached() -> None:
    """Ben would get `removed`, and after it the event before it."""
    process = Process(ring_bytes=3_000)
    process.create(CHAT, ANNA, BEN)
    stream, socket = process.stream(BEN)
    for _ in range(5):
        process.send(CHAT, ANNA)
    process.takes = False
    process.send(CHAT, ANNA)
    process.remove(CHAT, ANNA, BEN)
    missed = process.hub.missed_partitions(stream)
    with pytest.raises(NotReached):
        process.hub.skip(stream, missed, process.world.standing(BEN, process.world.end()))
    assert not frames(socket)


def test_a_snapshot_from_before_the_ring_is_not_used() -> None:
    process = Process(ring_bytes=3_000)
    process.create(CHAT, ANNA, BEN)
    snapshot = process.world.end()
    for _ in range(5):
        process.send(CHAT, ANNA)
    with pytest.raises(NotCovered):
        process.learn(BEN, snapshot)


def test_a_stream_of_one_chat_ends_with_the_membership() -> None:
    process = Process()
    process.create(CHAT, ANNA, BEN)
    stream, socket = process.live(BEN, Form.SSE_OF_A_CHAT, only=frozenset((CHAT,)), ends_with_chat=True)
    process.remove(CHAT, ANNA, BEN)
    process.add(CHAT, ANNA, BEN)
    process.send(CHAT, ANNA)
    assert kinds(socket) == [("removed", None)]
    assert socket.closed == "removed"
    assert process.hub.catch_up(stream) is CaughtUp.CLOSED


def test_a_stream_of_one_chat_that_goes_on_after_the_removal_ends() -> None:
    """The user was a member when it was asked for; the snapshot from which it goes on is of after the removal."""
    process = Process()
    process.create(CHAT, ANNA, BEN)
    process.learn(BEN)
    process.remove(CHAT, ANNA, BEN)
    stream, socket = process.stream(BEN, Form.SSE_OF_A_CHAT, only=frozenset((CHAT,)), ends_with_chat=True)
    assert process.hub.catch_up(stream) is CaughtUp.CLOSED
    assert kinds(socket) == [("removed", None)]
    assert socket.closed == "removed"


def test_a_stream_that_a_gap_closed_is_written_nothing_more() -> None:
    process = Process(ring_bytes=3_000)
    process.create(CHAT, ANNA, BEN)
    stream, socket = process.stream(BEN, Form.SSE_OF_A_CHAT, only=frozenset((CHAT,)), ends_with_chat=True)
    process.remove(CHAT, ANNA, BEN)
    snapshot = process.world.end()
    process.add(CHAT, ANNA, BEN)
    process.send(CHAT, ANNA)
    process.hub.skip(stream, process.hub.missed_partitions(stream), process.world.standing(BEN, snapshot))
    assert process.hub.catch_up(stream) is CaughtUp.CLOSED
    assert kinds(socket) == [("removed", None)]


def test_a_paused_stream_goes_on_after_the_last_frame_it_was_written() -> None:
    process = Process()
    process.create(CHAT, ANNA, BEN)
    stream, socket = process.live(BEN, high=1)
    first = process.send(CHAT, ANNA)
    assert (stream.is_live, socket.is_paused) == (False, True)
    assert process.hub.catch_up(stream) is CaughtUp.LATER
    others = [process.send(CHAT, ANNA) for _ in range(2)]
    assert kinds(socket) == [("message", first.position)]
    assert process.hub.catch_up(stream) is CaughtUp.LATER
    assert kinds(socket) == [("message", event.position) for event in others], "as much at once as a piece holds"
    assert process.hub.catch_up(stream) is CaughtUp.LIVE
    assert kinds(socket) == []


def test_a_paused_stream_of_one_chat_misses_nothing_of_other_partitions() -> None:
    process = Process(ring_bytes=3_000)
    process.create(CHAT, ANNA, BEN)
    process.create(ELSEWHERE, ANNA)
    stream, socket = process.live(BEN, Form.SSE_OF_A_CHAT, only=frozenset((CHAT,)), ends_with_chat=True, high=1)
    sent = process.send(CHAT, ANNA)
    for _ in range(5):
        process.send(ELSEWHERE, ANNA)
    assert kinds(socket) == [("message", sent.position)]
    assert process.hub.catch_up(stream) is CaughtUp.LIVE


def test_a_stream_that_fell_out_of_the_ring_is_told_of_the_chats_that_changed() -> None:
    process = Process(ring_bytes=3_000)
    process.create(ELSEWHERE, ANNA, BEN)
    process.create(CHAT, ANNA, BEN)
    stream, socket = process.live(BEN, high=1)
    for _ in range(6):
        process.send(CHAT, ANNA)
    assert len(kinds(socket)) == 1
    assert process.hub.catch_up(stream) is CaughtUp.MISSED
    missed = process.hub.missed_partitions(stream)
    snapshot = process.world.end() | {PARTITION_OF[CHAT]: process.head(CHAT) - 1}
    process.hub.skip(stream, missed, process.world.standing(BEN, snapshot))
    gap = {"type": "gap", "chat_id": CHAT, "token": token(PARTITION_OF[CHAT], snapshot[PARTITION_OF[CHAT]])}
    assert frames(socket) == [gap]
    process.hub.catch_up(stream)
    assert kinds(socket) == [("message", 7)]


def test_nothing_of_a_chat_comes_after_the_removal_until_the_reader_is_a_member_again() -> None:
    process = Process()
    process.create(CHAT, ANNA, BEN)
    _, socket = process.live(BEN)
    process.remove(CHAT, ANNA, BEN)
    process.send(CHAT, ANNA)
    again = process.add(CHAT, ANNA, BEN)
    assert kinds(socket) == [("removed", None), ("member", again.position)]


def test_a_signal_goes_to_the_others_who_are_live_in_the_chat() -> None:
    process = Process()
    process.create(CHAT, ANNA, BEN)
    process.create(ELSEWHERE, ANNA, CARL)
    sockets = {user: process.live(user)[1] for user in (ANNA, BEN, CARL)}
    process.hub.signal(CHAT, ANNA, control.signal("typing", CHAT, ANNA, "started", 6))
    assert {user: [frame["type"] for frame in frames(socket)] for user, socket in sockets.items()} == {
        ANNA: [], BEN: ["typing"], CARL: [],
    }  # fmt: skip


def test_a_chat_joined_and_left_since_the_cursor_is_told_as_removed() -> None:
    """The reader got its events after the cursor, and would always show it."""
    process = Process()
    process.create(ELSEWHERE, ANNA)
    process.create(CHAT, ANNA, BEN)
    process.learn(BEN)
    first, socket = process.live(BEN)
    process.hub.say_cursors()
    (cursor,) = [decode_sync_cursor(frame["cursor"]) for frame in frames(socket)]
    assert cursor.indexes.keys() == {PARTITION_OF[CHAT]}
    process.add(ELSEWHERE, ANNA, BEN)
    process.hub.forget(first)
    process.remove(ELSEWHERE, ANNA, BEN)
    socket = Socket(Form.SSE, high=BIG, wrote=lambda _: None)
    stream = Stream(first.user, socket, Form.SSE)
    assert process.hub.start_at(cursor, stream) == []
    process.hub.open(stream)
    process.hub.catch_up(stream)
    assert frames(socket) == [{"type": "removed", "chat_id": ELSEWHERE}]
    process.hub.say_cursors()
    (cursor,) = [decode_sync_cursor(frame["cursor"]) for frame in frames(socket)]
    assert cursor.indexes.keys() == {PARTITION_OF[CHAT], PARTITION_OF[ELSEWHERE]}, "it is told once"


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "SMALL_CHAT_MEMBERS", SMALL)


@pytest.mark.usefixtures("_small")
def test_of_a_large_chat_a_reader_gets_their_own_receipts_and_others_only_on_request() -> None:
    process = Process()
    process.create(CHAT, ANNA, BEN, CARL)
    process.send(CHAT, ANNA)
    _, some = process.live(BEN)
    _, every = process.live(BEN, all_receipts=True)
    theirs = process.read(CHAT, CARL, 1)
    own = process.read(CHAT, BEN, 1)
    assert kinds(some) == [("receipt", own.position)]
    assert kinds(every) == [("receipt", theirs.position), ("receipt", own.position)]


@pytest.mark.usefixtures("_small")
@pytest.mark.parametrize("of_before", [True, False])
def test_how_large_a_chat_is_follows_from_the_snapshot_and_the_events_after_it(
    of_before: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    process = Process()
    with monkeypatch.context() as forgetful:
        forgetful.setattr(hub_module, "REMEMBERED_SIZES", 0)
        process.create(CHAT, ANNA, BEN)
        process.send(CHAT, ANNA)
        before = process.world.end()
        process.add(CHAT, ANNA, CARL)
    process.learn(BEN, before if of_before else None)
    _, socket = process.live(BEN)
    process.read(CHAT, CARL, 1)
    assert kinds(socket) == [], "of three members"
    left = process.remove(CHAT, ANNA, CARL)
    receipt = process.read(CHAT, ANNA, 1)
    # The snapshot of after says that there are more than two, not how many: large until it is read again.
    assert kinds(socket) == [("member", left.position)] + [("receipt", receipt.position)] * of_before


@pytest.mark.usefixtures("_small")
def test_a_chat_too_large_to_be_counted_is_large_after_one_member_left(monkeypatch: pytest.MonkeyPatch) -> None:
    process = Process()
    with monkeypatch.context() as forgetful:
        forgetful.setattr(hub_module, "REMEMBERED_SIZES", 0)
        process.create(CHAT, ANNA, BEN, CARL, DORA)
        process.send(CHAT, ANNA)
    _, socket = process.live(BEN)
    left = process.remove(CHAT, ANNA, DORA)
    process.read(CHAT, CARL, 1)
    assert kinds(socket) == [("member", left.position)]


@pytest.mark.usefixtures("_small")
def test_as_many_sizes_are_remembered_as_fit_and_an_unknown_one_holds_no_receipt_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    process = Process()
    for chat in (CHAT, ELSEWHERE):
        process.create(chat, ANNA, BEN, CARL)
        process.send(chat, ANNA)
    monkeypatch.setattr(hub_module, "REMEMBERED_SIZES", 1)
    _, socket = process.live(BEN)
    receipts = [process.read(chat, CARL, 1) for chat in (CHAT, ELSEWHERE)]
    assert len(kinds(socket)) == len(receipts) - 1
