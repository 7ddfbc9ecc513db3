"""What an outcome changes in the state: pure, and the same for the live path and for recovery.

Functions of rules read the state through `view` and write new values into `changes`, which lie over it. The outcomes of
a batch share one `changes`, so that an outcome allocates no container of its own. After an error `changes` is invalid.
This file has what all types share; the files of the nouns change the state for each type.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from schemas.commands import digest
from schemas.errors import LogCorrupt, UnknownType
from schemas.events import AcceptedOutcome, Outcome
from schemas.types import EventType
from schemas.wire.records import command_key
from services.sequencer.rules.nouns import RULES
from services.sequencer.rules.state import REVISION, StateChanges, View, pack_dedup

_NO_EFFECT: Final = frozenset({EventType.DUPLICATE.value, EventType.UNCHANGED.value, EventType.REJECTED.value})
_EVOLVE: Final[dict[str, tuple[Callable[[View, AcceptedOutcome, StateChanges], int | None], str, bool]]] = {
    each.declared.event.value: (rule.evolve, each.value, each.declared.keyed) for each, rule in RULES.items()
}
"""By the type of the outcome: its function, its command type, and whether that has a key."""


def evolve(view: View, outcome: Outcome, changes: StateChanges) -> None:
    """Add the values that a valid outcome changes. `view` shows what `changes` holds already.

    Raises UnknownType for an outcome type introduced after this build, LogCorrupt for an outcome that cannot follow the
    state: to go on would pass this reader's gap on to every other.
    """
    if outcome.type in _NO_EFFECT:
        return
    known = _EVOLVE.get(outcome.type)
    if known is None or type(outcome) is not AcceptedOutcome:
        raise UnknownType(
            f"outcome type {outcome.type!r:.100}: deploy the newer sequencer before its commands are sent"
        )
    evolve_accepted, command_type, keyed = known
    revision = evolve_accepted(view, outcome, changes)
    # Without a key nothing is remembered: whatever `ce_id` the record of a receipt has, it was never checked.
    if outcome.client_generated_id is not None and keyed:
        if outcome.command_id is None:
            raise LogCorrupt(f"an accepted {outcome.type} without command_id")
        try:
            key = command_key(outcome.chat_id, outcome.command_id)
        except ValueError:
            raise LogCorrupt(
                f"an accepted {outcome.type} of command {outcome.command_id!r:.80}, which is no id"
            ) from None
        number = (outcome.seq or 0) if revision is None else REVISION + revision
        changes.dedup[key] = pack_dedup(digest(command_type, outcome.body), number, outcome.position, outcome.at_ms)
