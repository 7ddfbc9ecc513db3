-- name: tables_0001
-- The tables of one projection, chat_v<N>. Fillfactor leaves room for rows that are updated in place (HOT): a send
-- updates the rows of its chat and its sender, a receipt that of its member.
CREATE SCHEMA IF NOT EXISTS {schema};

CREATE TABLE IF NOT EXISTS {schema}.chats (
    chat_id          uuid        PRIMARY KEY,
    kind             text        NOT NULL CHECK (kind IN ('group', 'direct')),
    name             text,                            -- a group's name
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
    joined_at            timestamptz NOT NULL,        -- time of the last join
    joined_seq           bigint      NOT NULL,        -- the chat's last_seq at that time
    left_at              timestamptz,                 -- NULL: present
    read_seq             bigint      NOT NULL,        -- joined_seq at the join, then the last read receipt's seq
    last_read_at         timestamptz,                 -- time of the last read receipt, even if before the last join
    delivered_seq        bigint      NOT NULL,        -- like read_seq, for delivered marks; no read receipt moves it
    own_live_after_read  bigint      NOT NULL,        -- number of own messages above read_seq that are not deleted
    changed_position     bigint      NOT NULL,        -- position of the last join, leave, role change or mark
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
    root_seq             bigint,                      -- for a reply: the first message of its thread, never a reply
    reply_count          bigint      NOT NULL,        -- for a root: number of messages with this root_seq; 0 on replies
    media_urls           text[]      NOT NULL,
    metadata             jsonb,
    sent_at              timestamptz NOT NULL,        -- time of sequencing
    original_sent_at     timestamptz,
    edited_at            timestamptz,
    deleted_at           timestamptz,
    position             bigint      NOT NULL,
    changed_position     bigint      NOT NULL,        -- position of the send, or of the last change to the row
    PRIMARY KEY (chat_id, seq),
    UNIQUE (message_id)                               -- derived from (chat, sender, client_generated_id)
) WITH (fillfactor = 95);

-- One row per valid outcome that has a command_id, kept for 7 days: the result of a command. Its primary key is created
-- with the indexes, because a load looks up no outcome.
CREATE TABLE IF NOT EXISTS {schema}.outcomes (
    partition   integer     NOT NULL,
    index       bigint      NOT NULL,
    command_id  uuid        NOT NULL,
    sender_id   uuid,
    type        text,                                 -- the command's type; NULL if the outcome does not contain it
    outcome     text        NOT NULL CHECK (outcome IN ('accepted', 'duplicate', 'unchanged', 'rejected')),
    reason      text,                                 -- for a rejection
    seq         bigint,                               -- for a duplicate: the original's; so is position
    position    bigint,
    at          timestamptz NOT NULL
);

-- The position of the projection with the whole head, so that a resumed projector can apply the validity rule. A row is
-- updated in the transaction that writes the batch, and guards it.
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
