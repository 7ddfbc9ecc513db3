"""Bodies about members of a chat."""

from __future__ import annotations

from typing import Literal

from schemas.bodies.body import Body, Uuid

Role = Literal["owner", "admin", "member"]


class MemberAdd(Body, frozen=True):
    user_id: Uuid
    role: Role


class MemberRemove(Body, frozen=True):
    user_id: Uuid


class MemberRole(Body, frozen=True):
    user_id: Uuid
    role: Role
