"""The tests' one reading of docs/log-protocol.md: what each command comes to, and what each event means.

It shares nothing with the sequencer, the projector or the shipped verifiers but the ids of the wire contract: a bug
must not hide on two sides. The simulation and the chaos checker both judge by it, each with evidence of its own.

- `chats`, `members`, `messages`, `reactions`, `receipts`
               the rules of one noun: `RULES` by command type, `PLANNED` types
- `rule`       the question, the answer, and the shape of a rule
- `state`      what is known after a prefix of the log
- `records`    commands and outcomes, read from their records
- `oracle`     the order of the checks that all commands go through, and one step of the fold
"""

from __future__ import annotations

import json
import re
from typing import Final

from schemas import ids
from tests.oracle import chats, members, messages, reactions, receipts
from tests.oracle.records import Headers, Outcome, command_id_of, uuid_or_none
from tests.oracle.rule import Answer, Ask, Rejected, Rule
from tests.oracle.state import State

RULES: Final[dict[str, Rule]] = {
    **chats.RULES, **members.RULES, **messages.RULES, **reactions.RULES, **receipts.RULES
}  # fmt: skip
"""By command type."""
PLANNED: Final = chats.PLANNED | members.PLANNED | messages.PLANNED | reactions.PLANNED | receipts.PLANNED
"""Declared command types that are not built yet: rejected as unknown."""
COMMAND_TYPES: Final = {rule.event: command_type for command_type, rule in RULES.items()}
"""Accepted event → its command type."""
MARKS: Final = frozenset(command_type for command_type, rule in RULES.items() if not rule.keyed)
"""Command types without an idempotency key."""
TEXT_CHARACTERS: Final = 16_384
BODY_DEPTH: Final = 18
"""Nesting of a body: more is refused before it is parsed."""
_STRING: Final = re.compile(rb'"(?:\\.|[^"\\])*"')


def expected(
    state: State,
    key: bytes | None,
    value: bytes | None,
    headers: Headers,
    *,
    partition: int,
    partitions: int,
    at_ms: int,
    text_characters: int = TEXT_CHARACTERS,
) -> Answer:
    """Return what the record of a command comes to in a state. The order of the checks is that of log-protocol.md,
    "Deciding".

    :param at_ms: the time of its outcome.
    :param text_characters: the longest text that the deciding version takes.
    """
    try:
        return _expected(state, key, value, headers, partition, partitions, at_ms, text_characters)
    except Rejected as rejected:
        return Answer(kind="rejected", reason=rejected.reason, figures=rejected.figures)


def _expected(
    state: State,
    key: bytes | None,
    value: bytes | None,
    headers: Headers,
    partition: int,
    partitions: int,
    at_ms: int,
    text_characters: int,
) -> Answer:
    chat_id, sender = uuid_or_none(key), uuid_or_none(headers.get("ce_sender"))
    command_type, client_id = headers.get("ce_type", ""), headers.get("ce_clientid", "")
    if chat_id is not None and ids.partition_of(chat_id, partitions) != partition:
        raise Rejected("wrong_partition")
    if chat_id is None or sender is None or not command_type:
        raise Rejected("malformed")
    raw = value or b""
    if command_type not in MARKS:
        command_id = command_id_of(chat_id, sender, client_id)
        if command_id is None or headers.get("ce_id") != command_id:
            raise Rejected("malformed")
        original = state.accepted.get(command_id)
        if original is not None:
            return _repeat(state, original, command_type, raw)
    rule = RULES.get(command_type)
    if rule is None:
        raise Rejected("unknown_type")
    if _depth(raw) > BODY_DEPTH:
        raise Rejected("invalid")
    try:
        body = json.loads(raw)
    except ValueError:
        raise Rejected("malformed") from None
    if not isinstance(body, dict):
        raise Rejected("malformed")
    return rule.expect(
        Ask(
            chat_id=chat_id, sender=sender, key=client_id, body=body, chat=state.chats.get(chat_id), at_ms=at_ms,
            text_characters=text_characters,
        )
    )  # fmt: skip


def _depth(raw: bytes) -> int:
    depth = deepest = 0
    for byte in _STRING.sub(b"", raw):
        depth += (byte in b"[{") - (byte in b"]}")
        deepest = max(deepest, depth)
    return deepest


def _repeat(state: State, original: Outcome, command_type: str, raw: bytes) -> Answer:
    """The answer to a key that was accepted before: the original's figures, or a conflict."""
    if (COMMAND_TYPES.get(original.type), original.raw) != (command_type, raw):
        raise Rejected("conflict")
    figures = {"seq": original.seq, "revision": state.revisions.get(original.command_id or "")}
    known = {name: figure for name, figure in figures.items() if figure is not None}
    return Answer(kind="duplicate", figures={"position": original.position, "sent_at_ms": original.at_ms, **known})


def apply(state: State, outcome: Outcome) -> list[tuple[str, str]]:
    """Fold one more valid outcome, in the order of its partition. Returns a fixed word and a sentence for each thing
    that has no place in the state; the rest of the outcome is applied all the same."""
    if outcome.kind != "accepted":
        trace = outcome.position is not None or outcome.seq is not None
        return [("position", f"a {outcome.type} changes nothing, yet has a position or a seq")] if trace else []
    found: list[tuple[str, str]] = []
    rule = RULES.get(COMMAND_TYPES.get(outcome.type, ""))
    if outcome.command_id is not None and (rule is None or rule.keyed):
        original = state.accepted.setdefault(outcome.command_id, outcome)
        if original is not outcome:
            found.append(("accepted_twice", f"command {outcome.command_id} was accepted before, at {original.place}"))
    chat = state.chats.get(outcome.chat or "")
    last_seq, last_position = (0, 0) if chat is None else (chat.last_seq, chat.last_position)
    if outcome.position != last_position + 1:
        found.append(("position", f"position {outcome.position} of chat {outcome.chat} follows {last_position}"))
    if rule is not None and rule.takes_seq and outcome.seq != last_seq + 1:
        found.append(("seq", f"seq {outcome.seq} of chat {outcome.chat} follows {last_seq}"))
    if (rule is None or not rule.takes_seq) and outcome.seq is not None:
        found.append(("seq", f"a {outcome.type} has a seq, {outcome.seq}"))
    if rule is not None and rule.creates is (chat is None):
        rule.fold(state, outcome)
    if chat is not None:
        chat.last_position = outcome.position or 0
    if (chat := state.chats.get(outcome.chat or "")) is not None:
        chat.changed_index = outcome.index
    return found
