"""The HTTP server: uvicorn, with limits on what one client may cost.

- `serve`               starts and stops a server with the services that its application needs
- `server`              serves an ASGI application inside a running event loop
- `connection`          one connection: its heads, bodies, deadlines and refusals
- `takeover`            hands a connection from HTTP to a stream's own protocol
- `framing`             the bytes around what such a protocol writes. Pure
- `websocket`           a WebSocket on a connection that was taken over
- `http_1_0`            responses of unknown length to HTTP/1.0
- `connection_limits`   the limits, and the order in which waiting connections are closed. Pure
"""
