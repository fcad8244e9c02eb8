"""Seeded damage to the structure of a file: bits, lengths, pieces lost, repeated, moved or put in from elsewhere.

Weights are left as they are, so that a number that changes was read from the wrong place or in the wrong way.
"""

import io
import random
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass

INTERESTING = (0, 1, 2, 7, 8, 16, 64, 127, 128, 255, 256, 1 << 15, (1 << 16) - 1, 1 << 20, (1 << 31) - 1, 1 << 31)
INTERESTING += ((1 << 32) - 1, 1 << 32, 1 << 40, 1 << 60, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
"""Numbers at which lengths, counts and offsets go wrong."""


@dataclass(frozen=True)
class Sample:
    """A file of one format, with where its weights lie as they are."""

    name: str
    content: bytes
    weights: tuple[tuple[int, int], ...]
    """(start, end) of stored numbers that no mutation touches in place."""

    file: str = "sample"
    companions: tuple[tuple[str, bytes], ...] = ()
    """Names and contents of files beside it, which stay as they are."""

    @property
    def structure(self) -> tuple[int, ...]:
        """Offsets of every byte that is not a weight."""
        offsets = set(range(len(self.content)))
        for start, end in self.weights:
            offsets.difference_update(range(start, end))
        return tuple(sorted(offsets))


def sample(name: str, content: bytes, weights: list[bytes]) -> Sample:
    """A sample in which each of the `weights` is found as it is; compressed ones are not, and count as structure."""
    places = [match.span() for part in weights for match in re.finditer(re.escape(part), content)]
    return Sample(name, content, tuple(places))


def mutants(of: Sample, count: int, seed: str, others: tuple[bytes, ...]) -> Iterator[bytes]:
    """`count` damaged versions, the same for the same seed; `others` are files that pieces are taken from."""
    chance = random.Random(seed)  # noqa: S311
    structure = of.structure
    for number in range(count):
        content = bytearray(of.content)
        if number % 8 == 0 and of.content.startswith(b"PK\x03\x04"):
            yield _inside_archive(of, chance, others)
            continue
        places = sorted((chance.choice(structure) for _ in range(chance.choice((1, 1, 1, 2, 4)))), reverse=True)
        for place in dict.fromkeys(places):  # from the back, so that each still means what it did
            chance.choice(_DAMAGE)(content, Spot(place, _room(place, of.weights)), chance, others)
        yield bytes(content)


@dataclass(frozen=True)
class Spot:
    """Where damage is done."""

    at: int
    room: int
    """Bytes from there to the next weight."""


def _room(place: int, weights: tuple[tuple[int, int], ...]) -> int:
    return min((start - place for start, _ in weights if start > place), default=1 << 30)


def truncations(of: Sample, step: int = 4096) -> Iterator[bytes]:
    """The sample cut at every byte of its structure, and every `step` bytes of its weights."""
    for end in range(len(of.content)):
        in_weights = any(start < end < stop for start, stop in of.weights)
        if not in_weights or end % step == 0:
            yield of.content[:end]


def _flip(content: bytearray, spot: Spot, chance: random.Random, others: tuple[bytes, ...]) -> None:
    if spot.at < len(content):
        content[spot.at] ^= 1 << chance.randrange(8)


def _set(content: bytearray, spot: Spot, chance: random.Random, others: tuple[bytes, ...]) -> None:
    if spot.at < len(content):
        content[spot.at] = chance.choice((0, 1, 0x7F, 0x80, 0xFF, chance.randrange(256)))


def _number(content: bytearray, spot: Spot, chance: random.Random, others: tuple[bytes, ...]) -> None:
    width = min(chance.choice((1, 2, 4, 8)), spot.room)
    number = chance.choice((*INTERESTING, chance.randrange(1 << 16))) & ((1 << 8 * width) - 1)
    content[spot.at : spot.at + width] = number.to_bytes(width, chance.choice(("little", "big")))


def _add(content: bytearray, spot: Spot, chance: random.Random, others: tuple[bytes, ...]) -> None:
    """A little more or less in a number that is there, of whatever width."""
    width = min(chance.choice((1, 2, 4, 8)), spot.room)
    part = bytes(content[spot.at : spot.at + width])
    if len(part) == width:
        number = int.from_bytes(part, "little") + chance.choice((-16, -8, -4, -1, 1, 4, 8, 16, 64))
        content[spot.at : spot.at + width] = (number & ((1 << 8 * width) - 1)).to_bytes(width, "little")


def _digit(content: bytearray, spot: Spot, chance: random.Random, others: tuple[bytes, ...]) -> None:
    end = min(spot.at + min(64, spot.room), len(content))
    digits = [place for place in range(spot.at, end) if content[place] in b"0123456789"]
    if digits:
        content[chance.choice(digits)] = chance.choice(b"0123456789-.eE")


def _delete(content: bytearray, spot: Spot, chance: random.Random, others: tuple[bytes, ...]) -> None:
    del content[spot.at : spot.at + min(chance.choice((1, 1, 2, 4, 8, 64)), spot.room)]


def _repeat(content: bytearray, spot: Spot, chance: random.Random, others: tuple[bytes, ...]) -> None:
    part = bytes(content[spot.at : spot.at + min(chance.choice((1, 4, 8, 32, 128)), spot.room)])
    content[spot.at : spot.at] = part * chance.choice((1, 1, 2, 16))


def _insert(content: bytearray, spot: Spot, chance: random.Random, others: tuple[bytes, ...]) -> None:
    content[spot.at : spot.at] = chance.randbytes(chance.choice((1, 2, 4, 8, 64)))


def _copy(content: bytearray, spot: Spot, chance: random.Random, others: tuple[bytes, ...]) -> None:
    """What stands elsewhere in the file."""
    length = min(chance.choice((1, 2, 4, 8, 16)), spot.room)
    other = chance.randrange(max(1, len(content) - length))
    content[spot.at : spot.at + length] = bytes(content[other : other + length])


def _splice(content: bytearray, spot: Spot, chance: random.Random, others: tuple[bytes, ...]) -> None:
    """What stands in another file."""
    other = chance.choice(others)
    start = chance.randrange(max(1, len(other)))
    length = min(chance.choice((4, 16, 64, 256)), spot.room)
    content[spot.at : spot.at + length] = other[start : start + length]


def _cut(content: bytearray, spot: Spot, chance: random.Random, others: tuple[bytes, ...]) -> None:
    del content[spot.at :]


def _append(content: bytearray, spot: Spot, chance: random.Random, others: tuple[bytes, ...]) -> None:
    content += chance.choice((b"\0", b"\0" * 64, chance.randbytes(32), bytes(content)))


_DAMAGE: tuple[Callable[[bytearray, Spot, random.Random, tuple[bytes, ...]], None], ...] = (
    *(_flip, _flip, _set, _set, _number, _number, _number, _add, _add, _add, _digit, _digit),
    *(_delete, _repeat, _insert, _copy, _splice, _cut, _append),
)


def _inside_archive(of: Sample, chance: random.Random, others: tuple[bytes, ...]) -> bytes:
    """The archive with one entry that holds no weights damaged before it is packed, so that its checksum is right."""
    with zipfile.ZipFile(io.BytesIO(of.content)) as archive:
        entries = [(info.filename, archive.read(info), info.compress_type) for info in archive.infolist()]
    stored = [of.content[start:end] for start, end in of.weights]
    parts = [sample(name, content, stored) for name, content, _ in entries]
    chosen = chance.choice([index for index, part in enumerate(parts) if part.structure])
    place = chance.choice(parts[chosen].structure)
    spot = Spot(place, _room(place, parts[chosen].weights))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for index, (name, content, method) in enumerate(entries):
            changed = bytearray(content)
            if index == chosen:
                chance.choice(_DAMAGE)(changed, spot, chance, others)
            archive.writestr(zipfile.ZipInfo(name), bytes(changed), compress_type=method)
    return stream.getvalue()
