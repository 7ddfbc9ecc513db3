"""Plain sends decided the short way: see _sends.pyx."""

from collections.abc import Iterable, Sequence

from schemas.wire._records import OutcomeWriter, ScannedSend
from schemas.wire.encoding import Command
from services.sequencer.rules.state import AtHand, Changes

def decide_sends(
    commands: Iterable[Command | ScannedSend],
    layers: Sequence[AtHand | Changes],
    changes: Changes,
    writer: OutcomeWriter,
    at_ms: int,
    term: int,
    index: int,
    command_offset: int,
    source: bytes,
    size: int,
    most_bytes: int,
) -> tuple[int, ScannedSend | None, int, int, list[tuple[ScannedSend, int, int, int]], int]: ...
