"""Maintainer's tool: `python -m devstack.pin_jars` resolves Kafka's dependency tree and writes kafka-jars.lock.

Run it after changing KAFKA_VERSION, review the diff, and commit it.
"""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

from devstack.jars import KAFKA_VERSION, LOCK_PATH, MAVEN_CENTRAL, fetch, sha256_of

# The server's jar does not depend on an slf4j binding, without which there is no log. This is the one Kafka ships. The
# "!" excludes its dependency management: log4j's would downgrade kafka-clients to 3.9.
LOG_BINDING = "org.apache.logging.log4j:log4j-slf4j-impl:2.25.4!"
ROOTS = f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}+{LOG_BINDING}"
HEADER = """\
# Every jar of the embedded Kafka. Written by `python -m devstack.pin_jars`; a jar that differs is refused.
"""


def resolve_tree(scratch: Path) -> list[str]:
    """Return `group:artifact:version` of everything Kafka needs at run time, with jgo's own resolver (no Maven)."""
    from jgo.maven import MavenContext
    from jgo.parse import Endpoint

    context = MavenContext(repo_cache=scratch, remote_repos={"central": MAVEN_CENTRAL}, timeout=30)
    roots = [
        context.create_dependency(replace(coordinate, scope="compile"))
        for coordinate in Endpoint.parse(ROOTS).coordinates
    ]
    inputs, transitive = context.resolver.resolve(roots)
    needed = [*inputs, *(found for found in transitive if found.scope in ("compile", "runtime"))]
    return [f"{found.groupId}:{found.artifactId}:{found.version}" for found in needed]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        lines = [
            f"{coordinates} sha256:{sha256_of(fetch(coordinates, scratch, MAVEN_CENTRAL))}"
            for coordinates in resolve_tree(scratch)
        ]
    LOCK_PATH.write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
