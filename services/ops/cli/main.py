"""The `gapless` command. Exit codes: 0 ok, 1 a difference or fault, 2 wrong usage, 3 a server is unavailable.

Commands import their modules when they are called, so that each starts fast, and all but those of the embedded stack
work in a production image without it.
"""

from __future__ import annotations

import logging
import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from schemas.wire.extensions import code_in_use
from services.ops.cli import archives as archive_commands
from services.ops.cli import bench as bench_command
from services.ops.cli import chat as chat_commands
from services.ops.cli import cutover as projection_cutover
from services.ops.cli import env as env_command
from services.ops.cli import lag as lag_command
from services.ops.cli import log as log_commands
from services.ops.cli import missing_commands
from services.ops.cli import plan as projection_plan
from services.ops.cli import projection as projection_commands
from services.ops.cli import rebuild as projection_rebuild
from services.ops.cli import rejected as log_rejected
from services.ops.cli import retirement as projection_retirement
from services.ops.cli import rights as rights_commands
from services.ops.cli import services as service_commands
from services.ops.cli import show as show_commands
from services.ops.cli import stack as stack_commands
from services.ops.cli import status as status_command
from services.ops.cli import top as top_command
from services.ops.cli import topics as topics_commands
from services.ops.cli import versions as projection_versions
from services.ops.cli.terminal import ERR, JsonOption, as_a_program, exit_on_error, print_json, print_plain
from services.ops.cli.variables import unknown_variables
from services.ops.stack.token import development_token
from services.runtime.observe.logs import configure_logging
from services.runtime.observe.metrics import package_version
from services.runtime.settings import LogSettings, load_settings


class Scope(StrEnum):
    """The scopes that the services know."""

    PRODUCER = "producer"
    IMPORT = "import"


app = typer.Typer(
    name="gapless",
    help=(__doc__ or "").splitlines()[0],
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # `main` prints its own: locals and errors may contain texts and passwords
    rich_markup_mode=None,
)
app.add_typer(chat_commands.app, name="chat")
log_commands.app.command("rejected")(log_rejected.rejected)
log_commands.app.command("skip-missing-commands")(missing_commands.skip_missing_commands)
archive_commands.add_to(log_commands.app)
app.add_typer(log_commands.app, name="log")
app.add_typer(show_commands.app, name="show")
projection_versions.add_to(projection_commands.app)
projection_plan.add_to(projection_commands.app)
projection_rebuild.add_to(projection_commands.app)
projection_cutover.add_to(projection_commands.app)
projection_retirement.add_to(projection_commands.app)
app.add_typer(projection_commands.app, name="projection")
app.add_typer(topics_commands.app, name="topics")
topics_commands.app.command("acls")(rights_commands.acls)
projection_commands.app.command("roles")(rights_commands.roles)
app.command("env")(env_command.env)
app.command("lag")(lag_command.lag)
app.command("status")(status_command.status)
app.command("top")(top_command.top)
app.command("bench", context_settings=bench_command.PASS_ALL_ON)(bench_command.bench)
app.command("up")(stack_commands.up)
app.command("down")(stack_commands.down)
for _service in service_commands.SERVICES:
    app.command(_service)(getattr(service_commands, _service))


def _print_version(wanted: bool) -> None:
    if wanted:
        print_plain(f"{package_version()} ({code_in_use()})")
        raise typer.Exit


@app.callback()
def gapless(
    context: typer.Context,
    _version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version and whether it is compiled.",
            callback=_print_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """An event-sourced message log service: a gap-free, deduplicated sequence per chat."""
    # Commands log for the person at the terminal; a service configures its own logging when it starts.
    with exit_on_error():
        chosen = "GAPLESS_LOG_LEVEL" in os.environ
        settings = load_settings(LogSettings) if chosen else LogSettings.model_validate({"level": "warning"})
        configure_logging(settings, service="gapless")
    if context.invoked_subcommand not in service_commands.SERVICES:  # services log it
        for unknown in unknown_variables():
            ERR.say(f"{unknown}", style="yellow")
    if not chosen:
        for library in ("aiokafka", "psycopg.pool"):  # the command itself reports the same in one sentence
            logging.getLogger(library).setLevel(logging.CRITICAL)


@app.command("demo")
def demo(
    data_dir: Annotated[
        Path | None,
        typer.Option("--data-dir", metavar="D", help="Keep the data here. Default: a temporary folder."),
    ] = None,
    secure: Annotated[
        bool, typer.Option("--secure", help="With TLS, SCRAM, ACLs, database roles and HTTPS, as production should be.")
    ] = False,
) -> None:
    """Start the whole system here, run a conversation through it, kill a sequencer, verify the result.

    Exit code: 0 every claim held, 1 one did not, 2 wrong usage, 3 a server or a download is unavailable.
    """
    from services.ops.cli import demo as story

    story.demo(data_dir, secure=secure)


@app.command("token")
def token(
    user: Annotated[str, typer.Option(help="The user: a UUID, or a name that becomes one (GET /v1/me says which).")],
    scope: Annotated[list[Scope] | None, typer.Option(help="An additional scope; may be repeated.")] = None,
    ttl_s: Annotated[float, typer.Option(min=1, help="Validity in seconds.")] = 24 * 3600,
    data_dir: Annotated[Path, typer.Option(metavar="D", help="Data folder of the stack that accepts it.")] = Path(
        ".gapless"
    ),
    as_json: JsonOption = False,
) -> None:
    """Print a development token, alone on one line: signed with GAPLESS_JWT_SECRET if that is set, else with the
    secret that all embedded stacks of this user share.

    Exit code: 0, 2 no secret to sign with.
    """
    with exit_on_error():
        minted = development_token(user, data_dir=data_dir, scopes=[each.value for each in scope or ()], ttl_s=ttl_s)
    if as_json:
        print_json({"token": minted})
    else:
        print_plain(minted)


def main() -> None:
    """The entry point."""
    with as_a_program():
        app()
