"""Curated bugs in live."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

HUB: Final = "services/live/hub/hub.py"
STREAM: Final = "services/live/hub/stream.py"
RING: Final = "services/live/hub/ring.py"
BY_EXAMPLE: Final = "tests/unit/live/test_hub.py"
IN_ALL_ORDERS: Final = (
    "tests/unit/live/test_streams_of_a_hub.py"
    "::test_whatever_happens_readers_get_all_events_of_their_chats_once_and_no_others"
)

MUTANTS: Final = (
    Mutant(
        name="a paused stream stands where the hub is when it goes on",
        file=HUB,
        good="            return dict(self.heads)\n",
        bad="            return self.heads\n",
        check=f"{BY_EXAMPLE}::test_a_paused_stream_goes_on_after_the_last_frame_it_was_written",
    ),
    Mutant(
        name="a paused stream stands before the last event it was written",
        file=HUB,
        good="            self.heads[entry.partition] = entry.index\n",
        bad="            self.heads[entry.partition] = entry.index - 1\n",
        check=IN_ALL_ORDERS,
    ),
    Mutant(
        name="a stream that is catching up is pushed to as well",
        file=HUB,
        good="                    if stream.is_live and not (selective",
        bad="                    if not (selective",
        check=IN_ALL_ORDERS,
    ),
    Mutant(
        name="a membership changes before what came earlier is written",
        file=HUB,
        good="            if entry.named or size > PIECE_BYTES:\n",
        bad="            if size > PIECE_BYTES:\n",
        check=f"{BY_EXAMPLE}::test_what_comes_at_once_is_written_at_once_and_memberships_change_in_between",
    ),
    Mutant(
        name="what is written at once loses its order",
        file=HUB,
        good='else b"".join(piece))\n',
        bad='else b"".join(reversed(piece)))\n',
        check=f"{BY_EXAMPLE}::test_what_comes_at_once_is_written_at_once_and_memberships_change_in_between",
    ),
    Mutant(
        name="a removed user's streams still follow the chat",
        file=HUB,
        good="                self._unfollow(stream, entry.chat_id)\n                if stream.is_live:",
        bad="                if stream.is_live:",
        check=f"{BY_EXAMPLE}::test_nothing_of_a_chat_comes_after_the_removal_until_the_reader_is_a_member_again",
    ),
    Mutant(
        name="a stream catches up with events from before its user joined",
        file=STREAM,
        good="        self.away = {chat_id for chat_id, joins in first.items() if joins}\n",
        bad="        self.away = set()\n",
        check=IN_ALL_ORDERS,
    ),
    Mutant(
        name="a stream of all chats does not follow those that are joined",
        file=HUB,
        good="                self._follow(stream, entry.chat_id)\n",
        bad="                pass\n",
        check=IN_ALL_ORDERS,
    ),
    Mutant(
        name="the event at which a reader stands is sent again",
        file=RING,
        good="        newest_first = takewhile(lambda entry: entry.index > index,",
        bad="        newest_first = takewhile(lambda entry: entry.index >= index,",
        check=IN_ALL_ORDERS,
    ),
    Mutant(
        name="a gap says nothing of the chats that were left",
        file=HUB,
        good="                else:\n                    self._say_removed(stream, control.removed(chat.chat_id))\n",
        bad="",
        check=IN_ALL_ORDERS,
    ),
    Mutant(
        name="a stream goes on from the hub's head after a gap",
        file=HUB,
        good="            stream.at[partition] = at[partition]\n",
        bad="            stream.at[partition] = self.heads[partition]\n",
        check=IN_ALL_ORDERS,
    ),
    Mutant(
        name="memberships are those of the snapshot",
        file=HUB,
        good="        for entry in self.ring.of_user(user_id, at):\n",
        bad="        for entry in ():\n",
        check=IN_ALL_ORDERS,
    ),
    Mutant(
        name="memberships of a partition without a row are forgotten",
        file=HUB,
        good="        for entry in self.ring.of_user(user_id, at):\n",
        bad="        for entry in self.ring.of_user(user_id, standing.heads):\n",
        check=f"{BY_EXAMPLE}::test_a_chat_of_a_partition_of_which_nothing_is_projected_yet_is_followed",
    ),
    Mutant(
        name="a snapshot ahead of the hub is used",
        file=HUB,
        good="        if ahead:\n",
        bad="        if ahead and False:\n",
        check=f"{BY_EXAMPLE}::test_a_snapshot_that_the_hub_has_not_reached_is_not_used",
    ),
    Mutant(
        name="the first cursor names partitions of which gaps are still to be said",
        file=HUB,
        good="self.partitions) if stream.named is None else stream.named\n",
        bad="self.partitions)\n",
        check=IN_ALL_ORDERS,
    ),
    Mutant(
        name="a chat joined and left since the cursor is not told as removed",
        file=HUB,
        good="        stream.gone = self._unnamed(filter(stream.may_follow, stream.user.left), cursor)\n",
        bad="",
        check=f"{BY_EXAMPLE}::test_a_chat_joined_and_left_since_the_cursor_is_told_as_removed",
    ),
    Mutant(
        name="a cursor is said to a stream that is catching up",
        file=HUB,
        good="            if stream.is_live:\n                named =",
        bad="            if True:\n                named =",
        check=IN_ALL_ORDERS,
    ),
    Mutant(
        name="the ring claims to have what it dropped",
        file=RING,
        good="        self.start[entry.partition] = entry.index\n        _drop_first",
        bad="        _drop_first",
        check=IN_ALL_ORDERS,
    ),
    Mutant(
        name="prev counts receipts",
        file=RING,
        good="        content = entry.prev if entry.is_receipt else entry.position\n",
        bad="        content = entry.position\n",
        check=IN_ALL_ORDERS,
    ),
    Mutant(
        name="prev is never known",
        file=RING,
        good="        entry.prev = None if last is None else last.content_position\n",
        bad="        entry.prev = None\n",
        check=IN_ALL_ORDERS,
    ),
    Mutant(
        name="one's own receipts in large chats are held back",
        file=STREAM,
        good="        return is_small or self.all_receipts or entry.outcome.sender_id == self.user.user_id\n",
        bad="        return is_small or self.all_receipts\n",
        check=f"{BY_EXAMPLE}::test_of_a_large_chat_a_reader_gets_their_own_receipts_and_others_only_on_request",
    ),
    Mutant(
        name="all receipts of large chats are sent to those who catch up",
        file=STREAM,
        good="        return is_small or self.all_receipts or entry",
        bad="        return True or entry",
        check=IN_ALL_ORDERS,
    ),
    Mutant(
        name="a user who was forgotten while their stream was opened is followed all the same",
        file=HUB,
        good="        if self._users.get(user.user_id) is not user:\n            return False\n",
        bad="",
        check=IN_ALL_ORDERS,
    ),
    Mutant(
        name="a stream of one chat outlives the membership",
        file=HUB,
        good="        if stream.ends_with_chat and not stream.chats():  # the user left before `at`\n",
        bad="        if False:\n",
        check=f"{BY_EXAMPLE}::test_a_stream_of_one_chat_that_goes_on_after_the_removal_ends",
    ),
    Mutant(
        name="a stream that is closed is written more",
        file=HUB,
        good="        if stream not in stream.user.streams:\n            return CaughtUp.CLOSED\n",
        bad="",
        check=f"{BY_EXAMPLE}::test_a_stream_that_a_gap_closed_is_written_nothing_more",
    ),
    Mutant(
        name="a place after a position leaves out the first event after it",
        file=RING,
        good="            return first.index - 1\n",
        bad="            return first.index\n",
        check=IN_ALL_ORDERS,
    ),
    Mutant(
        name="a place in the ring is claimed for a position from before it",
        file=RING,
        good="        if first.position > position + 1:\n            return None\n",
        bad="        position = max(position, first.position - 1)\n",
        check=IN_ALL_ORDERS,
    ),
    Mutant(
        name="one who leaves a chat of thousands makes it small",
        file=HUB,
        good="            size = UNCOUNTED\n",
        bad="            pass\n",
        check=f"{BY_EXAMPLE}::test_a_chat_too_large_to_be_counted_is_large_after_one_member_left",
    ),
)
