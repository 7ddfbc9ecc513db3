"""The English of pages, docstrings, comments and messages is held to docs/style.md, file by file."""

from __future__ import annotations

import re

import pytest

from tests.support import prose


def test_no_file_has_more_of_the_forbidden_habits_than_it_had() -> None:
    allowed, grown = prose.debt(), []
    for path in prose.files():
        found = list(prose.find(path))
        if len(found) > allowed.get(path, 0):
            grown += [f"{path} may have {allowed.get(path, 0)} of these (docs/style.md):", *map(str, found)]
    assert not grown, "\n".join(grown)


def test_the_list_of_unrevised_files_names_files_that_are_there() -> None:
    gone = prose.debt().keys() - set(prose.files())
    assert not gone, f"run `python -m tests.support.prose --shrink`: {gone}"


@pytest.mark.parametrize(
    "sentence",
    [
        "Kept for ever.",
        "The caller is\n    told of it.",
        "Nobody reads it.",
        "A topic beside the others.",
        "Gives the position.",
        "Who was never a member gets a 404.",
        "A note for who reads the log.",
        "It goes the short way.",
        "None where there is no compiler.",
        "Of record values, in bytes.",
    ],
)
def test_a_forbidden_habit_is_found(sentence: str) -> None:
    assert any(habit.pattern.search(sentence) for habit in prose.HABITS)


@pytest.mark.parametrize(
    "sentence",
    [
        "Besides, it gives up after a minute.",
        "Who may read a chat? Its members.",
        "It returns what the caller told it to return.",
        "One of the members who left.",
    ],
)
def test_plain_english_is_left_alone(sentence: str) -> None:
    assert not any(habit.pattern.search(sentence) for habit in prose.HABITS)


def test_every_kind_of_prose_is_read() -> None:
    python = '''"""Kept for ever."""
X = 1  # nobody
"""Of a chat."""
# sent by
# who asks
print("is told this")
'''
    found = [p.text for p in prose.prose_of("services/x.py", python)]
    assert found == ["Kept for ever.", "Of a chat.", "is told this", "nobody", "sent by\nwho asks"]
    assert [p.text for p in prose.prose_of("a.sql", "SELECT 1; -- nobody\n-- knows")] == ["nobody\nknows"]
    assert [p.text for p in prose.prose_of("a.pyx", 'x = 1  # one\n"""Two."""')] == ["Two.", "one"]


def test_the_style_page_has_ten_rules_each_with_an_example() -> None:
    page = (prose.ROOT / "docs/style.md").read_text(encoding="utf-8")
    rules = re.findall(r"^\*\*(\d+)\. .*?(?=^\*\*\d+\. |^## )", page, re.MULTILINE | re.DOTALL)
    assert rules == [str(n) for n in range(1, 11)]
    assert page.count("- Before: ") == page.count("- After: ") == 10
