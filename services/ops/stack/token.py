"""Tokens for development: signed with GAPLESS_JWT_SECRET, or with the secret that embedded stacks share."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from services.ops.errors import UsageError
from services.ops.stack.secret import token_secret
from services.runtime.settings import AuthSettings, load_settings


def development_token(user: str, *, data_dir: Path, scopes: Iterable[str] = (), ttl_s: float = 24 * 3600) -> str:
    """Return a token for `user`, a UUID or any other name.

    It is signed with GAPLESS_JWT_SECRET if that is set, otherwise with the secret of the stack on `data_dir`, or with
    the one that all embedded stacks of this user share.

    Raises UsageError if there is no secret to sign with, and SettingsError.
    """
    from services.runtime.access.auth import mint_token  # imports the web framework, which other commands do not need

    auth = _auth_settings(data_dir)
    if auth.secret is None:
        raise UsageError("Tokens are verified with GAPLESS_JWT_JWKS_URL: get one from its issuer.")
    return mint_token(
        auth.secret.get_secret_value(),
        user,
        scopes=scopes,
        ttl_s=ttl_s,
        user_claim=auth.user_claim,
        issuer=auth.expected_issuer,
        audience=auth.expected_audience,
    )


def _auth_settings(data_dir: Path) -> AuthSettings:
    if os.environ.get("GAPLESS_JWT_SECRET") or os.environ.get("GAPLESS_JWT_JWKS_URL"):
        return load_settings(AuthSettings)
    try:
        secret = token_secret(data_dir)
    except OSError as error:
        raise UsageError(f"There is no secret to sign with ({error.strerror}): set GAPLESS_JWT_SECRET.") from None
    return AuthSettings.model_validate({"secret": secret})
