"""Zip containers that lie, contradict themselves or blow up: refused, unread by name, or read as what they are."""
# ruff: noqa: N802 - the id of a case is part of the test's name

import os
import re
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from archives import (
    BEHIND,
    DEFLATED,
    FIRST,
    PICKLE,
    SECOND,
    STORED,
    Part,
    archive,
    deflated,
    deflated_zeros,
    empty_entries,
    torch_parts,
)
from bounded import run_bounded
from makers import Stored, entry, floats, named_values, opened, pickled, reasons, safetensors_file, values, view

from weightstats.checkpoint import Checkpoint
from weightstats.containers.zip_archive import names_in
from weightstats.errors import CheckpointError
from weightstats.limits import changed_limits
from weightstats.readers import open_checkpoint

FOUR = floats(1, 2, 3, 4)
BOTH = {"a": [1.0, 2.0, 3.0, 4.0], "b": [9.0]}
ONLY_B = {"b": [9.0]}
TRUNCATED = "is a damaged zip archive, probably a truncated download"
A_PICKLE = Part(PICKLE, pickled({"a": view(Stored("0", 4), [4]), "b": view(Stored("1", 1), [1])}))
A_STORAGE = Part(FIRST, FOUR)


def refused(path: Path, content: bytes) -> str:
    """The one line with which an archive is refused."""
    with pytest.raises(CheckpointError) as caught:
        opened(path, content)
    assert str(caught.value).isprintable()
    assert caught.value.location == str(path)
    return caught.value.problem


def unread(checkpoint: Checkpoint) -> dict[str, str]:
    """Why tensors cannot be read, by their headers or when their bytes are asked for; the others are exact."""
    found = reasons(checkpoint)
    for tensor in checkpoint.tensors:
        try:
            assert values(tensor).tolist() == BOTH[tensor.name]
        except CheckpointError as error:
            found[tensor.name] = error.problem
    assert found.keys() | {tensor.name for tensor in checkpoint.tensors} == BOTH.keys()
    return found


@pytest.mark.parametrize("parts", [torch_parts(), torch_parts(first=Part(FIRST, FOUR, DEFLATED, BEHIND))])
@pytest.mark.parametrize("large", [None, {}], ids=["32 bits", "64 bits"])
def test_a_sound_archive_is_read(tmp_path: Path, parts: list[Part], large: dict[str, int] | None) -> None:
    checkpoint = opened(tmp_path / "f", archive(parts, large=large))
    assert (named_values(checkpoint), checkpoint.warnings) == (BOTH, ())


# C1


@pytest.mark.parametrize("large", [None, {}], ids=["32 bits", "64 bits"])
def test_C1_an_archive_cut_anywhere_is_refused(tmp_path: Path, large: dict[str, int] | None) -> None:
    content = archive(torch_parts(), large=large)
    for length in range(len(content)):
        assert re.match(f"{TRUNCATED}|is empty|is not in a format", refused(tmp_path / "f", content[:length]))


