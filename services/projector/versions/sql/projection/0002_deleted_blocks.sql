-- name: tables_0002
-- Where the deleted messages of a chat lie, so that those above a cursor are known without counting messages:
-- services/projector/mapping/deletions.py says how, chat.deleted_after reads it. Only chats with deleted messages have rows.
-- No projection that is older than this step has folded a deletion: empty is what its table has to be.
CREATE TABLE IF NOT EXISTS {schema}.deleted_blocks (
    chat_id  uuid     NOT NULL REFERENCES {schema}.chats (chat_id),
    span     integer  NOT NULL,                       -- seqs of a block: 256, 4096, 65536, 1048576
    block    bigint   NOT NULL,                       -- its first seq, divided by span
    deleted  integer  NOT NULL,                       -- how many of its messages are deleted
    places   bit(256),                                -- of the shortest span: a bit for each seq, 1 where deleted
    PRIMARY KEY (chat_id, span, block)
) WITH (fillfactor = 60);
