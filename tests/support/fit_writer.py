"""A small writer of FIT files (Garmin FIT protocol), for tests.

In: messages as lists of fields. Out: the bytes of one FIT file: header, definitions, data, CRC.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

FIT_EPOCH_S = 631_065_600  # 1989-12-31T00:00:00Z in Unix time
_CRC_NIBBLES = (
    *(0x0000, 0xCC01, 0xD801, 0x1400, 0xF001, 0x3C00, 0x2800, 0xE401),
    *(0xA001, 0x6C00, 0x7800, 0xB401, 0x5000, 0x9C01, 0x8801, 0x4400),
)
# Base types: identifier and struct format; text is `string`.
_TYPES = {
    "enum": (0x00, "B"),
    "uint8": (0x02, "B"),
    "sint8": (0x01, "b"),
    "uint16": (0x84, "H"),
    "sint32": (0x85, "i"),
    "uint32": (0x86, "I"),
    "float32": (0x88, "f"),
    "string": (0x07, "s"),
}
FILE_ID, RECORD, GYROSCOPE, ACCELEROMETER, FIELD, DEVELOPER = 0, 20, 164, 165, 206, 207
ACTIVITY, SETTINGS = 4, 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a message; `developer` is the index of its developer, if it has one."""

    number: int
    type: str
    value: float | str | Sequence[float]
    developer: int | None = None

    @property
    def content(self) -> bytes:
        if isinstance(self.value, str):
            return self.value.encode() + b"\0"
        values = self.value if isinstance(self.value, Sequence) else [self.value]
        return struct.pack(f"<{len(values)}{_TYPES[self.type][1]}", *values)


def field(number: int, kind: str, value: float | str | Sequence[float]) -> Field:
    return Field(number=number, type=kind, value=value)


def crc16(content: bytes) -> int:
    crc = 0
    for byte in content:
        for nibble in (byte & 0xF, byte >> 4):
            crc = (crc >> 4) & 0x0FFF ^ _CRC_NIBBLES[crc & 0xF] ^ _CRC_NIBBLES[nibble]
    return crc


def message(number: int, fields: Sequence[Field]) -> bytes:
    """A definition and the data of one message, both with the local number 0."""
    own = [one for one in fields if one.developer is None]
    developers = [one for one in fields if one.developer is not None]
    definition = struct.pack("<BBBHB", 0x60 if developers else 0x40, 0, 0, number, len(own))
    for one in own:
        definition += bytes([one.number, len(one.content), _TYPES[one.type][0]])
    if developers:
        definition += bytes([len(developers)])
        for one in developers:
            definition += bytes([one.number, len(one.content), one.developer or 0])
    return definition + b"\0" + b"".join(one.content for one in [*own, *developers])


def file_id(kind: int = ACTIVITY) -> bytes:
    return message(
        FILE_ID, [field(0, "enum", kind), field(1, "uint16", 1), field(3, "uint32", 987654321)]
    )


def record(time_s: float, *more: Field, heart_rate: int | None = None) -> bytes:
    fields = [field(253, "uint32", int(time_s) - FIT_EPOCH_S)]
    if heart_rate is not None:
        fields.append(field(3, "uint8", heart_rate))
    return message(RECORD, [*fields, *more])


def fit_file(*messages: bytes) -> bytes:
    """A whole file with both checksums right."""
    body = b"".join(messages)
    header = struct.pack("<2BHI4s", 14, 0x20, 2132, len(body), b".FIT")
    header += struct.pack("<H", crc16(header))
    return header + body + struct.pack("<H", crc16(header + body))
