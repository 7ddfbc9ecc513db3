"""The shape of a curated bug."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A bug: in `file`, `good` becomes `bad`. `check` is what pytest is asked for."""

    name: str
    file: str
    good: str
    bad: str
    check: str
