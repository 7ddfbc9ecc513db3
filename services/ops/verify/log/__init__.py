"""`gapless log verify`: reads events and commands side by side.

- `verify`      all partitions
- `partition`   the rules that any reader relies on, as a fold that names every violation
- `accepted`    each accepted event against rights and state
- `chat`        what has to be known of a chat for that
- `commands`    each outcome against the command it answers
"""
