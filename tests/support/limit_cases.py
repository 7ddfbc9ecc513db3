"""Bodies on both sides of every limit of the wire contract, and input that is no body, each with the expected answer.

The numbers are written out as in the contract and not taken from `schemas.limits`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from schemas.errors import Reason

MALFORMED, TOO_LARGE, INVALID = Reason.MALFORMED, Reason.TOO_LARGE, Reason.INVALID
USER: Final = "22222222-2222-4222-8222-222222222222"
FOUR_BYTES: Final = "\U0001f600"
SEND, CREATE, EDIT, MARK, REACT = (
    "message.send.v1",
    "chat.create.v1",
    "message.edit.v1",
    "read.mark.v1",
    "reaction.add.v1",
)


@dataclass(frozen=True, slots=True)
class Case:
    """A body as received, and the reason why it is refused, or None if it is accepted."""

    name: str
    type: str
    raw: bytes
    refused: Reason | None = None
    in_schema: bool = True
    """Whether JSON Schema can express it. Bytes of UTF-8, depths, number literals and broken JSON are beyond it."""


def _raw(**fields: object) -> bytes:
    return json.dumps(fields, ensure_ascii=False).encode()


def _send(name: str, refused: Reason | None = None, *, in_schema: bool = True, **fields: object) -> Case:
    return Case(name, SEND, _raw(**({"text": "x"} | fields)), refused, in_schema)


def _metadata(name: str, literal: str, refused: Reason | None = None) -> Case:
    """Return a message whose metadata is this JSON, as it is written."""
    return Case(name, SEND, f'{{"text":"x","metadata":{literal}}}'.encode(), refused, in_schema=refused is None)


def _broken(name: str, raw: bytes, refused: Reason | None = MALFORMED, command_type: str = SEND) -> Case:
    return Case(name, command_type, raw, refused, in_schema=False)


def _texts() -> Iterator[Case]:
    yield _send("text of 1", text="x")
    yield _send("text of 16,384", text="x" * 16_384)
    yield _send("text of 16,384 characters of four bytes: 64 KiB", text=FOUR_BYTES * 16_384)
    yield _send("text of 16,384 brackets", text="[" * 16_384)
    yield _send("text of 16,384 digits", text="1" * 16_384)
    yield _send("text of 16,384 quotes", text='"' * 16_384)
    yield _send("text of white space", text="\n \t")
    yield _send("text of 0", INVALID, text="")
    yield _send("text of 0 and media_urls of 0", INVALID, text="", media_urls=[])
    yield _send("text of 0 and null for media_urls", INVALID, text="", media_urls=None)
    yield _send("text of 0 and metadata", INVALID, text="", metadata={"k": 1})
    yield _send("text of 0 beside media_urls", text="", media_urls=["https://example.org/a.png"])
    yield _send("text of 0 beside a media_url that is none", INVALID, text="", media_urls=["a.png"])
    yield _send("no text beside media_urls", MALFORMED, text=None, media_urls=["https://example.org/a.png"])
    yield Case("an edit's text of 0", EDIT, _raw(seq=1, text=""), INVALID)
    yield _send("text of 16,385", TOO_LARGE, text="x" * 16_385)
    yield _send("text of 16,385 characters of four bytes", TOO_LARGE, text=FOUR_BYTES * 16_385)
    yield Case("an edit's text of 0 beside media_urls", EDIT, _raw(seq=1, text="", media_urls=["https://a.example/1"]))
    yield Case("an edit's media_url that is none", EDIT, _raw(seq=1, text="x", media_urls=["a.png"]), INVALID)
    yield Case("an edit of revision 0", EDIT, _raw(seq=1, text="x", if_revision=0))
    yield Case("an edit of revision -1", EDIT, _raw(seq=1, text="x", if_revision=-1), INVALID)
    yield Case("an edit's text of 16,384", EDIT, _raw(seq=1, text="x" * 16_384))
    yield Case("an edit's text of 16,385", EDIT, _raw(seq=1, text="x" * 16_385), TOO_LARGE)


def _chats() -> Iterator[Case]:
    def group(name: str, refused: Reason | None = None, /, **fields: object) -> Case:
        return Case(name, CREATE, _raw(**({"kind": "group", "name": "ops", "members": []} | fields)), refused)

    def direct(name: str, refused: Reason | None = None, /, **fields: object) -> Case:
        return Case(name, CREATE, _raw(**({"kind": "direct", "members": [USER]} | fields)), refused)

    for command_type, rest in ((CREATE, {"kind": "group", "members": []}), ("chat.rename.v1", {})):
        for size, letter, refused in (
            (0, "x", INVALID),
            (1, "x", None),
            (200, "x", None),
            (200, FOUR_BYTES, None),
            (201, "x", INVALID),
            (3, "\u2003", INVALID),
            (1, "\0", INVALID),
        ):
            raw = _raw(**rest, name=letter * size)
            yield Case(f"{command_type} named {size} times {letter!a}", command_type, raw, refused)
    users = [f"{n:08x}-0000-4000-8000-000000000000" for n in range(1_001)]
    yield group("1,000 members", members=users[:1_000])
    yield group("1,001 members", INVALID, members=users)
    yield group("a member twice", INVALID, members=[USER, USER])
    yield group("a group without a name", INVALID, name=None)
    yield group("an upper case member", MALFORMED, members=[USER.replace("2", "A")])
    yield group("a member with a line end", MALFORMED, members=[USER + "\n"])
    yield group("another kind", MALFORMED, kind="channel")
    yield direct("a direct chat")
    yield direct("a direct chat with oneself", members=[])
    yield direct("a direct chat whose name is null", name=None)
    yield direct("a direct chat of three", INVALID, members=users[:2])
    yield direct("a direct chat with a name", INVALID, name="us")


def _urls() -> Iterator[Case]:
    yield _send("no media_urls", media_urls=[])
    yield _send("10 media_urls", media_urls=["https://example.org/"] * 10)
    yield _send("11 media_urls", INVALID, media_urls=["https://example.org/"] * 11)
    yield _send("a URL of 2,048", media_urls=["https://" + "x" * 2_040])
    yield _send("a URL of 2,048 in four bytes", media_urls=["https://" + FOUR_BYTES * 2_040])
    yield _send("a URL of 2,049", INVALID, media_urls=["https://" + "x" * 2_041])
    yield _send("a URL by http", media_urls=["http://example.org"])
    for url in ("ftp://example.org", "javascript:alert(1)", "", " https://example.org", "https:/example.org"):
        yield _send(f"{url!r} as a URL", INVALID, media_urls=[url])
    yield _send("U+0000 in a URL", INVALID, media_urls=["https://\0"])


def _metadatas() -> Iterator[Case]:
    yield _metadata("metadata of nothing", "{}")
    for letter, size in (("x", 1), ("é", 2), (FOUR_BYTES, 4)):
        frame = len('{"k":""}')
        fits = (16_384 - frame) // size
        rest = "." * (16_384 - frame - fits * size)
        yield _metadata(f"metadata of 16 KiB in {size} bytes", f'{{"k":"{letter * fits}{rest}"}}')
        yield _metadata(f"metadata of 16 KiB + 1 in {size} bytes", f'{{"k":"{letter * fits}{rest}."}}', TOO_LARGE)
    yield _metadata("metadata that is 16 KiB only without its spaces", '{"k" :  "' + "x" * (16_384 - 8) + '"}')
    for depth, refused in ((16, None), (17, INVALID), (18, INVALID), (20_000, INVALID)):
        yield _metadata(f"objects {depth} deep", '{"k":' * (depth - 1) + "{}" + "}" * (depth - 1), refused)
        yield _metadata(f"arrays {depth} deep", '{"k":' + "[" * (depth - 1) + "]" * (depth - 1) + "}", refused)
        yield _metadata(f"a value {depth} deep", '{"k":' * depth + "1" + "}" * depth, refused)
    yield _metadata("many small objects side by side", '{"k":[' + "{}," * 500 + "{}]}")
    safe = 2**53 - 1
    for number in (safe, -safe, 0, -1):
        yield _metadata(f"the integer {number}", f'{{"k":{number}}}')
    for number in (safe + 1, -safe - 1, 10**31):
        yield _metadata(f"the integer {number}", f'{{"k":{number}}}', INVALID)
    yield _metadata("an unsafe integer deep inside", '{"k":[{"k":[9007199254740992]}]}', INVALID)
    for literal in ("1.5", "-0", "-0.0", "1e300", "5e-324", "1e-400", "0." + "1" * 32, "1E+2"):
        yield _metadata(f"the number {literal}", f'{{"k":{literal}}}')
    for literal in ("1e400", "-1e400", "1e999999999", "0." + "1" * 33, "1" * 200_000):
        yield _metadata(f"the number {literal[:40]}", f'{{"k":{literal}}}', INVALID)
    for literal in ("NaN", "Infinity", "-Infinity"):  # are not JSON
        yield _metadata(f"the number {literal}", f'{{"k":{literal}}}', MALFORMED)
    yield _metadata("33 digits in a string", '{"k":"' + "1" * 33 + '","' + "2" * 33 + '":1}')
    yield _metadata("33 digits after an escaped quote", '{"k":"\\\\\\"' + "1" * 33 + '"}')
    yield _metadata("U+0000 in a value", '{"k":["\\u0000"]}', INVALID)
    yield _metadata("U+0000 in a key", '{"k":{"\\u0000":1}}', INVALID)
    yield _metadata("metadata that is an array", "[]", MALFORMED)
    yield _metadata("metadata that is a string", '"k"', MALFORMED)


def _figures() -> Iterator[Case]:
    safe = 2**53 - 1
    for seq, refused in ((1, None), (safe, None), (0, INVALID), (-1, INVALID), (safe + 1, INVALID), (10**31, INVALID)):
        for command_type, rest in (("message.delete.v1", {}), (EDIT, {"text": "x"}), (REACT, {"emoji": "x"})):
            yield Case(f"{command_type} of seq {seq}", command_type, _raw(seq=seq, **rest), refused)
    for up_to_seq, refused in ((0, None), (safe, None), (-1, INVALID), (safe + 1, INVALID)):
        for command_type in (MARK, "delivered.mark.v1"):
            yield Case(f"{command_type} up to {up_to_seq}", command_type, _raw(up_to_seq=up_to_seq), refused)
    for literal in ("1.0", "1e0", "NaN", "1e400", '"1"', "true", "null", "[1]"):
        in_schema = literal in ('"1"', "true", "null", "[1]")
        yield Case(f"up to {literal}", MARK, f'{{"up_to_seq":{literal}}}'.encode(), MALFORMED, in_schema)
    yield Case("up to 33 digits", MARK, b'{"up_to_seq":%s}' % (b"1" * 33), INVALID)
    yield Case("up to -0", MARK, b'{"up_to_seq":-0}')


def _emoji() -> Iterator[Case]:
    yield Case("an emoji of 64 bytes", REACT, _raw(seq=1, emoji=FOUR_BYTES * 16))
    yield Case("an emoji of 65 bytes", REACT, _raw(seq=1, emoji=FOUR_BYTES * 16 + "x"), INVALID, in_schema=False)
    yield Case("an emoji of 64 letters", REACT, _raw(seq=1, emoji="x" * 64))
    yield Case("an emoji of 65 letters", REACT, _raw(seq=1, emoji="x" * 65), INVALID)
    yield Case("an emoji of nothing", REACT, _raw(seq=1, emoji=""), INVALID)
    yield Case("an emoji with U+0000", REACT, _raw(seq=1, emoji="x\0"), INVALID)
    for name, emoji in (
        ("a space", "a b"), ("a space without a break", "a\u00a0b"), ("a line end", "a\nb"),
        ("a control character", "\x85"), ("a variation selector", "❤\ufe0f"),
    ):  # fmt: skip
        yield Case(f"an emoji with {name}", REACT, _raw(seq=1, emoji=emoji), INVALID)
    for emoji in ("❤", "👍🏽", "👩‍👩‍👧", "🇨🇭", "+1", ":shipit:"):
        yield Case(f"an emoji as {emoji}", REACT, _raw(seq=1, emoji=emoji))


def _times() -> Iterator[Case]:
    for text in (
        "1970-01-01T00:00:00Z",
        "2019-08-20T18:30:00.1Z",
        "2019-08-20T18:30:00.12Z",
        "2019-08-20T18:30:00.123Z",
        "2019-08-20T18:30:00.1234Z",
        "2019-08-20T18:30:00.12345Z",
        "2019-08-20T18:30:00.123456Z",
        "2024-02-29T23:59:59Z",
        "9999-12-31T23:59:59.999999Z",
    ):
        yield _send(f"original_sent_at {text}", original_sent_at=text)
    for text in (
        "1969-12-31T23:59:59Z",
        "0000-01-01T00:00:00Z",
        "2019-08-20T18:30:00",
        "2019-08-20T18:30:00+00:00",
        "2019-08-20T18:30:00z",
        "2019-08-20 18:30:00Z",
        "2019-08-20T18:30Z",
        "2019-08-20T18:30:00.Z",
        "2019-08-20T18:30:00.1234567Z",
        "2019-08-20T18:30:00,123Z",
        " 2019-08-20T18:30:00Z",
        "٢019-08-20T18:30:00Z",
        "",
    ):
        yield _send(f"original_sent_at {text!a}", INVALID, original_sent_at=text)
    for text in ("2019-02-29T00:00:00Z", "2019-06-31T00:00:00Z", "2019-13-01T00:00:00Z", "2019-08-20T25:00:00Z",
                 "2016-12-31T23:59:60Z", "2019-08-20T18:30:00Z\n"):  # fmt: skip
        yield _send(f"original_sent_at {text!r}", INVALID, in_schema=False, original_sent_at=text)


def _sizes() -> Iterator[Case]:
    body = b'{"text":"x"}'
    most = 256 * 1024
    yield _broken("a command of 256 KiB", body + b" " * (most - len(body)), refused=None)
    yield _broken("a command of 256 KiB + 1", body + b" " * (most - len(body) + 1), TOO_LARGE)
    yield _broken("256 KiB + 1 of anything", b"\xff" * (most + 1), TOO_LARGE)


def _no_bodies() -> Iterator[Case]:
    yield _broken("nothing", b"")
    yield _broken("white space", b" \n")
    yield _broken("a zero byte", b"\0")
    yield _broken("text", b"hello")
    yield _broken("half a body", b'{"text":"x"')
    yield _broken("half a string", b'{"text":"x')
    yield _broken("half an escape", b'{"text":"\\')
    yield _broken("two bodies", b'{"text":"x"}{"text":"x"}')
    yield _broken("a comma too many", b'{"text":"x",}')
    yield _broken("single quotes", b"{'text':'x'}")
    yield _broken("a comment", b'{"text":"x"/**/}')
    yield _broken("a byte order mark", b'\xef\xbb\xbf{"text":"x"}')
    yield _broken("UTF-16", '{"text":"x"}'.encode("utf-16"))
    yield _broken("a lone high surrogate, escaped", b'{"text":"\\ud800"}')
    yield _broken("a lone low surrogate, escaped", b'{"text":"\\udc00"}')
    yield _broken("surrogates the wrong way round", b'{"text":"\\udc00\\ud800"}')
    yield _broken("a lone surrogate in metadata", b'{"text":"x","metadata":{"k":"\\ud83d"}}')
    yield _broken("a lone surrogate in a key of metadata", b'{"text":"x","metadata":{"\\ud83d":1}}')
    yield _broken("a surrogate in UTF-8", b'{"text":"\xed\xa0\x80"}')
    yield _broken("a surrogate pair in UTF-8", b'{"text":"\xed\xa0\xbd\xed\xb8\x80"}')
    yield _broken("an overlong character", b'{"text":"\xc0\x80"}')
    yield _broken("a byte that is not UTF-8", b'{"text":"\xff"}')
    yield _broken("beyond U+10FFFF", b'{"text":"\xf4\x90\x80\x80"}')
    yield _broken("U+0000 raw", b'{"text":"\0"}')
    yield _broken("a control character raw", b'{"text":"\n"}')
    yield _broken("U+0000 escaped", b'{"text":"\\u0000"}', INVALID)
    yield _broken("a surrogate pair, escaped", b'{"text":"\\ud83d\\ude00"}', refused=None)
    yield _broken("20,000 levels of nothing", b"[" * 20_000, INVALID)
    yield _broken("20,000 levels behind a quote", b'"' + b"[" * 20_000)
    yield _broken("20,000 levels of an unknown field", b'{"a":' * 20_000 + b"1" + b"}" * 20_000, INVALID)
    yield _broken("a number of 5,000 digits", b"1" * 5_000, INVALID)
    yield Case("null", SEND, b"null", MALFORMED)
    yield Case("an array", SEND, b'[{"text":"x"}]', MALFORMED)
    yield Case("a string", SEND, b'"x"', MALFORMED)
    yield Case("no fields", SEND, b"{}", MALFORMED)
    yield Case("an unknown field", SEND, b'{"text":"x","colour":1}', MALFORMED)
    yield Case("a field in upper case", SEND, b'{"Text":"x"}', MALFORMED)
    yield Case("null for what must be", SEND, b'{"text":null}', MALFORMED)
    optionals = b'"reply_to_message_id":null,"media_urls":null,"metadata":null,"original_sent_at":null'
    yield Case("null for what may be absent", SEND, b'{"text":"x",%s}' % optionals)
    yield Case("a number for a text", SEND, b'{"text":1}', MALFORMED)
    yield _send("no message_id", MALFORMED, reply_to_message_id="x")
    yield Case("another role", "member.add.v1", _raw(user_id=USER, role="king"), MALFORMED)
    yield Case("a role", "member.role.v1", _raw(user_id=USER, role="owner"))
    yield Case("a removal", "member.remove.v1", _raw(user_id=USER))


CASES: Final = (
    *_texts(), *_chats(), *_urls(), *_metadatas(), *_figures(), *_emoji(), *_times(), *_sizes(), *_no_bodies(),
)  # fmt: skip
