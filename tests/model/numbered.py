"""Values by number: a state is a few numbers, and a million of them fit in memory."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T", bound=Hashable)


class Numbered(Generic[T]):
    """Values and their numbers, in the order in which they were found."""

    def __init__(self, bits: int, swapped: Callable[[T], T]) -> None:
        self.values: list[T] = []
        self._numbers: dict[T, int] = {}
        self._limit = 1 << bits
        self._swapped = swapped
        self._mirror: dict[int, int] = {}

    def number(self, value: T) -> int:
        found = self._numbers.get(value)
        if found is None:
            found = self._numbers[value] = len(self.values)
            self.values.append(value)
            assert found < self._limit, "the bounds are too wide for a packed state"
        return found

    def mirror(self, number: int) -> int:
        """Return the number of the same value with A and B exchanged."""
        found = self._mirror.get(number)
        if found is None:
            found = self._mirror[number] = self.number(self._swapped(self.values[number]))
            self._mirror[found] = number
        return found
