"""`gapless log skip-missing-commands`: let a partition go on after commands were lost for good."""

from __future__ import annotations

import getpass
import socket
from typing import TYPE_CHECKING, Annotated

import typer

from services.ops.cli.terminal import OUT, JsonOption, exit_on_error, fail, print_json, progress, run
from services.ops.errors import Exit, UsageError
from services.ops.stack.address import StackOption
from services.runtime.settings import KafkaSettings, load_settings

if TYPE_CHECKING:
    from services.ops.repair.missing_commands import CommandsFrom, Missing


def skip_missing_commands(
    partition: Annotated[int, typer.Option(min=0, help="The partition that is stopped.")],
    commands_from: Annotated[
        str | None, typer.Option("--from", help="Decide from this command on: an offset, `first` or `end`.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; otherwise only say what would be given up.")] = False,
    as_json: JsonOption = False,
    _stack: StackOption = None,
) -> None:
    """Say what is given up if a partition goes on without commands that are gone from chat.commands; with --yes, do it.

    It appends an opening to chat.events that names the first command to decide. Restart the stopped sequencers then.
    A partition of which no command is missing is left as it is.

    Exit code: 0 done or nothing to do, 1 not confirmed, or the log is corrupt, 2 wrong usage, 3 Kafka unavailable.
    """
    from services.ops.repair.missing_commands import find_missing, go_on

    with exit_on_error():
        kafka = load_settings(KafkaSettings)
        asked = _offset(commands_from)
    with exit_on_error(), progress("reading the log", quiet=as_json) as begin:
        missing = run(find_missing(kafka, partition, asked, begin))
    if missing is None:
        if as_json:
            print_json({"partition": partition, "missing": False})
        else:
            OUT.say(f"No command of partition {partition} is missing; nothing was changed.")
        return
    if not as_json:
        _say(missing)
    if not yes:
        if as_json:
            print_json(_json(missing, term=None))
        fail("Nothing was changed. To do it, add --yes.", Exit.FAULT)
    with exit_on_error():
        term = run(go_on(kafka, missing, operator=f"{getpass.getuser()}@{socket.gethostname()}"))
    if as_json:
        print_json(_json(missing, term=term))
    else:
        OUT.say((f"Term {term} of partition {partition}", "green"), " says so. Restart the sequencers that stopped.")


def _offset(text: str | None) -> CommandsFrom | None:
    if text is None or text == "first" or text == "end":
        return text  # type: ignore[return-value]  # mypy does not narrow a str by comparisons
    if not text.isascii() or not text.isdigit():
        raise UsageError("--from is an offset of chat.commands, `first` or `end`.")
    return int(text)


def _say(missing: Missing) -> None:
    held = f"{missing.first} to {missing.end - 1}" if missing.end > missing.first else "nothing"
    OUT.say(
        f"The next command of partition {missing.partition} is {missing.next_command}; chat.commands holds {held}."
        f" Going on from {missing.commands_from}:"
    )
    if missing.given_up:
        OUT.say(
            (f"  {missing.given_up:,} commands are never decided", "yellow"),
            ". Their senders got 202 or no answer; what they send again, under the same keys, is decided as new.",
        )
    if missing.decided_again:
        OUT.say(
            (f"  commands at {missing.decided_again:,} offsets that were decided before are decided again", "yellow"),
            ": keys that were accepted are recognised as repeats, rejected ones may be accepted now.",
        )


def _json(missing: Missing, *, term: int | None) -> dict[str, object]:
    return {
        "partition": missing.partition,
        "missing": True,
        "next_command": missing.next_command,
        "first": missing.first,
        "end": missing.end,
        "commands_from": missing.commands_from,
        "given_up": missing.given_up,
        "decided_again": missing.decided_again,
        "term": term,
    }
