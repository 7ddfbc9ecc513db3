from __future__ import annotations

import json
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import ids, limits
from schemas.bodies import MessageSend
from schemas.commands import digest, parse_body
from schemas.types import CommandType
from schemas.wire.encoding import Command, encode_command, read_command
from services.ingest.api.paths import chats, members, messages, receipts
from services.ingest.api.requests import Envelope
from services.runtime.web.problems import Problem
from tests.support.ingest_records import StoredRecord

ALICE = "11111111-1111-4111-8111-111111111111"
BOB = "22222222-2222-4222-8222-222222222222"
CAROL = "cccccccc-cccc-4ccc-8ccc-cccccccccccc"
"""In upper case a different text, unlike the other two."""
CHAT = "f89e858f-5f2e-5152-b188-6a52cbec990b"


def envelope(*, key: str | None = "k-1", sender: str | None = None, scopes: str = "") -> Envelope:
    return Envelope(caller_id=ALICE, scopes=frozenset(scopes.split()), key=key, sender=sender)


def send(body: Any, of: Envelope | None = None) -> Command:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return messages.build_send(raw, CHAT, of or envelope())


def refused(body: Any, of: Envelope | None = None) -> tuple[int, str, str | None]:
    with pytest.raises(Problem) as caught:
        send(body, of)
    problem = caught.value
    assert problem.detail
    return problem.status, problem.reason, problem.errors[0]["pointer"] if problem.errors else None


def test_a_message_becomes_the_command_of_the_wire_contract() -> None:
    command = send({"text": "Hi"})
    assert command.command_id == "c6e6b694-c64b-5364-9024-70428ec7b06e"  # the vector of the wire contract
    assert (command.type, command.body) == ("message.send.v1", b'{"text":"Hi"}')
    assert (command.chat_id, command.sender_id, command.client_generated_id) == (CHAT, ALICE, "k-1")


def test_the_writer_reads_back_what_was_sent() -> None:
    command = send({"text": "Hi", "metadata": {"b": 1, "a": [2.5, None, True]}})
    read = read_command(StoredRecord.of(encode_command(command, "/gapless/ingest"), offset=9), 5, 8)
    assert isinstance(read, Command)
    assert (read.command_id, read.sender_id, read.body) == (command.command_id, ALICE, command.body)
    assert parse_body(read.type, read.body) == MessageSend(text="Hi", metadata={"a": [2.5, None, True], "b": 1})


def test_a_retry_that_orders_its_fields_otherwise_has_the_same_bytes() -> None:
    one = send(b'{"text":"Hi","metadata":{"b":1,"a":{"d":1,"c":2}},"media_urls":null}')
    other = send(b' { "metadata" : {"a":{"c":2,"d":1},"b":1}, "text":"\\u0048i" , "client_generated_id":"k-1"}')
    assert one.body == other.body == b'{"text":"Hi","metadata":{"a":{"c":2,"d":1},"b":1}}'
    assert digest(one.type, one.body) == digest(other.type, other.body)


