"""Devices of several users act on one group and retry whatever they sent, at any time: the rules against the oracle.

Hypothesis draws the order. Each command is decided by the sequencer's pure rules and by tests/oracle; both must come to
the same outcome with the same figures, and a command whose key was accepted before must change nothing.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import ClassVar, Final

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from schemas import ids
from schemas.bodies import (
    Body,
    ChatCreate,
    ChatRename,
    Mark,
    MemberAdd,
    MemberRemove,
    MemberRole,
    MessageDelete,
    MessageEdit,
    MessageSend,
    Reaction,
    canonical_body,
)
from schemas.commands import parse_body
from schemas.events import OutcomeKind
from schemas.ids import CommandId, UserId
from schemas.types import MARKS, CommandType
from schemas.wire.encoding import Command
from schemas.wire.replies import AnyFigures
from services.sequencer.rules.decide import Decision, decide
from services.sequencer.rules.evolve import evolve
from services.sequencer.rules.state import Overlay, StateChanges
from tests.oracle import oracle
from tests.oracle.records import Outcome
from tests.oracle.rule import Answer
from tests.oracle.state import State
from tests.support.examples import examples
from tests.unit.sequencer.test_decide import Nothing

ANNA, BEN, CARL, DORA = USERS = tuple(UserId(f"{n}1111111-1111-4111-8111-111111111111") for n in "abcd")
CHAT: Final = ids.group_chat_id(ANNA, "ops")
STEPS: Final = 60

users = st.sampled_from(USERS)
devices = st.sampled_from(("phone", "laptop"))
texts = st.sampled_from(("A", "B", "C"))
emojis = st.sampled_from(("👍", "❤", "+1"))
roles = st.sampled_from(("member", "admin", "owner"))
seqs = st.integers(min_value=1, max_value=3)


def figures_of(decision: Decision) -> dict[str, object]:
    """Return the figures of the answer."""
    names = [*AnyFigures.__struct_fields__, "position"]
    found = {name: getattr(decision.figures, name) for name in names} | {"sent_at_ms": decision.sent_at_ms}
    return {name: figure for name, figure in found.items() if figure is not None}


def values_of(changes: StateChanges) -> list[object]:
    """Return a copy of the state; its values are immutable, but for the lists of authors."""
    return [
        dict(changes.chats), dict(changes.members), dict(changes.dedup), dict(changes.facts),
        {chat: tuple(authors) for chat, authors in changes.senders.items()},
    ]  # fmt: skip


class Devices(RuleBasedStateMachine):
    """One group, and everything that was ever sent to it."""

    reached: ClassVar[Counter[str]] = Counter()
    """What the runs covered."""

    def __init__(self) -> None:
        super().__init__()
        self.view = Overlay(Nothing())
        self.state = State()
        self.at_ms = 1_000
        self.keys = 0
        self.sent: list[Command] = []
        self.accepted: dict[CommandId, tuple[Command, dict[str, object]]] = {}
        """command_id → the command that was accepted under it, and its figures."""

    @initialize()
    def create(self) -> None:
        creation = ChatCreate(kind="group", name="ops", members=[BEN, CARL])
        self.send(ANNA, "phone", CommandType.CHAT_CREATE, creation)
        self.send(ANNA, "phone", CommandType.MEMBER_ROLE, MemberRole(user_id=BEN, role="owner"))
        for user, text in ((ANNA, "A"), (BEN, "B")):
            self.send(user, "phone", CommandType.MESSAGE_SEND, MessageSend(text=text))
        self.send(ANNA, "phone", CommandType.REACTION_ADD, Reaction(seq=1, emoji="👍"))
        assert len(self.accepted) == len(self.sent) == 5

    # --- what devices do ------------------------------------------------------------------------------------------

    @rule(user=users, device=devices, text=texts, reply=st.booleans())
    def say(self, user: UserId, device: str, text: str, reply: bool) -> None:
        first = next((command.command_id for command in self.sent if command.type == CommandType.MESSAGE_SEND), None)
        body = MessageSend(text=text, reply_to_message_id=first if reply else None)
        self.send(user, device, CommandType.MESSAGE_SEND, body)

    @rule(user=users, device=devices, seq=seqs, text=texts, revision=st.none() | st.integers(0, 2))
    def edit(self, user: UserId, device: str, seq: int, text: str, revision: int | None) -> None:
        self.send(user, device, CommandType.MESSAGE_EDIT, MessageEdit(seq=seq, text=text, if_revision=revision))

    @rule(user=users, device=devices, seq=seqs)
    def delete(self, user: UserId, device: str, seq: int) -> None:
        self.send(user, device, CommandType.MESSAGE_DELETE, MessageDelete(seq=seq))

    @rule(user=users, device=devices, seq=seqs, emoji=emojis)
    def react(self, user: UserId, device: str, seq: int, emoji: str) -> None:
        self.send(user, device, CommandType.REACTION_ADD, Reaction(seq=seq, emoji=emoji))

    @rule(user=users, device=devices, seq=seqs, emoji=emojis)
    def unreact(self, user: UserId, device: str, seq: int, emoji: str) -> None:
        self.send(user, device, CommandType.REACTION_REMOVE, Reaction(seq=seq, emoji=emoji))

    @rule(user=users, device=devices, member=users, role=roles)
    def add(self, user: UserId, device: str, member: UserId, role: str) -> None:
        self.send(user, device, CommandType.MEMBER_ADD, MemberAdd(user_id=member, role=role))  # type: ignore[arg-type]

    @rule(user=users, device=devices, member=users)
    def remove(self, user: UserId, device: str, member: UserId) -> None:
        self.send(user, device, CommandType.MEMBER_REMOVE, MemberRemove(user_id=member))

    @rule(user=users, device=devices, member=users, role=roles)
    def give_role(self, user: UserId, device: str, member: UserId, role: str) -> None:
        self.send(user, device, CommandType.MEMBER_ROLE, MemberRole(user_id=member, role=role))  # type: ignore[arg-type]

    @rule(user=users, device=devices, name=st.sampled_from(("ops", "Ops", "名前")))
    def rename(self, user: UserId, device: str, name: str) -> None:
        self.send(user, device, CommandType.CHAT_RENAME, ChatRename(name=name))

    @rule(user=users, up_to=st.integers(0, 5), reads=st.booleans())
    def mark(self, user: UserId, up_to: int, reads: bool) -> None:
        command_type = CommandType.READ_MARK if reads else CommandType.DELIVERED_MARK
        self.send(user, "phone", command_type, Mark(up_to_seq=up_to))

    @precondition(lambda self: len(self.accepted) > 1)
    @rule(back=st.integers(min_value=1, max_value=STEPS), user=users, device=devices, text=texts, role=roles)
    def undo(self, back: int, user: UserId, device: str, text: str, role: str) -> None:
        """Send the opposite of a command that was accepted, from the same user's other device or as another user."""
        command, figures = list(self.accepted.values())[-(back % (len(self.accepted) - 1)) - 1]
        sender, body = command.sender_id, parse_body(command.type, command.body)
        match body:
            case Reaction():
                added = command.type == CommandType.REACTION_ADD
                self.send(sender, device, CommandType.REACTION_REMOVE if added else CommandType.REACTION_ADD, body)
            case MemberAdd(user_id=member):
                self.send(user, device, CommandType.MEMBER_REMOVE, MemberRemove(user_id=member))
            case MemberRemove(user_id=member):
                self.send(user, device, CommandType.MEMBER_ADD, MemberAdd(user_id=member, role="member"))
            case MemberRole(user_id=member):
                changed = MemberRole(user_id=member, role=role)  # type: ignore[arg-type]
                self.send(user, device, CommandType.MEMBER_ROLE, changed)
            case ChatRename():
                self.send(user, device, CommandType.CHAT_RENAME, ChatRename(name=text))
            case MessageEdit(seq=seq):
                self.send(sender, device, CommandType.MESSAGE_EDIT, MessageEdit(seq=seq, text=text))
            case MessageSend():
                of_message = figures["seq"]
                assert isinstance(of_message, int)
                self.send(sender, device, CommandType.MESSAGE_DELETE, MessageDelete(seq=of_message))

    @rule(back=st.integers(min_value=1, max_value=STEPS))
    def retry(self, back: int) -> None:
        """Send any earlier command again, from either device: nothing in it says which."""
        self.decided(self.sent[-(1 + back % len(self.sent))])

    @precondition(lambda self: len(self.sent) > 1)
    @rule(back=st.integers(min_value=1, max_value=STEPS), text=texts)
    def reuse_a_key(self, back: int, text: str) -> None:
        """Send another command under a key of before."""
        before = self.sent[-(1 + back % len(self.sent))]
        if before.client_generated_id is not None:
            self.decided(self.command(before.sender_id, CommandType.MESSAGE_SEND, MessageSend(text=text), before))

    # --- what must come of it -------------------------------------------------------------------------------------

    def send(self, user: UserId, device: str, command_type: CommandType, body: Body) -> Decision:
        self.keys += 1
        command = self.command(user, command_type, body, f"{device}-{self.keys}")
        self.sent.append(command)
        return self.decided(command)

    def command(self, user: UserId, command_type: CommandType, body: Body, key: str | Command) -> Command:
        client_id = key.client_generated_id if isinstance(key, Command) else key
        assert client_id is not None
        mark = command_type in MARKS
        return Command(
            offset=0, type=command_type.value, body=canonical_body(body), chat_id=CHAT, sender_id=user,
            client_generated_id=None if mark else client_id,
            command_id=None if mark else ids.command_id(CHAT, user, client_id),
        )  # fmt: skip

    def decided(self, command: Command) -> Decision:
        self.at_ms += 1
        before = values_of(self.view.changes)
        decision = decide(self.view, command, self.at_ms)
        kind, figures = decision.outcome.kind, figures_of(decision)
        told = Answer(kind=kind, reason=decision.reason, figures=figures)
        assert told == self._by_the_oracle(command), command
        original = None if command.command_id is None else self.accepted.get(command.command_id)
        if original is not None:
            same = (original[0].type, original[0].body) == (command.type, command.body)
            assert str(told) == ("duplicate" if same else "rejected (conflict)"), command
            assert not same or figures == original[1], "a retry gets the original's figures, whatever came between"
        evolve(self.view, decision.outcome, self.view.changes)
        if kind is OutcomeKind.ACCEPTED:
            if command.command_id is not None:
                self.accepted[command.command_id] = (command, figures)
        else:
            assert values_of(self.view.changes) == before, f"a {kind} changes nothing: {command}"
        assert oracle.apply(self.state, self._as_the_oracle_reads(command, decision)) == []
        self.reached[f"{command.type} {told}"] += 1
        return decision

    def _by_the_oracle(self, command: Command) -> Answer:
        headers = {"ce_type": command.type, "ce_sender": command.sender_id}
        if command.command_id is not None and command.client_generated_id is not None:
            headers |= {"ce_id": command.command_id, "ce_clientid": command.client_generated_id}
        return oracle.expected(
            self.state, CHAT.encode(), command.body, headers, partition=0, partitions=1, at_ms=self.at_ms
        )

    def _as_the_oracle_reads(self, command: Command, decision: Decision) -> Outcome:
        outcome, index = decision.outcome, sum(self.reached.values()) + 1
        return Outcome(
            partition=0, offset=index, term=1, index=index, command_offset=command.offset, type=outcome.type,
            at_ms=outcome.at_ms, chat=CHAT, sender=command.sender_id, command_id=command.command_id,
            client_id=command.client_generated_id, position=getattr(outcome, "position", None),
            seq=getattr(outcome, "seq", None), raw=outcome.body, body=json.loads(outcome.body),
        )  # fmt: skip

    def teardown(self) -> None:
        """At the end, every command once more: each accepted one is a duplicate with the original's figures."""
        for command in self.sent:
            if command.command_id in self.accepted:
                self.decided(command)


@pytest.mark.examples
def test_whatever_devices_do_the_oracle_agrees_and_a_retry_gets_the_original_and_changes_nothing() -> None:
    Devices.reached.clear()
    run_state_machine_as_test(Devices, settings=settings(examples(800), stateful_step_count=STEPS))
    reached = Devices.reached
    accepted = {each.split()[0] for each in reached if each.endswith(" accepted")}
    repeated = {each.split()[0] for each in reached if each.endswith(" duplicate")}
    assert repeated == accepted - set(MARKS), "every accepted command was repeated"
    assert len(accepted) > 7, f"the runs reach too little: {reached}"
