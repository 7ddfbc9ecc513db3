"""The documentation, compared with its subjects: files, functions, tests, commands, paths, problems, metrics."""

from __future__ import annotations

import asyncio
import html
import pkgutil
import re
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
import typer
from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.metrics import MetricWrapperBase

from benchmarks.cli import app as bench
from benchmarks.report import report
from schemas.errors import Reason
from services.ops.cli.main import app as gapless
from services.ops.processes.api import ApiSettings, create_app
from services.ops.verify.projection.tables import TABLES, Table
from services.runtime.process.crashpoints import declared_crash_points
from services.runtime.settings import (
    AuthSettings,
    KafkaSettings,
    LogSettings,
    PostgresSettings,
    Settings,
    variable_name,
)
from services.runtime.web.problem_types import PROBLEM_TYPES
from tests.contract import errors_page

ROOT: Final = Path(__file__).parents[3]
PAGES: Final = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
CODE: Final = re.compile(r"`([^`\n]+)`")
PLACE: Final = re.compile(
    r"((?:schemas|services|devstack|tests|docs|deploy|benchmarks|examples)/[\w./-]+)(?::([\w.]+))?"
)
EXAMPLES: Final = {"GAPLESS_INGEST_REPLY_TIMEOUT_S"}
"""Names in the docstring that explains settings."""
OURS: Final = ("schemas", "services", "devstack", "tests")


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def spans(page: Path) -> Iterator[str]:
    """Yield what is between backticks, outside code blocks."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    yield from CODE.findall(text)


def table(page: str, heading: str) -> list[list[str]]:
    """Return the cells of the first table below a heading, without its head and without backticks."""
    text = (ROOT / page).read_text(encoding="utf-8")
    lines = iter(text.split(f"\n{heading}\n", 1)[1].splitlines())
    rows: list[list[str]] = []
    for line in lines:
        if line.startswith("|"):
            rows.append([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]])
        elif rows:
            break
    return rows[2:]


@cache
def code_of_tests() -> str:
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "tests").rglob("*.py")))


def defines(path: Path, dotted: str) -> bool:
    """Return whether a file defines `name` or `Class.name` (not as a local variable), or an SQL block of that name."""
    outer, *inner = dotted.split(".")
    text = path.read_text(encoding="utf-8")
    found = [rf"^(?:async )?def {outer}\b|^(?:cdef )?class {outer}\b|^{outer}\s*[:=]|^-- name: {outer}$"]
    found += [rf"^    (?:async )?def {name}\b|^    {name}\s*[:=]" for name in inner]
    return all(re.search(pattern, text, re.MULTILINE) for pattern in found)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_place_in_the_code_that_a_page_names_is_there(page: Path) -> None:
    for span in spans(page):
        match = PLACE.fullmatch(span)
        if match is None:
            continue
        path = ROOT / match[1]
        assert path.exists(), f"{span}: there is no such file"
        if match[2] is not None:
            assert defines(path, match[2]), f"{span}: the file has no such name"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_test_that_a_page_names_is_there(page: Path) -> None:
    for span in spans(page):
        if re.fullmatch(r"test_[a-z0-9_]+", span):
            assert re.search(rf"^\s*(?:async )?def {span}\b", code_of_tests(), re.MULTILINE), f"no test {span}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_leads_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), target


def test_every_page_that_the_code_names_is_there() -> None:
    for folder in OURS:
        for path in (ROOT / folder).rglob("*.py"):
            for target in re.findall(r"\bdocs/[\w./-]+\.(?:md|yaml)", path.read_text(encoding="utf-8")):
                assert (ROOT / target).is_file(), f"{path.relative_to(ROOT)} names {target}"


@cache
def commands() -> dict[str, set[str]]:
    """Return every command, as "projection rebuild", with its options."""
    return dict(walk(typer.main.get_command(gapless), ""))


@cache
def benchmarks() -> dict[str, set[str]]:
    """Return every benchmark, as "bench sequencer", with its options: `gapless bench` passes its words to them."""
    return dict(walk(typer.main.get_command(bench), "bench"))


def walk(command: Any, prefix: str) -> Iterator[tuple[str, set[str]]]:
    for name, inner in getattr(command, "commands", {}).items():
        yield from walk(inner, f"{prefix} {name}".strip())
    if not hasattr(command, "commands"):
        yield (
            prefix,
            {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)},
        )


def lines_of_code(page: Path) -> Iterator[str]:
    """Yield code spans and the lines of code blocks."""
    yield from spans(page)
    for block in re.findall(r"^```\w*\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL):
        yield from block.splitlines()


def calls(page: Path) -> Iterator[list[str]]:
    """Yield the words after `gapless`, wherever a page calls it."""
    for line in lines_of_code(page):
        for call in re.findall(r"(?:^|[ (/])gapless ([a-z][^#;)|]*)", line):
            yield call.split()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_command_that_a_page_names_is_there_with_its_options(page: Path) -> None:
    there = commands() | benchmarks()
    groups = {name.split()[0] for name in there if " " in name}
    for words in calls(page):
        of_all = words[0] in groups | {"bench"} and (words[1:] or ["--help"])[0] in ("NAME", "--help")
        if of_all:
            continue
        name = " ".join(words[:2]) if words[0] in groups else words[0]
        assert name in there, f"gapless {' '.join(words)}: there is no such command"
        wrong = {word for word in words if word.startswith("--")} - there[name] - {"--help"}
        assert not wrong, f"gapless {name} has no {wrong}"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_target_of_make_that_a_page_names_is_there(page: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    for line in lines_of_code(page):
        for target in re.findall(r"(?:^|[\s&;$(])make ([a-z]+)\b", f" {line}"):
            assert target in targets, line


def test_the_commands_of_the_operations_page_are_all_there_are() -> None:
    written = {
        row[0].strip("`").removeprefix("gapless "): row[1] for row in table("docs/operations.md", "## The command")
    }
    assert written.keys() == commands().keys()
    for name, does in written.items():
        assert set(re.findall(r"(?<=`)--[a-z-]+", does)) <= commands()[name], name


def test_the_paths_of_the_api_page_are_all_there_are() -> None:
    auth = AuthSettings.model_validate({"secret": "x" * 32})
    app, *_ = create_app(ApiSettings(auth=auth))
    served = {
        f"{method.upper()} {path}"
        for path, methods in app.openapi()["paths"].items()
        for method in methods
        if path.startswith("/v1/")
    }
    assert {CODE.findall(row[0])[0] for row in table("docs/api.md", "## Paths")} == served


def test_the_page_of_errors_is_as_the_problem_types_are_declared() -> None:
    assert errors_page.written() == errors_page.generated(), "python -m tests.contract.errors_page --write"
    sections = re.findall(r"^## `(\w+)`$", errors_page.written(), re.MULTILINE)
    assert sections == list(PROBLEM_TYPES)


def shown_text(page: str) -> str:
    """Return what a page says, without its markup, whether it is HTML or Markdown."""
    body = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    words = html.unescape(re.sub(r"</?[a-z0-9]+[^<>]*>", " ", body)) if body.startswith("<!doctype") else body
    return " ".join(re.sub(r"[`*]|```json", " ", words).split())


@pytest.mark.parametrize("reason", PROBLEM_TYPES)
def test_the_page_that_a_problems_type_leads_to_says_what_the_page_of_errors_says(reason: str) -> None:
    app, *_ = create_app(ApiSettings(auth=AuthSettings.model_validate({"secret": "x" * 32})))

    async def ask() -> httpx.Response:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as client:
            return await client.get(f"/problems/{reason}")

    served = shown_text(asyncio.run(ask()).text)
    section = errors_page.written().partition(f"\n## `{reason}`\n")[2].partition("\n## ")[0]
    assert section
    for heading in ("When", "What to do", "Sending it again"):
        text = re.search(rf"^\*\*{heading}\.\*\* (.*?)\n\n", section, re.MULTILINE | re.DOTALL)
        assert text is not None, heading
        assert f"{heading} {shown_text(text[1])}" in served
    assert shown_text(section.partition("```json\n")[2].partition("```")[0]) in served
    assert f"{PROBLEM_TYPES[reason].status} " in served


def test_a_reason_that_a_request_can_get_has_a_problem_with_an_explanation() -> None:
    missing = {reason.value for reason in Reason if reason.status and reason.value not in PROBLEM_TYPES}
    assert not missing, "explain them in services/runtime/web/problem_types.py"
    for reason, kind in PROBLEM_TYPES.items():
        assert kind.when.endswith("."), reason
        assert kind.action.endswith("."), reason
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", reason.since) for reason in Reason)


def test_every_crash_point_is_told_with_what_holds_after_it() -> None:
    for service in ("ingest", "sequencer", "projector"):
        package = import_module(f"services.{service}")
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            import_module(module.name)
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    ours = {name for name in declared_crash_points() if name.split(".")[0] in ("ingest", "sequencer", "projector")}
    assert ours
    assert {name for name in ours if f"`{name}`" not in text} == set()


@pytest.mark.parametrize("proven", TABLES, ids=lambda each: each.name)
def test_the_page_of_the_read_model_has_every_column_that_is_proven(proven: Table) -> None:
    written = [name for row in table("docs/read-model.md", f"### `{proven.name}`") for name in CODE.findall(row[0])]
    assert sorted(written) == sorted(proven.columns)


METRIC_MODULES: Final = {
    "## Every service": "services.runtime.observe.metrics",
    "## Ingest": "services.ingest.metrics",
    "## Sequencer": "services.sequencer.metrics",
    "## Projector": "services.projector.metrics",
    "## Query": "services.query.metrics",
    "## Live": "services.live.metrics",
}
KINDS: Final = {Counter: "counter", Gauge: "gauge", Histogram: "histogram"}


def metric_rows(module: str) -> list[list[str]]:
    rows = []
    for value in vars(import_module(module)).values():
        if isinstance(value, MetricWrapperBase):
            (family,) = value.describe()
            name = f"{family.name}_total" if isinstance(value, Counter) else family.name
            labels = ", ".join(f"`{label}`" for label in value._labelnames)
            rows.append([f"`{name}`", KINDS[type(value)], labels, family.documentation])
    return rows


@pytest.mark.parametrize("heading", METRIC_MODULES)
def test_the_metrics_page_lists_every_metric_in_its_own_words(heading: str) -> None:
    declared = metric_rows(METRIC_MODULES[heading])
    wanted = "\n".join(f"| {' | '.join(row)} |" for row in declared)
    assert table("docs/metrics.md", heading) == declared, f"put this below {heading!r} in docs/metrics.md:\n{wanted}"


def settings_rows() -> dict[str, object]:
    """Return variable → default, for everything that any process reads."""
    from services.ingest.settings import IngestProcessSettings
    from services.live.settings import LiveProcessSettings
    from services.ops.demo_page.settings import DemoSettings
    from services.projector.settings import ProjectorSettings
    from services.query.settings import QueryProcessSettings
    from services.sequencer.settings import SequencerSettings

    found: dict[str, object] = {}

    def add(settings: type[Settings]) -> None:
        for name, field in settings.model_fields.items():
            annotation = field.annotation
            if isinstance(annotation, type) and issubclass(annotation, Settings):
                add(annotation)
            else:
                found[variable_name(settings, name)] = field.get_default(call_default_factory=True)

    for each in (
        IngestProcessSettings,
        SequencerSettings,
        ProjectorSettings,
        QueryProcessSettings,
        LiveProcessSettings,
        DemoSettings,
        KafkaSettings,
        PostgresSettings,
        LogSettings,
    ):
        add(each)
    return found


def shown(default: object) -> str:
    """Return a default as the page shows it."""
    if default is None or default == () or default == "":
        return ""
    reveal = getattr(default, "get_secret_value", None)
    value = reveal() if reveal is not None else default
    text = str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
    return f"`{text}`"


def test_the_settings_page_lists_every_variable_with_its_default() -> None:
    text = (ROOT / "docs/settings.md").read_text(encoding="utf-8")
    written = {m[1]: m[2].strip() for m in re.finditer(r"^\| `(GAPLESS_\w+)` \|([^|]*)\|", text, re.MULTILINE)}
    ours = {name: default for name, default in written.items() if default != "(not a setting)"}
    assert ours == {name: shown(default) for name, default in settings_rows().items()}


def test_every_variable_that_is_named_anywhere_is_on_the_settings_page() -> None:
    known = set(
        re.findall(r"^\| `(GAPLESS_\w+)` \|", (ROOT / "docs/settings.md").read_text(encoding="utf-8"), re.MULTILINE)
    )
    places = [*PAGES, ROOT / "compose.yaml", ROOT / "deploy/Dockerfile", ROOT / "Makefile"]
    places += [path for folder in ("schemas", "services", "devstack") for path in (ROOT / folder).rglob("*.py")]
    for path in places:
        named = set(re.findall(r"\bGAPLESS(?:_[A-Z0-9]+)+\b(?!_)", path.read_text(encoding="utf-8"))) - EXAMPLES
        assert named <= known, f"{name_of(path)} names {sorted(named - known)}"


def test_the_page_of_figures_has_what_the_results_say() -> None:
    page = report.PAGE.read_text(encoding="utf-8")
    assert report.update(page, report.read(report.RESULTS)) == page, "made by `gapless bench all`, not by hand"
