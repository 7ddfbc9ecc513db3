"""Which bodies are read, and which are 415."""

from __future__ import annotations

import pytest

from services.runtime.web.fast_routes import FastRequest
from services.runtime.web.media_types import check_content
from services.runtime.web.problems import Problem


def status_of(*, ndjson: bool = False, length: bytes | None = b"7", **headers: str) -> tuple[int, dict[str, str]]:
    lines = [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in headers.items()]
    if length is not None:
        lines.append((b"content-length", length))

    async def receive() -> None:
        raise AssertionError

    request = FastRequest({"headers": lines}, receive, {})  # type: ignore[arg-type]
    try:
        check_content(request, ndjson=ndjson)
    except Problem as problem:
        return problem.status, problem.headers
    return 200, {}


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json",
        "application/json; charset=utf-8",
        'Application/JSON;charset="UTF-8"',
        "application/vnd.example+json",
        "application/x-www-form-urlencoded",
        "",
    ],
)
def test_json_is_read_and_so_is_what_curl_calls_a_form(content_type: str) -> None:
    assert status_of(content_type=content_type)[0] == 200
    assert status_of()[0] == 200


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "text/xml",
        "application/xml",
        "multipart/form-data; boundary=x",
        "application/json; charset=utf-16",
        "application/json;charset=iso-8859-1",
        "application/x-ndjson",
        "json",
    ],
)
def test_any_other_type_is_415_and_told_what_is_read(content_type: str) -> None:
    assert status_of(content_type=content_type) == (415, {"Accept": "application/json"})
    assert status_of(content_type=content_type, length=None, transfer_encoding="chunked")[0] == 415


def test_without_a_body_its_type_does_not_matter() -> None:
    for length in (None, b"0", b"000"):
        assert status_of(content_type="text/plain", content_encoding="gzip", length=length)[0] == 200


def test_a_batch_is_read_as_lines_too() -> None:
    assert status_of(content_type="application/x-ndjson", ndjson=True)[0] == 200
    assert status_of(content_type="text/plain", ndjson=True) == (
        415,
        {"Accept": "application/json, application/x-ndjson"},
    )


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "deflate", "identity, gzip"])
def test_a_compressed_body_is_415(coding: str) -> None:
    assert status_of(content_encoding=coding) == (415, {"Accept-Encoding": "identity"})
    assert status_of(content_encoding="identity", content_type="application/json")[0] == 200
