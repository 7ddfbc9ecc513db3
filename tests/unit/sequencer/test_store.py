"""The state on RocksDB gathers changes before it writes: what a crash leaves is behind, but never partial."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.bodies import Role
from schemas.errors import LogCorrupt
from schemas.ids import ChatId, CommandId, UserId
from schemas.log import Head
from schemas.wire.records import command_key
from services.sequencer.ports import LogPosition
from services.sequencer.rules.facts import FACTS
from services.sequencer.rules.state import Chat, FactKey, Member, StateChanges, pack_dedup
from services.sequencer.store import rocks as store_module
from services.sequencer.store.format import META, authors_key, chat_key, member_key, pack_member, unpack_member
from services.sequencer.store.rocks import RocksStore
from tests.support.simulated_rocks import copied

TOPIC = "topic"
CHAT = ChatId("f89e858f-5f2e-5152-b188-6a52cbec990b")
USER = UserId("11111111-1111-4111-8111-111111111111")


def _id(number: int) -> str:
    return f"00000000-0000-5000-8000-{number:012x}"


def _sender(number: int) -> UserId:
    return UserId(_id(number % 4))


def _facts(chat: ChatId, number: int) -> list[FactKey]:
    """Return the facts of a change: one for every third, of each kind in turn, of the message before it."""
    if number % 3:
        return []
    fact = FACTS[number // 3 % len(FACTS)]
    return [fact.key((chat, number - 1)), fact.key((chat, number - 1, USER))]


def _change(number: int, chat: ChatId = CHAT) -> StateChanges:
    """Return the changes of the chat's message of that number."""
    senders: defaultdict[ChatId, list[UserId]] = defaultdict(list)
    senders[chat].append(_sender(number))
    return StateChanges(
        senders=senders,
        facts=dict.fromkeys(_facts(chat, number), b"%d" % number),
        chats={chat: Chat(kind="group", last_seq=number, last_position=number, members=1, owners=1)},
        members={(chat, USER): Member(role="owner", present=True, joined_seq=0, read_seq=number, delivered_seq=0)},
        dedup={command_key(chat, CommandId(_id(number))): pack_dedup(bytes(16), number, number, 1)},
    )


def _position(number: int) -> LogPosition:
    return LogPosition(next_offset=number, head=Head(1, number, number, 1), last_record=b"%d" % number)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RocksStore]:
    opened = RocksStore(tmp_path / "s", TOPIC, records_per_write=10)
    yield opened
    opened.close()


def _after_a_crash(tmp_path: Path, copies: int) -> RocksStore:
    """Open the folder as a SIGKILL at this moment would leave it."""
    folder = tmp_path / f"copy-{copies}"
    copied(tmp_path / "s", folder)
    return RocksStore(folder, TOPIC)


def _assert_stands_at(store: RocksStore, number: int, last: int) -> None:
    view = store.load([], [], [])
    assert store.position == (_position(number) if number else LogPosition())
    chat, member = view.chat(CHAT), view.member((CHAT, USER))
    assert (chat.last_seq if chat else 0, member.read_seq if member else 0) == (number, number)
    kept = [n for n in range(1, last + 1) if view.dedup(command_key(CHAT, CommandId(_id(n)))) is not None]
    assert kept == list(range(1, number + 1))
    assert [view.author(CHAT, n) for n in range(1, last + 1)] == [
        _sender(n) if n <= number else None for n in range(1, last + 1)
    ]
    for n in range(1, last + 1):
        for key in _facts(CHAT, n):
            assert view.fact(key) == (b"%d" % n if n <= number else None)


def test_each_kind_of_fact_has_a_letter_of_its_own() -> None:
    letters = [fact.letter for fact in FACTS]
    others = {key[:1] for key in (META, chat_key(CHAT), member_key((CHAT, USER)), authors_key((CHAT, 1)))}
    others.add(command_key(CHAT, CommandId(_id(1)))[:1])
    assert len(set(letters)) == len(letters)
    assert all(len(letter) == 1 for letter in letters)
    assert not others & set(letters)


