"""Protocol buffers as they lie in a file: the fields that the reference library writes, and nothing beyond the end."""

import struct
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, struct_pb2

from weightstats.containers.protobuf import (
    BYTES,
    FIXED32,
    FIXED64,
    VARINT,
    DamageError,
    Field,
    content,
    fields,
    text,
    varints,
)
from weightstats.errors import CheckpointError
from weightstats.limits import changed_limits
from weightstats.places import File, open_file

LARGEST = (1 << 64) - 1


def stored(path: Path, message: bytes) -> File:
    path.write_bytes(message)
    return open_file(path)


def fields_of(path: Path, message: bytes) -> list[Field]:
    file = stored(path, message)
    return [*fields(file, 0, file.size)]


def varint(number: int) -> bytes:
    pieces = []
    while number >= 0x80:
        pieces.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*pieces, number])


def field(number: int, wire: int, body: bytes) -> bytes:
    return varint(number << 3 | wire) + (varint(len(body)) + body if wire == BYTES else body)


def test_every_kind_of_field_is_found_with_its_value_and_place(tmp_path: Path) -> None:
    message = field(1, VARINT, b"\x96\x01") + field(2, BYTES, b"abc") + field(3, FIXED32, b"\1\2\3\4")
    message += field(1000, FIXED64, struct.pack("<d", 1.5)) + field(2, BYTES, b"")
    assert fields_of(tmp_path / "f", message) == [
        Field(1, VARINT, 150, 1, 2),
        Field(2, BYTES, 0, 5, 3),
        Field(3, FIXED32, 0x04030201, 9, 4),
        Field(1000, FIXED64, int.from_bytes(struct.pack("<d", 1.5), "little"), 15, 8),
        Field(2, BYTES, 0, 25, 0),
    ]


def test_what_the_reference_library_writes_is_found(tmp_path: Path) -> None:
    described = descriptor_pb2.FileDescriptorProto(name="näme", dependency=["a", "b"], public_dependency=[0, 1, 300])
    file = stored(tmp_path / "f", described.SerializeToString())
    found = [*fields(file, 0, file.size)]
    assert [(one.number, text(file, one)) for one in found if one.wire == BYTES] == [(1, "näme"), (3, "a"), (3, "b")]
    assert [varints(file, one, 10) for one in found if one.number == 10] == [[0], [1], [300]]


def test_a_nested_message_is_walked_in_place(tmp_path: Path) -> None:
    value = struct_pb2.Struct()
    value["a"] = [1.5, "x"]
    file = stored(tmp_path / "f", value.SerializeToString())
    [entry] = fields(file, 0, file.size)
    key, inner = fields(file, entry.start, entry.start + entry.size)
    assert content(file, key) == b"a"
    assert struct_pb2.Value.FromString(content(file, inner)).list_value.values[0].number_value == 1.5


@pytest.mark.parametrize(
    ("number", "signed"), [(0, 0), (1, 1), (2**63 - 1, 2**63 - 1), (2**63, -(2**63)), (LARGEST, -1)]
)
def test_a_number_is_unsigned_and_may_be_taken_as_signed(tmp_path: Path, number: int, signed: int) -> None:
    [found] = fields_of(tmp_path / "f", field(1, VARINT, varint(number)))
    assert (found.value, found.signed) == (number, signed)


def test_packed_numbers_are_read_up_to_the_limit_of_the_caller(tmp_path: Path) -> None:
    numbers = [0, 1, 127, 128, 300, LARGEST]
    file = stored(tmp_path / "f", field(7, BYTES, b"".join(map(varint, numbers))))
    [found] = fields(file, 0, file.size)
    assert varints(file, found, 6) == numbers
    with pytest.raises(DamageError, match="holds more than 5 numbers in field 7"):
        varints(file, found, 5)


def test_bytes_that_are_not_utf_8_become_escapes(tmp_path: Path) -> None:
    file = stored(tmp_path / "f", field(1, BYTES, b"a\xff\xc3\xa4"))
    [found] = fields(file, 0, file.size)
    assert text(file, found) == "a\\xffä"


