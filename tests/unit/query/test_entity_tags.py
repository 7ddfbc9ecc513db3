"""The entity tag of a message: it identifies the bytes, and an edit takes it as If-Match."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.bodies import MessageEdit
from schemas.commands import parse_body
from services.ingest.api.paths.messages import build_edit
from services.ingest.api.requests import Envelope
from services.query.api.entity_tags import entity_tag, none_match_fails
from services.runtime.web.problems import Problem
from tests.unit.ingest.test_routes import ALICE, CHAT

ENVELOPE = Envelope(caller_id=ALICE, scopes=frozenset(), key="k")
revisions = st.integers(min_value=0, max_value=10**15 - 1)


def named_revision(if_match: str) -> int | None:
    """Return the revision that the command of an edit with this If-Match names."""
    command = build_edit(b'{"text": "x"}', CHAT, 1, [if_match], ENVELOPE)
    body = parse_body(command.type, command.body)
    assert isinstance(body, MessageEdit)
    return body.if_revision


@given(revisions, st.binary())
def test_an_edit_takes_the_tag_that_was_read_and_compares_its_revision(revision: int, body: bytes) -> None:
    assert named_revision(entity_tag(revision, body)) == revision
    assert named_revision(f'"{revision}"') == revision


@given(st.binary(), st.binary())
def test_two_bodies_have_the_same_tag_only_if_they_are_the_same_bytes(one: bytes, other: bytes) -> None:
    assert (entity_tag(3, one) == entity_tag(3, other)) == (one == other)


@pytest.mark.parametrize(
    "if_match",
    ["0", 'W/"0"', '"01"', '"0."', '"0.a", "1.b"', '"0.a b"', '".a"', '"a"', '"0.é"', f'"0.{"a" * 65}"', '"-1"'],
)
def test_an_if_match_that_names_no_one_revision_is_malformed(if_match: str) -> None:
    with pytest.raises(Problem, match="malformed"):
        named_revision(if_match)


TAG = entity_tag(2, b"{}")


@pytest.mark.parametrize(
    "header", [TAG, f"W/{TAG}", "*", " * ", f'"x", {TAG}', f'"x",{TAG},W/"y"', f'"2", "a,b" , {TAG}', f"{TAG}\t"]
)
def test_a_tag_that_the_client_has_is_found_in_if_none_match(header: str) -> None:
    assert none_match_fails(header, TAG)


@pytest.mark.parametrize(
    "header", [None, "", '"2"', TAG[1:-1], entity_tag(2, b"{ }"), entity_tag(1, b"{}"), '"*"', "W/*", '"x" "', TAG[:-1]]
)
def test_any_other_if_none_match_is_answered_with_the_message(header: str | None) -> None:
    assert not none_match_fails(header, TAG)
