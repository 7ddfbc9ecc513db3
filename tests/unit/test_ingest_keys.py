from __future__ import annotations

import pytest

from services.ingest.keys import fresh_key, key_in_header, required_key
from services.runtime.problems import Problem


def refusal(problem: Problem) -> tuple[int, str, list[str]]:
    return problem.status, problem.reason, [error["pointer"] for error in problem.errors]


@pytest.mark.parametrize("header", ["k-1", '"k-1"', ' "k-1" ', "\tk-1"])
def test_a_key_means_the_same_quoted_and_bare(header: str) -> None:
    assert key_in_header([header]) == "k-1"


def test_quotes_and_backslashes_inside_a_quoted_key_are_unescaped() -> None:
    assert key_in_header([r'"a\"b\\c"']) == r'a"b\c'


def test_a_bare_key_may_have_a_quote_inside() -> None:
    assert key_in_header(['a"b']) == 'a"b'


@pytest.mark.parametrize("headers", [[], [""], ["  "]])
def test_an_absent_or_empty_header_is_no_key(headers: list[str]) -> None:
    assert key_in_header(headers) is None


@pytest.mark.parametrize(
    "header",
    ['"open', '"', '""', '"a" b', '"a";p=1', '"a\\b"', "two words", '"two words"', "é", "a\x7f", "x" * 129],
)
def test_a_header_that_holds_no_key_is_malformed(header: str) -> None:
    with pytest.raises(Problem) as caught:
        key_in_header([header])
    assert refusal(caught.value) == (400, "malformed", ["/idempotency-key"])


def test_128_characters_are_a_key() -> None:
    assert key_in_header(["x" * 128]) == "x" * 128


def test_the_header_twice_with_one_key_is_that_key() -> None:
    assert key_in_header(["k-1", '"k-1"']) == "k-1"


def test_the_header_twice_with_two_keys_is_malformed() -> None:
    with pytest.raises(Problem) as caught:
        key_in_header(["k-1", "k-2"])
    assert refusal(caught.value) == (400, "malformed", ["/idempotency-key"])


@pytest.mark.parametrize(("header", "body"), [("k", None), (None, "k"), ("k", "k")])
def test_the_key_is_taken_from_the_header_the_body_or_both_alike(header: str | None, body: str | None) -> None:
    assert required_key(header, body) == "k"


def test_two_different_keys_are_malformed() -> None:
    with pytest.raises(Problem) as caught:
        required_key("k-1", "k-2")
    assert refusal(caught.value) == (400, "malformed", ["/client_generated_id"])


def test_no_key_is_missing_key() -> None:
    with pytest.raises(Problem) as caught:
        required_key(None, None)
    assert (caught.value.status, caught.value.reason) == (400, "missing_key")


@pytest.mark.parametrize("body", ["", "two words", "é", "x" * 129, "a\0"])
def test_a_key_in_the_body_of_another_form_is_malformed(body: str) -> None:
    with pytest.raises(Problem) as caught:
        required_key(None, body)
    assert refusal(caught.value) == (400, "malformed", ["/client_generated_id"])


def test_fresh_keys_differ_and_are_keys() -> None:
    one, other = fresh_key(), fresh_key()
    assert one != other
    assert required_key(one, None) == one
