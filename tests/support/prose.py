"""Finds the habits that docs/style.md forbids in pages, docstrings, comments and messages.

python -m tests.support.prose [PATH …]      lists what is left, line by line
python -m tests.support.prose --shrink      lowers the numbers of prose_debt.txt to what is left
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

ROOT: Final = Path(__file__).parents[2]
DEBT: Final = Path(__file__).with_name("prose_debt.txt")
MESSAGES_COUNT: Final = ("schemas", "services", "devstack", "benchmarks", "examples")
"""Folders in which every string of two words is prose: errors, help texts, log lines."""
SELF: Final = {"docs/style.md", "tests/support/prose.py", "tests/unit/house/test_language.py"}
"""Files that quote the habits."""
PLAIN: Final = {".md", ".yaml", ".yml"}
COMMENT: Final = {".sql": r"--\s?(.*)", ".toml": r"#\s?(.*)", "": r"#\s?(.*)", ".sh": r"#\s?(.*)"}


class Habit(NamedTuple):
    pattern: re.Pattern[str]
    instead: str


def _habit(pattern: str, instead: str) -> Habit:
    return Habit(re.compile(pattern.replace(" ", r"\s+")), instead)


HABITS: Final = (
    _habit(r"\b[Ff]or ever\b", "always, permanently, never changes"),
    _habit(r"\b(?:is|are|was|were|be|been|being|not|get|gets) told\b", "receives, gets, is notified, returns"),
    _habit(r"\b[Nn]obody\b", "name the actor: no process, no reader, no caller"),
    _habit(r"\b[Ss]omebody\b", "name the actor: a process, another sender, an operator"),
    _habit(r"\b[Bb]eside\b", "next to, with, alongside, in addition to"),
    _habit(r"\b[Gg]ives\b(?! up\b| way\b)", "returns, assigns, adds"),
    _habit(r"\bWho(?:ever)?\b(?![^.?!]*\?)", "name the actor: A process that …, Readers that …"),
    _habit(r"\b(?:for|by|to|of|from|with|than|as|on|at) who\b", "name the actor: for readers that …"),
    _habit(r"\b(?:[Ss]hort|[Ss]horter|[Ll]ong|[Ll]onger|[Uu]sual) way\b", "fast path, slow path"),
    _habit(r"\b[Tt]here is none\b", "None, does not exist, is empty"),
    _habit(r"\b[Ww]here there (?:is|are)\b", "if there is, when there is"),
    _habit(r"\A(?:Of|Told) ", "a noun phrase"),
)


class Found(NamedTuple):
    path: str
    line: int
    words: str
    instead: str

    def __str__(self) -> str:
        return f'{self.path}:{self.line}: "{self.words}": better: {self.instead}'


class Prose(NamedTuple):
    """A paragraph, a docstring, a block of comment or a message, and the line that it begins at."""

    line: int
    text: str


def find(path: str) -> Iterator[Found]:
    """Yield every habit in a file, in the order of its text."""
    for prose in prose_of(path, (ROOT / path).read_text(encoding="utf-8")):
        for habit in HABITS:
            for match in habit.pattern.finditer(prose.text):
                line = prose.line + prose.text.count("\n", 0, match.start())
                yield Found(path, line, " ".join(match[0].split()), habit.instead)


def prose_of(path: str, text: str) -> Iterator[Prose]:
    """Yield the parts of a file that people read."""
    suffix = Path(path).suffix
    if suffix in PLAIN:
        yield Prose(1, text)
    elif suffix in (".py", ".pyi"):
        yield from _python(text, messages=path.startswith(MESSAGES_COUNT))
    elif suffix in (".pyx", ".pxd"):
        for match in re.finditer(r'"""(.*?)"""', text, re.DOTALL):
            yield Prose(1 + text.count("\n", 0, match.start()), match[1])
        yield from _comments(text, r"#\s?(.*)")
    elif suffix in COMMENT:
        yield from _comments(text, COMMENT[suffix])


def _python(text: str, *, messages: bool) -> Iterator[Prose]:
    docstrings = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr):
            docstrings.add(node.value)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if node in docstrings:
                yield Prose(node.lineno, node.value.strip())
            elif messages and " " in node.value:
                yield Prose(node.lineno, node.value)
    yield from _joined(
        (token.start[0], token.string[1:].strip())
        for token in tokenize.generate_tokens(io.StringIO(text).readline)
        if token.type == tokenize.COMMENT
    )


def _comments(text: str, pattern: str) -> Iterator[Prose]:
    lines = enumerate(text.splitlines(), 1)
    yield from _joined(
        (number, match[1]) for number, line in lines if (match := re.search(rf"(?:^|\s){pattern}", line)) is not None
    )


def _joined(comments: Iterator[tuple[int, str]]) -> Iterator[Prose]:
    """Comments on consecutive lines as one text, since sentences run on."""
    first, last, block = 0, -1, list[str]()
    for number, comment in comments:
        if number != last + 1:
            if block:
                yield Prose(first, "\n".join(block))
            first, block = number, []
        block.append(comment)
        last = number
    if block:
        yield Prose(first, "\n".join(block))


@cache
def files() -> tuple[str, ...]:
    """Every file with prose that is, or is about to be, in the repository."""
    listed = subprocess.run(
        ("git", "ls-files", "--cached", "--others", "--exclude-standard"),
        cwd=ROOT, check=True, capture_output=True, text=True,
    ).stdout.splitlines()  # fmt: skip
    known = PLAIN | {".py", ".pyi", ".pyx", ".pxd"} | set(COMMENT)
    return tuple(p for p in sorted(set(listed) - SELF) if Path(p).suffix in known and (ROOT / p).is_file())


def debt() -> dict[str, int]:
    """Return path → how many habits it may still have."""
    lines = (line for line in DEBT.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#"))
    return {path: int(count) for path, count in (line.rsplit(" ", 1) for line in lines)}


def shrink() -> None:
    """Lower every number of the list to what is left; files that are done, or gone, leave it."""
    kept = {}
    for path, allowed in debt().items():
        if (ROOT / path).is_file() and (left := min(allowed, len(list(find(path))))):
            kept[path] = left
    write_debt(kept)


def write_debt(counts: dict[str, int]) -> None:
    head = "# Files older than docs/style.md, and how many forbidden habits each may still have. Numbers only shrink.\n"
    DEBT.write_text(head + "".join(f"{path} {count}\n" for path, count in sorted(counts.items())), encoding="utf-8")


def main(arguments: list[str]) -> None:
    if arguments == ["--shrink"]:
        shrink()
        return
    prefixes = tuple(argument.rstrip("/") for argument in arguments) or ("",)
    for path in files():
        if path.startswith(prefixes):
            for found in find(path):
                print(found)


if __name__ == "__main__":
    main(sys.argv[1:])
