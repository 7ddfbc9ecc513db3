"""Object stores by their URL: a folder, S3, Google Cloud or Azure. All calls of a store block: use threads.

Keys, region and endpoint are configured by the library's own variables: AWS_*, GOOGLE_*, AZURE_*.
"""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

from obstore.store import from_url

REQUEST_S: Final = "20s"
CONNECT_S: Final = "3s"
RETRIED: Final = 2
RETRIED_FOR: Final = timedelta(seconds=20)


def open_store(url: str, *, create: bool = True) -> tuple[Any, Path | None]:
    """Return the store, and its folder if it is on this machine; `create` makes that. Does not connect yet.

    Raises ValueError if the URL cannot be used.
    """
    try:
        if url.startswith("file:"):
            return from_url(url, mkdir=create), Path(url2pathname(urlsplit(url).path))
        options: Any = {"timeout": REQUEST_S, "connect_timeout": CONNECT_S}
        retries: Any = {"max_retries": RETRIED, "retry_timeout": RETRIED_FOR}
        return from_url(url, client_options=options, retry_config=retries), None
    except Exception as error:
        raise ValueError(f"{url!r} names no object store: {first_line(error) or type(error).__name__}") from error


def first_line(error: Exception) -> str:
    """Return what happened: the library's errors have many lines."""
    return str(error).splitlines()[0] if str(error) else ""
