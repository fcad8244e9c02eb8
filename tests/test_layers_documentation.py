"""What docs/layers.md shows and says is so."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from weightstats.rules import KEYS, make_rules

DOCUMENT = Path(__file__).resolve().parent.parent / "docs/layers.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)
    return str(found)


def test_the_example_prints_what_is_shown(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", block("python")], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout == block("text")


def test_a_fused_matrix_is_initialised_with_half_the_variance_of_its_parts() -> None:
    torch.manual_seed(0)
    width = 512
    stored = torch.nn.MultiheadAttention(width, 4).in_proj_weight.detach()
    assert stored.shape == (3 * width, width)
    for part in stored.chunk(3):
        alone = torch.nn.init.xavier_uniform_(torch.empty(width, width))
        assert part.square().mean().item() == pytest.approx(2 / (4 * width), rel=0.01)
        assert alone.square().mean().item() == pytest.approx(2 / (2 * width), rel=0.01)


def test_the_rules_that_are_shown_can_be_read() -> None:
    assert len(make_rules(tomllib.loads(block("toml"))["rule"], "the document").rules) == 4


def test_every_key_of_a_rule_is_described() -> None:
    described = re.findall(
        r"^\| (`\w+`(?:, `\w+`)*) \| [^|]+ \| [^|]+ \|$", TEXT[TEXT.index("| key |") :], re.MULTILINE
    )
    assert re.findall(r"\w+", " ".join(described)) == list(KEYS)
