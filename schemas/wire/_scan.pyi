"""The compiled half of records.py: see _scan.pyx."""

from collections.abc import Callable, Container, Mapping, Sequence

from schemas.events import Outcome
from schemas.ids import ChatId, CommandId, CommandKey, MessageId, UserId
from schemas.log import Stamp
from schemas.wire import encoding
from schemas.wire.encoding import Command, ReplyTo, Unreadable

class Record:
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    @property
    def headers(self) -> list[tuple[str, bytes]]: ...

class ScannedSend:
    record: Record
    chat_id: ChatId
    sender_id: UserId
    command_key: CommandKey
    reply_to: ReplyTo | None
    @property
    def body(self) -> bytes: ...
    @property
    def command_id(self) -> CommandId: ...
    def command(self) -> Command: ...

class CommandScanner:
    def __init__(
        self,
        chats: Mapping[bytes, tuple[ChatId, bytes]],
        senders: Mapping[bytes, UserId],
        types: Mapping[bytes, str],
        receipts: Container[str],
        otherwise: Callable[[encoding.Record], Command | Unreadable],
    ) -> None: ...
    def read(self, records: list[encoding.Record]) -> list[Command | Unreadable | ScannedSend]: ...

class ScannedMessage:
    record: Record
    chat_id: ChatId
    sender_id: UserId
    index: int
    command_offset: int
    position: int
    seq: int
    @property
    def at_ms(self) -> int: ...
    @property
    def message_id(self) -> MessageId: ...
    @property
    def client_generated_id(self) -> str: ...
    @property
    def text(self) -> str: ...

class OutcomeScanner:
    def messages(
        self, records: Sequence[object], start: int, term: int, index: int, command_offset: int
    ) -> list[ScannedMessage]: ...
    def stamp(self, any_record: object) -> Stamp | None: ...
    def outcome(self, any_record: object) -> Outcome | None: ...

def is_plain(body: bytes) -> bool: ...
def command_key(chat_id: ChatId, command_id: CommandId) -> CommandKey: ...
