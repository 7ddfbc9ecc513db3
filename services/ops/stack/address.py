"""The addresses of the servers, for commands that use them: from GAPLESS_* variables, or an embedded stack's file."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

import typer

DEFAULT_FOLDER: Final = Path(".gapless")
STACK_FILE: Final = "stack.json"
"""File in the data folder, while the stack is ready: the addresses, and the pid of every process."""
API_URL: Final = "GAPLESS_API_URL"
API_CA: Final = "GAPLESS_API_CA"
_VARIABLES: Final = {
    API_URL: "api_url",
    API_CA: "ca",
    "GAPLESS_KAFKA_BOOTSTRAP": "kafka",
    "GAPLESS_POSTGRES_DSN": "postgres",
    "GAPLESS_KAFKA_PARTITIONS": "partitions",
    "GAPLESS_KAFKA_REPLICATION_FACTOR": "replication_factor",
}
"""Variable → its key in stack.json."""
_OF_OTHER_SERVERS: Final = (
    "GAPLESS_KAFKA_SECURITY_PROTOCOL",
    "GAPLESS_KAFKA_SASL_",
    "GAPLESS_KAFKA_TLS_",
    "GAPLESS_HTTP_TLS_",
    "GAPLESS_POSTGRES_DSN_FILE",
)
_ADDRESSES: Final = ("GAPLESS_KAFKA_BOOTSTRAP", "GAPLESS_POSTGRES_DSN")


def use_stack(data_dir: Path | None) -> Path | None:
    """Set this process's variables to the addresses of the embedded stack on `data_dir`.

    Without a folder, use the stack on `.gapless` here, if one runs and no address is set.
    """
    if data_dir is None and any(name in os.environ for name in _ADDRESSES):
        return None
    folder = data_dir if data_dir is not None else DEFAULT_FOLDER
    try:
        document = stack_variables(folder)
    except (OSError, ValueError, KeyError) as error:
        if data_dir is not None:
            why = f" ({error.strerror})" if isinstance(error, OSError) and error.errno != errno.ENOENT else ""
            raise typer.BadParameter(
                f"no stack runs on {data_dir}{why}: start one with `gapless up --data-dir {data_dir}`"
            ) from None
        return None
    kept = without_security(os.environ)
    # An API named by a variable takes precedence over a discovered one; its certificates belong to it.
    overridden = document if data_dir is None and API_URL in kept else {}
    for name in (API_URL, API_CA):
        (overridden or kept).pop(name, None)
    os.environ.clear()
    os.environ.update(kept | document)
    return data_dir


def without_security(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables without those for the security of other servers than the embedded stack's."""
    return {name: value for name, value in environment.items() if not name.startswith(_OF_OTHER_SERVERS)}


def where_to_look() -> str:
    """Return the end of a sentence about an unreachable server: how to name the servers, if nothing names them."""
    if any(name in os.environ for name in _ADDRESSES):
        return ""
    return (
        f"; no stack runs on {DEFAULT_FOLDER} here and no address is set: name a stack's folder with --data-dir, or set"
        f" {' and '.join(_ADDRESSES)}"
    )


def stack_variables(folder: Path) -> dict[str, str]:
    """Return the variables that name the stack running on a folder.

    Raises OSError, ValueError or KeyError if no stack runs there.
    """
    document = json.loads((folder / STACK_FILE).read_text(encoding="utf-8"))
    with (folder / "lock").open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            addresses = {variable: str(document[key]) for variable, key in _VARIABLES.items() if document[key]}
            return addresses | dict(document.get("security", {}))
    # Its supervisor was killed, and could not remove the file.
    raise FileNotFoundError(errno.ENOENT, "the stack has ended", str(folder))


def processes_of(data_dir: Path | None) -> dict[str, str]:
    """Return name → base URL of the processes of the stack that `use_stack` chose; empty if it chose none."""
    folder = data_dir if data_dir is not None else DEFAULT_FOLDER
    try:
        stack_variables(folder)
        document = json.loads((folder / STACK_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, KeyError):
        return {}
    if document["kafka"] != os.environ.get("GAPLESS_KAFKA_BOOTSTRAP"):
        return {}
    return {str(name): str(url) for name, url in document.get("ops_urls", {}).items()}


StackOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="D",
        callback=use_stack,
        help="Take the addresses from the embedded stack that runs on D, not from GAPLESS_* variables.",
    ),
]
