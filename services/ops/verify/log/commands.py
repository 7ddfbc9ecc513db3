"""Compares an outcome with the command that it answers, if that is still in `chat.commands`. Pure."""

from __future__ import annotations

from schemas.commands import digest, parse_body
from schemas.errors import Reason, Refused
from schemas.events import AcceptedOutcome, OutcomeKind, decode_rejected
from schemas.types import EVENT_OF, MARKS
from schemas.wire.encoding import Command, Unreadable
from services.ops.verify.log.case import Found
from services.ops.verify.log.nouns import judge_of
from services.ops.verify.log.partition import Answered


def against_command(decided: Answered, command: Command | Unreadable) -> Found:
    """Yield what does not match between an outcome and its command. Raises LogCorrupt for an invalid outcome body."""
    outcome = decided.outcome
    yield from _identity(decided, command)
    if isinstance(command, Unreadable):
        yield from _must_be_rejected(decided, command)
        return
    match outcome.kind:
        case OutcomeKind.ACCEPTED:
            yield from _accepted(decided, command)
        case OutcomeKind.DUPLICATE:
            if decided.original is not None and digest(command.type, command.body) != decided.original.digest:
                yield "duplicate", "the command is not what was accepted under its id: it is a conflict"
        case OutcomeKind.UNCHANGED:
            if decided.original is not None and command.type not in MARKS:
                yield "repeat", "the command was accepted before: its repeat is a duplicate or a conflict"
            yield from _without_effect(decided, command)
        case OutcomeKind.REJECTED:
            yield from _rejected(decided, command)
            yield from _without_effect(decided, command)


def _identity(decided: Answered, command: Command | Unreadable) -> Found:
    outcome = decided.outcome
    sides = (
        ("key", outcome.key, command.key),
        ("ce_commandid", outcome.command_id, command.command_id),
        ("ce_sender", outcome.sender_id, command.sender_id),
        ("ce_clientid", outcome.client_generated_id, command.client_generated_id),
        ("traceparent", outcome.traceparent, command.traceparent),
    )
    for name, said, sent in sides:
        if said != sent and (said is not None or isinstance(command, Command)):
            yield "command_identity", f"its {name} is {said!r:.140}, that of its command {sent!r:.140}"


def _must_be_rejected(decided: Answered, command: Unreadable) -> Found:
    outcome = decided.outcome
    if outcome.kind is not OutcomeKind.REJECTED:
        yield "must_reject", f"it is {outcome.kind}, yet its command is {command.reason}: {command.detail}"
    elif (reason := decode_rejected(outcome.body).reason) is not command.reason:
        yield "must_reject", f"it is rejected as {reason}, yet its command is {command.reason}: {command.detail}"


def _accepted(decided: Answered, command: Command) -> Found:
    outcome = decided.outcome
    event = EVENT_OF.get(command.type)
    if event is None or event.value != outcome.type:
        yield "command_identity", f"a {outcome.type} answers a {command.type}"
        return
    if outcome.body != command.body:
        yield "command_identity", "its body is not that of its command, byte for byte"
    try:
        parse_body(command.type, command.body)
    except Refused as refused:
        yield "must_reject", f"its command is {refused.reason}: {refused.detail}"


def _without_effect(decided: Answered, command: Command) -> Found:
    event, outcome = EVENT_OF.get(command.type), decided.outcome
    if event is None or isinstance(outcome, AcceptedOutcome):
        return
    try:
        body = parse_body(command.type, command.body)
    except Refused:
        return
    yield from judge_of(event.value).without_effect(outcome, body, decided.messages)


def _rejected(decided: Answered, command: Command) -> Found:
    body = decode_rejected(decided.outcome.body)
    if body.command_type is not None and body.command_type != command.type:
        yield "command_identity", f"it rejects a {body.command_type}, its command is a {command.type}"
    conflicts = decided.original is not None and digest(command.type, command.body) != decided.original.digest
    if body.reason is Reason.CONFLICT and decided.original is not None and not conflicts:
        yield "rejected", "conflict, yet the command is exactly what was accepted under its id"
