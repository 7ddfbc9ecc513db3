"""PostgreSQL with TLS: the wheel's is built without OpenSSL, so this one comes from Maven Central.

The binaries are those of io.zonky.test.postgres, of the same major version; fetched at the first use, verified, and
cached next to Kafka's jars. A folder in the cache is complete: it is built as a draft and renamed into place.
"""

from __future__ import annotations

import os
import platform
import shutil
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path
from typing import Final

from devstack.errors import ChecksumError, DownloadError, MissingRuntimeError
from devstack.jars import MAVEN_CENTRAL, Progress, default_cache_dir, fetch, sha256_of

VERSION: Final = "18.3.0"
GROUP: Final = "io.zonky.test.postgres"
SHA256: Final = {
    ("linux", "x86_64"): ("linux-amd64", "1974c3a59c3ae010e9818e81637e425aad94eaac26e4ef533b42e081fe7ca345"),
    ("linux", "aarch64"): ("linux-arm64v8", "1fb555a6602c13a113ab1f0cc9224d599948e85e51ac5f001393605505eaf78e"),
    ("darwin", "x86_64"): ("darwin-amd64", "cb68c57232945f5e74db946e6077d70cec56bfed35959b21acc750cc80ca0977"),
    ("darwin", "arm64"): ("darwin-arm64v8", "a18ec9ec6a905e04f5a08a8f7870bddadd635feb54dee332a3daf80fada3cb1a"),
}
"""(system, machine) → (suffix of the artifact's name, SHA-256 of its jar)."""


def postgres_programs_with_tls(cache_dir: Path | None = None, *, progress: Progress | None = None) -> Path:
    """Return the folder with `postgres` and `initdb`, fetched at the first call. Blocking.

    Raises MissingRuntimeError if none exists for this machine, DownloadError, ChecksumError.
    """
    try:
        artifact, digest = SHA256[sys.platform, platform.machine()]
    except KeyError:
        raise MissingRuntimeError(
            f"There is no PostgreSQL with TLS to fetch for {sys.platform} on {platform.machine()}: start the stack "
            f"without TLS."
        ) from None
    cache = cache_dir or default_cache_dir()
    folder = cache / f"postgres-{VERSION}-{digest[:12]}"
    if not folder.is_dir():
        if progress is not None:
            progress(f"PostgreSQL {VERSION} with TLS is being fetched")
        _fill(folder, f"{GROUP}:embedded-postgres-binaries-{artifact}:{VERSION}", digest)
    return folder / "bin"


def _fill(folder: Path, coordinates: str, digest: str) -> None:
    repository = os.environ.get("GAPLESS_MAVEN_URL") or MAVEN_CENTRAL
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".download-", dir=folder.parent))
    except OSError as error:
        raise DownloadError(
            f"Cannot write to the cache folder {folder.parent} ({error.strerror}): "
            f"set GAPLESS_CACHE to a folder that you may write to."
        ) from error
    try:
        jar = fetch(coordinates, draft / "maven", repository)
        actual = sha256_of(jar)
        if actual != digest:
            raise ChecksumError(
                f"{coordinates} from {repository} is not the pinned one (SHA-256 {actual} instead of {digest}): "
                f"do not use that repository until you know why; nothing was installed."
            )
        whole = draft / "postgres"
        with zipfile.ZipFile(jar) as archive:
            [name] = [each for each in archive.namelist() if each.endswith(".txz")]
            with archive.open(name) as packed, tarfile.open(fileobj=packed, mode="r:xz") as files:
                files.extractall(whole, filter="tar")
        whole.chmod(0o755)
        try:
            whole.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another first start was faster, with the same files
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)
