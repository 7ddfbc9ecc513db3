"""Curated bugs in the sequencer."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

PROTOCOL: Final = "tests/integration/sequencer/test_sequencer_protocol.py"
SENDS: Final = "tests/unit/sequencer/test_sends.py"
SNAPSHOTS: Final = "tests/integration/sequencer/test_sequencer_snapshots.py"

MUTANTS: Final = (
    Mutant(
        name="a retried edit is decided anew",
        file="services/sequencer/rules/evolve.py",
        good="if outcome.client_generated_id is not None and keyed:",
        bad="if outcome.client_generated_id is not None and keyed and revision is None:",
        check="tests/unit/sequencer/test_two_devices.py",
    ),
    Mutant(
        name="a repeat is told of the chat as it is now",
        file="services/sequencer/rules/decide.py",
        good="figures=AcceptedFigures(seq=original.seq, position=original.position, revision=original.revision),",
        bad="figures=AcceptedFigures(seq=original.seq, position=view.chat(command.chat_id).last_position"
        ", revision=original.revision),",
        check="tests/unit/sequencer/test_two_devices.py",
    ),
    Mutant(
        name="a removed member's retry is refused",
        file="services/sequencer/rules/decide.py",
        good="    original = view.dedup(command_key(command.chat_id, command.command_id))\n    if original is None:\n",
        bad="    original = view.dedup(command_key(command.chat_id, command.command_id))\n"
        "    me = view.member((command.chat_id, command.sender_id))\n"
        "    if original is None or (me is not None and not me.present):\n",
        check="tests/unit/sequencer/test_two_devices.py",
    ),
    Mutant(
        name="a user has any number of reactions to a message",
        file="services/sequencer/rules/reactions.py",
        good="    if len(own) >= limits.REACTIONS_OF_A_USER:\n",
        bad="    if False:\n",
        check="tests/unit/sequencer/test_decide.py::"
        "test_the_reactions_of_a_user_and_the_kinds_of_a_message_have_limits",
    ),
    Mutant(
        name="a kind of reaction that is removed still counts",
        file="services/sequencer/rules/reactions.py",
        good="if count > 0}",
        bad="}",
        check="tests/unit/sequencer/test_decide.py::"
        "test_the_reactions_of_a_user_and_the_kinds_of_a_message_have_limits",
    ),
    Mutant(
        name="a deleted message is reacted to",
        file="services/sequencer/rules/reactions.py",
        good="    if DELETED.of(view, message) is not None:\n",
        bad="    if False:\n",
        check="tests/unit/sequencer/test_decide.py::test_a_message_that_is_not_there_or_deleted_is_not_reacted_to",
    ),
    Mutant(
        name="a partition is nobody's trouble while the group is silent",
        file="services/sequencer/responsibility.py",
        good="            elif view.status is Status.STOPPED or view.assigned:\n",
        bad="            elif view.status is Status.STOPPED:\n",
        check="tests/unit/sequencer/test_responsibility.py::"
        "test_a_partition_that_the_group_gave_us_is_our_trouble_until_it_is_served",
    ),
    Mutant(
        name="an idle sequencer does not ask whether Kafka answers",
        file="services/sequencer/app.py",
        good="async with probed(*dependencies):\n",
        bad="async with probed():\n",
        check="tests/crash/test_outages_are_said.py::"
        "test_every_idle_process_says_that_kafka_is_gone_and_when_it_is_back",
    ),
    Mutant(
        name="a clock that has jumped is believed until the next comparison",
        file="services/sequencer/clock.py",
        good="return wall_ms if abs(wall_ms - broker_ms) <= self._max_skew_ms else round(broker_ms)",
        bad="return wall_ms or round(broker_ms)",
        check="tests/unit/sequencer/test_clock.py::test_the_time_is_never_further_from_the_brokers_than_allowed",
    ),
    Mutant(
        name="a process with a wrong clock serves",
        file="services/sequencer/app.py",
        good="            if not await until_right(clock, broker_time.read, supervisor, readiness):\n"
        "                return\n",
        bad="            clock.compare(await broker_time.read())\n",
        check="tests/integration/sequencer/test_sequencer_clock.py::"
        "test_a_clock_that_is_years_ahead_opens_nothing_and_one_that_jumps_pushes_no_time",
    ),
    Mutant(
        name="an outcome is appended for a command that was read twice",
        file="services/sequencer/partition/batch.py",
        good="        if command.offset <= run.command_offset:\n",
        bad="        if command.offset < 0:\n",
        check="tests/unit/sequencer/test_batch.py::"
        "test_a_command_that_does_not_come_after_the_one_before_it_is_not_decided",
    ),
    Mutant(
        name="the fast path takes a command that was read twice",
        file="services/sequencer/partition/_sends.pyx",
        good="        if send.record.offset <= command_offset:\n            break\n",
        bad="",
        check=f"{SENDS}::test_a_send_that_does_not_come_after_the_one_before_it_is_not_decided",
    ),
    Mutant(
        name="a snapshot's digests are not looked at",
        file="services/sequencer/snapshots/object_store.py",
        good="        if (count, digest.hexdigest()) != (file.bytes, file.digest):\n",
        bad="        if count != file.bytes:\n",
        check=f"{SNAPSHOTS}::test_a_snapshot_that_is_not_what_it_should_be_is_refused_and_the_log_is_folded",
    ),
    Mutant(
        name="a snapshot of a log that was truncated is installed",
        file="services/sequencer/snapshots/restore.py",
        good="if manifest.position.next_offset > end or not await in_log(manifest.position):",
        bad="if manifest.position.next_offset > end:",
        check=f"{SNAPSHOTS}::test_a_snapshot_that_is_not_what_it_should_be_is_refused_and_the_log_is_folded",
    ),
    Mutant(
        name="a snapshot is of a later moment than it tells",
        file="services/sequencer/store/rocks.py",
        good='return max((entry.name for entry in os.scandir(folder) if entry.name.endswith(".log")), default="")',
        bad='return ""',
        check="tests/unit/sequencer/test_snapshots.py::test_a_state_that_was_written_out_again_is_not_that_of_its_moment",
    ),
    Mutant(
        name="reply before the acknowledgement",
        file="services/sequencer/partition/term.py",
        good="        crash_point(CRASH_BEFORE_APPEND)\n",
        bad="        crash_point(CRASH_BEFORE_APPEND)\n        self._replies.publish(batch.replies)\n",
        check=f"{PROTOCOL}::test_a_zombies_append_is_void_and_nobody_was_told_of_it",
    ),
    Mutant(
        name="apply before the acknowledgement",
        file="services/sequencer/partition/term.py",
        good="        crash_point(CRASH_BEFORE_APPEND)\n",
        bad="        crash_point(CRASH_BEFORE_APPEND)\n"
        "        self._store.apply(batch.changes, self._store.position)\n",
        check=f"{PROTOCOL}::test_an_unknown_append_is_never_retried_on_top_and_the_command_is_decided_once",
    ),
    Mutant(
        name="resume at the last decided command",
        file="services/sequencer/partition/term.py",
        good="resume = self._store.position.head.command_offset + 1",
        bad="resume = max(0, self._store.position.head.command_offset)",
        check=f"{PROTOCOL}::test_an_unknown_append_is_never_retried_on_top_and_the_command_is_decided_once",
    ),
    Mutant(
        name="resume one command too far",
        file="services/sequencer/partition/term.py",
        good="resume = self._store.position.head.command_offset + 1",
        bad="resume = self._store.position.head.command_offset + 2 * (self._store.position.head.index > 1)"
        " + (self._store.position.head.index <= 1)",
        check=f"{PROTOCOL}::test_an_unknown_append_is_never_retried_on_top_and_the_command_is_decided_once",
    ),
    Mutant(
        name="any acknowledgement is the expected one",
        file="services/sequencer/partition/term.py",
        good="        if base == expected:",
        bad="        if base >= expected:",
        check=f"{PROTOCOL}::test_a_zombies_append_is_void_and_nobody_was_told_of_it",
    ),
    Mutant(
        name="the fold of step 6 is taken for granted",
        file="services/sequencer/partition/term.py",
        good="        if ours != {Decided}:",
        bad="        if not ours:",
        check=f"{PROTOCOL}::test_a_zombies_append_is_void_and_nobody_was_told_of_it",
    ),
    Mutant(
        name="an unknown append is retried in the same term",
        file="services/sequencer/partition/term.py",
        good="        base = append.acknowledged.result()",
        bad="        try:\n            base = append.acknowledged.result()\n        except AppendUnknown:\n"
        "            base = await self._appender.append(batch.records, 5.0)",
        check=f"{PROTOCOL}::test_an_unknown_append_is_never_retried_on_top_and_the_command_is_decided_once",
    ),
    Mutant(
        name="dedupe is not written",
        file="services/sequencer/rules/evolve.py",
        good="    if outcome.client_generated_id is not None and",
        bad="    if outcome.client_generated_id is None and",
        check="tests/unit/sequencer/test_decide.py::test_a_repeat_gets_the_originals_figures_for_ever",
    ),
    Mutant(
        name="a command type has no rule",
        file="services/sequencer/rules/receipts.py",
        good="    CommandType.DELIVERED_MARK: Rule(deliver, delivered_advanced),\n",
        bad="",
        check="tests/unit/house/test_types.py::test_every_room_has_an_entry_for_each_type_or_plans_it",
    ),
    Mutant(
        name="rights before repeats",
        file="services/sequencer/rules/decide.py",
        good="        repeat = _repeat(view, command, at_ms)\n",
        bad="        if command.type == 'message.send.v1':\n"
        "            from services.sequencer.rules.rule import as_member\n            as_member(view, command)\n"
        "        repeat = _repeat(view, command, at_ms)\n",
        check="tests/unit/sequencer/test_decide.py::test_a_repeat_comes_before_every_right_and_every_limit",
    ),
    Mutant(
        name="anyone may delete any message",
        file="services/sequencer/rules/messages.py",
        good='    moderates = chat.kind == "group" and sender.role != "member"\n',
        bad="    moderates = True\n",
        check="tests/unit/sequencer/test_decide.py::"
        "test_a_message_is_deleted_by_its_author_and_in_a_group_by_owners_and_admins",
    ),
    Mutant(
        name="an owner edits what others wrote",
        file="services/sequencer/rules/messages.py",
        good="    if view.author(*message) != command.sender_id:\n",
        bad='    if view.author(*message) != command.sender_id and chat.kind == "direct":\n',
        check="tests/unit/sequencer/test_decide.py::test_a_message_is_edited_by_its_author_alone",
    ),
    Mutant(
        name="an edit of another revision is accepted",
        file="services/sequencer/rules/messages.py",
        good="    if body.if_revision not in (None, last.revision):\n",
        bad="    if body.if_revision not in (None, last.revision) and last.revision == 0:\n",
        check="tests/unit/sequencer/test_decide.py::test_an_edit_of_another_revision_is_stale_and_says_which_there_is",
    ),
    Mutant(
        name="an edit passes for a message that is replied to",
        file="services/sequencer/rules/state.py",
        good="    if seq >= REVISION:\n",
        bad="    if seq < 0:\n",
        check="tests/unit/sequencer/test_decide.py::test_an_edit_is_no_message_that_is_replied_to",
    ),
    Mutant(
        name="both owners of a direct chat delete what the other wrote",
        file="services/sequencer/rules/messages.py",
        good='    moderates = chat.kind == "group" and sender.role != "member"\n',
        bad='    moderates = sender.role != "member"\n',
        check="tests/unit/sequencer/test_decide.py::"
        "test_in_a_direct_chat_nobody_deletes_what_the_other_wrote_though_both_own_it",
    ),
    Mutant(
        name="a creator joins again though others are there",
        file="services/sequencer/rules/members.py",
        good="if sender.creator and chat.members == 0 and",
        bad="if sender.creator and not sender.present and",
        check="tests/unit/sequencer/test_decide.py::"
        "test_the_creator_of_a_group_that_everybody_has_left_joins_again_as_owner",
    ),
    Mutant(
        name="anybody joins again a group that everybody has left",
        file="services/sequencer/rules/members.py",
        good="if sender.creator and chat.members == 0 and",
        bad="if chat.members == 0 and",
        check="tests/unit/sequencer/test_decide.py::"
        "test_the_creator_of_a_group_that_everybody_has_left_joins_again_as_owner",
    ),
    Mutant(
        name="a creator who has come back once is a creator no more",
        file="services/sequencer/rules/members.py",
        good="creator=before is not None and before.creator)",
        bad="creator=before is None)",
        check="tests/unit/sequencer/test_decide.py::"
        "test_the_creator_of_a_group_that_everybody_has_left_joins_again_as_owner",
    ),
    Mutant(
        name="a group has the id of any key of anybody",
        file="services/sequencer/rules/chats.py",
        good="            expected = ids.keyed_chat_id(sender, command.client_generated_id)\n",
        bad="            expected = command.chat_id or expected\n",
        check="tests/unit/sequencer/test_decide.py::test_a_group_may_have_the_id_of_its_creators_key_and_then_any_name",
    ),
    Mutant(
        name="the disk forgets who created a chat",
        file="services/sequencer/store/format.py",
        good="    flags = _PRESENT * m.present | _CREATOR * m.creator\n",
        bad="    flags = _PRESENT * m.present\n",
        check="tests/unit/sequencer/test_store.py::test_a_member_comes_back_from_the_disk_as_it_was",
    ),
    Mutant(
        name="the last owner of a group steps down",
        file="services/sequencer/rules/members.py",
        good='    if member.role == "owner" and chat.owners == 1:\n',
        bad="    if False:\n",
        check="tests/unit/sequencer/test_decide.py::test_the_last_owner_stays_one_until_another_is_made",
    ),
    Mutant(
        name="a role that changes is no change of the number of owners",
        file="services/sequencer/rules/members.py",
        good='owners=(body.role == "owner") - (member.role == "owner"))',
        bad="owners=0)",
        check="tests/unit/sequencer/test_decide.py::test_the_last_owner_stays_one_until_another_is_made",
    ),
    Mutant(
        name="a member renames a group",
        file="services/sequencer/rules/chats.py",
        good='    if sender.role == "member":\n',
        bad="    if False:\n",
        check="tests/unit/sequencer/test_decide.py::test_owners_and_admins_rename_a_group_and_nobody_a_direct_chat",
    ),
    Mutant(
        name="the name given at creation is forgotten",
        file="services/sequencer/rules/chats.py",
        good="    if body.name is not None:\n",
        bad="    if False:\n",
        check="tests/unit/sequencer/test_decide.py::"
        "test_the_present_name_is_unchanged_and_a_repeat_does_not_undo_a_later_name",
    ),
    Mutant(
        name="a run of authors is written a place too far",
        file="services/sequencer/store/rocks.py",
        good="            first = gathered.chats[chat_id].last_seq - len(senders) + 1\n",
        bad="            first = gathered.chats[chat_id].last_seq - len(senders) + 1 + (len(senders) > 1)\n",
        check="tests/unit/sequencer/test_store.py::"
        "test_the_author_of_a_message_is_found_in_whatever_run_it_was_written",
    ),
    Mutant(
        name="the batch in flight is not seen by the next",
        file="services/sequencer/partition/batch.py",
        good="before.changes if before is not None else None",
        bad="None",
        check="tests/unit/sequencer/test_batch.py::test_any_cut_into_batches_and_any_overlap_gives_the_same_outcomes",
    ),
    Mutant(
        name="the position is not stored with the changes",
        file="services/sequencer/store/rocks.py",
        good="        put(META, pack_position(self._topic_id, self._position))\n",
        bad="        if not gathered.dedup:\n            put(META, pack_position(self._topic_id, self._position))\n",
        check="tests/unit/sequencer/test_store.py::test_a_crash_leaves_the_state_of_the_last_write_whole",
    ),
    Mutant(
        name="a writer does not look whether its log was cut under it",
        file="services/sequencer/partition/term.py",
        good="            if position.next_offset > end or not await is_in_log(events, position):\n",
        bad="            if position.next_offset < 0:\n",
        check="tests/simulation/test_findings.py::"
        "test_an_idle_writer_whose_log_was_cut_under_it_folds_what_is_left_and_writes_on",
    ),
    Mutant(
        name="a state of another log is believed",
        file="services/sequencer/store/fold.py",
        good="return record.offset == position.next_offset - 1 and record_digest(record) == position.last_record",
        bad="return record.offset >= 0",
        check=f"{PROTOCOL}::test_a_state_that_is_not_of_this_log_is_thrown_away[of another history]",
    ),
    Mutant(
        name="a standby opens for any term whose writer is silent",
        file="services/sequencer/peers/failure_detector.py",
        good="if peer.heartbeat.serves.get(partition) == term)",
        bad="if partition in peer.heartbeat.serves)",
        check="tests/unit/sequencer/test_failure_detector.py::test_only_the_writer_of_the_term_in_the_log_counts",
    ),
    Mutant(
        name="after an own pause the others are judged at once",
        file="services/sequencer/peers/failure_detector.py",
        good="        if late and not peer.suspected:\n",
        bad="        if False:\n",
        check="tests/unit/sequencer/test_failure_detector.py::test_after_a_late_heartbeat_of_ones_own_the_others_have_longer",
    ),
    Mutant(
        name="who is asked to stop does not wait for its standby",
        file="services/sequencer/peers/handover.py",
        good="writer.term is None or detector.succeeded(partition, writer.term)",
        bad="True",
        check="tests/crash/test_standby.py::test_one_that_is_asked_to_stop_writes_on_until_another_does",
    ),
    Mutant(
        name="missing commands are skipped",
        file="services/sequencer/partition/term.py",
        good="        if first > resume:\n",
        bad="        if first > resume + 1_000_000:\n",
        check=f"{PROTOCOL}::test_missing_commands_stop_their_partition_and_no_other",
    ),
    Mutant(
        name="the fast path lets in who has left",
        file="services/sequencer/partition/_sends.pyx",
        good="if member is None or member is NOT_PREFETCHED or not member.present:",
        bad="if member is None or member is NOT_PREFETCHED:",
        check=f"{SENDS}::test_both_ways_say_the_same",
    ),
    Mutant(
        name="the fast path knows no repeats in the batch in flight",
        file="services/sequencer/partition/_sends.pyx",
        good="tuple([layer.dedup for layer in layers])",
        bad="tuple([layer.dedup for layer in layers if layer is not layers[1]])",
        check=f"{SENDS}::test_both_ways_say_the_same",
    ),
    Mutant(
        name="the fast path knows no end of an append",
        file="services/sequencer/partition/_sends.pyx",
        good="        if size and size + more > most_bytes:\n            break\n",
        bad="",
        check="tests/simulation/test_simulation.py::"
        "test_a_seed_is_the_same_run_where_compiled_code_reads_decides_and_writes",
    ),
)
