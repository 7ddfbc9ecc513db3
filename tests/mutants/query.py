"""Curated bugs in query."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

MUTANTS: Final = (
    Mutant(
        name="each page of a sync pins how far it saw the log itself",
        file="services/query/api/sync_pages.py",
        good="    if asked.pinned is not None:\n        return asked.pinned\n",
        bad="    if asked.pinned is not None and asked.pinned.log_id != log_id:\n        return asked.pinned\n",
        check="tests/unit/query/test_sync_pages.py::test_the_pages_have_every_chat_that_changed_once_newest_first",
    ),
    Mutant(
        name="a page of changes ends between a reply and the message that it counts in",
        file="services/query/api/change_pages.py",
        good="if each.changed_position < last] or changes",
        bad="if each.changed_position <= last] or changes",
        check="tests/unit/query/test_change_pages.py::test_the_pages_together_have_every_change_once_in_their_order",
    ),
    Mutant(
        name="what happens in a chat after a user has left changes it for them",
        file="services/query/sql/sync.sql",
        good="SELECT p.chat_id::text, false, COALESCE(p.changed_index, 9223372036854775807),",
        bad="SELECT p.chat_id::text, false, (SELECT a.changed_index FROM chat.chats AS a WHERE a.chat_id = p.chat_id),",
        check="tests/integration/query/test_query_sync.py::test_leaving_joining_and_joining_again_are_changes",
    ),
    Mutant(
        name="the statements that follow are of a moment of their own",
        file="services/query/sql/snapshot.sql",
        good="BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY;",
        bad="BEGIN ISOLATION LEVEL READ COMMITTED, READ ONLY;",
        check="tests/integration/query/test_query_snapshot.py"
        "::test_statements_that_follow_from_the_first_rows_see_the_same_moment",
    ),
    Mutant(
        name="a member who joined after a message has received it",
        file="services/query/sql/receipts.sql",
        good=" AND p.joined_seq < m.seq AND p.user_id <> m.sender_id\n",
        bad=" AND p.user_id <> m.sender_id\n",
        check="tests/integration/query/test_query_threads.py"
        "::test_the_receipts_of_a_message_are_of_those_who_were_there_when_it_was_sent",
    ),
    Mutant(
        name="the threads of a page begin with the oldest",
        file="services/query/sql/threads.sql",
        good="    ORDER BY m.last_reply_seq DESC\n",
        bad="    ORDER BY m.last_reply_seq\n",
        check="tests/integration/query/test_query_threads.py"
        "::test_a_thread_has_all_its_replies_in_chat_order_and_the_threads_follow_their_last_one",
    ),
    Mutant(
        name="a message's ETag is of its revision alone",
        file="services/query/api/entity_tags.py",
        good="blake2b(body, digest_size=DIGEST_BYTES)",
        bad="blake2b(b'', digest_size=DIGEST_BYTES)",
        check="tests/integration/query/test_query_entity_tags.py",
    ),
    Mutant(
        name="a search finds messages of chats that the caller has left",
        file="services/query/sql/search.sql",
        good="    WHERE me.user_id = %(caller_id)s AND me.left_at IS NULL\n      AND (%(in_chat)s",
        bad="    WHERE me.user_id = %(caller_id)s\n      AND (%(in_chat)s",
        check="tests/integration/query/test_query_search.py::test_only_present_members_find_a_message",
    ),
    Mutant(
        name="a search leaves out the days between two windows",
        file="services/query/sql/search.sql",
        good="(a.hour / 32 - 1) * 32, a.hours_from - 1)",
        bad="(a.hour / 32 - 1) * 32 + 1, a.hours_from - 1)",
        check="tests/integration/query/test_query_search.py::test_no_message_is_left_out_or_repeated_however_old_it_is",
    ),
    Mutant(
        name="a page of a search ends at the last item, not at the last message compared",
        file="services/query/api/paths/search.py",
        good="    more = compared < len(rows)\n",
        bad="    more = len(items) == limit\n",
        check="tests/integration/query/test_query_search.py"
        "::test_a_page_goes_on_after_candidates_whose_texts_do_not_match",
    ),
    Mutant(
        name="a token of a search waits for history alone",
        file="services/query/snapshot/reader.py",
        good='Statement("search_head" if of_search else "head",',
        bad='Statement("head",',
        check="tests/integration/query/test_query_search.py::test_a_token_waits_for_the_tables_and_for_search",
    ),
    Mutant(
        name="a reaction of anybody is the caller's",
        file="services/query/sql/messages.sql",
        good=" AND own.user_id = %(caller_id)s",
        bad="",
        check="tests/integration/query/test_query_reactions.py",
    ),
    Mutant(
        name="a stranger's question looks the chat up",
        file="services/query/sql/messages.sql",
        good="FROM chat.chat_participants AS me\nCROSS JOIN LATERAL (\n    SELECT a.last_seq\n"
        "    FROM chat.chats AS a\n    WHERE a.chat_id = me.chat_id\n    LIMIT 1\n) AS c\n"
        "WHERE me.chat_id = %(chat_id)s AND me.user_id = %(caller_id)s AND me.left_at IS NULL;",
        bad="FROM chat.chats AS c WHERE c.chat_id = %(chat_id)s AND EXISTS (\n"
        "    SELECT FROM chat.chat_participants AS me"
        " WHERE me.chat_id = c.chat_id AND me.user_id = %(caller_id)s AND me.left_at IS NULL);",
        check="tests/integration/query/test_query_plans.py"
        "::test_a_strangers_question_over_http_does_not_run_the_members_statements",
    ),
    Mutant(
        name="cursors are read for those who have left",
        file="services/query/sql/membership.sql",
        good="AND o.left_at IS NULL AND me.left_at IS NULL\n ORDER BY o.read_seq",
        bad="AND o.left_at IS NULL\n ORDER BY o.read_seq",
        check="tests/integration/query/test_query_plans.py"
        "::test_for_a_stranger_nothing_is_looked_up_but_the_row_that_is_not_there",
    ),
    Mutant(
        name="a member who joined after a message has read it",
        file="services/query/api/delivery_status.py",
        good='return (first_joined, "sent"), (read_by_all',
        bad="return (read_by_all",
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
        name="compiled code shows the text of a deleted message",
        file="services/query/api/_message_json.pyx",
        good="None if is_deleted and place.is_content else row[place.column]",
        bad="row[place.column]",
        check="tests/unit/query/test_serializers.py",
    ),
    Mutant(
        name="a deleted message shows its text",
        file="services/query/api/message_json.py",
        good="row if row[_DELETED_AT] is None else _without_content(row)",
        bad="row",
        check="tests/unit/query/test_serializers.py",
    ),
    Mutant(
        name="readers do not wait for the switch",
        file="services/query/sql/snapshot.sql",
        good="LOCK TABLE chat.active_projection IN ACCESS SHARE MODE;",
        bad="SELECT 1;",
        check="tests/integration/query/test_query_snapshot.py::test_a_reader_does_not_step_back_over_a_switch_of_projections",
    ),
)
