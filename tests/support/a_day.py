"""A day in one room, generated from a seed: what people and programs write there, and what they change later.

    day = Day.of(seed=1, users=users)
    for hour in day.hours: ...      # send hour.batches and hour.burst, make hour.changes
    day.shown(post)                 # what history must show of it in the end

Texts are of the kinds that systems damage: joined emoji, flags, right-to-left, combining marks, invisible joiners, line
ends, markup, escapes, pastes of the full length. Everything is decided here, so that a test only sends and compares.
"""

from __future__ import annotations

import json
import random
import string
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from schemas import limits

HOURS: Final = (3, 1, 2, 6, 10, 12, 8, 11, 12, 9, 6, 2)
"""How busy each hour is, relative to the others."""
BURST_HOURS: Final = (4, 8)
SHORT: Final = (
    "ok", "👍", "on it", "lgtm", "Merci !", "так", "はい", "好的", "gracias", "done ✅", "brb", "+1", "?", "…",
    "no", ".",
)  # fmt: skip
WORDS: Final = (
    "the log", "is", "gap-free", "deploy", "später", "naïve", "café", "cafe\u0301", "Zürich", "Straße", "İstanbul",
    "ﬁx", "база", "данных", "メッセージ", "順番", "消息", "순서", "ลำดับ", "क्रम", "क्\u200dष", "می\u200cخواهم", "שלום",
    "مرحبا", "\u202bעברית 123\u202c", "\u200fabc\u200f", "Å", "A\u030a", "Z̷̡̛a̸l̵g̶ọ̷", "👩‍👩‍👧‍👦", "🏳️‍🌈", "👩🏽‍💻",
    "🇨🇭", "🇩🇪🇫🇷", "1️⃣", "❤️", "❤", "☕\ufe0e", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "a\u2060b", "\u00ad", "\ufeff", "\u2028", "\u2029", "\ufffd",
    "\uffff", "\U0010ffff", "\ue000", "\x01", "\x1b[31m", "\x7f", "\x85", "x\u0301\u0302\u0303", "𝔘𝔫𝔦", "𠜎",
)  # fmt: skip
LINES: Final = (
    '{"text": "a \\"quoted\\" value", "n": 1e400, "u": "\\u0000\\ud800"}',
    "<script>alert('&amp;')</script><!-- <b>bold</b> -->",
    "'; DROP TABLE chat_messages; -- %s %(x)s {0} ${HOME} $1",
    "\\N\t\\.\tC:\\temp\\new\\u0041",
    "if (a < b && c > d) { return `${x}\\n`; }",
    "2026-01-31T12:00:00.045Z ERROR [main] java.lang.NullPointerException: null\r\n\tat a.b.C(D.java:42)",
    "| a | b |\n|---|---|\n| 1 | 2 |",
    "https://example.org/" + "%E2%9C%93/" * 60 + "?q=" + "a+b%20c&" * 90 + "#" + "x" * 40,
)
EMOJIS: Final = ("👍", "❤", "😂", "👩‍💻", "🇨🇭", "+1", "🏳‍🌈", "名")


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """A message as it is sent."""

    number: int
    sender: str
    key: str
    text: str
    media_urls: tuple[str, ...] = ()
    metadata: dict[str, Any] | None = None
    reply_to: Post | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A later command about a message."""

    post: Post
    what: Literal["edit", "delete", "react", "unreact"]
    user: str
    key: str
    text: str = ""
    emoji: str = ""


@dataclass(slots=True, kw_only=True)
class Hour:
    batches: list[list[Post]] = field(default_factory=list)
    """Each is one sender's request."""
    burst: list[Post] = field(default_factory=list)
    """Sent one by one, all at once."""
    changes: list[list[Change]] = field(default_factory=list)
    """Changes of messages of earlier hours: those of one message, in their order."""


@dataclass(slots=True, kw_only=True)
class Shown:
    """What a message has in the end."""

    text: str | None
    media_urls: tuple[str, ...]
    metadata: dict[str, Any] | None
    revision: int = 0
    deleted: bool = False
    live_replies: list[int] = field(default_factory=list)
    """Numbers of the messages in its thread that are not deleted."""
    reactions: dict[str, set[str]] = field(default_factory=dict)
    """emoji → users"""


