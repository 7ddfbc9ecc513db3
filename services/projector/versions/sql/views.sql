-- name: views
-- What readers see: a fixed, named list of columns over the version that serves. A switch runs this again with
-- another schema; CREATE OR REPLACE keeps every view's identity, so that no reader's prepared statement breaks.
-- A new column is added at the end of a list, after it was added to every version's tables.
--
-- security_invoker: a view reads its table with the rights of the reader, not of the view's owner, so that the policies of
-- projection/0009_row_security.sql apply. CREATE OR REPLACE without it would switch it off.
CREATE OR REPLACE VIEW chat.chats WITH (security_invoker = true) AS
SELECT chat_id, kind, name, created_by, created_at, last_seq, last_position, last_message_at, deleted_total,
       changed_index
FROM {schema}.chats;

CREATE OR REPLACE VIEW chat.chat_participants WITH (security_invoker = true) AS
SELECT chat_id, user_id, role, joined_at, joined_seq, left_at, read_seq, last_read_at, delivered_seq,
       own_live_after_read, changed_position, changed_index
FROM {schema}.chat_participants;

CREATE OR REPLACE VIEW chat.chat_messages WITH (security_invoker = true) AS
SELECT chat_id, seq, message_id, sender_id, message_text, client_generated_id, reply_to_message_id, root_seq,
       reply_count, media_urls, metadata, sent_at, original_sent_at, edited_at, deleted_at, position,
       changed_position, revision, last_reply_seq
FROM {schema}.chat_messages;

CREATE OR REPLACE VIEW chat.outcomes WITH (security_invoker = true) AS
SELECT partition, index, command_id, sender_id, type, outcome, reason, seq, position, at,
       nullif(detail, '') AS detail,  -- '': written by a release that does not store details
       revision
FROM {schema}.outcomes;

CREATE OR REPLACE VIEW chat.projection_positions WITH (security_invoker = true) AS
SELECT partition, topic_id, next_offset, term, index, command_offset, last_timestamp_ms, updated_at
FROM {schema}.projection_positions;

CREATE OR REPLACE VIEW chat.deleted_blocks WITH (security_invoker = true) AS
SELECT chat_id, span, block, deleted, places
FROM {schema}.deleted_blocks;

CREATE OR REPLACE VIEW chat.earlier_texts WITH (security_invoker = true) AS
SELECT chat_id, seq, revision, message_text, written_at
FROM {schema}.earlier_texts;

CREATE OR REPLACE VIEW chat.reactions WITH (security_invoker = true) AS
SELECT chat_id, seq, emoji, user_id, changed_position
FROM {schema}.reactions;

CREATE OR REPLACE VIEW chat.reaction_counts WITH (security_invoker = true) AS
SELECT chat_id, seq, emoji, users, first_position
FROM {schema}.reaction_counts;

CREATE OR REPLACE VIEW chat.message_search WITH (security_invoker = true) AS
SELECT chat_id, seq, sender_id, sent_at, tokens
FROM {schema}.message_search;

CREATE OR REPLACE VIEW chat.search_positions WITH (security_invoker = true) AS
SELECT partition, topic_id, next_offset, term, index, command_offset, last_timestamp_ms, updated_at
FROM {schema}.search_positions;

-- name: grants
-- The rights to read one version, at each start of a projector, at the creation of the version and at a cutover to it.
-- It changes nothing if nothing is missing: a policy needs a lock for which every reader and feeder waits.
DO $grants$
DECLARE
    people constant regrole := to_regrole('gapless_reader');  -- NULL: there is no such role here
    -- The views that people may read. The tables behind them need a policy, which projection/0009_row_security.sql has.
    for_people constant text[] := ARRAY[
        'chats', 'chat_participants', 'chat_messages', 'earlier_texts', 'deleted_blocks', 'reactions', 'reaction_counts',
        'outcomes'];
    relation record;
    reader regrole;
BEGIN
    IF people IS NOT NULL THEN
        IF NOT has_schema_privilege(people, 'chat', 'USAGE') THEN
            GRANT USAGE ON SCHEMA chat TO gapless_reader;
        END IF;
        -- Needed by LOCK TABLE … IN ACCESS SHARE MODE, which prevents a step back at a cutover.
        IF NOT has_table_privilege(people, 'chat.active_projection', 'SELECT') THEN
            GRANT SELECT ON chat.active_projection TO gapless_reader;
        END IF;
    END IF;

    -- A view needs the reader's right to read the table, but none to its schema: naming chat_v<N> stays refused.
    FOR relation IN
        SELECT t.relname AS name, format('%I.%I', n.nspname, t.relname) AS table_name, t.oid AS table_oid,
            -- All other roles with a grant on the view see every row, as query does. Members of gapless_reader never do.
            ARRAY(SELECT DISTINCT a.grantee FROM aclexplode(v.relacl) a
                  WHERE a.privilege_type = 'SELECT' AND a.grantee NOT IN (0, v.relowner, t.relowner)
                    AND (people IS NULL OR NOT pg_has_role(a.grantee, people, 'MEMBER'))
                  ORDER BY a.grantee) AS readers,
            ARRAY(SELECT r FROM pg_policy p, unnest(p.polroles) r
                  WHERE p.polrelid = t.oid AND p.polname = 'every_row' ORDER BY r) AS admitted
        FROM pg_class t
        JOIN pg_namespace n ON n.oid = t.relnamespace AND n.oid = to_regnamespace('{schema}')  -- NULL: dropped meanwhile
        JOIN pg_class v ON v.relname = t.relname AND v.relnamespace = 'chat'::regnamespace AND v.relkind = 'v'
        WHERE t.relkind = 'r'
        ORDER BY t.relname
    LOOP
        IF people IS NOT NULL AND relation.name = ANY (for_people) THEN
            IF NOT has_table_privilege(people, relation.table_oid, 'SELECT') THEN
                EXECUTE format('GRANT SELECT ON %s TO gapless_reader', relation.table_name);
            END IF;
            IF NOT has_table_privilege(people, format('chat.%I', relation.name), 'SELECT') THEN
                EXECUTE format('GRANT SELECT ON chat.%I TO gapless_reader', relation.name);
            END IF;
        END IF;
        FOREACH reader IN ARRAY relation.readers LOOP
            IF NOT has_table_privilege(reader, relation.table_oid, 'SELECT') THEN
                EXECUTE format('GRANT SELECT ON %s TO %s', relation.table_name, reader);
            END IF;
        END LOOP;
        IF relation.readers <> relation.admitted THEN
            EXECUTE format('DROP POLICY IF EXISTS every_row ON %s', relation.table_name);
            IF relation.readers <> '{}' THEN
                EXECUTE format('CREATE POLICY every_row ON %s FOR SELECT TO %s USING (true)', relation.table_name,
                               (SELECT string_agg(r::regrole::text, ', ') FROM unnest(relation.readers) r));
            END IF;
        END IF;
    END LOOP;
