"""Pages of history against a model that uses the whole chat."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.query.api import windows
from services.query.api.windows import MAX_SEQ, Page, Window, cut


def fetch(window: Window, seqs: list[int]) -> tuple[list[int], list[int]]:
    """Return what the SQL returns: both sides of the split, outward, each limited."""
    below = [s for s in reversed(seqs) if s < window.split][: window.fetch_below]
    above = [s for s in seqs if s >= window.split][: window.fetch_above]
    return below, above


def page(window: Window, seqs: list[int]) -> Page[int]:
    return cut(window, *fetch(window, seqs))


chats = st.lists(st.integers(1, 60), unique=True).map(sorted)
"""Any set of seqs: with a sender filter they are not dense."""
limits = st.integers(1, 12)
bounds = st.one_of(st.integers(0, 65), st.integers(MAX_SEQ - 2, MAX_SEQ))


@given(chats, limits)
def test_the_newest_page_is_the_end_of_the_chat(seqs: list[int], limit: int) -> None:
    found = page(windows.newest(limit), seqs)
    assert found.rows == seqs[-limit:]
    assert found.has_more_before is (len(seqs) > limit)
    assert found.has_more_after is False


@given(chats, bounds, limits)
def test_before_gives_the_last_ones_below_the_bound(seqs: list[int], bound: int, limit: int) -> None:
    found = page(windows.before(bound, limit), seqs)
    lower = [s for s in seqs if s < bound]
    assert found.rows == lower[-limit:]
    assert found.has_more_before is (len(lower) > limit)
    assert found.has_more_after is any(s >= bound for s in seqs)


@given(chats, bounds, limits)
def test_after_gives_the_first_ones_above_the_bound(seqs: list[int], bound: int, limit: int) -> None:
    found = page(windows.after(bound, limit), seqs)
    higher = [s for s in seqs if s > bound]
    assert found.rows == higher[:limit]
    assert found.has_more_after is (len(higher) > limit)
    assert found.has_more_before is any(s <= bound for s in seqs)


@given(chats, bounds, limits)
def test_around_gives_one_run_of_the_chat_with_the_bound_in_it(seqs: list[int], bound: int, limit: int) -> None:
    found = page(windows.around(bound, limit), seqs)
    assert len(found.rows) == min(limit, len(seqs)), "a side that is short leaves its share to the other"
    if seqs:
        first = seqs.index(found.rows[0])
        assert found.rows == seqs[first : first + limit]
        assert found.has_more_before is (first > 0)
        assert found.has_more_after is (first + limit < len(seqs))
    else:
        assert not found.has_more_before
        assert not found.has_more_after
    if bound in seqs:
        assert bound in found.rows


@given(st.integers(1, 200), limits)
def test_around_centres_where_both_sides_have_enough(bound: int, limit: int) -> None:
    found = page(windows.around(bound, limit), list(range(1, 401)))
    before, after = bound - found.rows[0], found.rows[-1] - bound
    if bound > limit:
        assert before - after in (0, 1)


@given(chats, limits)
def test_walking_back_from_the_newest_page_meets_every_message_once(seqs: list[int], limit: int) -> None:
    walked: list[int] = []
    found = page(windows.newest(limit), seqs)
    while found.rows:
        walked = found.rows + walked
        assert found.has_more_before is (found.rows[0] != seqs[0])
        found = page(windows.before(found.rows[0], limit), seqs)
    assert walked == seqs


@given(chats, limits)
def test_walking_forward_from_zero_meets_every_message_once(seqs: list[int], limit: int) -> None:
    walked: list[int] = []
    found = page(windows.after(0, limit), seqs)
    while found.rows:
        walked += found.rows
        assert found.has_more_after is (found.rows[-1] != seqs[-1])
        found = page(windows.after(found.rows[-1], limit), seqs)
    assert walked == seqs


@pytest.mark.parametrize("window", [windows.after(MAX_SEQ, 5), windows.before(MAX_SEQ, 5), windows.around(MAX_SEQ, 5)])
def test_the_highest_bound_still_fits_bigint(window: Window) -> None:
    assert window.split <= MAX_SEQ
