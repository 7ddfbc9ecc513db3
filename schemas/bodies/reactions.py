"""The body of a reaction, added or removed."""

from __future__ import annotations

from schemas.bodies.body import Body
from schemas.checks import check_emoji, check_number


class Reaction(Body, frozen=True):
    seq: int
    emoji: str

    def check_limits(self) -> None:
        check_number(self.seq, "/seq", 1)
        check_emoji(self.emoji)
