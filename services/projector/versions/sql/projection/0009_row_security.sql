-- name: tables_0009
-- Which rows a role sees that may read the tables and does not own them: those of the chats in which the user of
-- app.user_id is a present member. A policy without a role applies to every role, so it needs none to exist. The block
-- `grants` of views.sql applies which roles may read at all, and which see every row.
--
-- The owner is under no policy (no FORCE): the projector feeds and verifies every row, and Postgres refuses COPY FROM
-- into a table whose policies apply. A new table needs a line here or in its own step; without a policy no row is seen.

DO $$
DECLARE
    of_a_chat constant text[] :=
        ARRAY['chats', 'chat_participants', 'chat_messages', 'earlier_texts', 'deleted_blocks', 'reactions',
              'reaction_counts'];
    name text;
BEGIN
    FOREACH name IN ARRAY of_a_chat || ARRAY['outcomes', 'projection_positions', 'message_search', 'search_positions'] LOOP
        EXECUTE format('ALTER TABLE {schema}.%I ENABLE ROW LEVEL SECURITY', name);
    END LOOP;

    -- The subquery makes it an InitPlan: one call for a statement, and an array that the index on chat_id can search.
    FOREACH name IN ARRAY of_a_chat LOOP
        EXECUTE format('DROP POLICY IF EXISTS of_my_chats ON {schema}.%I', name);
        EXECUTE format('CREATE POLICY of_my_chats ON {schema}.%I FOR SELECT'
                       ' USING (chat_id = ANY ((SELECT chat.my_chat_ids())::uuid[]))', name);
    END LOOP;

    -- An outcome belongs to its sender, as over HTTP, who need not be a member.
    DROP POLICY IF EXISTS of_my_commands ON {schema}.outcomes;
    CREATE POLICY of_my_commands ON {schema}.outcomes FOR SELECT USING (sender_id = (SELECT chat.my_user_id()));

    -- The positions have no policy: they are about the service, and how they move tells how busy the others are. Nor has
    -- message_search, which is query's.
END
$$;
