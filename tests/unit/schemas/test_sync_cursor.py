"""A sync cursor has one spelling, which stays short, and nothing else is taken for one."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.sync_cursor import MAX_CHARACTERS, MAX_INDEX, SyncCursor, decode_sync_cursor, encode_sync_cursor
from tests.support.examples import examples
from tests.support.wire_strategies import uuids

LOG = "6f6c1f0e-8a4b-4d3c-9b1a-0a1b2c3d4e5f"
indexes = st.integers(0, MAX_INDEX)
cursors = st.builds(
    SyncCursor,
    log_id=uuids,
    indexes=st.dictionaries(st.integers(0, 12) | st.integers(0, 100_000), indexes, max_size=12),
)


def _text(raw: bytes) -> str:
    return urlsafe_b64encode(raw).rstrip(b"=").decode()


def _raw(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


@given(cursors)
def test_a_cursor_comes_back(cursor: SyncCursor) -> None:
    text = encode_sync_cursor(cursor)
    assert decode_sync_cursor(text) == cursor
    assert text.isascii()
    assert not set(text) & set("=+/&? ")


@given(cursors, st.randoms())
def test_the_order_of_the_partitions_makes_no_difference(cursor: SyncCursor, random: Random) -> None:
    shuffled = list(cursor.indexes.items())
    random.shuffle(shuffled)
    assert encode_sync_cursor(SyncCursor(cursor.log_id, dict(shuffled))) == encode_sync_cursor(cursor)


def test_the_bytes_are_those_of_the_description() -> None:
    cursor = SyncCursor(LOG, {3: 300, 1: 0, 0: 127, 9: 5})
    log = bytes.fromhex(LOG.replace("-", ""))
    assert (
        _raw(encode_sync_cursor(cursor)) == b"\x01" + log + b"\x00\x02\x7f\x00" + b"\x01\x01\xac\x02" + b"\x05\x01\x05"
    )
    assert _raw(encode_sync_cursor(SyncCursor(LOG, {}))) == b"\x01" + log


@given(st.sampled_from([8, 64]), st.data())
def test_sixty_four_partitions_stay_under_six_hundred_characters(partitions: int, data: st.DataObject) -> None:
    up_to = st.integers(0, 2**42 - 1)
    cursor = SyncCursor(LOG, {partition: data.draw(up_to) for partition in range(partitions)})
    assert len(encode_sync_cursor(cursor)) < 600


def test_a_thousand_partitions_have_a_cursor_whatever_their_indexes() -> None:
    cursor = SyncCursor(LOG, dict.fromkeys(range(7, 1031), MAX_INDEX))
    assert decode_sync_cursor(encode_sync_cursor(cursor)) == cursor
    with pytest.raises(ValueError, match="too many partitions"):
        encode_sync_cursor(SyncCursor(LOG, dict.fromkeys(range(2_000), MAX_INDEX)))


@pytest.mark.parametrize(
    "cursor",
    [
        SyncCursor("a-topic", {}),
        SyncCursor(LOG.upper(), {}),
        SyncCursor(LOG, {-1: 4}),
        SyncCursor(LOG, {0: -1}),
        SyncCursor(LOG, {0: MAX_INDEX + 1}),
    ],
)
def test_what_names_no_place_in_a_log_has_no_text(cursor: SyncCursor) -> None:
    with pytest.raises(ValueError, match=r"UUID|numbers"):
        encode_sync_cursor(cursor)


_HEAD = _raw(encode_sync_cursor(SyncCursor(LOG, {})))


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("5:1042", id="a token"),
        pytest.param(_text(b"\x02" + _HEAD[1:]), id="another version"),
        pytest.param(_text(_HEAD[:-1]), id="half a log id"),
        pytest.param(_text(_HEAD) + "==", id="padding"),
        pytest.param(_text(_HEAD)[:4] + "\n" + _text(_HEAD)[4:], id="a line break"),
        pytest.param(_text(_HEAD) + "é", id="not ASCII"),
        pytest.param(_text(_HEAD + b"\x00"), id="a gap and no length"),
        pytest.param(_text(_HEAD + b"\x00\x00"), id="an empty run"),
        pytest.param(_text(_HEAD + b"\x00\x02\x05"), id="a run that is too short"),
        pytest.param(_text(_HEAD + b"\x00\x01\x85\x00"), id="a leading zero"),
        pytest.param(_text(_HEAD + b"\x00\x01\x85"), id="half a number"),
        pytest.param(_text(_HEAD + b"\x00\x01\x05\x00\x01\x06"), id="two runs that are one"),
        pytest.param(_text(_HEAD + b"\x00\x01" + b"\xff" * 9 + b"\x01"), id="a number of 64 bits"),
        pytest.param(_text(_HEAD + b"\xff" * 12_000), id="an endless number"),
        pytest.param(_text(_HEAD + b"\x00\xff\xff\xff\xff\xff\xff\xff\xff\x7f"), id="an endless run"),
        pytest.param("A" * (MAX_CHARACTERS + 1), id="too long"),
    ],
)
def test_what_encode_does_not_return_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        decode_sync_cursor(text)


@examples()
@given(
    st.text(max_size=60)
    | st.binary(max_size=40).map(lambda tail: _text(_HEAD + tail))
    | st.tuples(cursors.map(encode_sync_cursor), st.integers(0, 80), st.characters(max_codepoint=0x7F)).map(
        lambda cut: cut[0][: cut[1]] + cut[2] + cut[0][cut[1] + 1 :]
    )
)
def test_any_text_is_the_one_of_its_cursor_or_refused(text: str) -> None:
    try:
        cursor = decode_sync_cursor(text)
    except ValueError:
        return
    assert encode_sync_cursor(cursor) == text
