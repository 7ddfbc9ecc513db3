"""Live: readers follow one chat or all of theirs, and after any cut are complete again.

Each process reads the whole log itself, from where the read model stands; there is no other bus. The way of an event:

- `tail`         records of `chat.events` become events, by the one reader of the log
- `hub`          the ring of the newest events, and who follows what. Pure: it knows no socket
- `frames`       an event becomes a frame, and its bytes, once for all who get it. Pure
- `signals`      typing and presence, which are not in the log
- `connections`  sockets: event streams, WebSockets; one task serves all
- `api`          the paths
- `sql`          what is read of the read model: where it stands, and a user's chats
- `app`          puts them together; `settings`, `metrics`, `errors`

Streams are never read from Postgres. If events have left the ring, the stream carries a `gap` frame, and the client
reads `GET …/changes`, as it reads history. The reasons are in docs/decisions/0045.
"""
