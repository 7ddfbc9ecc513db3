"""Which changes of a chat fit one answer: pure.

Messages and members are in the order of their `changed_position`, and one event may change several of them: a message
and the root of its thread, or the first members of a chat. Those stay on one page, because a page continues after a
position.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Final, NamedTuple

MAX_ANSWER_BYTES: Final = 1024 * 1024
"""Maximum size of an answer's body. The changes of one event always fit."""
COMMA: Final = 1
MAX_POSITION: Final = 2**63 - 1


class Changed(NamedTuple):
    """A message or a member as the answer shows it."""

    changed_position: int
    texts: tuple[bytes, ...]
    """Its JSON in each list that it is in, empty if it is in that one no item."""

    @property
    def size(self) -> int:
        return sum(map(len, self.texts)) + COMMA * len(self.texts)


class Cut(NamedTuple):
    """A page: the changes up to `next_position`."""

    next_position: int
    has_more: bool

    def of(self, changes: Iterable[Changed]) -> list[Changed]:
        """Return those of the changes that are on the page."""
        return [each for each in changes if each.changed_position <= self.next_position]


def cut_oldest(position: int, lists: Sequence[tuple[Sequence[Changed], bool]], *, limit: int, budget: int) -> Cut:
    """Return the page that begins with the oldest changes.

    :param position: the chat's position, to which the last page leads.
    :param lists: changes in their order, and whether these are all there are.
    :param limit: maximum length of each list. This and the budget are exceeded only by what one event changed.
    :param budget: maximum size of all of them together.
    """
    upto = min(_last_within(limit, changes, all_of_them) for changes, all_of_them in lists)
    fitting, size = 0, 0
    for changed_position, group_size in _sizes(chain.from_iterable(changes for changes, _ in lists)):
        size += group_size
        if changed_position > upto or (fitting and size > budget):
            return Cut(fitting, has_more=True)
        fitting = changed_position
    return Cut(min(upto, position), has_more=upto < position)


def newest_that_fit(changes: Sequence[Changed], budget: int) -> list[Changed]:
    """Return the newest changes that fit, in their order."""
    size, kept = 0, len(changes)
    while kept and size + changes[kept - 1].size <= budget:
        kept -= 1
        size += changes[kept].size
    return list(changes[kept:])


def shares(wanted: Mapping[str, int], budget: int) -> dict[str, int]:
    """Divide a budget: none gets more than it wants, and what is left is divided equally among the others."""
    found: dict[str, int] = {}
    for name, size in sorted(wanted.items(), key=lambda each: each[1]):
        found[name] = min(size, max(0, budget) // (len(wanted) - len(found)))
        budget -= found[name]
    return found


def _last_within(limit: int, changes: Sequence[Changed], all_of_them: bool) -> int:
    """Return the last position that is within the limit and of which nothing is missing."""
    if not all_of_them:
        last = changes[-1].changed_position
        changes = [each for each in changes if each.changed_position < last] or changes
    if all_of_them and len(changes) <= limit:
        return MAX_POSITION
    return changes[:limit][-1].changed_position


def _sizes(changes: Iterable[Changed]) -> Iterable[tuple[int, int]]:
    """Return each position with the size of what changed there, in their order."""
    sizes: dict[int, int] = {}
    for each in changes:
        sizes[each.changed_position] = sizes.get(each.changed_position, 0) + each.size
    return sorted(sizes.items())
