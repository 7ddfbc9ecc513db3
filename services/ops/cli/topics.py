"""`gapless topics …`: the topics with the settings that the protocol needs."""

from __future__ import annotations

import typer

from services.ops import topics
from services.ops.cli.terminal import ERR, OUT, JsonOption, exit_on_error, print_json, run
from services.ops.stack.address import StackOption
from services.runtime.settings import KafkaSettings, load_settings

app = typer.Typer(no_args_is_help=True, help="Create the topics with the settings the protocol needs, and check them.")


@app.command("create")
def create(as_json: JsonOption = False, _stack: StackOption = None) -> None:
    """Create the missing topics, then check all of them.

    On three or more brokers it refuses to create topics with one copy of each record, unless
    GAPLESS_KAFKA_REPLICATION_FACTOR is set.

    Exit code: 0, 1 a topic has a fault, 2 wrong settings, 3 Kafka unavailable.
    """
    with exit_on_error():
        settings = load_settings(KafkaSettings)
    created, notes = run(topics.create_and_check(settings))
    _print_notes(notes)
    if as_json:
        print_json({"created": created, "notes": notes})
    elif created:
        OUT.say(("Created", "green"), f" {', '.join(created)}.")
    else:
        OUT.print("All topics exist already, and are as they must be.")


@app.command("check")
def check(as_json: JsonOption = False, _stack: StackOption = None) -> None:
    """Compare the topics with the protocol's needs, and name every fault with what to do.

    Exit code: 0 as they must be, 1 a fault, 2 wrong settings, 3 Kafka unavailable.
    """
    with exit_on_error():
        settings = load_settings(KafkaSettings)
    notes = run(topics.check(settings))
    _print_notes(notes)
    if as_json:
        print_json({"topics": [spec.name for spec in topics.specs_of(settings)], "ok": True, "notes": notes})
    else:
        OUT.print("[green]All topics are as they must be.[/]")


def _print_notes(notes: list[str]) -> None:
    for note in notes:
        ERR.print(note, style="yellow", markup=False, highlight=False)
