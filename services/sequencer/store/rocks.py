"""The folded state of one partition in RocksDB: disposable, and always consistent with its position.

Changes are collected in memory and written together with their position in one write batch, so a chat that changes a
thousand times is written once. The write-ahead log is on, syncing is off. After a SIGKILL the position on disk is
behind the log by what was collected, and never ahead of the state; the difference is folded again.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Final, ParamSpec, TypeGuard, TypeVar, cast

from rocksdict import (
    BlockBasedOptions,
    Cache,
    DBCompactionStyle,
    DBCompressionType,
    Options,
    Rdict,
    WriteBatch,
    WriteOptions,
)

from schemas.errors import LogCorrupt
from schemas.ids import ChatId, CommandKey, UserId
from services.sequencer.errors import FilesMoved, StateBroken
from services.sequencer.ports import LogPosition
from services.sequencer.rules.state import (
    Chat,
    DedupBytes,
    DedupEntry,
    FactKey,
    LoadedView,
    Member,
    MemberKey,
    Prefetched,
    StateChanges,
    unpack_dedup,
)
from services.sequencer.store.format import (
    FORMAT,
    META,
    author_in,
    authors_key,
    chat_key,
    fact_key,
    member_key,
    pack_chat,
    pack_member,
    pack_position,
    pack_senders,
    unpack_chat,
    unpack_member,
    unpack_position,
)

KEPT_IN_MEMORY: Final = 20_000
"""Maximum number of chats, and of members, cached for one partition: about 5 MB each."""

RECORDS_PER_WRITE: Final = 10_000
"""Records of the log whose changes are collected before they are written. A SIGKILL leaves that many to fold again, a
tenth of a second of work."""

ENTRIES_PER_RECORD: Final = 2
"""Collected entries per record after which they are written early: a record that creates a chat of a thousand members
has a thousand entries, and the event loop waits while they are written."""

_WORK: Final = (
    "num-immutable-mem-table",
    "mem-table-flush-pending",
    "num-running-flushes",
    "compaction-pending",
    "num-running-compactions",
)
"""RocksDB's counters of pending and running background work."""
_NO_STATE: Final = (StateBroken, OSError, ValueError, KeyError, TypeError)
"""Errors of opening a folder that does not hold a state of ours."""

_shared_cache = Cache(64 * 1024 * 1024)
"""One block cache for all partitions of the process: its memory does not grow with their number."""


P = ParamSpec("P")
T = TypeVar("T")


