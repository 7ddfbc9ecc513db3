"""From records of the log to rows of the tables. Pure, and the same for live work and for a rebuild.

- `validity`    which records of a batch count
- `decode`      a valid outcome to an event of a known type
- `lookups`     what a batch needs to know of the tables before it
- `rows`        a batch of events to the rows it changes, merged to the state at its end
- `builder`     that state, while the events are folded one by one
- `tables`      the rows, in the order of the columns of writing/sql/apply.sql

What an outcome changes, by noun: `MAPPED` by event type, and the rows that come of it.

- `messages`    sending, replies and deleting
- `chats`       creating one
- `members`     adding, removing, roles; the rows of participants
- `receipts`    read and delivered marks
- `deletions`   how many messages above a seq are deleted, kept by blocks of seqs
"""
