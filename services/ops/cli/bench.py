"""`gapless bench …`: hands over to the folder benchmarks/, which a clone has and an installed wheel has not."""

from __future__ import annotations

from importlib import import_module

import typer

from services.ops.cli.terminal import fail
from services.ops.errors import Exit

PASS_ALL_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}


def bench(context: typer.Context) -> None:
    """Measures throughput, latency and CPU beside a baseline: `gapless bench --help` names what can be measured.

    Exit code: 0, 1 the work was not done as it must be, 2 wrong usage, or no benchmarks here.
    """
    try:
        benchmarks = import_module("benchmarks.cli")
    except ModuleNotFoundError as error:
        if error.name not in ("benchmarks", "benchmarks.cli"):
            raise
        fail("The benchmarks are not part of an installation: run them in a clone of the repository.", Exit.USAGE)
    benchmarks.app(args=context.args, prog_name="gapless bench")
