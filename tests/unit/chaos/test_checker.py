"""The checker of the chaos runs finds each kind of violation, planted one by one into a small sound run."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path

import pytest

from schemas.errors import Reason
from tests.chaos import checker
from tests.chaos.acknowledged import REJECTIONS
from tests.chaos.evidence import Op, Record, Recorder, read_history, read_records, write_records
from tests.chaos.violations import Kind
from tests.oracle import oracle as rules
from tests.support.sound_run import (
    ANNA,
    BEN,
    CARL,
    CHAT,
    GONE,
    HELLO,
    REPLIED,
    REPLY,
    T0,
    P,
    World,
    command_id,
    problem,
    send,
    sent,
    sound,
)


def found(w: World) -> set[Kind]:
    return {violation.kind for violation in w.check().violations}


def test_a_sound_run_has_no_violations_and_everything_of_it_was_looked_at() -> None:
    report = sound().check()
    assert [str(v) for v in report.violations] == []
    assert (report.commands, report.terms, report.voids) == (9, 2, 1)
    assert report.outcomes == {"accepted": 5, "duplicate": 1, "rejected": 3}
    assert report.answers == 10 + 1 + 1, "outcomes and refusals, the acknowledged append, the status"
    assert (report.reads, report.tailed, report.rows) == (4, 12, 1 + 2 + 2 + 9 + 1)


def _index_left_out(w: World) -> None:
    w.edit_event(8, ce_id="2/7")


def _later_term_without_opening(w: World) -> None:
    w.edit_event(8, ce_id="3/6")


def _command_answered_twice(w: World) -> None:
    w.edit_event(9, ce_command="5")


def _no_stamp(w: World) -> None:
    w.edit_event(11, ce_id="nine")


def _hole_in_the_offsets(w: World) -> None:
    del w.events[3]


def _time_runs_back(w: World) -> None:
    w.edit_event(4, timestamp_ms=T0 + 2500)
    w.row("outcomes", 3)["at"] = T0 + 2500


def _seq_left_out(w: World) -> None:
    w.edit_event(8, ce_seq="3")


def _position_left_out(w: World) -> None:
    w.edit_event(9, ce_position="6")


def _one_key_two_messages(w: World) -> None:
    w.edit_event(3, ce_type="message.sent.v1", ce_position="3", ce_seq="2", value={"text": "hello"})


def _command_without_an_outcome(w: World) -> None:
    w.command("message.send.v1", ANNA, "k9", {"text": "and me?"})


def _command_passed_over(w: World) -> None:
    w.edit_event(11, ce_command="9", ce_commandid=command_id(ANNA, "k9"), ce_sender=ANNA, ce_clientid="k9")
    w.command("message.send.v1", ANNA, "k9", {"text": "and me?"})


def _outcome_of_no_command(w: World) -> None:
    w.edit_event(11, ce_command="99")


def _outcome_about_another_command(w: World) -> None:
    w.edit_event(9, ce_commandid=command_id(ANNA, "another"))


def _text_changed_on_the_way(w: World) -> None:
    w.edit_event(8, value={"text": "HI", "reply_to_message_id": command_id(ANNA, "k1")})


def _another_event_than_was_asked_for(w: World) -> None:
    w.edit_event(5, ce_type="delivered.advanced.v1")


def _accepted_from_a_stranger(w: World) -> None:
    w.edit_event(11, ce_type="message.sent.v1", ce_position="6", ce_seq="3", value={"text": "let me in"})


def _refused_without_reason(w: World) -> None:
    w.edit_event(8, ce_type="command.rejected.v1", value={"reason": "forbidden", "detail": "d"})


def _repeat_refused(w: World) -> None:
    w.edit_event(3, ce_type="command.rejected.v1", value={"reason": "conflict", "detail": "d"})


def _wrong_reason(w: World) -> None:
    w.edit_event(10, value={"command_type": "message.send.v1", "reason": "unknown_chat", "detail": "d"})


def _duplicate_with_other_figures(w: World) -> None:
    w.edit_event(3, value={"seq": 2, "position": 2, "sent_at_ms": T0 + 2000})


def _record_replaced_after_it_was_read(w: World) -> None:
    records = [[r.offset, r.digest] for r in w.events]
    records[7][1] = "0" * 16
    w.edit_op(15, answer={"records": records})


def _record_gone_after_it_was_read(w: World) -> None:
    w.edit_op(15, answer={"records": [[12, "0" * 16]]})


def _acknowledged_append_gone(w: World) -> None:
    w.edit_op(5, appended=(P, 50))


def _acknowledged_append_is_anothers(w: World) -> None:
    w.edit_op(5, appended=(P, 4))


def _created_and_not_there(w: World) -> None:
    w.op("command", send(ANNA, "k7", "where am I?"), sent(201, 3, 6, 10, 11))


def _reply_of_no_outcome(w: World) -> None:
    reply = {"outcome": "accepted", "partition": P, "index": 10, "seq": 3, "position": 6, "sent_at_ms": T0}
    w.op("command", send(ANNA, "k7", "where am I?", "kafka"), reply)


def _other_seq(w: World) -> None:
    w.answer(1, seq=2)
    w.answer(2, seq=2)


def _other_position(w: World) -> None:
    w.answer(5, position=5)


def _other_time(w: World) -> None:
    w.answer(5, sent_at_ms=T0 + 7999)


def _told_a_duplicate_was_new(w: World) -> None:
    w.edit_op(2, answer=sent(201, 1, 2, 3, 2))


def _other_text_was_accepted(w: World) -> None:
    w.edit_op(1, asked=send(ANNA, "k1", "hallo"))


def _other_read_seq(w: World) -> None:
    w.answer(4, read_seq=2)


def _status_of_a_lost_command(w: World) -> None:
    w.edit_op(12, answer={"http": 404, "body": {}})


def _status_with_other_figures(w: World) -> None:
    w.answer(12, seq=1)


def _status_rejected(w: World) -> None:
    w.edit_op(12, answer={"http": 200, "body": {"outcome": "rejected", "reason": "invalid"}})


def _repeat_with_another_seq(w: World) -> None:
    w.answer(2, seq=9)


def _two_firsts(w: World) -> None:
    w.op("command", send(ANNA, "k1", "hello"), sent(201, 1, 2, 2, 2))


def _conflict_that_was_accepted(w: World) -> None:
    w.edit_op(3, asked=send(ANNA, "k1", "hello"))


def _forbidden_that_was_accepted(w: World) -> None:
    w.edit_op(5, answer=problem(403, "not_member"), asked={**w.ops[5].asked, "via": "http"})


def _invalid_that_was_accepted(w: World) -> None:
    w.edit_op(5, answer=problem(422, "invalid"), asked={**w.ops[5].asked, "via": "http"})


def _refusal_out_of_nowhere(w: World) -> None:
    w.op("command", send(ANNA, "k8", "x"), problem(403, "not_member"))


def _one_refusal_told_twice(w: World) -> None:
    w.op("command", send(BEN, "k3", "still here?"), problem(403, "not_member"))


def _answered_before_it_was_sent_yet_behind(w: World) -> None:
    """k2 (outcome 6) is answered, then k1 (outcome 2) is sent for the first time."""
    for number in (1, 2, 3):
        w.edit_op(number, asked_s=50.0 + number, answered_s=50.5 + number)


def _unanswered_and_yet_too_early(w: World) -> None:
    w.edit_op(1, asked_s=50.0, answered_s=None, answer=None)
    w.edit_op(2, asked_s=51.0, answered_s=None, answer=None)
    w.edit_op(3, asked_s=52.0, answered_s=None, answer=None)


def _hole_in_a_page(w: World) -> None:
    w.edit_op(6, answer={"http": 200, "messages": [[2, REPLY]], "more": False})


def _short_page_with_more(w: World) -> None:
    w.edit_op(13, asked={"chat": CHAT, "after_seq": 0, "limit": 2})


def _two_orders_in_a_page(w: World) -> None:
    w.edit_op(6, answer={"http": 200, "messages": [[2, REPLY], [1, HELLO]], "more": False})


def _latest_steps_back(w: World) -> None:
    w.edit_op(7, answer={"http": 200, "seq": 1}, asked={"chat": CHAT})


def _page_ends_too_early(w: World) -> None:
    w.edit_op(13, answer={"http": 200, "messages": [[1, HELLO]], "more": False})


def _newest_page_is_old(w: World) -> None:
    w.edit_op(14, answer={"http": 200, "messages": [[1, HELLO]], "more": False})


def _chat_vanishes(w: World) -> None:
    w.edit_op(13, answer={"http": 404})


def _another_reader_steps_back(w: World) -> None:
    w.op("latest", {"chat": CHAT}, {"http": 200, "seq": 1}, client="another")


def _message_that_never_was(w: World) -> None:
    w.edit_op(14, answer={"http": 200, "messages": [[3, "0" * 16]], "more": False})


def _other_message_at_a_seq(w: World) -> None:
    w.edit_op(6, answer={"http": 200, "messages": [[1, REPLY], [2, HELLO]], "more": False})


def _latest_beyond_the_log(w: World) -> None:
    w.edit_op(7, answer={"http": 200, "seq": 3})
    del w.ops[13:15]


def _shown_before_it_was_sent(w: World) -> None:
    """The removal, position 5, is sent at 8 s (op 8); a page answered at 6.5 s shows it."""
    shown = {"http": 200, "messages": [[1, HELLO, {**REPLIED, "changed_position": 4}], [2, REPLY, {}]], "more": False}
    asked = {"chat": CHAT, "after_seq": 0, "limit": 10, "caller": ANNA}
    w.edit_op(6, asked=asked, answer={**shown, "position": 5, "last_seq": 2})


def _token_not_kept(w: World) -> None:
    w.edit_op(
        6,
        answer={"http": 200, "messages": [[1, HELLO]], "more": False},
        asked={"chat": CHAT, "after_seq": 0, "limit": 10, "token": f"{P}:6"},
    )


def _column_not_judged(w: World) -> None:
    """A migration added a column, and the oracle does not know what it should hold."""
    w.tables["chat_messages"][1]["pinned_at"] = None


def _row_missing(w: World) -> None:
    del w.tables["chat_messages"][1]


def _row_too_many(w: World) -> None:
    w.tables["chat_participants"].append(w.row("chat_participants") | {"user_id": CARL})


def _row_twice(w: World) -> None:
    w.tables["outcomes"].append(w.row("outcomes", 8))


def _void_record_counted(w: World) -> None:
    w.row("projection_positions")["term"] = 1


def _wrong_count(w: World) -> None:
    w.row("chat_participants", 1)["own_live_after_read"] = 2


def _wrong_text(w: World) -> None:
    w.row("chat_messages")["message_text"] = "hallo"


def _wrong_last_seq(w: World) -> None:
    w.row("chats")["last_seq"] = 1


def _receipt_with_a_seq(w: World) -> None:
    w.edit_event(5, ce_seq="2")


def _refusal_with_a_position(w: World) -> None:
    w.edit_event(10, ce_position="6")


PLANTED: list[tuple[Kind, Callable[[World], None]]] = [
    (Kind.LOG_CORRUPT, _index_left_out),
    (Kind.LOG_CORRUPT, _later_term_without_opening),
    (Kind.LOG_CORRUPT, _command_answered_twice),
    (Kind.LOG_CORRUPT, _no_stamp),
    (Kind.LOG_CORRUPT, _hole_in_the_offsets),
    (Kind.TIME, _time_runs_back),
    (Kind.SEQ, _seq_left_out),
    (Kind.SEQ, _receipt_with_a_seq),
    (Kind.POSITION, _position_left_out),
    (Kind.POSITION, _refusal_with_a_position),
    (Kind.ACCEPTED_TWICE, _one_key_two_messages),
    (Kind.COMMAND_SKIPPED, _command_without_an_outcome),
    (Kind.COMMAND_SKIPPED, _command_passed_over),
    (Kind.COMMAND_INVENTED, _outcome_of_no_command),
    (Kind.COMMAND_INVENTED, _outcome_about_another_command),
    (Kind.COMMAND_INVENTED, _text_changed_on_the_way),
    (Kind.COMMAND_INVENTED, _another_event_than_was_asked_for),
    (Kind.WRONG_DECISION, _accepted_from_a_stranger),
    (Kind.WRONG_DECISION, _refused_without_reason),
    (Kind.WRONG_DECISION, _repeat_refused),
    (Kind.WRONG_DECISION, _wrong_reason),
    (Kind.WRONG_DECISION, _duplicate_with_other_figures),
    (Kind.LOG_REWRITTEN, _record_replaced_after_it_was_read),
    (Kind.LOG_REWRITTEN, _record_gone_after_it_was_read),
    (Kind.COMMAND_LOST, _acknowledged_append_gone),
    (Kind.COMMAND_LOST, _acknowledged_append_is_anothers),
    (Kind.ANSWER_NOT_IN_LOG, _created_and_not_there),
    (Kind.ANSWER_NOT_IN_LOG, _reply_of_no_outcome),
    (Kind.ANSWER_DIFFERS, _other_seq),
    (Kind.ANSWER_DIFFERS, _other_position),
    (Kind.ANSWER_DIFFERS, _other_time),
    (Kind.ANSWER_DIFFERS, _told_a_duplicate_was_new),
    (Kind.ANSWER_DIFFERS, _other_text_was_accepted),
    (Kind.ANSWER_DIFFERS, _other_read_seq),
    (Kind.ANSWER_DIFFERS, _status_of_a_lost_command),
    (Kind.ANSWER_DIFFERS, _status_with_other_figures),
    (Kind.ANSWER_DIFFERS, _status_rejected),
    (Kind.REPEAT_DIFFERS, _repeat_with_another_seq),
    (Kind.TOLD_TWICE, _two_firsts),
    (Kind.REFUSED_YET_ACCEPTED, _conflict_that_was_accepted),
    (Kind.REFUSED_YET_ACCEPTED, _forbidden_that_was_accepted),
    (Kind.REFUSED_YET_ACCEPTED, _invalid_that_was_accepted),
    (Kind.REFUSAL_NOT_IN_LOG, _refusal_out_of_nowhere),
    (Kind.REFUSAL_NOT_IN_LOG, _one_refusal_told_twice),
    (Kind.REAL_TIME, _answered_before_it_was_sent_yet_behind),
    (Kind.REAL_TIME, _unanswered_and_yet_too_early),
    (Kind.READ_GAP, _hole_in_a_page),
    (Kind.READ_GAP, _short_page_with_more),
    (Kind.READ_GAP, _two_orders_in_a_page),
    (Kind.READ_STEPPED_BACK, _latest_steps_back),
    (Kind.READ_STEPPED_BACK, _page_ends_too_early),
    (Kind.READ_STEPPED_BACK, _newest_page_is_old),
    (Kind.READ_STEPPED_BACK, _chat_vanishes),
    (Kind.READ_STEPPED_BACK, _another_reader_steps_back),
    (Kind.READ_DIFFERS, _message_that_never_was),
    (Kind.READ_DIFFERS, _other_message_at_a_seq),
    (Kind.READ_DIFFERS, _latest_beyond_the_log),
    (Kind.READ_AHEAD, _shown_before_it_was_sent),
    (Kind.READ_TOO_OLD, _token_not_kept),
    (Kind.TABLE_DIFFERS, _column_not_judged),
    (Kind.TABLE_DIFFERS, _row_missing),
    (Kind.TABLE_DIFFERS, _row_too_many),
    (Kind.TABLE_DIFFERS, _row_twice),
    (Kind.TABLE_DIFFERS, _void_record_counted),
    (Kind.TABLE_DIFFERS, _wrong_count),
    (Kind.TABLE_DIFFERS, _wrong_text),
    (Kind.TABLE_DIFFERS, _wrong_last_seq),
]
IN_THE_LOG = {
    Kind.LOG_CORRUPT,
    Kind.TIME,
    Kind.SEQ,
    Kind.POSITION,
    Kind.ACCEPTED_TWICE,
    Kind.COMMAND_INVENTED,
    Kind.WRONG_DECISION,
}
"""Kinds that a wrong log may show in addition; other planted violations show only their own."""
ALSO: dict[Callable[[World], None], set[Kind]] = {
    _command_passed_over: {Kind.WRONG_DECISION, Kind.REFUSAL_NOT_IN_LOG, Kind.TABLE_DIFFERS, Kind.LOG_REWRITTEN},
    _repeat_with_another_seq: {Kind.ANSWER_DIFFERS},
    _forbidden_that_was_accepted: {Kind.REFUSAL_NOT_IN_LOG},
    _two_firsts: {Kind.REAL_TIME},
    _told_a_duplicate_was_new: {Kind.TOLD_TWICE},
    _short_page_with_more: {Kind.READ_STEPPED_BACK},
}


@pytest.mark.parametrize(
    ("kind", "plant"), PLANTED, ids=lambda value: getattr(value, "__name__", str(value)).strip("_")
)
def test_a_planted_violation_is_found(kind: Kind, plant: Callable[[World], None]) -> None:
    w = sound()
    plant(w)
    kinds = found(w)
    assert kind in kinds
    if kind not in IN_THE_LOG:
        assert kinds <= {kind} | ALSO.get(plant, set()), "what is sound is not complained of"


def test_every_kind_of_violation_is_planted() -> None:
    of_streams = {kind for kind in Kind if kind.startswith(("live_", "copy_"))}  # test_streams.py plants those
    assert {kind for kind, _ in PLANTED} == set(Kind) - of_streams


def _with_a_deletion() -> World:
    """The sound run continued: Anna, who owns the group, deletes Ben's message, then again, and then a missing one."""
    w = sound()
    w.command("message.delete.v1", ANNA, "d", {"seq": 2})
    w.outcome("2/10", "message.deleted.v1", 9, position=6)  # 12
    w.command("message.delete.v1", ANNA, "d2", {"seq": 2})
    w.outcome("2/11", "command.unchanged.v1", 10, {"position": 6})  # 13
    w.command("message.delete.v1", ANNA, "d3", {"seq": 3})
    rejected = {"command_type": "message.delete.v1", "reason": "unknown_message", "detail": "d"}
    w.outcome("2/12", "command.rejected.v1", 11, rejected)  # 14
    delete = {"via": "http", "type": "message.delete.v1", "chat": CHAT, "sender": ANNA, "key": "d", "body": {"seq": 2}}
    answer = {"chat_id": CHAT, "seq": 2, "position": 6, "token": f"{P}:10", "duplicate": False}
    w.op("command", delete, {"http": 200, "body": answer})  # 18
    again = {**delete, "key": "d2"}
    w.op("command", again, {"http": 200, "body": {**answer, "token": f"{P}:11"}})  # 19
    page = {"chat": CHAT, "after_seq": 1, "limit": 10}
    shown = {"http": 200, "messages": [[2, GONE]], "more": False}
    w.op("page", page, {**shown, "messages": [[2, REPLY]]}, client="r")  # 20: not yet
    w.op("page", {**page, "token": f"{P}:10"}, shown, client="r")  # 21
    w.op("page", page, shown, client="r")  # 22
    w.row("chats").update(last_position=6, deleted_total=1, changed_index=10)
    w.row("chat_participants", 1).update(own_live_after_read=0)
    w.row("chat_messages", 0).update(reply_count=0, last_reply_seq=None, changed_position=6)
    w.row("chat_messages", 1).update(message_text=None, deleted_at=T0 + 12_000, changed_position=6)
    for index, (key, kind) in enumerate((("d", "accepted"), ("d2", "unchanged"), ("d3", "rejected")), 10):
        w.tables["outcomes"].append(
            {
                "partition": P, "index": index, "command_id": command_id(ANNA, key), "sender_id": ANNA,
                "type": None if kind == "unchanged" else "message.delete.v1", "outcome": kind,
                "reason": "unknown_message" if kind == "rejected" else None, "seq": None,
                "position": None if kind == "rejected" else 6, "at": T0 + 1000 * (index + 2),
                "detail": "d" if kind == "rejected" else None,
            }
        )  # fmt: skip
    w.row("projection_positions").update(next_offset=15, index=12, command_offset=11, last_timestamp_ms=T0 + 14_000)
    return w


