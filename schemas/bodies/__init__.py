"""The bodies of commands: what a command of each type holds, declared once, and its one spelling.

A body is a frozen msgspec Struct. Everybody decodes the same one: the sequencer, the projector, the verifiers, the
tests' oracle. An HTTP request is another thing (ids in any case, a sender, a key, all errors at once); it is a pydantic
model in services/ingest/api/paths and makes a body.

- `body`       what bodies share: decoding, canonical JSON, UUIDs
- `chats`      creating and renaming a chat
- `members`    adding, removing, roles
- `messages`   sending, editing, deleting
- `reactions`  adding and removing one
- `receipts`   read and delivered marks

The order of a body's fields is the order of the keys in canonical JSON. A new body goes into the file of its noun.

What `Meta` says of a field is also in docs/asyncapi.yaml, which is generated from it
(`python -m tests.contract.asyncapi_bodies --write`). A `title` makes the field's type a schema of its own there. Limits
stand in `extra_json_schema`, because a decoder would refuse what is beyond them as malformed; `check_limits` says
`too_large` or `invalid`.
"""

from __future__ import annotations

from schemas.bodies.body import Body, Uuid, canonical_body, decoder, malformed
from schemas.bodies.chats import ChatCreate, ChatKind, ChatRename
from schemas.bodies.members import MemberAdd, MemberRemove, MemberRole, Role
from schemas.bodies.messages import MessageDelete, MessageEdit, MessageSend
from schemas.bodies.reactions import Reaction
from schemas.bodies.receipts import Mark

__all__ = [
    "Body",
    "ChatCreate",
    "ChatKind",
    "ChatRename",
    "Mark",
    "MemberAdd",
    "MemberRemove",
    "MemberRole",
    "MessageDelete",
    "MessageEdit",
    "MessageSend",
    "Reaction",
    "Role",
    "Uuid",
    "canonical_body",
    "decoder",
    "malformed",
]
