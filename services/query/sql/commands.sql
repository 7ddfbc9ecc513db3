-- Both are limited to what the caller may see: the caller's own commands, or all commands for a producer.

-- name: accepted_message
-- A message's id is permanently the command_id of its send. Looked up first, because outcomes expire after seven days.
SELECT m.seq, m.position, (date_part('epoch', m.sent_at) * 1000)::bigint
FROM chat.chat_messages AS m
WHERE m.message_id = %(command_id)s AND m.chat_id = %(chat_id)s
  AND (%(any_sender)s::boolean OR m.sender_id = %(caller_id)s);

-- name: outcome_of_command
-- The most informative outcome. A duplicate or a conflict proves that the id was accepted once; a duplicate repeats the
-- original's figures.
SELECT o.outcome, o.reason, o.seq, o.position, o."index", o.detail, o.revision
FROM chat.outcomes AS o
WHERE o.command_id = %(command_id)s AND o."partition" = %(partition)s
  AND (%(any_sender)s::boolean OR o.sender_id = %(caller_id)s)
ORDER BY CASE WHEN o.outcome = 'accepted' THEN 0
              WHEN o.outcome = 'duplicate' THEN 1
              WHEN o.reason = 'conflict' THEN 2
              ELSE 3 END,
         o."index" DESC
LIMIT 1;
