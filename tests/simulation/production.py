"""The production writer's modules, in a simulated world."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, MutableMapping
from contextlib import contextmanager
from functools import partial
from random import Random
from types import SimpleNamespace
from typing import Any, Protocol
from unittest import mock

import structlog

from schemas import limits
from schemas.wire.encoding import Command, Unreadable
from services.runtime.process.backoff import Backoff
from services.sequencer.partition import batch as batch_module
from services.sequencer.partition import term, writer
from services.sequencer.peers import exchange
from services.sequencer.rules.decide import Decision
from services.sequencer.rules.state import View
from services.sequencer.snapshots import restore as snapshot_restoring
from tests.oracle import reactions as expected_reactions
from tests.simulation.machines import die_here
from tests.simulation.plan import Plan


class World(Protocol):
    plan: Plan

    def decide(self, view: View, command: Command | Unreadable, at_ms: int) -> Decision: ...
    def logged(self, event: str, fields: Mapping[str, object]) -> None: ...
    def count(self, what: str) -> None: ...


@contextmanager
def production_in(world: World, seed: int) -> Iterator[None]:
    """Replace the production modules' randomness, crash points and log, but none of their decisions."""
    chance = Random(f"production {seed}")

    def listen(_: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        world.logged(str(event.pop("event", "")), event)
        raise structlog.DropEvent

    log = structlog.wrap_logger(None, processors=[listen], wrapper_class=structlog.BoundLogger)
    owners = SimpleNamespace(uuid4=lambda: f"owner-{chance.getrandbits(64):016x}")
    with (
        mock.patch.object(writer, "log", log),
        mock.patch.object(exchange, "log", log),
        mock.patch.object(writer, "Backoff", partial(Backoff, uniform=chance.uniform)),
        mock.patch.object(exchange, "Backoff", partial(Backoff, uniform=chance.uniform)),
        mock.patch.object(term, "uuid", owners),
        mock.patch.object(term, "crash_point", die_here),
        # A fold here has a few dozen records and takes no time; these make it behave like one of millions.
        mock.patch.object(snapshot_restoring, "FOLDED_PER_S", 20),
        mock.patch.object(snapshot_restoring, "SLICE", 2),
        mock.patch.object(term, "COMMANDS_PER_READ", world.plan.commands_per_read),
        mock.patch.object(batch_module, "APPEND_BYTES", world.plan.append_bytes),
        mock.patch.object(batch_module, "decide", world.decide),
        # No run has 50 emojis on a message; the limit of one is met.
        mock.patch.object(limits, "REACTION_KINDS", 1),
        mock.patch.object(expected_reactions, "KINDS", 1),
        _counted(world, "_fold_through", "folds through"),
        _counted(world, "_check_still_ours", "looks for a later term"),
    ):
        yield


@contextmanager
def _counted(world: World, name: str, what: str) -> Iterator[None]:
    """Count how often a method of a term is called, and how often it returns."""
    original = getattr(term.Term, name)

    async def counting(*given: Any) -> None:
        world.count(what)
        await original(*given)
        world.count(f"{what}, and goes on")

    with mock.patch.object(term.Term, name, counting):
        yield
