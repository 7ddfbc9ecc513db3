"""W3C trace context: what is propagated and what is not."""

from __future__ import annotations

import pytest

from services.runtime.observe.trace_context import (
    new_traceparent,
    trace_id_for,
    trace_id_of,
    valid_traceparent,
)
from services.runtime.web.request_ids import request_id_of, traceparent_of

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@pytest.mark.parametrize(
    ("value", "valid"),
    [
        (f"00-{TRACE}-{SPAN}-01", True),
        (f"00-{TRACE}-{SPAN}-00", True),
        (f"cc-{TRACE}-{SPAN}-01", True),
        (f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", True),
        (f"00-{TRACE}-{SPAN}-01-what-the-future-will-be-like", False),
        (f"cc-{TRACE}-{SPAN}-01.what", False),
        (f"ff-{TRACE}-{SPAN}-01", False),
        (f"00-{'0' * 32}-{SPAN}-01", False),
        (f"00-{TRACE}-{'0' * 16}-01", False),
        (f"00-{TRACE.upper()}-{SPAN}-01", False),
        (f"00-{TRACE}-{SPAN}-01\n", False),
        (f"00-{TRACE[:-1]}-{SPAN}-01", False),
        (f"cc-{TRACE}-{SPAN}-01-{'x' * 100_000}", False),
        ("", False),
    ],
)
def test_validity_follows_the_standard(value: str, *, valid: bool) -> None:
    assert valid_traceparent(value) is valid


def test_a_new_one_is_valid_and_its_own() -> None:
    made = {new_traceparent(request_id_of(None)) for _ in range(100)}
    assert len(made) == 100
    assert all(valid_traceparent(value) for value in made)
    assert trace_id_of(f"00-{TRACE}-{SPAN}-01") == TRACE


def test_a_request_id_names_the_trace_that_its_request_starts() -> None:
    generated = request_id_of(None)
    assert trace_id_of(traceparent_of(None, generated)) == generated == trace_id_for(generated)
    for given in ("order-17", TRACE.upper(), "0" * 32, "x" * 128):
        started = traceparent_of(b"no traceparent", given)
        assert valid_traceparent(started)
        assert trace_id_of(started) == trace_id_for(given) != given


def test_a_trace_that_a_request_brought_keeps_its_name() -> None:
    assert traceparent_of(f"00-{TRACE}-{SPAN}-01".encode(), "order-17") == f"00-{TRACE}-{SPAN}-01"
