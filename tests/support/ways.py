"""The two implementations of what may be compiled, as parameters of tests.

    @pytest.mark.parametrize("decoders", DECODERS, ids=WAYS)

Without compiled code, or with GAPLESS_PURE=1, each list has the plain one only.
"""

from __future__ import annotations

from typing import Any, Final

import pytest

from schemas.wire.extensions import extension
from schemas.wire.records import CompiledDecoders, Decoders, PlainDecoders
from services.query.api.message_json import MEMBERS, Form, MessagesJson, plain_messages
from services.runtime.kafka.batches import CompiledOutcomeBatch, OutcomeBatch
from services.runtime.kafka.plain_records import plain_records

SCAN: Final = extension("schemas.wire._scan")
FRAMING: Final = extension("services.runtime.kafka._framing")
TOKENS: Final = extension("schemas._tokens")
COPY: Final = extension("services.projector.writing._copy")
MESSAGE_JSON: Final = extension("services.query.api._message_json")

WAYS: Final = ["plain"] if SCAN is None else ["plain", "compiled"]
DECODERS: Final[list[Decoders]] = [PlainDecoders()] if SCAN is None else [PlainDecoders(), CompiledDecoders(SCAN)]
SPLITS: Final[list[Any]] = [plain_records] if SCAN is None else [plain_records, FRAMING.Records]
MESSAGE_WRITERS: Final[list[MessagesJson]] = [plain_messages]
if MESSAGE_JSON is not None:
    MESSAGE_WRITERS.append(MESSAGE_JSON.Writer(MEMBERS, Form).messages)

compares = pytest.mark.skipif(SCAN is None, reason="compares compiled code, which is not in use here")
"""Marks a test that compares the two."""


def compiled_batch() -> OutcomeBatch:
    return CompiledOutcomeBatch(FRAMING)
