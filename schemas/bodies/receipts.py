"""The body of a receipt: a read or a delivered mark."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from schemas import limits
from schemas.bodies.body import Body
from schemas.checks import check_number


class Mark(Body, frozen=True):
    up_to_seq: Annotated[int, Meta(extra_json_schema={"minimum": 0, "maximum": limits.SAFE_INTEGER})]

    def check_limits(self) -> None:
        check_number(self.up_to_seq, "/up_to_seq", 0)
