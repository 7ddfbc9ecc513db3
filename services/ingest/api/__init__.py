"""From an HTTP request to a checked command, and from its outcome to the response.

A request is limited before it is parsed, parsed once, checked by the contract, and turned into one command. Nothing in
this room waits, except `routes`, which hands the command over and renders what comes back.

- `content`      which media types are accepted; everything else is 415
- `keys`         the client's key of a command: from `Idempotency-Key`, the body, or made here
- `preferences`  how long the client wants to wait: `Prefer: wait=…`
- `requests`     request bodies to commands, or the problem that says what is wrong. Pure
- `duplicates`   finds a member that a JSON object has twice. Pure
- `rate`         a token bucket per user; off by default
- `responses`    outcomes to status, headers and body. Pure
- `routes`       the paths
"""
