"""The protocol as a small model, every state of it: two writers that decide differently, and all fates of appends.

The rule is the production function (tests/model/rule.py). By hand, at other sizes: `python -m tests.model --help`.
"""

from __future__ import annotations

from functools import cache

import pytest

from tests.model.explored import Explored
from tests.model.explorer import explore
from tests.model.mistakes import Mistake
from tests.model.rule import Row
from tests.model.values import Bounds

ONCE_EACH = Bounds(commands=3, starts=1, batch=2, copies=1)
"""One opening each, with all fates of appends: abandoned, late, twice, acknowledged late or by their copy."""
AGAIN = Bounds(commands=2, starts=2, batch=1, copies=0)
"""Writers that open again, with the state they kept or without."""

PLAIN = {ONCE_EACH: 61_134, AGAIN: 566_590}
SIZES = [ONCE_EACH, pytest.param(AGAIN, marks=pytest.mark.proof)]
"""Explored as they are; the numbers of states, so that a search that lost some is noticed."""

REDUCED = {
    Bounds(commands=3, starts=2, batch=2): 64_981,
    Bounds(commands=4, starts=2, batch=2): 173_861,
}
"""Explored with the reductions that tests/model/reductions.py justifies."""

FIRST_FOUND_AT = {
    Mistake.NO_COPY_ROW: Bounds(commands=2, starts=1, copies=1),
    Mistake.APPLY_BEFORE_ACKNOWLEDGEMENT: Bounds(commands=2, starts=2, batch=1, copies=0),
}
"""The smallest bounds that show a mistake, if not the usual ones."""


@cache
def _explored(bounds: Bounds, *, reduced: bool = False) -> Explored:
    """Explore each once, for all tests."""
    return explore(bounds, reduced=reduced)


def _to_the_end(explored: Explored) -> Explored:
    print(explored)
    assert explored.violation is None, str(explored)
    return explored


@pytest.mark.parametrize("bounds", SIZES, ids=str)
def test_no_state_breaks_an_invariant(bounds: Bounds) -> None:
    explored = _to_the_end(_explored(bounds))
    assert explored.states == PLAIN[bounds]


@pytest.mark.proof
@pytest.mark.parametrize("bounds", REDUCED, ids=str)
def test_no_state_breaks_an_invariant_however_far_it_goes(bounds: Bounds) -> None:
    explored = _to_the_end(_explored(bounds, reduced=True))
    assert explored.states == REDUCED[bounds]
    assert {tail.command for tail in explored.tails} == set(range(-1, bounds.commands))
    assert max(tail.term for tail in explored.tails) == 2 * bounds.starts, "each writer opened as often as it may"


def test_every_row_of_the_rule_and_both_branches_of_step_6_are_reached() -> None:
    explored = _to_the_end(_explored(ONCE_EACH))
    rows = explored.rows()
    assert set(rows) == set(Row) - {Row.CORRUPT}, "and correct writers never write what the last row is for"
    assert all(explored.kinds[kind] for kind in ("equal", "fold through", "void", "superseded", "unknown", "crash"))
    corrupt = explore(Bounds(commands=2, starts=1, copies=0), Mistake.RESUME_AT_HEAD)
    assert corrupt.rows()[Row.CORRUPT], "the last row is reached by a writer that is not correct"


@pytest.mark.parametrize("bounds", SIZES, ids=str)
def test_the_reductions_leave_out_no_log(bounds: Bounds) -> None:
    """The reduced exploration reaches the same logs as the plain one, and no others."""
    assert _explored(bounds, reduced=True).tails == _explored(bounds).tails


@pytest.mark.parametrize("mistake", Mistake, ids=lambda mistake: mistake.name)
def test_each_mistake_is_caught_and_told(mistake: Mistake) -> None:
    explored = explore(FIRST_FOUND_AT.get(mistake, Bounds(commands=2, starts=1, copies=0)), mistake)
    assert explored.violation is not None, f"nothing shows that {mistake.value}"
    assert explored.trace
    print(explored)
