"""Requests that schemathesis generates from the OpenAPI document, sent to the whole system.

Whatever a request holds, its response has a status, headers and a body that the document describes, it is no 5xx, and a
request that breaks the document is refused.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Final

import pytest

from tests.support.chat_log import ANNA, BEN
from tests.support.running_stack import RunningStack

ROOT: Final = Path(__file__).parents[2]
EXAMPLES: Final = 25
"""Generated requests of each kind for each operation: with all phases more than 1,500 requests."""

pytestmark = [pytest.mark.anyio, pytest.mark.proof, pytest.mark.timeout(900)]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


async def test_no_generated_request_finds_a_response_that_the_document_does_not_describe(tmp_path: Path) -> None:
    async with RunningStack.up(tmp_path, "--sequencers", "1") as stack, stack.client() as http:
        anna = {"Authorization": f"Bearer {stack.token(ANNA)}", "Idempotency-Key": "ops", "Prefer": "wait=30"}
        created = await http.post("/v1/chats", json={"kind": "group", "name": "ops", "members": [BEN]}, headers=anna)
        assert created.status_code == 201, created.text
        process = await asyncio.create_subprocess_exec(
            str(Path(sys.executable).with_name("schemathesis")),
            "--config-file", str(ROOT / "tests/support/schemathesis.toml"),
            "run", f"{stack.api_url}/openapi.json",
            "--header", f"Authorization: {anna['Authorization']}",
            "--exclude-path-regex", "/live$",  # streams do not end
            "--max-examples", str(EXAMPLES),
            "--no-color",
            cwd=tmp_path, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "SCHEMATHESIS_HOOKS": "tests.support.schemathesis_hooks"},
        )  # fmt: skip
        output, _ = await process.communicate()
        report = output.decode()
        assert process.returncode == 0, report[-20_000:]
        assert "Selected: " in report
        paths = (await http.get("/openapi.json")).json()["paths"].items()
        operations = sum(len(item) for path, item in paths if not path.endswith("/live"))
        assert f"Tested: {operations}" in report, report[-2_000:]
