"""Ingest: turns HTTP requests into commands on `chat.commands`, and outcomes into responses.

Theory of operation. A request becomes a command whose id is derived from (chat, sender, key). The command carries a
request id and is appended with acks=all to the chat's partition. The writer of that partition decides it and replies on
`chat.replies`; the reply becomes the HTTP response. Ingest keeps no state and decides nothing: whether a command is
new, a repeat or a conflict depends on the log alone, so any number of processes can run in parallel.

Guarantees: `201` and `200` are sent only for outcomes that are in the log; `202` names the URL of the outcome; `503`
means that nothing was accepted, or that the outcome is unknown. A retry with the same key is always safe. A crash loses
waiters, never a command: an appended command is decided, and the client's retry gets the original's figures.

Rooms, in the order in which a request passes through them:

- `api`        HTTP to command, and outcome to HTTP response; independent of Kafka
- `sending`    command to log, and reply to waiter; independent of HTTP

Files: `app` (assembles the service), `settings`, `metrics`, `problems` (why a command did not get into the log).
"""
