"""Delivery statuses from the lowest values of each column, against a model that checks every member."""

from __future__ import annotations

from typing import NamedTuple

from hypothesis import given
from hypothesis import strategies as st

from schemas.ids import UserId
from services.query.api.delivery_status import DeliveryCursors, status_at

users = st.sampled_from([UserId(name) for name in "abcde"])


class Cursors(NamedTuple):
    """A member's cursors: joining sets both to `joined`, and they only move forward."""

    joined: int
    read: int
    delivered: int


cursors = st.builds(
    lambda joined, read, delivered: Cursors(joined, joined + read, joined + delivered),
    *[st.integers(0, 5)] * 3,
)
members = st.dictionaries(users, cursors)


def two_lowest(of: dict[UserId, int]) -> list[tuple[UserId, int]]:
    """Return the first two by (value, user), like the index."""
    return sorted(of.items(), key=lambda item: (item[1], item[0]))[:2]


def cursors_of(present: dict[UserId, Cursors]) -> DeliveryCursors:
    return DeliveryCursors(
        read=two_lowest({user: at.read for user, at in present.items()}),
        delivered=two_lowest({user: max(at.read, at.delivered) for user, at in present.items()}),
        joined=two_lowest({user: at.joined for user, at in present.items()}),
    )


def status_of(cursors: DeliveryCursors, sender: UserId, seq: int) -> str:
    return status_at(cursors.steps_of(sender), seq)


@given(members, users, st.integers(1, 12))
def test_a_delivery_status_says_what_every_other_present_member_who_joined_before_has_passed(
    present: dict[UserId, Cursors], sender: UserId, seq: int
) -> None:
    asked = [at for user, at in present.items() if user != sender and at.joined < seq]
    if asked and all(at.read >= seq for at in asked):
        expected = "read"
    elif asked and all(max(at.read, at.delivered) >= seq for at in asked):
        expected = "delivered"
    else:
        expected = "sent"
    assert status_of(cursors_of(present), sender, seq) == expected


def test_the_sender_s_own_lowest_cursor_does_not_hold_the_delivery_status_back() -> None:
    cursors = cursors_of({UserId("anna"): Cursors(0, 0, 0), UserId("ben"): Cursors(0, 5, 5)})
    assert status_of(cursors, UserId("anna"), 5) == "read"
    assert status_of(cursors, UserId("ben"), 5) == "sent"


def test_alone_in_a_chat_everything_stays_sent() -> None:
    cursors = cursors_of({UserId("anna"): Cursors(0, 9, 9)})
    assert status_of(cursors, UserId("anna"), 1) == "sent"


def test_whoever_joined_at_or_after_a_message_says_nothing_about_it() -> None:
    cursors = cursors_of({UserId("anna"): Cursors(0, 0, 0), UserId("new"): Cursors(5, 9, 9)})
    assert [status_of(cursors, UserId("anna"), seq) for seq in (1, 5, 6, 9)] == ["sent", "sent", "read", "read"]


def test_someone_who_has_left_still_sees_the_delivery_status_of_those_who_stayed() -> None:
    cursors = cursors_of({UserId("ben"): Cursors(0, 3, 4)})
    assert status_of(cursors, UserId("gone"), 3) == "read"
    assert status_of(cursors, UserId("gone"), 4) == "delivered"
    assert status_of(cursors, UserId("gone"), 5) == "sent"
