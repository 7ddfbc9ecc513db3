"""`gapless log verify`: reads events and commands side by side.

- `verify`      all partitions
- `partition`   the rules that any reader relies on, as a fold that names every violation
- `commands`    each outcome against the command it answers
- `nouns`       the table of the judges of accepted events, by event type, and the types that are planned
- `case`        an accepted event and its state: what a judge sees
- `chat`        the part of a chat's state that the judges need
- `memory`      accepted commands and messages, on the scratch file

One file for each noun: what speaks against an event, and how it moves the chat on.

- `chats`, `members`, `messages`, `receipts`
"""
