"""An example of every command type."""

from __future__ import annotations

from typing import Final

from schemas.bodies import (
    Body,
    ChatCreate,
    ChatRename,
    Mark,
    MemberAdd,
    MemberRemove,
    MemberRole,
    MessageDelete,
    MessageEdit,
    MessageSend,
    Reaction,
    canonical_body,
)
from schemas.ids import CommandId
from schemas.types import CommandType
from schemas.wire.encoding import Command, ReplyTo
from tests.contract.example_records import (
    CREATOR,
    DIRECT,
    DIRECT_PARTITION,
    FIRST_SEND,
    GROUP,
    GROUP_PARTITION,
    OTHER,
    THIRD,
    TRACEPARENT,
    CommandExample,
    named,
)


def _command(
    command_type: CommandType,
    body: Body,
    command_id: str,
    key: str | None,
    variant: str = "",
    *,
    direct: bool = False,
    reply_to: ReplyTo | None = None,
    traceparent: str | None = None,
) -> CommandExample:
    chat_id = DIRECT if direct else GROUP
    return CommandExample(
        name=named(command_type, variant),
        partition=DIRECT_PARTITION if direct else GROUP_PARTITION,
        command=Command(
            offset=0,
            type=command_type.value,
            body=canonical_body(body),
            chat_id=chat_id,
            sender_id=CREATOR,
            client_generated_id=key,
            command_id=CommandId(command_id),
            reply_to=reply_to,
            traceparent=traceparent,
        ),
        body=body,
    )


_T: Final = CommandType
IN_THE_GROUP: Final = (
    _command(
        _T.CHAT_CREATE,
        ChatCreate(kind="group", name="Ops room", members=[OTHER]),
        "eebabf35-52f6-5dd1-a6f6-7cc359c89464",
        "create-1",
    ),
    _command(_T.MEMBER_ADD, MemberAdd(user_id=THIRD, role="member"), "ef653302-42c4-5394-840e-bd2170db85b3", "add-1"),
    _command(_T.MEMBER_ROLE, MemberRole(user_id=THIRD, role="admin"), "d68d321c-ce25-54c8-a909-2107883d2907", "role-1"),
    _command(_T.MEMBER_REMOVE, MemberRemove(user_id=THIRD), "abc91d9e-be4f-5b8d-a235-cc1824cd6d3b", "remove-1"),
    _command(_T.CHAT_RENAME, ChatRename(name="Ops – Zürich"), "6faf5dc3-a302-5903-84bb-41b3116f6f2f", "rename-1"),
    _command(_T.MESSAGE_SEND, MessageSend(text="hello"), FIRST_SEND, "k-1", "text only"),
    _command(
        _T.MESSAGE_SEND,
        MessageSend(
            text='Deploy at 14:00? 🚀\n"yes" \\ <no>\u2028',
            reply_to_message_id=FIRST_SEND,
            media_urls=["https://example.org/a.png", "http://example.org/b?c=d"],
            metadata={"z": [1, -2.5, True, None, {}], "a": {"c": "é", "b": 9_007_199_254_740_991}},
            original_sent_at="2019-08-20T18:30:00.123Z",
        ),
        "0571bf11-af65-5161-bdff-aa0dd9ea05e6",
        "k-2",
        reply_to=ReplyTo(3, "b7d1.42"),
        traceparent=TRACEPARENT,
    ),
    _command(
        _T.MESSAGE_EDIT, MessageEdit(seq=2, text="Deploy at 15:00."), "93bb4405-89be-56b0-bfad-27d595ac1ece", "edit-1"
    ),
    _command(_T.REACTION_ADD, Reaction(seq=2, emoji="👍🏽"), "f35c2c2b-97f7-5fdc-9e79-954e6f5f717e", "react-1"),
    _command(_T.REACTION_REMOVE, Reaction(seq=2, emoji="👍🏽"), "7e472bf3-4504-59c0-9c09-b1ec40a8c9c9", "unreact-1"),
    _command(_T.MESSAGE_DELETE, MessageDelete(seq=1), "5cd8a6e3-e203-5018-8c96-f622fd111ee3", "delete-1"),
    # The ce_id of a receipt is arbitrary: no reader checks it.
    _command(_T.READ_MARK, Mark(up_to_seq=2), "55555555-5555-4555-8555-555555555555", None, reply_to=ReplyTo(0, "m1")),
    _command(_T.DELIVERED_MARK, Mark(up_to_seq=2), "66666666-6666-4666-8666-666666666666", None),
)
DIRECT_CREATE: Final = _command(
    _T.CHAT_CREATE,
    ChatCreate(kind="direct", members=[OTHER]),
    "3c758a32-e139-5540-9daf-797359a89611",
    "direct-1",
    "direct",
    direct=True,
)
MEDIA_ALONE: Final = _command(
    _T.MESSAGE_SEND,
    MessageSend(text="", media_urls=["https://example.org/a.png"]),
    "80de4296-ff16-5d67-978f-0b2b8d4ff091",
    "k-3",
    "media alone",
)
COMMANDS: Final = (*IN_THE_GROUP, DIRECT_CREATE, MEDIA_ALONE)
