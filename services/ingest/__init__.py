"""Ingest: HTTP requests in, commands on `chat.commands` out, and the answer once the writer has decided.

Theory of operation. A request becomes a command whose id is derived from (chat, sender, key); it is appended with
acks=all to the chat's partition, naming a request id; the writer of that partition decides it and replies on
`chat.replies`; the reply becomes the HTTP answer. Ingest keeps nothing and decides nothing: whether a command is
new, a repeat or a conflict is settled by the log alone, so any number of processes serve side by side.

Guaranteed: `201` and `200` are given only for outcomes that stand in the log; `202` says where to ask; `503` says
that nothing was accepted or that nobody knows yet. Sending again with the same key is always safe. A crash loses
waiters, never a command: what was appended is decided, and the client's retry gets the original's figures.

Read in this order: keys, preferences, requests (HTTP to command), publisher, replies, dispatch (out and back),
batch (many at once), marks (merging), answers (reply to HTTP), routes, app.
"""
