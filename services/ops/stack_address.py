"""Where the servers are, for commands that look at them: by GAPLESS_* variables, or by an embedded stack's file."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Final

import typer

DEFAULT_FOLDER: Final = Path(".gapless")
STACK_FILE: Final = "stack.json"
"""In the data folder while the stack is ready: where everything is, and the pid of every process."""
_VARIABLES: Final = {
    "GAPLESS_KAFKA_BOOTSTRAP": "kafka",
    "GAPLESS_POSTGRES_DSN": "postgres",
    "GAPLESS_KAFKA_PARTITIONS": "partitions",
    "GAPLESS_KAFKA_REPLICATION_FACTOR": "replication_factor",
}
"""Variable → its key in stack.json."""
_ADDRESSES: Final = ("GAPLESS_KAFKA_BOOTSTRAP", "GAPLESS_POSTGRES_DSN")


def use_stack(data_dir: Path | None) -> Path | None:
    """Puts the addresses of the embedded stack on `data_dir` into this process's variables.

    Without a folder: those of the stack that runs on `.gapless` here, if one does and no address is set.
    """
    if data_dir is None and any(name in os.environ for name in _ADDRESSES):
        return None
    folder = data_dir if data_dir is not None else DEFAULT_FOLDER
    try:
        document = json.loads((folder / STACK_FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        if data_dir is not None:
            raise typer.BadParameter(f"no stack runs on {data_dir}: start it with `gapless up`") from None
        return None
    os.environ.update({variable: str(document[key]) for variable, key in _VARIABLES.items()})
    return data_dir


StackOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="D",
        callback=use_stack,
        help="Take the addresses from the embedded stack that runs on D, not from GAPLESS_* variables.",
    ),
]
