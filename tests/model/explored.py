"""The result of an exploration."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from tests.model.mistakes import Mistake
from tests.model.rule import Row
from tests.model.values import Bounds, Summary


@dataclass(slots=True)
class Explored:
    """The result of an exploration."""

    bounds: Bounds
    mistake: Mistake | None
    reduced: bool
    states: int = 0
    transitions: int = 0
    depth: int = 0
    seconds: float = 0.0
    kinds: Counter[str] = field(default_factory=Counter)
    """Transitions by kind of step; a landing's kind names the rows of the rule."""
    tails: frozenset[Summary] = frozenset()
    """Every summary of a whole log that was found."""
    violation: str | None = None
    trace: list[str] = field(default_factory=list)
    """The steps that lead to the violation."""

    def rows(self) -> Counter[Row]:
        """Return the number of records that landed, by row of the rule."""
        found: Counter[Row] = Counter()
        for kind, count in self.kinds.items():
            if kind.startswith("lands "):
                for name in kind.removeprefix("lands ").split(",")[0].split("+"):
                    found[Row[name]] += count
        return found

    def __str__(self) -> str:
        """Return the result as text."""
        lines = [
            f"{self.bounds}" + (" (reduced: copies without number)" if self.reduced else ""),
            f"{self.states:,} states, {self.transitions:,} transitions, depth {self.depth}, {self.seconds:.1f} s",
        ]
        if self.violation is None:
            lines += [f"{count:12,}  {kind}" for kind, count in self.kinds.most_common()]
        else:
            lines += [*self.trace, f"VIOLATION  {self.violation}"]
        return "\n".join(lines)
