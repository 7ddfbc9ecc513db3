"""Sockets.

- `streams`       all connections of a process: catching up, cursors, heartbeats, the ends of tokens, the drain
- `event_stream`  the connection of one event stream
- `websocket`     a WebSocket as the connection of a stream
- `session`       the protocol of a WebSocket's client. Pure
- `connection`    what `streams` needs of a connection
"""
