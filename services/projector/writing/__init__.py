"""Writes one batch of one partition to Postgres: rows and position in one transaction, guarded by the start position.

- `apply`   the transaction of the tables
- `search`  that of search, with a position of its own
- `guard`   what both have in common: the position moves with the rows, or neither
- `copy`    messages and outcomes: many by binary COPY, few by INSERT
- `_copy`   the compiled half: the COPY bytes of plain messages
- `columns` the column lists of the statements, from the rows of mapping/tables.py
- `sql/`    the statements
"""