def test_a_sound_run_with_a_deletion_has_no_violations() -> None:
    assert [str(v) for v in _with_a_deletion().check().violations] == []


def _shown_again(w: World) -> None:
    w.edit_op(22, answer={"http": 200, "messages": [[2, REPLY]], "more": False})


def _shown_despite_a_token(w: World) -> None:
    w.edit_op(21, answer={"http": 200, "messages": [[2, REPLY]], "more": False})


def _deleted_twice(w: World) -> None:
    w.edit_event(13, ce_type="message.deleted.v1", value={"seq": 2}, ce_position="7")


def _unchanged_names_another_position(w: World) -> None:
    w.edit_event(13, value={"position": 5})


def _still_among_the_own(w: World) -> None:
    w.row("chat_participants", 1).update(own_live_after_read=1)


@pytest.mark.parametrize(
    ("plant", "kind"),
    [
        (_shown_again, Kind.READ_STEPPED_BACK),
        (_shown_despite_a_token, Kind.READ_TOO_OLD),
        (_deleted_twice, Kind.WRONG_DECISION),
        (_unchanged_names_another_position, Kind.WRONG_DECISION),
        (_still_among_the_own, Kind.TABLE_DIFFERS),
    ],
)
def test_what_is_wrong_about_a_deletion_is_found(plant: Callable[[World], None], kind: Kind) -> None:
    w = _with_a_deletion()
    plant(w)
    assert kind in found(w)


