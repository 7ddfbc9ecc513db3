"""Typing and presence: their bytes, and how often one user's are passed on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.ids import ChatId, UserId
from services.live.signals.limit import CHANGES, EVERY_S, SignalLimit
from services.live.signals.signal import STATES, Signal, decode_signal, encode_signal

CHAT = ChatId("f89e858f-5f2e-5152-b188-6a52cbec990b")
ANNA = UserId("11111111-1111-4111-8111-111111111111")
STARTED, STOPPED = (Signal("typing", CHAT, ANNA, state) for state in STATES["typing"])


def test_a_signal_comes_back_from_its_bytes() -> None:
    for kind, states in STATES.items():
        for state in states:
            signal = Signal(kind, CHAT, ANNA, state)
            assert decode_signal(encode_signal(signal)) == signal


@pytest.mark.parametrize(
    "signal",
    [
        Signal("typing", CHAT, ANNA, "here"),
        Signal("typing", ChatId("x"), ANNA, "started"),
        Signal("typing", CHAT, UserId(""), "started"),
    ],
)
def test_a_signal_that_no_process_sends_is_refused(signal: Signal) -> None:
    with pytest.raises(ValueError, match="no signal"):
        decode_signal(encode_signal(signal))


@given(st.binary())
def test_other_bytes_are_refused(raw: bytes) -> None:
    with pytest.raises(ValueError, match="no signal"):
        decode_signal(raw)


def test_the_same_passes_once_in_three_seconds() -> None:
    limit = SignalLimit()
    assert limit.admits(STARTED, 0.0)
    assert not limit.admits(STARTED, EVERY_S - 0.1)
    assert limit.admits(STARTED, EVERY_S)
    other = Signal("presence", CHAT, ANNA, "here")
    assert limit.admits(other, EVERY_S)


def test_something_new_passes_at_once_a_few_times() -> None:
    limit = SignalLimit()
    passed = [limit.admits(STOPPED if number % 2 else STARTED, number / 100) for number in range(20)]
    assert passed == [True] * (1 + CHANGES) + [False] * (19 - CHANGES)
    assert limit.admits(STARTED, EVERY_S)
