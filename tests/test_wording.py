"""How messages are worded: numbers that agree with what they count, names that are accepted, where to look further."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import weightstats
from weightstats.errors import UsageError, counted, led_by
from weightstats.renderers import layers_text, words

ROOT = Path(__file__).resolve().parent.parent
LAW = ROOT / "fixtures/made/law.safetensors"


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "weightstats", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0 tensors are"), (1, "1 tensor is"), (2, "2 tensors are"), (1234, "1,234 tensors are")]
)
def test_a_count_agrees_with_what_it_counts(count: int, expected: str) -> None:
    assert counted(count, "tensor is", "tensors are") == expected


def test_names_are_led_by_the_first() -> None:
    assert led_by(["b"]) == "b"
    assert led_by(["b", "a"]) == "b and 1 more"
    assert led_by(["b"] * 2001) == "b and 2,000 more"
    assert led_by(["two\nlines", "a"]) == "two\\nlines and 1 more"
    assert len(led_by(["x" * 100_000])) < 1000


def test_one_tensor_is_not_called_tensors(tmp_path: Path) -> None:
    torch.save({"only.weight": torch.randn(1, 1)}, tmp_path / "one.pt")
    report = weightstats.inspect(str(tmp_path / "one.pt"))
    assert words.header(report)[0].endswith(", 1 tensor, 1 parameter")
    assert words.accounted(report).startswith("1 tensor = 1 layer + 0 others + 0 unread; 1 element in 4 bytes")
    text = layers_text.as_terminal(weightstats.list_layers(str(tmp_path / "one.pt")), 100)
    assert "1 tensor = 1 layer + 0 others + 0 unread." in text
    assert "1 tensors" not in text


def test_one_element_is_nan_and_two_are(tmp_path: Path) -> None:
    for count, verb in ((1, "is"), (2, "are")):
        weight = torch.ones(4, 4)
        weight.view(-1)[:count] = torch.nan
        torch.save({"a.weight": weight}, tmp_path / "a.pt")
        warnings = weightstats.inspect(str(tmp_path / "a.pt")).checkpoint.warnings
        assert f"a.weight: {count} of 16 elements {verb} NaN or infinite" in warnings


def test_the_one_layer_that_is_not_left_is_no_layers(tmp_path: Path) -> None:
    torch.save({"only.weight": torch.randn(3, 3)}, tmp_path / "one.pt")
    with pytest.raises(UsageError, match=r"^the one layer is not left by --include and --exclude$"):
        weightstats.inspect(str(tmp_path / "one.pt"), include=("x",))


@pytest.mark.parametrize(("given", "key"), [("fan_scaled", "fan_scaled"), ("per-element", "per_element")])
def test_a_penalty_may_be_spelt_as_in_json(given: str, key: str) -> None:
    for spelling in (given, given.replace("_", "-"), given.replace("-", "_")):
        done = run("groups", LAW, "--penalty", spelling, "--as", "json")
        assert (done.returncode, json.loads(done.stdout)["penalty"]) == (0, key)


def test_help_shows_one_spelling_of_each_penalty() -> None:
    text = run("groups", "--help").stdout
    assert "--penalty [plain|per-element|fan-scaled]" in text
    assert "fan_scaled" not in text


def test_a_law_that_there_is_not_points_to_the_list() -> None:
    done = run("inspect", LAW, "--law", "glorott")
    assert done.returncode == 2
    assert "there is no law 'glorott'" in done.stderr
    assert "`weightstats laws` says what they are" in done.stderr


@pytest.mark.parametrize("command", ["layers", "groups"])
def test_exit_codes_are_those_of_the_command_itself(command: str) -> None:
    text = run(command, "--help").stdout
    assert "Exit codes: 0 read and" in text
    assert "--strict" not in text
    assert "those of" not in text
