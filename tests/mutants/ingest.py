"""Curated bugs in ingest."""

from __future__ import annotations

from typing import Final

from tests.mutants.mutant import Mutant

GUARD: Final = "tests/unit/schemas/test_guard.py"

MUTANTS: Final = (
    Mutant(
        name="an edit with an ETag is of any revision",
        file="services/ingest/api/paths/messages.py",
        good="    return int(match[1])\n",
        bad="    return int(match[1]) if '.' not in value else None\n",
        check="tests/unit/query/test_entity_tags.py",
    ),
    Mutant(
        name="unknown fields are collected before they are cut",
        file="services/ingest/api/unknown.py",
        good="    if colons <= most + len(known):\n",
        bad="    if most:\n",
        check=f"{GUARD}::test_unknown_fields_are_refused_whatever_their_number",
    ),
    Mutant(
        name="every wrong item of a list is collected",
        file="services/ingest/api/requests.py",
        good="Field(fail_fast=True)",
        bad="Field(fail_fast=False)",
        check=f"{GUARD}::test_a_bad_request_costs_no_more_than_to_read_it",
    ),
    Mutant(
        name="of a member that is there twice the last one counts",
        file="services/ingest/api/duplicates.py",
        good="        if len(given) == len(pairs):\n",
        bad="        if given:\n",
        check="tests/unit/ingest/test_requests.py::test_a_bad_body_is_refused_with_the_place_of_the_fault",
    ),
    Mutant(
        name="a key with a space and one with a plus are one",
        file="services/ingest/api/keys.py",
        good='.replace("+", "%2B")',
        bad="",
        check="tests/unit/ingest/test_keys.py::test_every_quoted_key_has_a_client_generated_id_that_no_other_has",
    ),
    Mutant(
        name="a key that looks like one with spaces is that key",
        file="services/ingest/api/keys.py",
        good='    if " " not in key and not key.startswith(SPACED):\n',
        bad='    if " " not in key:\n',
        check="tests/unit/ingest/test_keys.py::test_every_quoted_key_has_a_client_generated_id_that_no_other_has",
    ),
)
