"""What `gapless log tail` prints of each record."""

from __future__ import annotations

from schemas.events import OtherOutcome
from schemas.log import Stamp
from schemas.wire.encoding import Encoded, Undecodable, encode_outcome, event_source
from services.ops.inspect.tail import PartitionTail
from tests.support.chat_log import ANNA, ChatLog


def _log() -> ChatLog:
    log = ChatLog()
    log.open()
    log.create(ANNA, "ops")
    return log


def _verdicts(log: ChatLog, *, from_beginning: bool = True) -> list[str | None]:
    tail = PartitionTail(0, from_beginning=from_beginning)
    return [tail.take(record).verdict for record in log.events]


def test_a_void_record_that_cannot_be_read_is_void_and_the_verdicts_go_on() -> None:
    log = _log()
    void = encode_outcome(OtherOutcome(type="message.sent.v1", at_ms=1, body=b"{}"), Stamp(0, 1, 0), event_source(0))
    log.append(Encoded(None, b"", [(name, b"\xff" if name == "ce_type" else value) for name, value in void.headers], 1))
    log.create(ANNA, "news")
    tail = PartitionTail(0, from_beginning=True)
    seen = [tail.take(record) for record in log.events]
    assert [each.verdict for each in seen] == ["opens", "valid", "void", "valid"]
    assert (seen[2].stamp, seen[2].outcome) == (Stamp(0, 1, 0), None)
    assert "is no outcome" in (seen[2].trouble or "")


def test_no_record_after_one_that_cannot_be_passed_has_a_verdict() -> None:
    log = _log()
    log.index += 1
    log.create(ANNA, "news")
    log.create(ANNA, "more")
    assert _verdicts(log) == ["opens", "valid", "corrupt", None]


def test_a_term_opened_in_a_newer_way_is_no_corrupt_log() -> None:
    log = _log()
    newer = OtherOutcome(type="term.merged.v1", at_ms=1, body=b"{}")
    log.append(encode_outcome(newer, Stamp(2, 0, -1), event_source(0)))
    assert _verdicts(log) == ["opens", "valid", "unknown_type"]


def test_from_the_middle_of_the_log_only_what_cannot_be_read_has_a_verdict() -> None:
    assert _verdicts(_log(), from_beginning=False) == [None, None]
    unreadable = PartitionTail(0, from_beginning=False).take(Undecodable(7, "a CRC that is wrong"))
    assert (unreadable.verdict, unreadable.trouble) == ("corrupt", "the record cannot be decoded: a CRC that is wrong")
