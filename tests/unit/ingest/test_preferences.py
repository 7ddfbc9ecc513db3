from __future__ import annotations

import pytest

from services.ingest.api.preferences import Preference, read_prefer


def read(*values: str) -> Preference:
    return read_prefer(values, 2.0)


def test_without_the_header_the_default_wait_counts() -> None:
    assert read() == Preference(wait_s=2.0)


@pytest.mark.parametrize(
    ("value", "wait_s", "applied"),
    [
        ("wait=5", 5.0, "wait=5"),
        ("WAIT = 5", 5.0, "wait=5"),
        ('wait="5"', 5.0, "wait=5"),
        ("wait=0", 0.0, "wait=0"),
        ("wait=31", 30.0, "wait=30"),
        ("wait=99999999999999999999", 30.0, "wait=30"),
        ("respond-async", 0.0, "respond-async"),
        ("Respond-Async; foo=bar", 0.0, "respond-async"),
        ("respond-async, wait=10", 10.0, "respond-async, wait=10"),
        ("wait=10,respond-async", 10.0, "respond-async, wait=10"),
        ("handling=lenient, wait=3", 3.0, "wait=3"),
        ('x="a, wait=9", wait=3', 3.0, "wait=3"),
        ("wait=3, wait=9", 3.0, "wait=3"),
    ],
)
def test_a_preference_is_honoured_and_said_to_be(value: str, wait_s: float, applied: str) -> None:
    assert read(value) == Preference(wait_s=wait_s, applied=applied)


@pytest.mark.parametrize(
    "value", ["", ",,,", "wait", "wait=", "wait=-1", "wait=1.5", "wait=x", "wait=٣", "return=minimal", '"', "=5"]
)
def test_what_cannot_be_understood_is_passed_over(value: str) -> None:
    assert read(value) == Preference(wait_s=2.0)


def test_several_header_lines_are_one_list() -> None:
    assert read("handling=lenient", "respond-async", "wait=7").wait_s == 7.0
