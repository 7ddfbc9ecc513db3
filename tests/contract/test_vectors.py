"""vectors.json, with which clients in any language test themselves.

Each value is what `schemas` computes, and what an independent reference computes. The file is written by hand. To add a
vector, write its input and a guess; the failing test names the right value.
"""

from __future__ import annotations

import json
import re
import unicodedata
import uuid
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import pytest
from aiokafka.partitioner import murmur2 as aiokafka_murmur2

from schemas import ids, log
from schemas.bodies import canonical_body, decoder
from schemas.commands import digest, parse_body
from schemas.cursor import Decided, LogCursor, Opened, Stop, Void
from schemas.events import TermOpened, encode_term_opened
from schemas.ids import ChatId, UserId
from schemas.types import BODY_OF, CommandType, EventType
from services.ingest.api.keys import key_in_header
from services.runtime.access.auth import user_id_of
from tests.support.chat_log import LogRecord
from tests.support.reference_rule import Claimed, Counted, Row, rows

VECTORS: Final[dict[str, Any]] = json.loads((Path(__file__).parent / "vectors.json").read_bytes())

WHITE_SPACE: Final = frozenset(
    map(chr, [*range(0x09, 0x0E), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F])
) | {"\u3000"}

KEY_ORDER: Final = {
    "chat.create.v1": "kind name members",
    "member.add.v1": "user_id role",
    "member.remove.v1": "user_id",
    "member.role.v1": "user_id role",
    "chat.rename.v1": "name",
    "message.send.v1": "text reply_to_message_id media_urls metadata original_sent_at",
    "message.edit.v1": "seq text media_urls metadata if_revision",
    "message.delete.v1": "seq",
    "reaction.add.v1": "seq emoji",
    "reaction.remove.v1": "seq emoji",
    "read.mark.v1": "up_to_seq",
    "delivered.mark.v1": "up_to_seq",
}
"""From the table of the wire contract, not from the models."""


def _each(section: str) -> pytest.MarkDecorator:
    vectors = VECTORS[section]
    assert vectors, f"vectors.json has no {section}"
    return pytest.mark.parametrize("vector", vectors, ids=[str(v.get("why", i))[:60] for i, v in enumerate(vectors)])


def _uuid5(namespace: str, name: str) -> str:
    return str(uuid.uuid5(uuid.UUID(namespace), name))


# --- identifiers ------------------------------------------------------------------------------------------------


def test_the_namespace_is_that_of_the_dns_name() -> None:
    names = VECTORS["namespaces"]
    assert names["gapless"] == ids.NS_GAPLESS == str(uuid.uuid5(uuid.NAMESPACE_DNS, names["dns_name"]))


@_each("idempotency_key_headers")
def test_a_header_names_one_client_generated_id(vector: dict[str, str]) -> None:
    assert key_in_header([vector["header"]]) == vector["client_generated_id"]
    assert ids.is_client_generated_id(vector["client_generated_id"])


@_each("group_chat_ids")
def test_a_group_has_one_id_per_creator_and_name(vector: dict[str, str]) -> None:
    spaced = "".join(" " if c in WHITE_SPACE else c for c in unicodedata.normalize("NFC", vector["name"]))
    normalised = " ".join(word for word in spaced.split(" ") if word)
    assert vector["normalised"] == normalised == ids.normalise_creation_name(vector["name"])
    expected = _uuid5(vector["creator"], "group/" + normalised)
    assert vector["chat_id"] == expected == ids.group_chat_id(UserId(vector["creator"]), vector["name"])


def test_every_white_space_character_is_in_a_vector() -> None:
    seen = {c for vector in VECTORS["group_chat_ids"] for c in vector["name"]}
    runs = frozenset(map(chr, range(0x2000, 0x200B)))  # three of this run stand for all
    assert not WHITE_SPACE - runs - seen
    assert len(runs & seen) >= 3


@_each("keyed_chat_ids")
def test_a_group_may_have_the_id_of_its_creators_key(vector: dict[str, str]) -> None:
    creator, key = vector["creator"], vector["client_generated_id"]
    expected = _uuid5(creator, "key/" + key)
    assert vector["chat_id"] == expected == ids.keyed_chat_id(UserId(creator), key)


@_each("direct_chat_ids")
def test_a_direct_chat_has_one_id_from_both_sides(vector: dict[str, str]) -> None:
    low, high = sorted([vector["a"], vector["b"]])
    expected = _uuid5(ids.NS_GAPLESS, f"direct/{low}/{high}")
    assert vector["chat_id"] == expected == ids.direct_chat_id(UserId(vector["a"]), UserId(vector["b"]))


