"""Chats: creating one, under an id that only its creator can derive, and renaming a group."""

from __future__ import annotations

from typing import Final
from uuid import UUID, uuid5

from schemas import ids
from schemas.ids import UserId
from tests.oracle.records import Outcome
from tests.oracle.rule import Answer, Ask, Rejected, Rule
from tests.oracle.state import Chat, State


def chat_id_of_key(sender: str, key: str) -> str:
    """Return the id of a group that is created under its creator's idempotency key."""
    return str(uuid5(UUID(sender), f"key/{key}"))


def create(ask: Ask) -> Answer:
    body, sender = ask.body, UserId(ask.sender)
    homes: set[str]
    if body["kind"] == "group":
        homes = {ids.group_chat_id(sender, body["name"]), chat_id_of_key(sender, ask.key)}
    else:
        homes = {ids.direct_chat_id(sender, UserId((body["members"] or [sender])[0]))}
    if ask.chat_id not in homes:
        raise Rejected("malformed")
    if ask.chat is None:
        return ask.accepted()
    if ask.chat.kind == "direct":
        return ask.unchanged(position=1)
    raise Rejected("chat_exists")


def created(state: State, outcome: Outcome) -> None:
    body, sender = outcome.body, outcome.sender or ""
    chat = state.chats[outcome.chat or ""] = Chat(
        kind=body["kind"], name=body.get("name"), created_by=sender, created_at=outcome.at_ms,
        partition=outcome.partition,
    )  # fmt: skip
    others = "owner" if body["kind"] == "direct" else "member"
    for user, role in {**dict.fromkeys(body["members"], others), sender: "owner"}.items():
        chat.join(user, role, outcome)


def rename(ask: Ask) -> Answer:
    chat, me = ask.member()
    if chat.kind == "direct" or me.role == "member":
        raise Rejected("forbidden")
    return ask.unchanged() if chat.name == ask.body["name"] else ask.accepted()


def renamed(state: State, outcome: Outcome) -> None:
    state.chats[outcome.chat or ""].name = outcome.body["name"]


RULES: Final = {
    "chat.create.v1": Rule(event="chat.created.v1", expect=create, fold=created, creates=True),
    "chat.rename.v1": Rule(event="chat.renamed.v1", expect=rename, fold=renamed),
}
PLANNED: Final = frozenset[str]()
