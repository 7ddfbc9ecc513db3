-- name: tables_0001
-- The tables of one projection, chat_v<N>. Fillfactor leaves room where rows are updated in place (HOT): a send
-- updates its chat's row and the sender's, a receipt the member's.
CREATE SCHEMA IF NOT EXISTS {schema};

CREATE TABLE IF NOT EXISTS {schema}.chats (
    chat_id          uuid        PRIMARY KEY,
    kind             text        NOT NULL CHECK (kind IN ('group', 'direct')),
    name             text,                            -- of a group
    created_by       uuid        NOT NULL,
    created_at       timestamptz NOT NULL,
    last_seq         bigint      NOT NULL,            -- 0 without messages
    last_position    bigint      NOT NULL,
    last_message_at  timestamptz,
    deleted_total    bigint      NOT NULL DEFAULT 0
) WITH (fillfactor = 60);

CREATE TABLE IF NOT EXISTS {schema}.chat_participants (
    chat_id              uuid        NOT NULL REFERENCES {schema}.chats (chat_id),
    user_id              uuid        NOT NULL,
    role                 text        NOT NULL CHECK (role IN ('owner', 'admin', 'member')),
    joined_at            timestamptz NOT NULL,        -- of the last joining
    joined_seq           bigint      NOT NULL,        -- the chat's last_seq then
    left_at              timestamptz,                 -- NULL: present
    read_seq             bigint      NOT NULL,        -- joined_seq on joining, then the last read receipt
    last_read_at         timestamptz,                 -- of the last read receipt, also of one before joining again
    delivered_seq        bigint      NOT NULL,        -- as read_seq, of delivered marks; a read receipt does not move it
    own_live_after_read  bigint      NOT NULL,        -- own messages that are not deleted and have seq > read_seq
    changed_position     bigint      NOT NULL,        -- of the last joining, leaving or mark; an own send is no change
    PRIMARY KEY (chat_id, user_id)
) WITH (fillfactor = 70);

CREATE TABLE IF NOT EXISTS {schema}.chat_messages (
    chat_id              uuid        NOT NULL,
    seq                  bigint      NOT NULL,
    message_id           uuid        NOT NULL,
    sender_id            uuid        NOT NULL,
    message_text         text,                        -- NULL: deleted
    client_generated_id  text        NOT NULL,
    reply_to_message_id  uuid,
    root_seq             bigint,                      -- of a reply: the first message of its thread, never a reply itself
    reply_count          bigint      NOT NULL,        -- of a root: messages whose root_seq it is; 0 on replies
    media_urls           text[]      NOT NULL,
    metadata             jsonb,
    sent_at              timestamptz NOT NULL,        -- when it was sequenced
    original_sent_at     timestamptz,
    edited_at            timestamptz,
    deleted_at           timestamptz,
    position             bigint      NOT NULL,
    changed_position     bigint      NOT NULL,        -- of the send, or of the last thing that changed the row
    PRIMARY KEY (chat_id, seq),
    UNIQUE (message_id)                               -- it is the (chat, sender, client_generated_id) triple
) WITH (fillfactor = 95);

-- One row per valid outcome that has a command_id, kept for 7 days: what became of a command. Its primary key is made
-- with the indexes: a load asks for no outcome.
CREATE TABLE IF NOT EXISTS {schema}.outcomes (
    partition   integer     NOT NULL,
    index       bigint      NOT NULL,
    command_id  uuid        NOT NULL,
    sender_id   uuid,
    type        text,                                 -- of the command; NULL where the outcome does not say it
    outcome     text        NOT NULL CHECK (outcome IN ('accepted', 'duplicate', 'unchanged', 'rejected')),
    reason      text,                                 -- of a rejection
    seq         bigint,                               -- of a duplicate: the original's, as position
    position    bigint,
    at          timestamptz NOT NULL
);

-- Where the projection stands: the whole head, so that a resumed projector can apply the validity rule. Its row
-- is written in the transaction that writes the rows, and guards it.
CREATE TABLE IF NOT EXISTS {schema}.projection_positions (
    partition          integer     PRIMARY KEY,
    topic_id           text        NOT NULL,
    next_offset        bigint      NOT NULL,
    term               bigint      NOT NULL,
    index              bigint      NOT NULL,
    command_offset     bigint      NOT NULL,
    last_timestamp_ms  bigint      NOT NULL,
    updated_at         timestamptz NOT NULL
) WITH (fillfactor = 50);
