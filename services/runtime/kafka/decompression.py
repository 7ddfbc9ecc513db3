"""Decompresses batches up to a limit, so that a few kilobytes of zeros cannot become gigabytes of our memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import cramjam

MAX_BYTES: Final = 32 * 1024 * 1024
"""Maximum decompressed size of a batch. Batches of our topics are uncompressed and below 1 MB; a topic configured
otherwise is reported as a fault."""

_GZIP, _SNAPPY, _LZ4, _ZSTD = 1, 2, 3, 4
_XERIAL: Final = b"\x82SNAPPY\x00"
_XERIAL_HEADER: Final = 16
"""Length of the header: magic and two version numbers. Blocks follow, each preceded by its size in four bytes."""


def decompressed(codec: int, data: bytes) -> bytes:
    """Return the bytes of a batch's records. `codec` as in the batch's attributes: 1 gzip, 2 snappy, 3 lz4, 4 zstd.

    Raises ValueError if the codec is unknown, the data is damaged, or the result is longer than MAX_BYTES.
    """
    try:
        if codec == _SNAPPY:
            return b"".join(_snappy_blocks(data))
        into = {_GZIP: cramjam.gzip, _LZ4: cramjam.lz4, _ZSTD: cramjam.zstd}.get(codec)
        if into is None:
            raise ValueError(f"{codec} is not a codec of Kafka")
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
            raise ValueError("a block of a batch is longer than the batch")
        yield data[at : at + size]
        at += size
