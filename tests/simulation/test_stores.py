"""The simulated store behaves like the one on RocksDB, whatever is called on both."""

from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from schemas import ids
from schemas.ids import ChatId, UserId
from schemas.log import Head
from schemas.wire.records import command_key
from services.sequencer.errors import StateBroken
from services.sequencer.ports import LogPosition, StateStore
from services.sequencer.rules.facts import FACTS
from services.sequencer.rules.state import Chat, Member, StateChanges, View, pack_dedup
from services.sequencer.store import rocks as store_module
from services.sequencer.store.rocks import RocksStore
from tests.support.examples import examples
from tests.support.simulated_store import MemoryDisk

CHATS = [ids.group_chat_id(UserId("a1111111-1111-4111-8111-111111111111"), name) for name in "abc"]
USERS = [UserId(f"{n}1111111-1111-4111-8111-111111111111") for n in "ab"]
KEYS = [ids.command_id(CHATS[0], USERS[0], key) for key in "kl"]

small = st.integers(0, 5)
changes = st.builds(
    StateChanges,
    chats=st.dictionaries(
        st.sampled_from(CHATS),
        st.builds(
            Chat, kind=st.sampled_from(["group", "direct"]), last_seq=small, last_position=small, members=small,
            owners=small,
        ),
    ),
    members=st.dictionaries(
        st.tuples(st.sampled_from(CHATS), st.sampled_from(USERS)),
        st.builds(
            Member, role=st.sampled_from(["owner", "admin", "member"]), present=st.booleans(), joined_seq=small,
            read_seq=small, delivered_seq=small,
        ),
    ),
    dedup=st.dictionaries(
        st.builds(command_key, st.sampled_from(CHATS), st.sampled_from(KEYS)),
        st.builds(pack_dedup, st.binary(min_size=16, max_size=16), st.integers(0, 9), small, small),
    ),
)  # fmt: skip
actions = st.lists(
    st.one_of(
        st.tuples(st.just("apply"), changes),
        st.tuples(
            st.just("send"),
            st.dictionaries(st.sampled_from(CHATS), st.lists(st.sampled_from(USERS), min_size=1, max_size=4)),
        ),
        st.tuples(
            st.just("fact"),
            st.builds(
                lambda fact, *message: fact.key(message),
                st.sampled_from(FACTS),
                st.sampled_from(CHATS),
                st.integers(1, 9),
            ),
        ),
        st.tuples(st.just("load"), st.lists(st.sampled_from(CHATS), unique=True)),
        st.tuples(st.sampled_from(["wipe", "reopen", "reopen for another topic"]), st.none()),
    ),
    max_size=12,
)


@examples(60)
@given(actions)
def test_both_stores_answer_alike(drawn: list[tuple[str, object]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        disk, path, topic = MemoryDisk(Random(0)), Path(folder) / "s", "one"
        stores: list[StateStore] = [disk.open(topic), RocksStore(path, topic)]
        seqs: dict[ChatId, int] = {}
        for number, (action, argument) in enumerate(drawn):
            match action, argument:
                case "send", dict() as sent:
                    _apply(stores, _sending(sent, seqs), number)
                case "fact", (bytes() as letter, str() as chat_id, int() as seq):
                    _apply(stores, StateChanges(facts={(letter, ChatId(chat_id), seq): b"fact %d" % number}), number)
                case "apply", StateChanges() as change:
                    for each, chat in change.chats.items():
                        change.chats[each] = replace(chat, last_seq=seqs.get(each, 0))
                    _apply(stores, change, number)
                case "load", list() as chats:
                    views = [store.load(chats, [], []) for store in stores]
                    assert _seen(views[0]) == _seen(views[1])
                case "wipe", _:
                    seqs.clear()
                    for store in stores:
                        store.wipe()
                case _:
                    for store in stores:
                        store.close()
                    if action != "reopen":
                        topic += "!"
                        seqs.clear()
                    stores = [disk.open(topic), RocksStore(path, topic)]
            fresh = [store.load([], [], []) for store in stores]
            assert _seen(fresh[0]) == _seen(fresh[1])
            assert stores[0].position == stores[1].position
        for store in stores:
            store.close()
            with pytest.raises(StateBroken):
                store.load([], [], [])


def test_a_wipe_that_fails_half_way_has_no_position_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk: the old state is gone and no new one can be created. Nothing may continue from the old position."""
    store = RocksStore(tmp_path / "s", "one")
    store.apply(StateChanges(), LogPosition(next_offset=7, head=Head(1, 2, 3, 4), last_record=b"x"))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "Rdict", full)
        with pytest.raises(StateBroken):
            store.wipe()
    assert store.position == LogPosition()
    with pytest.raises(StateBroken):
        store.load([], [], [])
    store.wipe()
    assert store.load([], [], []) is not None
    store.close()


def _apply(stores: list[StateStore], change: StateChanges, number: int) -> None:
    head = Head(number, number, number, number)
    for store in stores:
        store.apply(change, LogPosition(next_offset=number, head=head, last_record=b"%d" % number))


def _sending(sent: dict[ChatId, list[UserId]], seqs: dict[ChatId, int]) -> StateChanges:
    """Return the changes of these messages, each after the last one of its chat."""
    change = StateChanges()
    for chat_id, senders in sent.items():
        seqs[chat_id] = seqs.get(chat_id, 0) + len(senders)
        change.chats[chat_id] = Chat(kind="group", last_seq=seqs[chat_id], last_position=1, members=1, owners=1)
        change.senders[chat_id] += senders
    return change


def _seen(view: View) -> list[object]:
    """Return everything that can be read from it."""
    return [
        [view.chat(chat) for chat in CHATS],
        [view.member((chat, user)) for chat in CHATS for user in USERS],
        [view.dedup(command_key(chat, key)) for chat in CHATS for key in KEYS],
        [view.author(chat, seq) for chat in CHATS for seq in range(1, 20)],
        [view.fact(fact.key((chat, seq))) for fact in FACTS for chat in CHATS for seq in range(1, 10)],
    ]
