"""One batch of one partition into Postgres: rows and position in one transaction, guarded by the position it began at.

- `apply`   the transaction
- `copy`    messages and outcomes: many by binary COPY, few by INSERT
- `_copy`   the compiled half: COPY bytes of plain messages
- `sql/`    the statements
"""
