"""`gapless projection stop-feeding` and `drop`: retire a version that no longer serves."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.filesize import decimal

from services.ops.cli.projection import parse_version, refusals
from services.ops.cli.terminal import OUT, JsonOption, exit_on_error, fail, print_json, run
from services.ops.errors import Exit
from services.ops.stack.address import StackOption
from services.runtime.settings import PostgresSettings, load_settings

Version = Annotated[str, typer.Argument(metavar="vN", help="The projection, as v1.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands to `gapless projection`."""
    app.command("stop-feeding")(stop_feeding)
    app.command("drop")(drop)


def stop_feeding(version: Version, as_json: JsonOption = False, _stack: StackOption = None) -> None:
    """Stop feeding a version that does not serve; its rows stay, and a rebuild of it continues from there.

    From then on it costs the projectors and Postgres nothing, and readers cannot be switched to it.

    Exit code: 0 stopped (now or before), 1 refused, 2 wrong usage, 3 Postgres unavailable.
    """
    from services.projector.versions.retirement import stop_feeding as stop

    with exit_on_error(), refusals():
        number = parse_version(version)
        run(stop(number, postgres=load_settings(PostgresSettings)))
    if as_json:
        print_json({"version": version, "state": "stopped"})
    else:
        OUT.say(
            f"{version} is no longer fed. To bring it up to date: `gapless projection rebuild --to {version}`; to"
            f" delete it: `gapless projection drop {version}`."
        )


def drop(
    version: Version,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    as_json: JsonOption = False,
    _stack: StackOption = None,
) -> None:
    """Delete a version that does not serve, with all its rows, and free its disk space. The log is not changed.

    It asks for confirmation; programs pass --yes.

    Exit code: 0 dropped, 1 refused or not confirmed, 2 wrong usage, 3 Postgres unavailable.
    """
    from services.projector.versions.retirement import drop as drop_projection

    with exit_on_error(), refusals():
        number = parse_version(version)
        if not yes:
            confirm(version)
        freed = run(drop_projection(number, postgres=load_settings(PostgresSettings)))
    if as_json:
        print_json({"version": version, "freed_bytes": freed})
    else:
        OUT.say(f"{version} is dropped: {decimal(freed)} freed.")


def confirm(version: str) -> None:
    """Ask whether the rows of a version may be deleted. Ends the command if not, or if there is no terminal."""
    if not sys.stdin.isatty():
        fail(f"Dropping {version} deletes all its rows: confirm with --yes.", Exit.USAGE)
    if not typer.confirm(f"Delete {version} with all its rows?", err=True):
        fail("Nothing was dropped.", Exit.FAULT)
