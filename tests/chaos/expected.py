"""What the wire contract asks for: the one kind of outcome (and reason) that a command can have in a state.

By wire.md alone and apart from the writer; only for the command types that a chaos run sends.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid5

from schemas import ids
from schemas.ids import UserId
from tests.chaos.evidence import Json, Record
from tests.chaos.judged import EVENT_TYPES, MARKS, headers_of, uuid_or_none
from tests.chaos.state import Chat, State

TEXT_CHARACTERS: Final = 16_384
_CLIENT_ID: Final = re.compile(r"[\x21-\x7e]{1,128}")


@dataclass(frozen=True, slots=True)
class Expected:
    kind: str
    reason: str | None = None

    def __str__(self) -> str:
        return self.kind if self.reason is None else f"{self.kind} ({self.reason})"


ACCEPTED: Final = Expected("accepted")
UNCHANGED: Final = Expected("unchanged")


def refused(reason: str) -> Expected:
    return Expected("rejected", reason)


def expected(state: State, command: Record, partitions: int) -> Expected:
    """The order of the checks is that of log-protocol.md, "Deciding"."""
    headers = headers_of(command)
    chat_id, sender = uuid_or_none(command.key), uuid_or_none(headers.get("ce_sender"))
    command_type, key = headers.get("ce_type", ""), headers.get("ce_clientid", "")
    if chat_id is not None and ids.partition_of(chat_id, partitions) != command.partition:
        return refused("wrong_partition")
    if chat_id is None or sender is None or not command_type:
        return refused("malformed")
    if command_type not in MARKS:
        command_id = uuid5_of_key(chat_id, sender, key)
        if command_id is None or headers.get("ce_id") != command_id:
            return refused("malformed")
        original = state.accepted.get(command_id)
        if original is not None:
            same = original.command_type == command_type and original.raw == command.value
            return Expected("duplicate") if same else refused("conflict")
    if command_type not in EVENT_TYPES:
        return refused("unknown_type")
    try:
        body = json.loads(command.value)
    except ValueError:
        return refused("malformed")
    return _of_type(state, command_type, chat_id, sender, key, body)


def uuid5_of_key(chat_id: str, sender: str, key: str) -> str | None:
    """The command_id; None where the key is none."""
    if _CLIENT_ID.fullmatch(key) is None:
        return None
    return str(ids.command_id(ids.ChatId(chat_id), UserId(sender), key))


def _of_type(state: State, command_type: str, chat_id: str, sender: str, key: str, body: Json) -> Expected:
    chat = state.chats.get(chat_id)
    if command_type == "chat.create.v1":
        return _creation(chat_id, chat, sender, key, body)
    if command_type == "message.send.v1" and len(body["text"]) > TEXT_CHARACTERS:
        return refused("too_large")
    if command_type == "message.send.v1" and not body["text"] and not body.get("media_urls"):
        return refused("invalid")
    if chat is None or sender not in chat.members:
        return refused("unknown_chat")
    if chat.members[sender].left_at is not None:
        gone = all(member.left_at is not None for member in chat.members.values())
        if gone and command_type == "member.add.v1" and sender == chat.created_by == body["user_id"]:
            return ACCEPTED if body["role"] == "owner" else refused("invalid")
        return refused("not_member")
    match command_type:
        case "message.send.v1":
            reply_to = body.get("reply_to_message_id")
            return ACCEPTED if reply_to is None or reply_to in chat.seq_of else refused("unknown_message")
        case "message.delete.v1":
            return _deletion(chat, sender, body)
        case "member.add.v1":
            return _adding(chat, sender, body)
        case "member.remove.v1":
            return _removing(chat, sender, body)
        case "member.role.v1":
            return _role(chat, sender, body)
    if body["up_to_seq"] > chat.last_seq:
        return refused("invalid")
    member = chat.members[sender]
    cursor = member.read_seq if command_type == "read.mark.v1" else member.delivered_seq
    return ACCEPTED if body["up_to_seq"] > cursor else UNCHANGED


def _creation(chat_id: str, chat: Chat | None, sender: str, key: str, body: Json) -> Expected:
    homes: set[str]
    if body["kind"] == "group":
        homes = {ids.group_chat_id(UserId(sender), body["name"]), str(uuid5(UUID(sender), f"key/{key}"))}
    else:
        homes = {ids.direct_chat_id(UserId(sender), UserId((body["members"] or [sender])[0]))}
    if chat_id not in homes:
        return refused("malformed")
    if chat is None:
        return ACCEPTED
    return UNCHANGED if chat.kind == "direct" else refused("chat_exists")


def _deletion(chat: Chat, sender: str, body: Json) -> Expected:
    message = chat.messages.get(body["seq"])
    if message is None:
        return refused("unknown_message")
    moderates = chat.kind == "group" and chat.members[sender].role != "member"
    if message.sender != sender and not moderates:
        return refused("forbidden")
    return ACCEPTED if message.deleted_at is None else UNCHANGED


def _adding(chat: Chat, sender: str, body: Json) -> Expected:
    role = chat.members[sender].role
    if chat.kind == "direct" or role == "member" or (role == "admin" and body["role"] != "member"):
        return refused("forbidden")
    member = chat.members.get(body["user_id"])
    if member is None or member.left_at is not None:
        return ACCEPTED
    return UNCHANGED if member.role == body["role"] else refused("invalid")


def _removing(chat: Chat, sender: str, body: Json) -> Expected:
    if chat.kind == "direct":
        return refused("forbidden")
    role, member = chat.members[sender].role, chat.members.get(body["user_id"])
    present = member is not None and member.left_at is None
    if body["user_id"] != sender:
        if role == "member":
            return refused("forbidden")
        if role == "admin" and member is not None and present and member.role != "member":
            return refused("forbidden")
    if member is None or not present:
        return UNCHANGED
    others = [m for user, m in chat.members.items() if m.left_at is None and user != body["user_id"]]
    if member.role == "owner" and others and not any(m.role == "owner" for m in others):
        return refused("invalid")
    return ACCEPTED


def _role(chat: Chat, sender: str, body: Json) -> Expected:
    if chat.kind == "direct" or chat.members[sender].role != "owner":
        return refused("forbidden")
    member = chat.members.get(body["user_id"])
    if member is None or member.left_at is not None:
        return refused("invalid")
    if member.role == body["role"]:
        return UNCHANGED
    owners = [user for user, m in chat.members.items() if m.left_at is None and m.role == "owner"]
    return refused("invalid") if owners == [body["user_id"]] else ACCEPTED
