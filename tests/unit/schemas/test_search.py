"""The tokens of texts: what a search finds, script by script, and that the verifier's own reading agrees."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.ids import ChatId
from schemas.search import (
    MAX_TOKEN_CHARACTERS,
    MAX_TOKENS,
    Piece,
    chat_lexeme,
    lexemes,
    masked,
    normalized,
    pieces,
    plain_tokens,
    time_lexemes,
    tokens,
)
from services.ops.verify.projection.words import all_lexemes, tokens_of
from tests.support.ways import TOKENS, compares

CHAT = ChatId("11111111-1111-4111-8111-111111111111")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Hello, World! Don't", ["hello", "world", "don", "t"]),
        ("snake_case v2.0 C++", ["snake", "case", "v2", "0", "c"]),
        ("", []),
        ("👍 … !?", []),
        ("again Again AGAIN", ["again"]),
        ("Straße ﬁne ＡＢＣ ①", ["strasse", "fine", "abc", "1"]),
        ("Ünïcödé café cafe\u0301 İstanbul", ["unicode", "cafe", "istanbul"]),
        ("Ёлка чай", ["елка", "чаи"]),
        ("ΜΆΪΟΣ σίγμας", ["μαιοσ", "σιγμασ"]),
        ("Việt Nam đẹp", ["viet", "nam", "đep"]),
        ("الْعَرَبِيَّةُ العـــربية", ["العربية"]),
        ("שָׁלוֹם", ["שלום"]),
        ("می\u200cخواهم so\u00adft", ["میخواهم", "soft"]),
        ("a\u200bb", ["a", "b"]),
        ("हिन्दी में संदेश", ["हिन्दी", "में", "संदेश"]),
        ("தமிழ் మలయాళ", ["தமிழ்", "మలయాళ"]),
        ("東京タワー", ["東京", "京タ", "タワ", "ワー", "ー"]),
        ("京", ["京"]),
        ("iPhoneを買う。2024年", ["iphone", "を買", "買う", "う", "2024", "年"]),
        ("ﾊﾟｿｺﾝ", ["パソ", "ソコ", "コン", "ン"]),
        ("か\u3099", ["が"]),
        ("か が", ["か", "が"]),
        ("人々・〆切", ["人々", "々", "〆切", "切"]),
        ("한국어를 공부해요", ["한국", "국어", "어를", "를", "공부", "부해", "해요", "요"]),
        ("\u1112\u1161\u11ab글", ["한글", "글"]),
        ("我们去吧", ["我们", "们去", "去吧", "吧"]),
        ("𠮷野家", ["𠮷野", "野家", "家"]),
        ("ภาษาไทย", ["ภา", "าษ", "ษา", "าไ", "ไท", "ทย", "ย"]),
        ("ที่", ["ที", "ี่", "่"]),
        ("1️⃣ ❤️x", ["1", "x"]),
        (
            "see https://user:pw@Docs.Example.org:8080/Read%20Me/v2.html?utm=spam#top now",
            ["see", "docs", "example", "org", "read", "me", "v2", "html", "now"],
        ),
        ("http://a.b?q=1を見て", ["a", "b", "を見", "見て", "て"]),
        ("no scheme: example.org/a?b=c", ["no", "scheme", "example", "org", "a", "b", "c"]),
    ],
)
def test_a_text_has_these_tokens(text: str, expected: list[str]) -> None:
    assert tokens(text) == expected
    assert tokens_of(text) == expected, "the verifier reads the page otherwise"


WORDS_IN_RUNS = [
    ("明日は東京で会議があります", ["明日", "東京", "会議", "あります"]),
    ("新しいパソコンを買いました", ["新しい", "パソコン", "買い"]),
    ("我们明天在北京开会讨论预算", ["明天", "北京", "开会", "讨论", "预算"]),
    ("中華民國台北市立圖書館", ["民國", "台北市", "圖書館"]),
    ("내일서울에서회의가있습니다", ["내일", "서울", "회의", "있습니다"]),
    ("한국어문서를검색합니다", ["한국어", "문서", "검색"]),
    ("พรุ่งนี้มีประชุมที่กรุงเทพ", ["พรุ่งนี้", "ประชุม", "กรุงเทพ"]),
    ("สวัสดีครับผมชื่อสมชาย", ["สวัสดี", "ครับ", "ชื่อ", "สมชาย"]),
]


@pytest.mark.parametrize(("text", "words"), WORDS_IN_RUNS)
def test_every_word_inside_a_run_is_in_its_tokens(text: str, words: list[str]) -> None:
    there = set(tokens(text))
    for word in words:
        asked = set(tokens(word)) - {normalized(word)[-1]}
        assert asked <= there, word
    for character in normalized(text):
        assert any(token.startswith(character) for token in there), "a query of one character is a prefix"


def test_a_message_has_at_most_256_tokens_and_a_token_at_most_64_characters() -> None:
    many = tokens(" ".join(f"w{n}" for n in range(1_000)))
    assert many == [f"w{n}" for n in range(MAX_TOKENS)]
    assert len(tokens("漢字" + "".join(map(chr, range(0x4E00, 0x5000))))) == MAX_TOKENS
    assert tokens("x" * 1_000 + " y" + " é" * 2) == ["x" * MAX_TOKEN_CHARACTERS, "y", "e"]


def test_a_messages_lexemes_name_its_chat_and_its_time_in_forms_that_no_token_has() -> None:
    hour = 490_554
    assert chat_lexeme(CHAT) == f"c:{CHAT}"
    assert time_lexemes(hour * 3_600_000 + 3_599_999) == ("h:490554", "i:15329", "j:479")
    found = lexemes(CHAT, hour * 3_600_000, "c:x h:490554")
    assert found == [f"c:{CHAT}", "h:490554", "i:15329", "j:479", "c", "x", "h", "490554"]
    assert sorted(found) == all_lexemes(CHAT, hour * 3_600_000_000, "c:x h:490554")
    assert lexemes(CHAT, 0, None) == [f"c:{CHAT}", "h:0", "i:0", "j:0"]


NOTABLE = "aé漢かｶﾞ한ㅋภัाि्ـ\u0301\u3099\u200b\u200c\u200d\ufe0f ./:?#@%20httpsHTTP://"
texts = st.one_of(st.text(), st.text(st.sampled_from(NOTABLE)), st.text(st.characters(codec="utf-8")))


@given(texts)
def test_the_verifier_makes_the_same_tokens(text: str) -> None:
    assert tokens(text) == tokens_of(text)


@given(texts)
def test_tokens_are_distinct_and_of_letters_marks_and_numbers(text: str) -> None:
    found = tokens(text)
    assert len(set(found)) == len(found) <= MAX_TOKENS
    for token in found:
        assert 1 <= len(token) <= MAX_TOKEN_CHARACTERS
        assert {unicodedata.category(character)[0] for character in token} <= set("LMN")


@given(texts)
def test_the_fast_way_for_ascii_is_the_same(text: str) -> None:
    ascii_text = text.encode("ascii", "ignore").decode()
    plain = masked(normalized(ascii_text))
    assert tokens(ascii_text) == list(dict.fromkeys(piece.text for piece in pieces(plain)))[:MAX_TOKENS]


@compares
@given(texts | st.text(st.characters(max_codepoint=0x7F)))
@example(" ".join(f"w{n % 400}" for n in range(1_000)))
@example("y" * 64 + " " + "y" * 65 + " " + "y" * 63)
@example("@AZ[`az{/09: \0 \x7f")
def test_the_compiled_tokens_are_the_plain_ones(text: str) -> None:
    assert tokens(text) == plain_tokens(text)


@compares
@pytest.mark.parametrize(
    ("text", "found"),
    [("", []), ("A:// b", None), ("a:/ / b", ["a", "b"]), ("é", None), ("a:", ["a"]), ("A:/", ["a"]), ("://", None)],
)
def test_compiled_code_makes_the_tokens_of_ascii_without_urls(text: str, found: list[str] | None) -> None:
    assert TOKENS.ascii_tokens(text, MAX_TOKENS, MAX_TOKEN_CHARACTERS) == found


@compares
def test_compiled_code_refuses_more_tokens_than_it_has_room_for() -> None:
    for most in (0, MAX_TOKENS + 1):
        with pytest.raises(ValueError, match="room"):
            TOKENS.ascii_tokens("a", most, MAX_TOKEN_CHARACTERS)


@given(texts)
def test_a_text_in_another_normal_form_has_the_same_tokens(text: str) -> None:
    assert tokens(unicodedata.normalize("NFD", text)) == tokens(text)
    assert tokens(unicodedata.normalize("NFKC", text)) == tokens(text)


@given(texts)
def test_masking_keeps_every_character_in_its_place(text: str) -> None:
    plain = normalized(text)
    hidden = masked(plain)
    assert len(hidden) == len(plain)
    assert all(shown in (" ", was) for shown, was in zip(hidden, plain, strict=True))


def test_a_long_word_is_cut_but_keeps_its_place() -> None:
    (piece,) = pieces("y" * 100)
    assert piece == Piece("y" * 64, False, 0, 100)
