"""Damage of every kind: a file is refused or read, in one line and soon, and no number comes from the wrong place."""

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
from makers import ending_soon
from mutations import Sample, mutants, truncations
from samples import FORMATS, samples

import weightstats
from weightstats import report as report_module
from weightstats.contest import Contest
from weightstats.errors import WeightstatsError


@pytest.fixture(autouse=True)
def no_contest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading is what is tested here: laws tried on the numbers of each mutant would take longer than reading it."""
    monkeypatch.setattr(report_module, "hold_contest", lambda observations: Contest((), 0, 0, (0, 0), (0, 0)))


MUTATIONS = int(os.environ.get("WEIGHTSTATS_MUTATIONS", "40000"))
"""Of all formats together; more take longer and find more."""

SEED = os.environ.get("WEIGHTSTATS_SEED", "1")

WITHOUT_COUNT = {"Equinox"}
"""Formats that do not say how many arrays they hold: cut between two of them, a file is a shorter one."""

SHARE = {"HDF5": 0.1, "Keras archive": 0.1}
"""Formats that take longer get fewer: the share of an equal part."""


@dataclass(frozen=True)
class Numbers:
    """What a report says of a sample's layers, and all that it says beside."""

    layers: dict[str, tuple[tuple[object, ...], float]]
    """By name: shape, dtype and byte order, and the mean square."""

    problems: tuple[str, ...]
    is_damaged: bool


def read(sample: Sample, folder: Path, content: bytes) -> Numbers | str:
    """The numbers, or the refusal; anything but these two fails."""
    path = folder / sample.file
    path.write_bytes(content)
    try:
        with ending_soon(20):
            report = weightstats.inspect(str(path), workers=1)
    except WeightstatsError as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert refusal.isprintable()
        return refusal
    layers = {layer.name: ((layer.shape, layer.dtype, layer.byte_order), layer.mean_square) for layer in report.layers}
    is_damaged = report.checkpoint.damage is not None
    return Numbers(layers, (*report.checkpoint.warnings, *filter(None, [report.checkpoint.damage])), is_damaged)


def wrong_number(intact: Numbers, found: Numbers | str) -> str | None:
    """A layer of the same name, shape and dtype that has another number, with exit code 0 and not a word of itself."""
    if isinstance(found, str) or found.is_damaged:
        return None
    for name, (described, mean_square) in found.layers.items():
        before = intact.layers.get(name)
        is_told = any(name in problem for problem in found.problems)
        if before is not None and before[0] == described and before[1] != mean_square and not is_told:
            return f"{name} has the mean square {mean_square}, not {before[1]}"
    return None


def numbers_of(sample: Sample, folder: Path) -> Numbers:
    for name, content in sample.companions:
        (folder / name).write_bytes(content)
    numbers = read(sample, folder, sample.content)
    assert isinstance(numbers, Numbers), numbers
    return numbers


@pytest.mark.parametrize("name", FORMATS)
def test_damage_is_refused_or_read_and_no_number_is_wrong(
    name: str, tmp_path: Path, record_property: object, capsys: pytest.CaptureFixture[str]
) -> None:
    sample, count = samples()[name], round(MUTATIONS / len(FORMATS) * SHARE.get(name, 1.0))
    others = tuple(other.content for other in samples().values())
    intact = numbers_of(sample, tmp_path)
    refused = unchanged = 0
    wrong = []
    for number, mutant in enumerate(mutants(sample, count, f"{SEED} {name}", others)):
        found = read(sample, tmp_path, mutant)
        refused += isinstance(found, str)
        unchanged += found == intact
        if problem := wrong_number(intact, found):
            wrong.append(f"mutant {number}: {problem}")
    with capsys.disabled():
        print(f"\n{name}: {count} mutants, {refused} refused, {unchanged} read as before", end="")  # noqa: T201
    assert wrong == []
    assert refused > 0


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_cut_anywhere_is_refused_or_read_as_far_as_it_is_whole(name: str, tmp_path: Path) -> None:
    sample = samples()[name]
    intact = numbers_of(sample, tmp_path)
    for content in truncations(sample):
        found = read(sample, tmp_path, content)
        assert wrong_number(intact, found) is None, len(content)
        is_shorter = (
            name in WITHOUT_COUNT and isinstance(found, Numbers) and found.layers.items() < intact.layers.items()
        )
        assert isinstance(found, str) or found.problems or found == intact or is_shorter, len(content)


def test_the_same_seed_gives_the_same_mutants() -> None:
    sample = samples()["safetensors"]
    first, second = ([*mutants(sample, 50, "seed", (b"other",))] for _ in range(2))
    assert first == second
    assert len(set(first)) > 40


def test_no_mutant_is_the_sample_and_their_weights_are_left_alone_where_they_stay_in_place() -> None:
    sample = samples()["safetensors"]
    start, end = sample.weights[0]
    same_size = [
        content for content in mutants(sample, 300, "seed", (b"x" * 8,)) if len(content) == len(sample.content)
    ]
    kept = [content[start:end] == sample.content[start:end] for content in same_size]
    assert sum(kept) > 0.8 * len(kept)
