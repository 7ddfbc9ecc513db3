"""The seeded mistakes: each is one switch, and each must be caught."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from tests.model.rule import (
    Classify,
    classify_any_opening,
    classify_opening_the_same_term_again,
    classify_without_copies,
    classify_without_fencing,
    classify_without_terms,
)


class Mistake(StrEnum):
    """A possible mistake. Each is one switch."""

    NO_TERM_CHECK = "outcomes are judged by their index alone"
    NO_FENCED_ROW = "the rule has no row for the fenced writer"
    NO_COPY_ROW = "the rule has no row for the repeated copy"
    SAME_TERM_OPENS = "an opening of the same term opens again"
    ANY_OPENING_OPENS = "an opening of an earlier term opens"
    NO_OFFSET_CHECK = "an acknowledgement at any offset counts, without a fold"
    OPENING_NOT_VERIFIED = "whether our opening opened is not looked at"
    OPENING_OF_ANY_OWNER = "an opening counts as ours whoever wrote it"
    NO_FOLD_THROUGH_OPENING = "the fold ends before the opening, what came between is not seen"
    REPLY_BEFORE_ACKNOWLEDGEMENT = "replies go out with the append"
    APPLY_BEFORE_ACKNOWLEDGEMENT = "the state moves on with the append"
    RESUME_AT_HEAD = "the next command is the one of the head, again"
    RESUME_PAST_NEXT = "the next command is left out"
    RETRY_ON_UNKNOWN = "after an unknown result the command is decided again, in the same term"
    GO_ON_AFTER_UNKNOWN = "an unknown result is taken for a good one"
    VOID_COUNTS = "a fold goes through the append, and its verdict is not looked at"
    LATER_TERM_ADOPTED = "another's later term found by a fold is written on in"
    OPENS_HEADS_TERM = "an opening does not raise the term"


RULES: Final[dict[Mistake, Classify]] = {
    Mistake.NO_TERM_CHECK: classify_without_terms,
    Mistake.NO_FENCED_ROW: classify_without_fencing,
    Mistake.NO_COPY_ROW: classify_without_copies,
    Mistake.SAME_TERM_OPENS: classify_opening_the_same_term_again,
    Mistake.ANY_OPENING_OPENS: classify_any_opening,
}


RESUME: Final = {Mistake.RESUME_AT_HEAD: 0, Mistake.RESUME_PAST_NEXT: 2}
"""Where a writer with such a mistake continues, from the head's command; 1 is correct."""
