"""Proves an archive by restoring it: into a Kafka and a Postgres of its own, in a folder that it may fill.

The log is imported and verified by its rules, the read model is folded from it and compared with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from services.ops.transfer.archive import Archive
from services.ops.transfer.checks import OnPlan, check_archive, manifest_of
from services.ops.transfer.import_ import ImportReport, import_checked
from services.ops.verify.projection.verify import ProjectionReport, verify_projection
from services.projector.versions.rebuild import rebuild
from services.runtime.settings import KafkaSettings, PostgresSettings

VERSION = 2
"""Version 1 serves in an empty database, and what serves cannot be rebuilt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoreReport:
    """The result."""

    imported: ImportReport
    projection: ProjectionReport
    seconds: dict[str, float] = field(default_factory=dict)
    """How long each step took."""

    @property
    def sound(self) -> bool:
        return self.imported.log.sound and self.projection.equal


async def restore_test(
    archive: Archive,
    folder: Path,
    *,
    on_plan: OnPlan | None = None,
    on_step: Callable[[str], None] = lambda _step: None,
) -> RestoreReport:
    """Restore an archive on `folder`, which needs room for the log and its read model, and verify both.

    Raises what import_log, rebuild and verify_projection raise, and DevstackError; stops its servers even then.
    """
    from devstack.stack import Stack

    timer = _Timer(on_step)
    timer.begin("check", "the archive's files are being compared with their digests")
    manifest = await manifest_of(archive)
    await check_archive(archive, manifest, on_plan)
    stack = Stack(folder, progress=on_step)
    timer.begin("start", "Kafka and Postgres are starting")
    async with stack:
        kafka = _plain(stack.bootstrap_servers, manifest.log.partitions)
        postgres = PostgresSettings.model_validate({"dsn": stack.postgres_dsn})
        timer.begin("import", "the log is being imported and verified")
        imported = await import_checked(kafka, archive, manifest, on_plan=on_plan)
        timer.begin("rebuild", "the read model is being folded")
        await rebuild(VERSION, kafka=kafka, postgres=postgres)
        timer.begin("verify", "the read model is being compared with the log")
        projection = await verify_projection(kafka, postgres, version=f"v{VERSION}")
        timer.begin("stop", "the servers are stopping")
    timer.end()
    return RestoreReport(imported=imported, projection=projection, seconds=timer.seconds)


class _Timer:
    def __init__(self, on_step: Callable[[str], None]) -> None:
        self.seconds: dict[str, float] = {}
        self._on_step = on_step
        self._step = ""
        self._began_s = 0.0

    def begin(self, step: str, sentence: str) -> None:
        self.end()
        self._step, self._began_s = step, time.monotonic()
        self._on_step(sentence)

    def end(self) -> None:
        if self._step:
            self.seconds[self._step] = time.monotonic() - self._began_s


def _plain(bootstrap_servers: str, partitions: int) -> KafkaSettings:
    """Return settings of the embedded Kafka, whatever the environment says about another."""
    return KafkaSettings(
        bootstrap_servers=bootstrap_servers,
        partitions=partitions,
        reply_partitions=1,
        replication_factor=1,
        min_insync_replicas=1,
        topic_prefix="",
        security_protocol="PLAINTEXT",
        tls_ca_file=None,
        tls_cert_file=None,
        tls_key_file=None,
        tls_key_password=None,
        sasl_username=None,
        sasl_password=None,
        sasl_oauth_token_file=None,
    )
