"""`--seed N` replays one run of the simulation and prints its story; `--seeds N` runs that many."""

from __future__ import annotations

import pytest

SEEDS = 2_000
"""As many as fit a CI run: about 40 s on one core."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("simulation")
    group.addoption("--seed", type=int, default=None, help="replay this run of the simulation, and tell its story")
    group.addoption("--seeds", type=int, default=SEEDS, help=f"how many runs of the simulation ({SEEDS:,})")


@pytest.fixture
def seeds(request: pytest.FixtureRequest) -> range:
    """The seeds to run."""
    seed = request.config.getoption("--seed", default=None)
    return range(seed, seed + 1) if seed is not None else range(request.config.getoption("--seeds", default=SEEDS))


@pytest.fixture
def tells_all(request: pytest.FixtureRequest) -> bool:
    """Whether to print the story of a successful run too."""
    return request.config.getoption("--seed", default=None) is not None
