"""Sockets.

- `streams`       all connections of a process: catching up, cursors, heartbeats, the ends of tokens, the drain
- `event_stream`  the connection of one event stream
- `connection`    what `streams` needs of a connection
"""
