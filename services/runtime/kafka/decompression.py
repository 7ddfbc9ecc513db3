"""What a compressed batch holds, up to a limit: a few kilobytes of zeros must not become gigabytes of ours."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import cramjam

MAX_BYTES: Final = 32 * 1024 * 1024
"""Of one batch. Our topics keep batches uncompressed and below 1 MB; a topic that does not is reported as a fault."""

_GZIP, _SNAPPY, _LZ4, _ZSTD = 1, 2, 3, 4
_XERIAL: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER: Final = 16
"""Its magic and two version numbers; then each block with its size in four bytes before it."""


def decompressed(codec: int, data: bytes) -> bytes:
    """The bytes of a batch's records. `codec` as in the attributes of a batch: 1 gzip, 2 snappy, 3 lz4, 4 zstd.

    Raises ValueError if the codec is unknown, the data is damaged, or the result is longer than MAX_BYTES.
    """
    try:
        if codec == _SNAPPY:
            return b"".join(_snappy_blocks(data))
        into = {_GZIP: cramjam.gzip, _LZ4: cramjam.lz4, _ZSTD: cramjam.zstd}.get(codec)
        if into is None:
            raise ValueError(f"{codec} is no codec of Kafka's")
        room = bytearray(MAX_BYTES)
        size = into.decompress_into(data, room)
        return bytes(memoryview(room)[:size])
    except cramjam.DecompressionError as error:
        raise ValueError(f"a batch cannot be decompressed: {error}") from None


def _snappy_blocks(data: bytes) -> Iterator[bytes]:
    left = MAX_BYTES
    for block in _xerial(data) if data.startswith(_XERIAL) else (data,):
        left -= cramjam.snappy.decompress_raw_len(block)
        if left < 0:
            raise ValueError(f"a batch is longer than {MAX_BYTES} bytes when decompressed")
        yield bytes(cramjam.snappy.decompress_raw(block))


def _xerial(data: bytes) -> Iterator[bytes]:
    at = _XERIAL_HEADER
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "big", signed=True)
        at += 4
        if not 0 < size <= len(data) - at:
            raise ValueError("a block of a batch ends behind its bytes")
        yield data[at : at + size]
        at += size
