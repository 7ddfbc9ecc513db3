"""The COPY bytes of plain messages: see _copy.pyx."""

from collections.abc import Callable

from schemas.wire._records import ScannedMessage
from services.projector.mapping.tables import MessageRow, OutcomeRow

def message_rows(rows: list[MessageRow | ScannedMessage], otherwise: Callable[[MessageRow], bytes]) -> bytes: ...
def outcome_rows(
    rows: list[OutcomeRow | ScannedMessage], partition: int, told: bytes, otherwise: Callable[[OutcomeRow], bytes]
) -> bytes: ...
