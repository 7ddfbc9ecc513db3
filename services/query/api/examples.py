"""Ids in the examples of the OpenAPI document."""

from __future__ import annotations

from typing import Final

ANNA: Final = "11111111-1111-4111-8111-111111111111"
BEN: Final = "22222222-2222-4222-8222-222222222222"
CHAT: Final = "f89e858f-5f2e-5152-b188-6a52cbec990b"
