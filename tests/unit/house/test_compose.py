"""compose.yaml and the image: what readers of either rely on, compared with the code."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from devstack.jars import KAFKA_VERSION
from devstack.kafka_config import behaviour
from services.ingest.settings import IngestProcessSettings
from services.live.settings import LiveProcessSettings
from services.projector.settings import ProjectorSettings
from services.query.settings import QueryProcessSettings
from services.runtime.settings import Settings, variable_name
from services.sequencer.settings import SequencerSettings
from tests.support import stack

ROOT = Path(__file__).parents[3]
DOCKERFILE = (ROOT / "deploy/Dockerfile").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = sorted(name for name, service in SERVICES.items() if service["image"].startswith("gapless:"))
ONE_SHOT = {"topics", "gapless"}
PROCESSES: tuple[type[Settings], ...] = (
    IngestProcessSettings,
    SequencerSettings,
    ProjectorSettings,
    QueryProcessSettings,
    LiveProcessSettings,
)
CONDITIONS = {"service_healthy", "service_completed_successfully"}


def variables_of(settings: type[Settings]) -> set[str]:
    """Return every variable that a process with these settings reads."""
    found: set[str] = set()
    for name, field in settings.model_fields.items():
        annotation = field.annotation
        if isinstance(annotation, type) and issubclass(annotation, Settings):
            found |= variables_of(annotation)
        else:
            found.add(variable_name(settings, name))
    return found


def test_every_part_of_the_system_is_there() -> None:
    assert {"kafka", "postgres", "topics", "ingest", "sequencer", "projector", "query", "caddy"} <= SERVICES.keys()
    assert SERVICES["sequencer"]["deploy"]["replicas"] == 2


def test_the_keys_are_those_of_the_compose_specification() -> None:
    assert {key for key in COMPOSE if not key.startswith("x-")} <= {"name", "services", "configs", "volumes"}
    known = {
        "build", "cap_drop", "command", "configs", "depends_on", "deploy", "environment", "healthcheck", "image",
        "mem_limit", "ports", "profiles", "read_only", "restart", "security_opt", "shm_size", "stop_grace_period",
        "tmpfs", "user", "volumes",
    }  # fmt: skip
    assert {key for service in SERVICES.values() for key in service} <= known


@pytest.mark.parametrize("name", sorted(SERVICES.keys() - ONE_SHOT))
def test_whatever_goes_on_running_has_a_health_check_with_an_end(name: str) -> None:
    check = SERVICES[name]["healthcheck"]
    assert check["test"][0] in ("CMD", "CMD-SHELL")
    assert {"interval", "timeout", "retries", "start_period"} <= check.keys()


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_what_a_service_waits_for_is_there_and_can_come_true(name: str) -> None:
    for other, wait in SERVICES[name].get("depends_on", {}).items():
        assert wait["condition"] in CONDITIONS
        if wait["condition"] == "service_completed_successfully":
            assert other in ONE_SHOT
        else:
            assert "healthcheck" in SERVICES[other]


def test_nobody_waits_in_a_circle() -> None:
    waits = {name: set(service.get("depends_on", {})) for name, service in SERVICES.items()}
    while waits:
        free = {name for name, others in waits.items() if not others & waits.keys()}
        assert free, f"a circle among {sorted(waits)}"
        waits = {name: others for name, others in waits.items() if name not in free}


def test_nothing_of_the_host_is_mounted_and_no_port_is_open_to_the_network() -> None:
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in COMPOSE["volumes"], f"{name} mounts {source}, which is no named volume"
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} listens on every address with {port}"
    for config in COMPOSE["configs"].values():
        assert config["file"].startswith("./")
        assert (ROOT / config["file"]).is_file()
    assert "container_name" not in {key for service in SERVICES.values() for key in service}


EXACT_IMAGE = re.compile(r"[a-z/]+:[0-9]+\.[0-9]+(\.[0-9]+)?(-[a-z0-9.-]+)?(@sha256:[0-9a-f]{64})?")
"""A tag that is never reused for another release, and the digest if one is known."""
TWO_NUMBERS = {"postgres"}
"""Images whose releases have two numbers; for the others, fewer than three would be incomplete."""


def foreign_images() -> dict[str, str]:
    """Return place → image, for all images that we do not build."""
    found = {name: service["image"] for name, service in SERVICES.items() if "build" not in service}
    for path in sorted((ROOT / "deploy").glob("*Dockerfile")):
        text = path.read_text(encoding="utf-8")
        arguments = dict(re.findall(r"^ARG (\w+)=(\S+)$", text, re.MULTILINE))
        for n, image in enumerate(re.findall(r"^FROM (\S+)", text, re.MULTILINE)):
            found[f"{path.name} {n}"] = re.sub(r"\$\{(\w+)\}", lambda m: arguments[m[1]], image)  # noqa: B023
    return found


def test_every_image_is_one_release_and_no_other() -> None:
    images = foreign_images()
    assert len(images) >= 5
    for where, image in images.items():
        match = EXACT_IMAGE.fullmatch(image)
        assert match is not None, f"{where}: {image}"
        assert (match[1] is None) == (image.split(":")[0] in TWO_NUMBERS), (
            f"{where}: {image} may become another release"
        )


def test_the_tests_containers_are_the_same_images() -> None:
    assert SERVICES["kafka"]["image"].split("@")[0] == stack.KAFKA_IMAGE
    assert SERVICES["postgres"]["image"].split("@")[0] == stack.POSTGRES_IMAGE


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_no_container_writes_its_root_has_a_capability_or_takes_all_memory(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service
    assert "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"[1-9][0-9]*[mg]", service["mem_limit"])
    assert "/tmp" in {mount.split(":")[0] for mount in service["tmpfs"]}


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("kafka", {"/opt/kafka/config", "/opt/kafka/logs", "/var/lib/kafka/data"}),
        ("postgres", {"/var/run/postgresql", "/var/lib/postgresql"}),
        ("caddy", {"/config", "/data"}),
        ("sequencer", {"/var/lib/gapless/sequencer"}),
        ("gapless", {"/var/tmp"}),
    ],
)
def test_what_a_container_has_to_write_is_a_volume_or_in_memory(name: str, written: set[str]) -> None:
    service = SERVICES[name]
    mounted = {mount.split(":")[0] for mount in service["tmpfs"]}
    mounted |= {volume.split(":")[1] for volume in service.get("volumes", [])}
    assert written <= mounted


def test_no_container_runs_as_root() -> None:
    """Kafka's image has its own user; the others get theirs here or from our Dockerfiles."""
    assert SERVICES["postgres"]["user"] == "999:999"
    for path in sorted((ROOT / "deploy").glob("*Dockerfile")):
        users = re.findall(r"^USER (\S+)$", path.read_text(encoding="utf-8").rsplit("\nFROM ", 1)[-1], re.MULTILINE)
        assert users, path.name
        assert users[-1].split(":")[0] not in ("root", "0"), path.name


