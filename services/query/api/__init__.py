"""The HTTP API of query.

The parameters, statements, JSON, response model and route of each path are in one file for its noun, in `paths`. Shared
parts:

- `route`             how a request becomes a call of an endpoint
- `parameters`        the parameters that several paths have
- `fast_params`       reads the same values without FastAPI, if all are valid
- `request_body`      reads the body of a request. Pure
- `reads`             runs the statements of a read and checks membership
- `windows`           selects the rows of a page. Pure
- `change_pages`      which changes of a chat fit an answer. Pure
- `sync_pages`        which chats a sync shows, and the cursors between its pages. Pure
- `cursors`           opaque keyset cursors. Pure
- `delivery_status`   the delivery status of each message of a page. Pure
- `entity_tags`       `ETag` and `If-None-Match` of a message. Pure
- `json_text`         JSON text, written directly. Pure
- `message_json`      messages as JSON, from their rows. Pure
- `_message_json`     the same, compiled
- `examples`          ids in the examples of the OpenAPI document
- `paths`             the paths, by noun
- `routes`            all of them in one router
"""
