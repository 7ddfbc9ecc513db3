"""The bodies of commands in docs/asyncapi.yaml, generated from their declarations in schemas/bodies.

Types, required fields, patterns, limits and "no other fields" come from the Structs. PROSE adds what a Struct cannot
say: descriptions, characters that cannot be stored, and conditions between fields.

    python -m tests.contract.asyncapi_bodies             says whether the document is as generated
    python -m tests.contract.asyncapi_bodies --write     writes the generated part into it
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any, Final, get_args

import yaml
from msgspec.json import schema_components

from schemas.bodies import ChatKind, Role
from schemas.types import BODY_OF
from tests.support.asyncapi import DOCUMENT

Schema = dict[str, Any]

BEGIN: Final = "    # --- bodies of commands and accepted outcomes: by tests/contract/asyncapi_bodies.py ---\n"
END: Final = "    # --- end of the generated part ---\n"
REF: Final = "#/components/schemas/"
ENUMS: Final = {frozenset(get_args(kind)): list(get_args(kind)) for kind in (Role, ChatKind)}
"""Values → the values in declared order; msgspec sorts them."""
ORDER: Final = ("$ref", "description", "type", "enum", "allOf", "pattern", "minLength", "maxLength", "properties")
"""Keywords that come first in a schema."""

STORABLE: Final = [{"$ref": REF + "Storable"}]
TEXT_OR_MEDIA: Final = [
    {"properties": {"text": {"type": "string", "minLength": 1}}},
    {"properties": {"media_urls": {"type": "array", "minItems": 1}}, "required": ["media_urls"]},
]
PROSE: Final[dict[str, Schema]] = {
    "Storable": {"description": "Without U+0000.", "type": "string", "pattern": r"^[^\u0000]*$"},
    "Uuid": {"description": "A UUID of any version, lower case, with hyphens."},
    "Seq": {"description": "Written as an integer; 1.0 is malformed."},
    "Text": {
        "description": "At most 16,384 characters (Unicode code points), which is at most 64 KiB. A longer one is"
        " too_large. Empty only in a message with media_urls.",
        "allOf": STORABLE,
    },
    "Name": {
        "description": "1 to 200 characters, not white space alone.",
        "allOf": [
            *STORABLE,
            {"pattern": r"[^\u0009-\u000d\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]"},
        ],
    },
    "Metadata": {
        "description": "Any JSON object of at most 16 KiB in canonical JSON (a larger one is too_large) and 16 levels"
        " of objects and arrays, itself counted. Numbers finite, integers within 2^53-1 on both sides, no U+0000 in"
        " keys and strings.",
    },
    "ChatCreate": {
        "properties": {"members": {"description": "Without the creator, who is always a member; each once."}},
        "oneOf": [
            {
                "properties": {"kind": {"const": "group"}, "name": {"$ref": REF + "Name"}},
                "required": ["name"],
            },
            {
                "description": "Its members are exactly the other user, or none for a chat with oneself."
                " All are owners.",
                "properties": {
                    "kind": {"const": "direct"},
                    "name": {"type": "null"},
                    "members": {"maxItems": 1},
                },
            },
        ],
    },
    "MessageSend": {
        "properties": {
            "reply_to_message_id": {
                "description": "The message_id of a message in the same chat; any other is unknown_message."
            },
            "media_urls": {"items": {"allOf": STORABLE}},
            "original_sent_at": {
                "description": "For imports only. RFC 3339 in UTC, years 1970 to 9999, at most microseconds."
            },
        },
        "anyOf": TEXT_OR_MEDIA,
    },
    "MessageEdit": {
        "description": "Edits a message of the sender's own that is not deleted. Its revision is 0 when it is sent and"
        " one more with each edit; an edit takes a position and no seq. What is absent stays as it is. An edit whose"
        " parts all are what earlier edits left there is unchanged.",
        "properties": {
            "media_urls": {"items": {"allOf": STORABLE}},
            "if_revision": {"description": "The revision that the message must have; otherwise the edit is stale."},
        },
        "anyOf": TEXT_OR_MEDIA,
    },
    "Reaction": {"properties": {"emoji": {"description": "1 to 64 bytes of UTF-8.", "allOf": STORABLE}}},
    "Mark": {"properties": {"up_to_seq": {"description": "At most the chat's last seq; a higher one is invalid."}}},
}


def components() -> dict[str, Schema]:
    """Return the schemas by name: first the parts that several bodies share, then the bodies."""
    models = list(dict.fromkeys(BODY_OF.values()))
    _, declared = schema_components(models, ref_template=REF + "{name}")
    parts: dict[str, Schema] = {"Storable": {}}
    bodies = {model.__name__: _tidied(declared[model.__name__] | {"title": None}, parts) for model in models}
    return {name: _with_prose(schema, PROSE.get(name, {})) for name, schema in (parts | bodies).items()}


def _tidied(schema: Any, parts: dict[str, Schema]) -> Any:
    """Return a schema of msgspec's as the document writes it. One with a title goes to `parts`, and a $ref stays."""
    if isinstance(schema, list):
        return [_tidied(each, parts) for each in schema]
    if not isinstance(schema, dict):
        return schema
    tidied: Schema = {key: _tidied(value, parts) for key, value in schema.items() if key not in ("title", "default")}
    if "enum" in tidied:
        tidied = {"type": "string", "enum": ENUMS[frozenset(tidied["enum"])]}
        if tidied["enum"] == list(get_args(Role)):
            parts["Role"] = tidied
            return {"$ref": REF + "Role"}
    if isinstance(pattern := tidied.get("pattern"), str):
        tidied["pattern"] = pattern.replace(r"\Z", "$")  # in JSON Schema, $ is the end of the text
    if "anyOf" in tidied:
        (present,) = [each for each in tidied.pop("anyOf") if each != {"type": "null"}]
        nullable = {"anyOf": [present, {"type": "null"}]} if "$ref" in present else _or_null(present)
        tidied |= nullable
    title = schema.get("title")
    if title is None:
        return tidied
    assert parts.setdefault(title, tidied) == tidied, f"two types have the title {title}"
    return {"$ref": REF + title}


