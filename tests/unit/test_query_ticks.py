"""Ticks from the two lowest cursors, against a model that asks every member."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from schemas.ids import UserId
from services.query.ticks import Ticks

users = st.sampled_from([UserId(name) for name in "abcde"])
cursors = st.dictionaries(users, st.tuples(st.integers(0, 8), st.integers(0, 8)))


def two_lowest(cursors_of: dict[UserId, int]) -> list[tuple[UserId, int]]:
    """What the index gives: ordered by (cursor, user), the first two."""
    return sorted(cursors_of.items(), key=lambda item: (item[1], item[0]))[:2]


@given(cursors, users, st.integers(1, 8))
def test_a_tick_says_what_every_other_present_member_has_passed(
    present: dict[UserId, tuple[int, int]], sender: UserId, seq: int
) -> None:
    ticks = Ticks(
        read=two_lowest({user: read for user, (read, _) in present.items()}),
        delivered=two_lowest({user: max(read, delivered) for user, (read, delivered) in present.items()}),
    )
    others = [marks for user, marks in present.items() if user != sender]
    if others and all(read >= seq for read, _ in others):
        expected = "read"
    elif others and all(max(read, delivered) >= seq for read, delivered in others):
        expected = "delivered"
    else:
        expected = "sent"
    assert ticks.status(sender, seq) == expected


def test_the_sender_s_own_lowest_cursor_does_not_hold_the_tick_back() -> None:
    ticks = Ticks(read=[(UserId("anna"), 0), (UserId("ben"), 5)], delivered=[(UserId("anna"), 0), (UserId("ben"), 5)])
    assert ticks.status(UserId("anna"), 5) == "read"
    assert ticks.status(UserId("ben"), 5) == "sent"


def test_alone_in_a_chat_everything_stays_sent() -> None:
    ticks = Ticks(read=[(UserId("anna"), 9)], delivered=[(UserId("anna"), 9)])
    assert ticks.status(UserId("anna"), 1) == "sent"


def test_who_has_left_still_sees_the_ticks_of_those_who_stayed() -> None:
    ticks = Ticks(read=[(UserId("ben"), 3)], delivered=[(UserId("ben"), 4)])
    assert ticks.status(UserId("gone"), 3) == "read"
    assert ticks.status(UserId("gone"), 4) == "delivered"
    assert ticks.status(UserId("gone"), 5) == "sent"
