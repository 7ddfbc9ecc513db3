"""From an HTTP request to a checked command, and from its outcome to the response.

A request is limited before it is parsed, parsed once, checked by the contract, and turned into one command. Nothing in
this room waits, except `handler`, which hands the command over and renders what comes back, and the endpoints of
`paths`, which call it.

What each path takes, sends and answers is in one file for its noun: `paths`. What they share:

- `content`      which media types are accepted; everything else is 415
- `keys`         the client's key of a command: from `Idempotency-Key`, the body, or made here
- `preferences`  how long the client wants to wait: `Prefer: wait=…`
- `duplicates`   finds a member that a JSON object has twice. Pure
- `rate`         a token bucket per user; off by default
- `requests`     request bodies to commands, or the problem that says what is wrong. Pure
- `responses`    outcomes to status, headers and body. Pure
- `route`        the request without its body, ids in the path, and their descriptions for OpenAPI
- `handler`      admits the caller, sends the command, renders the outcome
- `paths`        the paths, by noun
- `routes`       all of them in one router
"""
