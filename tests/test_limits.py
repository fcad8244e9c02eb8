"""Limits: one table, changed for a while, and named in messages with what changes them."""

import dataclasses
import inspect
import threading

import pytest

from weightstats import limits
from weightstats.limits import DEFAULTS, LIMITS, Limits, changed_limits, crowded, limit_names, over


def test_the_limits_in_force_are_the_defaults() -> None:
    assert {name: getattr(LIMITS, name) for name in limit_names()} == dataclasses.asdict(DEFAULTS)


def test_every_limit_is_a_positive_number_with_a_reason() -> None:
    lines = inspect.getsource(Limits).splitlines()
    for name in limit_names():
        assert getattr(DEFAULTS, name) > 0
        [at] = [number for number, line in enumerate(lines) if line.startswith(f"    {name}: int = ")]
        assert lines[at + 1].startswith('    """')


def test_a_limit_is_changed_within_the_body_alone() -> None:
    before = LIMITS.tensors
    with changed_limits({"tensors": 5}):
        assert (LIMITS.tensors, LIMITS.rank) == (5, DEFAULTS.rank)
        with changed_limits({"rank": 3}):
            assert (LIMITS.tensors, LIMITS.rank) == (5, 3)
        assert (LIMITS.tensors, LIMITS.rank) == (5, DEFAULTS.rank)
    assert LIMITS.tensors == before


def test_a_limit_is_as_it_was_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), changed_limits({"tensors": 5}):
        _ = 1 / 0
    assert LIMITS.tensors == DEFAULTS.tensors


def test_a_limit_that_is_changed_in_one_thread_is_not_in_another() -> None:
    seen: list[int] = []
    with changed_limits({"tensors": 5}):
        thread = threading.Thread(target=lambda: seen.append(LIMITS.tensors))
        thread.start()
        thread.join()
    assert seen == [DEFAULTS.tensors]


def test_a_limit_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(TypeError, match="nonsense"), changed_limits({"nonsense": 5}):
        pass
    with pytest.raises(AttributeError):
        _ = LIMITS.nonsense  # type: ignore[attr-defined]


def test_a_message_says_the_limit_in_force_and_what_changes_it() -> None:
    assert over("rank") == "more than the 64 that --limit rank=N sets"
    with changed_limits({"tensors": 1_234_567}):
        assert over("tensors") == "more than the 1,234,567 that --limit tensors=N sets"


@pytest.mark.parametrize(
    ("tensors", "size", "limit"),
    [
        (0, 0, None),
        (10, 0, None),
        (11, 0, "crowded_tensors"),
        (11, 1_099, "crowded_tensors"),
        (11, 1_100, None),
        (50, 10**9, None),
        (51, 10**9, "tensors"),
    ],
)
def test_many_tensors_in_few_bytes_are_a_crowd(tensors: int, size: int, limit: str | None) -> None:
    with changed_limits({"tensors": 50, "crowded_tensors": 10, "crowded_bytes": 100}):
        problem = crowded(tensors, size)
    assert (problem is None) == (limit is None)
    assert limit is None or f"--limit {limit}=N" in str(problem)


def test_the_default_of_a_limit_is_not_changed_by_changing_it() -> None:
    with changed_limits({"tensors": 5}):
        assert DEFAULTS.tensors == limits.Limits().tensors != 5
