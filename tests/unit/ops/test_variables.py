"""`GAPLESS_*` variables that no process reads are reported, except those of other services and of Kubernetes."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from services.ops.cli.variables import known_variables, unknown_variables

PAGE = (Path(__file__).parents[3] / "docs/settings.md").read_text(encoding="utf-8")


def test_all_that_the_settings_page_lists_is_known_and_nothing_else() -> None:
    assert known_variables() == set(re.findall(r"^\| `(GAPLESS_\w+)` \|", PAGE, re.MULTILINE))


def test_a_variable_of_any_service_is_no_mistake_in_another() -> None:
    assert unknown_variables(dict.fromkeys(known_variables(), "1") | {"HOME": "/", "gapless_http_port": "1"}) == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("GAPLESS_KAFKA_BOOTSTRP", "did you mean GAPLESS_KAFKA_BOOTSTRAP?"),
        ("GAPLESS_KAFKA_BOOTSTRAP_SERVERS", "did you mean GAPLESS_KAFKA_BOOTSTRAP?"),
        ("gapless_http_prot", "did you mean GAPLESS_HTTP_PORT?"),
        (
            "GAPLESS_FROM_ANOTHER_RELEASE",
            "GAPLESS_FROM_ANOTHER_RELEASE is not a variable of this release and is ignored",
        ),
    ],
)
def test_a_misspelt_variable_is_named_with_what_was_meant(name: str, said: str) -> None:
    [unknown] = unknown_variables({name: "x", "GAPLESS_LOG_LEVEL": "info"})
    assert said in str(unknown)


def test_what_kubernetes_sets_for_services_of_that_name_is_passed_over() -> None:
    links = {
        "GAPLESS_SERVICE_HOST": "10.0.0.1",
        "GAPLESS_QUERY_SERVICE_PORT": "8080",
        "GAPLESS_QUERY_SERVICE_PORT_HTTP": "8080",
        "GAPLESS_QUERY_PORT": "tcp://10.0.0.1:8080",
        "GAPLESS_QUERY_PORT_8080_TCP_ADDR": "10.0.0.1",
    }
    assert unknown_variables(links) == []
    assert [unknown.name for unknown in unknown_variables({"GAPLESS_QUERY_PORT": "8080"})] == ["GAPLESS_QUERY_PORT"]
