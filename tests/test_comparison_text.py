"""What is shown of a comparison: at any width, folded where there is much of it, escaped where names are hostile."""

import csv
import io
import json
import re
from pathlib import Path

import pytest
import torch
from rich.cells import cell_len
from test_comparison import compared, mlp, normal, scaled
from test_layers_command import EVIL

from weightstats.comparison import Comparison
from weightstats.renderers import comparison_terminal, comparison_text
from weightstats.renderers.comparison_rows import cosine, rows_of

NAMES = tuple(name if name.endswith("weight") else f"{name}.weight" for name in EVIL)

WIDTHS = (60, 80, 100, 120, 160, 250)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    after = mlp(1) | {"0.weight": mlp()["0.weight"], "3.weight": torch.zeros(16, 48), "new.weight": normal(5, 6)}
    return compared(tmp_path_factory.mktemp("pair"), mlp(), after)


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    state = {name: normal(4, 5, seed=index) for index, name in enumerate(NAMES)}
    only = {f"only.{name}": tensor for name, tensor in state.items()}
    return compared(tmp_path_factory.mktemp("evil"), state, scaled(state, 2.0) | only, root="")


@pytest.mark.parametrize("width", WIDTHS)
def test_no_line_is_longer_than_the_terminal(comparison: Comparison, evil: Comparison, width: int) -> None:
    for one in (comparison, evil):
        assert max(map(cell_len, comparison_terminal.render(one, width).splitlines())) <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_every_layer_is_shown_with_its_numbers_before_and_after(comparison: Comparison, width: int) -> None:
    text = comparison_terminal.render(comparison, width)
    for layer in comparison.layers:
        (line,) = [line for line in text.splitlines() if re.match(rf"{re.escape(layer.name)} ", line)]
        assert ("same" in line) == layer.is_unchanged
    flat = " ".join(text.split())
    assert "All its weights are zero".lower() in flat.lower()
    assert "only after: not there before" in flat
    assert "5 layers in both = 4 changed + 1 unchanged + 0 not paired; 1 not compared." in flat
    assert ("plain, per-element, fan-scaled: the layer's share" in flat) == (width >= 100)


def test_the_sentences_stand_on_top_of_the_table(comparison: Comparison) -> None:
    text = comparison_terminal.render(comparison, 4000)
    places = [text.index(sentence) for sentence in comparison.findings]
    assert places == sorted(places)
    assert places[-1] < text.index("mean sq.")


def test_colour_is_only_where_it_is_asked_for(comparison: Comparison) -> None:
    assert "\x1b[" not in comparison_terminal.render(comparison, 100)
    coloured = comparison_terminal.render(comparison, 100, colour=True)
    plain = "\n".join(line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", coloured).splitlines()) + "\n"
    assert plain == comparison_terminal.render(comparison, 100)


def test_warnings_are_shown_with_their_side_where_they_are_asked_for(comparison: Comparison) -> None:
    assert "Warning, after: 3.weight: all its weights are zero" in comparison_terminal.render(comparison, 100)
    assert "Warning" not in comparison_terminal.render(comparison, 100, warnings=False)


def test_names_of_files_reach_no_terminal_and_no_spreadsheet_as_they_are(evil: Comparison) -> None:
    assert {layer.name for layer in evil.layers} == set(NAMES)
    for text in (comparison_terminal.render(evil, 100), comparison_text.as_csv(evil), comparison_text.as_json(evil)):
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202e]", text.replace("\r\n", "\n"))
    rows = list(csv.reader(io.StringIO(comparison_text.as_csv(evil))))
    assert all(not cell.startswith(("=", "+", "@")) for row in rows[1:] for cell in row)


def test_many_layers_are_folded(tmp_path: Path) -> None:
    before = {f"blocks.{index}.fc.weight": normal(8, 9, seed=index) for index in range(50)}
    after = {name: tensor * (1.1 + 0.01 * index) for index, (name, tensor) in enumerate(before.items())}
    after["blocks.7.fc.weight"] = before["blocks.7.fc.weight"]
    made = compared(tmp_path, before, after)
    rows = rows_of(made.layers)
    assert (
        sum(int(name[0]) if (name := row.name.rpartition("×")[2:]) and name[0].isdigit() else 1 for row in rows) == 50
    )
    changes = {row.change for row in rows}
    assert "same" in changes
    assert any(re.fullmatch(r"0\.\d+–0\.\d+", change) for change in changes)
    assert len(rows) <= 4


def test_a_folded_row_counts_what_moved_where(tmp_path: Path) -> None:
    after = {f"blocks.{index}.fc.weight": normal(8, 9, seed=index) for index in range(50)}
    before = {name: tensor * (9.0 if index % 5 == 0 else 1.0) for index, (name, tensor) in enumerate(after.items())}
    after = {name: tensor * (50.0 if index == 1 else 1.5) for index, (name, tensor) in enumerate(after.items())}
    made = compared(tmp_path, before, after)
    (row,) = rows_of(made.layers)
    assert made.total.towards >= 10
    assert made.total.away > 0
    unmoved = 50 - made.total.towards - made.total.away
    counts = ((made.total.towards, "nearer"), (made.total.away, "further"), (unmoved, "–"))
    assert row.moved.splitlines() == [f"{count} {word}" for count, word in counts if count]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (1.0, "1"),
        (-1.0, "-1"),
        (0.0, "0"),
        (0.25, "0.250"),
        (0.9999, "0.9999"),
        (0.9999996, "0.9999996"),
        (-0.99996, "-0.99996"),
        (float("nan"), "–"),
    ],
)
def test_a_cosine_reads_1_only_where_it_is(value: float, shown: str) -> None:
    assert cosine(value) == shown


def test_csv_has_a_line_for_every_layer_of_either_side(comparison: Comparison) -> None:
    rows = list(csv.DictReader(io.StringIO(comparison_text.as_csv(comparison))))
    assert tuple(rows[0]) == comparison_text.COLUMNS
    assert [row["list"] for row in rows] == ["layer"] * 5 + ["only after"]
    layer = comparison.layers[1]
    assert float(rows[1]["relative_change"]) == layer.relative_change
    assert float(rows[1]["mean_square_after"]) == layer.mean_square.after
    assert float(rows[1]["fan_scaled_share_before"]) == layer.shares["fan_scaled"].before
    assert (rows[1]["shape"], rows[1]["is_unchanged"], rows[0]["is_unchanged"]) == ("96x32", "false", "true")
    assert (rows[3]["cosine"], rows[3]["reason"]) == ("", "all its weights are zero")
    assert (rows[5]["name"], rows[5]["name_after"], rows[5]["reason"]) == ("", "new.weight", "not there before")


def test_json_holds_what_the_comparison_does(comparison: Comparison) -> None:
    told = json.loads(comparison_text.as_json(comparison))
    assert told == json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert told["layers"][1]["mean_square"] == {
        "before": comparison.layers[1].mean_square.before,
        "after": comparison.layers[1].mean_square.after,
    }


def test_print_shows_the_report_for_the_terminal(comparison: Comparison) -> None:
    assert str(comparison) == comparison_terminal.render(comparison, 100)
