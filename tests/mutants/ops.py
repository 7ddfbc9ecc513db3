"""Curated bugs in the commands and the verifiers."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

TABLES: Final = "tests/integration/projector/test_projector_tables.py"

FOLLOWING: Final = "tests/unit/ops/test_following.py"
LIVE: Final = "tests/acceptance/test_a_chat_live.py"

SHOW: Final = "tests/integration/ops/test_show.py"
STATUS: Final = "tests/unit/ops/test_status.py"
LAG: Final = (
    "tests/integration/ops/test_ops_commands.py"
    "::test_lag_is_not_overstated_by_what_comes_meanwhile_and_that_is_not_ahead_of_the_log"
)
PLACES: Final = "tests/unit/ops/test_places.py"

MUTANTS: Final = (
    Mutant(
        name="bisection follows replaced writers",
        file="services/ops/inspect/places.py",
        good="highest = max((place.stamp.term for place in outcomes), default=0)",
        bad="highest = min((place.stamp.term for place in outcomes), default=0)",
        check=PLACES,
    ),
    Mutant(
        name="an outcome behind a higher term's opening is taken for a head",
        file="services/ops/inspect/places.py",
        good="p.stamp.term > outcome.stamp.term and p.offset < outcome.offset",
        bad="p.stamp.term > outcome.stamp.term and p.offset > outcome.offset",
        check=PLACES,
    ),
    Mutant(
        name="show calls a row that is not projected yet a difference",
        file="services/ops/inspect/found.py",
        good="        if each.offset >= applied:\n",
        bad="        if each.offset > applied + 1:\n",
        check=f"{SHOW}::test_what_is_not_projected_and_not_decided_yet_is_said",
    ),
    Mutant(
        name="show does not miss a row of an outcome",
        file="services/ops/inspect/found.py",
        good="            if rows.now_ms - each.outcome.at_ms < OUTCOMES_MUST_EXIST_MS:\n",
        bad="            if False:\n",
        check=f"{SHOW}::test_rows_that_differ_from_the_log_are_named",
    ),
    Mutant(
        name="log rejected counts what was before its time",
        file="services/ops/inspect/rejected.py",
        good="found.at_ms >= since_ms and ",
        bad="",
        check="tests/integration/ops/test_rejected.py",
    ),
    Mutant(
        name="lag reads the positions before the ends",
        file="services/ops/inspect/lag.py",
        good="    start, end = await events.bounds()\n    applied = await positions()\n",
        bad="    applied = await positions()\n    start, end = await events.bounds()\n",
        check=LAG,
    ),
    Mutant(
        name="lag takes what was applied meanwhile for a wrong log",
        file="services/ops/inspect/lag.py",
        good="beyond=max(0, position - newest_end)",
        bad="beyond=max(0, position - end + 0 * newest_end)",
        check=LAG,
    ),
    Mutant(
        name="status takes a replaced process for the writer",
        file="services/ops/inspect/status.py",
        good="heartbeat.serves.get(partition, 0) >= max(1, term)",
        bad="heartbeat.serves.get(partition, 0) >= 1",
        check=STATUS,
    ),
    Mutant(
        name="status does not see that no process writes a partition",
        file="services/ops/inspect/status.py",
        good="    if unwritten:\n",
        bad="    if False:\n",
        check=STATUS,
    ),
    Mutant(
        name="status believes a heartbeat that is outdated",
        file="services/ops/inspect/heartbeats.py",
        good="heartbeat.number > before[0].number",
        bad="True",
        check=STATUS,
    ),
    Mutant(
        name="top shows a rate of a topic that was made anew",
        file="services/ops/inspect/rates.py",
        good="return records / seconds if records >= 0 else None",
        bad="return abs(records) / seconds",
        check="tests/unit/ops/test_top.py",
    ),
    Mutant(
        name="top leaves out a partition without a writer",
        file="services/ops/cli/top_view.py",
        good="(each.writer is not None, -(by_partition",
        bad="(False, -(by_partition",
        check="tests/unit/ops/test_top.py",
    ),
    Mutant(
        name="a request id does not name the trace that its request starts",
        file="services/runtime/observe/trace_context.py",
        good="00-{trace_id_for(request_id)}-",
        bad="00-{random.getrandbits(128):032x}-",
        check="tests/unit/runtime/test_trace_context.py",
    ),
    Mutant(
        name="a request id of zeros becomes a trace id that is none",
        file="services/runtime/observe/trace_context.py",
        good=' and request_id.strip("0"):',
        bad=":",
        check="tests/unit/runtime/test_trace_context.py",
    ),
    Mutant(
        name="top hears a sequencer that has died since the last look",
        file="services/ops/inspect/heartbeats.py",
        good='decode_heartbeat(record.value or b""), loop.time())',
        bad='decode_heartbeat(record.value or b""), float("inf"))',
        check=STATUS,
    ),
    Mutant(
        name="show believes a replaced writer where nothing else is near",
        file="services/ops/inspect/places.py",
        good=" or not await self._counts(anchor[0] - 1, anchor[1].term):",
        bad=":",
        check=f"{SHOW}::test_from_any_offset_on_the_same_records_count_as_from_the_beginning",
    ),
    Mutant(
        name="show prints texts unasked",
        file="services/ops/cli/show_lines.py",
        good="        if not with_text:\n            del message",
        bad="        if with_text:\n            del message",
        check=f"{SHOW}::test_texts_are_shown_on_request_only",
    ),
    Mutant(
        name="chat follow shows a message again that a page had",
        file="services/ops/following/followed_chat.py",
        good='            if frame["message"]["seq"] <= self.last_seq:\n',
        bad="            if False:\n",
        check=f"{FOLLOWING}::test_what_a_page_had_is_not_shown_again_by_the_stream",
    ),
    Mutant(
        name="chat follow does not notice that an event is missing",
        file="services/ops/following/followed_chat.py",
        good="return prev is not None and prev > self.position\n",
        bad="return False\n",
        check=f"{FOLLOWING}::test_a_frame_whose_predecessor_was_not_received_is_noticed",
    ),
    Mutant(
        name="chat follow skips the first event after its pages",
        file="services/ops/following/follower.py",
        good='            position = page["position"] if position is None else position\n',
        bad='            position = page["position"] + 1\n',
        check=f"{LIVE}::test_a_terminal_that_was_cut_off_shows_every_message_once_and_in_order",
    ),
    Mutant(
        name="chat follow reads no changes after a gap",
        file="services/ops/following/follower.py",
        good="            yield from self._chat.of_changes(page)\n",
        bad="",
        check=f"{LIVE}::test_a_terminal_that_was_cut_off_shows_every_message_once_and_in_order",
    ),
    Mutant(
        name="the demo page does not know its own message when it comes back",
        file="services/ops/demo_page/demo.html",
        good="{ text: next.text }, { key: next.key }",
        bad="{ text: next.text }",
        check=f"{LIVE}::test_two_people_talk_in_two_browsers",
    ),
    Mutant(
        name="the demo page's own script is not the only one that may run",
        file="services/ops/demo_page/routes.py",
        good="""script-src {_hash_of(page, 'script')}""",
        bad="script-src 'unsafe-inline'",
        check="tests/unit/ops/test_demo_page.py",
    ),
    Mutant(
        name="log verify takes a reaction that is there already",
        file="services/ops/verify/log/reactions.py",
        good="    if reactions.has_reaction(chat_id, body.seq, user_id, body.emoji):\n",
        bad="    if False:\n",
        check="tests/unit/ops/test_log_checks.py",
    ),
    Mutant(
        name="a right that the sequencer needs is not printed",
        file="services/ops/rights/kafka.py",
        good='("Read", "Delete", "DescribeConfigs")',
        bad='("Read", "DescribeConfigs")',
        check="tests/acceptance/test_secure_stack.py",
    ),
    Mutant(
        name="the verifier of the log believes every stale",
        file="services/ops/verify/log/messages.py",
        good="body.if_revision in (None, last.revision):\n",
        bad="body.if_revision is None:\n",
        check="tests/unit/ops/test_log_checks.py",
    ),
    Mutant(
        name="the verifier of the log lets every member edit every message",
        file="services/ops/verify/log/messages.py",
        good="    if author not in (None, sender_id):\n",
        bad="    if author is None:\n",
        check="tests/unit/ops/test_log_checks.py",
    ),
    Mutant(
        name="log verify lets a member rename a group",
        file="services/ops/verify/log/chats.py",
        good="    elif sender.role not in HIGH_ROLES:\n",
        bad="    elif False:\n",
        check="tests/unit/ops/test_log_checks.py",
    ),
    Mutant(
        name="a detail that an older release did not store is reported as a difference",
        file="services/ops/verify/projection/verify.py",
        good="                fold.leave_out_details(indexes)\n",
        bad="                assert indexes\n",
        check="tests/integration/ops/test_verify_projection.py::test_the_detail_is_compared_unless_an_older_release_wrote_the_row",
    ),
    Mutant(
        name="the verifier does not know a column",
        file="services/ops/verify/projection/tables.py",
        good='        "edited_at": INSTANT,\n',
        bad="",
        check=f"{TABLES}::test_a_column_of_the_tables_is_shown_by_the_views_and_proven_by_the_verifier",
    ),
    Mutant(
        name="what forgets to escape reaches the terminal",
        file="services/ops/cli/terminal.py",
        good="yield Segment(visible_lines(segment.text), segment.style)",
        bad="yield segment",
        check="tests/unit/ops/test_terminal.py::test_what_forgets_to_escape_is_caught_by_the_net",
    ),
    Mutant(
        name="tables are cut in a pipe",
        file="services/ops/cli/terminal.py",
        good="return size if self.is_terminal else ConsoleDimensions(WIDE, size.height)",
        bad="return size",
        check="tests/unit/ops/test_terminal.py::test_a_cell_of_any_text_is_shown_as_it_is",
    ),
    Mutant(
        name="the verifier of the log has no reading of an event",
        file="services/ops/verify/log/messages.py",
        good="    EventType.MESSAGE_DELETED.value: Judge(deleted, apply_deleted),\n",
        bad="",
        check="tests/unit/house/test_types.py::test_every_room_has_an_entry_for_each_type_or_plans_it",
    ),
    Mutant(
        name="the verifier of the log lets every member delete every message",
        file="services/ops/verify/log/messages.py",
        good='(case.chat.kind == "direct" or sender.role not in HIGH_ROLES)',
        bad='case.chat.kind == "direct"',
        check="tests/unit/ops/test_log_checks.py",
    ),
)
