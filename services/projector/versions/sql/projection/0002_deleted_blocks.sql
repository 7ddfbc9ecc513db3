-- name: tables_0002
-- Where the deleted messages of a chat are, so that those above a cursor are known without counting messages:
-- services/projector/mapping/deletions.py says how, and chat.deleted_after reads it. Only chats with deleted messages
-- have rows. No projection older than this step has folded a deletion, so its table is rightly empty.
CREATE TABLE IF NOT EXISTS {schema}.deleted_blocks (
    chat_id  uuid     NOT NULL REFERENCES {schema}.chats (chat_id),
    span     integer  NOT NULL,                       -- number of seqs in a block: 256, 4096, 65536, 1048576
    block    bigint   NOT NULL,                       -- its first seq, divided by span
    deleted  integer  NOT NULL,                       -- number of its messages that are deleted
    places   bit(256),                                -- for the shortest span: a bit for each seq, 1 if deleted
    PRIMARY KEY (chat_id, span, block)
) WITH (fillfactor = 60);
