-- The baseline that Gapless replaces. One table; a trigger locks the chat and assigns MAX(seq) + 1 to the row; a retried
-- send violates the unique key. Every commit is synced to disk.

-- name: schema
CREATE TABLE messages (
    id                  uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    chat_id             uuid NOT NULL,
    seq                 bigint NOT NULL,
    sender_id           uuid NOT NULL,
    client_generated_id text NOT NULL,
    body                text NOT NULL,
    sent_at             timestamptz NOT NULL DEFAULT now(),
    UNIQUE (chat_id, seq),
    UNIQUE (chat_id, client_generated_id)
);
CREATE FUNCTION number_message() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock(hashtextextended(NEW.chat_id::text, 0));
    SELECT coalesce(max(seq), 0) + 1 INTO NEW.seq FROM messages WHERE chat_id = NEW.chat_id;
    RETURN NEW;
END $$;

-- name: stored
-- Stored messages: over a thousand chats, one of which has a tenth of all.
INSERT INTO messages (chat_id, seq, sender_id, client_generated_id, body)
SELECT md5('chat ' || chat)::uuid, row_number() OVER (PARTITION BY chat ORDER BY i), md5('user ' || mod(i, 5))::uuid,
       md5('stored ' || i), repeat('x', 250)
FROM (SELECT i, CASE WHEN mod(i, 10) = 0 THEN 0 ELSE 1 + mod(i, 999) END AS chat FROM generate_series(1, %(rows)s) AS i) AS g;

-- name: trigger
CREATE TRIGGER number_message BEFORE INSERT ON messages FOR EACH ROW EXECUTE FUNCTION number_message();

-- name: gaps
SELECT count(*) FROM (SELECT 1 FROM messages GROUP BY chat_id HAVING max(seq) <> count(*)) AS gaps;
