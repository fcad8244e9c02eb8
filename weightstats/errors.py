"""What can go wrong, as exceptions. The library raises them; only the command line turns them into words and codes."""

from collections.abc import Sequence

from weightstats.limits import LIMITS

AN = ("ONNX", "HDF5", "Equinox")
"""Formats before whose name stands `an`; a test says that there are no more."""


def printable(text: str) -> str:
    """Text from outside in one line that no terminal acts on: what is not printable as escapes."""
    return text if text.isprintable() else "".join(map(_escaped, text))


def _escaped(character: str) -> str:
    return character if character.isprintable() else character.encode("unicode_escape").decode()


def shortened(text: str) -> str:
    """A text from a file as a message repeats it: printable, and cut if it is long."""
    return printable(text if len(text) <= LIMITS.quoted else f"{text[: LIMITS.quoted]}…")


def quoted(text: object) -> str:
    """Something from a file as a message repeats it: in quotes, its control characters as escapes, cut if long."""
    return shortened(repr(text))


def counted(count: int, one: str, more: str) -> str:
    """A number with what it counts: `1 tensor is`, `1,234 tensors are`."""
    return f"{count:,} {one if count == 1 else more}"


def led_by(names: Sequence[str]) -> str:
    """The first of several names, and how many more there are: `b`, `b and 2 more`; cut if it is long."""
    return shortened(names[0]) + (f" and {len(names) - 1:,} more" if len(names) > 1 else "")


def with_article(name: str) -> str:
    """The name of a format with `a` or `an` before it, as it is said: `an ONNX`, `an HDF5`, `a GGUF`."""
    return f"{'an' if name.startswith(AN) else 'a'} {name}"


class WeightstatsError(Exception):
    """The base of every error that weightstats raises on purpose."""


class CheckpointError(WeightstatsError):
    """A checkpoint, or a part of it that everything else needs, cannot be read."""

    def __init__(self, location: str, problem: str) -> None:
        super().__init__(printable(f"{location}: {problem}"))
        self.location = location
        self.problem = problem


class TensorError(WeightstatsError):
    """One tensor cannot be read; the message is the reason, and the other tensors are not affected."""


class UsageError(WeightstatsError):
    """What the caller asked for does not fit the checkpoint (an unknown root, a pattern that leaves nothing, ...)."""