END
$grants$;

-- name: functions
-- For people who query the database directly. They use only the views, so that a switch need not touch them, and run with
-- the rights of the caller: of a chat that is not theirs they return what they return of one that does not exist.

-- The first two are in PL/pgSQL, which plans a statement once in a session. The settings are for that plan: it must not
-- be made again for each pair of ids, nor suit only the table as it was then, which may have been empty.

-- The number of deleted messages above in_seq: those after it in its own block of 256, and then the blocks of each span
-- up to where a block of the next span begins. However many there are, it reads some dozen rows, and one for each
-- million messages of the chat.
CREATE OR REPLACE FUNCTION chat.deleted_after(in_chat_id uuid, in_seq bigint) RETURNS bigint
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
BEGIN
    RETURN coalesce((SELECT bit_count(b.places << (in_seq % 256 + 1)::integer) FROM chat.deleted_blocks b
                     WHERE b.chat_id = in_chat_id AND b.span = 256 AND b.block = in_seq / 256), 0)
        + (SELECT coalesce(sum(b.deleted), 0) FROM chat.deleted_blocks b
           WHERE b.chat_id = in_chat_id AND b.span = 256
             AND b.block > in_seq / 256 AND b.block < (in_seq / 4096 + 1) * 16)
        + (SELECT coalesce(sum(b.deleted), 0) FROM chat.deleted_blocks b
           WHERE b.chat_id = in_chat_id AND b.span = 4096
             AND b.block > in_seq / 4096 AND b.block < (in_seq / 65536 + 1) * 16)
        + (SELECT coalesce(sum(b.deleted), 0) FROM chat.deleted_blocks b
           WHERE b.chat_id = in_chat_id AND b.span = 65536
             AND b.block > in_seq / 65536 AND b.block < (in_seq / 1048576 + 1) * 16)
        + (SELECT coalesce(sum(b.deleted), 0) FROM chat.deleted_blocks b
           WHERE b.chat_id = in_chat_id AND b.span = 1048576 AND b.block > in_seq / 1048576);
END
$$;

-- The number of messages above the member's read cursor that are neither their own nor deleted; NULL for a user who is
-- no present member, and for any other user if app.user_id names one. An own message that is deleted counts once, as
-- deleted.
CREATE OR REPLACE FUNCTION chat.get_unread_count(in_chat_id uuid, in_user_id uuid) RETURNS bigint
LANGUAGE plpgsql STABLE SET plan_cache_mode = force_generic_plan SET enable_seqscan = off AS $$
BEGIN
    RETURN (
        SELECT c.last_seq - p.read_seq - p.own_live_after_read
            - CASE WHEN c.deleted_total = 0 THEN 0 ELSE chat.deleted_after(c.chat_id, p.read_seq) END
        FROM chat.chat_participants p JOIN chat.chats c ON c.chat_id = p.chat_id
        WHERE p.chat_id = in_chat_id AND p.user_id = in_user_id AND p.left_at IS NULL
          AND in_user_id = coalesce(chat.my_user_id(), in_user_id));
END
$$;

-- The seq of the newest message; 0 in an empty chat, NULL if the chat does not exist or the caller may not read it.
CREATE OR REPLACE FUNCTION chat.get_latest_seq(in_chat_id uuid) RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT last_seq FROM chat.chats WHERE chat_id = in_chat_id
$$;

-- At most in_limit messages below before_seq (NULL: the newest ones), in chat order.
CREATE OR REPLACE FUNCTION chat.get_messages(in_chat_id uuid, before_seq bigint DEFAULT NULL, in_limit integer DEFAULT 50)
RETURNS SETOF chat.chat_messages
LANGUAGE sql STABLE ROWS 50 AS $$
    SELECT page.* FROM (
        SELECT * FROM chat.chat_messages m
        WHERE m.chat_id = in_chat_id AND m.seq < coalesce(before_seq, 9223372036854775807)
        ORDER BY m.seq DESC LIMIT in_limit
    ) page ORDER BY page.seq
$$;