def test_ids_in_upper_case_are_kept_in_lower_case() -> None:
    body = {"text": "Hi", "reply_to_message_id": CAROL.upper(), "sender_id": CAROL.upper()}
    command = send(body, envelope(scopes="producer"))
    assert json.loads(command.body)["reply_to_message_id"] == CAROL
    assert command.sender_id == CAROL


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", (400, "malformed", "")),
        (b"{", (400, "malformed", "")),
        (b'{"text":"a",}', (400, "malformed", "")),
        (b"\xff\xfe{}", (400, "malformed", "")),
        (b'{"text":"\xff"}', (400, "malformed", "")),
        (b'{"text":"\\ud800"}', (400, "malformed", "")),
        (b"null", (400, "malformed", "")),
        (b"[]", (400, "malformed", "")),
        (b"{}", (400, "malformed", "/text")),
        (b'{"text":1}', (400, "malformed", "/text")),
        (b'{"text":"a","txet":"b"}', (400, "malformed", "/txet")),
        (b'{"text":"a","text":"b"}', (400, "malformed", "/text")),
        (b'{"text":"a","metadata":{"k":1,"k":1}}', (400, "malformed", "/metadata/k")),
        (b'{"text":"a","sent_at":"x"}', (400, "malformed", "/sent_at")),
        (b'{"text":"a","metadata":[]}', (400, "malformed", "/metadata")),
        (b'{"text":"a","media_urls":["http://a",7]}', (400, "malformed", "/media_urls/1")),
        (b'{"text":"a","reply_to_message_id":"7"}', (400, "malformed", "/reply_to_message_id")),
        (b'{"text":"a","sender_id":"7"}', (400, "malformed", "/sender_id")),
        (b'{"text":"a","metadata":{"n":' + b"[" * 20_000, (422, "invalid", "/metadata")),
        (b'{"text":"a","metadata":{"n":' + b"9" * 5_000 + b"}}", (422, "invalid", "")),
        (b'{"text":"a","metadata":{"n":1e400}}', (422, "invalid", "/metadata")),
        (b'{"text":"a","metadata":{"n":NaN}}', (422, "invalid", "/metadata")),
        (b'{"text":"a","metadata":{"n":-Infinity}}', (422, "invalid", "/metadata")),
        (b'{"text":"a","metadata":{"n":9007199254740992}}', (422, "invalid", "/metadata")),
        (b'{"text":"a","metadata":{"n":"\\u0000"}}', (422, "invalid", "/metadata")),
        (b'{"text":"a\\u0000"}', (422, "invalid", "/text")),
        (b'{"text":""}', (422, "invalid", "/text")),
        ({"text": "x" * (limits.TEXT_CHARACTERS + 1)}, (413, "too_large", "/text")),
        ({"text": "a", "metadata": {"x": "y" * limits.METADATA_BYTES}}, (413, "too_large", "/metadata")),
        ({"text": "a", "media_urls": ["ftp://a"]}, (422, "invalid", "/media_urls/0")),
        ({"text": "a", "media_urls": ["http://a"] * 11}, (422, "invalid", "/media_urls")),
    ],
)
def test_a_bad_body_is_refused_with_the_place_of_the_fault(body: Any, expected: tuple[int, str, str | None]) -> None:
    assert refused(body) == expected


def test_the_longest_text_of_four_byte_characters_written_in_escapes_is_taken() -> None:
    command = send({"text": "😀" * limits.TEXT_CHARACTERS})
    assert len(command.body) == 4 * limits.TEXT_CHARACTERS + len('{"text":""}')


def test_a_message_without_any_key_is_refused() -> None:
    assert refused({"text": "a"}, envelope(key=None))[:2] == (400, "missing_key")


def test_a_key_in_the_body_is_as_good_as_one_in_the_header() -> None:
    assert (
        send({"text": "a", "client_generated_id": "k-1"}, envelope(key=None)).command_id
        == send({"text": "a"}).command_id
    )


def test_two_different_keys_are_refused() -> None:
    assert refused({"text": "a", "client_generated_id": "k-2"}) == (400, "malformed", "/client_generated_id")


@pytest.mark.parametrize("of", [envelope(sender=BOB), envelope(sender=BOB, scopes="import")])
def test_nobody_sends_for_others_without_the_scope_producer(of: Envelope) -> None:
    assert refused({"text": "a"}, of)[:2] == (403, "forbidden")
    assert refused({"text": "a", "sender_id": BOB}, envelope())[:2] == (403, "forbidden")


def test_a_producer_sends_for_whom_the_header_or_the_body_names() -> None:
    by_header = send({"text": "a"}, envelope(sender=CAROL.upper(), scopes="producer"))
    by_body = send({"text": "a", "sender_id": CAROL}, envelope(scopes="producer"))
    assert by_header == by_body
    assert by_header.sender_id == CAROL


def test_a_producer_that_names_two_senders_is_refused() -> None:
    of = envelope(sender=BOB, scopes="producer")
    assert refused({"text": "a", "sender_id": ALICE}, of) == (400, "malformed", "/gapless-sender")


def test_a_sender_that_is_no_uuid_is_refused() -> None:
    assert refused({"text": "a"}, envelope(sender="bob", scopes="producer")) == (400, "malformed", "/gapless-sender")


def test_a_message_may_be_media_alone_and_must_have_something() -> None:
    body = {"text": "", "media_urls": ["https://example.org/a.png"]}
    assert json.loads(send(body).body) == body
    for nothing in ({"text": ""}, {"text": "", "media_urls": []}, {"text": "", "metadata": {"a": 1}}):
        assert refused(nothing) == (422, "invalid", "/text")


