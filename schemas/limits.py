"""Limits of a command. Ingest checks them to answer early; the writer checks them again and decides."""

from __future__ import annotations

COMMAND_BYTES = 256 * 1024
"""Maximum size of a command's body."""

TEXT_CHARACTERS = 16_384
"""Maximum code points of a message: at four bytes each 64 KiB, so that this also limits the bytes."""

NAME_CHARACTERS = 200
MEDIA_URLS = 10
MEDIA_URL_CHARACTERS = 2_048
METADATA_BYTES = 16 * 1024
"""Maximum size of the metadata in canonical JSON."""

METADATA_DEPTH = 16
"""Maximum nesting of objects and arrays, including the metadata object itself."""

MEMBERS_PER_COMMAND = 1_000
EMOJI_BYTES = 64
REACTIONS_OF_A_USER = 20
"""Maximum reactions of one user to one message."""

REACTION_KINDS = 50
"""Maximum different reactions to one message."""

CLIENT_GENERATED_ID_CHARACTERS = 128
SAFE_INTEGER = 2**53 - 1
"""The largest integer that every JSON parser represents exactly."""

NUMBER_DIGITS = 32
"""Maximum digits of a number as written; more are refused before parsing."""

BODY_DEPTH = METADATA_DEPTH + 2
"""Maximum nesting of a body; more is refused before parsing."""

BODY_PARTS = METADATA_BYTES // 2 + MEMBERS_PER_COMMAND + 64
"""Maximum commas, and opening brackets, outside of a body's strings; more are refused before parsing. Metadata has at
least two bytes for each of its own, and all other fields have fewer than 64 together."""

REQUEST_ID_CHARACTERS = 64
OUTCOME_KEY_BYTES = 128
"""Maximum size of a record key that is repeated on an outcome, so that every outcome fits a batch."""