@dataclass(slots=True, kw_only=True)
class Day:
    hours: list[Hour]
    posts: list[Post]

    @classmethod
    def of(cls, *, seed: int, users: Sequence[str], messages: int = 3_000) -> Day:
        draw = random.Random(seed)
        day = cls(hours=[], posts=[])
        changeable: list[Post] = []
        deleted: set[int] = set()
        for number, weight in enumerate(HOURS):
            hour = Hour()
            earlier = list(day.posts)
            for _ in range(messages * weight // sum(HOURS)):
                day.posts.append(_post(draw, len(day.posts), users, earlier))
            new = day.posts[len(earlier) :]
            if number in BURST_HOURS:
                hour.burst = [post for post in new if draw.random() < 0.5]
            rest = [post for post in new if post not in hour.burst]
            for user in users:
                of_user = [post for post in rest if post.sender == user]
                while of_user:
                    cut = draw.randint(1, 120)
                    hour.batches.append(of_user[:cut])
                    of_user = of_user[cut:]
            targets = [post for post in changeable if post.number not in deleted]
            for post in draw.sample(targets, min(len(targets), len(new) // 8)):
                hour.changes.append(list(_changes(draw, post, users, number)))
                if hour.changes[-1][-1].what == "delete":
                    deleted.add(post.number)
            changeable = list(day.posts)
            day.hours.append(hour)
        return day

    def shown(self) -> dict[int, Shown]:
        """Return what each message has in the end, by its number."""
        found = {
            post.number: Shown(text=post.text, media_urls=post.media_urls, metadata=post.metadata)
            for post in self.posts
        }
        for hour in self.hours:
            for change in (each for of_message in hour.changes for each in of_message):
                _apply(found[change.post.number], change)
        for post in self.posts:
            if post.reply_to is not None and not found[post.number].deleted:
                found[_root(post).number].live_replies.append(post.number)
        return found


def _root(post: Post) -> Post:
    return post if post.reply_to is None else _root(post.reply_to)


def _apply(shown: Shown, change: Change) -> None:
    match change.what:
        case "edit":
            shown.text, shown.revision = change.text, shown.revision + 1
        case "delete":
            shown.text, shown.media_urls, shown.metadata = None, (), None
            shown.deleted, shown.reactions = True, {}
        case "react":
            shown.reactions.setdefault(change.emoji, set()).add(change.user)
        case "unreact":
            shown.reactions[change.emoji].discard(change.user)
            if not shown.reactions[change.emoji]:
                del shown.reactions[change.emoji]


def _post(draw: random.Random, number: int, users: Sequence[str], earlier: Sequence[Post]) -> Post:
    text = _text(draw)
    media: tuple[str, ...] = ()
    if draw.random() < 0.08:
        media = tuple(f"https://media.example/{draw.getrandbits(64):x}.png" for _ in range(draw.randint(1, 10)))
        text = draw.choice(("", text))
    metadata = None
    if draw.random() < 0.1:
        metadata = {"kind": draw.choice(WORDS), "nested": {"list": [1, -0.5, None, True, {"": "\u0001"}]}}
    elif draw.random() < 0.003:
        metadata = {"blob": "x" * (limits.METADATA_BYTES - len('{"blob":""}'))}
    return Post(
        number=number,
        sender=users[min(int(draw.expovariate(0.4)), len(users) - 1)],
        key=f"{number}-{''.join(draw.choices(string.punctuation + string.ascii_letters, k=8))}",
        text=text,
        media_urls=media,
        metadata=metadata,
        reply_to=draw.choice(earlier) if earlier and draw.random() < 0.15 else None,
    )


def _text(draw: random.Random) -> str:
    kind = draw.random()
    if kind < 0.3:
        return draw.choice(SHORT)
    if kind < 0.8:
        return " ".join(draw.choices(WORDS, k=draw.randint(1, 25)))
    if kind < 0.93:
        return draw.choice(("\n", "\r\n", "\n\n  ", "\t")).join(draw.choices(LINES + WORDS, k=draw.randint(1, 8)))
    if kind < 0.985:
        return " " * draw.randint(0, 2) + "".join(draw.choices(WORDS + LINES, k=60))[:1_500] + "\n" * draw.randint(0, 2)
    paste = "\n".join(draw.choices(LINES + WORDS, k=400)) + "🇨🇭" * limits.TEXT_CHARACTERS
    return paste[: limits.TEXT_CHARACTERS - draw.randint(0, 1)]


def _changes(draw: random.Random, post: Post, users: Sequence[str], hour: int) -> Iterator[Change]:
    """Yield one or a few changes of a message; a deletion is the last."""
    mine: list[tuple[str, str]] = []
    for number in range(draw.randint(1, 4)):
        key, kind = f"{hour}-{post.number}-{number}", draw.random()
        if kind < 0.4:
            text = f"{_text(draw)[: limits.TEXT_CHARACTERS - 40]} (edited, {key})"
            yield Change(post=post, what="edit", user=post.sender, key=key, text=text)
        elif kind < 0.8 or not mine:
            user, emoji = draw.choice(users), draw.choice(EMOJIS)
            mine.append((user, emoji))
            yield Change(post=post, what="react", user=user, key=key, emoji=emoji)
        else:
            user, emoji = mine.pop()
            mine = [each for each in mine if each != (user, emoji)]
            yield Change(post=post, what="unreact", user=user, key=key, emoji=emoji)
    if draw.random() < 0.2:
        yield Change(post=post, what="delete", user=post.sender, key=f"{hour}-{post.number}-gone")


def body_of(post: Post, message_id_of: dict[int, str]) -> dict[str, Any]:
    """Return the body of its send."""
    body: dict[str, Any] = {"text": post.text, "client_generated_id": post.key}
    if post.media_urls:
        body["media_urls"] = list(post.media_urls)
    if post.metadata is not None:
        body["metadata"] = post.metadata
    if post.reply_to is not None:
        body["reply_to_message_id"] = message_id_of[post.reply_to.number]
    return body


def written(day: Day) -> str:
    """Return the day as text, to compare two."""
    return json.dumps([[post.key, post.sender, post.text] for post in day.posts] + [
        [change.key, change.what, change.text, change.emoji]
        for hour in day.hours for of_message in hour.changes for change in of_message
    ])  # fmt: skip
