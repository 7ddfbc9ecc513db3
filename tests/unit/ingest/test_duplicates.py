"""A repeated member is found wherever it is, and nothing else is reported as one."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingest.api.duplicates import duplicate_member


def found_in(raw: bytes) -> str | None:
    return duplicate_member(raw, len(json.loads(raw)), raw.count(b":"))


@pytest.mark.parametrize(
    ("raw", "pointer"),
    [
        (b'{"text":"a","text":"b"}', "/text"),
        (b'{"text":"a","text":"a"}', "/text"),
        (b'{"text":"a","t\\u0065xt":"b"}', "/text"),
        (b'{"text":"a","metadata":{"k":1,"k":2}}', "/metadata/k"),
        (b'{"text":"a","metadata":{"l":[0,{"k/~":1,"k/~":2}]}}', "/metadata/l/1/k~1~0"),
        (b'{"metadata":{"k":1},"text":"a","metadata":{}}', "/metadata"),
        (b'{"metadata":{"k":1,"k":1},"text":"a","metadata":{}}', "/metadata"),
        (b'{"text":"a","metadata":{"k":1},"client_generated_id":"1"}', None),
        (b'{"text":"a: b: c"}', None),
        (b'{"text":"\\":\\"text\\":"}', None),
        (b'{"metadata":{"text":1},"text":"a"}', None),
        (b"{}", None),
    ],
)
def test_a_member_that_is_named_twice_has_a_place(raw: bytes, pointer: str | None) -> None:
    assert found_in(raw) == pointer


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(st.dictionaries(st.text(max_size=5), VALUES, max_size=4))
def test_what_has_no_member_twice_is_taken(body: dict[str, Any]) -> None:
    assert found_in(json.dumps(body).encode()) is None


@given(st.dictionaries(st.text(max_size=5), VALUES, min_size=1, max_size=4), st.data())
def test_a_repeated_member_is_found_in_any_body(body: dict[str, Any], data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(body)))
    raw = json.dumps(body)[:-1] + f",{json.dumps(name)}:null}}"
    assert found_in(raw.encode()) is not None
