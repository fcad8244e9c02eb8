"""Every known way to attack a reader of checkpoints has a test of its own, by the number that it has in this project.

A: the opcodes of pickles. B: torch's tensors and storages. C: zip archives. D: safetensors. P: folders and paths.
F: GGUF. G: ONNX. H: HDF5 and Keras. I: numpy, MessagePack, distributed checkpoints, the command line.
"""

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

SECTIONS: dict[str, tuple[int, tuple[str, ...]]] = {
    "A": (30, ("test_hostile_torch.py",)),
    "B": (33, ("test_hostile_torch.py",)),
    "C": (15, ("test_hostile_zip.py",)),
    "D": (20, ("test_hostile_safetensors.py",)),
    "P": (12, ("test_hostile_folders.py",)),
    "F": (16, ("test_gguf_file.py",)),
    "G": (8, ("test_onnx_file.py",)),
    "H": (13, ("test_hdf5.py", "test_keras_zip.py")),
    "I": (11, ("test_numpy_files.py", "test_flax_msgpack.py", "test_distributed.py", "test_hostile_cli.py")),
}
"""How many cases a section has, and where their tests are."""

_CASE = re.compile(r"(?:::test_|[\[ _-])([A-IPa-ip])(\d{1,2})(?=[_ \-\],:.]|$)")


def cases_in(test: str) -> set[str]:
    """The cases that the name of a test speaks of, as far as its file is where they belong."""
    file = test.partition("::")[0].rpartition("/")[2]
    found = {(letter.upper(), int(number)) for letter, number in _CASE.findall(test)}
    return {f"{letter}{number}" for letter, number in found if file in SECTIONS[letter][1]}


def test_every_case_has_a_test(capsys: pytest.CaptureFixture[str]) -> None:
    files = sorted({file for _, names in SECTIONS.values() for file in names})
    command = [sys.executable, "-m", "pytest", "--collect-only", *files]
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, check=True)
    expected = [f"{letter}{number + 1}" for letter, (last, _) in SECTIONS.items() for number in range(last)]
    told = [cases_in(line) & set(expected) for line in done.stdout.splitlines() if "::" in line]
    counts = Counter(case for cases in told for case in cases)
    with capsys.disabled():
        print(f"\n{len(expected)} hostile cases: {len(counts)} have {sum(map(bool, told)):,} tests", end="")  # noqa: T201
    assert [case for case in expected if not counts[case]] == []


@pytest.mark.parametrize(
    ("test", "cases"),
    [
        ("tests/test_hostile_zip.py::test_C5_a_bomb", {"C5"}),
        ("tests/test_hostile_torch.py::test_b8_a_view", {"B8"}),
        ("tests/test_hostile_torch.py::test_refused[A17 too long]", {"A17"}),
        ("tests/test_hostile_torch.py::test_refused[A17-B3]", {"A17", "B3"}),
        ("tests/test_hostile_torch.py::test_refused[C17]", set()),
        ("tests/test_gguf_file.py::test_f7_an_offset[F8-aligned]", {"F7", "F8"}),
        ("tests/test_hostile_zip.py::test_a_file", set()),
    ],
)
def test_the_cases_of_a_test_are_told_by_its_name(test: str, cases: set[str]) -> None:
    assert cases_in(test) == cases
