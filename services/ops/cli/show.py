"""`gapless show …`: one message, command, key, chat or trace through the whole system."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Annotated

import typer

from schemas import ids
from schemas.ids import ChatId
from services.ops.cli.show_lines import Line, chat_json, chat_lines, found_json, found_lines, trace_json, trace_lines
from services.ops.cli.since import SinceOption, since_ms
from services.ops.cli.terminal import OUT, JsonOption, exit_on_error, print_json, run
from services.ops.errors import Exit, UsageError
from services.ops.stack.address import StackOption
from services.runtime.settings import KafkaSettings, PostgresSettings, load_settings

if TYPE_CHECKING:
    from services.ops.inspect.found import Found

app = typer.Typer(
    no_args_is_help=True, help="Follow one message, command or chat through the log and the tables, and compare them."
)
ScanOption = Annotated[bool, typer.Option("--scan", help="Read the whole partition, for what the tables do not know.")]
TextOption = Annotated[bool, typer.Option("--with-text", help="Also show the body of the command and the text.")]
_MESSAGE = re.compile(r"([0-9a-f-]{36})/([0-9]{1,18})", re.ASCII)


@app.command("message")
def message(
    message: Annotated[str, typer.Argument(metavar="MESSAGE_ID|CHAT_ID/SEQ")],
    scan: ScanOption = False,
    with_text: TextOption = False,
    as_json: JsonOption = False,
    _stack: StackOption = None,
) -> None:
    """Show a message: its command, the outcome, the term and host that decided it, and its rows.

    Exit code: 0, 1 not found, or the log and the rows differ, 2 wrong usage, 3 Kafka or Postgres unavailable.
    """
    from services.ops.inspect.show import show_message

    with exit_on_error():
        kafka, postgres = _settings()
        chat_id, seq, message_id = _message(message)
    found = run(show_message(kafka, postgres, chat_id=chat_id, seq=seq, command_id=message_id, scan=scan))
    _print(found, as_json=as_json, with_text=with_text)


@app.command("command")
def command(
    command: Annotated[str, typer.Argument(metavar="COMMAND_ID|P:OFFSET")],
    chat: Annotated[str | None, typer.Option(help="The chat_id, for a command that the tables do not know.")] = None,
    scan: ScanOption = False,
    with_text: TextOption = False,
    as_json: JsonOption = False,
    _stack: StackOption = None,
) -> None:
    """Show a command by its id or by its place in chat.commands, whatever became of it.

    Exit code: 0, 1 not found, or the log and the rows differ, 2 wrong usage, 3 Kafka or Postgres unavailable.
    """
    from services.ops.inspect.show import show_command, show_command_at

    with exit_on_error():
        kafka, postgres = _settings()
        place = _place(command, kafka.partitions)
        chat_id = None if chat is None else _chat_id(chat)
        if place is None and not ids.is_uuid(command):
            raise UsageError(f"{command} is neither a command_id, a UUID in lower case, nor a place as 5:1042.")
    if place is None:
        found = run(show_command(kafka, postgres, chat_id=chat_id, command_id=command, scan=scan))
    else:
        found = run(show_command_at(kafka, postgres, partition=place[0], offset=place[1]))
    _print(found, as_json=as_json, with_text=with_text)


@app.command("key")
def key(
    chat: Annotated[str, typer.Option(help="The chat_id.")],
    sender: Annotated[str, typer.Option(help="The user: a UUID, or a name that becomes one.")],
    key: Annotated[str, typer.Option(help="The client_generated_id; over HTTP the Idempotency-Key.")],
    scan: ScanOption = False,
    with_text: TextOption = False,
    as_json: JsonOption = False,
    _stack: StackOption = None,
) -> None:
    """Show what became of the commands that a sender sent to a chat under a key.

    Exit code: 0, 1 not found, or the log and the rows differ, 2 wrong usage, 3 Kafka or Postgres unavailable.
    """
    from services.ops.inspect.show import show_command
    from services.runtime.access.auth import user_id_of

    with exit_on_error():
        kafka, postgres = _settings()
        chat_id = _chat_id(chat)
        if not ids.is_client_generated_id(key):
            raise UsageError("A key is 1 to 128 visible ASCII characters.")
        issuer = os.environ.get("GAPLESS_JWT_ISSUER", "").removeprefix("*")
        command_id = ids.command_id(chat_id, ids.UserId(user_id_of(sender, issuer=issuer)), key)
    found = run(show_command(kafka, postgres, chat_id=chat_id, command_id=command_id, scan=scan))
    _print(found, as_json=as_json, with_text=with_text)


@app.command("chat")
def chat(
    chat: Annotated[str, typer.Argument(metavar="CHAT_ID")],
    scan: ScanOption = False,
    as_json: JsonOption = False,
    _stack: StackOption = None,
) -> None:
    """Show a chat: its partition and row, the record that created it, its last event, and what is not applied yet.

    Exit code: 0, 1 not found, or the log and the row differ, 2 wrong usage, 3 Kafka or Postgres unavailable.
    """
    from services.ops.inspect.show import show_chat

    with exit_on_error():
        kafka, postgres = _settings()
        chat_id = _chat_id(chat)
    found = run(show_chat(kafka, postgres, chat_id=chat_id, scan=scan))
    if as_json:
        print_json(chat_json(found))
    else:
        _say(chat_lines(found))
    raise typer.Exit(Exit.FAULT if found.differences else Exit.OK)


@app.command("trace")
def trace(
    trace: Annotated[str, typer.Argument(metavar="TRACE_ID|REQUEST_ID")],
    since: SinceOption = "1h",
    as_json: JsonOption = False,
    _stack: StackOption = None,
) -> None:
    """Show the commands of a trace, or of a request by its X-Request-Id, and what became of each.

    Reads the log since that time, in all partitions. A request that brought a traceparent of its own is found by that.

    Exit code: 0, 1 not found, 2 wrong usage, 3 Kafka unavailable.
    """
    from services.ops.inspect.trace import find_trace, trace_named

    with exit_on_error():
        kafka, begin_ms = load_settings(KafkaSettings), since_ms(since)
        if not ids.is_client_generated_id(trace):
            raise UsageError("A trace id or a request id is 1 to 128 visible ASCII characters.")
        trace_id = trace_named(trace)
    found = run(find_trace(kafka, trace_id, since_ms=begin_ms))
    if as_json:
        print_json(trace_json(found))
    else:
        _say(trace_lines(found))
    raise typer.Exit(Exit.OK if found.outcomes or found.waiting else Exit.FAULT)


def _print(found: Found, *, as_json: bool, with_text: bool) -> None:
    if as_json:
        print_json(found_json(found, with_text=with_text))
    else:
        _say(found_lines(found, with_text=with_text))
    raise typer.Exit(Exit.FAULT if found.differences else Exit.OK)


def _say(lines: list[Line]) -> None:
    for text, style in lines:
        OUT.say(text, style=style)


def _settings() -> tuple[KafkaSettings, PostgresSettings]:
    return load_settings(KafkaSettings), load_settings(PostgresSettings)


def _message(text: str) -> tuple[ChatId | None, int, str]:
    if ids.is_uuid(text):
        return None, 0, text
    match = _MESSAGE.fullmatch(text)
    if match is None or not ids.is_uuid(match[1]):
        raise UsageError(f"{text} is neither a message_id, a UUID in lower case, nor CHAT_ID/SEQ.")
    return ChatId(match[1]), int(match[2]), ""


def _place(text: str, partitions: int) -> tuple[int, int] | None:
    try:
        partition, offset = ids.parse_token(text)
    except ValueError:
        return None
    if partition >= partitions:
        raise UsageError(f"There are partitions 0 to {partitions - 1}: {text} is in none of them.")
    return partition, offset


def _chat_id(text: str) -> ChatId:
    if not ids.is_uuid(text):
        raise UsageError(f"{text} is not a chat_id, which is a UUID in lower case with hyphens.")
    return ChatId(text)
