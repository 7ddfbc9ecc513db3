"""A small sound run, as the chaos checker gets it: written by hand, so that a test can plant a violation in it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

from schemas import ids
from schemas.ids import UserId
from tests.chaos.checker import Report, check
from tests.chaos.evidence import Evidence, Json, Op, Record, Rows, message_digest

ANNA, BEN, CARL = (str(UserId(f"{n}{n}{n}{n}{n}{n}{n}{n}-1111-4111-8111-111111111111")) for n in "123")
PARTITIONS = 2
CHAT = str(ids.group_chat_id(UserId(ANNA), "Ops"))
P = ids.partition_of(CHAT, PARTITIONS)
T0 = 1_700_000_000_000
"""Timestamp of the first record; each outcome is a second later than the one before."""


def command_id(sender: str, key: str) -> str:
    return str(ids.command_id(ids.ChatId(CHAT), UserId(sender), key))


def instant(at_ms: int) -> str:
    return f"2023-11-14T22:13:{20 + (at_ms - T0) // 1000:02d}.000Z"


@dataclass
class World:
    """A sound run in one chat, written out: every figure here is a literal, nothing is folded."""

    commands: list[Record] = field(default_factory=list)
    events: list[Record] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)
    tables: dict[str, Rows] = field(default_factory=dict)

    def command(self, kind: str, sender: str, key: str | None, body: Json, **headers: str) -> None:
        stated = {
            "ce_id": command_id(sender, key)
            if key is not None
            else f"{len(self.commands):08d}-1111-4111-8111-111111111111",
            "ce_type": kind,
            "ce_sender": sender,
            **({"ce_clientid": key} if key is not None else {}),
            **headers,
        }
        self.commands.append(record(len(self.commands), T0, CHAT, body, stated))

    def opening(self, term: int) -> None:
        body = {"owner": "o", "host": "h", "partitions": PARTITIONS}
        self.events.append(
            record(len(self.events), self._now, None, body, {"ce_id": f"{term}/0", "ce_type": "term.opened.v1"})
        )

    def outcome(self, stamp: str, kind: str, of: int, body: Json | None = None, **figures: int) -> None:
        """`of` is the command that it answers, whose body it repeats unless `body` is given."""
        asked = {name: value.decode() for name, value in self.commands[of].headers}
        stated = {
            "ce_id": stamp,
            "ce_type": kind,
            "ce_command": str(of),
            "ce_commandid": asked["ce_id"],
            "ce_sender": asked["ce_sender"],
        }
        if "ce_clientid" in asked:
            stated["ce_clientid"] = asked["ce_clientid"]
        stated |= {f"ce_{name}": str(value) for name, value in figures.items()}
        value = json.loads(self.commands[of].value) if body is None else body
        self.events.append(record(len(self.events), self._now, CHAT, value, stated))

    @property
    def _now(self) -> int:
        return T0 + 1000 * len(self.events)

    def op(
        self,
        kind: str,
        asked: Json,
        answer: Json | None,
        *,
        client: str = "c",
        at_s: float | None = None,
        took_s: float = 0.5,
        appended: tuple[int, int] | None = None,
    ) -> None:
        asked_s = float(len(self.ops)) if at_s is None else at_s
        self.ops.append(
            Op(
                op=len(self.ops),
                client=client,
                kind=kind,
                asked=asked,
                asked_s=asked_s,
                appended=appended,
                answer=answer,
                answered_s=asked_s + took_s if answer is not None else None,
            )
        )

    def edit_op(self, number: int, **changes: Any) -> None:
        self.ops[number] = replace(self.ops[number], **changes)

    def answer(self, number: int, **changes: Any) -> None:
        """Change parts of the body of an HTTP answer, or of a Kafka one."""
        answer = dict(self.ops[number].answer or {})
        if "body" in answer:
            answer["body"] = {**answer["body"], **changes}
        else:
            answer |= changes
        self.edit_op(number, answer=answer)

    def edit_event(
        self, offset: int, *, value: Json | None = None, timestamp_ms: int | None = None, **headers: str
    ) -> None:
        old = self.events[offset]
        stated = {name: value.decode() for name, value in old.headers} | headers
        self.events[offset] = record(
            offset,
            old.timestamp_ms if timestamp_ms is None else timestamp_ms,
            old.key.decode() if old.key is not None else None,
            json.loads(old.value) if value is None else value,
            stated,
        )

    def row(self, table: str, number: int = 0) -> Json:
        return self.tables[table][number]

    def check(self) -> Report:
        return check(
            Evidence(
                partitions=PARTITIONS, ops=self.ops, commands=self.commands, events=self.events, tables=self.tables
            )
        )


def record(offset: int, timestamp_ms: int, key: str | None, value: Json, headers: dict[str, str]) -> Record:
    return Record(
        partition=P,
        offset=offset,
        timestamp_ms=timestamp_ms,
        key=None if key is None else key.encode(),
        value=json.dumps(value, separators=(",", ":")).encode(),
        headers=tuple((name, text.encode()) for name, text in headers.items()),
    )


def send(sender: str, key: str, text: str, via: str = "http", **body: str) -> Json:
    return {
        "via": via,
        "type": "message.send.v1",
        "chat": CHAT,
        "sender": sender,
        "key": key,
        "body": {"text": text, **body},
    }


def sent(status: int, seq: int, position: int, index: int, at: int) -> Json:
    """`at` is the offset of the accepted outcome, which determines its time."""
    body = {
        "seq": seq,
        "position": position,
        "sent_at": instant(T0 + 1000 * at),
        "token": f"{P}:{index}",
        "duplicate": status == 200,
    }
    return {"http": status, "body": body}


def problem(status: int, reason: str) -> Json:
    return {"http": status, "body": {"type": f"/problems/{reason}"}}


HELLO = message_digest(
    message_id=command_id(ANNA, "k1"),
    sender=ANNA,
    key="k1",
    text="hello",
    sent_at_ms=T0 + 2000,
    reply_to=None,
    position=2,
)
REPLY = message_digest(
    message_id=command_id(BEN, "k2"),
    sender=BEN,
    key="k2",
    text="hi",
    sent_at_ms=T0 + 8000,
    reply_to=command_id(ANNA, "k1"),
    position=4,
)
REPLIED: Json = {"changed_position": 4, "reply_count": 1, "last_reply_seq": 2}
"""What came to the first message by its reply."""


GONE = message_digest(
    message_id=command_id(BEN, "k2"),
    sender=BEN,
    key="k2",
    text=None,
    sent_at_ms=T0 + 8000,
    reply_to=command_id(ANNA, "k1"),
    position=4,
)


def sound() -> World:
    w = World()
    w.opening(1)  # 0
    w.command("chat.create.v1", ANNA, "c", {"kind": "group", "name": "Ops", "members": [BEN]})
    w.outcome("1/1", "chat.created.v1", 0, position=1)  # 1
    w.command("message.send.v1", ANNA, "k1", {"text": "hello"})
    w.outcome("1/2", "message.sent.v1", 1, position=2, seq=1)  # 2
    w.command("message.send.v1", ANNA, "k1", {"text": "hello"})
    w.outcome("1/3", "command.duplicate.v1", 2, {"seq": 1, "position": 2, "sent_at_ms": T0 + 2000})  # 3
    w.command("message.send.v1", ANNA, "k1", {"text": "something else"})
    rejected = {"command_type": "message.send.v1", "reason": "conflict", "detail": "d"}
    w.outcome("1/4", "command.rejected.v1", 3, rejected)  # 4
    w.command("read.mark.v1", BEN, None, {"up_to_seq": 1})
    w.outcome("1/5", "read.advanced.v1", 4, position=3)  # 5
    w.command("message.send.v1", BEN, "k2", {"text": "hi", "reply_to_message_id": command_id(ANNA, "k1")})
    w.opening(2)  # 6
    w.outcome("1/6", "message.sent.v1", 5, position=4, seq=2)  # 7: void, of the writer of term 1
    w.outcome("2/6", "message.sent.v1", 5, position=4, seq=2)  # 8
    w.command("member.remove.v1", ANNA, "r", {"user_id": BEN})
    w.outcome("2/7", "member.removed.v1", 6, position=5)  # 9
    w.command("message.send.v1", BEN, "k3", {"text": "still here?"})
    w.outcome("2/8", "command.rejected.v1", 7, {**rejected, "reason": "not_member"})  # 10
    w.command("message.send.v1", CARL, "k4", {"text": "let me in"})
    w.outcome("2/9", "command.rejected.v1", 8, {**rejected, "reason": "unknown_chat"})  # 11

    create = {
        "via": "http",
        "type": "chat.create.v1",
        "chat": CHAT,
        "sender": ANNA,
        "key": "c",
        "body": {"kind": "group", "name": "Ops", "members": [BEN]},
    }
    w.op("command", create, {"http": 201, "body": {"position": 1, "token": f"{P}:1", "duplicate": False}})  # 0
    w.op("command", send(ANNA, "k1", "hello"), sent(201, 1, 2, 2, 2))  # 1
    w.op("command", send(ANNA, "k1", "hello"), sent(200, 1, 2, 3, 2))  # 2
    w.op("command", send(ANNA, "k1", "something else"), problem(422, "conflict"))  # 3
    mark = {"via": "http", "type": "read.mark.v1", "chat": CHAT, "sender": BEN, "body": {"up_to_seq": 1}}
    w.op("command", mark, {"http": 200, "token": f"{P}:5", "body": {"updated_count": 1, "read_seq": 1}})  # 4
    reply = {"outcome": "accepted", "partition": P, "index": 6, "seq": 2, "position": 4, "sent_at_ms": T0 + 8000}
    hi = send(BEN, "k2", "hi", "kafka", reply_to_message_id=command_id(ANNA, "k1"))
    w.op("command", hi, reply, appended=(P, 5))  # 5
    w.op(
        "page",
        {"chat": CHAT, "after_seq": 0, "limit": 10},
        {"http": 200, "messages": [[1, HELLO], [2, REPLY]], "more": False},
        client="r",
    )  # 6
    w.op("latest", {"chat": CHAT, "token": f"{P}:6"}, {"http": 200, "seq": 2}, client="r")  # 7
    remove = {
        "via": "http",
        "type": "member.remove.v1",
        "chat": CHAT,
        "sender": ANNA,
        "key": "r",
        "body": {"user_id": BEN},
    }
    w.op("command", remove, {"http": 200, "body": {"position": 5, "token": f"{P}:7", "duplicate": False}})  # 8
    w.op("command", send(BEN, "k3", "still here?"), problem(403, "not_member"))  # 9
    w.op("command", send(CARL, "k4", "let me in"), problem(404, "unknown_chat"))  # 10
    w.op("command", send(CARL, "k5", ""), problem(422, "invalid"))  # 11: refused by ingest, in no log
    asked = {"chat": CHAT, "command_id": command_id(BEN, "k2"), "at": f"{P}:5"}
    w.op("status", asked, {"http": 200, "body": {"outcome": "accepted", "seq": 2, "position": 4}})  # 12
    w.op(
        "page",
        {"chat": CHAT, "after_seq": 0, "limit": 1},
        {"http": 200, "messages": [[1, HELLO]], "more": True},
        client="r",
    )  # 13
    w.op(
        "page",
        {"chat": CHAT, "after_seq": None, "limit": 1},
        {"http": 200, "messages": [[2, REPLY]], "more": False},
        client="r",
    )  # 14
    w.op("tail", {"partition": P}, {"records": [[r.offset, r.digest] for r in w.events]}, client="t")  # 15
    w.op("command", send(ANNA, "lost", "nobody knows"), None)  # 16
    w.op("command", send(ANNA, "later", "nobody knows"), {"http": 202, "body": {}})  # 17
    w.tables = tables()
    return w


def tables() -> dict[str, Rows]:
    def at(offset: int) -> int:
        return T0 + 1000 * offset

    def outcome(index: int, offset: int, of: str, sender: str, kind: str, **others: Any) -> Json:
        row = {
            "partition": P,
            "index": index,
            "command_id": of,
            "sender_id": sender,
            "type": None,
            "outcome": kind,
            "reason": None,
            "seq": None,
            "position": None,
            "at": at(offset),
            "detail": "d" if kind == "rejected" else None,
        }
        return row | others

    def message(seq: int, sender: str, key: str, text: str, position: int, offset: int, **others: Any) -> Json:
        row = {
            "chat_id": CHAT,
            "seq": seq,
            "message_id": command_id(sender, key),
            "sender_id": sender,
            "message_text": text,
            "client_generated_id": key,
            "reply_to_message_id": None,
            "root_seq": None,
            "reply_count": 0,
            "last_reply_seq": None,
            "revision": 0,
            "media_urls": [],
            "metadata": None,
            "sent_at": at(offset),
            "edited_at": None,
            "deleted_at": None,
            "position": position,
            "changed_position": position,
        }
        return row | others

    def participant(user: str, role: str, **others: Any) -> Json:
        row = {
            "chat_id": CHAT,
            "user_id": user,
            "role": role,
            "joined_at": at(1),
            "joined_seq": 0,
            "left_at": None,
            "read_seq": 0,
            "last_read_at": None,
            "delivered_seq": 0,
            "changed_position": 1,
            "changed_index": 1,
            "own_live_after_read": 1,
        }
        return row | others

    k1 = command_id(ANNA, "k1")
    send_type = {"type": "message.send.v1"}
    return {
        "chats": [
            {
                "chat_id": CHAT, "kind": "group", "name": "Ops", "created_by": ANNA, "created_at": at(1), "last_seq": 2,
                "last_position": 5, "last_message_at": at(8), "deleted_total": 0, "changed_index": 7,
            }
        ],
        "chat_participants": [
            participant(ANNA, "owner"),
            participant(
                BEN, "member", left_at=at(9), read_seq=1, last_read_at=at(5), changed_position=5, changed_index=7
            ),
        ],
        "chat_messages": [
            message(1, ANNA, "k1", "hello", 2, 2, reply_count=1, last_reply_seq=2, changed_position=4),
            message(2, BEN, "k2", "hi", 4, 8, reply_to_message_id=k1, root_seq=1),
        ],
        "outcomes": [
            outcome(1, 1, command_id(ANNA, "c"), ANNA, "accepted", type="chat.create.v1", position=1),
            outcome(2, 2, k1, ANNA, "accepted", **send_type, seq=1, position=2),
            outcome(3, 3, k1, ANNA, "duplicate", seq=1, position=2),
            outcome(4, 4, k1, ANNA, "rejected", **send_type, reason="conflict"),
            outcome(5, 5, "00000004-1111-4111-8111-111111111111", BEN, "accepted", type="read.mark.v1", position=3),
            outcome(6, 8, command_id(BEN, "k2"), BEN, "accepted", **send_type, seq=2, position=4),
            outcome(7, 9, command_id(ANNA, "r"), ANNA, "accepted", type="member.remove.v1", position=5),
            outcome(8, 10, command_id(BEN, "k3"), BEN, "rejected", **send_type, reason="not_member"),
            outcome(9, 11, command_id(CARL, "k4"), CARL, "rejected", **send_type, reason="unknown_chat"),
        ],
        "projection_positions": [
            {"partition": P, "next_offset": 12, "term": 2, "index": 9, "command_offset": 8, "last_timestamp_ms": at(11)}
        ],
    }  # fmt: skip
