"""The secret that embedded stacks verify tokens with, so that `gapless token` needs no setting.

Made once per user and shared by all embedded stacks of that user: a token that `gapless token` prints is good for
each of them. A stack keeps a copy in its data folder. GAPLESS_JWT_SECRET, where set, goes before both.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path

COPY_NAME = "jwt-secret"


def user_secret_path() -> Path:
    """Where the user's secret is kept."""
    state = os.environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path.home() / ".local" / "state") / "gapless" / COPY_NAME


def user_secret() -> str:
    """The user's secret, made at the first call. Raises OSError where it cannot be kept."""
    path = user_secret_path()
    path.parent.mkdir(parents=True, exist_ok=True)
    return _read_or_make(path, secrets.token_urlsafe(48))


def stack_secret(data_dir: Path) -> str:
    """The secret of the stack in `data_dir`, made at the first call; the folder must be there."""
    path = data_dir / COPY_NAME
    if path.is_file():
        return path.read_text(encoding="ascii").strip()
    try:
        shared = user_secret()
    except OSError:  # a home that cannot be written to: this stack has one of its own
        shared = secrets.token_urlsafe(48)
    return _read_or_make(path, shared)


def token_secret(data_dir: Path) -> str:
    """What to sign a development token with: the secret of the stack in `data_dir` if there is one, else the user's.

    Raises OSError where there is neither, and none can be made.
    """
    path = data_dir / COPY_NAME
    return path.read_text(encoding="ascii").strip() if path.is_file() else user_secret()


def _read_or_make(path: Path, secret: str) -> str:
    """Whole or not there: two processes that come first at once read the same one."""
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