@_each("command_ids")
def test_a_command_has_one_id_per_chat_sender_and_key(vector: dict[str, str]) -> None:
    chat, sender, key = vector["chat_id"], vector["sender_id"], vector["client_generated_id"]
    expected = _uuid5(chat, f"{sender}/{key}")
    assert vector["command_id"] == expected == ids.command_id(ChatId(chat), UserId(sender), key)


@_each("user_ids")
def test_a_claim_stands_for_one_user_of_its_issuer(vector: dict[str, str]) -> None:
    claim = vector["claim"]
    if re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", claim, re.ASCII | re.IGNORECASE):
        expected = claim.lower()
    else:
        expected = str(uuid.uuid5(uuid.uuid5(uuid.NAMESPACE_URL, vector["issuer"]), claim))
    assert vector["user_id"] == expected == user_id_of(claim, issuer=vector["issuer"])


@pytest.mark.parametrize(
    ("section", "check"), [("uuids", ids.is_uuid), ("client_generated_ids", ids.is_client_generated_id)]
)
def test_forms_are_taken_or_refused(section: str, check: Callable[[str], bool]) -> None:
    assert [text for text in VECTORS[section]["valid"] if not check(text)] == []
    assert [text for text in VECTORS[section]["invalid"] if check(text)] == []


# --- partitions -------------------------------------------------------------------------------------------------

KAFKAS_OWN: Final = {
    "21": -973932308,
    "foobar": -790332482,
    "a-little-bit-long-string": -985981536,
    "a-little-bit-longer-string": -1486304829,
    "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    "abc": 479470107,
}
"""From the tests of Kafka's Java client (UtilsTest.testMurmur2), signed as there."""


@_each("murmur2")
def test_the_hash_is_kafkas(vector: dict[str, Any]) -> None:
    raw = vector["text"].encode()
    assert vector["murmur2"] == aiokafka_murmur2(raw) & 0xFFFFFFFF == ids.murmur2(raw)


def test_the_hash_agrees_with_the_java_clients_own_vectors() -> None:
    ours = {vector["text"]: vector["murmur2"] for vector in VECTORS["murmur2"]}
    assert {text: ours[text] for text in KAFKAS_OWN} == {text: n & 0xFFFFFFFF for text, n in KAFKAS_OWN.items()}


@_each("partitions")
def test_a_chat_lives_where_kafkas_default_partitioner_puts_its_key(vector: dict[str, Any]) -> None:
    positive = aiokafka_murmur2(vector["chat_id"].encode()) & 0x7FFFFFFF
    # 12 as well: a power of two would hide a client that forgets the mask.
    for name, partitions in (("of_8", 8), ("of_12", 12), ("of_64", 64)):
        assert vector[name] == positive % partitions == ids.partition_of(vector["chat_id"], partitions)


# --- bodies -----------------------------------------------------------------------------------------------------


