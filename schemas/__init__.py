"""The wire contract of Gapless: pure, importing no service and no I/O library.

Another program that writes commands or reads events needs what is here and nothing else:

- `ids`        identifiers, how each is derived, and the partition of a chat
- `limits`     the size and number of everything a command may hold
- `canonical`  canonical JSON
- `checks`     what is allowed of a text, a name, a URL, metadata, a time, a number
- `bodies`     the commands' bodies, with their limits, and canonical JSON
- `types`      every command type, declared once: its outcome, body, noun, key, seq
- `guard`      bounds the depth and number of values of a body before it is parsed
- `commands`   from the bytes of a body to a checked one; the digest of a payload
- `events`     outcomes, and the bodies that are not a command's own
- `wire`       the bytes of records: commands, outcomes and replies
- `log`        the validity rule: which records of `chat.events` count
- `cursor`     LogCursor: reads the records of a partition by that rule
- `sync_cursor` how far a reader has seen the whole log
- `instants`   times as text
- `search`     the lexemes of a message and the words of a query, by the same rules; `_tokens` is its compiled half
- `topics`     the topics, their settings, and what is wrong with existing ones
- `errors`     one root for everything that is raised here

Read them in that order. docs/follow-one-message.md shows them at work.
"""
