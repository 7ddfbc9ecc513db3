"""`gapless env`: an embedded stack's addresses, and a token, as variables of the shell."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from services.ops.cli.terminal import JsonOption, exit_on_error, print_json, print_plain
from services.ops.errors import UsageError
from services.ops.stack.address import API_CA, DEFAULT_FOLDER, stack_variables


def env(
    user: Annotated[
        str | None, typer.Option(help="Add GAPLESS_API_TOKEN, a development token of this user: a UUID, or a name.")
    ] = None,
    data_dir: Annotated[
        Path, typer.Option("--data-dir", metavar="D", help="Data folder of the stack.")
    ] = DEFAULT_FOLDER,
    as_json: JsonOption = False,
) -> None:
    """Print `export` lines for a shell: `eval "$(gapless env --user anna)"`.

    They name the API, Kafka and Postgres of the embedded stack that runs on D, so that `gapless` commands and curl work
    in any folder. For a stack that was started with --secure, the lines contain passwords.

    Exit code: 0, 2 no stack runs on D.
    """
    with exit_on_error():
        variables = _variables(data_dir, user)
    if as_json:
        print_json(variables)
        return
    for name, value in variables.items():
        print_plain(f"export {name}={shlex.quote(value)}")


def _variables(data_dir: Path, user: str | None) -> dict[str, str]:
    try:
        found = stack_variables(data_dir)
    except (OSError, ValueError, KeyError):
        start = "gapless up" if data_dir == DEFAULT_FOLDER else f"gapless up --data-dir {shlex.quote(str(data_dir))}"
        raise UsageError(f"No stack runs on {data_dir}: start one with `{start}`.") from None
    if API_CA in found:
        found["CURL_CA_BUNDLE"] = found[API_CA]
    if user is not None:
        from services.ops.stack.token import development_token

        found["GAPLESS_API_TOKEN"] = development_token(user, data_dir=data_dir)
    return found
