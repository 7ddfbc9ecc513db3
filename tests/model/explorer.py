"""A breadth-first search through every state that the machine can be in, each visited once.

Logs, writers and abandoned appends are numbered as they are found, and a state is the four numbers packed into one: so
a million states fit in memory, and the steps of a part are computed once for each pair of parts.

tests/model/reductions.py explains how the states become fewer without leaving anything out.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator

from tests.model.explored import Explored
from tests.model.machine import Machine
from tests.model.mistakes import Mistake
from tests.model.numbered import Numbered
from tests.model.reductions import FOLD_TO_COME, folding_again, stale, without_voids
from tests.model.values import (
    VOID,
    Append,
    Bounds,
    Log,
    Phase,
    Summary,
    Writer,
    floor_of,
    landed,
    shifted,
    swapped_append,
    swapped_log,
    swapped_writer,
    under_way,
)

Abandoned = tuple[int, tuple[Append, ...]]
"""Copies left, and the appends that no writer waits for and that may still land, sorted."""

_LOG, _WRITER, _ABANDONED = 28, 22, 24
"""Bits of each number in a packed state."""

_Step = tuple[str, str, int, str | None, Append]
_Move = tuple[str, str, int, str | None]
"""The kind of step, its description, the state after it, the invariant that it violates."""


class Explorer:
    """One exploration of one machine."""

    def __init__(
        self, bounds: Bounds, mistake: Mistake | None = None, *, reduced: bool, symmetric: bool = True
    ) -> None:
        self.machine = Machine(bounds, mistake)
        self.bounds = bounds
        self.mistake = mistake
        self._reduced = reduced
        self._symmetric = symmetric
        self._logs: Numbered[Log] = Numbered(_LOG, swapped_log)
        self._writers: Numbered[Writer] = Numbered(_WRITER, swapped_writer)
        self._abandoned: Numbered[Abandoned] = Numbered(_ABANDONED, _swapped_abandoned)
        self._folds: dict[int, list[Summary]] = {}
        self._step_cache: dict[int, list[_Step]] = {}
        self._abandon_cache: dict[tuple[int, Append, int], int] = {}
        self._copy_cache: dict[tuple[int, Append], int | None] = {}
        self._landing_cache: dict[int, list[tuple[Append, list[int]]]] = {}
        self._landed_cache: dict[tuple[int, Append], tuple[int, str, str, str | None]] = {}
        self._stale_cache: dict[tuple[int, int], int] = {}
        self._normal_cache: dict[tuple[int, int, int], tuple[int, int, int]] = {}

    # --- exploring --------------------------------------------------------------------------------------------

    def explore(self, *, most_states: int | None = None, parents: dict[int, int] | None = None) -> Explored:
        """Explore to the end, to the first violation, or to `most_states`. `parents` is filled for `trace`."""
        began = time.perf_counter()
        explored = Explored(self.bounds, self.mistake, self._reduced)
        kinds = explored.kinds
        first = self._first()
        seen = {first}
        frontier = [first]
        while frontier:
            following: list[int] = []
            for state in frontier:
                for kind, _, packed, violates in self._moves(state):
                    kinds[kind] += 1
                    if violates is not None:
                        explored.violation = violates
                        if parents is not None:
                            parents[-1] = state
                        break
                    if packed not in seen:
                        seen.add(packed)
                        following.append(packed)
                        if parents is not None:
                            parents[packed] = state
                if explored.violation is not None:
                    following = []
                    break
            frontier = following
            explored.depth += 1
            if most_states is not None and len(seen) > most_states:
                break
        explored.states = len(seen)
        explored.transitions = sum(kinds.values())
        explored.tails = frozenset(log.tail for log in self._logs.values)
        if not frontier and explored.violation is None and not self._all_answered(explored.tails):
            explored.violation = "there is no way to an answer for every command"
        explored.seconds = time.perf_counter() - began
        return explored

    def _all_answered(self, tails: frozenset[Summary]) -> bool:
        return any(tail.command + 1 == self.bounds.commands for tail in tails)

    def _first(self) -> int:
        log, a, b = self.machine.begin()
        abandoned: Abandoned = (0 if self._reduced else self.bounds.copies, ())
        return _pack(
            self._logs.number(log),
            self._writers.number(a),
            self._writers.number(b),
            self._abandoned.number(abandoned),
        )

    def _moves(self, state: int) -> Iterator[_Move]:
        """Yield all steps that are possible now."""
        log, a, b, abandoned = _unpack(state)
        for kind, says, writer, violates, left in self._steps(0, a, log):
            after = self._abandon(abandoned, left, log) if left else abandoned
            yield kind, says, self._settle(log, writer, b, after), violates
        for kind, says, writer, violates, left in self._steps(1, b, log):
            after = self._abandon(abandoned, left, log) if left else abandoned
            yield kind, says, self._settle(log, a, writer, after), violates
        yield from self._landings(log, a, b, abandoned)

    def _landings(self, log: int, a: int, b: int, abandoned: int) -> Iterator[_Move]:
        """Yield the landings that are possible now: what a writer waits for, what was abandoned, a copy of either."""
        writer_a, writer_b = self._writers.values[a], self._writers.values[b]
        at = len(self._logs.values[log].records)
        for append, me in ((under_way(writer_a), 0), (under_way(writer_b), 1)):
            if not append:
                continue
            log_after, kind, says, violates = self._land(log, append)
            rest = self._fresh(abandoned, log_after)
            number = self._writers.number(landed(writer_b if me else writer_a, at))
            if violates is None and self._reduced:
                for after in self._told(me, number, log_after):
                    then = (a, after[2]) if me else (after[2], b)
                    yield f"{kind}, {after[0]}", says, self._settle(log_after, *then, rest), after[3]
                continue
            then = (a, number) if me else (number, b)
            yield kind, says, self._settle(log_after, *then, rest), violates
            if (copying := self._copied(abandoned, append)) is not None:
                yield kind, says, self._settle(log_after, *then, copying), violates
        for append, choices in self._choices(abandoned):
            log_after, kind, says, violates = self._land(log, append)
            for choice in choices:
                rest = self._fresh(choice, log_after)
                yield kind, says, self._settle(log_after, a, b, rest), violates
                # The broker may acknowledge either of two copies.
                if append == writer_a.append:
                    again = self._writers.number(writer_a._replace(landed=at))
                    yield kind, f"{says}, acknowledged", self._settle(log_after, again, b, rest), violates
                if append == writer_b.append:
                    again = self._writers.number(writer_b._replace(landed=at))
                    yield kind, f"{says}, acknowledged", self._settle(log_after, a, again, rest), violates
        if self._reduced:
            log_after, _, _, _ = self._land(log, (VOID,))
            yield "void record", "a void record lands", self._settle(log_after, a, b, abandoned), None

    # --- the normal form of a state ---------------------------------------------------------------------------

    def _settle(self, log: int, a: int, b: int, abandoned: int) -> int:
        """Summarise what both have passed, choose the smaller of the state and its mirror image, and pack it."""
        key = (log, a, b)
        normal = self._normal_cache.get(key)
        if normal is None:
            normal = self._normal_cache[key] = self._normal(log, a, b)
        log, a, b = normal
        packed = _pack(log, a, b, abandoned)
        if not self._symmetric:
            return packed
        mirror = _pack(
            self._logs.mirror(log), self._writers.mirror(b), self._writers.mirror(a), self._abandoned.mirror(abandoned)
        )
        return packed if packed < mirror else mirror

    def _normal(self, log: int, a: int, b: int) -> tuple[int, int, int]:
        the_log, writer_a, writer_b = self._logs.values[log], self._writers.values[a], self._writers.values[b]
        folds = self._folds.get(log)
        if folds is None:
            folds = self._folds[log] = self.machine.folds(the_log)
        if self._reduced:
            writer_a, writer_b = self._proven(folds, writer_a), self._proven(folds, writer_b)
        floors = [f for f in (self._floor(writer_a), self._floor(writer_b)) if f is not None]
        floor = min(floors, default=len(the_log.records))
        if floor:
            the_log = Log(folds[floor], the_log.records[floor:], the_log.tail)
            writer_a, writer_b = shifted(writer_a, floor), shifted(writer_b, floor)
        if self._reduced:
            writer_a, writer_b = folding_again(writer_a, the_log), folding_again(writer_b, the_log)
            the_log, writer_a, writer_b = without_voids(the_log, writer_a, writer_b)
        return self._logs.number(the_log), self._writers.number(writer_a), self._writers.number(writer_b)

    def _floor(self, writer: Writer) -> int | None:
        return None if self._reduced and writer.phase in FOLD_TO_COME else floor_of(writer)

    def _proven(self, folds: list[Summary], writer: Writer) -> Writer:
        """Check that a writer's state is the fold of the log; then one that backed off may as well have lost it."""
        if writer.phase is Phase.DOWN:
            return writer
        assert writer.state == folds[writer.position], f"{writer} stands where the log says {folds[writer.position]}"
        return Writer(Phase.DOWN, writer.starts) if writer.phase is Phase.BACKED_OFF else writer

    # --- what the parts can do, asked once --------------------------------------------------------------------

    def _steps(self, me: int, writer: int, log: int) -> list[_Step]:
        value = self._writers.values[writer]
        # Two phases depend only on the writer itself.
        blind = value.phase in (Phase.FOLDED, Phase.OPENING)
        key = ((0 if blind else log + 1) << _WRITER | writer) << 1 | me
        found = self._step_cache.get(key)
        if found is None:
            found = self._step_cache[key] = [
                (step.kind, step.says, self._writers.number(step.writer), step.violates, step.abandons)
                for step in self.machine.steps(me, value, self._logs.values[log])
                # In the reduced search, a crash and an unknown result lead to the same state.
                if not (self._reduced and step.kind == "crash" and value.phase not in (Phase.FOLDED, Phase.SERVING))
                and not (self._reduced and step.kind == "gives up")
            ]
        return found

    def _told(self, me: int, writer: int, log: int) -> list[_Step]:
        """Return the steps of a writer whose append has landed, in the reduced search: acknowledged at once, or
        never.
        """
        steps = self._steps(me, writer, log)
        return [step for step in steps if step[0] != "crash"]

    def _land(self, log: int, append: Append) -> tuple[int, str, str, str | None]:
        key = (log, append)
        found = self._landed_cache.get(key)
        if found is None:
            after, rows, violates = self.machine.land(self._logs.values[log], append)
            kind = "lands " + "+".join(row.name for row in rows)
            says = "lands: " + ", ".join(f"{entry} [{row.value}]" for entry, row in zip(append, rows, strict=False))
            found = self._landed_cache[key] = (self._logs.number(after), kind, says, violates)
        return found

    def _abandon(self, abandoned: int, append: Append, log: int) -> int:
        key = (abandoned, append, log)
        found = self._abandon_cache.get(key)
        if found is None:
            copies, appends = self._abandoned.values[abandoned]
            found = self._abandoned.number((copies, tuple(sorted((*appends, append)))))
            found = self._abandon_cache[key] = self._fresh(found, log)
        return found

    def _copied(self, abandoned: int, append: Append) -> int | None:
        """Return the state with a copy of a landing append still to come, or None if the bound on copies is reached."""
        key = (abandoned, append)
        if key not in self._copy_cache:
            copies, appends = self._abandoned.values[abandoned]
            self._copy_cache[key] = (
                self._abandoned.number((copies - 1, tuple(sorted((*appends, append))))) if copies else None
            )
        return self._copy_cache[key]

    def _choices(self, abandoned: int) -> list[tuple[Append, list[int]]]:
        """Return each abandoned append that may land, with what is left after it: without it, or with a copy to
        come.
        """
        found = self._landing_cache.get(abandoned)
        if found is None:
            copies, appends = self._abandoned.values[abandoned]
            found = []
            for append in dict.fromkeys(appends):
                rest = list(appends)
                rest.remove(append)
                after = [self._abandoned.number((copies, tuple(rest)))]
                if copies:
                    after.append(self._abandoned.number((copies - 1, appends)))
                found.append((append, after))
            self._landing_cache[abandoned] = found
        return found

    def _fresh(self, abandoned: int, log: int) -> int:
        """In the reduced search, drop the appends that can only be void by now."""
        if not self._reduced:
            return abandoned
        key = (abandoned, log)
        found = self._stale_cache.get(key)
        if found is None:
            copies, appends = self._abandoned.values[abandoned]
            tail = self._logs.values[log].tail
            fresh = tuple(append for append in appends if not stale(append, tail))
            found = self._stale_cache[key] = self._abandoned.number((copies, fresh))
        return found

    # --- the way back -----------------------------------------------------------------------------------------

    def trace(self, parents: dict[int, int]) -> list[str]:
        """Return the shortest way to the violation as text; only for a plain exploration without symmetry."""
        if -1 not in parents:
            return ["(this is about all ways)"]
        way = [parents[-1]]
        while way[0] in parents:
            way.insert(0, parents[way[0]])
        told: list[str] = []
        offset = 0
        for state, after in zip(way, [*way[1:], None], strict=True):
            for kind, says, packed, violates in self._moves(state):
                if packed == after or (after is None and violates is not None):
                    landing = kind.startswith("lands ")
                    told.append(f"{len(told) + 1:3}  {f'offset {offset} ' if landing else ''}{says}")
                    offset += kind.count("+") + 1 if landing else 0
                    break
        return told


