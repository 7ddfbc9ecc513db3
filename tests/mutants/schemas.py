"""Curated bugs in the contract."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

CURSOR: Final = "tests/unit/schemas/test_cursor.py"

MUTANTS: Final = (
    Mutant(
        name="a sync cursor has several spellings",
        file="schemas/sync_cursor.py",
        good="    if encode_sync_cursor(cursor) != text:\n",
        bad="    if len(encode_sync_cursor(cursor)) > len(text):\n",
        check="tests/unit/schemas/test_sync_cursor.py::test_what_encode_does_not_return_is_refused",
    ),
    Mutant(
        name="however many values a body has, they are parsed",
        file="schemas/guard.py",
        good='and (len(raw) <= limits.BODY_PARTS or raw.count(b",") <= limits.BODY_PARTS)',
        bad="and raw",
        check="tests/unit/schemas/test_parse_body.py::test_more_values_than_any_command_has_are_refused_before_they_are_parsed",
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
        name="a token counts as often as it is in a text",
        file="schemas/_tokens.pyx",
        good="        if not _is_among(found, count, &token):",
        bad="        if True:",
        check="tests/unit/schemas/test_search.py::test_the_compiled_tokens_are_the_plain_ones",
    ),
    Mutant(
        name="compiled code takes the words of a URL's scheme for those of a text",
        file="schemas/_tokens.pyx",
        good="    if all_bits > 0x7F or _has_url(text, size):",
        bad="    if all_bits > 0x7F:",
        check="tests/unit/schemas/test_search.py::test_compiled_code_makes_the_tokens_of_ascii_without_urls",
    ),
)
