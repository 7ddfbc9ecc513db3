"""The table of all folds: which rows each event type implies."""

from __future__ import annotations

from typing import Final

from services.ops.verify.projection import chats, members, messages, reactions, receipts
from services.ops.verify.projection.statements import Fold

FOLDS: Final[dict[str, Fold]] = {
    **chats.FOLDS, **members.FOLDS, **messages.FOLDS, **reactions.FOLDS, **receipts.FOLDS
}  # fmt: skip
"""Folds by event type."""
PLANNED: Final = messages.PLANNED
"""Declared event types that no release writes yet: they are unknown to the fold."""