def _reference_json(value: object) -> str:
    """Encode canonical JSON by its description: no spaces, minimal escapes, keys in the given order."""
    if isinstance(value, str):
        short = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
        return '"' + "".join(short.get(c) or (f"\\u{ord(c):04x}" if c < " " else c) for c in value) + '"'
    if isinstance(value, dict):
        return "{" + ",".join(f"{_reference_json(k)}:{_reference_json(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_reference_json, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else _number(repr(value))


def _number(spelt: str) -> str:
    """Return a number in the shortest digits that give it back: `1e16`, `0.00001`, `2.5e-7`."""
    digits, _, exponent = spelt.partition("e")
    if not exponent:
        return spelt
    if exponent == "-05":
        sign, unsigned = ("-", digits[1:]) if digits.startswith("-") else ("", digits)
        return f"{sign}0.0000{unsigned.replace('.', '')}"
    return f"{digits}e{int(exponent)}"


def _sorted_by_utf8(value: object) -> object:
    if isinstance(value, dict):
        return {key: _sorted_by_utf8(value[key]) for key in sorted(value, key=str.encode)}
    return [_sorted_by_utf8(inner) for inner in value] if isinstance(value, list) else value


@_each("canonical_bodies")
def test_a_body_has_one_spelling(vector: dict[str, Any]) -> None:
    command_type, fields = vector["type"], vector["fields"]
    ordered = {key: fields[key] for key in KEY_ORDER[command_type].split() if key in fields}
    assert ordered.keys() == fields.keys()
    if "metadata" in ordered:
        ordered["metadata"] = _sorted_by_utf8(ordered["metadata"])
    spelling = _reference_json(ordered)
    body = decoder(BODY_OF[command_type])(json.dumps(fields).encode())
    assert vector["canonical"] == spelling == canonical_body(body).decode()
    raw = spelling.encode()
    assert parse_body(command_type, raw) == body
    assert vector["digest"] == _blake2b(command_type, raw) == digest(command_type, raw).hex()


def test_every_command_type_has_a_canonical_body() -> None:
    assert {vector["type"] for vector in VECTORS["canonical_bodies"]} == set(CommandType) == KEY_ORDER.keys()


def _blake2b(command_type: str, body: bytes) -> str:
    hashed = blake2b(digest_size=16)
    for part in (command_type.encode(), b"\0", body):
        hashed.update(part)
    return hashed.hexdigest()


@_each("digests")
def test_a_digest_is_of_type_and_bytes(vector: dict[str, str]) -> None:
    body = bytes.fromhex(vector["body_hex"])
    assert vector["digest"] == _blake2b(vector["type"], body) == digest(vector["type"], body).hex()


# --- tokens -----------------------------------------------------------------------------------------------------


def test_tokens_are_read_and_written() -> None:
    for vector in VECTORS["tokens"]["valid"]:
        assert ids.token(vector["partition"], vector["index"]) == vector["token"]
        assert ids.parse_token(vector["token"]) == (vector["partition"], vector["index"])


@pytest.mark.parametrize("text", VECTORS["tokens"]["invalid"])
def test_what_is_no_token_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="two numbers"):
        ids.parse_token(text)


# --- the validity rule --------------------------------------------------------------------------------------------


def _headers(record: dict[str, Any]) -> list[tuple[str, bytes]]:
    return [(name, record[name].encode()) for name in ("ce_id", "ce_command") if record[name] is not None]


def _record(offset: int, record: dict[str, Any]) -> LogRecord:
    """Add the rest of a record: an opening's body, or an outcome that every reader knows."""
    opened = TermOpened(owner="o", host="h", partitions=1, commands_from=record.get("commands_from"))
    opening = (record["ce_id"] or "").endswith("/0")
    event_type, body = (EventType.TERM_OPENED, encode_term_opened(opened)) if opening else (EventType.UNCHANGED, b"{}")
    headers = [*_headers(record), ("ce_type", event_type.encode())]
    return LogRecord(offset=offset, timestamp=record["timestamp_ms"], key=None, value=body, headers=headers)


@_each("validity")
def test_a_reader_gives_the_verdict_of_each_record(vector: dict[str, Any]) -> None:
    events: Final = {"opens": Opened, "valid": Decided, "void": Void, "corrupt": Stop}
    cursor = LogCursor(log.Head(**vector["start"]))
    for offset, record in enumerate(vector["records"]):
        event = cursor.read_one(_record(offset, record))
        assert isinstance(event, events[record["verdict"]]), f"{record} after {cursor.head}"
    assert cursor.head == log.Head(**vector["head"])


@_each("validity")
def test_the_table_gives_the_verdict_of_each_record(vector: dict[str, Any]) -> None:
    claims = _claims(vector)
    unreadable = len(vector["records"]) - len(claims)
    verdicts = [row.verdict for row in rows(claims, _start(vector))] + ["corrupt"] * unreadable
    assert verdicts == [record["verdict"] for record in vector["records"]]


def test_every_row_of_the_rule_is_in_a_vector() -> None:
    reached = {row for vector in VECTORS["validity"] for row in rows(_claims(vector), _start(vector))}
    assert reached == set(Row)


def _start(vector: dict[str, Any]) -> Counted:
    start = vector["start"]
    return Counted(start["term"], start["index"], start["command_offset"])


def _claims(vector: dict[str, Any]) -> list[Claimed]:
    """Return the claims of the records with well-formed headers; the others end their sequences."""
    claims = map(_claimed, vector["records"])
    return [claim for claim in claims if claim is not None]


def _claimed(record: dict[str, Any]) -> Claimed | None:
    number = r"([0-9]{1,18})"
    place = re.fullmatch(f"{number}/{number}", record["ce_id"] or "")
    if place is None:
        return None
    term, index = int(place[1]), int(place[2])
    if index == 0:
        return Claimed(term, 0, -1, record.get("commands_from"))
    offset = re.fullmatch(number, record["ce_command"] or "")
    return Claimed(term, index, int(offset[1])) if offset is not None else None
