-- Writes one batch of one partition into message_search; positions.sql has its guard. Statements on rows take arrays, one
-- element per row; `…_rows` is a relation `m` of the given rows, and the lexemes of each are the text of an array.

-- name: search_forgotten
DELETE FROM {schema}.message_search s
USING {fragment:search_forgotten_rows}
WHERE s.chat_id = m.chat_id AND s.seq = m.seq;

-- name: search_reworded
-- The lexemes of chat and time, which have a colon, stay.
UPDATE {schema}.message_search s
SET tokens = array_to_tsvector(m.lexemes::text[] || ARRAY(
    SELECT kept FROM unnest(tsvector_to_array(s.tokens)) AS kept WHERE strpos(kept, ':') > 0
))
FROM {fragment:search_reworded_rows}
WHERE s.chat_id = m.chat_id AND s.seq = m.seq;

-- name: insert_search
INSERT INTO {schema}.message_search (chat_id, seq, sender_id, sent_at, tokens)
SELECT m.chat_id, m.seq, m.sender_id, m.sent_at, array_to_tsvector(m.lexemes::text[])
FROM {fragment:search_added_rows};

-- name: copy_search
COPY {schema}.message_search (chat_id, seq, sender_id, sent_at, tokens) FROM STDIN (FORMAT BINARY);

-- name: enter_pending
-- The index collects what a batch adds in a list, and enters it here, once for each lexeme: half the cost of entering
-- each message by itself. Every search reads the list, so none is left at the end of a batch. During a load there is no
-- index yet.
SELECT gin_clean_pending_list(to_regclass('{schema}.message_search_tokens'));
