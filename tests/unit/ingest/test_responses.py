from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec.structs import replace

from schemas.errors import Reason
from schemas.events import OutcomeKind
from schemas.ids import ChatId, CommandId, UserId
from schemas.types import CommandType
from schemas.wire.encoding import Command
from schemas.wire.replies import Reply
from services.ingest.api import responses
from services.ingest.api.paths import chats, members, messages, receipts
from services.ingest.api.responses import changed
from services.ingest.sending.pending import Pending
from services.runtime.web.problems import Problem

CHAT = ChatId("f89e858f-5f2e-5152-b188-6a52cbec990b")
ALICE = UserId("11111111-1111-4111-8111-111111111111")
COMMAND_ID = CommandId("c6e6b694-c64b-5364-9024-70428ec7b06e")
COMMAND = Command(offset=-1, type="", body=b"", chat_id=CHAT, sender_id=ALICE, command_id=COMMAND_ID)


def reply(outcome: OutcomeKind, **figures: Any) -> Reply:
    return Reply(request_id="r", outcome=outcome, partition=5, index=1042, command_offset=99, **figures)


def rejection(reason: Reason, detail: str = "because of this") -> Problem:
    with pytest.raises(Problem) as caught:
        chats.chat_opened(COMMAND, reply(OutcomeKind.REJECTED, reason=reason, detail=detail))
    return caught.value


SENT = {"seq": 7, "position": 9, "sent_at_ms": 1_769_860_800_045}


def test_a_new_message_is_201_with_its_figures_and_its_place() -> None:
    answer = messages.message_sent(COMMAND, reply(OutcomeKind.ACCEPTED, **SENT))
    assert answer.status == 201
    assert answer.headers == {"Location": f"/v1/chats/{CHAT}/messages/7"}
    assert json.loads(answer.body) == {
        "message_id": COMMAND_ID,
        "chat_id": CHAT,
        "seq": 7,
        "position": 9,
        "sent_at": "2026-01-31T12:00:00.045Z",
        "token": "5:1042",
        "duplicate": False,
    }


@pytest.mark.parametrize("outcome", [OutcomeKind.ACCEPTED, OutcomeKind.DUPLICATE])
def test_the_answer_to_a_send_is_written_as_its_model_would_be(outcome: OutcomeKind) -> None:
    body = messages.message_sent(COMMAND, reply(outcome, **SENT)).body
    assert messages.MessageSent.model_validate_json(body, strict=True).model_dump_json().encode() == body


def test_a_repeat_is_200_with_the_originals_figures_and_its_own_token() -> None:
    original = messages.message_sent(COMMAND, reply(OutcomeKind.ACCEPTED, **SENT))
    repeat = messages.message_sent(COMMAND, reply(OutcomeKind.DUPLICATE, **SENT))
    assert repeat.status == 200
    assert json.loads(repeat.body) == json.loads(original.body) | {"duplicate": True}
    assert repeat.headers == original.headers


@pytest.mark.parametrize(
    ("outcome", "status", "duplicate"),
    [(OutcomeKind.ACCEPTED, 201, False), (OutcomeKind.DUPLICATE, 200, True), (OutcomeKind.UNCHANGED, 200, False)],
)
def test_a_chat_is_201_once_and_200_again(outcome: OutcomeKind, status: int, duplicate: bool) -> None:
    answer = chats.chat_opened(COMMAND, reply(outcome, position=1))
    assert answer.status == status
    assert json.loads(answer.body) == {"chat_id": CHAT, "position": 1, "token": "5:1042", "duplicate": duplicate}


def test_an_unchanged_direct_chat_may_have_no_position() -> None:
    assert json.loads(chats.chat_opened(COMMAND, reply(OutcomeKind.UNCHANGED)).body)["position"] is None


