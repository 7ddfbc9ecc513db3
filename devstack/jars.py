"""Kafka's jars as pinned in kafka-jars.lock: fetched once into the cache by jgo, verified, and reused.

The cache has one folder per content of the lock file. A folder is built as a draft and renamed into place once every
jar in it is verified, so an existing folder is complete: a crash or Ctrl-C during a download leaves only a draft that
the next start ignores, and two concurrent first starts do not interfere.

The lock lists the whole dependency tree, so no start resolves it again: jgo only fetches. (jgo's own environment
builder would also download a JDK to sort jars into class path and module path; Kafka needs only a class path.)
`python -m devstack.pin_jars` resolves the tree and rewrites the lock.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from devstack.errors import ChecksumError, DownloadError, MissingRuntimeError

KAFKA_VERSION = "4.3.1"
LOCK_PATH = Path(__file__).with_name("kafka-jars.lock")
MAVEN_CENTRAL = "https://repo.maven.apache.org/maven2"
HTTP_TIMEOUT_S = 30
PARALLEL_DOWNLOADS = 8
DOWNLOAD_ATTEMPTS = 3
PAUSE_BETWEEN_ATTEMPTS_S = 1.0

Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class PinnedJar:
    """One line of the lock: Maven coordinates and the SHA-256 of the jar, in hex."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def coordinates(self) -> str:
        return f"{self.group}:{self.artifact}:{self.version}"

    @property
    def file_name(self) -> str:
        # Includes the group: two groups may publish artifacts of the same name.
        return f"{self.group}.{self.artifact}-{self.version}.jar"


def read_lock(path: Path = LOCK_PATH) -> list[PinnedJar]:
    """Return the pinned jars, in class path order."""
    jars = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.startswith("#"):
            coordinates, digest = line.split()
            group, artifact, version = coordinates.split(":")
            jars.append(
                PinnedJar(group=group, artifact=artifact, version=version, sha256=digest.removeprefix("sha256:"))
            )
    return jars


def default_cache_dir() -> Path:
    """Return `$GAPLESS_CACHE`, else the folder gapless in the user's cache folder."""
    named = os.environ.get("GAPLESS_CACHE")
    if named:
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "gapless"


def kafka_jars(
    cache_dir: Path | None = None,
    *,
    lock_path: Path = LOCK_PATH,
    repository: str | None = None,
    progress: Progress | None = None,
) -> list[Path]:
    """Return the class path of Kafka, fetched at the first call. Blocking.

    `repository`: base URL of a Maven repository, by default `$GAPLESS_MAVEN_URL`, else Maven Central. Its files must
    have the pinned checksums. Raises DownloadError, ChecksumError.
    """
    pinned = read_lock(lock_path)
    cache = cache_dir or default_cache_dir()
    digest = hashlib.sha256(lock_path.read_bytes()).hexdigest()[:12]
    folder = cache / f"kafka-{KAFKA_VERSION}-{digest}"
    if not folder.is_dir():
        _fill(folder, pinned, repository or os.environ.get("GAPLESS_MAVEN_URL") or MAVEN_CENTRAL, progress)
    jars = [folder / jar.file_name for jar in pinned]
    missing = [jar.name for jar in jars if not jar.is_file()]
    if missing:
        raise DownloadError(
            f"The cache folder {folder} has lost {missing[0]}: delete that folder and start again, "
            f"it is downloaded anew."
        )
    return jars


def _fill(folder: Path, pinned: list[PinnedJar], repository: str, progress: Progress | None) -> None:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".download-", dir=folder.parent))
    except OSError as error:
        raise DownloadError(
            f"Cannot write to the cache folder {folder.parent} ({error.strerror}): "
            f"set GAPLESS_CACHE to a folder that you may write to."
        ) from error
    try:
        whole = draft / "jars"
        whole.mkdir()
        _download(pinned, whole, draft / "maven", repository, progress)
        try:
            # After a crash before this line, the draft is ignored; after it, the jars are complete.
            whole.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another first start was faster, with the same jars
                raise
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _download(pinned: list[PinnedJar], target: Path, scratch: Path, repository: str, progress: Progress | None) -> None:
    def fetch_one(jar: PinnedJar) -> None:
        fetched = fetch(jar.coordinates, scratch, repository)
        actual = sha256_of(fetched)
        if actual != jar.sha256:
            raise ChecksumError(
                f"{jar.coordinates} from {repository} is not the pinned jar (SHA-256 {actual} instead of "
                f"{jar.sha256}): do not use that repository until you know why; nothing was installed."
            )
        fetched.rename(target / jar.file_name)

    with ThreadPoolExecutor(PARALLEL_DOWNLOADS) as pool:
        downloads = [pool.submit(fetch_one, jar) for jar in pinned]
        try:
            for done, download in enumerate(as_completed(downloads), start=1):
                download.result()
                if progress is not None:
                    progress(f"Kafka {KAFKA_VERSION}: {done} of {len(pinned)} jars")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def fetch(coordinates: str, scratch: Path, repository: str) -> Path:
    """Download one jar by its `group:artifact:version` with jgo. Raises DownloadError."""
    try:
        import requests
        from jgo.maven import MavenContext
    except ImportError as error:
        raise MissingRuntimeError(
            f"The embedded stack needs the package {error.name}: "
            "install Gapless with its extra, `pip install 'gapless[devstack]'`."
        ) from error
    group, artifact, version = coordinates.split(":")
    for attempt in range(1, DOWNLOAD_ATTEMPTS + 1):
        context = MavenContext(
            # A separate folder: jgo would take the partial file of a broken download for a complete one.
            repo_cache=scratch / str(attempt),
            remote_repos={"central": repository.rstrip("/")},
            timeout=HTTP_TIMEOUT_S,
        )
        try:
            return Path(context.project(group, artifact).at_version(version).artifact().resolve())
        except (requests.RequestException, RuntimeError, OSError) as error:
            if attempt == DOWNLOAD_ATTEMPTS:
                raise DownloadError(
                    f"Cannot download {coordinates} from {repository} ({_cause(error)}): connect to the "
                    f"network, or set GAPLESS_MAVEN_URL to a Maven repository that is reachable from here, "
                    f"and start again."
                ) from error
            time.sleep(PAUSE_BETWEEN_ATTEMPTS_S)
    raise AssertionError("the last attempt returns or raises")


def _cause(error: Exception) -> str:
    """Return the root cause in a few words: requests' own text nests three reprs."""
    link: BaseException = error
    while (deeper := link.__cause__ or link.__context__) is not None:
        link = deeper
    text = getattr(link, "strerror", None) or str(link) or type(link).__name__
    return str(text).splitlines()[0][:200]


def sha256_of(path: Path) -> str:
    with path.open("rb") as jar:
        return hashlib.file_digest(jar, "sha256").hexdigest()
