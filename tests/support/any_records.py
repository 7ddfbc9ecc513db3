"""Hypothesis strategies for arbitrary records of a topic: random ones, and ones that are almost valid."""

from __future__ import annotations

from hypothesis import strategies as st

from schemas import ids
from schemas.ids import ChatId, UserId

CHAT = ChatId("f89e858f-5f2e-5152-b188-6a52cbec990b")
SENDER = UserId("11111111-1111-4111-8111-111111111111")
TRACEPARENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
KNOWN_HEADERS = [
    "ce_specversion", "ce_id", "ce_source", "ce_type", "ce_sender", "ce_clientid", "content-type", "ce_replyto",
    "traceparent", "ce_command", "ce_position", "ce_seq", "ce_commandid",
]  # fmt: skip
WORDS = [
    b"", b"1.0", CHAT.encode(), SENDER.encode(), ids.command_id(CHAT, SENDER, "k-1").encode(), b"k-1",
    b"message.send.v1", b"read.mark.v1", b"chat.pin.v9", b"3/r1", TRACEPARENT.encode(), b"\0", b"\xff\xfe", b"x" * 256,
    b"x" * 257, b"y" * 100_000, "é".encode(),
]  # fmt: skip
any_headers = st.lists(
    st.tuples(
        st.sampled_from(KNOWN_HEADERS) | st.text(max_size=5),
        st.none() | st.sampled_from(WORDS) | st.binary(max_size=40),
    ),
    max_size=14,
)
any_keys = (
    st.none() | st.sampled_from([CHAT.encode(), b"", b"\xff" * 36, b"k" * 128, b"k" * 129]) | st.binary(max_size=40)
)
any_values = (
    st.none()
    | st.sampled_from([b'{"text":"hello"}', b'{"up_to_seq":1}', b"[" * 300_000, b'{"text":"' + b"x" * 262_000 + b'"}'])
    | st.binary(max_size=40)
)