def _wrap_rocksdb(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call RocksDB, and raise StateBroken for its plain Exceptions."""
    try:
        return call(*args, **kwargs)
    except Exception as error:
        raise StateBroken(f"{error!r:.300}") from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Frozen:
    """A state at one moment whose files are being written to disk."""

    position: LogPosition
    db: Rdict
    log: str
    """RocksDB's write-ahead log from that moment on: while it is the last one, no later write is in another file."""


class RocksStore:
    """The state of one partition. Methods raise StateBroken if the folder is broken; `wipe` repairs it."""

    def __init__(self, folder: Path, topic_id: str, *, records_per_write: int = RECORDS_PER_WRITE) -> None:
        """Open the folder, or wipe it if it has another format or topic or cannot be read."""
        self._folder = folder
        self._records_per_write = records_per_write
        self._topic_id = topic_id
        self._write_options = WriteOptions()
        self._write_options.sync = False
        self._db: Rdict | None = None
        self._position = LogPosition()
        # Changes that are not in RocksDB yet, from `_written` to `_position`.
        self._gathered = StateChanges()
        self._written = self._position
        # Recently used chats and members: most commands concern these, and RocksDB takes five times as long for a key
        # that exists as for one that does not (measured: 5 and 1 µs).
        self._chats: dict[ChatId, Chat | None] = {}
        self._members: dict[MemberKey, Member | None] = {}
        try:
            self._put_back()
            self._open()
            meta = self._meta()
            if meta is None:
                return
            if self._is_mine(meta):
                self._position = self._written = unpack_position(meta)
                return
        except _NO_STATE:
            pass  # torn by a crash or a full disk: the log has everything
        self.wipe()

    @property
    def topic_id(self) -> str:
        return self._topic_id

    @property
    def position(self) -> LogPosition:
        return self._position

    def load(self, chats: Sequence[ChatId], members: Sequence[MemberKey], dedup: Sequence[CommandKey]) -> LoadedView:
        db, gathered = self._open_db, self._gathered
        missing_chats = {c for c in chats if c not in self._chats}
        missing_members = {m for m in members if m not in self._members}
        self._chats.update((c, gathered.chats[c]) for c in gathered.chats.keys() & missing_chats)
        self._members.update((m, gathered.members[m]) for m in gathered.members.keys() & missing_members)
        new_chats = list(missing_chats - gathered.chats.keys())
        new_members = list(missing_members - gathered.members.keys())
        keys: list[Any] = [chat_key(c) for c in new_chats]
        keys += [member_key(m) for m in new_members]
        keys += dedup
        commands: dict[CommandKey, DedupBytes | None] = {}
        if keys:
            values = iter(cast("list[bytes | None]", _wrap_rocksdb(db.get, keys)))
            # In the order of the keys.
            self._chats.update((c, unpack_chat(raw)) for c, raw in zip(new_chats, values, strict=False))
            self._members.update((m, unpack_member(raw)) for m, raw in zip(new_members, values, strict=False))
            commands.update(zip(dedup, cast("Iterator[DedupBytes | None]", values), strict=True))
            for key in gathered.dedup.keys() & commands.keys():
                commands[key] = gathered.dedup[key]
        _forget_older(self._chats)
        _forget_older(self._members)
        return _Loaded(self, commands)

    def apply(self, changes: StateChanges, position: LogPosition) -> None:
        gathered = self._gathered
        gathered.chats.update(changes.chats)
        gathered.members.update(changes.members)
        gathered.dedup.update(changes.dedup)
        gathered.facts.update(changes.facts)
        for chat_id, senders in changes.senders.items():
            gathered.senders[chat_id] += senders
        self._chats.update(changes.chats)
        self._members.update(changes.members)
        self._position = position
        records = position.next_offset - self._written.next_offset
        # Senders do not count: those of a chat are one entry.
        entries = len(gathered.chats) + len(gathered.members) + len(gathered.dedup) + len(gathered.facts)
        if max(records, entries // ENTRIES_PER_RECORD) >= self._records_per_write:
            self.write_out()

    def chat(self, chat_id: ChatId) -> Chat | None:
        if chat_id not in self._chats:
            self._chats[chat_id] = self._gathered.chats.get(chat_id) or unpack_chat(self._get(chat_key(chat_id)))
        return self._chats[chat_id]

    def member(self, key: MemberKey) -> Member | None:
        if key not in self._members:
            self._members[key] = self._gathered.members.get(key) or unpack_member(self._get(member_key(key)))
        return self._members[key]

    def dedup(self, key: CommandKey) -> DedupEntry | None:
        raw = self._gathered.dedup.get(key) or cast("DedupBytes | None", self._get(key))
        return unpack_dedup(raw) if raw is not None else None

    def author(self, chat_id: ChatId, seq: int) -> UserId | None:
        return self._gathered.author(chat_id, seq) or self._stored_author(chat_id, seq)

    def _stored_author(self, chat_id: ChatId, seq: int) -> UserId | None:
        run = _wrap_rocksdb(self._open_db.iter)
        _wrap_rocksdb(run.seek_for_prev, authors_key((chat_id, seq)))
        return author_in(run.key(), run.value(), (chat_id, seq)) if run.valid() else None

    def fact(self, key: FactKey) -> bytes | None:
        return self._gathered.facts.get(key) or self._get(fact_key(key))

    def write_out(self) -> None:
        """Write the collected changes to RocksDB. `apply` calls it under load; idle callers may at any time."""
        if self._written == self._position:
            return
        gathered = self._gathered
        batch = WriteBatch(raw_mode=True)
        put = batch.put
        # In key order, so that RocksDB finds each place from the previous one (measured: 1.0 µs a key instead of 1.7).
        for chat_id in sorted(gathered.chats):
            put(chat_key(chat_id), pack_chat(gathered.chats[chat_id]))
        for key, member in gathered.members.items():
            put(member_key(key), pack_member(member))
        for command_key in sorted(gathered.dedup):
            put(command_key, gathered.dedup[command_key])
        for chat_id in sorted(gathered.senders):
            senders = gathered.senders[chat_id]
            first = gathered.chats[chat_id].last_seq - len(senders) + 1
            put(authors_key((chat_id, first)), pack_senders(senders, (chat_id, first)))
        for key_of_fact in sorted(gathered.facts):
            put(fact_key(key_of_fact), gathered.facts[key_of_fact])
        put(META, pack_position(self._topic_id, self._position))
        # After a crash before this line, the collected changes are folded again from the log. After it, RocksDB has
        # them together with the position.
        _wrap_rocksdb(self._open_db.write, batch, self._write_options)
        self._gathered = StateChanges()
        self._written = self._position

    def wipe(self) -> None:
        self._shut()
        shutil.rmtree(self._folder, ignore_errors=True)
        self._forget()
        self._set_position(LogPosition())  # first: the folder is gone even if a new one cannot be opened
        self._open()

    def close(self) -> None:
        if self._db is not None:
            with suppress(StateBroken, LogCorrupt):  # what is lost is folded again
                self.write_out()
        self._shut()

    def _shut(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None

    def freeze(self) -> Frozen:
        """Start a flush of the memtables in the background (measured: half a millisecond). Once it is done, RocksDB's
        files without its write-ahead logs are the state at this moment, until the next flush."""
        db = self._open_db
        self.write_out()
        _wrap_rocksdb(db.flush, False)
        return Frozen(position=self._position, db=db, log=_last_log(self._folder))

    def link(self, frozen: Frozen, folder: Path) -> bool:
        """Link the files of a frozen state into an empty folder. Returns False while RocksDB still writes them.

        It does not pause RocksDB and takes a fraction of a millisecond. rocksdict.Checkpoint would hold the
        interpreter's lock while it flushes and syncs. Raises FilesMoved, OSError.
        """
        if frozen.db is not self._db or _last_log(self._folder) != frozen.log:
            raise FilesMoved("the state was written out again, or thrown away")
        if not self._at_rest():
            return False
        described = self._description()
        live = self._open_db.live_files()
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        try:
            for file in live:
                name = cast("str", file["name"]).lstrip("/")
                os.link(self._folder / name, folder / name)
        except FileNotFoundError:
            return False  # compacted since
        # A compaction writes the manifest first and decrements its counter last: one that began since has changed
        # the manifest or the live files, or is still counted.
        if not self._at_rest() or described != self._description() or live != self._open_db.live_files():
            return False
        if _last_log(self._folder) != frozen.log:
            raise FilesMoved("the state was written out again")
        for name, content in described.items():
            (folder / name).write_bytes(content)
        return True

    def replace(self, folder: Path, position: LogPosition) -> bool:
        """Replace this state by the content of another folder, which is moved. Returns False and changes nothing if it
        is not a state of this topic at `position`. Raises StateBroken."""
        self.write_out()
        former, was = _former(self._folder), self._position
        self._shut()
        try:
            shutil.rmtree(former, ignore_errors=True)
            # After a crash between these two lines, the next start restores the former state.
            self._folder.rename(former)
            folder.rename(self._folder)
            self._forget()
            self._open()
            if self._is_mine(meta := self._meta()) and unpack_position(meta) == position:
                self._set_position(position)
                shutil.rmtree(former, ignore_errors=True)
                return True
        except _NO_STATE:
            pass
        self._shut()
        if former.exists():
            shutil.rmtree(self._folder, ignore_errors=True)
        self._put_back()
        self._forget()
        self._open()
        self._set_position(was)
        return False

    def _get(self, key: bytes) -> bytes | None:
        return cast("bytes | None", _wrap_rocksdb(self._open_db.get, key))

    @property
    def _open_db(self) -> Rdict:
        if self._db is None:
            raise StateBroken("the folder is closed")
        return self._db

    def _open(self) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        self._db = _wrap_rocksdb(Rdict, str(self._folder), _options())

    def _meta(self) -> dict[str, object] | None:
        raw = cast("bytes | None", _wrap_rocksdb(self._open_db.get, META))
        return cast("dict[str, object]", json.loads(raw)) if raw is not None else None

    def _is_mine(self, meta: dict[str, object] | None) -> TypeGuard[dict[str, object]]:
        return meta is not None and (meta.get("format"), meta.get("topic_id")) == (FORMAT, self._topic_id)

    def _set_position(self, position: LogPosition) -> None:
        """Where RocksDB is."""
        self._position = self._written = position
        self._gathered = StateChanges()

    def _forget(self) -> None:
        self._chats.clear()
        self._members.clear()

    def _put_back(self) -> None:
        """What `replace` had moved aside when it was interrupted."""
        former = _former(self._folder)
        if former.exists() and not self._folder.exists():
            former.rename(self._folder)
        shutil.rmtree(former, ignore_errors=True)

    def _at_rest(self) -> bool:
        """Whether nothing is being written out or put together."""
        return not any(self._open_db.property_int_value(f"rocksdb.{name}") for name in _WORK)

    def _description(self) -> dict[str, bytes]:
        """Which files there are, in RocksDB's own words: some kilobytes."""
        current = (self._folder / "CURRENT").read_bytes()
        described = current.decode().strip()
        return {"CURRENT": current, described: (self._folder / described).read_bytes()}


def _former(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.former")


def _last_log(folder: Path) -> str:
    """Return the newest of RocksDB's write-ahead logs; their names are numbers of equal length."""
    return max((entry.name for entry in os.scandir(folder) if entry.name.endswith(".log")), default="")


def _forget_older(values: dict[Any, Any]) -> None:
    """Drop the older half of a cache that is full, by the time of insertion. Many at once, because removing single
    entries from the front of a dict walks past all those removed before."""
    if len(values) > KEPT_IN_MEMORY:
        for key in list(islice(values, len(values) - KEPT_IN_MEMORY // 2)):
            del values[key]


_NOT_ASKED_FOR: Final = DedupBytes(b"")


class _Loaded:
    """The current state, with commands looked up in bulk; other keys are read when needed."""

    __slots__ = ("_chats", "_commands", "_members", "_store", "prefetched")

    def __init__(self, store: RocksStore, commands: dict[CommandKey, DedupBytes | None]) -> None:
        """`commands` has every key that was looked up."""
        self._store = store
        self._chats = store._chats
        self._members = store._members
        self._commands = commands
        self.prefetched = Prefetched(self._chats, self._members, commands)

    def chat(self, chat_id: ChatId) -> Chat | None:
        return self._chats.get(chat_id) or self._store.chat(chat_id)

    def member(self, key: MemberKey) -> Member | None:
        return self._members.get(key) or self._store.member(key)

    def dedup(self, key: CommandKey) -> DedupEntry | None:
        raw = self._commands.get(key, _NOT_ASKED_FOR)
        if raw is None:
            return None
        return unpack_dedup(raw) if raw is not _NOT_ASKED_FOR else self._store.dedup(key)

    def author(self, chat_id: ChatId, seq: int) -> UserId | None:
        return self._store.author(chat_id, seq)

    def fact(self, key: FactKey) -> bytes | None:
        return self._store.fact(key)


def _options() -> Options:
    options = Options(raw_mode=True)
    options.create_if_missing(True)
    # Small memtables stay in the processor's caches (half the time of a write), and four of them become one file, so
    # that there are no more files to look into and to put together than with one of four times the size.
    options.set_write_buffer_size(4 * 1024 * 1024)
    options.set_min_write_buffer_number_to_merge(4)
    options.set_max_write_buffer_number(8)
    # Files are put together with others of their size: hardly a key comes twice, so that there is little to tidy up,
    # and each is written again half as often as by levels.
    options.set_compaction_style(DBCompactionStyle.universal())
    options.set_level_zero_file_num_compaction_trigger(8)
    options.set_max_background_jobs(2)
    options.set_keep_log_file_num(2)
    options.set_max_open_files(256)
    options.set_compression_type(DBCompressionType.none())  # what is stored is hashes and small numbers
    # Nearly every look-up of a command is for one that was never seen: filters answer it without a read, one for the
    # memtable and one for each file, held by the open file and not looked up in the cache (measured together: 0.4 µs
    # for a key in place of 1.2).
    options.set_memtable_whole_key_filtering(True)
    options.set_memtable_prefix_bloom_ratio(0.05)
    table = BlockBasedOptions()
    table.set_bloom_filter(10, False)
    table.set_block_cache(_shared_cache)
    table.set_cache_index_and_filter_blocks(False)
    options.set_block_based_table_factory(table)
    return options
