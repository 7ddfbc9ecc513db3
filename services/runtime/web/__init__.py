"""The parts of an HTTP application, as plain ASGI because every message passes through them.

From the outside in:

- `middleware_stack`   the order of the middleware
- `middleware`         request context, metrics, the last handler of unexpected errors
- `request_ids`        request id and traceparent of a request
- `cors`               which browsers may call
- `request_bodies`     reads bodies whole, within limits, before a request takes a slot
- `concurrency`        how many requests are answered at once
- `fast_routes`        routes that FastAPI describes and we run
- `allowed_methods`    the methods of a path
- `problems`           problem documents (RFC 9457), each declared once
- `problem_handlers`   exceptions to problem documents
- `openapi`            makes the OpenAPI document complete
- `docs_pages`         `GET /docs`
"""
