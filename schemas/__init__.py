"""The wire contract of Gapless: pure, importing no service and no I/O library.

Another program that writes commands or reads events needs what stands here and nothing else:

- `ids`        identifiers, how each is derived, and the partition of a chat
- `limits`     the size and number of everything a command may hold
- `bodies`     the command types, the models of their bodies, canonical JSON
- `checks`     what makes a body acceptable
- `commands`   from the bytes of a body to a checked one; the digest of a payload
- `events`     the outcome types, and the bodies that are not a command's own
- `encoding`   records: commands and outcomes to and from key, headers and value
- `log`        the validity rule: which records of `chat.events` count
- `cursor`     the reader of `chat.events` that applies it: records in, typed events out
- `replies`    what the writer tells a waiting ingest
- `topics`     the topics, their settings, and what is wrong with the ones that are there
- `errors`     one root for everything that is raised here

Read them in that order. docs/follow-one-message.md shows them at work.
"""