def test_a_refusal_of_one_copy_says_nothing_of_another_whose_answer_is_unknown() -> None:
    w = sound()
    w.edit_op(9, asked=send(BEN, "k2", "hi", reply_to_message_id=command_id(ANNA, "k1")))
    w.edit_op(5, answer=None, answered_s=None)
    kinds = found(w)
    assert Kind.REFUSED_YET_ACCEPTED not in kinds
    assert Kind.REFUSAL_NOT_IN_LOG in kinds, "yet the log has to have the refusal"


def test_overlapping_commands_may_stand_in_any_order() -> None:
    w = sound()
    for number in (1, 2, 3):
        w.edit_op(number, asked_s=0.6, answered_s=50.0 + number)
    assert found(w) == set()


def test_overlapping_reads_may_show_less() -> None:
    w = sound()
    w.op("latest", {"chat": CHAT}, {"http": 200, "seq": 1}, at_s=5.9, took_s=20.0)
    assert found(w) == set()


def test_the_clients_take_every_rejection_for_an_outcome() -> None:
    assert {reason.status for reason in Reason if reason.status} == REJECTIONS


def test_the_checker_imports_nothing_that_it_checks() -> None:
    chaos, oracle = Path(checker.__file__).parent, Path(rules.__file__).parent
    parts = {"acknowledged", "checker", "evidence", "found", "judged", "rows", "shown", "streamed", "violations"}
    modules = [path for path in chaos.glob("*.py") if path.stem in parts or path.stem.startswith("check_")]
    assert len(modules) == len(parts) + 7
    assert len(list(oracle.glob("*.py"))) == 9
    for module in (*modules, *oracle.glob("*.py")):
        allowed = (
            ("schemas.ids", "tests.oracle")
            if module.parent == oracle
            else ("schemas.ids", "tests.oracle", "tests.chaos")
        )
        for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                top = name.split(".")[0]
                ours = top in ("services", "schemas", "devstack", "tests")
                assert not ours or name.startswith(allowed), f"{module} imports {name}"