@pytest.mark.parametrize("share", [10, 50, 90, 99])
def test_C1_a_truncated_download_is_called_one(tmp_path: Path, share: int) -> None:
    content = archive(torch_parts())
    assert refused(tmp_path / "f", content[: len(content) * share // 100]).startswith(TRUNCATED)


# C2


@pytest.mark.parametrize(
    "part", [Part(FIRST, floats(5, 6, 7, 8)), Part(PICKLE, b"N."), Part(FIRST, flags=0x800)], ids=lambda part: part.name
)
def test_C2_two_entries_of_one_name_are_refused(tmp_path: Path, part: Part) -> None:
    content = archive([*torch_parts(), part])
    assert refused(tmp_path / "f", content) == f"has two zip entries named '{part.name}'"


# C3: what the directory says and what the entry says

CONTRADICTION = "the archive's directory and the entry contradict each other"
ELSEWHERE = "the archive's directory points at something else"
SIDE_BY_SIDE = "the archive's entries do not lie side by side"
BEHIND_LIES = "what describes it in the archive contradicts the directory"
TWO_SIZES = "the archive gives it two sizes"

C3 = {
    "local size": (Part(FIRST, FOUR, local={"size": 15}), CONTRADICTION),
    "local compressed size": (Part(FIRST, FOUR, local={"compressed": 15}), CONTRADICTION),
    "local checksum": (Part(FIRST, FOUR, local={"checksum": 1}), CONTRADICTION),
    "local method": (Part(FIRST, FOUR, local={"method": 8}), "name different compressions"),
    "local flags": (Part(FIRST, FOUR, local={"flags": 0x800}), "its flags are 0x800 in one place and 0x0 in another"),
    "local name": (Part(FIRST, FOUR, local_name=b"archive/data/9"), ELSEWHERE),
    "local name shorter": (
        Part(FIRST, FOUR, local_name=b"archive/data/", local_extra=b"0", local={"name_length": 13}),
        ELSEWHERE,
    ),
    "local name length": (Part(FIRST, FOUR, local={"name_length": 13}), ELSEWHERE),
    "local signature": (Part(FIRST, FOUR, local={"signature": 0x02014B50}), ELSEWHERE),
    "local extra length": (Part(FIRST, FOUR, local={"extra_length": 4}), "shares bytes|do not lie side by side"),
    "extra length shorter": (Part(FIRST, FOUR, local_extra=b"FB\4\0ZZZZ", local={"extra_length": 4}), SIDE_BY_SIDE),
    "central size": (Part(FIRST, FOUR, central={"size": 15}), CONTRADICTION),
    "central compressed size": (Part(FIRST, FOUR, central={"compressed": 15}), f"{SIDE_BY_SIDE}|{CONTRADICTION}"),
    "central checksum": (Part(FIRST, FOUR, central={"checksum": 1}), CONTRADICTION),
    "central method": (Part(FIRST, FOUR, central={"method": 8}), "name different compressions"),
    "central flags": (Part(FIRST, FOUR, central={"flags": 8}), "its flags are 0x0 in one place and 0x8 in another"),
    "both checksums": (Part(FIRST, FOUR).both(checksum=1), "the checksum differs"),
    "both checksums, compressed": (Part(FIRST, FOUR, DEFLATED).both(checksum=1), "its checksum differs"),
    "both sizes": (Part(FIRST, FOUR).both(size=15), TWO_SIZES),
    "both sizes shorter": (Part(FIRST, FOUR).both(size=12, compressed=12), SIDE_BY_SIDE),
    "nothing behind": (Part(FIRST, FOUR, flags=BEHIND, behind=b""), BEHIND_LIES),
    "checksum behind": (
        Part(FIRST, FOUR, flags=BEHIND, behind=b"PK\7\x08" + struct.pack("<3L", 1, 16, 16)),
        BEHIND_LIES,
    ),
    "size behind": (
        Part(FIRST, FOUR, flags=BEHIND, behind=b"PK\7\x08" + struct.pack("<3L", zlib.crc32(FOUR), 12, 12)),
        BEHIND_LIES,
    ),
    "local sizes beside those behind": (Part(FIRST, FOUR, flags=BEHIND, local={"size": 15}), CONTRADICTION),
    "64-bit size": (
        Part(FIRST, FOUR, local={"size": 0xFFFFFFFF}, local_extra=struct.pack("<2HQ", 1, 8, 15)),
        CONTRADICTION,
    ),
    "64-bit size missing": (Part(FIRST, FOUR, local={"size": 0xFFFFFFFF}), CONTRADICTION),
    "64-bit size cut": (
        Part(FIRST, FOUR, local={"size": 0xFFFFFFFF}, local_extra=struct.pack("<2HL", 1, 4, 15)),
        CONTRADICTION,
    ),
    "64-bit size twice": (
        Part(FIRST, FOUR, local={"size": 0xFFFFFFFF}, local_extra=2 * struct.pack("<2HQ", 1, 8, 16)),
        CONTRADICTION,
    ),
}


@pytest.mark.parametrize("case", C3, ids=lambda case: f"C3 {case}")
def test_C3_an_entry_that_contradicts_the_directory_is_unread_and_costs_no_other(tmp_path: Path, case: str) -> None:
    part, reason = C3[case]
    found = unread(opened(tmp_path / "f", archive(torch_parts(first=part))))
    assert list(found) == ["a"]
    assert re.search(reason, found["a"])


@pytest.mark.parametrize("case", C3, ids=lambda case: f"C3 {case}")
def test_C3_a_pickle_that_contradicts_the_directory_is_refused(tmp_path: Path, case: str) -> None:
    part, reason = C3[case]
    changes = {"name": PICKLE, "content": A_PICKLE.content, "local_name": part.local_name and b"archive/data.pk_"}
    for place in ("local", "central"):
        sizes = {name: len(A_PICKLE.content) + number - 16 for name, number in getattr(part, place).items()}
        changes[place] = getattr(part, place) | {
            name: size for name, size in sizes.items() if name in ("size", "compressed") and size < 2000
        }
    problem = refused(tmp_path / "f", archive(torch_parts(pickle=replace(part, **changes))))
    if part.local.get("signature"):
        assert problem.startswith("is not in a format that is read")  # the file no longer starts like an archive
    else:
        assert re.search(f"its entry archive/data.pkl: .*(?:{reason}|contradict)", problem)


@pytest.mark.parametrize(
    "part",
    [
        pytest.param(Part(FIRST, FOUR, flags=BEHIND), id="sizes behind"),
        pytest.param(
            Part(FIRST, FOUR, flags=BEHIND, behind=struct.pack("<3L", zlib.crc32(FOUR), 16, 16)), id="no signature"
        ),
        pytest.param(
            Part(FIRST, FOUR, flags=BEHIND, behind=b"PK\7\x08" + struct.pack("<L2Q", zlib.crc32(FOUR), 16, 16)),
            id="64 bits behind",
        ),
        pytest.param(
            Part(
                FIRST,
                FOUR,
                local={"size": 0xFFFFFFFF, "compressed": 0xFFFFFFFF},
                local_extra=b"FB\2\0ZZ" + struct.pack("<2H2Q", 1, 16, 16, 16),
            ),
            id="64 bits in front",
        ),
        pytest.param(
            Part(FIRST, FOUR, central={"offset": 0xFFFFFFFF}, central_extra=struct.pack("<2HQ", 1, 8, 0)),
            id="64 bits in the directory",
        ),
        pytest.param(Part(FIRST, FOUR).both(checksum=0), id="no checksum"),
        pytest.param(Part(FIRST, FOUR, DEFLATED).both(checksum=0), id="no checksum, compressed"),
        pytest.param(Part(FIRST, FOUR, DEFLATED, 0x6), id="flags of the compression"),
    ],
)
def test_C3_what_only_looks_like_a_contradiction_is_read(tmp_path: Path, part: Part) -> None:
    parts = torch_parts(first=part)
    if part.central_extra:
        offset = len(parts[0].written())
        parts[1] = replace(part, central_extra=struct.pack("<2HQ", 1, 8, offset))
    assert named_values(opened(tmp_path / "f", archive(parts))) == BOTH


def test_C3_a_checksum_that_is_not_in_the_directory_does_not_hide_a_damaged_tensor(tmp_path: Path) -> None:
    content = archive(torch_parts()).replace(FOUR, floats(1, 2, 3, 5))
    [tensor] = [tensor for tensor in opened(tmp_path / "f", content).tensors if tensor.name == "a"]
    with pytest.raises(CheckpointError, match="it is damaged: the checksum differs"):
        values(tensor)


# C4


@pytest.mark.parametrize("flag", [0x1, 0x40, 0x2000])
@pytest.mark.parametrize("where", ["both", "local", "central"])
def test_C4_an_entry_that_is_said_to_be_encrypted_is_not_read(tmp_path: Path, flag: int, where: str) -> None:
    for name, content in ((FIRST, FOUR), (PICKLE, A_PICKLE.content)):
        places = {place: {"flags": flag} for place in ("local", "central") if where in (place, "both")}
        part = Part(name, content, **places)
        key = "first" if name == FIRST else "pickle"
        whole = archive(torch_parts(**{key: part}))
        if name == FIRST:
            assert unread(opened(tmp_path / "f", whole)) == {"a": "it is encrypted"}
        else:
            assert refused(tmp_path / "f", whole) == "its entry archive/data.pkl: it is encrypted"


@pytest.mark.parametrize("flag", [0x10, 0x20, 0x80, 0x100, 0x1000, 0x4000, 0x8000])
def test_C4_an_entry_with_a_flag_that_is_not_known_is_not_read(tmp_path: Path, flag: int) -> None:
    found = unread(opened(tmp_path / "f", archive(torch_parts(first=Part(FIRST, FOUR, flags=flag)))))
    assert re.match("its flags are 0x", found["a"])


# C5, C6: bombs


def bomb(name: str, megabytes: int) -> Part:
    """So many MiB of zeros in a thousandth of that."""
    size = megabytes << 20
    return Part(name, method=DEFLATED, stored=deflated_zeros(megabytes)).both(size=size)


def zeros_file(path: Path, megabytes: int) -> int:
    """A torch file whose one storage is a bomb; its size."""
    elements = megabytes << 18
    thing = {"layer.weight": view(Stored("0", elements), [elements >> 10, 1 << 10])}
    path.write_bytes(archive([Part(PICKLE, pickled(thing)), bomb(FIRST, megabytes)]))
    return path.stat().st_size


def test_C5_a_storage_that_inflates_a_thousandfold_is_unread_within_the_bounds(tmp_path: Path) -> None:
    size = zeros_file(tmp_path / "bomb.pt", 2000)
    assert size < 2.2e6
    result = run_bounded([tmp_path / "bomb.pt"], size, 0)
    assert (result.code, list(result.unread)) == (0, ["layer.weight"])
    assert "--limit expanded_bytes=N sets" in result.unread["layer.weight"]


def test_C5_a_storage_that_inflates_to_what_is_allowed_is_read_within_the_bounds(tmp_path: Path) -> None:
    size = zeros_file(tmp_path / "zeros.pt", 200)
    result = run_bounded([tmp_path / "zeros.pt"], size, 0)
    assert result.code == 0
    [layer] = result.report["layers"]
    assert (layer["elements"], layer["zeros"]) == (200 << 18, 200 << 18)


def test_C6_a_pickle_that_inflates_a_thousandfold_is_refused_within_the_bounds(tmp_path: Path) -> None:
    path = tmp_path / "bomb.pt"
    path.write_bytes(archive([bomb(PICKLE, 1500), A_STORAGE]))
    result = run_bounded([path], path.stat().st_size, 0)
    assert (result.code, result.out) == (3, "")
    assert "--limit metadata_expansion=N sets" in result.err


@pytest.mark.parametrize(
    ("part", "problem"),
    [
        pytest.param(Part(PICKLE, A_PICKLE.content).both(size=257 << 20, compressed=257 << 20), "claims", id="stored"),
        pytest.param(bomb(PICKLE, 1), r"claims to inflate 1,\d+ times", id="a thousandfold"),
        pytest.param(
            Part(PICKLE, os.urandom(1 << 20) + bytes(80 << 20), DEFLATED), "--limit text_bytes=N", id="65-fold"
        ),
    ],
)
def test_C6_a_pickle_that_claims_too_much_is_refused_before_it_is_read(
    tmp_path: Path, part: Part, problem: str
) -> None:
    assert re.search(problem, refused(tmp_path / "f", archive([part, A_STORAGE])))


# C7


def test_C7_entries_that_share_bytes_are_not_read(tmp_path: Path) -> None:
    inner = Part(SECOND, floats(9))
    outer = Part(FIRST, inner.written()[: len(inner.written()) // 4 * 4])
    count = len(outer.content) // 4
    thing = {"a": view(Stored("0", count), [count]), "b": view(Stored("1", 1), [1])}
    parts = [Part(PICKLE, pickled(thing)), outer]
    offset = len(parts[0].written()) + len(outer.written()) - len(outer.content)
    whole = bytearray(archive([*parts, Part(SECOND, floats(9), central={"offset": offset})]))
    found = reasons(opened(tmp_path / "f", bytes(whole)))
    assert found.keys() == {"a", "b"}
    assert all("shares bytes" in reason or "side by side" in reason for reason in found.values())


@pytest.mark.parametrize("method", [STORED, DEFLATED])
def test_C7_entries_with_one_header_are_not_read(tmp_path: Path, method: int) -> None:
    parts = torch_parts(first=Part(FIRST, FOUR, method))
    offset = len(parts[0].written())
    thing = {"a": view(Stored("0", 4), [4]), "b": view(Stored("1", 4), [4])}
    parts[0] = Part(PICKLE, pickled(thing))
    offset = len(parts[0].written())
    parts[2] = Part(SECOND, FOUR, method, central={"offset": offset})
    found = reasons(opened(tmp_path / "f", archive(parts)))
    assert found.keys() == {"a", "b"}


# C8


@pytest.mark.parametrize(
    ("size", "reason"),
    [
        (20, "a compressed storage is shorter than the archive says|claims"),
        (12, "a compressed storage is longer than the archive says|claims"),
    ],
)
def test_C8_a_size_that_is_not_what_is_inflated_is_unread(tmp_path: Path, size: int, reason: str) -> None:
    thing = {"a": view(Stored("0", size // 4), [size // 4]), "b": view(Stored("1", 1), [1])}
    lying = Part(FIRST, FOUR, DEFLATED).both(size=size)
    checkpoint = opened(tmp_path / "f", archive(torch_parts(pickle=Part(PICKLE, pickled(thing)), first=lying)))
    [tensor] = [tensor for tensor in checkpoint.tensors if tensor.name == "a"]
    with pytest.raises(CheckpointError, match=reason):
        values(tensor)


@pytest.mark.parametrize("elements", [3, 5])
def test_C8_a_storage_of_another_size_than_the_pickle_says_is_unread(tmp_path: Path, elements: int) -> None:
    thing = {"a": view(Stored("0", elements), [3]), "b": view(Stored("1", 1), [1])}
    checkpoint = opened(tmp_path / "f", archive(torch_parts(pickle=Part(PICKLE, pickled(thing)))))
    assert reasons(checkpoint) == {"a": f"its storage 0 claims {4 * elements} bytes, the archive has 16"}
    assert named_values(checkpoint) == ONLY_B


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        pytest.param(deflated(FOUR)[:-1], "does not end where it should|shorter than", id="cut"),
        pytest.param(deflated(FOUR) + b"\0", "does not end where it should", id="bytes behind it"),
        pytest.param(deflated(floats(4, 3, 2, 1)), "its checksum differs", id="another"),
        pytest.param(b"\xff" * 16, "a compressed storage is damaged", id="garbage"),
        pytest.param(b"", "shorter than the archive says", id="nothing"),
    ],
)
def test_C8_a_damaged_stream_is_unread(tmp_path: Path, stored: bytes, reason: str) -> None:
    part = Part(FIRST, FOUR, DEFLATED, stored=stored)
    found = unread(opened(tmp_path / "f", archive(torch_parts(first=part))))
    assert list(found) == ["a"]
    assert re.search(reason, found["a"])


# C9


@pytest.mark.parametrize("method", [1, 6, 9, 12, 14, 93, 95, 98, 99, 65535])
def test_C9_a_compression_that_is_not_read_costs_its_tensor(tmp_path: Path, method: int) -> None:
    checkpoint = opened(tmp_path / "f", archive(torch_parts(first=Part(FIRST, FOUR, method))))
    assert unread(checkpoint) == {"a": f"it is compressed by a method (number {method}) that is not read"}


def test_C9_a_pickle_in_a_compression_that_is_not_read_is_refused(tmp_path: Path) -> None:
    content = archive(torch_parts(pickle=replace(A_PICKLE, method=12)))
    assert "compressed by a method (number 12) that is not read" in refused(tmp_path / "f", content)


# C10


def test_C10_a_million_empty_entries_are_refused_within_the_bounds(tmp_path: Path) -> None:
    path = tmp_path / "many.pt"
    empty_entries(path, 1_000_000, torch_parts())
    result = run_bounded([path], path.stat().st_size, path.stat().st_size)
    assert result.code == 3
    assert "has 1,000,004 zip entries, more than the 200,000 that --limit zip_entries=N sets" in result.err


def test_C10_as_many_empty_entries_as_are_allowed_are_read_within_the_bounds(tmp_path: Path) -> None:
    path = tmp_path / "many.pt"
    empty_entries(path, 199_996, torch_parts())
    result = run_bounded([path], path.stat().st_size, path.stat().st_size)
    assert (result.code, result.unread) == (0, {})
    assert result.report["accounting"]["stored"]["tensors"] == 2


def test_C10_a_directory_beyond_its_limit_is_not_read(tmp_path: Path) -> None:
    with changed_limits({"zip_directory_bytes": 100}):
        assert "that --limit zip_directory_bytes=N sets" in refused(tmp_path / "f", archive(torch_parts()))


# C11: ends

TWO_ENDS = "is a zip archive with two ends: which of them counts cannot be known"
NOT_THERE = "is a damaged zip archive: its directory does not lie where its end says"
SEVERAL = "is one of several parts of a zip archive"
OTHER = archive([Part(PICKLE, b"N.")])

C11 = {
    "bytes behind": (archive(torch_parts(), behind=b"\0" * 7), "goes on for 7 bytes after its zip archive"),
    "a page behind": (archive(torch_parts(), behind=b"<html>" * 9000), "goes on for 54,000 bytes after its zip"),
    "much behind": (archive(torch_parts(), behind=bytes(70_000)), TRUNCATED),
    "archive in the comment": (archive(torch_parts(), comment=OTHER), TWO_ENDS),
    "end in the comment": (archive(torch_parts(), comment=b"PK\5\6" + bytes(18)), TWO_ENDS),
    "half an end in the comment": (archive(torch_parts(), comment=b"PK\5\6"), TRUNCATED),
    "lying end in the comment": (archive(torch_parts(), comment=b"PK\5\6" + bytes(40)), TWO_ENDS),
    "archive behind": (archive(torch_parts()) + OTHER, NOT_THERE),
    "comment cut": (archive(torch_parts(), comment=b"1234")[:-1], TRUNCATED),
    "comment longer": (OTHER[:-2] + b"\5\0", TRUNCATED),
    "bytes in front": (archive(torch_parts(), before=b"PK\3\4junk"), "starts with 8 bytes that belong to none"),
    "bytes in front, not counted": (b"PK\3\4" + archive(torch_parts()), NOT_THERE),
    "fewer entries": (archive(torch_parts(), here=3, entries=3), "its directory has more entries than it says"),
    "more entries": (archive(torch_parts(), here=5, entries=5), "its directory has fewer entries than it says"),
    "no entries": (archive(torch_parts(), here=0, entries=0), "its directory has more entries than it says"),
    "two counts": (archive(torch_parts(), here=3), SEVERAL),
    "disk": (archive(torch_parts(), disk=1), SEVERAL),
    "directory on a disk": (archive(torch_parts(), its_disk=1), SEVERAL),
    "entry on a disk": (archive(torch_parts(first=Part(FIRST, FOUR, central={"disk": 1}))), SEVERAL),
    "directory elsewhere": (archive(torch_parts(), start=0), NOT_THERE),
    "directory beyond": (archive(torch_parts(), start=0xFFFFFFFE), NOT_THERE),
    "directory shorter": (archive(torch_parts(), size=50), NOT_THERE),
    "directory longer": (archive(torch_parts(), size=0xFFFFFFF), "that --limit zip_directory_bytes=N sets"),
    "record signature": (
        archive(torch_parts(first=Part(FIRST, FOUR, central={"signature": 1}))),
        "its directory is not made of entries",
    ),
    "record name length": (
        archive(torch_parts(first=Part(FIRST, FOUR, central={"name_length": 9999}))),
        "its directory is not made of entries",
    ),
    "large size missing": (
        archive(torch_parts(first=Part(FIRST, FOUR, central={"size": 0xFFFFFFFF}))),
        "a size of more than 4 GB is missing",
    ),
    "64-bit end beyond the file": (archive(torch_parts(), large={"at": 1 << 40}), "its end points at something else"),
    "64-bit end elsewhere": (archive(torch_parts(), large={"at": 0}), "its end points at something else"),
    "64-bit end longer": (archive(torch_parts(), large={"length": 50}), "its end points at something else"),
    "64-bit disks": (archive(torch_parts(), large={"disks": 2}), "its end points at something else"),
    "64-bit count": (archive(torch_parts(), large={"entries": 3, "here": 3}), "two ends that contradict each other"),
    "64-bit count alone": (
        archive(torch_parts(), large={"entries": 1 << 60, "here": 1 << 60}, entries=0xFFFF, here=0xFFFF),
        "that --limit zip_entries=N sets",
    ),
    "64-bit directory": (archive(torch_parts(), large={"start": 1 << 62}, start=0xFFFFFFFF), NOT_THERE),
    "64-bit size": (
        archive(torch_parts(), large={"size": 1 << 62}, size=0xFFFFFFFF),
        "that --limit zip_directory_bytes=N sets",
    ),
}


@pytest.mark.parametrize("case", C11, ids=lambda case: f"C11 {case}")
def test_C11_an_end_that_lies_is_refused(tmp_path: Path, case: str) -> None:
    content, problem = C11[case]
    assert problem in refused(tmp_path / "f", content)


def test_C11_an_entry_with_bytes_between_it_and_the_directory_is_unread(tmp_path: Path) -> None:
    checkpoint = opened(tmp_path / "f", archive(torch_parts()[:3], gap=bytes(9)))
    assert unread(checkpoint) == {"b": SIDE_BY_SIDE}


def test_C11_a_comment_is_nothing(tmp_path: Path) -> None:
    for comment in (b"made by hand", b"PK", b"x" * 0xFFFF):
        assert named_values(opened(tmp_path / "f", archive(torch_parts(), comment=comment))) == BOTH


@pytest.mark.parametrize("ones", [{}, {"entries": 0xFFFF, "here": 0xFFFF}, {"size": 0xFFFFFFFF, "start": 0xFFFFFFFF}])
def test_C11_a_sound_64_bit_end_is_read(tmp_path: Path, ones: dict[str, int]) -> None:
    assert named_values(opened(tmp_path / "f", archive(torch_parts(), large={}, **ones))) == BOTH


# C12

NAMES = (
    *("archive/../x", "archive//x", "archive/C:\\x", "archive/a\\..\\b", "archive/\0", "archive/a\0b", "archive/"),
    *("archive/\x1b[31m", f"archive/{'x' * 65_000}", "archive/\u202e"),
)


@pytest.mark.parametrize("name", NAMES, ids=lambda name: repr(name[:20]))
def test_C12_a_name_is_only_text_and_nothing_is_extracted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.chdir(tmp_path / "home")
    flags = 0 if name.isascii() else 0x800
    content = archive([*torch_parts(), Part(name, b"evil", flags=flags)])
    assert named_values(opened(tmp_path / "f", content)) == BOTH
    assert [*(tmp_path / "home").iterdir()] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f", "home"]


@pytest.mark.parametrize("name", ["../x", "/x", "C:\\x", "", "x", "..\\x"], ids=repr)
def test_C12_a_name_outside_the_archive_s_folder_is_refused(tmp_path: Path, name: str) -> None:
    problem = refused(tmp_path / "f", archive([*torch_parts(), Part(name, b"evil")]))
    assert "has entries in several folders where torch writes one" in problem


@pytest.mark.parametrize("key", ["../x", "/etc/passwd", "C:\\x", "a\\b", "..", "0\0", "\x1b[31m"], ids=repr)
def test_C12_a_storage_may_have_any_name(tmp_path: Path, key: str) -> None:
    thing = {"a": view(Stored(key, 4), [4]), "b": view(Stored("1", 1), [1])}
    parts = torch_parts(pickle=Part(PICKLE, pickled(thing)), first=Part(f"archive/data/{key}", FOUR))
    assert named_values(opened(tmp_path / "f", archive(parts))) == BOTH


def test_C12_a_name_that_is_not_utf_8_is_read_with_escapes(tmp_path: Path) -> None:
    content = archive([*torch_parts(), Part("archive/\u00e4", flags=0x800)]).replace(b"\xc3\xa4", b"\xff\xfe")
    assert named_values(opened(tmp_path / "f", content)) == BOTH


def test_C12_an_entry_that_is_a_link_is_its_bytes(tmp_path: Path) -> None:
    target = b"/etc/passwd\0\0\0\0\0"
    link = Part(FIRST, target, mode=0o120777)
    found = named_values(opened(tmp_path / "f", archive(torch_parts(first=link))))
    assert floats(*found["a"]) == target


# C13


@pytest.mark.parametrize(
    ("parts", "problem"),
    [
        ([*torch_parts(), Part("other/data.pkl", b"N.")], "has 2 pickles that could be the checkpoint"),
        ([*torch_parts(), Part("data.pkl", b"N.")], "has 2 pickles that could be the checkpoint"),
        ([*torch_parts(), Part("other/data/0", FOUR)], "has entries in several folders where torch writes one: "),
        ([Part("version", b"3"), *torch_parts()], "has entries in several folders where torch writes one: "),
        ([Part("archive/code/data.pkl", b"N.")], "data.pkl lies too deep in it"),
        ([Part("readme.txt", b"N.")], "is a zip archive that holds no checkpoint of a known format, but 'readme.txt'"),
        ([], "is a zip archive that holds no checkpoint of a known format"),
    ],
    ids=["two roots", "root and none", "storage in another", "version at the top", "too deep", "none", "empty"],
)
def test_C13_an_archive_with_no_or_two_roots_is_refused(tmp_path: Path, parts: list[Part], problem: str) -> None:
    assert problem in refused(tmp_path / "f", archive(parts))


# C14: the first bytes decide what a file is


def test_C14_an_archive_with_a_pickle_behind_it_is_refused(tmp_path: Path) -> None:
    problem = refused(tmp_path / "f", archive(torch_parts(), behind=b"\x80\x02N."))
    assert problem == "goes on for 4 bytes after its zip archive"


def test_C14_an_archive_with_a_safetensors_file_behind_it_is_refused(tmp_path: Path) -> None:
    behind = safetensors_file({"a": entry("F32", [1], 0, 4)}, floats(5))
    assert "after its zip archive" in refused(tmp_path / "f", archive(torch_parts(), behind=behind))


@pytest.mark.parametrize("start", [b"\x80\x02N.", b"GGUF\3\0\0\0", b"\x89HDF\r\n\x1a\n", b"\x93NUMPY"])
def test_C14_an_archive_behind_another_format_s_first_bytes_is_not_read_as_an_archive(
    tmp_path: Path, start: bytes
) -> None:
    (tmp_path / "f").write_bytes(start + archive(torch_parts()))
    try:
        checkpoint = open_checkpoint(str(tmp_path / "f"))
    except CheckpointError:
        return
    assert "zip" not in checkpoint.format
    assert not BOTH.keys() & {tensor.name for tensor in checkpoint.tensors}


def test_C14_a_safetensors_file_that_ends_like_an_archive_is_read_with_a_warning(tmp_path: Path) -> None:
    hidden = archive(torch_parts())
    content = safetensors_file({"x": entry("U8", [len(hidden)], 0, len(hidden))}, hidden)
    checkpoint = opened(tmp_path / "f", content)
    assert named_values(checkpoint) == {"x": [float(byte) for byte in hidden]}
    [warning] = checkpoint.warnings
    assert warning.startswith("it ends like a zip archive")


def test_C14_an_archive_whose_first_bytes_are_a_safetensors_header_s_length_is_an_archive(tmp_path: Path) -> None:
    name = b"{" + b" " * 10
    polyglot = b"PK\3\4" + bytes(4) + name + bytes(30)
    assert int.from_bytes(polyglot[:8], "little") < 100_000_000
    problem = refused(tmp_path / "f", archive(torch_parts(), before=polyglot))
    assert problem.startswith(f"starts with {len(polyglot)} bytes that belong to none of its zip entries")


# C15


def test_C15_an_archive_in_an_archive_is_left_alone(tmp_path: Path) -> None:
    inner = archive([Part(PICKLE, pickled({"inner": view(Stored("0", 4), [4])})), A_STORAGE])
    content = archive([*torch_parts(), Part("archive/inner.pt", inner), Part("archive/inner.zip", inner, DEFLATED)])
    assert named_values(opened(tmp_path / "f", content)) == BOTH


def test_C15_an_archive_in_a_storage_is_its_bytes(tmp_path: Path) -> None:
    inner = archive(torch_parts())
    inner += bytes(-len(inner) % 4)
    count = len(inner) // 4
    thing = {"a": view(Stored("0", count), [count])}
    checkpoint = opened(tmp_path / "f", archive([Part(PICKLE, pickled(thing)), Part(FIRST, inner)]))
    assert [(tensor.name, tensor.elements) for tensor in checkpoint.tensors] == [("a", count)]


def test_names_are_told_only_of_a_sound_archive(tmp_path: Path) -> None:
    from weightstats.places import open_file

    for content, names in ((archive(torch_parts()), 4), (OTHER[:-1], 0), (b"GGUF" + OTHER, 0)):
        (tmp_path / "f").write_bytes(content)
        assert len(names_in(content[:512], open_file(tmp_path / "f"))) == names
