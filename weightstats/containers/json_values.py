"""JSON out of a file, parsed once it is known how many values it holds: 100 MB of brackets would take gigabytes."""

import json
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np

from weightstats.errors import quoted
from weightstats.limits import LIMITS, over

_STEP = 1 << 20
"""Bytes that are looked at at a time."""

_IS_MARK = np.isin(np.arange(256), np.frombuffer(b",[{", np.uint8))
"""Whether a byte outside a text brings another value."""

Pairs = Sequence[tuple[str, Any]]


def parsed(raw: bytes, make_object: Callable[[Pairs], Any], make_integer: Callable[[str], Any] = int) -> Any:
    """What the JSON in `raw` says, its objects made from their pairs and its integers from their digits.

    ValueError, with what is wrong, for what is not JSON in UTF-8, NaN and Infinity among it, for more values than
    LIMITS.json_values and for those nested too deeply for Python.
    """
    number = _number_of_values(raw)
    if number > LIMITS.json_values:
        raise ValueError(f"it holds {number:,} values, {over('json_values')}")
    try:
        text = raw.decode("utf-8")
        return json.loads(text, object_pairs_hook=make_object, parse_constant=_no_constant, parse_int=make_integer)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def distinct(pairs: Pairs) -> dict[str, Any]:
    """An object whose keys are distinct; ValueError for another."""
    mapping = dict(pairs)
    if len(mapping) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"the key {quoted(twice)} is there twice")
    return mapping


def _number_of_values(raw: bytes) -> int:
    """How many texts some JSON has, and outside them lists, objects and commas."""
    bare = raw.replace(b"\\\\", b"").replace(b'\\"', b"")  # no quote is left but those around a text
    quotes = marks = 0
    for start in range(0, len(bare), _STEP):
        part = np.frombuffer(bare[start : start + _STEP], np.uint8)
        is_quote = part == ord('"')
        in_text = np.logical_xor.accumulate(is_quote)
        if quotes % 2:
            in_text = ~in_text
        quotes += int(np.count_nonzero(is_quote))
        marks += int(np.count_nonzero(_IS_MARK[part] & ~in_text))
    return quotes // 2 + marks


def _no_constant(text: str) -> NoReturn:
    raise ValueError(f"{text} is not a JSON number")
