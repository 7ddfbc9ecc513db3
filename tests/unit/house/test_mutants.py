"""Each curated bug fits the code and names a check that is there: without this, the list rots until it is next run."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from tests.mutants.mutant import Mutant
from tests.mutants.run import MUTANTS

ROOT: Final = Path(__file__).parents[3]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_bug_fits_the_code_at_one_place_and_its_check_is_there(mutant: Mutant) -> None:
    assert (ROOT / mutant.file).read_text(encoding="utf-8").count(mutant.good) == 1, f"{mutant.good!r} in {mutant.file}"
    assert mutant.bad != mutant.good
    file, _, test = mutant.check.partition("::")
    name = test.rpartition("::")[2].partition("[")[0]
    assert not name or f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), mutant.check


def test_no_two_bugs_have_one_name() -> None:
    names = [mutant.name for mutant in MUTANTS]
    assert len(set(names)) == len(names)
