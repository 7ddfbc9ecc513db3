"""What a chaos run leaves, and all that the checker gets: plain data, kept in one folder as JSON lines.

- history.jsonl   each client's requests and answers, with the monotonic times of one clock (`Op`)
- commands.jsonl  every record of chat.commands after the run, as Kafka returned it (`Record`)
- events.jsonl    every record of chat.events
- tables.json     the rows of the read model, by table
- run.json        the parameters of the run

A folder can be checked again at any time, elsewhere, without any server: `python -m tests.chaos.run --check FOLDER`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

Json = dict[str, Any]
Rows = list[Json]
"""A table's rows: column → value, UUIDs as text, times in ms since 1970 UTC."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A record as it is in a topic."""

    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes
    headers: tuple[tuple[str, bytes], ...]

    @property
    def digest(self) -> str:
        """A digest that distinguishes it from any other record at its offset."""
        digest = blake2b(digest_size=8)
        for part in (self.key or b"", self.value, *(part for name, value in self.headers for part in (name, value))):
            raw = part.encode() if isinstance(part, str) else part
            digest.update(b"%d:" % len(raw) + raw)
        return digest.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Op:
    """One request of one client, with its result. Each attempt of a retried command is a separate op.

    `asked` by `kind`:
        command   {via: http|kafka, type, chat, sender, key?, body}   body as the command's JSON object
        status    {chat, command_id, at: "P:offset"}
        page      {chat, after_seq: int|null, limit}                  null: the newest page
        latest    {chat}
        threads   {chat, limit}
        replies   {chat, seq, after_seq, limit}                       after_seq: the last reply of the page before
        edits, receipts  {chat, seq, limit}
        reactions {chat, seq, emoji: text|null, limit}
        search    {q, chat: id|null, after: [sent_ms, chat, seq]|null, limit}
        tail      {partition}                                         a reader of chat.events itself
        stream    {chat: id|null, after_position? | since?: [[partition, index]]}   one connection; null: all chats
        copy      {chat: id|null}                                     what a reader of streams has in the end

    What a reader asks also has `caller`, and `token` if it sent one.

    `answer`: of HTTP {http: status, body, token?}; of Kafka the reply, or {index, …} as read from the log; of a reader
    {http: status, problem?, …} (http_readers.py); of a tail {records: [[offset, digest]]}; of a stream {frames: […]},
    of a copy {chats, faults} (live_readers.py). None: no answer came.
    """

    op: int
    client: str
    kind: str
    asked: Json
    asked_s: float
    appended: tuple[int, int] | None = None
    """(partition, offset) at which a command's append was acknowledged."""
    answer: Json | None = None
    answered_s: float | None = None

    @property
    def place(self) -> str:
        return f"op {self.op} of {self.client}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All evidence of a run."""

    partitions: int
    ops: Sequence[Op]
    commands: Sequence[Record]
    events: Sequence[Record]
    tables: dict[str, Rows]


class Recorder:
    """Writes a history as it happens: a request before it is sent, so that an interrupted run has it too."""

    def __init__(self, path: Path, clock: Any) -> None:
        """`clock()` returns monotonic seconds, the same for all clients of the run."""
        self._file = path.open("w", encoding="utf-8", buffering=1024 * 1024)
        self._clock = clock
        self._count = 0

    def ask(self, client: str, kind: str, **asked: Any) -> int:
        """Record a request and return the op's number; to be called right before the request is sent."""
        self._count += 1
        self._write(
            {"op": self._count, "s": self._clock(), "is": "ask", "client": client, "kind": kind, "asked": asked}
        )
        return self._count

    def appended(self, op: int, partition: int, offset: int) -> None:
        """Record that the append of a command was acknowledged."""
        self._write({"op": op, "s": self._clock(), "is": "appended", "at": [partition, offset]})

    def answer(self, op: int, answer: Json) -> None:
        """Record an answer; to be called right after it was received."""
        self._write({"op": op, "s": self._clock(), "is": "answer", "answer": answer})

    def close(self) -> None:
        self._file.close()

    def _write(self, line: Json) -> None:
        self._file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")


@dataclass(slots=True)
class _Draft:
    ask: Json
    appended: tuple[int, int] | None = None
    answer: Json | None = None
    answered_s: float | None = field(default=None)


def read_history(path: Path) -> list[Op]:
    """Return the ops in the order in which they were sent."""
    drafts: dict[int, _Draft] = {}
    for line in _lines(path):
        match line["is"]:
            case "ask":
                drafts[line["op"]] = _Draft(line)
            case "appended":
                drafts[line["op"]].appended = (line["at"][0], line["at"][1])
            case "answer":
                drafts[line["op"]].answer = line["answer"]
                drafts[line["op"]].answered_s = line["s"]
    return [
        Op(
            op=number,
            client=draft.ask["client"],
            kind=draft.ask["kind"],
            asked=draft.ask["asked"],
            asked_s=draft.ask["s"],
            appended=draft.appended,
            answer=draft.answer,
            answered_s=draft.answered_s,
        )
        for number, draft in drafts.items()
    ]


def write_records(path: Path, records: Iterable[Record]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for r in records:
            headers = [[name, _text(value)] for name, value in r.headers]
            line = [r.partition, r.offset, r.timestamp_ms, _text(r.key), _text(r.value), headers]
            file.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")


def read_records(path: Path) -> list[Record]:
    return [
        Record(
            partition=partition,
            offset=offset,
            timestamp_ms=timestamp_ms,
            key=None if key is None else _bytes(key),
            value=_bytes(value),
            headers=tuple((name, _bytes(text)) for name, text in headers),
        )
        for partition, offset, timestamp_ms, key, value, headers in _lines(path)
    ]


def read_evidence(folder: Path) -> Evidence:
    """Read what `run` left in a folder."""
    return Evidence(
        partitions=json.loads((folder / "run.json").read_text())["partitions"],
        ops=read_history(folder / "history.jsonl"),
        commands=read_records(folder / "commands.jsonl"),
        events=read_records(folder / "events.jsonl"),
        tables=json.loads((folder / "tables.json").read_text()),
    )


def message_digest(
    *, message_id: str, sender: str, key: str, text: str | None, sent_at_ms: int, reply_to: str | None, position: int
) -> str:
    """Return a short stand-in for a message in a reader's history, which has thousands of them many times."""
    parts = json.dumps([message_id, sender, key, text, sent_at_ms, reply_to, position])
    return blake2b(parts.encode(), digest_size=8).hexdigest()


def _text(raw: bytes | None) -> str | None:
    """Return readable UTF-8 if the bytes are that and unambiguous, else base64."""
    if raw is None:
        return None
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = "base64:"
    return text if not text.startswith("base64:") else "base64:" + base64.b64encode(raw).decode()


def _bytes(text: str) -> bytes:
    return base64.b64decode(text[7:]) if text.startswith("base64:") else text.encode()


def _lines(path: Path) -> Iterator[Any]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):  # an interrupted run leaves half a line
                yield json.loads(line)