def test_a_health_check_takes_no_proxy_from_the_environment() -> None:
    for name, service in SERVICES.items():
        said = " ".join(map(str, service.get("healthcheck", {}).get("test", [])))
        assert not re.search(r"urllib|curl|wget", said), name


def test_kafka_is_the_one_the_tests_run_with() -> None:
    kafka = SERVICES["kafka"]
    assert kafka["image"] == f"apache/kafka:{KAFKA_VERSION}"
    wanted = {f"KAFKA_{key.replace('.', '_').upper()}": value for key, value in behaviour(1).items()}
    assert {key: kafka["environment"].get(key) for key in wanted} == wanted


@pytest.mark.parametrize("name", OURS)
def test_every_variable_given_to_a_service_is_one_that_gapless_reads(name: str) -> None:
    read = set().union(*[variables_of(settings) for settings in PROCESSES])
    assert SERVICES[name]["environment"].keys() - {"TMPDIR"} <= read
    assert set(re.findall(r"\b(GAPLESS_\w+)=", DOCKERFILE)) <= read


@pytest.mark.parametrize("name", OURS)
def test_all_of_ours_run_from_the_one_image(name: str) -> None:
    build = SERVICES[name]["build"]
    assert build == {"context": ".", "dockerfile": "deploy/Dockerfile"}
    assert (ROOT / build["dockerfile"]).is_file()


SECRETS = {"GAPLESS_JWT_SECRET", "GAPLESS_POSTGRES_PASSWORD"}


def test_no_secret_has_a_default() -> None:
    text = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    used = re.findall(r"\$\{(\w+)(:[-?+]|[-?+]|)", text)
    assert {name for name, _ in used} >= SECRETS
    assert [(name, how) for name, how in used if re.search(r"SECRET|PASSWORD", name) and how != ":?"] == []
    for name in OURS:
        assert SERVICES[name]["environment"]["GAPLESS_JWT_SECRET"].startswith("${GAPLESS_JWT_SECRET:?")
    assert not re.search(r"PASSWORD: (?!\$)|:[^@$/{}\s]+@", text), "a password is written out"


def test_the_state_that_outlives_a_sequencer_is_where_its_image_says() -> None:
    match = re.search(r"GAPLESS_SEQUENCER_STATE_DIR=(\S+)", DOCKERFILE)
    assert match is not None
    assert SERVICES["sequencer"]["volumes"] == [f"sequencer-state:{match[1]}"]


def test_the_image_runs_as_nobody_in_particular() -> None:
    last_stage = DOCKERFILE.rsplit("\nFROM ", 1)[1]
    assert re.search(r"^USER (?!root)\w+$", last_stage, re.MULTILINE)
    assert last_stage.index("USER ") < last_stage.index("ENTRYPOINT")


def test_everything_the_image_copies_reaches_the_build() -> None:
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = {line[1:] for line in ignored if line.startswith("!")}
    copied: set[str] = set()
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE):
        copied.update(line.split()[:-1])
    assert copied == kept
    assert all((ROOT / name).exists() for name in copied)
