"""How much a command may hold. Ingest checks it to answer early; the writer checks it again and decides."""

from __future__ import annotations

COMMAND_BYTES = 256 * 1024
"""The body of one command."""

TEXT_CHARACTERS = 16_384
"""Unicode code points of a message. At four bytes each that is 64 KiB, the limit in bytes: one check does both."""

NAME_CHARACTERS = 200
MEDIA_URLS = 10
MEDIA_URL_CHARACTERS = 2_048
METADATA_BYTES = 16 * 1024
"""Of the metadata in canonical JSON."""

METADATA_DEPTH = 16
"""Objects and arrays inside each other, the metadata object itself counted."""

MEMBERS_PER_COMMAND = 1_000
EMOJI_BYTES = 64
CLIENT_GENERATED_ID_CHARACTERS = 128
SAFE_INTEGER = 2**53 - 1
"""The largest integer that every JSON reader holds exactly."""

NUMBER_DIGITS = 32
"""Digits of one number as written; more is refused before it is parsed."""

BODY_DEPTH = METADATA_DEPTH + 2
"""Nesting of a whole body; more is refused before it is parsed."""

BODY_PARTS = METADATA_BYTES // 2 + MEMBERS_PER_COMMAND + 64
"""Commas, or brackets that open, outside the strings of a whole body; more is refused before it is parsed. Metadata
has at least two bytes for each of its own, and 64 is more than all other fields have together."""

REQUEST_ID_CHARACTERS = 64
OUTCOME_KEY_BYTES = 128
"""A command's key is repeated on its outcome only up to this: whatever came, the outcome fits a batch."""
