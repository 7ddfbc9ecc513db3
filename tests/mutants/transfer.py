"""Curated bugs in the export and the import of a log."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

FORMAT: Final = "tests/unit/ops/test_transfer.py"
TRANSFER: Final = "tests/integration/ops/test_transfer.py"
ROOM: Final = "services/ops/transfer"

MUTANTS: Final = (
    Mutant(
        name="an export asks for the ends of the commands before those of the events",
        file=f"{ROOM}/export.py",
        good="for topic in Topic for p in range(self._kafka.partitions)}\n        for",
        bad="for topic in reversed(Topic) for p in range(self._kafka.partitions)}\n        for",
        check=f"{TRANSFER}::test_what_is_decided_during_an_export_is_for_the_next_one",
    ),
    Mutant(
        name="an export adds to the archive of another log",
        file=f"{ROOM}/export.py",
        good="if before is not None and before.log != log:",
        bad="if False and before is not None:",
        check=f"{TRANSFER}::test_nothing_is_exported_into_the_archive_of_another_log",
    ),
    Mutant(
        name="an export does not look whether the log still holds the archive's last record",
        file=f"{ROOM}/export.py",
        good="if not any(digest_of(pack_entry(entry)) == last.last_digest for entry in entries[:1]):",
        bad="if not entries:",
        check=f"{TRANSFER}::test_a_log_that_lost_records_is_not_exported_over_its_archive",
    ),
    Mutant(
        name="an export forgets what an unfinished one has copied",
        file=f"{ROOM}/manifest.py",
        good="return other if records[1] > records[0] else one",
        bad="return one",
        check=f"{FORMAT}::test_an_unfinished_export_counts_if_it_got_further",
    ),
    Mutant(
        name="an export leaves each small segment of earlier ones",
        file=f"{ROOM}/export.py",
        good="return last if last.bytes < self._segment_bytes // SMALL else None",
        bad="return None",
        check=f"{TRANSFER}::test_small_segments_of_earlier_exports_are_put_together",
    ),
    Mutant(
        name="an export counts what it has put together as new",
        file=f"{ROOM}/export.py",
        good="segment.records - (small.records if small is not None else 0)",
        bad="segment.records",
        check=f"{TRANSFER}::test_small_segments_of_earlier_exports_are_put_together",
    ),
    Mutant(
        name="an export takes a batch that cannot be decoded for records without content",
        file=f"{ROOM}/reading.py",
        good="if not any(isinstance(record, Undecodable) for record in records):",
        bad="if records:",
        check=f"{TRANSFER}::test_an_imported_log_is_the_exported_one_and_its_sequencer_goes_on",
    ),
    Mutant(
        name="a change of a segment's file that its content does not show is not found",
        file=f"{ROOM}/segments.py",
        good="if digest_of(stored) != segment.stored_digest:",
        bad="if False:",
        check=f"{FORMAT}::test_every_changed_byte_of_a_segment_is_found",
    ),
    Mutant(
        name="a changed manifest is not found",
        file=f"{ROOM}/manifest.py",
        good="if encode_manifest(manifest) != raw:",
        bad="if False:",
        check=f"{FORMAT}::test_a_manifest_is_read_back_and_every_changed_byte_is_found",
    ),
    Mutant(
        name="an archive without the next command to decide is imported",
        file=f"{ROOM}/manifest.py",
        good="if not commands.begin <= next_command <= commands.end:",
        bad="if not commands.begin <= next_command:",
        check=f"{FORMAT}::test_an_archive_that_no_sequencer_could_go_on_with_is_refused",
    ),
    Mutant(
        name="an import compares no file before it writes",
        file=f"{ROOM}/import_.py",
        good="        await check_archive(archive, manifest, on_plan)\n",
        bad="        pass\n",
        check=f"{TRANSFER}::test_a_damaged_archive_is_refused_by_the_name_of_the_file_before_anything_is_written",
    ),
    Mutant(
        name="an import does not look what is in the topics",
        file=f"{ROOM}/import_.py",
        good="        if end > begin:\n            await self._compare(",
        bad="        if False:\n            await self._compare(",
        check=f"{TRANSFER}::test_an_archive_is_imported_into_empty_topics_and_as_many_of_them",
    ),
    Mutant(
        name="an import writes commands from offset 0 on",
        file=f"{ROOM}/import_.py",
        good="            await log.fill(await self._filled_until(topic, number))\n",
        bad="            log.at = max(log.at, await self._filled_until(topic, number))\n",
        check=f"{TRANSFER}::test_an_imported_log_is_the_exported_one_and_its_sequencer_goes_on",
    ),
    Mutant(
        name="an import leaves the empty records in place of trimmed commands",
        file=f"{ROOM}/import_.py",
        good="        if begin < copy.begin:\n            await delete_records(",
        bad="        if False:\n            await delete_records(",
        check=f"{TRANSFER}::test_an_imported_log_is_the_exported_one_and_its_sequencer_goes_on",
    ),
    Mutant(
        name="an import leaves out the transaction markers at the end",
        file=f"{ROOM}/import_.py",
        good="            await log.append(Markers(log.at, copy.end))\n",
        bad="",
        check=f"{TRANSFER}::test_an_imported_log_is_the_exported_one_and_its_sequencer_goes_on",
    ),
    Mutant(
        name="an import does not see that another program writes",
        file=f"{ROOM}/writing.py",
        good="        if offset != self.at:\n",
        bad="        if offset < self.at:\n",
        check=f"{TRANSFER}::test_an_import_notices_that_another_program_writes",
    ),
    Mutant(
        name="a record that does not fit any more is put into the same batch",
        file=f"{ROOM}/plan.py",
        good="full = size + added > max_bytes or",
        bad="full = size > max_bytes or",
        check=f"{FORMAT}::test_pieces_have_every_entry_once_in_order_and_without_a_gap",
    ),
)
