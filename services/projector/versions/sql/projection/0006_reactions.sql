-- name: tables_0006
-- The reactions of users to messages, and how many there are of each emoji: a page shows the counts, whatever their size.
-- The keys begin with the message, so that the reactions of a page are one range. No projection older than this step has
-- folded a reaction, so its tables are rightly empty.
CREATE TABLE IF NOT EXISTS {schema}.reactions (
    chat_id           uuid    NOT NULL,
    seq               bigint  NOT NULL,
    emoji             text    NOT NULL COLLATE "C",
    user_id           uuid    NOT NULL,
    changed_position  bigint  NOT NULL,               -- position at which the user added it
    PRIMARY KEY (chat_id, seq, emoji, user_id)
);

CREATE TABLE IF NOT EXISTS {schema}.reaction_counts (
    chat_id         uuid    NOT NULL,
    seq             bigint  NOT NULL,
    emoji           text    NOT NULL COLLATE "C",
    users           bigint  NOT NULL CHECK (users > 0),
    first_position  bigint  NOT NULL,                 -- since when there has always been a user who reacts with it
    PRIMARY KEY (chat_id, seq, emoji)
) WITH (fillfactor = 80);
