"""From records of the log to rows of the tables. Pure, and the same for live work and for a rebuild.

- `validity`    which records of a batch count
- `decode`      a valid outcome to an event of a known type
- `rows`        a batch of events to the rows it changes, merged to the state at its end
- `deletions`   how many messages above a seq are deleted, kept by blocks of seqs
- `tables`      the rows, in the order of the columns of writing/sql/apply.sql
"""
