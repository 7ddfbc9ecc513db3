"""Structs accept what the pydantic models before them accepted, with the same values, but for two differences.

1. A member named twice: each must be valid. pydantic looked at the last only.
2. Numbers in metadata that are no finite double (`1e400`): refused. pydantic read infinity, which the limits refused.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.bodies import canonical_body, decoder
from schemas.errors import Refused
from schemas.guard import guard_before_parsing
from schemas.types import BODY_OF, CommandType
from tests.support import pydantic_bodies
from tests.support.examples import examples
from tests.support.limit_cases import CASES, Case
from tests.support.wire_strategies import bodies, mangled

_PIECES: Final = (
    b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b" ", b"\n", b"\x00", b"\x1f", b"\x7f", b"\xff", b"\xc0\x80",
    b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\\u0000", b"\\ud800", b"\\ud83d\\ude00", b"null", b"true", b"0", b"-", b".",
    b"e", b"+", b"1e400", b"NaN", b"Infinity", b"9" * 20, b"9" * 31, b"1.0", b"-0", b"1e22", b"9223372036854775808",
    b'"text":1,', b'"text":"b",', b'"seq":1.0', b'"x":1', b"{}", b"[]", b'""', b"'", b"//", b"\\x",
)  # fmt: skip


@st.composite
def _spoilt(draw: st.DrawFn, raw: bytes) -> bytes:
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(raw)))
        end = min(len(raw), at + draw(st.integers(0, 5)))
        raw = raw[:at] + draw(st.sampled_from(_PIECES)) + raw[end if draw(st.booleans()) else at :]
    return raw


def _compare(command_type: str, raw: bytes) -> None:
    try:
        guard_before_parsing(raw)
    except Refused:
        return
    model = BODY_OF[command_type]
    former: type[pydantic_bodies.Body] = getattr(pydantic_bodies, model.__name__)
    before = now = None
    fault = ""
    try:
        read = former.model_validate_json(raw)
        before = {name: getattr(read, name) for name in former.model_fields}
    except ValidationError:
        pass
    try:
        body = decoder(model)(raw)
        now = {name: getattr(body, name) for name in model.__struct_fields__}
    except (ValueError, RecursionError) as error:
        fault = str(error)
    if before is not None and now is None:
        assert _names_twice(raw) or _has_no_finite_number(raw), (raw, fault)
        return
    assert repr(now) == repr(before), raw


def _names_twice(raw: bytes) -> bool:
    twice: list[bool] = []

    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        twice.append(len(found) != len(pairs))
        return found

    json.loads(raw, object_pairs_hook=members)
    return any(twice)


def _has_no_finite_number(raw: bytes) -> bool:
    numbers: list[str] = re.findall(r"NaN|Infinity|-?\d[\d.eE+-]*", raw.decode())
    return any(number in ("NaN", "Infinity") or abs(float(number)) == float("inf") for number in numbers)


@examples(1_000)
@given(bodies().flatmap(lambda drawn: st.tuples(st.just(drawn[0]), _spoilt(canonical_body(drawn[1])))))
@example((CommandType.MEMBER_REMOVE, b'{"user_id":"22222222-2222-4222-8222-222222222222\\n"}'))
@example((CommandType.MESSAGE_SEND, b'{"text":1,"text":"b"}'))
@example((CommandType.MESSAGE_SEND, b'{"text":"x","metadata":{"k":NaN}}'))
def test_a_spoilt_body_is_read_as_it_was(spoilt: tuple[CommandType, bytes]) -> None:
    _compare(*spoilt)


@examples(500)
@given(bodies().flatmap(lambda drawn: st.tuples(st.just(drawn[0]), mangled(canonical_body(drawn[1])))))
def test_a_mangled_body_is_read_as_it_was(broken: tuple[CommandType, bytes]) -> None:
    _compare(*broken)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_body_at_a_limit_is_read_as_it_was(case: Case) -> None:
    _compare(case.type, case.raw)
