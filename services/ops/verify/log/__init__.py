"""`gapless log verify`: reads the events together with the commands that they answer.

- `verify`      all partitions
- `partition`   the rules that every reader relies on, as a fold that names every violation
- `commands`    each outcome against the command it answers
- `nouns`       the table of the judges of accepted events, by event type, and the types that are planned
- `case`        an accepted event and its state: the input of a judge
- `chat`        the part of a chat's state that the judges need
- `memory`      accepted commands and messages, in the scratch file

One file for each noun: the checks of an event, and how it changes the chat.

- `chats`, `members`, `messages`, `reactions`, `receipts`
"""
