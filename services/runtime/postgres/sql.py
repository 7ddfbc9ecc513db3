"""Loads SQL from files of named blocks, so that SQL lives in `.sql` files and code names what it runs.

    -- name: newest_page
    -- Why this statement is the way it is.
    SELECT seq FROM {schema}.chat_messages WHERE chat_id = %(chat_id)s ORDER BY seq DESC LIMIT %(limit)s;

`load_sql("services.query.sql").bind(schema="chat")["newest_page"]` is a `psycopg.sql.SQL` ready to execute.
`{word}` stands for an identifier and is quoted by psycopg; braces around anything else are left alone.
Values are never inserted here: they are `%(name)s` parameters of the statement.

What several statements share, such as the columns of a message, stands once, as a fragment that they name. It is
inserted when the files are loaded, so a statement never changes at run time:

    -- fragment: message_columns
    m.seq, m.message_id::text

    -- name: newest_page
    SELECT {fragment:message_columns} FROM {schema}.chat_messages AS m
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from typing import Final, NamedTuple

from psycopg import sql

_NAME_LINE: Final = re.compile(r"^--[ \t]*(?P<kind>name|fragment):[ \t]*(?P<name>\S*)[ \t]*$", re.MULTILINE)
_REFERENCE: Final = re.compile(r"\{fragment:([^}]*)\}")
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

    @property
    def texts(self) -> Mapping[str, str]:
        """All blocks by name, for SQL that has no identifiers to fill in."""
        return dict(self._blocks)

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


def load_sql(package: str, *file_names: str, fragments: Mapping[str, str] | None = None) -> SqlBlocks:
    """Return the blocks of these files of a package, or of all its .sql files in order of their names.

    :param fragments: fragments that code derives, in addition to those in the files. They need not all be used.
    :raises SqlError: a file is missing or malformed, two blocks or fragments have the same name, or a fragment is
        unknown or unused.
    """
    folder = resources.files(package)
    chosen = file_names or tuple(sorted(f.name for f in folder.iterdir() if f.name.endswith(".sql")))
    if not chosen:
        raise SqlError(f"There are no .sql files in {package}.")
    sections: list[_Section] = []
    for file_name in chosen:
        file = folder / file_name
        if not file.is_file():
            raise SqlError(f"There is no file {file_name} in {package}.")
        sections += _sections(file.read_text("utf-8"), f"{package}/{file_name}")
    return SqlBlocks(_assembled(sections, fragments or {}), package)


def parse_sql(text: str, *, origin: str) -> dict[str, str]:
    """Split the text of one file into its blocks by name, with its fragments inserted.

    :raises SqlError: as load_sql does.
    """
    return _assembled(list(_sections(text, origin)), {})


class _Section(NamedTuple):
    """A block or a fragment as it stands in its file."""

    kind: str
    name: str
    text: str
    origin: str


def _sections(text: str, origin: str) -> Iterator[_Section]:
    lines = list(_NAME_LINE.finditer(text))
    preamble = text[: lines[0].start()] if lines else text
    if _without_comments(preamble):
        raise SqlError(f"{origin} has SQL before the first '-- name: ...' line.")
    for line, following in zip(lines, [*lines[1:], None], strict=True):
        kind, name = "Block" if line["kind"] == "name" else "Fragment", line["name"]
        if not _VALID_NAME.fullmatch(name):
            raise SqlError(f"{origin}: {name!r} is no name for a {kind.lower()}; use lower case, digits and _.")
        body = text[line.end() : following.start() if following else None].strip()
        if not _without_comments(body):
            raise SqlError(f"{kind} {name!r} of {origin} is empty.")
        yield _Section(kind, name, body, origin)


def _assembled(sections: Sequence[_Section], derived: Mapping[str, str]) -> dict[str, str]:
    """Return the blocks by name, each with the fragments that it names."""
    fragments = dict(derived)
    blocks: dict[str, _Section] = {}
    for section in sections:
        named: Mapping[str, object] = blocks if section.kind == "Block" else fragments
        if section.name in named:
            raise SqlError(f"{section.kind} {section.name!r} of {section.origin} has the name of an earlier one.")
        if section.kind == "Block":
            blocks[section.name] = section
            continue
        text = _without_comments(section.text)
        if _REFERENCE.search(text) or text.endswith(";"):
            raise SqlError(
                f"Fragment {section.name!r} of {section.origin} is not a part of a statement: it ends with a semicolon"
                " or names another fragment."
            )
        fragments[section.name] = text
    unused = fragments.keys() - derived.keys()

    def assembled(block: _Section) -> str:
        def inserted(reference: re.Match[str]) -> str:
            name = reference[1]
            if name not in fragments:
                raise SqlError(f"Block {block.name!r} of {block.origin} names an unknown fragment, {name!r}.")
            unused.discard(name)
            return fragments[name]

        return _REFERENCE.sub(inserted, block.text)

    texts = {name: assembled(block) for name, block in blocks.items()}
    if unused:
        raise SqlError(f"No block uses the fragment {min(unused)!r}: remove it.")
    return texts


def _without_comments(text: str) -> str:
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--")).strip()


def _quoted(identifier: str) -> str:
    if not identifier or "\0" in identifier:
        raise SqlError(f"{identifier!r} cannot be an identifier.")
    return sql.Identifier(identifier).as_string(None)
