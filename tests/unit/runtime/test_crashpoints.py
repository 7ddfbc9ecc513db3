"""Crash points as a registry; test_lifecycle.py shows that they kill."""

from __future__ import annotations

import pytest

from services.runtime.process import crashpoints
from services.runtime.process.crashpoints import (
    arm_crash_point,
    crash_point,
    declare_crash_point,
    declared_crash_points,
)


@pytest.fixture(autouse=True)
def _registry_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crashpoints, "_guarantees", {})
    monkeypatch.setattr(crashpoints, "_armed_name", None)
    monkeypatch.setattr(crashpoints, "_passages_left", 0)


def test_each_point_stands_beside_its_guarantee() -> None:
    name = declare_crash_point("writer.before_reply", "The outcome is in the log; a retry gets the original.")
    assert name == "writer.before_reply"
    assert dict(declared_crash_points()) == {name: "The outcome is in the log; a retry gets the original."}


def test_the_same_declaration_twice_is_one_and_another_is_a_mistake() -> None:
    declare_crash_point("writer.before_reply", "One.")
    declare_crash_point("writer.before_reply", "One.")
    with pytest.raises(AssertionError, match="declared twice"):
        declare_crash_point("writer.before_reply", "Two.")


def test_passing_an_undeclared_point_is_found_while_any_is_armed() -> None:
    crash_point("writer.misspelt")
    arm_crash_point(declare_crash_point("writer.before_reply", "One."))
    with pytest.raises(AssertionError, match="never declared"):
        crash_point("writer.misspelt")


def test_passing_other_points_does_not_count() -> None:
    declare_crash_point("writer.other", "Other.")
    arm_crash_point(declare_crash_point("writer.before_reply", "One."))
    crash_point("writer.other")
    arm_crash_point(None)
    crash_point("writer.before_reply")