def explore(
    bounds: Bounds, mistake: Mistake | None = None, *, reduced: bool = False, most_states: int | None = None
) -> Explored:
    """Explore to the end or to the first violation, which then comes with the shortest trace to it."""
    collecting = gc.isenabled()
    gc.disable()  # nothing here is garbage before the end, and collecting takes a quarter of the time
    try:
        explored = Explorer(bounds, mistake, reduced=reduced).explore(most_states=most_states)
        if explored.violation is not None:
            again = Explorer(bounds, mistake, reduced=False, symmetric=False)
            parents: dict[int, int] = {}
            explored.violation = again.explore(parents=parents).violation
            explored.trace = again.trace(parents)
        return explored
    finally:
        if collecting:
            gc.enable()


def _pack(log: int, a: int, b: int, abandoned: int) -> int:
    return ((log << _WRITER | a) << _WRITER | b) << _ABANDONED | abandoned


def _unpack(state: int) -> tuple[int, int, int, int]:
    return (
        state >> (2 * _WRITER + _ABANDONED),
        state >> (_WRITER + _ABANDONED) & (1 << _WRITER) - 1,
        state >> _ABANDONED & (1 << _WRITER) - 1,
        state & (1 << _ABANDONED) - 1,
    )


def _swapped_abandoned(abandoned: Abandoned) -> Abandoned:
    copies, appends = abandoned
    return copies, tuple(sorted(map(swapped_append, appends)))
