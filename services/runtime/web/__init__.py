"""The parts of an HTTP application. They are plain ASGI because every message passes through them.

From the outside in:

- `middleware_stack`   the order of the middleware
- `middleware`         request context, metrics, the last handler of unexpected errors
- `request_ids`        request id and traceparent of a request
- `cors`               cross-origin requests of browsers
- `request_bodies`     reads whole bodies, within limits, before a request takes a slot
- `media_types`        checks the media type of a body; everything unsupported is 415
- `concurrency`        limits concurrent requests
- `query_strings`      the limit on query strings
- `fast_routes`        routes that FastAPI documents and we dispatch ourselves
- `headers`            the headers of a request by name
- `plain_routes`       routes that do not need FastAPI
- `allowed_methods`    the methods of a path
- `problem_types`      every kind of refusal, declared once
- `problems`           problem documents (RFC 9457)
- `problem_handlers`   turns exceptions into problem documents
- `validation_problems` turns what FastAPI and pydantic find invalid into one
- `openapi`            completes the OpenAPI document
- `docs_pages`         `GET /docs`
"""
