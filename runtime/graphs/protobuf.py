"""Protobuf's messages, taken apart and put together without knowing their fields' names.

What is read may be damaged or made up: whatever is no message is a ValueError, and nothing is
allocated that the message does not hold.
"""

from collections.abc import Iterator
from typing import Any

VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types
_LONGEST = 64  # bits of a number


def fields(message: memoryview) -> Iterator[tuple[int, int, Any, memoryview]]:
    """A message's fields: number, wire type, value (a number, or bytes), and the whole of it."""
    _require_bytes(message)
    at = 0
    while at < len(message):
        begun = at
        tag, at = _read(message, at)
        wire = tag & 7
        if wire == VARINT:
            value, at = _read(message, at)
            yield tag >> 3, wire, value, message[begun:at]
            continue
        if wire == _BYTES:
            length, at = _read(message, at)
        elif wire in (_FIXED64, _FIXED32):
            length = 8 if wire == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {wire} at byte {begun}")
        if at + length > len(message):
            raise ValueError("it is cut off")
        yield tag >> 3, wire, message[at : at + length], message[begun : at + length]
        at += length


def _read(message: memoryview, at: int) -> tuple[int, int]:
    """A number of seven bits a byte, the lowest first; the eighth says that more follow."""
    number = shift = 0
    while at < len(message) and shift < _LONGEST:
        byte = message[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at
    raise ValueError("it is cut off" if at >= len(message) else f"a number of over {_LONGEST} bits")


def _require_bytes(value: object) -> None:
    if not isinstance(value, memoryview):
        raise ValueError("a number where text or a message belongs")


def varints(packed: memoryview) -> list[int]:
    _require_bytes(packed)
    numbers, at = [], 0
    while at < len(packed):
        number, at = _read(packed, at)
        numbers.append(number)
    return numbers


def varint(number: int) -> bytes:
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*written, number])


def integer(number: int, value: int) -> bytes:
    return varint(number << 3 | VARINT) + varint(value)


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | _BYTES) + varint(len(content)) + content


def text(value: memoryview) -> str:
    _require_bytes(value)  # bytes(10**12) would be that many zeros
    return bytes(value).decode()