def _or_null(schema: Schema) -> Schema:
    return schema | {"type": [schema["type"], "null"]}


def _with_prose(schema: Schema, prose: Schema) -> Schema:
    if "$ref" in schema and prose:  # JSON Schema ignores what stands next to a $ref
        schema = {"allOf": [schema]}
    merged = dict(schema)
    for key, value in prose.items():
        merged[key] = _with_prose(schema[key], value) if isinstance(schema.get(key), dict) else value
    return _ordered(merged)


def _ordered(schema: Schema) -> Schema:
    first = [key for key in ORDER if key in schema]
    return {key: schema[key] for key in [*first, *(key for key in schema if key not in first)]}


class _Dumper(yaml.SafeDumper):
    """Writes lists of words in one line, and indents other lists."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _list(dumper: yaml.SafeDumper, data: list[Any]) -> yaml.Node:
    words = all(isinstance(each, str) for each in data)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=words)


_Dumper.add_representer(list, _list)


def generated() -> str:
    """Return the generated part of the document, between BEGIN and END."""
    text = yaml.dump(components(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=112)
    return "".join(f"    {line}\n" for line in text.splitlines())


def written() -> str:
    """Return that part as it stands in the document."""
    return DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]


def main(arguments: Sequence[str]) -> int:
    if written() == generated():
        print("docs/asyncapi.yaml is as generated")
        return 0
    if list(arguments) != ["--write"]:
        print("docs/asyncapi.yaml differs from schemas/bodies: python -m tests.contract.asyncapi_bodies --write")
        return 1
    before, _, rest = DOCUMENT.read_text(encoding="utf-8").partition(BEGIN)
    DOCUMENT.write_text(before + BEGIN + generated() + END + rest.partition(END)[2], encoding="utf-8")
    print("wrote docs/asyncapi.yaml")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
