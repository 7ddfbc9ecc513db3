"""The output of commands: harmless, whole in a pipe, in any encoding, and quiet when its reader closes the pipe."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.table import Table
from rich.text import Text

from services.ops.cli import log as log_commands
from services.ops.cli.terminal import Terminal, cell
from services.ops.verify.log.partition import Counts
from services.ops.verify.log.verify import LogReport, PartitionReport

ROOT = Path(__file__).parents[3]
HOSTILE = "\x1b[2J\x9b31m\u202e[red]x[/] [link=http://e]y[/link] :warning: \\[b]\nforged\r" + "wide " * 60
MARKUP = "[red]x[/] [link=http://e]y[/link] :warning: \\[b]"


def printed(*renderables: object, terminal: bool = True, **options: object) -> str:
    out = io.StringIO()
    console = Terminal(file=out, force_terminal=terminal, color_system=None, soft_wrap=True, emoji=False, width=None)
    for renderable in renderables:
        console.print(renderable, **options)  # type: ignore[arg-type]
    return out.getvalue()


def raw_controls(text: str) -> set[str]:
    return set(re.findall("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", text))


def test_a_line_of_any_text_is_one_line_without_marks_of_ours() -> None:
    out = io.StringIO()
    console = Terminal(file=out, force_terminal=True, color_system=None, soft_wrap=True, emoji=False)
    console.say("before ", (HOSTILE, "red"), " after")
    [line] = out.getvalue().splitlines()
    assert raw_controls(line) == set()
    assert MARKUP in line
    assert line.startswith(r"before \x1b[2J\x9b31m\u202e[red]x")
    assert line.endswith(" after")


def test_a_cell_of_any_text_is_shown_as_it_is() -> None:
    table = Table("text", width=None)
    table.add_row(cell(HOSTILE))
    shown = printed(table, terminal=False)
    assert raw_controls(shown) == set()
    assert MARKUP in shown
    assert shown.count("\n") == 5  # the frame and one row: nothing is folded or cut in a pipe


def test_a_report_fits_a_terminal_of_80_columns_and_loses_no_figure(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    console = Terminal(file=out, force_terminal=True, color_system=None, soft_wrap=True, emoji=False, width=80)
    monkeypatch.setattr(log_commands, "OUT", console)
    counts = Counts(records=123_456_789_012, outcomes=123_456_789_013, void=123_456_789, terms=7)
    partition = PartitionReport(partition=99_999, end_offset=1, counts=counts, term=1_234_567, chats=123_456_789)
    log_commands._show(LogReport(limit=10, partitions=[partition]))
    assert max(map(len, out.getvalue().splitlines())) <= 80
    assert "…" not in out.getvalue()
    figures = ["99999", "123456789012", "123456789013", "123456789", "1234567", "123456789", "0"]
    assert len(re.sub(r"[^0-9]", "", out.getvalue())) == len("".join(figures))


@pytest.mark.parametrize("renderable", [Text(HOSTILE), "no receipts of mine: \x1b[2J\x9b31m\u202e\r"])
def test_what_forgets_to_escape_is_caught_by_the_net(renderable: object) -> None:
    assert raw_controls(printed(renderable)) == set()


def test_what_rich_draws_itself_still_reaches_the_terminal() -> None:
    out = io.StringIO()
    Terminal(file=out, force_terminal=True, color_system="standard").print("[red]x[/]", Text("\x1b"))
    assert "\x1b[31mx" in out.getvalue()
    assert r"\x1b" in out.getvalue()


def program(text: str) -> list[str]:
    start = "from services.ops.cli.terminal import ERR, OUT, as_a_program, fail, print_json\nwith as_a_program():\n"
    return [sys.executable, "-c", start + "".join(f"    {line}\n" for line in text.splitlines())]


@pytest.mark.parametrize(
    "variables", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}]
)
def test_an_encoding_that_lacks_the_characters_is_no_error(variables: dict[str, str]) -> None:
    text = "Grüße 你好 👋 \x1b"
    code = f"text = {text!a}\nOUT.say(text)\nprint_json({{'text': text}})\nERR.say(text)\nraise ValueError(text)"
    done = subprocess.run(program(code), cwd=ROOT, env={**os.environ, **variables}, capture_output=True, timeout=60)
    line, document = done.stdout.decode("ascii").splitlines()
    assert line == r"Gr\xfc\xdfe \u4f60\u597d \U0001f44b \x1b"
    assert json.loads(document) == {"text": text}
    assert done.returncode == 1
    assert done.stderr.decode("ascii").splitlines()[-1] == rf"ValueError: {line}"


@pytest.mark.parametrize("what", ["OUT.say('x' * 100)", "OUT.print('x' * 100)", "print_json('x' * 100)"])
def test_a_reader_that_goes_away_ends_the_command_quietly(what: str) -> None:
    process = subprocess.Popen(program(f"while True: {what}"), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    assert (process.wait(60), process.stderr.read()) == (141, b"")
    process.stderr.close()
