"""The `gapless` command: the one place that puts the services together, and the proof that they did right.

`log verify`: `log_verify` reads events and commands side by side; `log_checks` holds each record against the rules
any reader relies on, `decisions` (with `membership`) each accepted event against rights and state, `command_checks`
each outcome against its command.

`projection verify`: `verify` opens one snapshot of the tables (`pinned`), folds each partition up to exactly where
that stands (`partition_log`, `fold`), sums both sides up per chat (`tables`, `digest`) and names what differs
(`differences`). What does not fit memory goes to a `scratch` file.

The embedded stack: `supervisor` keeps children alive, `stack_children` are ours, `stack` is all of it, `demo` its
story. `lag`, `tail` look at the log. `cli` and `*_commands` are the command line, `terminal` what they share.

The verifiers import `schemas` and the runtime's clients, never the projector or the sequencer: a bug there must not
be able to hide here. Everything that verifies only reads; a crash of any command loses nothing.
"""
