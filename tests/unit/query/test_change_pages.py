"""Pages of changes against a model that has all changes of a chat."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from services.query.api.change_pages import Changed, cut_oldest, newest_that_fit, shares

Sizes = list[tuple[int, int]]
sizes = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 40)), max_size=40)
"""(position, size) of what changed; several may have one position."""


def changes_of(of: Sizes) -> list[Changed]:
    return [Changed(position, (b"x" * size,)) for position, size in sorted(of)]


def fetched(changes: list[Changed], after: int, random: Random) -> tuple[list[Changed], bool]:
    """Return the first changes after a position, at least what one event changed, and whether these are all."""
    there = [each for each in changes if each.changed_position > after]
    at_least = sum(each.changed_position == there[0].changed_position for each in there) if there else 0
    found = there[: random.randint(at_least, len(there))]
    return found, len(found) == len(there)


@given(sizes, sizes, st.integers(1, 6), st.integers(1, 200), st.randoms(use_true_random=False))
def test_the_pages_together_have_every_change_once_in_their_order(
    messages: Sizes, members: Sizes, limit: int, budget: int, random: Random
) -> None:
    lists = [changes_of(messages), changes_of(members)]
    position = max((each.changed_position for changes in lists for each in changes), default=0) + 2
    found: list[list[Changed]] = [[], []]
    after = 0
    while True:
        there = [fetched(changes, after, random) for changes in lists]
        cut = cut_oldest(position, there, limit=limit, budget=budget)
        page = [cut.of(changes) for changes, _ in there]
        assert cut.next_position > after
        positions = {each.changed_position for changes in page for each in changes}
        if len(positions) > 1:  # else it is what one event changed
            assert sum(each.size for changes in page for each in changes) <= budget
            assert all(len({c.changed_position for c in changes[limit - 1 :]}) <= 1 for changes in page)
        found = [before + now for before, now in zip(found, page, strict=True)]
        after = cut.next_position
        if not cut.has_more:
            break
    assert after == position
    assert found == lists


@given(sizes, st.integers(0, 300))
def test_the_newest_that_fit_are_the_last_ones(of: Sizes, budget: int) -> None:
    changes = changes_of(of)
    kept = newest_that_fit(changes, budget)
    assert kept == changes[len(changes) - len(kept) :]
    assert sum(each.size for each in kept) <= budget
    if len(kept) < len(changes):
        assert sum(each.size for each in changes[-1 - len(kept) :]) > budget


@given(st.dictionaries(st.text(max_size=3), st.integers(0, 50), max_size=8), st.integers(0, 200))
def test_a_budget_is_divided_so_that_only_those_get_less_who_want_more_than_the_others_get(
    wanted: dict[str, int], budget: int
) -> None:
    found = shares(wanted, budget)
    assert found.keys() == wanted.keys()
    assert all(found[name] <= size for name, size in wanted.items())
    assert sum(found.values()) <= budget
    short = [name for name, size in wanted.items() if found[name] < size]
    if short:
        assert sum(found.values()) > budget - len(wanted)
        assert min(found[name] for name in short) >= max(found.values()) - 1