def test_a_crash_leaves_the_state_of_the_last_write_whole(tmp_path: Path, store: RocksStore) -> None:
    for number in range(1, 26):
        store.apply(_change(number), _position(number))
        _assert_stands_at(store, number, 26)
        left = _after_a_crash(tmp_path, number)
        _assert_stands_at(left, number // 10 * 10, 26)
        left.close()


def test_a_record_that_changes_much_is_not_kept_for_more_to_come(tmp_path: Path, store: RocksStore) -> None:
    """A writer stands still while it writes, so what is gathered is bounded by its entries too."""
    change = _change(1)
    for n in range(20):
        change.members[CHAT, UserId(_id(n))] = change.members[CHAT, USER]
    store.apply(change, _position(1))
    left = _after_a_crash(tmp_path, 0)
    _assert_stands_at(left, 1, 2)
    left.close()


@pytest.mark.parametrize("by", ["write_out", "freeze", "close"])
def test_who_has_time_writes_all_of_it(tmp_path: Path, store: RocksStore, by: str) -> None:
    for number in range(1, 4):
        store.apply(_change(number), _position(number))
    getattr(store, by)()
    left = _after_a_crash(tmp_path, 0)
    _assert_stands_at(left, 3, 4)
    left.close()


def test_what_is_gathered_is_gone_with_a_wipe(store: RocksStore) -> None:
    store.apply(_change(1), _position(1))
    store.wipe()
    _assert_stands_at(store, 0, 2)
    store.write_out()
    _assert_stands_at(store, 0, 2)


def test_the_author_of_a_message_is_found_in_whatever_run_it_was_written(store: RocksStore) -> None:
    """Even next to another chat's, whose entries are adjacent."""
    other = ChatId(CHAT[:-1] + "c")
    for number in range(1, 38):
        store.apply(_change(number), _position(number))
        if number % 7 == 0:
            store.write_out()
    store.apply(_change(1, other), _position(38))
    store.write_out()
    view = store.load([], [], [])
    assert [view.author(CHAT, n) for n in range(1, 38)] == [_sender(n) for n in range(1, 38)]
    assert [view.author(other, n) for n in (1, 2)] == [_sender(1), None]
    assert view.author(CHAT, 38) is None
    assert view.author(ChatId(CHAT[:-1] + "0"), 5) is None


def test_what_is_not_written_is_seen_though_memory_forgot_it(
    store: RocksStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the last chats and members are kept in memory; what is gathered is not in RocksDB yet, and must be found."""
    monkeypatch.setattr(store_module, "KEPT_IN_MEMORY", 2)
    chats = [ChatId(_id(100 + number)) for number in range(8)]
    for number, chat in enumerate(chats, 1):
        store.apply(_change(number, chat), _position(number))
    for written in (False, False, True):
        if written:
            store.write_out()
        view = store.load(chats[:5], [(chat, USER) for chat in chats[:5]], [command_key(chats[0], CommandId(_id(1)))])
        for number, chat in enumerate(chats, 1):
            found, member = view.chat(chat), view.member((chat, USER))
            assert found is not None
            assert member is not None
            assert (found.last_seq, member.read_seq) == (number, number)
            assert view.dedup(command_key(chat, CommandId(_id(number)))) is not None


def test_a_sender_that_is_no_user_id_is_not_written_and_the_error_says_where(store: RocksStore) -> None:
    """No writer of ours appends one; a log that holds one would leave a run in which every later author is wrong."""
    change = _change(4)
    change.senders[CHAT] += [USER, UserId("nobody"), USER]
    store.apply(change, _position(4))
    with pytest.raises(LogCorrupt, match=f"chat {CHAT}: a sender of messages 1 to 4"):
        store.write_out()


@pytest.mark.parametrize("role", ["owner", "admin", "member"])
@pytest.mark.parametrize("present", [True, False])
@pytest.mark.parametrize("creator", [True, False])
def test_a_member_comes_back_from_the_disk_as_it_was(role: Role, present: bool, creator: bool) -> None:
    member = Member(role=role, present=present, joined_seq=1, read_seq=2, delivered_seq=3, creator=creator)
    assert unpack_member(pack_member(member)) == member
