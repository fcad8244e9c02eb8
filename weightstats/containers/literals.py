"""Python literals, parsed and never evaluated: what numpy writes into the headers of its files.

`ast.literal_eval` compiles the text, warns of odd escapes, and fails on depth in several ways.
"""

import re
from typing import TypeAlias

from weightstats.errors import WeightstatsError, quoted

Value: TypeAlias = "str | int | bool | list[Value] | tuple[Value, ...] | dict[str, Value]"

_MOST_NESTED = 32
"""Structured types within each other: numpy's text of them is seldom more than two deep."""

_MOST_DIGITS = 20
"""Of a number: 64 bits need no more."""


class LiteralError(WeightstatsError):
    """A text is no literal of the kind that is read; the message continues a sentence about it."""


_TOKEN = re.compile(
    r"""\s*(?:(?P<text>[bu]?(?:'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"))"""
    r"|(?P<number>-?[0-9]+)L?|(?P<word>True|False)|(?P<mark>[][{}(),:]))"
)
"""The parts of a Python literal that numpy writes; Python 2 wrote `L` behind long integers."""


def read_literal(text: str) -> Value:
    """The value that a text stands for; LiteralError where it is anything but one literal."""
    tokens: list[tuple[str, str]] = []
    position, end = 0, len(text.rstrip())
    while position < end:
        match = _TOKEN.match(text, position, end)
        if match is None or match.lastgroup is None:
            raise LiteralError(f"has something else at character {position:,}")
        tokens.append((match.lastgroup, match[match.lastgroup]))
        position = match.end()
    parser = _Parser(tokens)
    value = parser.value(0)
    if parser.position != len(tokens):
        raise LiteralError("goes on after its value")
    return value


class _Parser:
    """A place among tokens, from which values are taken."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens, self.position = tokens, 0

    def value(self, depth: int) -> Value:
        """The next value; LiteralError where none comes."""
        kind, part = self._take()
        if depth > _MOST_NESTED:
            raise LiteralError(f"is nested more than {_MOST_NESTED} deep")
        if kind == "text":
            return part.lstrip("bu")[1:-1]
        if kind == "word":
            return part == "True"
        if kind == "number":
            if len(part) > _MOST_DIGITS:
                raise LiteralError(f"has a number of {len(part):,} digits")
            return int(part)
        if part == "{":
            return self._dict(depth)
        if part in "([":
            return self._items(depth, ")" if part == "(" else "]")
        raise LiteralError(f"has a {quoted(part)} where a value should be")

    def _take(self) -> tuple[str, str]:
        if self.position == len(self.tokens):
            raise LiteralError("ends too early")
        self.position += 1
        return self.tokens[self.position - 1]

    def _goes_on(self, close: str) -> bool:
        """Whether a value comes before the closing mark, which is taken where none does."""
        if self.tokens[self.position : self.position + 1] == [("mark", close)]:
            self.position += 1
            return False
        return True

    def _separator(self, close: str) -> bool:
        """Take what stands behind a value: whether it is a comma, and not the closing mark."""
        token = self._take()
        if token not in (("mark", ","), ("mark", close)):
            raise LiteralError(f"has a {quoted(token[1])} where a comma should be")
        return token[1] == ","

    def _items(self, depth: int, close: str) -> Value:
        items: list[Value] = []
        comma = True
        while comma and self._goes_on(close):
            items.append(self.value(depth + 1))
            comma = self._separator(close)
        if close == "]":
            return items
        return items[0] if len(items) == 1 and not comma else tuple(items)

    def _dict(self, depth: int) -> Value:
        found: dict[str, Value] = {}
        comma = True
        while comma and self._goes_on("}"):
            key = self.value(depth + 1)
            if not isinstance(key, str) or self._take() != ("mark", ":"):
                raise LiteralError("has a key that is no text")
            if key in found:
                raise LiteralError(f"gives {quoted(key)} twice")
            found[key] = self.value(depth + 1)
            comma = self._separator("}")
        return found
