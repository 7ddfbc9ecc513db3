"""Loads SQL from files of named blocks, so that SQL lives in `.sql` files and code names what it runs.

    -- name: newest_page
    -- Why this statement is the way it is.
    SELECT seq FROM {schema}.chat_messages WHERE chat_id = %(chat_id)s ORDER BY seq DESC LIMIT %(limit)s;

`load_sql("services.query.sql").bind(schema="chat")["newest_page"]` is a `psycopg.sql.SQL` ready to execute.
`{word}` stands for an identifier and is quoted by psycopg; braces around anything else are left alone.
Values are never inserted here: they are `%(name)s` parameters of the statement.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib import resources
from typing import Final

from psycopg import sql

_NAME_LINE: Final = re.compile(r"^--[ \t]*name:[ \t]*(?P<name>\S*)[ \t]*$", re.MULTILINE)
_VALID_NAME: Final = re.compile(r"[a-z][a-z0-9_]*", re.ASCII)
_IDENTIFIER: Final = re.compile(r"\{([a-z][a-z0-9_]*)\}", re.ASCII)


class SqlError(Exception):
    """A .sql file, or its use, is wrong: a programming error, found at start. Names the file or block."""


class BoundSql(Mapping[str, sql.SQL]):
    """All blocks with their identifiers filled in, in the order of the files; `bound[name]` is one of them."""

    def __init__(self, statements: Mapping[str, sql.SQL], origin: str) -> None:
        self._statements = dict(statements)
        self._origin = origin

    def __getitem__(self, name: str) -> sql.SQL:
        """:raises SqlError: there is no such block."""
        if name not in self._statements:
            raise SqlError(f"There is no SQL block {name!r} in {self._origin}.")
        return self._statements[name]

    def __contains__(self, name: object) -> bool:
        return name in self._statements

    def __iter__(self) -> Iterator[str]:
        return iter(self._statements)

    def __len__(self) -> int:
        return len(self._statements)


class SqlBlocks:
    """Named blocks of SQL as written in their files."""

    def __init__(self, blocks: Mapping[str, str], origin: str) -> None:
        self._blocks = dict(blocks)
        self._origin = origin

    @property
    def names(self) -> tuple[str, ...]:
        """The names, in the order of the files."""
        return tuple(self._blocks)

    def text(self, name: str) -> str:
        """Return the text of one block, with its placeholders.

        :raises SqlError: there is no such block.
        """
        if name not in self._blocks:
            raise SqlError(f"There is no SQL block {name!r} in {self._origin}.")
        return self._blocks[name]

    def compose(self, name: str, **identifiers: str) -> sql.SQL:
        """Return one block with each `{word}` replaced by its quoted identifier.

        :raises SqlError: no such block, or a placeholder without an identifier.
        """
        parts: list[str] = []
        for index, part in enumerate(_IDENTIFIER.split(self.text(name))):
            if index % 2 == 0:
                parts.append(part)
            elif part in identifiers:
                parts.append(_quoted(identifiers[part]))
            else:
                raise SqlError(f"Block {name!r} of {self._origin} needs an identifier for {{{part}}}.")
        # The one place where text becomes SQL: from files that ship with the code and quoted identifiers.
        return sql.SQL("".join(parts))

    def bind(self, **identifiers: str) -> BoundSql:
        """Return every block, composed with the same identifiers; a block need not use all of them.

        :raises SqlError: a block has a placeholder without an identifier.
        """
        statements = {name: self.compose(name, **identifiers) for name in self._blocks}
        return BoundSql(statements, self._origin)


def load_sql(package: str, *file_names: str) -> SqlBlocks:
    """Return the blocks of these files of a package, or of all its .sql files in order of their names.

    :raises SqlError: a file is missing or malformed, or two blocks have the same name.
    """
    folder = resources.files(package)
    chosen = file_names or tuple(sorted(f.name for f in folder.iterdir() if f.name.endswith(".sql")))
    if not chosen:
        raise SqlError(f"There are no .sql files in {package}.")
    blocks: dict[str, str] = {}
    for file_name in chosen:
        file = folder / file_name
        if not file.is_file():
            raise SqlError(f"There is no file {file_name} in {package}.")
        for name, text in parse_sql(file.read_text("utf-8"), origin=f"{package}/{file_name}").items():
            if name in blocks:
                raise SqlError(f"Block {name!r} of {package}/{file_name} has the name of an earlier one.")
            blocks[name] = text
    return SqlBlocks(blocks, package)


def parse_sql(text: str, *, origin: str) -> dict[str, str]:
    """Split the text of a file into its blocks by name.

    :raises SqlError: SQL before the first name, a bad or repeated name, or an empty block.
    """
    lines = list(_NAME_LINE.finditer(text))
    preamble = text[: lines[0].start()] if lines else text
    if _without_comments(preamble):
        raise SqlError(f"{origin} has SQL before the first '-- name: ...' line.")
    blocks: dict[str, str] = {}
    for line, following in zip(lines, [*lines[1:], None], strict=True):
        name = line["name"]
        if not _VALID_NAME.fullmatch(name):
            raise SqlError(f"{origin}: {name!r} is no name for a block; use lower case, digits and _.")
        if name in blocks:
            raise SqlError(f"{origin} has two blocks named {name!r}.")
        block = text[line.end() : following.start() if following else None].strip()
        if not _without_comments(block):
            raise SqlError(f"Block {name!r} of {origin} is empty.")
        blocks[name] = block
    return blocks


def _without_comments(text: str) -> str:
    return "".join(line for line in text.splitlines() if not line.lstrip().startswith("--")).strip()


def _quoted(identifier: str) -> str:
    if not identifier or "\0" in identifier:
        raise SqlError(f"{identifier!r} cannot be an identifier.")
    return sql.Identifier(identifier).as_string(None)
