"""Queries, where their words are in a text, and what of the text is shown."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.search import normalized, tokens
from services.query.search.matching import Span, clusters, find
from services.query.search.snippets import SNIPPET_CHARACTERS, snippet_of
from services.query.search.terms import MAX_TERMS, NothingToSearch, parse
from tests.unit.schemas.test_search import WORDS_IN_RUNS, texts


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        ("Hello wor", "'hello' & 'wor':*"),
        ("he", "'he'"),
        ("hello wo", "'hello' & 'wo'"),
        ('"hello wor"', "'hello' & 'wor'"),
        ('“hello” "wor', "'hello' & 'wor'"),
        ('"hello" world', "'hello' & 'world':*"),
        ('world ""', "'world':*"),
        ("word word", "'word' & 'word':*"),
        ("東京タワー", "'東京' & '京タ' & 'タワ' & 'ワー'"),
        ("京", "'京':*"),
        ("東京 hello", "'東京' & 'hello':*"),
        ("https://example.org/Docs?x=1", "'example' & 'org' & 'docs':*"),
        ("it's 'quoted' & !odd | (x):*", "'it' & 's' & 'quoted' & 'odd' & 'x'"),
    ],
)
def test_the_index_is_asked_for(query: str, asked: str) -> None:
    assert parse(query).tsquery == asked


@pytest.mark.parametrize("query", ["", " ", "👍", '""', "…", "https://"])
def test_a_query_without_a_word_is_refused(query: str) -> None:
    with pytest.raises(NothingToSearch, match="letters or digits"):
        parse(query)


def test_a_query_has_a_bounded_number_of_words() -> None:
    parse(" ".join(["word"] * MAX_TERMS))
    with pytest.raises(NothingToSearch, match=f"more than {MAX_TERMS}"):
        parse(" ".join(["word"] * (MAX_TERMS + 1)))


@pytest.mark.parametrize(
    ("query", "text", "parts"),
    [
        ("hello wor", "Hello, World!", ["Hello", "Wor"]),
        ("world hello", "Hello, World!", ["Hello", "World"]),
        ("hello moon", "Hello, World!", None),
        ("ell", "Hello", None),
        ('"to be"', "be to, to be", ["to be"]),
        ('"to be"', "be to", None),
        ('"to be"', "to bed", None),
        ("cafe", "Un CAFÉ\u0301!", ["CAFÉ\u0301"]),
        ("strasse", "Die Straße", ["Straße"]),
        ("東京", "東の京都、京都と東京都", ["東京"]),
        ("東京都", "東京、京都", None),
        ("京", "東京", ["京"]),
        ("パソコン", "新しいﾊﾟｿｺﾝ", ["ﾊﾟｿｺﾝ"]),
        ('"東京 tower"', "東京 Tower", ["東京 Tower"]),
        ('"東京 tower 2"', "大東京 Tower 2", ["東京 Tower 2"]),
        ('"京 東"', "大京 東京", ["京 東"]),
        ("한국", "대한국어", ["한국"]),
        ("ไทย", "ภาษาไทย", ["ไทย"]),
        ("example docs", "see https://example.org/docs?x=1", ["example", "docs"]),
        ("x", "see https://example.org/docs?x=1", None),
    ],
)
def test_a_term_is_found_in_these_parts_of_a_text(query: str, text: str, parts: list[str] | None) -> None:
    found = find(parse(query), text)
    assert (None if found is None else [text[span.start : span.end] for span in found]) == parts


@pytest.mark.parametrize(("text", "words"), WORDS_IN_RUNS)
def test_every_word_inside_a_run_is_found(text: str, words: list[str]) -> None:
    for word in words:
        assert find(parse(word), text), word
        assert find(parse(word[0]), text), word


@given(texts)
def test_what_is_asked_of_the_index_holds_for_each_text_in_which_a_query_is_found(text: str) -> None:
    for query in (text[:60], *text.split()[:3]):
        try:
            asked = parse(query.replace('"', ""))
        except NothingToSearch:
            continue
        if find(asked, text) is None:
            continue
        there = tokens(text)
        for operand in asked.tsquery.split(" & "):
            token = operand.split("'")[1]
            assert any(t.startswith(token) if operand.endswith("*") else t == token for t in there), (query, operand)


@given(texts)
def test_a_text_is_normalized_cluster_by_cluster(text: str) -> None:
    spans = list(clusters(text))
    assert "".join(text[start:end] for start, end in spans) == text
    assert "".join(normalized(text[start:end]) for start, end in spans) == normalized(text)


@given(texts.filter(bool), st.data())
def test_a_snippet_is_a_part_of_the_text_with_its_first_match(text: str, data: st.DataObject) -> None:
    long = text * data.draw(st.integers(1, 40))
    start = data.draw(st.integers(0, len(long) - 1))
    match = Span(start, min(len(long), start + data.draw(st.integers(1, 9))))
    snippet = snippet_of(long, [match])
    assert long[snippet.start : snippet.start + len(snippet.text)] == snippet.text
    assert len(snippet.text) <= SNIPPET_CHARACTERS
    (shown,) = snippet.matches
    assert snippet.text[shown.start : shown.end] == long[match.start : snippet.start + shown.end]
    if len(long) <= SNIPPET_CHARACTERS:
        assert snippet.text == long


def test_matches_are_counted_in_code_points() -> None:
    text = "👩‍👩‍👧 𠮷野家で昼食"
    found = find(parse("昼食"), text)
    assert found == [Span(text.index("昼"), len(text))]
    assert unicodedata.name(text[found[0].start]).startswith("CJK")
