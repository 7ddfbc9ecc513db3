"""Curated bugs, each planted alone in a copy of the project, and the named check that has to catch it.

    make mutants                 all of them
    make mutants ARGS="reply"    those whose name contains the word

A check that is green with its bug planted is a hole in the proofs: the run names it and fails. It also fails where a
bug no longer fits the code (its text has moved), so that the list cannot rot.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hatch_build import compile_in

ROOT: Final = Path(__file__).resolve().parents[2]
TIMEOUT_S: Final = 240
PROTOCOL: Final = "tests/integration/sequencer/test_sequencer_protocol.py"
CUTOVER: Final = "tests/integration/projector/test_rebuild_and_cutover.py"
TABLES: Final = "tests/integration/projector/test_projector_tables.py"
SESSIONS: Final = "tests/integration/postgres/test_postgres_sessions.py"
SENDS: Final = "tests/unit/sequencer/test_sends.py"
CURSOR: Final = "tests/unit/schemas/test_cursor.py"
GUARD: Final = "tests/unit/schemas/test_guard.py"
SNAPSHOTS: Final = "tests/integration/sequencer/test_sequencer_snapshots.py"
MANNERS: Final = "tests/unit/runtime/test_http_manners.py"
CONNECTION: Final = "tests/unit/runtime/test_connection.py"
KAFKA_CLIENTS: Final = "tests/integration/kafka/test_kafka_clients.py"
KAFKA_SECURITY: Final = "tests/integration/kafka/test_kafka_security.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """A bug: in `file`, `good` becomes `bad`. `check` is what pytest is asked for."""

    name: str
    file: str
    good: str
    bad: str
    check: str


MUTANTS: Final = (
    Mutant(
        name="one client of Kafka is opened without its security",
        file="services/runtime/kafka/reader.py",
        good="            **self._kafka.client_options(),\n",
        bad="            bootstrap_servers=self._kafka.bootstrap_servers,\n",
        check="tests/unit/house/test_kafka_clients.py::test_every_client_of_kafka_takes_its_connection_from_one_home",
    ),
    Mutant(
        name="the host name in a broker's certificate is not verified",
        file="services/runtime/tls.py",
        good="    context.follow(files)\n",
        bad="    context.follow(files)\n    context.check_hostname = False\n",
        check=f"{KAFKA_SECURITY}::test_a_broker_with_the_certificate_of_another_host_is_refused",
    ),
    Mutant(
        name="a topic that we may not see is one that is not there",
        file="services/runtime/kafka/deadline.py",
        good="    if issubclass(error, NOT_ALLOWED):\n",
        bad='    if issubclass(error, NOT_ALLOWED) and not what.startswith("describe"):\n',
        check=f"{KAFKA_SECURITY}::test_a_right_that_is_missing_is_said_with_where_to_get_it",
    ),
    Mutant(
        name="a replaced certificate is shown only after a restart",
        file="services/runtime/tls.py",
        good="        self._current = self._loaded()\n\n    def _loaded",
        bad="        self._loaded()\n\n    def _loaded",
        check="tests/integration/ingest/test_https.py::test_a_certificate_is_replaced_at_sighup_without_a_connection_lost",
    ),
    Mutant(
        name="a right that the sequencer needs is not printed",
        file="services/ops/rights/kafka.py",
        good='("Read", "Delete", "DescribeConfigs")',
        bad='("Read", "DescribeConfigs")',
        check="tests/acceptance/test_secure_stack.py",
    ),
    Mutant(
        name="a batch that could not be written does not count as lag",
        file="services/projector/following/consumer.py",
        good="        return (self._unwritten or self._batch).first_ms or None\n",
        bad="        return self._batch.first_ms or None\n",
        check="tests/integration/projector/test_projector_worker.py::test_postgres_away_is_waited_for_and_said",
    ),
    Mutant(
        name="the record that stops a partition does not count as lag",
        file="services/projector/following/consumer.py",
        good="first_ms=batch.stop_ms, ",
        bad="",
        check="tests/integration/projector/test_projector_worker.py"
        "::test_an_unknown_event_type_stops_the_partition_with_everything_before_it_written",
    ),
    Mutant(
        name="an issuer may lead to keys without TLS",
        file="services/runtime/access/signing_keys.py",
        good="        if not is_safe_key_url(newurl):\n",
        bad="        if not newurl:\n",
        check="tests/unit/runtime/test_auth.py::test_no_key_is_fetched_from_where_the_issuer_must_not_lead",
    ),
    Mutant(
        name="a session takes the defaults it meets",
        file="services/runtime/postgres/session.py",
        good="            await self.execute(pins.for_session)\n",
        bad="            pass\n",
        check=f"{SESSIONS}::test_no_default_of_database_role_or_shell_reaches_a_session",
    ),
    Mutant(
        name="a session that answered read-only is given out again",
        file="services/runtime/postgres/pool.py",
        good="            if is_spent(error):\n",
        bad="            if False:\n",
        check=f"{SESSIONS}::test_no_session_stays_read_only_longer_than_the_database",
    ),
    Mutant(
        name="a session from before the read-only database was writable is used",
        file="services/runtime/postgres/pool.py",
        good="        while session.began_s < self._oldest_s:\n",
        bad="        while False:\n",
        check=f"{SESSIONS}::test_no_session_stays_read_only_longer_than_the_database",
    ),
    Mutant(
        name="cursors are read for those who have left",
        file="services/query/sql/membership.sql",
        good="AND o.left_at IS NULL AND me.left_at IS NULL\n     ORDER BY o.read_seq",
        bad="AND o.left_at IS NULL\n     ORDER BY o.read_seq",
        check="tests/integration/query/test_query_plans.py"
        "::test_for_a_stranger_nothing_is_looked_up_but_the_row_that_is_not_there",
    ),
    Mutant(
        name="unknown fields are collected before they are cut",
        file="services/ingest/api/unknown.py",
        good="    if colons <= most + len(known):\n",
        bad="    if most:\n",
        check=f"{GUARD}::test_unknown_fields_are_refused_whatever_their_number",
    ),
    Mutant(
        name="however many values a body has, they are parsed",
        file="schemas/guard.py",
        good='and (len(raw) <= limits.BODY_PARTS or raw.count(b",") <= limits.BODY_PARTS)',
        bad="and raw",
        check="tests/unit/schemas/test_parse_body.py::test_more_values_than_any_command_has_are_refused_before_they_are_parsed",
    ),
    Mutant(
        name="every wrong item of a list is collected",
        file="services/ingest/api/requests.py",
        good="Field(fail_fast=True)",
        bad="Field(fail_fast=False)",
        check=f"{GUARD}::test_a_bad_request_costs_no_more_than_to_read_it",
    ),
    Mutant(
        name="one success ends an outage",
        file="services/runtime/health/dependencies.py",
        good="SUCCESSES_TO_RETURN: Final = 2\n",
        bad="SUCCESSES_TO_RETURN: Final = 1\n",
        check="tests/unit/runtime/test_dependencies.py::test_one_success_in_an_outage_is_not_the_end_of_it",
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
        name="the offset that a record claims is believed",
        file="services/runtime/kafka/plain_records.py",
        good='    if delta != index:\n        raise ValueError("a record\'s offset is not its place in the batch")\n',
        bad="    offset += delta - index\n",
        check="tests/unit/runtime/test_kafka_batches.py::test_a_record_that_says_it_is_elsewhere_is_undecodable_where_it_is",
    ),
    Mutant(
        name="compiled code believes the offset that a record claims",
        file="services/runtime/kafka/_framing.pyx",
        good="        if varint(b, &at, end) != self.index - 1:\n"
        '            raise ValueError("a record\'s offset is not its place in the batch")\n'
        "        record.offset = self.base_offset + self.index - 1\n",
        bad="        record.offset = self.base_offset + varint(b, &at, end)\n",
        check="tests/unit/runtime/test_kafka_batches.py::test_a_record_that_says_it_is_elsewhere_is_undecodable_where_it_is",
    ),
    Mutant(
        name="one record that cannot be decoded spoils those behind it",
        file="services/runtime/kafka/plain_records.py",
        good="            yield Undecodable(offset, str(error), max(appended_at, 0))\n",
        bad="            broken = str(error)\n            yield Undecodable(offset, broken, max(appended_at, 0))\n",
        check="tests/integration/sequencer/test_hostile_producer.py::test_one_bad_record_of_a_batch_does_not_spoil_the_others",
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
        name="of a member that is there twice the last one counts",
        file="services/ingest/api/duplicates.py",
        good="        if len(given) == len(pairs):\n",
        bad="        if given:\n",
        check="tests/unit/ingest/test_requests.py::test_a_bad_body_is_refused_with_the_place_of_the_fault",
    ),
    Mutant(
        name="an encoded slash separates",
        file="services/runtime/web/middleware.py",
        good='_ENCODED_SLASH.sub(b"%252F", raw_path)',
        bad="raw_path",
        check=f"{MANNERS}::test_an_encoded_slash_separates_nothing",
    ),
    Mutant(
        name="two Hosts are taken",
        file="services/runtime/web/middleware.py",
        good='not _is_host(only_header(scope, b"host"))',
        bad='b"host" not in scope[HEADERS]',
        check=f"{MANNERS}::test_a_request_names_its_host_exactly_once",
    ),
    Mutant(
        name="HEAD is not GET",
        file="services/runtime/web/middleware.py",
        good='        is_head = method == "HEAD"\n',
        bad="        is_head = False\n",
        check=f"{MANNERS}::test_head_is_get_without_the_body",
    ),
    Mutant(
        name="browsers cannot read a token",
        file="services/runtime/web/cors.py",
        good='    "Gapless-Token",\n',
        bad="",
        check="tests/unit/house/test_headers.py::test_every_header_that_is_set_is_exposed_to_browsers",
    ),
    Mutant(
        name="a trailer becomes a header",
        file="services/runtime/serving/connection.py",
        good="        self.headers = []  # for trailers, which are never merged into the headers of the request\n",
        bad="",
        check=f"{CONNECTION}::test_a_trailer_is_no_header",
    ),
    Mutant(
        name="half a header is not counted",
        file="services/runtime/serving/connection.py",
        good="            if self._phase != _IDLE:\n                self._count(len(data))\n",
        bad="            pass\n",
        check=f"{CONNECTION}::test_an_endless_head_or_trailer_ends_early_and_costs_nobody_else_anything",
    ),
    Mutant(
        name="a stalled body takes a place",
        file="services/runtime/web/request_bodies.py",
        good='        if message.get("more_body", False):\n',
        bad='        if message.get("more_body", False) and b"transfer-encoding" in dict(scope["headers"]):\n',
        check=f"{CONNECTION}::test_half_a_body_is_408_and_takes_no_place_from_others",
    ),
    Mutant(
        name="the announced length of a body is cut before its zeros",
        file="services/runtime/web/request_bodies.py",
        good='content_length.lstrip(b"0")[:_DIGITS]',
        bad="content_length[:_DIGITS]",
        check=f"{CONNECTION}::test_a_length_with_leading_zeros_is_the_length_that_it_is",
    ),
    Mutant(
        name="a connection that is being answered is given up for another",
        file="services/runtime/serving/connection.py",
        good="        self._phase = _IDLE\n        self._shared.waiting.pop(self, None)\n",
        bad="        self._phase = _IDLE\n",
        check=f"{CONNECTION}::test_one_connection_too_many_costs_the_one_that_has_waited_longest_for_its_client",
    ),
    Mutant(
        name="one token takes all the places",
        file="services/runtime/web/concurrency.py",
        good="        if of_caller >= self._limit_per_caller and caller:\n",
        bad="        if False:\n",
        check="tests/unit/runtime/test_http.py::test_one_token_takes_its_share_of_the_places_and_no_more",
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
        name="no term check in the validity rule",
        file="schemas/log.py",
        good="    if stamp.term < head.term:\n        return Verdict.VOID\n",
        bad="    if stamp.term < head.term and stamp.index <= head.index:\n        return Verdict.VOID\n",
        check="tests/unit/schemas/test_log.py::test_every_head_and_every_stamp_have_the_verdict_of_the_table",
    ),
    Mutant(
        name="a repeated copy counts",
        file="schemas/log.py",
        good="        if stamp.index <= head.index:\n            return Verdict.VOID\n",
        bad="        if stamp.index < head.index:\n            return Verdict.VOID\n",
        check="tests/unit/schemas/test_log.py::test_every_head_and_every_stamp_have_the_verdict_of_the_table",
    ),
    Mutant(
        name="a reader's fast path takes the next index from any writer",
        file="schemas/cursor.py",
        good="if stamp.term != term or stamp.index != index + 1 or",
        bad="if stamp.index != index + 1 or",
        check=f"{CURSOR}::test_any_log_has_the_events_and_the_head_of_the_table_however_it_is_split",
    ),
    Mutant(
        name="a reader's fast path takes a command that was answered before",
        file="schemas/cursor.py",
        good="stamp.index != index + 1 or stamp.command_offset <= command_offset:",
        bad="stamp.index != index + 1:",
        check=f"{CURSOR}::test_any_log_has_the_events_and_the_head_of_the_table_however_it_is_split",
    ),
    Mutant(
        name="a reader's time goes back",
        file="schemas/cursor.py",
        good="            if record.timestamp > timestamp_ms:\n                timestamp_ms = record.timestamp\n",
        bad="            timestamp_ms = record.timestamp\n",
        check=f"{CURSOR}::test_any_log_has_the_events_and_the_head_of_the_table_however_it_is_split",
    ),
    Mutant(
        name="a reader skips the outcome that it does not know",
        file="schemas/cursor.py",
        good="            self.stopped = Stop(records[at].offset, error)\n",
        bad="            self.stopped = Stop(records[at].offset, error)\n            at += 1\n",
        check=f"{CURSOR}::test_outcomes_alone_are_those_of_the_table_up_to_one_that_is_not_known",
    ),
    Mutant(
        name="an accepted outcome may lack its sender",
        file="schemas/wire/encoding.py",
        good="    if chat_id is None or sender_id is None or position is None:\n        raise LogCorrupt(",
        bad="    if chat_id is None or position is None:\n        raise LogCorrupt(",
        check="tests/unit/schemas/test_outcomes.py"
        "::test_an_accepted_outcome_without_chat_sender_or_position_is_corruption",
    ),
    Mutant(
        name="a reader decodes void records",
        file="schemas/cursor.py",
        good="        stamp = self._stamp_of(record)\n        verdict = classify(self.head, stamp)\n",
        bad="        stamp = self._stamp_of(record)\n        self._outcome_of(record)\n"
        "        verdict = classify(self.head, stamp)\n",
        check=f"{CURSOR}::test_a_void_record_is_read_no_further_than_its_stamp",
    ),
    Mutant(
        name="a reader does not see where an opening lets commands start",
        file="schemas/cursor.py",
        good="advance(self.head, stamp, record.timestamp, commands_from)",
        bad="advance(self.head, stamp, record.timestamp)",
        check=f"{CURSOR}::test_any_log_has_the_events_and_the_head_of_the_table_however_it_is_split",
    ),
    Mutant(
        name="the verifiers read by compiled code",
        file="schemas/cursor.py",
        good="self._outcome_of = outcome_of if compiled else read_outcome",
        bad="self._outcome_of = outcome_of",
        check=f"{CURSOR}::test_a_cursor_without_compiled_decoders_reads_by_the_plain_ones_alone",
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
        name="an edit shows what was deleted in the same batch",
        file="services/projector/writing/sql/apply.sql",
        good="CASE WHEN NOT m.deleted THEN m.message_text END",
        bad="m.message_text",
        check=f"{TABLES}::test_an_edit_rewrites_what_it_names_however_batches_are_cut_and_makes_nothing_unread",
    ),
    Mutant(
        name="an edit passes for a message that is replied to",
        file="services/sequencer/rules/state.py",
        good="    if seq >= REVISION:\n",
        bad="    if seq < 0:\n",
        check="tests/unit/sequencer/test_decide.py::test_an_edit_is_no_message_that_is_replied_to",
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
        name="an id in a body may end with a line end",
        file="schemas/bodies/body.py",
        good="[0-9a-f]{12}\\Z",
        bad="[0-9a-f]{12}$",
        check="tests/unit/schemas/test_parse_body.py::test_each_limit_holds_at_its_edge",
    ),
    Mutant(
        name="a body may have fields that its type does not have",
        file="schemas/bodies/body.py",
        good="forbid_unknown_fields=True",
        bad="forbid_unknown_fields=False",
        check="tests/contract/test_asyncapi.py::test_the_schema_takes_exactly_the_bodies_that_the_code_takes",
    ),
    Mutant(
        name="a message of nothing is a message",
        file="schemas/bodies/messages.py",
        good="        if self.text or not self.media_urls:\n",
        bad="        if self.text:\n",
        check="tests/unit/schemas/test_parse_body.py",
    ),
    Mutant(
        name="a key with a space and one with a plus are one",
        file="services/ingest/api/keys.py",
        good='.replace("+", "%2B")',
        bad="",
        check="tests/unit/ingest/test_keys.py::test_every_quoted_key_has_a_client_generated_id_that_no_other_has",
    ),
    Mutant(
        name="a key that looks like one with spaces is that key",
        file="services/ingest/api/keys.py",
        good='    if " " not in key and not key.startswith(SPACED):\n',
        bad='    if " " not in key:\n',
        check="tests/unit/ingest/test_keys.py::test_every_quoted_key_has_a_client_generated_id_that_no_other_has",
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
        name="a role does not reach the tables",
        file="services/projector/mapping/members.py",
        good="            if m.role is not None:\n",
        bad="            if False:\n",
        check="tests/unit/projector/test_rows.py::test_a_role_changes_the_role_and_nothing_else_of_a_member",
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
        name="a group that is created and renamed in one batch has its first name",
        file="services/projector/mapping/chats.py",
        good="name=chat.name or chat.created.name,",
        bad="name=chat.created.name,",
        check="tests/unit/projector/test_rows.py::test_a_new_name_changes_the_name_and_the_position_of_a_chat",
    ),
    Mutant(
        name="log verify lets a member rename a group",
        file="services/ops/verify/log/chats.py",
        good="    elif sender.role not in HIGH_ROLES:\n",
        bad="    elif False:\n",
        check="tests/unit/ops/test_log_checks.py",
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
        name="tables of a log that was cut and has grown again are gone on with",
        file="services/projector/following/consumer.py",
        good="known = self._last_record is None or self._last_record == record_digest(first)",
        bad="known = True",
        check="tests/integration/projector/test_projector_worker.py::test_a_position_of_another_log_is_refused[record]",
    ),
    Mutant(
        name="a cutover waits for a version that stands beyond the end of the log",
        file="services/projector/versions/cutover.py",
        good="return await positions(connection, self._old.version) | self._unreachable",
        bad="return await positions(connection, self._old.version)",
        check=f"{CUTOVER}::test_a_version_that_is_not_of_this_log_is_cut_over_from_at_the_end_of_the_log",
    ),
    Mutant(
        name="a version of another topic is taken for one of this log",
        file="services/projector/versions/cutover.py",
        good="return stand.topic_id == topic_id and stand.next_offset <= end_offset",
        bad="return stand.next_offset <= end_offset",
        check=f"{CUTOVER}::test_a_version_that_is_not_of_this_log_is_cut_over_from_at_the_end_of_the_log",
    ),
    Mutant(
        name="a version that nobody can feed is cut over to",
        file="services/projector/versions/cutover.py",
        good="            await consumer.check_history()\n",
        bad="",
        check=f"{CUTOVER}::test_a_version_that_is_not_of_this_log_is_not_cut_over_to",
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
        name="a partition is confirmed only by what is written",
        file="services/projector/following/worker.py",
        good="                await self._consumer.ask_end()\n                await self._consumer.confirm()\n",
        bad="                await self._consumer.ask_end()\n",
        check="tests/integration/projector/test_projector_worker.py::"
        "test_a_fed_partition_is_confirmed_though_nothing_is_to_be_written",
    ),
    Mutant(
        name="a row written by an older release looks like one that lost its detail",
        file="services/projector/versions/sql/projection/0004_detail.sql",
        good=" DEFAULT ''",
        bad="",
        check=f"{TABLES}::test_an_outcome_written_by_a_release_without_details_claims_none",
    ),
    Mutant(
        name="a rejection is projected without its detail",
        file="services/projector/mapping/rows.py",
        good="body.reason.value, body.detail\n",
        bad="body.reason.value, None\n",
        check=f"{TABLES}::test_a_rejection_is_stored_with_its_detail",
    ),
    Mutant(
        name="a detail that an older release did not store is reported as a difference",
        file="services/ops/verify/projection/verify.py",
        good="                fold.leave_out_details(indexes)\n",
        bad="                assert indexes\n",
        check="tests/integration/ops/test_verify_projection.py::test_the_detail_is_compared_unless_an_older_release_wrote_the_row",
    ),
    Mutant(
        name="a version of another mapping is cut over to",
        file="services/projector/versions/cutover.py",
        good="    if new.mapping_version != MAPPING_VERSION:\n",
        bad="    if not new.mapping_version:\n",
        check=f"{CUTOVER}::test_a_version_of_another_mapping_is_not_cut_over_to_and_gets_no_row",
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
        name="partitions that somebody added are assigned",
        file="services/runtime/kafka/group.py",
        good="{partition for partition in there if partition < self._count}",
        bad="set(there)",
        check=f"{KAFKA_CLIENTS}::test_partitions_beyond_the_logs_are_neither_assigned_nor_served",
    ),
    Mutant(
        name="partitions that somebody added are served if an older release assigns them",
        file="services/runtime/kafka/group.py",
        good=" for tp in assigned if tp.partition < self._partitions)",
        bad=" for tp in assigned)",
        check=f"{KAFKA_CLIENTS}::test_partitions_beyond_the_logs_are_neither_assigned_nor_served",
    ),
    Mutant(
        name="the topics decide how many partitions the log has",
        file="schemas/topics.py",
        good="isinstance(log_partitions, int) and log_partitions != spec.partitions:",
        bad="isinstance(log_partitions, str):",
        check="tests/unit/schemas/test_topics.py::"
        "test_what_the_log_was_written_for_decides_and_not_what_the_topics_have",
    ),
    Mutant(
        name="only the first partition's copies are counted",
        file="schemas/topics.py",
        good="    few = [p for p in _of_log(spec, found) if found.copies[p] < spec.replication_factor]\n",
        bad="    few = [p for p in _of_log(spec, found)[:1] if found.copies[p] < spec.replication_factor]\n",
        check="tests/unit/schemas/test_topics.py::"
        "test_fewer_copies_than_the_settings_say_are_a_fault_in_whichever_partition",
    ),
    Mutant(
        name="topics are not looked at again",
        file="services/runtime/kafka/topic_watch.py",
        good="                await asyncio.sleep(self._every_s)\n",
        bad="                await asyncio.sleep(1_000 * self._every_s)\n",
        check="tests/crash/test_topics_changed.py::"
        "test_a_setting_that_deletes_history_is_said_at_once_by_those_that_run",
    ),
    Mutant(
        name="libraries write what they like",
        file="services/runtime/observe/logs.py",
        good="    handler.addFilter(LibraryLines())\n",
        bad="",
        check="tests/unit/runtime/test_repeated_lines.py::test_the_logging_of_a_process_limits_its_libraries",
    ),
    Mutant(
        name="a discarded producer keeps its connections",
        file="services/runtime/kafka/discard.py",
        good="    client: Any = producer.client\n",
        bad="    if producer is not None:\n        return True\n    client: Any = producer.client\n",
        check="tests/integration/kafka/test_kafka_clients.py::"
        "test_a_discarded_producer_writes_nothing_when_the_broker_returns",
    ),
    Mutant(
        name="missing commands are skipped",
        file="services/sequencer/partition/term.py",
        good="        if first > resume:\n",
        bad="        if first > resume + 1_000_000:\n",
        check=f"{PROTOCOL}::test_missing_commands_stop_their_partition_and_no_other",
    ),
    Mutant(
        name="the digest of a later position is held against an earlier record",
        file="services/projector/writing/sql/apply.sql",
        good="WHERE partition = %(partition)s AND next_offset = %(next_offset)s AND last_record_at = next_offset;",
        bad="WHERE partition = %(partition)s AND %(next_offset)s >= 0 AND last_record_at = next_offset;",
        check="tests/integration/projector/test_projector_worker.py::"
        "test_a_projector_that_moves_on_while_another_opens_is_not_taken_for_another_log",
    ),
    Mutant(
        name="no position guard in the projector",
        file="services/projector/writing/sql/apply.sql",
        good="WHERE partition = %(partition)s AND next_offset = %(from_offset)s AND topic_id = %(topic_id)s;",
        bad="WHERE partition = %(partition)s AND %(from_offset)s >= 0 AND topic_id = %(topic_id)s;",
        check="tests/integration/projector/test_projector_worker.py::test_two_batches_at_the_guard_at_once_let_one_through",
    ),
    Mutant(
        name="a deleted own message counts as deleted and as own",
        file="services/projector/writing/sql/apply.sql",
        good="SET own_live_after_read = p.own_live_after_read - own.deleted\n",
        bad="SET own_live_after_read = p.own_live_after_read - 0 * own.deleted\n",
        check=f"{TABLES}::test_an_unread_count_leaves_deleted_messages_out_and_counts_an_own_one_once",
    ),
    Mutant(
        name="an own message below the cursor is taken from those above when it is deleted",
        file="services/projector/writing/sql/apply.sql",
        good="    WHERE d.seq > sender.read_seq\n",
        bad="",
        check=f"{TABLES}::test_an_unread_count_leaves_deleted_messages_out_and_counts_an_own_one_once",
    ),
    Mutant(
        name="a message that its batch deletes stays among its sender's",
        file="services/projector/mapping/messages.py",
        good="[seq for seq in member.own_after_read if (chat_id, seq) not in here]",
        bad="list(member.own_after_read)",
        check=f"{TABLES}::test_an_unread_count_leaves_deleted_messages_out_and_counts_an_own_one_once",
    ),
    Mutant(
        name="a deletion is counted twice in the blocks that it had a place in",
        file="services/projector/writing/sql/apply.sql",
        good="    deleted = b.deleted + excluded.deleted, places = b.places | excluded.places;\n",
        bad="    deleted = b.deleted + 2 * excluded.deleted, places = b.places | excluded.places;\n",
        check=f"{TABLES}::test_an_unread_count_leaves_deleted_messages_out_and_counts_an_own_one_once",
    ),
    Mutant(
        name="a block that begins where one of the next span does is left out",
        file="services/projector/versions/sql/views.sql",
        good="AND b.block > in_seq / 4096 AND b.block < (in_seq / 65536 + 1) * 16)",
        bad="AND b.block > in_seq / 4096 AND b.block < in_seq / 65536 * 16 + 15)",
        check=f"{TABLES}::test_unread_reads_a_handful_of_rows_beside_half_a_million_deleted_messages",
    ),
    Mutant(
        name="void records are projected",
        file="schemas/cursor.py",
        good="        if verdict is Verdict.VOID:\n            event = Void(record.offset, stamp)\n"
        "            self.voids += 1\n        elif verdict is Verdict.VALID:\n",
        bad="        if verdict is Verdict.VOID and stamp.index == 0:\n            event = Void(record.offset, stamp)\n"
        "            self.voids += 1\n        elif stamp.index:\n",
        check="tests/integration/projector/test_projector_worker.py::"
        "test_what_is_in_the_log_is_in_the_tables_and_void_records_are_not",
    ),
    Mutant(
        name="a member who joined after a message has read it",
        file="services/query/api/delivery_status.py",
        good="first_joined is None or first_joined >= seq:",
        bad="first_joined is None:",
        check="tests/integration/query/test_query_ticks.py::"
        "test_every_delivery_status_is_that_of_the_members_who_were_there_before_the_message",
    ),
    Mutant(
        name="of a chat's last message the sender is its own witness",
        file="services/query/sql/chats.sql",
        good=" WHERE o.chat_id = f.chat_id AND o.left_at IS NULL AND o.user_id <> m.sender_id\n"
        " ORDER BY o.joined_seq, o.user_id\n",
        bad=" WHERE o.chat_id = f.chat_id AND o.left_at IS NULL\n ORDER BY o.joined_seq, o.user_id\n",
        check="tests/integration/query/test_query_ticks.py::"
        "test_every_delivery_status_is_that_of_the_members_who_were_there_before_the_message",
    ),
    Mutant(
        name="two columns of a message change places",
        file="services/query/sql/messages.sql",
        good="m.position, m.changed_position,",
        bad="m.changed_position, m.position,",
        check="tests/integration/query/test_query_history.py"
        "::test_the_columns_of_the_sql_fragments_are_the_parameters_of_their_serializers_in_order",
    ),
    Mutant(
        name="the verifier does not know a column",
        file="services/ops/verify/projection/tables.py",
        good='        "edited_at": INSTANT,\n',
        bad="",
        check=f"{TABLES}::test_a_column_of_the_tables_is_shown_by_the_views_and_proven_by_the_verifier",
    ),
    Mutant(
        name="two columns of a new message change places",
        file="services/projector/mapping/tables.py",
        good="    sent_at: datetime\n    original_sent_at: datetime | None\n    deleted_at: datetime | None\n",
        bad="    sent_at: datetime\n    deleted_at: datetime | None\n    original_sent_at: datetime | None\n",
        check=f"{TABLES}::test_the_rows_that_are_added_have_the_columns_and_types_of_their_tables",
    ),
    Mutant(
        name="readers do not wait for the switch",
        file="services/query/sql/snapshot.sql",
        good="LOCK TABLE chat.active_projection IN ACCESS SHARE MODE;",
        bad="SELECT 1;",
        check="tests/integration/query/test_query_snapshot.py::test_a_reader_does_not_step_back_over_a_switch_of_projections",
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
    Mutant(
        name="GAPLESS_PURE is ignored",
        file="schemas/wire/extensions.py",
        good='    if os.environ.get(PURE_VARIABLE, "") not in ("", "0"):\n        return None\n',
        bad="",
        check="tests/unit/schemas/test_extensions.py::test_the_variable_turns_every_extension_off",
    ),
    Mutant(
        name="half an installation passes for none",
        file="schemas/wire/extensions.py",
        good="    if installed != (find_spec(_FIRST) is not None):",
        bad="    if False:",
        check="tests/unit/schemas/test_extensions.py",
    ),
    Mutant(
        name="an id that is forged is a command's",
        file="schemas/wire/_scan.pyx",
        good="            if command_key is None:\n                return None\n",
        bad="",
        check="tests/unit/schemas/test_records.py::test_a_command_is_read_as_the_plain_way_reads_it",
    ),
    Mutant(
        name="a message of a replaced writer reaches the tables",
        file="schemas/wire/_scan.pyx",
        good="if its_term != term or its_index != index + 1",
        bad="if its_index != index + 1",
        check="tests/unit/projector/test_messages.py::test_the_run_ends_before_a_record_that_is_not_the_next",
    ),
    Mutant(
        name="the tables of a plain message have its seq for its position",
        file="services/projector/writing/_copy.pyx",
        good="        _put_integer(to + changed_position, message.position, 8)",
        bad="        _put_integer(to + changed_position, message.seq, 8)",
        check="tests/integration/projector/test_projector_batches.py::"
        "test_any_cutting_of_a_history_into_batches_gives_the_same_tables",
    ),
    Mutant(
        name="a slow start is given up though it works",
        file="devstack/life.py",
        good="        if works or vitals.lines > self.seen.lines:\n",
        bad="        if vitals.lines > self.seen.lines:\n",
        check="tests/unit/devstack/test_life.py",
    ),
    Mutant(
        name="a server that repeats itself is taken for alive",
        file="devstack/life.py",
        good='self._noise.sub("", line)',
        bad="line",
        check="tests/unit/devstack/test_life.py",
    ),
    Mutant(
        name="bidirectional marks reach the terminal",
        file="services/runtime/observe/plain_text.py",
        good='frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})',
        bad='frozenset({"Cc", "Cs", "Zl", "Zp"})',
        check="tests/unit/runtime/test_plain_text.py",
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
    Mutant(
        name="the test oracle lets every member delete every message",
        file="tests/oracle/messages.py",
        good='chat.kind == "group" and me.role != "member"',
        bad='chat.kind == "group"',
        check="tests/unit/oracle/test_expected.py::test_a_message_is_deleted_by_its_author_or_a_moderator",
    ),
    Mutant(
        name="the database has a default password",
        file="compose.yaml",
        good="POSTGRES_PASSWORD: ${GAPLESS_POSTGRES_PASSWORD:?is",
        bad="POSTGRES_PASSWORD: ${GAPLESS_POSTGRES_PASSWORD:-is",
        check="tests/unit/house/test_compose.py::test_no_secret_has_a_default",
    ),
    Mutant(
        name="a library is free whose private parts are used",
        file="pyproject.toml",
        good='"psycopg[binary,pool]==3.3.9"',
        bad='"psycopg[binary,pool]>=3.3.9"',
        check="tests/unit/house/test_private_parts.py",
    ),
)


def main(wanted: list[str]) -> int:
    chosen = [m for m in MUTANTS if all(word in m.name for word in wanted)]
    if not chosen:
        print("no mutant has such a name")
        return 2
    survivors = []
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        for mutant in chosen:
            began = time.monotonic()
            caught = _caught(mutant, Path(folder) / "copy")
            verdict = "caught" if caught else "SURVIVED"
            print(f"{verdict:9}{mutant.name:55}{time.monotonic() - began:5.0f} s  {mutant.check}", flush=True)
            if not caught:
                survivors.append(mutant)
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} curated bugs were caught")
    return 1 if survivors else 0


def _caught(mutant: Mutant, copy: Path) -> bool:
    """Whether the check fails with the bug planted, by a failed test and nothing else."""
    _copy_project(copy)
    path = copy / mutant.file
    text = path.read_text()
    if text.count(mutant.good) != 1:
        raise SystemExit(f"{mutant.name}: its text stands {text.count(mutant.good)} times in {mutant.file}")
    path.write_text(text.replace(mutant.good, mutant.bad))
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", mutant.check]
    if path.suffix == ".pyx" and not compile_in(copy):  # the others run where nothing is compiled
        raise SystemExit(f"{mutant.name}: there is no C compiler here")
    # PYTHONPATH: what the tests start as processes of their own is the copy, too.
    environment = {**os.environ, "PYTHONPATH": str(copy)}
    try:
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return True  # the bug made the system stand still, and the test would have said so in the end
    if done.returncode not in (0, 1):
        raise SystemExit(
            f"{mutant.name}: pytest could not run {mutant.check}:\n{done.stdout[-2000:]}{done.stderr[-500:]}"
        )
    return done.returncode == 1


def _copy_project(copy: Path) -> None:
    shutil.rmtree(copy, ignore_errors=True)
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True, text=True,
    ).stdout  # fmt: skip
    for name in filter(None, files.split("\0")):
        source = ROOT / name
        if source.is_file():
            target = copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
