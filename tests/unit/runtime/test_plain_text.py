"""Text of users on an operator's terminal: it is shown, and has no other effect."""

from __future__ import annotations

import io
import json
import unicodedata

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from services.runtime.observe.logs import configure_logging
from services.runtime.observe.plain_text import json_safe, visible, visible_lines
from services.runtime.settings import LogSettings

any_text = st.text(st.characters(codec=None), max_size=40)


def controls(text: str) -> set[str]:
    """By the Unicode tables alone: return control, format, surrogate and separator characters, except the two
    joiners.
    """
    return {c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Cs", "Zl", "Zp")} - {"\u200c", "\u200d"}


@given(any_text)
def test_nothing_that_is_shown_controls_a_terminal(text: str) -> None:
    assert controls(visible(text)) == set()
    assert controls(visible_lines(text)) <= {"\n"}
    assert visible(visible(text)) == visible(text)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x07", r"\x1b[2J\x07"),
        ("\x9b31m\x90", r"\x9b31m\x90"),
        ("a\nb\r\tc\x7f", r"a\nb\r\tc\x7f"),
        ("invoice\u202etxt.exe\u2066", r"invoice\u202etxt.exe\u2066"),
        ("\u2028\ufeff\U000e0041", r"\u2028\ufeff\U000e0041"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_controls_a_terminal_is_written_as_an_escape(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize(
    "text", ["Grüße, 你好\u3000世界", "می\u200cخواهم", "👨\u200d👩\u200d👧 🏳️\u200d🌈", "a\u00a0b", r"C:\new", ""]
)
def test_what_people_write_is_shown_as_they_wrote_it(text: str) -> None:
    assert visible(text) == visible_lines(text) == text


@given(
    st.recursive(any_text | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(any_text, inner))
)
def test_json_for_programs_is_the_same_value_and_controls_nothing(value: object) -> None:
    document = json_safe(json.dumps(value, ensure_ascii=False))
    assert json.loads(document) == value
    assert controls(document) == set()


def test_a_log_in_a_terminal_is_not_controlled_by_what_it_tells() -> None:
    out = io.StringIO()
    configure_logging(LogSettings.model_validate({"format": "console", "level": "info"}), service="t", stream=out)
    log = structlog.get_logger()
    log.info("member\x1b[2J", name="\x9b31m", nested=["\u202e"], chat="a\nb")
    try:
        raise ValueError("\x1b]0;title\x07")
    except ValueError:
        log.exception("failed")
    assert controls(out.getvalue()) <= {"\n"}
    assert "title" in out.getvalue()