@pytest.mark.parametrize("outcome", [OutcomeKind.ACCEPTED, OutcomeKind.DUPLICATE, OutcomeKind.UNCHANGED])
def test_a_changed_member_is_200_whatever_was_before(outcome: OutcomeKind) -> None:
    answer = changed(members.MemberChanged, COMMAND, reply(outcome, position=3), user_id=ALICE)
    assert answer.status == 200
    assert json.loads(answer.body) == {
        "chat_id": CHAT,
        "user_id": ALICE,
        "position": 3,
        "token": "5:1042",
        "duplicate": outcome is OutcomeKind.DUPLICATE,
    }


def test_a_mark_tells_how_far_the_cursor_moved_and_its_token_in_a_header() -> None:
    answer = receipts.marked(COMMAND, reply(OutcomeKind.ACCEPTED, updated_count=3, read_seq=10))
    assert (answer.status, json.loads(answer.body)) == (200, {"updated_count": 3, "read_seq": 10})
    assert answer.headers == {"Gapless-Token": "5:1042"}


def test_a_mark_that_is_not_ahead_moved_nothing() -> None:
    answer = receipts.marked(COMMAND, reply(OutcomeKind.UNCHANGED, read_seq=10))
    assert json.loads(answer.body) == {"updated_count": 0, "read_seq": 10}


@pytest.mark.parametrize(
    ("reason", "status"),
    [
        (Reason.MALFORMED, 400),
        (Reason.NOT_MEMBER, 403),
        (Reason.FORBIDDEN, 403),
        (Reason.UNKNOWN_CHAT, 404),
        (Reason.UNKNOWN_MESSAGE, 404),
        (Reason.CHAT_EXISTS, 409),
        (Reason.TOO_LARGE, 413),
        (Reason.CONFLICT, 422),
        (Reason.INVALID, 422),
        (Reason.UNKNOWN_TYPE, 501),
    ],
)
def test_a_rejection_is_the_problem_of_its_reason(reason: Reason, status: int) -> None:
    problem = rejection(reason)
    assert (problem.status, problem.reason) == (status, reason.value)


def test_every_reason_of_the_contract_has_an_answer() -> None:
    assert {reason for reason in Reason if rejection(reason).status == 500} == {Reason.WRONG_PARTITION}


def test_the_writers_words_are_shown_as_a_sentence() -> None:
    assert rejection(Reason.INVALID, "up_to_seq is at most 7").detail == "Up_to_seq is at most 7."


def test_chat_exists_says_which_chat_and_what_to_do() -> None:
    document = rejection(Reason.CHAT_EXISTS).document()
    assert document["chat_id"] == CHAT
    assert f"PUT /v1/chats/{CHAT}/members/{COMMAND.sender_id}" in document["detail"]
    assert '"unique_name": false' in document["detail"]


def test_a_command_without_an_outcome_yet_is_202_and_says_where_to_ask() -> None:
    send = replace(COMMAND, type=CommandType.MESSAGE_SEND.value)
    answer = responses.outcome_pending(Pending(command=send, partition=5, offset=99))
    assert answer.status == 202
    assert answer.headers == {
        "Location": f"/v1/chats/{CHAT}/commands/{COMMAND_ID}?at=5:99",
        "Retry-After": "1",
    }
    ids = {"chat_id": CHAT, "command_id": COMMAND_ID}
    assert json.loads(answer.body) == ids | {"message_id": COMMAND_ID, "at": "5:99"}
    mark = replace(COMMAND, type=CommandType.READ_MARK.value)
    assert json.loads(responses.outcome_pending(Pending(command=mark, partition=5, offset=99)).body) == ids | {
        "at": "5:99"
    }


@pytest.mark.parametrize(
    ("at_ms", "text"),
    [(0, "1970-01-01T00:00:00.000Z"), (999, "1970-01-01T00:00:00.999Z"), (253402300799999, "9999-12-31T23:59:59.999Z")],
)
def test_times_are_rfc_3339_with_milliseconds(at_ms: int, text: str) -> None:
    assert responses.instant(at_ms) == text
