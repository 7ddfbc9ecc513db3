-- name: control_0003
-- Whom a session reads for, if row-level security restricts it. projection/0009_row_security.sql has the policies, and
-- docs/decisions/0041-people-read-under-row-level-security.md the reasons.

-- The user that the session names; NULL if it names none, or one that is no UUID. RETURN is parsed here, once: the
-- search_path of a caller does not matter.
CREATE OR REPLACE FUNCTION chat.my_user_id() RETURNS uuid
LANGUAGE sql STABLE PARALLEL SAFE
RETURN CASE WHEN pg_input_is_valid(current_setting('app.user_id', true), 'uuid')
            THEN current_setting('app.user_id', true)::uuid END;

-- The chats in which that user is a present member. It runs with the rights of its owner, who owns the tables too and so
-- is under no policy: the policy on chat_participants can call it without recursion. It returns an array and no set, so
-- that a policy that puts it into a subquery evaluates it once for a statement. PL/pgSQL resolves the view when it runs.
CREATE OR REPLACE FUNCTION chat.my_chat_ids() RETURNS uuid[]
LANGUAGE plpgsql STABLE PARALLEL SAFE SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET enable_seqscan = off AS $$
BEGIN
    RETURN ARRAY(SELECT p.chat_id FROM chat.chat_participants p
                 WHERE p.user_id = chat.my_user_id() AND p.left_at IS NULL);
END
$$;
