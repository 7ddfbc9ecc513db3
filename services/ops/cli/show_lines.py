"""What `gapless show` prints: lines for people and documents for programs. Pure; escaping is the terminal's.

Texts and bodies of users are shown only on request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from schemas.events import OutcomeKind
from schemas.instants import instant_of

if TYPE_CHECKING:
    from services.ops.inspect.found import ChatFound, CommandFound, Found, OutcomeFound
    from services.ops.inspect.trace import Traced

Line = tuple[str, str]
"""A line and its style."""
SHOWN_OUTCOMES: Final = 20
_STYLES: Final = {OutcomeKind.ACCEPTED: "green", OutcomeKind.REJECTED: "red"}


def found_lines(found: Found, *, with_text: bool) -> list[Line]:
    """Return what is printed of a command."""
    lines = _command_lines(found.command, found.partition, with_text=with_text)
    shown = found.outcomes[-SHOWN_OUTCOMES:]
    if len(shown) < len(found.outcomes):
        lines.append((f"outcome   {len(found.outcomes) - len(shown)} earlier ones are left out", "dim"))
    for each in shown:
        lines += outcome_lines(each)
    if not found.outcomes:
        lines.append(("outcome   none", "yellow"))
    row, version = found.rows.message, found.rows.version
    if row is not None:
        lines.append((
            f"row       {version} chat_messages {row.chat_id}/{row.seq}: position {row.position}, revision"
            f" {row.revision}{', deleted' * row.deleted}, last changed at position {row.changed_position}",
            "",
        ))  # fmt: skip
        if with_text:
            lines.append((f"          text {row.text if row.text is not None else '(deleted)'}", ""))
    for outcome in found.rows.outcomes[-SHOWN_OUTCOMES:]:
        reason = f" ({outcome.reason})" if outcome.reason else ""
        figures = _figures(outcome.seq, outcome.position)
        place = f"{outcome.partition}:{outcome.log_index}"
        lines.append((f"row       {version} outcomes {place}: {outcome.outcome}{reason}{figures}", ""))
    if row is None and not found.rows.outcomes:
        lines.append((f"row       {version} has none", "yellow"))
    lines.append((f"HTTP      {found.http_status}", ""))
    return lines + _verdict(found.differences, found.notes)


def _command_lines(command: CommandFound | None, partition: int, *, with_text: bool) -> list[Line]:
    if command is None:
        return [(f"command   partition {partition}; its record was not found", "yellow")]
    lines: list[Line] = [
        (
            f"command   {command.partition}:{command.offset}  {instant_of(command.at_ms)}  {command.type or '-'}"
            f"  {len(command.body):,} bytes",
            "bold",
        ),
        (f"          command_id {command.command_id or '-'}  chat {command.chat_id or '-'}", ""),
        (f"          sender {command.sender_id or '-'}  key {command.client_generated_id or '-'}", ""),
    ]
    if command.unreadable is not None:
        lines.append((f"          no command: {command.unreadable}", "red"))
    lines += [(f"          {name}: {value}", "dim") for name, value in command.headers]
    if with_text:
        lines.append((f"          body {command.body.decode('utf-8', 'replace')}", ""))
    return lines


def outcome_lines(each: OutcomeFound) -> list[Line]:
    """Return what is printed of an outcome."""
    reason = f" ({each.reason.value})" if each.reason is not None else ""
    lines: list[Line] = [(
        f"outcome   {each.token}  {instant_of(each.outcome.at_ms)}  {each.outcome.kind.value}{reason}"
        f"  {each.outcome.type}{_figures(*each.figures)}",
        _STYLES.get(each.outcome.kind, ""),
    )]  # fmt: skip
    if each.detail:
        lines.append((f"          {each.detail}", ""))
    lines.append((
        f"          offset {each.offset}, decided command {each.partition}:{each.stamp.command_offset} in term"
        f" {each.stamp.term}",
        "",
    ))  # fmt: skip
    if each.writer is not None:
        opened = f"opened at offset {each.writer.offset}, {instant_of(each.writer.at_ms)}"
        lines.append((f"          by {each.writer.owner} on {each.writer.host}, {opened}", ""))
    return lines


def chat_lines(found: ChatFound) -> list[Line]:
    """Return what is printed of a chat."""
    row, version = found.row, found.rows.version
    lines: list[Line] = [(f"chat      {found.chat_id}  partition {found.partition}", "bold")]
    if row is None:
        lines.append((f"row       {version} has none", "yellow"))
    else:
        lines.append((
            f"row       {version} chats: {row.kind}, {row.members} present members, last_seq {row.last_seq},"
            f" last_position {row.last_position}, created {instant_of(row.created_at_ms)} by {row.created_by}",
            "",
        ))  # fmt: skip
    for name, outcome in (("created", found.created), ("last event", found.last)):
        lines.append((f"{name}{'' if outcome is not None else ': no record'}", "cyan"))
        lines += outcome_lines(outcome) if outcome is not None else []
    if found.unapplied:
        lines.append((f"not applied yet: {len(found.unapplied)} events, the last:", "yellow"))
        lines += outcome_lines(found.unapplied[-1])
    return lines + _verdict(found.differences, found.notes)


def _verdict(differences: list[str], notes: list[str]) -> list[Line]:
    lines: list[Line] = [(f"note      {note}", "yellow") for note in notes]
    lines += [(f"differs   {difference}", "red") for difference in differences]
    return lines if differences else [*lines, ("The log and the rows agree.", "green")]


def _figures(seq: int | None, position: int | None) -> str:
    return "".join(f"  {name} {value}" for name, value in (("seq", seq), ("position", position)) if value is not None)


def found_json(found: Found, *, with_text: bool) -> dict[str, Any]:
    """Return the document of a command."""
    row = found.rows.message
    message = None
    if row is not None:
        message = {**row._asdict(), "text": row.text} if with_text else row._asdict()
        if not with_text:
            del message["text"]
    return {
        "partition": found.partition,
        "command": _command_json(found.command, with_text=with_text),
        "outcomes": [outcome_json(each) for each in found.outcomes],
        "http_status": found.http_status,
        "projection": found.rows.version,
        "rows": {
            "message": message,
            "outcomes": [
                {"index" if name == "log_index" else name: value for name, value in each._asdict().items()}
                for each in found.rows.outcomes
            ],
        },
        "agree": not found.differences,
        "differences": found.differences,
        "notes": found.notes,
    }


def _command_json(command: CommandFound | None, *, with_text: bool) -> dict[str, Any] | None:
    if command is None:
        return None
    document: dict[str, Any] = {
        "partition": command.partition,
        "offset": command.offset,
        "at": instant_of(command.at_ms),
        "type": command.type,
        "command_id": command.command_id,
        "chat_id": command.chat_id,
        "sender_id": command.sender_id,
        "client_generated_id": command.client_generated_id,
        "headers": dict(command.headers),
        "body_bytes": len(command.body),
        "unreadable": command.unreadable,
    }
    return document | ({"body": command.body.decode("utf-8", "replace")} if with_text else {})


def outcome_json(each: OutcomeFound) -> dict[str, Any]:
    """Return the document of an outcome."""
    seq, position = each.figures
    writer = each.writer
    return {
        "partition": each.partition,
        "index": each.stamp.index,
        "term": each.stamp.term,
        "offset": each.offset,
        "command_offset": each.stamp.command_offset,
        "at": instant_of(each.outcome.at_ms),
        "type": each.outcome.type,
        "outcome": each.outcome.kind.value,
        "reason": each.reason.value if each.reason is not None else None,
        "detail": each.detail,
        "seq": seq,
        "position": position,
        "writer": None
        if writer is None
        else {
            "owner": writer.owner,
            "host": writer.host,
            "opened_at": instant_of(writer.at_ms),
            "opened_offset": writer.offset,
        },
    }


def chat_json(found: ChatFound) -> dict[str, Any]:
    """Return the document of a chat."""
    return {
        "chat_id": found.chat_id,
        "partition": found.partition,
        "projection": found.rows.version,
        "row": found.row._asdict() if found.row is not None else None,
        "created": outcome_json(found.created) if found.created is not None else None,
        "last": outcome_json(found.last) if found.last is not None else None,
        "unapplied": len(found.unapplied),
        "agree": not found.differences,
        "differences": found.differences,
        "notes": found.notes,
    }


def trace_lines(found: Traced) -> list[Line]:
    """Return what is printed of a trace: a line for each command."""
    lines: list[Line] = [(f"trace {found.trace_id}", "bold")]
    lines += [_traced(each) for each in found.outcomes]
    lines += [_waiting(each) for each in found.waiting]
    if found.more:
        lines.append((f"{found.more:,} more outcomes are left out", "dim"))
    if not found.outcomes and not found.waiting:
        lines.append(("no command of it in that time: --since looks further back", "yellow"))
    return lines


def _traced(each: OutcomeFound) -> Line:
    outcome, reason = each.outcome, f" ({each.reason.value})" if each.reason is not None else ""
    place = f"{each.partition}:{each.stamp.command_offset:<8} {instant_of(outcome.at_ms)}"
    where = f"chat {outcome.chat_id or '-'}  sender {outcome.sender_id or '-'}{_figures(*each.figures)}"
    line = f"{place}  {outcome.kind.value}{reason}  {outcome.type}  {where}"
    return line, _STYLES.get(outcome.kind, "")


def _waiting(each: CommandFound) -> Line:
    place = f"{each.partition}:{each.offset:<8} {instant_of(each.at_ms)}"
    where = f"chat {each.chat_id or '-'}  sender {each.sender_id or '-'}"
    return f"{place}  not decided yet  {each.type or '-'}  {where}", "yellow"


def trace_json(found: Traced) -> dict[str, Any]:
    """Return the document of a trace."""
    return {
        "trace_id": found.trace_id,
        "outcomes": [
            outcome_json(each)
            | {
                "command": f"{each.partition}:{each.stamp.command_offset}",
                "command_id": each.outcome.command_id,
                "chat_id": each.outcome.chat_id,
                "sender_id": each.outcome.sender_id,
            }
            for each in found.outcomes
        ],
        "waiting": [_command_json(each, with_text=False) for each in found.waiting],
        "left_out": found.more,
    }
