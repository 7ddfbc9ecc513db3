"""The secret with which embedded stacks verify tokens, so that `gapless token` needs no setting.

It is created once per user and shared by all embedded stacks of that user: a token printed by `gapless token` is valid
for each of them. A stack keeps a copy in its data folder. GAPLESS_JWT_SECRET, if set, takes precedence over both.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

COPY_NAME = "jwt-secret"


def user_secret_path() -> Path:
    """Return the path of the user's secret."""
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "gapless" / COPY_NAME


def user_secret() -> str:
    """Return the user's secret, created at the first call. Raises OSError if it cannot be stored."""
    path = user_secret_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    return _read_or_make(path, secrets.token_urlsafe(48))


def stack_secret(data_dir: Path) -> str:
    """Return the secret of the stack in `data_dir`, created at the first call. The folder must exist."""
    path = data_dir / COPY_NAME
    if path.is_file():
        return path.read_text(encoding="ascii").strip()
    try:
        shared = user_secret()
    except OSError:  # the home folder is not writable: this stack gets its own secret
        shared = secrets.token_urlsafe(48)
    return _read_or_make(path, shared)


def token_secret(data_dir: Path) -> str:
    """Return the secret for development tokens: that of the stack in `data_dir` if it exists, else the user's.

    Raises OSError if neither exists and none can be created.
    """
    path = data_dir / COPY_NAME
    return path.read_text(encoding="ascii").strip() if path.is_file() else user_secret()


def _read_or_make(path: Path, secret: str) -> str:
    """Read the secret, or create it atomically: two processes that create it concurrently get the same one."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    if not path.is_file():
        draft.touch(mode=0o600)
        draft.write_text(secret, encoding="ascii")
        try:
            os.link(draft, path)  # unlike a rename, the second one fails
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    return path.read_text(encoding="ascii").strip()
