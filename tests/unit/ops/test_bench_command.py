"""`gapless bench` in a clone, and without one."""

from __future__ import annotations

import sys

import pytest
from typer.testing import CliRunner

from benchmarks import cli
from benchmarks.report import report
from services.ops.cli.main import app


def test_without_a_clone_it_says_where_the_benchmarks_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "benchmarks", None)
    monkeypatch.setitem(sys.modules, "benchmarks.cli", None)
    found = CliRunner().invoke(app, ["bench", "sequencer", "--json"])
    assert found.exit_code == 2
    assert "run them in a clone of the repository" in found.stderr


def test_its_words_are_handed_over_as_they_stand() -> None:
    found = CliRunner().invoke(app, ["bench", "sequencer", "--help"])
    assert found.exit_code == 0
    assert "--no-baseline" in found.stdout


def test_bench_all_finds_every_benchmark_of_the_page() -> None:
    for name in report.NAMES:
        benchmark = cli._benchmark(name)
        assert callable(benchmark.run)
        benchmark.Options()


def test_an_unknown_benchmark_is_wrong_usage() -> None:
    assert CliRunner().invoke(app, ["bench", "sequenzer"]).exit_code == 2
