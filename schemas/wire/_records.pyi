"""The compiled half of records.py: see _records.pyx."""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence

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

class Records:
    def __init__(
        self,
        batch: bytes,
        start: int,
        end: int,
        *,
        count: int,
        base_offset: int,
        base_timestamp: int,
        appended_at: int,
    ) -> None: ...
    def __iter__(self) -> Iterator[Record]: ...
    def __next__(self) -> Record: ...

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

class OutcomeWriter:
    def __init__(self, most_bytes: int) -> None: ...
    def __len__(self) -> int: ...
    @property
    def size(self) -> int: ...
    @property
    def timestamps(self) -> tuple[int, int]: ...
    def written_bytes(self) -> bytes: ...
    def add(self, outcome: Outcome, stamp: Stamp, source: bytes) -> None: ...

def is_plain(body: bytes) -> bool: ...
def command_key(chat_id: ChatId, command_id: CommandId) -> CommandKey: ...
