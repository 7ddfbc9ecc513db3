"""Curated bugs in the projector."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

CUTOVER: Final = "tests/integration/projector/test_rebuild_and_cutover.py"
OPERATORS: Final = "tests/integration/projector/test_flow_of_operators.py"
PLAN: Final = "tests/integration/projector/test_plan_of_a_rebuild.py"
VERIFIED: Final = (
    f"{OPERATORS}::test_a_cutover_that_requires_a_verification_takes_the_newest_one_since_the_version_was_built"
)
TABLES: Final = "tests/integration/projector/test_projector_tables.py"

PEOPLE: Final = "tests/integration/projector/test_sql_for_people.py"
ROW_SECURITY: Final = "services/projector/versions/sql/projection/0009_row_security.sql"
VIEWS: Final = "services/projector/versions/sql/views.sql"

MUTANTS: Final = (
    Mutant(
        name="people see the chats that they have left",
        file="services/projector/versions/sql/control/0003_readers.sql",
        good=" AND p.left_at IS NULL);",
        bad=");",
        check=f"{PEOPLE}::test_a_former_member_sees_nothing_and_one_who_joined_again_sees_all",
    ),
    Mutant(
        name="a malformed user id is an error",
        file="services/projector/versions/sql/control/0003_readers.sql",
        good="RETURN CASE WHEN pg_input_is_valid(current_setting('app.user_id', true), 'uuid')\n"
        "            THEN current_setting('app.user_id', true)::uuid END;",
        bad="RETURN NULLIF(current_setting('app.user_id', true), '')::uuid;",
        check=f"{PEOPLE}::test_a_session_that_names_no_user_sees_nothing_and_gets_no_error",
    ),
    Mutant(
        name="a view reads with the rights of its owner",
        file=VIEWS,
        good="CREATE OR REPLACE VIEW chat.chat_messages WITH (security_invoker = true) AS",
        bad="CREATE OR REPLACE VIEW chat.chat_messages AS",
        check=f"{PEOPLE}::test_a_present_member_sees_each_of_their_chats_and_no_other",
    ),
    Mutant(
        name="a policy looks each row's chat up",
        file=ROW_SECURITY,
        good="USING (chat_id = ANY ((SELECT chat.my_chat_ids())::uuid[]))",
        bad="USING (EXISTS (SELECT FROM unnest(chat.my_chat_ids()) AS mine WHERE mine = chat_id))",
        check=f"{PEOPLE}::test_a_statement_asks_for_the_chats_once_and_uses_the_index_on_them",
    ),
    Mutant(
        name="a person learns how much another member has not read",
        file=VIEWS,
        good="          AND in_user_id = coalesce(chat.my_user_id(), in_user_id));",
        bad="        );",
        check=f"{PEOPLE}::test_a_person_learns_the_unread_count_of_no_other_member",
    ),
    Mutant(
        name="a person with a grant on the views is taken for a service",
        file=VIEWS,
        good="                    AND (people IS NULL OR NOT pg_has_role(a.grantee, people, 'MEMBER'))\n",
        bad="",
        check=f"{PEOPLE}::test_a_grant_on_the_views_does_not_free_a_person_from_the_policies",
    ),
    Mutant(
        name="a cutover brings no rights along",
        file="services/projector/versions/migrations.py",
        good="        await grant_rights(connection, version)\n",
        bad="",
        check=f"{PEOPLE}::test_a_version_that_is_built_has_its_rights_before_the_cutover",
    ),
    Mutant(
        name="roles that are created later get no rights",
        file="services/projector/versions/migrations.py",
        good="            await grant_rights(connection, projection.version)  # a role may",
        bad="            pass  # a role may",
        check=f"{PEOPLE}::test_without_the_role_a_projector_starts_and_one_that_starts_later_grants_its_rights",
    ),
    Mutant(
        name="query's role is under the policies for people only",
        file=VIEWS,
        good="FOR SELECT TO %s USING (true)'",
        bad="FOR SELECT TO %s USING (false)'",
        check="tests/integration/query/test_query_plans.py::test_row_level_security_changes_no_plan_of_querys_role",
    ),
    Mutant(
        name="a step locks the tables in another order than readers",
        file="services/projector/versions/migrations.py",
        good='    if altered:\n        await connection.execute(REGISTRY["lock_readers_out"])\n',
        bad="",
        check=f"{TABLES}::test_a_migration_waits_for_a_reader_that_goes_on_to_another_table",
    ),
    Mutant(
        name="a migration locks the views in another order than readers",
        file="services/projector/versions/migrations.py",
        good='            await connection.execute(REGISTRY["lock_readers_out"])\n',
        bad="",
        check=f"{TABLES}::test_a_migration_waits_for_a_reader_that_goes_on_to_another_table",
    ),
    Mutant(
        name="a step locks the tables in another order than feeders",
        file="services/projector/versions/migrations.py",
        good='        await connection.execute(version_sql(version)["lock_all_feeders_out"])\n',
        bad="        pass\n",
        check=f"{TABLES}::test_a_migration_waits_for_a_feeder_that_goes_on_to_another_table",
    ),
    Mutant(
        name="the owner is under the policies too",
        file=ROW_SECURITY,
        good="        EXECUTE format('ALTER TABLE {schema}.%I ENABLE ROW LEVEL SECURITY', name);\n",
        bad="        EXECUTE format('ALTER TABLE {schema}.%I ENABLE ROW LEVEL SECURITY,"
        " FORCE ROW LEVEL SECURITY', name);\n",
        check=f"{PEOPLE}::test_the_owner_feeds_and_verifies_every_row_whatever_app_user_id_says",
    ),
    Mutant(
        name="the last character of a run begins no token",
        file="schemas/search.py",
        good="                found[piece.text[-1]] = None\n",
        bad="",
        check="tests/unit/schemas/test_search.py::test_every_word_inside_a_run_is_in_its_tokens",
    ),
    Mutant(
        name="voiced marks of Kana are dropped like accents",
        file="schemas/search.py",
        good="    (0xFE20, 0xFE2F),\n)",
        bad="    (0xFE20, 0xFE2F),\n    (0x3099, 0x309A),\n)",
        check="tests/unit/schemas/test_search.py::test_a_text_has_these_tokens",
    ),
    Mutant(
        name="an edit leaves the old words in search",
        file="services/projector/mapping/search.py",
        good="            edited[key] = body.text\n",
        bad="            pass\n",
        check="tests/unit/projector/test_search_rows.py::test_an_edit_of_an_older_message_replaces_its_tokens",
    ),
    Mutant(
        name="a cutover does not wait for search",
        file="services/projector/versions/sql/registry_of_version.sql",
        good="SELECT false AS of_search, partition, next_offset FROM {schema}.projection_positions\n"
        "UNION ALL SELECT true, partition, next_offset FROM {schema}.search_positions;",
        bad="SELECT false AS of_search, partition, next_offset FROM {schema}.projection_positions;",
        check=f"{CUTOVER}::test_a_cutover_waits_for_search_too",
    ),
    Mutant(
        name="search does not wait for history",
        file="services/projector/following/worker.py",
        good="                await self._precedence.wait()\n",
        bad="                pass\n",
        check="tests/integration/projector/test_projector_search.py"
        "::test_search_waits_while_history_has_whole_batches_to_write",
    ),
    Mutant(
        name="a batch is written whatever position it starts from",
        file="services/projector/writing/guard.py",
        good="    if guard.rowcount != 1:\n",
        bad="    if False:\n",
        check="tests/integration/projector/test_projector_search.py"
        "::test_search_is_written_with_its_position_or_not_at_all",
    ),
    Mutant(
        name="an emoji that nobody uses any more keeps its first use",
        file="services/projector/mapping/reactions.py",
        good="Counted(users - 1, first_position) if users > 1 else None",
        bad="Counted(users - 1, first_position)",
        check="tests/unit/projector/test_rows.py::"
        "test_an_emoji_without_users_has_no_count_and_its_next_use_is_a_first_one",
    ),
    Mutant(
        name="the reactions of a deleted message are still written",
        file="services/projector/mapping/reactions.py",
        good="        if (chat_id, seq) in deleted:\n",
        bad="        if False:\n",
        check="tests/unit/projector/test_rows.py::test_a_deletion_takes_the_reactions_of_the_batch_with_it",
    ),
    Mutant(
        name="the reactions of a message from before the batch outlive it",
        file="services/projector/writing/apply.py",
        good='("own_deleted", "reactions_of_deleted", "counts_of_deleted", "texts_of_deleted")',
        bad='("own_deleted", "texts_of_deleted")',
        check="tests/integration/projector/test_projector_batches.py"
        "::test_the_verifiers_own_fold_finds_the_rows_that_the_projector_wrote",
    ),
    Mutant(
        name="the earlier texts of a message outlive it",
        file="services/projector/writing/apply.py",
        good='("own_deleted", "reactions_of_deleted", "counts_of_deleted", "texts_of_deleted")',
        bad='("own_deleted", "reactions_of_deleted", "counts_of_deleted")',
        check="tests/integration/query/test_query_threads.py"
        "::test_the_earlier_texts_of_a_message_are_listed_newest_first_until_it_is_deleted",
    ),
    Mutant(
        name="a deleted reply from before the batch still counts in its thread",
        file="services/projector/writing/apply.py",
        good='        ("threads_of_deleted",),\n',
        bad="        (),\n",
        check="tests/integration/query/test_query_threads.py"
        "::test_a_deleted_reply_no_longer_counts_and_moves_its_thread_back",
    ),
    Mutant(
        name="a deleted reply of the batch still counts in its thread",
        file="services/projector/mapping/messages.py",
        good="            _leave_thread(builder, message, deletion)\n",
        bad="",
        check="tests/unit/projector/test_rows.py::test_a_deleted_reply_no_longer_counts_in_its_thread",
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
        name="an edit shows what was deleted in the same batch",
        file="services/projector/writing/sql/apply.sql",
        good="CASE WHEN NOT m.deleted THEN m.message_text END",
        bad="m.message_text",
        check=f"{TABLES}::test_an_edit_rewrites_what_it_names_however_batches_are_cut_and_makes_nothing_unread",
    ),
    Mutant(
        name="a role does not reach the tables",
        file="services/projector/mapping/members.py",
        good="            if m.role is not None:\n",
        bad="            if False:\n",
        check="tests/unit/projector/test_rows.py::test_a_role_changes_the_role_and_nothing_else_of_a_member",
    ),
    Mutant(
        name="a group that is created and renamed in one batch has its first name",
        file="services/projector/mapping/chats.py",
        good="name=chat.name or chat.created.name,",
        bad="name=chat.created.name,",
        check="tests/unit/projector/test_rows.py::test_a_new_name_changes_the_name_and_the_position_of_a_chat",
    ),
    Mutant(
        name="tables of a log that was cut and has grown again are gone on with",
        file="services/projector/following/consumer.py",
        good="known = self._last_record is None or self._last_record == record_digest(first)",
        bad="known = True",
        check="tests/integration/projector/test_projector_worker.py::test_a_position_of_another_log_is_refused[record]",
    ),
    Mutant(
        name="a rollback undoes the first cutover on record",
        file="services/projector/versions/sql/registry.sql",
        good="FROM chat.cutovers ORDER BY number DESC LIMIT 1;",
        bad="FROM chat.cutovers ORDER BY number LIMIT 1;",
        check=f"{OPERATORS}::test_a_rollback_undoes_the_last_cutover_and_a_second_one_undoes_the_first",
    ),
    Mutant(
        name="a rollback trusts a record that another release has overtaken",
        file="services/projector/versions/rollback.py",
        good="    if last.to_version != serving:\n",
        bad="    if last.to_version == 0:\n",
        check=f"{OPERATORS}::test_without_a_cutover_to_undo_a_rollback_is_refused_and_changes_nothing",
    ),
    Mutant(
        name="a verification from before the version was built counts",
        file="services/projector/versions/verifications.py",
        good="if since is not None and last.began_at < since:",
        bad="if since is not None and last.at < since:",
        check=VERIFIED,
    ),
    Mutant(
        name="a verification that covers less than was loaded counts",
        file="services/projector/versions/verifications.py",
        good="if last.positions.get(p, 0) < offset]",
        bad="if p not in last.positions]",
        check=VERIFIED,
    ),
    Mutant(
        name="search may be any distance behind at a cutover",
        file="services/projector/versions/cutover.py",
        good="            refuse_behind(self._new.schema, behind, self._max_behind)\n",
        bad="            refuse_behind(\n"
        "                self._new.schema, {p: n for p, n in behind.items() if not p.of_search}, self._max_behind\n"
        "            )\n",
        check=f"{OPERATORS}::test_a_cutover_is_refused_while_the_version_is_further_behind_than_the_operator_allows",
    ),
    Mutant(
        name="a cutover runs while another one does",
        file="services/projector/versions/cutover.py",
        good="only_one(postgres, VIEWS, to_version, command=command)",
        bad="only_one(postgres, to_version, command=command)",
        check=f"{OPERATORS}::test_a_second_operator_learns_who_changes_the_version_since_when",
    ),
    Mutant(
        name="a process that was killed is named as the one that holds the lock",
        file="services/projector/versions/sql/registry.sql",
        good="JOIN pg_locks l ON l.pid = o.backend_pid AND l.granted",
        bad="JOIN pg_locks l ON l.granted",
        check=f"{OPERATORS}::test_a_process_that_is_killed_leaves_no_lock_and_is_not_named",
    ),
    Mutant(
        name="the sample of a plan is committed",
        file="services/projector/versions/plan.py",
        good="connection.transaction(force_rollback=True)",
        bad="connection.transaction()",
        check=f"{PLAN}::test_a_plan_changes_nothing_in_the_database",
    ),
    Mutant(
        name="a plan expects the rows of the serving version, however much longer the log is",
        file="services/projector/versions/plan.py",
        good="round(rows * total / folded), ",
        bad="rows, ",
        check="tests/unit/projector/test_plan.py::test_tables_grow_in_proportion_to_the_log",
    ),
    Mutant(
        name="a rebuild does not wait for the serving projection",
        file="services/projector/versions/load.py",
        good="            if self.throttle is not None:\n",
        bad="            if False:\n",
        check=f"{OPERATORS}::test_a_rebuild_reads_nothing_while_the_serving_projection_lags_too_far",
    ),
    Mutant(
        name="the other processes of a rebuild do not wait for the serving projection",
        file="services/projector/versions/load_processes.py",
        good="            throttle=throttle,\n",
        bad="",
        check=f"{OPERATORS}::test_the_other_processes_of_a_rebuild_wait_for_the_serving_projection_too",
    ),
    Mutant(
        name="the progress of a rebuild forgets earlier runs",
        file="services/projector/versions/rebuild.py",
        good="records_before=sum(self._firsts.values()),",
        bad="records_before=0,",
        check=f"{OPERATORS}::test_the_progress_of_a_rebuild_is_of_the_whole_log_from_its_first_word",
    ),
    Mutant(
        name="a rebuild that was ended looks like one that runs",
        file="services/projector/versions/overview.py",
        good="return ABANDONED if state is State.BUILDING and self.holder is None else state.value",
        bad="return state.value",
        check=f"{OPERATORS}::test_a_list_shows_how_far_a_rebuild_is_while_it_runs_and_after_it_was_ended",
    ),
    Mutant(
        name="a partition that nothing feeds looks fed",
        file="services/projector/versions/overview.py",
        good=" or stand.seen_s > FED_WITHIN_S:",
        bad=":",
        check=f"{OPERATORS}::test_a_list_says_which_partitions_are_fed_and_from_where",
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
        name="a version of another mapping is cut over to",
        file="services/projector/versions/cutover.py",
        good="    if new.mapping_version != MAPPING_VERSION:\n",
        bad="    if not new.mapping_version:\n",
        check=f"{CUTOVER}::test_a_version_of_another_mapping_is_not_cut_over_to_and_gets_no_row",
    ),
    Mutant(
        name="the digest of a later position is held against an earlier record",
        file="services/projector/writing/sql/positions.sql",
        good="WHERE partition = %(partition)s AND next_offset = %(next_offset)s AND last_record_at = next_offset;",
        bad="WHERE partition = %(partition)s AND %(next_offset)s >= 0 AND last_record_at = next_offset;",
        check="tests/integration/projector/test_projector_worker.py::"
        "test_a_projector_that_moves_on_while_another_opens_is_not_taken_for_another_log",
    ),
    Mutant(
        name="no position guard in the projector",
        file="services/projector/writing/sql/positions.sql",
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
        name="two columns of a new message change places",
        file="services/projector/mapping/tables.py",
        good="    sent_at: datetime\n    original_sent_at: datetime | None\n    deleted_at: datetime | None\n",
        bad="    sent_at: datetime\n    deleted_at: datetime | None\n    original_sent_at: datetime | None\n",
        check=f"{TABLES}::test_the_rows_that_are_added_have_the_columns_and_types_of_their_tables",
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
        name="search has the lexemes of the first message's hour for all of them",
        file="services/projector/writing/_copy.pyx",
        good="        if times is None or hour != hour_of_times:",
        bad="        if times is None:",
        check="tests/unit/projector/test_messages.py::test_the_lexemes_of_time_are_those_of_each_messages_own_hour",
    ),
    Mutant(
        name="a load reads the log again for search",
        file="services/projector/versions/load.py",
        good="        if self.building:\n            await self._load_both(partition)\n",
        bad="",
        check="tests/integration/projector/test_rebuild_and_cutover.py::test_what_other_processes_load_is_what_one_loads",
    ),
    Mutant(
        name="a load does not go on with search that fell behind its tables",
        file="services/projector/versions/load.py",
        good="        for feed in FEEDS:\n            await self._load(partition, feed)\n",
        bad="        await self._load(partition, HISTORY)\n",
        check="tests/integration/projector/test_rebuild_and_cutover.py::"
        "test_search_that_fails_behind_its_tables_is_loaded_by_itself",
    ),
)
