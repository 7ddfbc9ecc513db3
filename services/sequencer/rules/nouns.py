"""The rule of each command type, from the files of the nouns."""

from __future__ import annotations

from typing import Final

from schemas.types import CommandType
from services.sequencer.rules import chats, members, messages, reactions, receipts
from services.sequencer.rules.rule import Rule

RULES: Final[dict[CommandType, Rule]] = {
    **chats.RULES,
    **members.RULES,
    **messages.RULES,
    **reactions.RULES,
    **receipts.RULES,
}
PLANNED: Final = messages.PLANNED
"""Types that the contract declares and no rule decides yet: the sequencer rejects them as `unknown_type`. A type gets
its rule after its rows in the projector, because a reader stops at an outcome that it does not know."""
