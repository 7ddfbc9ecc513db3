"""Authentication: tokens, and the keys that verify them.

- `auth`           a bearer token becomes a `Caller`, or 401
- `signing_keys`   the keys that verify tokens: a shared secret or an issuer's JWKS
"""
