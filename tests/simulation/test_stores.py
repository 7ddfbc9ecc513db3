"""The simulated store does as the one on RocksDB does, whatever is asked of both."""

from __future__ import annotations

import tempfile
from pathlib import Path
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import ids
from schemas.ids import UserId
from schemas.log import Head
from services.sequencer import store as store_module
from services.sequencer.errors import StoreBroken
from services.sequencer.ports import LogPosition, Store
from services.sequencer.state import Changes, Chat, Member, View, command_key, keep
from services.sequencer.store import RocksStore
from tests.support.simulated_store import MemoryDisk

CHATS = [ids.group_chat_id(UserId("a1111111-1111-4111-8111-111111111111"), name) for name in "abc"]
USERS = [UserId(f"{n}1111111-1111-4111-8111-111111111111") for n in "ab"]
KEYS = [ids.command_id(CHATS[0], USERS[0], key) for key in "kl"]

small = st.integers(0, 5)
changes = st.builds(
    Changes,
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
    remembered=st.dictionaries(
        st.builds(command_key, st.sampled_from(CHATS), st.sampled_from(KEYS)),
        st.builds(keep, st.binary(min_size=16, max_size=16), st.integers(0, 9), small, small),
    ),
)  # fmt: skip
actions = st.lists(
    st.one_of(
        st.tuples(st.just("apply"), changes),
        st.tuples(st.just("load"), st.lists(st.sampled_from(CHATS), unique=True)),
        st.tuples(st.sampled_from(["wipe", "reopen", "reopen for another topic"]), st.none()),
    ),
    max_size=12,
)


@settings(max_examples=60, deadline=None)
@given(actions)
def test_both_stores_answer_alike(drawn: list[tuple[str, object]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        disk, path, topic = MemoryDisk(Random(0)), Path(folder) / "s", "one"
        stores: list[Store] = [disk.open(topic), RocksStore(path, topic)]
        for number, (action, argument) in enumerate(drawn):
            match action, argument:
                case "apply", Changes() as change:
                    position = LogPosition(
                        next_offset=number, head=Head(number, number, number, number), last_record=b"%d" % number
                    )
                    for store in stores:
                        store.apply(change, position)
                case "load", list() as chats:
                    views = [store.load(chats, [], []) for store in stores]
                    assert _seen(views[0]) == _seen(views[1])
                case "wipe", _:
                    for store in stores:
                        store.wipe()
                case _:
                    for store in stores:
                        store.close()
                    topic = topic if action == "reopen" else topic + "!"
                    stores = [disk.open(topic), RocksStore(path, topic)]
            fresh = [store.load([], [], []) for store in stores]
            assert _seen(fresh[0]) == _seen(fresh[1])
            assert stores[0].position == stores[1].position
        for store in stores:
            store.close()
            with pytest.raises(StoreBroken):
                store.load([], [], [])


def test_a_wipe_that_fails_half_way_has_no_position_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk: the old state is gone and no new one can be made. Nothing may go on from where the old one was."""
    store = RocksStore(tmp_path / "s", "one")
    store.apply(Changes(), LogPosition(next_offset=7, head=Head(1, 2, 3, 4), last_record=b"x"))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store_module, "Rdict", full)
        with pytest.raises(StoreBroken):
            store.wipe()
    assert store.position == LogPosition()
    with pytest.raises(StoreBroken):
        store.load([], [], [])
    store.wipe()
    assert store.load([], [], []) is not None
    store.close()


def _seen(view: View) -> list[object]:
    """All that can be asked of it."""
    return [
        [view.chat(chat) for chat in CHATS],
        [view.member((chat, user)) for chat in CHATS for user in USERS],
        [view.remembered(command_key(chat, key)) for chat in CHATS for key in KEYS],
    ]
