"""Ingest: HTTP requests in, commands on `chat.commands` out, and the answer once the writer has decided.

Theory of operation. A request becomes a command whose id is derived from (chat, sender, key). It is appended with
acks=all to the chat's partition and names a request id. The writer of that partition decides it and replies on
`chat.replies`; the reply becomes the HTTP response. Ingest keeps no state and decides nothing: whether a command is
new, a repeat or a conflict is settled by the log alone, so any number of processes can serve side by side.

Guarantees: `201` and `200` are sent only for outcomes that are in the log; `202` says where to ask; `503` says that
nothing was accepted, or that the outcome is unknown. Sending again with the same key is always safe. A crash loses
waiters, never a command: what was appended is decided, and the client's retry gets the original's figures.

Rooms, in the order in which a request meets them:

- `api`        HTTP to command, and outcome to HTTP response; knows no Kafka
- `sending`    command to log, and reply to waiter; knows no HTTP

Files: `app` (puts it together), `settings`, `metrics`, `problems` (why a command did not get into the log).
"""