def test_original_sent_at_needs_the_scope_import() -> None:
    body = {"text": "a", "original_sent_at": "2020-01-31T12:00:00.000Z"}
    assert refused(body, envelope(scopes="producer"))[:2] == (403, "forbidden")
    assert json.loads(send(body, envelope(scopes="import")).body) == body
    body["original_sent_at"] = "yesterday"
    assert refused(body, envelope(scopes="import")) == (422, "invalid", "/original_sent_at")


def test_a_group_has_the_id_of_its_creator_and_name() -> None:
    command = chats.build_create(b'{"kind":"group","name":"Ops room","members":["%s"]}' % BOB.encode(), envelope())
    assert command.chat_id == CHAT  # the vector of the wire contract
    assert command.body == b'{"kind":"group","name":"Ops room","members":["%s"]}' % BOB.encode()


def test_a_group_whose_name_need_not_be_unique_has_the_id_of_its_creators_key() -> None:
    raw = b'{"kind":"group","name":"Ops room","unique_name":%s}'
    command = chats.build_create(raw % b"false", envelope(key="k-1"))
    assert command.chat_id == ids.keyed_chat_id(ids.UserId(ALICE), "k-1")
    assert command.body == b'{"kind":"group","name":"Ops room","members":[]}', "the wire does not say it twice"
    assert chats.build_create(raw % b"false", envelope(key="k-2")).chat_id != command.chat_id
    assert chats.build_create(raw % b"true", envelope(key="k-1")).chat_id == CHAT
    of_bob = chats.build_create(raw % b"false", envelope(key="k-1", sender=BOB, scopes="producer"))
    assert of_bob.chat_id == ids.keyed_chat_id(ids.UserId(BOB), "k-1"), "the scope of the key is the creator"
    with pytest.raises(Problem) as caught:
        chats.build_create(raw % b"false", envelope(key=None))
    assert (caught.value.status, caught.value.reason) == (400, "missing_key")


@pytest.mark.parametrize(
    ("body", "status", "pointer"),
    [
        (b'{"kind":"group","name":"a","unique_name":"no"}', 400, "/unique_name"),
        (b'{"kind":"direct","members":[]}', 400, "/kind"),
        (b'{"kind":"group","members":[]}', 400, "/name"),
        (b'{"kind":"group","name":" \\t","members":[]}', 422, "/name"),
        (b'{"kind":"group","name":"a\\u0000","members":[]}', 422, "/name"),
        (b'{"kind":"group","name":"a","members":["x"]}', 400, "/members/0"),
        (
            b'{"kind":"group","name":"a","members":["%s","%s"]}' % (CAROL.encode(), CAROL.upper().encode()),
            422,
            "/members",
        ),
    ],
)
def test_a_bad_group_is_refused_with_the_place_of_the_fault(body: bytes, status: int, pointer: str) -> None:
    with pytest.raises(Problem) as caught:
        chats.build_create(body, envelope())
    assert caught.value.status == status
    assert pointer in [error["pointer"] for error in caught.value.errors]


def test_a_direct_chat_is_the_same_from_both_sides() -> None:
    mine = chats.build_direct(b"", BOB, envelope())
    theirs = chats.build_direct(b"{}", ALICE, Envelope(caller_id=BOB, scopes=frozenset()))
    assert mine.chat_id == theirs.chat_id == "92829b37-1415-5fdc-927d-ed03f0e25e16"
    assert mine.body == b'{"kind":"direct","members":["%s"]}' % BOB.encode()
    assert theirs.client_generated_id  # made here: opening needs no key


def test_a_direct_chat_with_oneself_names_nobody_else() -> None:
    assert chats.build_direct(b"", ALICE, envelope()).body == b'{"kind":"direct","members":[]}'


