"""Plain sends decided on the fast path: see _sends.pyx."""

from collections.abc import Iterable, Sequence

from schemas.wire._records import OutcomeWriter, ScannedSend
from schemas.wire.records import CommandRead
from services.sequencer.rules.state import Prefetched, StateChanges

def decide_sends(
    commands: Iterable[CommandRead],
    layers: Sequence[Prefetched | StateChanges],
    changes: StateChanges,
    writer: OutcomeWriter,
    at_ms: int,
    term: int,
    index: int,
    command_offset: int,
    source: bytes,
    size: int,
    most_bytes: int,
) -> tuple[int, ScannedSend | None, int, int, list[tuple[ScannedSend, int, int, int]], int]: ...
