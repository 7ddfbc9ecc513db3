"""The examples of messages in docs/asyncapi.yaml: for each type the first of its golden records.

python -m tests.contract.asyncapi_examples             says whether the document has them
python -m tests.contract.asyncapi_examples --write     writes them into it
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final

import yaml

from tests.contract.golden_files import EXAMPLES, Example
from tests.support.asyncapi import DOCUMENT

MESSAGES: Final = re.compile(r"(?<=^  messages:\n)(?:(?:    .*)?\n)+?(?=^  \S)", re.MULTILINE)
"""The messages among the components."""
MESSAGE: Final = re.compile(r"^    ([a-z]\S*):\n(?:(?:     .*)?\n)+", re.MULTILINE)
SHOWN: Final = re.compile(r"^      examples:\n(?:(?:       .*)?\n)+", re.MULTILINE)
PAYLOAD: Final = re.compile(r"^      payload:\n(?:(?:       .*)?\n)+", re.MULTILINE)


def type_of(example: Example) -> str:
    """Return the name of the example's message."""
    return dict(example.encode().headers).get("ce_type", b"replies").decode()


@cache
def shown() -> dict[str, dict[str, Any]]:
    """Return type → its example: a name, the headers as text if it has any, and the payload."""
    found: dict[str, dict[str, Any]] = {}
    for example in EXAMPLES:
        record = example.encode()
        headers = {name: value.decode() for name, value in record.headers}
        fields: dict[str, Any] = {"name": example.name.replace(" ", "-")} | ({"headers": headers} if headers else {})
        fields["payload"] = json.loads(record.value)
        found.setdefault(type_of(example), fields)
    return found


def generated(document: str) -> str:
    """Return the document with the examples of all messages after their payload."""
    return MESSAGES.sub(lambda messages: MESSAGE.sub(_with_example, messages[0]), document, count=1)


def _with_example(message: re.Match[str]) -> str:
    plain = SHOWN.sub("", message[0])
    example = shown().get(message[1])
    if example is None:
        return plain
    text = yaml.safe_dump([example], sort_keys=False, allow_unicode=True, width=112)
    lines = "".join(f"        {line}\n" for line in text.splitlines())
    return PAYLOAD.sub(lambda payload: f"{payload[0]}      examples:\n{lines}", plain, count=1)


def written() -> str:
    return DOCUMENT.read_text(encoding="utf-8")


def types() -> Iterator[str]:
    """Yield the types of all messages in the document."""
    found = MESSAGES.search(written())
    assert found is not None
    yield from (message[1] for message in MESSAGE.finditer(found[0]))


def main(arguments: Sequence[str]) -> int:
    if written() == generated(written()):
        print("docs/asyncapi.yaml has the examples")
        return 0
    if list(arguments) != ["--write"]:
        print("docs/asyncapi.yaml lacks examples: python -m tests.contract.asyncapi_examples --write")
        return 1
    DOCUMENT.write_text(generated(written()), encoding="utf-8")
    print("wrote docs/asyncapi.yaml")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