def test_a_member_is_added_as_member_unless_a_role_is_named() -> None:
    plain, no_role = members.build_add(b"", CHAT, BOB, envelope(key=None))
    admin, role = members.build_add(b'{"role":"admin"}', CHAT, BOB, envelope(key=None))
    assert plain.body == b'{"user_id":"%s","role":"member"}' % BOB.encode()
    assert admin.body == b'{"user_id":"%s","role":"admin"}' % BOB.encode()
    assert plain.client_generated_id != admin.client_generated_id
    assert no_role is None, "who is there already keeps the role they have"
    assert role is not None
    assert (role.type, role.body) == ("member.role.v1", admin.body)
    assert role.command_id == admin.command_id, "one key: at most one of the two is accepted"
    with pytest.raises(Problem) as caught:
        members.build_add(b'{"role":"king"}', CHAT, BOB, envelope())
    assert caught.value.errors[0]["pointer"] == "/role"


def test_removing_a_member_takes_no_fields() -> None:
    assert members.build_remove(b"", CHAT, BOB, envelope()).type == "member.remove.v1"
    with pytest.raises(Problem) as caught:
        members.build_remove(b'{"why":"x"}', CHAT, BOB, envelope())
    assert caught.value.status == 400


def test_a_deletion_takes_no_fields_and_a_seq_within_the_limits() -> None:
    command = messages.build_delete(b"", CHAT, 7, envelope(key="k"))
    assert (command.type, command.body, command.client_generated_id) == ("message.delete.v1", b'{"seq":7}', "k")
    for raw, seq, status in ((b'{"why":"x"}', 7, 400), (b"", 2**53, 422)):
        with pytest.raises(Problem) as caught:
            messages.build_delete(raw, CHAT, seq, envelope())
        assert caught.value.status == status


def test_a_mark_has_no_key_and_an_id_of_its_own() -> None:
    one, up_to_seq = receipts.build_mark(CommandType.READ_MARK, b'{"up_to_seq":7}', CHAT, envelope())
    other, _ = receipts.build_mark(CommandType.READ_MARK, b'{"up_to_seq":7}', CHAT, envelope())
    assert (up_to_seq, one.client_generated_id, one.body) == (7, None, b'{"up_to_seq":7}')
    assert one.command_id is not None
    assert UUID(one.command_id).version == 4
    assert one.command_id != other.command_id


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b'{"up_to_seq":-1}', 422),
        (b'{"up_to_seq":9007199254740992}', 422),
        (b'{"up_to_seq":1e400}', 400),
        (b'{"up_to_seq":1.0}', 400),
        (b'{"up_to_seq":true}', 400),
        (b'{"up_to_seq":"7"}', 400),
        (b'{"up_to_seq":7,"client_generated_id":"k"}', 400),
        (b"{}", 400),
    ],
)
def test_a_mark_that_is_no_whole_number_is_refused(body: bytes, status: int) -> None:
    with pytest.raises(Problem) as caught:
        receipts.build_mark(CommandType.DELIVERED_MARK, body, CHAT, envelope())
    assert caught.value.status == status


def sent_or_refused(raw: bytes, of: Envelope) -> Command | Problem:
    try:
        return send(raw, of)
    except Problem as problem:
        return problem


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_whatever_bytes_come_the_answer_is_a_command_or_a_problem_of_the_client(raw: bytes) -> None:
    outcome = sent_or_refused(raw, envelope())
    if isinstance(outcome, Problem):
        assert 400 <= outcome.status < 500
        json.dumps(outcome.document())


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)
fields = st.sampled_from(
    ["text", "metadata", "media_urls", "sender_id", "original_sent_at", "client_generated_id", "x"]
)


@given(st.dictionaries(fields, json_values | st.just("a")) | json_values)
def test_what_ingest_lets_pass_the_writer_takes_as_it_stands(body: Any) -> None:
    raw = json.dumps(body).encode("utf-8", "surrogatepass")
    outcome = sent_or_refused(raw, envelope(key=None, scopes="import producer"))
    if isinstance(outcome, Problem):
        assert 400 <= outcome.status < 500
    else:
        parse_body(outcome.type, outcome.body)
        assert ids.is_client_generated_id(outcome.client_generated_id or "")


metadata = st.dictionaries(
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])), st.integers(-9, 9) | st.booleans()
)


@given(metadata)
def test_a_retry_has_the_same_bytes_whatever_the_order_of_its_metadata(found: dict[str, Any]) -> None:
    reverse = dict(reversed(found.items()))
    assert send({"text": "a", "metadata": found}).body == send({"text": "a", "metadata": reverse}).body
