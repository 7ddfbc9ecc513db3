"""Any program computes the same ids, partitions and tokens, in any language: compared with other implementations."""

from __future__ import annotations

import unicodedata
import uuid

import pytest
from aiokafka.partitioner import murmur2 as aiokafka_murmur2
from hypothesis import assume, given
from hypothesis import strategies as st

from schemas import ids
from schemas.ids import ChatId, UserId
from tests.support.examples import examples
from tests.support.wire_strategies import names, storable, uuids

users = uuids.map(UserId)
keys = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=128)


@given(st.uuids(), st.text(st.characters(codec="utf-8")))
def test_a_uuid5_is_that_of_the_standard_library(namespace: uuid.UUID, name: str) -> None:
    assert ids.uuid5(str(namespace), name) == str(uuid.uuid5(namespace, name))
    assert ids.uuid_text(ids.uuid_bytes(str(namespace))) == str(namespace)


@given(st.binary(max_size=100))
def test_the_hash_is_kafkas(data: bytes) -> None:
    assert ids.murmur2(data) == aiokafka_murmur2(data) & 0xFFFFFFFF


@given(uuids, st.integers(1, 1_000))
def test_a_chat_lives_in_one_partition_that_is_there(chat_id: str, partitions: int) -> None:
    expected = (aiokafka_murmur2(chat_id.encode()) & 0x7FFFFFFF) % partitions
    assert ids.partition_of(chat_id, partitions) == expected
    assert 0 <= expected < partitions


@given(users, users)
def test_a_direct_chat_is_the_same_from_both_sides(a: UserId, b: UserId) -> None:
    assert ids.direct_chat_id(a, b) == ids.direct_chat_id(b, a)
    assert ids.is_uuid(ids.direct_chat_id(a, b))


@given(uuids.map(ChatId), users, users, keys, keys)
def test_two_senders_or_keys_never_share_a_command_id(
    chat: ChatId, one: UserId, other: UserId, key: str, other_key: str
) -> None:
    same = (one, key) == (other, other_key)
    assert (ids.command_id(chat, one, key) == ids.command_id(chat, other, other_key)) is same


SPACES = "\t\n\x0b\x0c\r \x85\xa0\u1680\u2000\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
spaced = st.lists(names | st.text(st.sampled_from(SPACES), min_size=1, max_size=3), max_size=6).map("".join)


@examples()
@given(spaced)
def test_a_normalised_name_is_normal(name: str) -> None:
    normal = ids.normalise_creation_name(name)
    assert ids.normalise_creation_name(normal) == normal
    assert unicodedata.normalize("NFC", normal) == normal
    assert not normal.startswith(" ")
    assert not normal.endswith(" ")
    assert "  " not in normal
    assert not set(normal) & (set(SPACES) - {" "})


@examples()
@given(users, spaced, st.booleans(), st.text(st.sampled_from(SPACES), max_size=3))
def test_one_creator_cannot_make_two_groups_of_one_name(creator: UserId, name: str, composed: bool, space: str) -> None:
    variant = space + unicodedata.normalize("NFC" if composed else "NFD", name).replace(" ", " " + space) + space
    # A combining mark at the start binds to the white space before it, if there is any, and no name is the same then.
    assume(not any(unicodedata.combining(c) for c in unicodedata.normalize("NFD", name)))
    assert ids.group_chat_id(creator, variant) == ids.group_chat_id(creator, name)


@given(users, st.text(storable, min_size=1, max_size=20))
def test_case_makes_another_group(creator: UserId, name: str) -> None:
    one, other = name, name.swapcase()
    assume(ids.normalise_creation_name(one) != ids.normalise_creation_name(other))
    assert ids.group_chat_id(creator, one) != ids.group_chat_id(creator, other)


@given(st.integers(0, 10**9 - 1), st.integers(0, 10**18 - 1))
def test_a_token_comes_back(partition: int, index: int) -> None:
    assert ids.parse_token(ids.token(partition, index)) == (partition, index)


@examples()
@given(st.text(st.characters(codec="utf-8"), max_size=12) | st.from_regex(r"[0-9٠-٩]{1,2}:[0-9٠-٩]{1,2}\n?"))
def test_what_is_no_token_is_refused_and_nothing_else_is_raised(text: str) -> None:
    partition, colon, index = text.partition(":")
    whole = all(part.isascii() and part.isdigit() for part in (partition, index))
    if colon and whole:
        assert ids.parse_token(text) == (int(partition), int(index))
    else:
        with pytest.raises(ValueError, match="two numbers"):
            ids.parse_token(text)


@given(st.text(max_size=40) | uuids | uuids.map(str.upper) | uuids.map(lambda text: text + "\n"))
def test_a_uuid_has_one_form(text: str) -> None:
    try:
        one_form = str(uuid.UUID(text)) == text
    except ValueError:
        one_form = False
    assert ids.is_uuid(text) is one_form


@given(st.text(max_size=5) | keys | st.integers(125, 132).map(lambda n: "k" * n))
def test_a_client_generated_id_is_1_to_128_visible_ascii_characters(text: str) -> None:
    assert ids.is_client_generated_id(text) is (1 <= len(text) <= 128 and all("!" <= c <= "~" for c in text))
