"""What a search may find and has to find, by docs/api.md and docs/read-model.md ("Words"), for the texts of a run.

The words here are a reading of its own: letters and digits without case and accents. That suffices for the searches
that the readers make: several words, of which the last may go on, or one phrase in quotes. No text of a run has URLs or
a script without spaces.
"""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from tests.chaos.evidence import Json
from tests.oracle.state import Chat, Message

PREFIX_CHARACTERS: Final = 3
SNIPPET_CHARACTERS: Final = 200
_WORD: Final = re.compile(r"[^\W_]+")


@lru_cache(maxsize=100_000)
def words_of(text: str) -> tuple[str, ...]:
    """Return the words of a text, in its order."""
    plain = unicodedata.normalize("NFD", unicodedata.normalize("NFKC", text).casefold())
    return tuple(_WORD.findall("".join(c for c in plain if unicodedata.category(c) != "Mn")))


@dataclass(frozen=True, slots=True)
class Query:
    """All words of a search, and how a text has to have them."""

    words: tuple[str, ...]
    is_phrase: bool

    @classmethod
    def of(cls, text: str) -> Query:
        return cls(words_of(text), text.startswith('"'))

    @property
    def prefix(self) -> str | None:
        """The last word, if it may go on."""
        last = self.words[-1]
        return None if self.is_phrase or len(last) < PREFIX_CHARACTERS else last

    @property
    def whole(self) -> tuple[str, ...]:
        """The words that a text has to have as they are."""
        return self.words if self.prefix is None else self.words[:-1]

    def matches(self, text: str) -> bool:
        return _matches(self, text)

    def words_are_in(self, text: str) -> bool:
        """Return whether a text has all words, in any order."""
        return _matches(Query(self.words, is_phrase=False), text) if self.is_phrase else self.matches(text)

    def is_part(self, part: str) -> bool:
        """Return whether a part of a text may be shown as a match."""
        there = words_of(part)
        return bool(there) and all(word in self.words for word in there)


@lru_cache(maxsize=100_000)
def _matches(query: Query, text: str) -> bool:
    there, wanted = words_of(text), query.words
    if query.is_phrase:
        return any(there[at : at + len(wanted)] == wanted for at in range(len(there)))
    goes_on = query.prefix is None or any(word.startswith(query.prefix) for word in there)
    return goes_on and all(word in there for word in query.whole)


class Vocabulary:
    """Word → the messages of a chat that had it in any of their texts."""

    def __init__(self, chat: Chat) -> None:
        self._seqs: defaultdict[str, set[int]] = defaultdict(set)
        for message in chat.messages.values():
            for _, text in texts(message):
                for word in words_of(text):
                    self._seqs[word].add(message.seq)

    def candidates(self, query: Query) -> set[int]:
        """Return the messages that the query may find at any time."""
        found = [self._seqs.get(word, set()) for word in query.whole]
        if (prefix := query.prefix) is not None:
            found.append({seq for word, seqs in self._seqs.items() if word.startswith(prefix) for seq in seqs})
        return set.intersection(*found)


def texts(message: Message) -> Iterator[tuple[int, str]]:
    """Yield (position, the text since then) of a message, without its deletion."""
    yield message.position, message.body["text"]
    for edit in message.edits:
        yield edit.position or 0, edit.body["text"]


def first_match(message: Message, query: Query) -> int:
    """Return the position since which the index may name the message, whose words it has in no order; 0 if never."""
    return next((position for position, text in texts(message) if query.words_are_in(text)), 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The part of a search's answer that is about one chat, and what the whole page covers."""

    chat_id: str
    caller: str
    query: Query
    items: Sequence[Sequence[Any]]
    newest: tuple[Any, ...] | None
    """Keyset (sent_at, chat, seq) after which the page begins; None for the first page."""
    oldest: tuple[Any, ...] | None
    """Keyset down to which it leaves nothing out; None: to the end."""
    indexed: int
    """Position of the chat up to which the index is certain to have been written."""
    newest_indexed: int
    """Position up to which it may have been written."""

    @classmethod
    def of(cls, asked: Json, answer: Json, *, chat_id: str, query: Query, indexed: int, newest_indexed: int) -> Page:
        oldest: tuple[Any, ...] | None = None
        if answer["more"]:
            oldest = _key(answer["items"][-1]) if answer["items"] else (float("inf"),)
        return cls(
            chat_id=chat_id, caller=asked["caller"], query=query,
            items=[item for item in answer["items"] if item[0] == chat_id],
            newest=None if asked["after"] is None else tuple(asked["after"]), oldest=oldest, indexed=indexed,
            newest_indexed=newest_indexed,
        )  # fmt: skip

    def agrees(self, chat: Chat | None, final: Chat, candidates: set[int]) -> bool:
        """Return whether the page is right if the tables showed this state. `final` is the chat after the run."""
        member = chat.members.get(self.caller) if chat is not None else None
        if chat is None or member is None or not member.present:
            return not self.items
        shown = {item[1]: item for item in self.items}
        return all(self._is_right(chat.messages.get(seq), item) for seq, item in shown.items()) and all(
            seq in shown for seq in candidates if self._is_due(chat.messages.get(seq), final.messages[seq])
        )

    def _is_right(self, message: Message | None, item: Sequence[Any]) -> bool:
        """An item shows the present text of a message that is not deleted."""
        if message is None or message.deleted_at is not None:
            return False
        _, _, message_id, sender, sent_ms, snippet, start, matches = item
        text = message.said("text")
        return (
            (message_id, sender, sent_ms) == (message.message_id, message.sender, message.sent_at)
            and self.query.matches(text)
            and text[start : start + len(snippet)] == snippet
            and (len(snippet) == len(text) or len(snippet) == SNIPPET_CHARACTERS)
            and bool(matches)
            and all(self.query.is_part(snippet[begin:end]) for begin, end in matches)
            and self._covers(message, to_end=True)
        )

    def _is_due(self, message: Message | None, final: Message) -> bool:
        """Whether history has it, the page covers it, and the index had it whatever its lag was."""
        if message is None or message.deleted_at is not None or not self.query.matches(message.said("text")):
            return False
        return self._covers(message, to_end=False) and self._is_indexed(final)

    def _covers(self, message: Message, *, to_end: bool) -> bool:
        at = (message.sent_at, self.chat_id, message.seq)
        return (self.newest is None or at < self.newest) and (to_end or self.oldest is None or at >= self.oldest)

    def _is_indexed(self, final: Message) -> bool:
        if final.position > self.indexed:
            return False
        if final.deleted_position is not None and final.deleted_position <= self.newest_indexed:
            return False
        known = list(texts(final))
        ends = [*(position - 1 for position, _ in known[1:]), self.newest_indexed]
        return all(
            self.query.matches(text)
            for (position, text), end in zip(known, ends, strict=True)
            if end >= self.indexed and position <= self.newest_indexed
        )


def is_out_of_order(answer: Json, limit: int) -> bool:
    """Return whether the items are not newest first, each once, and at most as many as were asked for."""
    keys = [_key(item) for item in answer["items"]]
    return keys != sorted(set(keys), reverse=True) or len(keys) > limit


def _key(item: Sequence[Any]) -> tuple[Any, ...]:
    """Return the place of an item in the order of a search."""
    return item[4], item[0], item[1]
