"""How many examples a property test takes: an eighth in `make test`, all of them in `make proofs` and so in CI.

pytest -m examples --hypothesis-profile=all-examples
"""

from __future__ import annotations

from typing import Final

from hypothesis import settings

SOME_EXAMPLES: Final = "some-examples"
ALL_EXAMPLES: Final = "all-examples"
SHARE: Final = 8
FEWEST: Final = 40

# A time limit for each example would fail on a busy machine.
settings.register_profile(SOME_EXAMPLES, deadline=None, max_examples=FEWEST)
settings.register_profile(ALL_EXAMPLES, deadline=None)


def examples(count: int = 100) -> settings:
    """Return settings for `count` examples, or for a share of them by the profile that is loaded."""
    if settings.get_current_profile_name() != ALL_EXAMPLES:
        count = min(count, max(FEWEST, count // SHARE))
    return settings(deadline=None, max_examples=count)
