"""Turns records of the log into rows of the tables. Pure, and the same for live work and for a rebuild.

- `validity`    which records of a batch count
- `decode`      from a valid outcome to an event of a known type
- `lookups`     what a batch needs to know of the tables as they were before it
- `search`      from a batch of events to the rows of search, which has a position of its own
- `rows`        from a batch of events to the rows it changes, merged to the state at its end
- `builder`     that state while the events are folded one by one
- `tables`      the rows, in the column order of writing/sql/apply.sql

What an outcome changes, by noun: `MAPPED` by event type, and the resulting rows.

- `messages`    sending, replies and deleting
- `chats`       creating a chat
- `members`     adding, removing, roles; the rows of participants
- `reactions`   adding and removing; counts by emoji
- `receipts`    read and delivered marks
- `deletions`   how many messages above a seq are deleted, counted by blocks of seqs
"""
