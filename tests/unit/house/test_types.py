"""Every command type has an entry in each room that handles commands, or the room lists it as planned."""

from __future__ import annotations

import ast
from collections.abc import Collection
from pathlib import Path
from typing import Final, NamedTuple, get_type_hints

import pytest

from schemas.bodies import Body, ChatKind, Role, Uuid
from schemas.types import BODY_OF, CommandType, EventType, Noun
from services.ingest.api import paths
from services.live.frames import events as frames
from services.ops.verify.log import nouns as log_nouns
from services.ops.verify.projection import nouns as projection_nouns
from services.projector.mapping import decode, rows
from services.sequencer.rules import chats, members, messages, nouns, reactions, receipts
from tests.oracle import oracle
from tests.support import wire_strategies

ROOT: Final = Path(__file__).parents[3]


class Room(NamedTuple):
    built: Collection[str]
    """Command types with an entry."""
    planned: Collection[str] = ()
    """Command types that the room declares as not supported yet."""


def of_events(events: Collection[str]) -> list[str]:
    return [each.value for each in CommandType if each.declared.event in events]


def named_in(folder: str) -> set[str]:
    """Return the command types that the files of a folder name in their code."""
    names = {
        node.attr
        for path in (ROOT / folder).glob("*.py")
        if path.name != "__init__.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "CommandType"
    }
    return {each.value for each in CommandType if each.name in names}


ROOMS: Final = {
    "gapless log verify": Room(of_events(log_nouns.JUDGES), of_events(log_nouns.PLANNED)),
    "gapless projection verify": Room(of_events(projection_nouns.FOLDS), of_events(projection_nouns.PLANNED)),
    "generated bodies of tests": Room(wire_strategies.BODIES),
    "ingest": Room(named_in("services/ingest/api/paths"), paths.PLANNED),
    "sequencer": Room(nouns.RULES, nouns.PLANNED),
    "tests' oracle": Room(oracle.RULES, oracle.PLANNED),
    "projector": Room(of_events(rows.MAPPED), of_events(decode.PLANNED)),
    "live": Room(of_events(frames.MAKERS), of_events(frames.PLANNED)),
}
READERS: Final = ("projector", "live", "gapless log verify", "gapless projection verify", "tests' oracle")
"""Rooms that read outcomes, and stop at one that they do not know."""


@pytest.mark.parametrize("room", ROOMS)
@pytest.mark.parametrize("command_type", CommandType)
def test_every_room_has_an_entry_for_each_type_or_plans_it(room: str, command_type: CommandType) -> None:
    built, planned = command_type in ROOMS[room].built, command_type in ROOMS[room].planned
    assert built or planned, f"{room} has no entry for {command_type}, and does not name it in PLANNED"
    assert not (built and planned), f"{room} has an entry for {command_type}: take it from PLANNED"


@pytest.mark.parametrize("room", ROOMS)
def test_no_room_has_an_entry_for_a_type_that_is_not_declared(room: str) -> None:
    assert {*map(str, ROOMS[room].built), *map(str, ROOMS[room].planned)} <= set(CommandType)


def test_a_type_is_decided_since_a_release_or_is_planned() -> None:
    assert {each for each in CommandType if each.declared.since is None} == nouns.PLANNED


@pytest.mark.parametrize("room", READERS)
def test_no_type_is_decided_before_its_readers_know_it(room: str) -> None:
    assert {*map(str, ROOMS[room].planned)} <= {*map(str, nouns.PLANNED)}


@pytest.mark.parametrize(
    ("noun", "file"),
    [
        (Noun.CHATS, chats),
        (Noun.MEMBERS, members),
        (Noun.MESSAGES, messages),
        (Noun.REACTIONS, reactions),
        (Noun.RECEIPTS, receipts),
    ],
)
def test_the_rules_of_a_noun_stand_in_its_file(noun: Noun, file: object) -> None:
    assert {each for each in nouns.RULES if each.declared.noun is noun} == set(vars(file)["RULES"])


@pytest.mark.parametrize("model", sorted(set(BODY_OF.values()), key=str))
def test_a_body_with_a_free_field_has_limits(model: type[Body]) -> None:
    """A UUID, a role or a kind is valid if it parses."""
    bound = {Uuid, Role, ChatKind}
    free = {name for name, hint in get_type_hints(model, include_extras=True).items() if hint not in bound}
    free -= set(get_type_hints(Body))
    assert not free or "check_limits" in vars(model), f"{model.__name__} has no check of {free}"


def test_no_two_types_have_an_outcome_in_common() -> None:
    events = [each.declared.event for each in CommandType]
    others = {EventType.DUPLICATE, EventType.UNCHANGED, EventType.REJECTED, EventType.TERM_OPENED}
    assert len(set(events)) == len(events)
    assert {*events, *others} == set(EventType)
    assert not set(events) & others
