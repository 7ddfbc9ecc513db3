"""The parts of an HTTP application. They are plain ASGI because every message passes through them.

From the outside in:

- `middleware_stack`   the order of the middleware
- `middleware`         request context, metrics, the last handler of unexpected errors
- `request_ids`        request id and traceparent of a request
- `cors`               cross-origin requests of browsers
- `request_bodies`     reads whole bodies, within limits, before a request takes a slot
- `concurrency`        limits concurrent requests
- `fast_routes`        routes that FastAPI documents and we dispatch ourselves
- `allowed_methods`    the methods of a path
- `problems`           problem documents (RFC 9457), each declared once
- `problem_handlers`   turns exceptions into problem documents
- `openapi`            completes the OpenAPI document
- `docs_pages`         `GET /docs`
"""
