from __future__ import annotations

from urllib.parse import unquote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import ids
from services.ingest.api.keys import fresh_key, key_in_header, required_key, wire_key
from services.runtime.web.problems import Problem


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
    [
        *('"open', '"', '""', '"a" b', '"a\\b"', "two words", "é", '"é"', "a\x7f", "x" * 129, f'"{"x" * 129}"'),
        *('"a";', '"a";P=1', '"a";p=', '"a";p=é', '"a";p="', '"a" ;p=1', '"a", "b"', '"a";p=1.', '"a";p=1;'),
    ],
)
def test_a_header_that_holds_no_key_is_malformed(header: str) -> None:
    with pytest.raises(Problem) as caught:
        key_in_header([header])
    assert refusal(caught.value) == (400, "malformed", ["/idempotency-key"])


@pytest.mark.parametrize(
    "parameters",
    [";a", ";a=1", ";a=-1.5", ';  a="x; \\" y"', ";a=tok/en:*", ";a=:aGk=:", ";a=?0;*b-c.d_e=?1", ";a=1;a=2"],
)
def test_the_parameters_of_a_quoted_key_are_ignored(parameters: str) -> None:
    assert key_in_header([f'"k-1"{parameters}']) == "k-1"


def test_a_bare_key_is_taken_as_it_stands_and_has_no_parameters() -> None:
    assert key_in_header(["k-1;v=1"]) == "k-1;v=1"


def test_a_quoted_key_may_have_spaces() -> None:
    assert key_in_header(['"order 17"']) == "spaced:order+17"
    assert key_in_header(['" 1+1 = 100% "']) == "spaced:+1%2B1+=+100%25+"


def test_a_key_that_looks_like_one_with_spaces_is_another() -> None:
    assert key_in_header(["spaced:order+17"]) == key_in_header(['"spaced:order+17"']) == "spaced:spaced:order%2B17"


keys = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=128)


@given(keys | st.from_regex(r"(spaced:)?[ +%2B5a]{1,20}", fullmatch=True))
def test_every_quoted_key_has_a_client_generated_id_that_no_other_has(key: str) -> None:
    quoted = '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if len(wire_key(key)) > 128:
        with pytest.raises(Problem):
            key_in_header([quoted])
        return
    wire = key_in_header([quoted])
    assert wire is not None
    assert ids.is_client_generated_id(wire)
    told = unquote_plus(wire.removeprefix("spaced:")) if wire.startswith("spaced:") else wire
    assert told == key, "so it can be told from its client_generated_id"
    assert wire == key or " " in key or key.startswith("spaced:")


def test_128_characters_are_a_key() -> None:
    assert key_in_header(["x" * 128]) == key_in_header([f'"{"x" * 128}"']) == "x" * 128
    assert key_in_header([f'"{"x " * 60}"']) == "spaced:" + "x+" * 60


def test_a_key_that_spaces_make_too_long_for_the_wire_is_malformed() -> None:
    with pytest.raises(Problem) as caught:
        key_in_header([f'"{"x " * 61}"'])
    assert refusal(caught.value) == (400, "malformed", ["/idempotency-key"])
    assert "129" in str(caught.value.detail)


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
