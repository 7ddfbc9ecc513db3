"""What happens to a command, and what an outcome changes. Pure: no clock, no randomness, no I/O.

Shared by all command types:

- `state`    what deciding sees: chats, members, messages and remembered keys
- `facts`    what few messages have, such as a deletion or edits: one declaration for each kind
- `rule`     what a rule is, and the checks and steps that several rules need
- `decide`   state and command to a decision: repeats, the order of the checks, the outcome
- `evolve`   state and outcome to the next state, for the live path and for recovery; remembers keys
- `nouns`    the table of all rules

One file for each noun, with the rules of its command types: what is decided and, below it, what the outcome changes.

- `messages`  sending, editing and deleting
- `members`   adding, removing, roles
- `chats`     creating
- `reactions` adding and removing the sender's own
- `receipts`  read and delivered marks
"""
