"""The ring: what it keeps, and where it says that a reader stands."""

from __future__ import annotations

from typing import Final

from services.live.hub.ring import Ring
from tests.unit.live.process import Process
from tests.unit.live.world import CHATS, PARTITION_OF, USERS

ANNA, BEN, CARL, DORA = USERS
CHAT: Final = CHATS[0]
BESIDE: Final = next(chat for chat in CHATS[1:] if PARTITION_OF[chat] == PARTITION_OF[CHAT])
ELSEWHERE: Final = next(chat for chat in CHATS if PARTITION_OF[chat] != PARTITION_OF[CHAT])
PARTITION: Final = PARTITION_OF[CHAT]


def ring_of(process: Process) -> Ring:
    return process.hub.ring


def test_a_place_after_a_position_is_right_before_the_next_event_of_the_chat() -> None:
    process = Process()
    first = process.create(CHAT, ANNA)
    process.create(BESIDE, ANNA)
    second = process.send(CHAT, ANNA)
    last = process.send(CHAT, ANNA)
    ring = ring_of(process)
    assert [ring.index_at(CHAT, position) for position in (0, 1, 2, 3, 9)] == [
        first.index - 1, first.index, second.index, last.index, last.index,
    ]  # fmt: skip
    found = ring.of_chat(CHAT, {PARTITION: first.index})
    assert [entry.position for entry in found] == [second.position, last.position]


def test_a_place_before_what_the_ring_has_of_the_chat_is_not_known() -> None:
    process = Process(ring_bytes=4_000)
    process.create(CHAT, ANNA)
    for _ in range(6):
        process.send(CHAT, ANNA)
    ring = ring_of(process)
    (oldest, *_) = ring.of_chat(CHAT, {PARTITION: 0})
    assert oldest.position > 2
    assert ring.index_at(CHAT, oldest.position - 2) is None
    assert ring.index_at(CHAT, oldest.position - 1) == oldest.index - 1
    assert ring.covers(PARTITION, oldest.index - 1)
    assert not ring.covers(PARTITION, oldest.index - 2)


def test_the_end_of_a_chat_whose_events_have_all_left_the_ring_is_a_place_in_the_ring() -> None:
    process = Process(ring_bytes=3_000)
    last = process.create(CHAT, ANNA)
    process.create(BESIDE, ANNA)
    for _ in range(5):
        process.send(BESIDE, ANNA)
    ring = ring_of(process)
    index = ring.index_at(CHAT, last.position)
    assert index is not None
    assert ring.covers(PARTITION, index)
    assert ring.index_at(CHAT, last.position - 1) is None


def test_nothing_is_known_of_a_chat_that_was_quiet_since_the_process_began() -> None:
    assert ring_of(Process()).index_at(CHAT, 7) is None
