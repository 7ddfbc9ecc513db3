"""`gapless projection verify`: one snapshot of the tables against the log up to exactly its position.

- `verify`     all partitions
- `snapshot`   the tables at one moment, and their positions in the log
- `fold`       the rows that the log implies, folded independently
- `nouns`      the table of the folds, by event type, and the types that are planned
- `search`     the fold of search, which has a position of its own
- `words`      the lexemes of a message
- `statements` the named statements on the scratch file
- `tables`     which columns are compared, and the one form of a value
- `digest`     per chat: counts, bounds, and a digest that does not depend on the order
- `diff`       what differs, by name

One file for each noun, with the folds of its events: `chats`, `members`, `messages`, `reactions`,
`receipts`
"""
