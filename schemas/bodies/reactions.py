"""The body of a reaction, added or removed."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from schemas import limits
from schemas.bodies.body import Body, Seq
from schemas.checks import EMOJI_PATTERN, check_emoji, check_number

Emoji = Annotated[
    str,
    Meta(
        extra_json_schema={
            "minLength": 1,
            "maxLength": limits.EMOJI_BYTES,
            "x-max-bytes": limits.EMOJI_BYTES,
            "pattern": f"^{EMOJI_PATTERN}$",
        }
    ),
]


class Reaction(Body, frozen=True):
    seq: Seq
    emoji: Emoji

    def check_limits(self) -> None:
        check_number(self.seq, "/seq", 1)
        check_emoji(self.emoji)