def test_a_text_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    file = stored(tmp_path / "f", field(1, BYTES, b"12345"))
    [found] = fields(file, 0, file.size)
    with changed_limits({"text_bytes": 4}), pytest.raises(DamageError, match="a text of 5 bytes, more than the 4 that"):
        content(file, found)


def test_a_number_is_no_text(tmp_path: Path) -> None:
    file = stored(tmp_path / "f", field(4, VARINT, b"\1"))
    [found] = fields(file, 0, file.size)
    with pytest.raises(DamageError, match="has a number where field 4 holds bytes"):
        content(file, found)


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (field(1, BYTES, b"")[:1] + varint(2**31) + b"x", "holds a field of 2,147,483,648 bytes where 1 are left"),
        (field(1, BYTES, b"")[:1] + varint(LARGEST) + b"x", "a field of 18,446,744,073,709,551,615 bytes where 1 are"),
        (varint(0), "a field with an impossible number"),
        (varint(1 << 32 | 1), "a field with an impossible number"),
        (varint(1 << 3 | 3), "of wire type 3, which is not in use"),
        (varint(1 << 3 | 4), "of wire type 4, which is not in use"),
        (varint(1 << 3 | 6), "of wire type 6, which is not in use"),
        (varint(1 << 3 | 7), "of wire type 7, which is not in use"),
        (b"\x08" + b"\x80" * 10 + b"\1", "a number of more than ten bytes"),
        (b"\x80" * 20, "a number of more than ten bytes"),
        (b"\x08", "ends in the middle of a field"),
        (b"\x08\x80", "ends in the middle of a field"),
        (b"\x0d\0\0\0", "ends in the middle of a field"),
        (b"\x09\0\0\0\0\0\0\0", "ends in the middle of a field"),
        (b"\x0a", "ends in the middle of a field"),
    ],
)
def test_what_breaks_the_wire_format_is_damage(tmp_path: Path, message: bytes, problem: str) -> None:
    with pytest.raises(DamageError, match=problem):
        fields_of(tmp_path / "f", message)


MESSAGE = field(1, VARINT, b"\x96\x01") + field(2, BYTES, b"abc") + field(3, FIXED32, b"\1\2\3\4")
MESSAGE += field(1000, FIXED64, bytes(8)) + field(5, BYTES, varint(300) * 3)


def test_a_message_cut_anywhere_is_damage_or_ends_between_two_fields(tmp_path: Path) -> None:
    whole = fields_of(tmp_path / "f", MESSAGE)
    ends = {0, *(one.start + one.size for one in whole)}
    for length in range(len(MESSAGE)):
        if length in ends:
            assert fields_of(tmp_path / "f", MESSAGE[:length]) == whole[: sum(0 < end <= length for end in ends)]
        else:
            with pytest.raises(DamageError):
                fields_of(tmp_path / "f", MESSAGE[:length])


def test_a_range_that_ends_within_a_field_is_damage_though_the_file_goes_on(tmp_path: Path) -> None:
    file = stored(tmp_path / "f", MESSAGE)
    with pytest.raises(DamageError):
        [*fields(file, 0, 6)]


def test_a_range_beyond_the_file_is_an_error(tmp_path: Path) -> None:
    file = stored(tmp_path / "f", b"")
    with pytest.raises(CheckpointError, match="it is truncated"):
        [*fields(file, 0, 1)]


def test_a_long_message_is_read_through_a_small_window(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    body = bytes(3_000_000)
    message = (field(1, BYTES, body) + field(2, VARINT, b"\7")) * 3 + field(2, VARINT, b"\7") * 100_000
    file = stored(tmp_path / "f", message)
    lengths: list[int] = []
    real = File.read
    monkeypatch.setattr(File, "read", lambda self, at, length: lengths.append(length) or real(self, at, length))
    found = [*fields(file, 0, file.size)]
    assert len(found) == 100_006
    assert max(lengths) <= 1 << 16
    assert sum(lengths) < 1_000_000