def test_a_history_is_read_back_as_it_was_recorded(tmp_path: Path) -> None:
    clock = iter([1.0, 2.0, 3.0, 4.0])
    recorder = Recorder(tmp_path / "h.jsonl", lambda: next(clock))
    first = recorder.ask("p-1", "command", via="kafka", chat=CHAT)
    second = recorder.ask("r-1", "latest", chat=CHAT)
    recorder.appended(first, 1, 7)
    recorder.answer(first, {"outcome": "accepted"})
    recorder.close()
    with (tmp_path / "h.jsonl").open("a") as file:
        file.write('{"op": 2, "s": 5.0, "is": "ans')  # cut off
    one, two = read_history(tmp_path / "h.jsonl")
    assert one == Op(
        op=first, client="p-1", kind="command", asked={"via": "kafka", "chat": CHAT}, asked_s=1.0, appended=(1, 7),
        answer={"outcome": "accepted"}, answered_s=4.0,
    )  # fmt: skip
    assert (two.op, two.answer, two.answered_s) == (second, None, None)


@pytest.mark.parametrize("value", [b"", b"{}", "ä".encode(), b"\xff\x00", b"base64:trick"])
def test_records_are_read_back_byte_for_byte(tmp_path: Path, value: bytes) -> None:
    records = [
        Record(partition=1, offset=2, timestamp_ms=3, key=None, value=value, headers=(("h", value), ("h", b"2")))
    ]
    write_records(tmp_path / "r.jsonl", records)
    assert read_records(tmp_path / "r.jsonl") == records
    assert read_records(tmp_path / "r.jsonl")[0].digest == records[0].digest
