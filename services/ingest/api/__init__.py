"""Turns an HTTP request into a validated command, and its outcome into the response.

A request is size-checked before it is parsed, parsed once, checked by the contract, and turned into one command. Only
`handler` waits, which hands over the command and renders its outcome, and the endpoints of `paths`, which call it.

The request body, command, response and route of each path are in one file for its noun, in `paths`. Shared parts:

- `keys`         the client's key of a command: from `Idempotency-Key`, the body, or generated
- `preferences`  how long the client wants to wait: `Prefer: wait=…`
- `duplicates`   finds a member that a JSON object has twice. Pure
- `unknown`      finds the unknown fields of a body, the first few. Pure
- `rate`         a token bucket per user; off by default
- `requests`     turns request bodies into commands, or into the problem that says what is wrong. Pure
- `responses`    turns outcomes into status, headers and body. Pure
- `route`        the request without its body, ids in the path, and their descriptions for OpenAPI
- `handler`      admits the caller, sends the command, renders the outcome
- `paths`        the paths, by noun
- `routes`       all of them in one router
"""
