"""Readers come, fall behind, are cut and come back, while users join and leave chats: no reader misses an event.

Hypothesis draws what happens in the log, when the hub takes it, how far the read model is at each question, and what
clients do. `Judge` judges each frame as it is written, `Client` makes a state of those that are received, which has to
be the truth whenever all was received.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import ClassVar, Final

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from schemas.ids import ChatId, UserId, token
from schemas.sync_cursor import SyncCursor, decode_sync_cursor, encode_sync_cursor
from services.live.frames import control
from services.live.frames.frame import Form
from services.live.hub import hub as hub_module
from services.live.hub import ring as ring_module
from services.live.hub.entry import Entry
from services.live.hub.hub import CaughtUp, Hub, NotCovered, UserStanding
from services.live.hub.ring import Ring
from services.live.hub.stream import Stream, User
from tests.support.examples import ALL_EXAMPLES, examples
from tests.unit.live.client import Client, Saved, State
from tests.unit.live.judge import Judge
from tests.unit.live.sockets import Frame, Socket
from tests.unit.live.world import CHATS, LOG_ID, PARTITION_OF, PARTITIONS, SMALL, USERS, Act, World, acts

PIECE: Final = 3
"""Events that the hub takes at once, at most."""
STEPS: Final = 40
PHASES: Final = (Phase.explicit, Phase.reuse, Phase.generate)
"""To shorten a failing case takes minutes: add Phase.shrink for it."""
EVERYTHING: Final = frozenset(CHATS)
EIGHTHS: Final = st.tuples(*[st.integers(0, 8)] * PARTITIONS)
"""Where a snapshot stands in each partition, between what the ring covers and the end of the log."""
Eighths = tuple[int, ...]

users = st.sampled_from(USERS)
scopes = st.just(EVERYTHING) | st.frozensets(st.sampled_from(CHATS), min_size=1, max_size=3)
high_waters = st.sampled_from((1, 400, 1_500, 100_000))


class Connection:
    def __init__(self, stream: Stream, socket: Socket, judge: Judge, client: Client, scope: frozenset[ChatId]) -> None:
        self.stream = stream
        self.socket = socket
        self.judge = judge
        self.client = client
        self.scope = scope
        self.standing: UserStanding | None = None
        """Read before it was opened."""
        self.is_open = False
        self.has_more = False
        """A piece is to be written when others had their turn."""
        self.is_missing = False
        """It waits for the read model."""
        self.saved: Saved | None = None
        """The newest cursor that the client received."""

    @property
    def is_of_one(self) -> bool:
        return self.stream.ends_with_chat


class Readers(RuleBasedStateMachine):
    reached: ClassVar[Counter[str]] = Counter()
    """What the runs covered."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.now_s = 0.0
        self.began: dict[int, int] = {}
        self.connections: list[Connection] = []
        self.saved: list[Saved] = []
        self.sizes_known: set[ChatId] = set()

    @initialize(
        history=st.lists(acts, max_size=25),
        begins=EIGHTHS,
        ring_bytes=st.sampled_from((2_500, 6_000, 12_000, 1_000_000)),
        ring_s=st.sampled_from((4.0, 1e9)),
        users_known=st.sampled_from((1, 3)),
        chats_remembered=st.sampled_from((2, 100)),
    )
    def begin(
        self,
        history: list[Act],
        begins: Eighths,
        ring_bytes: int,
        ring_s: float,
        users_known: int,
        chats_remembered: int,
    ) -> None:
        hub_module.KNOWN_USERS = users_known  # type: ignore[misc]
        ring_module.REMEMBERED_CHATS = chats_remembered  # type: ignore[misc]
        for act in history:
            self.world.happen(act)
        self.hub = Hub(Ring(max_bytes=ring_bytes, max_age_s=ring_s), partitions=PARTITIONS)
        self.hub.log_id = LOG_ID
        self.knows_prev = chats_remembered > len(CHATS)
        self.began = {p: end * begins[p] // 8 for p, end in self.world.end().items()}
        for partition, index in self.began.items():
            self.hub.begin(partition, index)

    # --- what happens ---------------------------------------------------------------------------------------------

    @rule(each=st.lists(acts, min_size=1, max_size=4))
    def happen(self, each: list[Act]) -> None:
        for act in each:
            self.world.happen(act)

    @rule(partition=st.integers(0, PARTITIONS - 1), count=st.integers(1, 8))
    def take(self, partition: int, count: int) -> None:
        self._take(partition, self.hub.heads[partition] + count)

    @rule(each=st.lists(acts, min_size=1, max_size=6))
    def happen_and_take(self, each: list[Act]) -> None:
        self.happen(each)
        self._take_all()

    @precondition(lambda self: self.connections)
    @rule(which=st.integers(0, 10), chat=st.sampled_from(CHATS), taken=st.booleans())
    def join_or_leave(self, which: int, chat: ChatId, taken: bool) -> None:
        """A user who follows leaves one of their chats, or is added to another."""
        connection = self.connections[which % len(self.connections)]
        user, truth = connection.client.user, self.world.truths[chat][-1]
        if user in truth.members:
            self.world.happen(Act("remove", chat, user, user, 0))
        else:
            self.world.happen(Act("add", chat, USERS[0], user, 0))
        if taken:
            self._take_all()

    def _take(self, partition: int, up_to: int) -> None:
        """Take outcomes, up to PIECE events at once."""
        outcomes = self.world.log[partition]
        piece: list[Entry] = []
        for index in range(self.hub.heads[partition] + 1, min(up_to, len(outcomes)) + 1):
            event = outcomes[index - 1]
            self.now_s += 1
            if event is None or len(piece) == PIECE:
                self.hub.take(piece, self.now_s)
                piece = []
            if event is None:
                self.hub.pass_over(partition, index)
                continue
            if event.position == 1:
                self.sizes_known.add(event.chat)
            piece.append(Entry(partition, index, event.outcome))
        self.hub.take(piece, self.now_s)

    def _take_all(self) -> None:
        for partition, end in self.world.end().items():
            self._take(partition, end)

    @rule()
    def say_cursors(self) -> None:
        self.hub.say_cursors()

    # --- the read model -------------------------------------------------------------------------------------------

    def _snapshot(self, eighths: Eighths) -> dict[int, int]:
        start = self.hub.ring.start
        return {p: start[p] + (end - start[p]) * eighths[p] // 8 for p, end in self.world.end().items()}

    def _standing(self, user: UserId, at: Mapping[int, int]) -> UserStanding:
        return self.world.standing(user, at, with_empty=self.now_s % 2 == 0)

    def _reach(self, indexes: Mapping[int, int]) -> None:
        for partition, index in indexes.items():
            self._take(partition, index)

    def _learn(self, user_id: UserId, eighths: Eighths) -> User:
        known = self.hub.user(user_id)
        if known is not None:
            return known
        at = self._snapshot(eighths)
        standing = self._standing(user_id, at)
        self.sizes_known |= {chat.chat_id for chat in standing.chats}
        try:
            return self.hub.learn(user_id, standing)
        except NotCovered:
            assert any(index > self.hub.heads[p] for p, index in at.items()), "the ring goes back to the snapshot"
            self.reached["a snapshot ahead of the hub"] += 1
        self._reach(at)
        try:
            return self.hub.learn(user_id, standing)
        except NotCovered:  # what was just taken pushed out what the snapshot needs
            return self.hub.learn(user_id, self._standing(user_id, self.hub.heads))

    # --- clients --------------------------------------------------------------------------------------------------

    @rule(user=users, at=EIGHTHS)
    def sync(self, user: UserId, at: Eighths) -> None:
        """The client asks the read model for all of its chats, and gets a cursor."""
        indexes = {p: end * at[p] // 8 for p, end in self.world.end().items()}
        named, state = {}, State()
        for chat in CHATS:
            index = indexes[PARTITION_OF[chat]]
            position = self.world.position_at(chat, index)
            if any(event.joins(user) for event in self.world.events[chat][:position]):
                named[PARTITION_OF[chat]] = index
            if self.world.is_member(user, chat, position):
                state.chats[chat] = (position, self.world.truths[chat][position])
        cursor = encode_sync_cursor(SyncCursor(LOG_ID, named))
        self.saved.append(Saved(user, EVERYTHING, of_one=False, cursor=cursor, state=state))

    @rule(
        user=users, scope=scopes, at=EIGHTHS, all_receipts=st.booleans(), websocket=st.booleans(), high=high_waters,
        late=st.booleans(),
    )  # fmt: skip
    def connect(
        self, user: UserId, scope: frozenset[ChatId], at: Eighths, all_receipts: bool, websocket: bool, high: int,
        late: bool,
    ) -> None:  # fmt: skip
        """A client without a cursor: what it has is the truth of now."""
        self._learn(user, at)
        state = State()
        for chat in scope:
            position = self.world.position_at(chat, self.hub.heads[PARTITION_OF[chat]])
            if self.world.is_member(user, chat, position):
                state.chats[chat] = (position, self.world.truths[chat][position])
        form = Form.WEBSOCKET if websocket else Form.SSE
        self._open_all(user, scope, None, state, form, at, high, all_receipts=all_receipts, late=late)

    @precondition(lambda self: self.saved)
    @rule(
        back=st.integers(0, 30), scope=scopes, at=EIGHTHS, all_receipts=st.booleans(), high=high_waters,
        late=st.booleans(),
    )  # fmt: skip
    def come_back(
        self, back: int, scope: frozenset[ChatId], at: Eighths, all_receipts: bool, high: int, late: bool
    ) -> None:
        """A client comes with a cursor of before, for all chats of the cursor or for some."""
        saved = self.saved[-1 - back % len(self.saved)]
        self._come_back(saved, scope, at, high, all_receipts=all_receipts, late=late)

    def _come_back(
        self, saved: Saved, scope: frozenset[ChatId], at: Eighths, high: int, *, all_receipts: bool, late: bool
    ) -> None:
        if isinstance(saved.cursor, int):
            (chat,) = saved.scope
            self._open_one(saved.user, chat, saved.cursor, saved.state, at, high, all_receipts=all_receipts, late=late)
            return
        scope = saved.scope & scope or saved.scope
        state = State({chat: known for chat, known in saved.state.chats.items() if chat in scope})
        self._reach(decode_sync_cursor(saved.cursor).indexes)
        form = Form.WEBSOCKET if late else Form.SSE
        self._open_all(saved.user, scope, saved.cursor, state, form, at, high, all_receipts=all_receipts, late=late)

    @rule(
        user=users, chat=st.sampled_from(CHATS), back=st.none() | st.integers(0, 12), at=EIGHTHS,
        all_receipts=st.booleans(), high=high_waters, late=st.booleans(),
    )  # fmt: skip
    def follow_one(
        self, user: UserId, chat: ChatId, back: int | None, at: Eighths, all_receipts: bool, high: int, late: bool
    ) -> None:
        """A client follows one chat, after a position of a page or of a while ago."""
        self._learn(user, at)
        followed = [each for each in CHATS if user in self.world.truths[each][-1].members]
        chat = chat if chat in followed else next(iter(followed), chat)
        head = self.world.position_at(chat, self.hub.heads[PARTITION_OF[chat]])
        known = max(0, head - (back or 0))
        state = State()
        if self.world.is_member(user, chat, known):
            state.chats[chat] = (known, self.world.truths[chat][known])
        position = None if back is None else known
        self._open_one(user, chat, position, state, at, high, all_receipts=all_receipts, late=late)

    def _connection(
        self, user: User, form: Form, scope: frozenset[ChatId], reached: Mapping[ChatId, int], state: State, high: int,
        *, all_receipts: bool, late: bool, of_one: bool,
    ) -> Connection:  # fmt: skip
        judge = Judge(
            self.world, user.user_id, reached, all_receipts=all_receipts, knows_prev=self.knows_prev,
            sizes_known=self.sizes_known,
        )  # fmt: skip
        judge.taken, judge.began = self.hub.heads, self.began
        socket = Socket(form, high=high, wrote=judge.wrote)
        only = None if scope == EVERYTHING else scope
        stream = Stream(user, socket, form, only=only, all_receipts=all_receipts, ends_with_chat=of_one)
        client = Client(self.world, user.user_id, state.copy(), fetches_late=late)
        connection = Connection(stream, socket, judge, client, scope)

        def save(cursor: str) -> None:
            connection.saved = Saved(user.user_id, scope, of_one=False, cursor=cursor, state=client.state.copy())
            self.saved.append(connection.saved)

        client.on_cursor = save
        self.connections.append(connection)
        return connection

    # --- opening, as the paths do it ------------------------------------------------------------------------------

    def _open_all(
        self, user_id: UserId, scope: frozenset[ChatId], since: str | None, state: State, form: Form, at: Eighths,
        high: int, *, all_receipts: bool, late: bool,
    ) -> None:  # fmt: skip
        user = self._learn(user_id, at)
        cursor = None if since is None else decode_sync_cursor(since)
        indexes = self.hub.heads if cursor is None else cursor.indexes
        reached = {chat: self.world.position_at(chat, indexes.get(PARTITION_OF[chat], 0)) for chat in scope}
        connection = self._connection(
            user, form, scope, reached, state, high, all_receipts=all_receipts, late=late, of_one=False
        )
        stream = connection.stream
        joined = self.hub.start_at(cursor, stream)
        stream.send(control.ready(self.hub.cursor_of(stream), 20.0))
        for chat in joined:
            stream.send(control.gap(chat, token(PARTITION_OF[chat], self.hub.heads[PARTITION_OF[chat]])))
        if self.hub.missed_partitions(stream):
            self.reached["a cursor older than the ring"] += 1
            connection.standing = self._standing(user_id, self._snapshot(at))
        if joined:
            self.reached["a chat in a partition that the cursor does not name"] += 1

    def _open_one(
        self, user_id: UserId, chat: ChatId, position: int | None, state: State, at: Eighths, high: int,
        *, all_receipts: bool, late: bool,
    ) -> None:  # fmt: skip
        user = self._learn(user_id, at)
        if chat not in user.chats:
            return
        partition = PARTITION_OF[chat]
        head = self.hub.heads[partition]
        if position is not None and position > self.world.position_at(chat, head):
            self._take(partition, self.world.events[chat][position - 1].index)
        index = self.hub.heads[partition] if position is None else self.hub.ring.index_at(chat, position)
        reached = {chat: self.world.position_at(chat, head) if position is None else position}
        connection = self._connection(
            user, Form.SSE_OF_A_CHAT, frozenset((chat,)), reached, state, high,
            all_receipts=all_receipts, late=late, of_one=True,
        )  # fmt: skip
        connection.stream.send(control.ready(None, 20.0))
        if index is None:
            self.reached["a position older than the ring"] += 1
            snapshot = self._snapshot(at)
            standing = self._standing(user_id, snapshot)
            self._reach(snapshot)
            index = standing.heads.get(partition, 0)
            shown = next((each for each in standing.chats if each.chat_id == chat), None)
            is_member = shown is not None and shown.is_member
            if not is_member:
                index = self.hub.heads[partition]
            if not is_member or (position is not None and shown is not None and shown.last_position > position):
                connection.stream.send(control.gap(chat, token(partition, index)))
        connection.stream.at = {partition: index}

    @precondition(lambda self: self._not_open())
    @rule(which=st.integers(0, 10))
    def finish_opening(self, which: int) -> None:
        found = self._not_open()
        self._finish_opening(found[which % len(found)])

    def _not_open(self) -> list[Connection]:
        return [each for each in self.connections if not each.is_open]

    def _finish_opening(self, connection: Connection) -> None:
        stream = connection.stream
        connection.is_open = True
        if not self.hub.open(stream):
            self.reached["a user forgotten while a stream was opened"] += 1
            self._gone(connection)
            return
        connection.socket.on_pause = lambda: self.hub.pause(stream)
        connection.socket.on_resume = lambda: self._go_on(connection)
        if connection.standing is not None:
            self._skip(connection, connection.standing)
        self._go_on(connection)

    def _skip(self, connection: Connection, standing: UserStanding) -> bool:
        """Return whether the stream goes on from the snapshot."""
        stream = connection.stream
        missed = self.hub.missed_partitions(stream)
        connection.judge.snapshot = {p: standing.heads.get(p, 0) for p in range(PARTITIONS)}
        try:
            self.hub.skip(stream, missed, standing)
        except NotCovered:
            return False
        finally:
            connection.judge.snapshot = None
        self._end_if_closed(connection)
        return True

    def _go_on(self, connection: Connection) -> None:
        stream = connection.stream
        connection.has_more = False
        if stream.is_live or connection.is_missing or connection not in self.connections:
            return
        result = self.hub.catch_up(stream)
        self.reached[f"catching up: {result.name}"] += 1
        connection.has_more = result is CaughtUp.MORE
        if result is CaughtUp.MISSED:
            connection.is_missing = True
            stream.send(control.lagged())
        self._end_if_closed(connection)

    def _end_if_closed(self, connection: Connection) -> None:
        """The client reads what is left, and goes."""
        if connection.socket.closed is None or connection not in self.connections:
            return
        self.reached[f"closed: {connection.socket.closed}"] += 1
        connection.judge.ended = True
        self._receive(connection, 1_000_000)
        if connection.is_of_one:
            assert not connection.client.state.chats, "it was told that its reader is no member"
        self._gone(connection)

    def _gone(self, connection: Connection) -> None:
        if connection in self.connections:
            self.connections.remove(connection)
        connection.socket.on_resume = connection.socket.on_pause = lambda: None
        self.hub.forget(connection.stream)

    @precondition(lambda self: any(each.has_more for each in self.connections))
    @rule(which=st.integers(0, 10))
    def go_on(self, which: int) -> None:
        found = [each for each in self.connections if each.has_more]
        self._go_on(found[which % len(found)])

    @precondition(lambda self: any(each.is_missing for each in self.connections))
    @rule(which=st.integers(0, 10), at=EIGHTHS)
    def recover(self, which: int, at: Eighths) -> None:
        found = [each for each in self.connections if each.is_missing]
        self._recover(found[which % len(found)], self._snapshot(at))

    def _recover(self, connection: Connection, at: Mapping[int, int]) -> None:
        if self._skip(connection, self._standing(connection.client.user, at)):
            connection.is_missing = False
            self._go_on(connection)
        else:
            assert any(index > self.hub.heads[p] for p, index in at.items()), "the ring goes back to the snapshot"

    # --- reading and going ----------------------------------------------------------------------------------------

    @precondition(lambda self: self.connections)
    @rule(which=st.integers(0, 10), count=st.integers(1, 12))
    def read(self, which: int, count: int) -> None:
        self._receive(self.connections[which % len(self.connections)], count)

    def _receive(self, connection: Connection, count: int) -> None:
        for _ in range(count):
            frame = connection.socket.read()
            if frame is None:
                return
            self.reached[f"frame: {frame['type']}"] += 1
            connection.client.receive(frame)
            self._save_position(connection, frame)
            connection.socket.drained()

    def _save_position(self, connection: Connection, frame: Frame) -> None:
        if connection.is_of_one and "position" in frame:
            cursor, state = frame["position"], connection.client.state.copy()
            saved = Saved(connection.client.user, connection.scope, of_one=True, cursor=cursor, state=state)
            connection.saved = saved
            self.saved.append(saved)

    @precondition(lambda self: self.connections)
    @rule(which=st.integers(0, 10), received=st.integers(0, 6))
    def cut(self, which: int, received: int) -> None:
        """The connection breaks, and with it all that the client has not received."""
        connection = self.connections[which % len(self.connections)]
        self._receive(connection, received)
        if connection not in self.connections:
            return
        if connection.saved is not None:  # it comes back with the newest cursor, and all it received since
            saved = connection.saved
            state = connection.client.state.copy()
            self.saved.append(Saved(saved.user, saved.scope, saved.of_one, saved.cursor, state))
        self._gone(connection)

    # --- what must hold -------------------------------------------------------------------------------------------

    @invariant()
    def a_live_stream_has_everything_up_to_the_head(self) -> None:
        for connection in list(self.connections):
            self._end_if_closed(connection)
        for connection in self.connections:
            if connection.stream.is_live:
                connection.judge.check_live()

    @rule()
    def settle(self) -> None:
        """The hub takes all, clients read all: each has the truth."""
        self._take_all()
        for connection in list(self.connections):
            if not connection.is_open:
                self._finish_opening(connection)
        for connection in list(self.connections):
            self._settle(connection)

    def _settle(self, connection: Connection) -> None:
        while connection in self.connections and (connection.socket.waiting or not connection.stream.is_live):
            if connection.is_missing:
                self._recover(connection, self.hub.heads)
            self._receive(connection, 1_000_000)
            self._go_on(connection)
        if connection in self.connections:
            connection.judge.check_live()
            connection.client.check(connection.scope)
            self.reached["complete"] += 1

    def teardown(self) -> None:
        """At the end, clients come back with each of the newest cursors and are complete."""
        if not hasattr(self, "hub"):
            return
        self.settle()
        for saved in self.saved[-12:]:
            self._come_back(saved, saved.scope, (4,) * PARTITIONS, 1_500, all_receipts=True, late=False)
            self.settle()
            self._all_gone()
        self._all_gone()
        assert not self.hub._followers, "nobody follows"

    def _all_gone(self) -> None:
        for connection in list(self.connections):
            self._gone(connection)


MUST_BE_REACHED: Final = {
    *(f"frame: {kind}" for kind in ("ready", "cursor", "gap", "removed", "lagged", "chat", "member", "message")),
    *(f"frame: {kind}" for kind in ("edited", "deleted", "reaction", "receipt")),
    *(f"catching up: {result.name}" for result in CaughtUp),
    "a chat in a partition that the cursor does not name",
    "a cursor older than the ring",
    "a position older than the ring",
    "a snapshot ahead of the hub",
    "a user forgotten while a stream was opened",
    "closed: removed",
    "complete",
}


@pytest.fixture
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is small, so that a few events are much. What an example changes is put back too."""
    monkeypatch.setattr(hub_module, "SMALL_CHAT_MEMBERS", SMALL)
    monkeypatch.setattr(hub_module, "PIECE_BYTES", 600)
    monkeypatch.setattr(hub_module, "KNOWN_USERS", 1)
    monkeypatch.setattr(ring_module, "REMEMBERED_CHATS", 100)


@pytest.mark.examples
@pytest.mark.usefixtures("_small")
def test_whatever_happens_readers_get_all_events_of_their_chats_once_and_no_others() -> None:
    Readers.reached.clear()
    run_state_machine_as_test(
        Readers, settings=settings(examples(2_000), stateful_step_count=STEPS, report_multiple_bugs=False)
    )
    if settings.get_current_profile_name() == ALL_EXAMPLES:  # a share of them reaches the rare ones only by chance
        assert Readers.reached.keys() >= MUST_BE_REACHED, MUST_BE_REACHED - Readers.reached.keys()
