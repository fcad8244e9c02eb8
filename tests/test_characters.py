"""The scatter plot in characters: what stands where, and what is said where there is nothing to draw."""

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal
from functools import cache
from pathlib import Path

import plotext
import pytest

import weightstats
from weightstats.laws import LAWS
from weightstats.renderers import characters
from weightstats.report import LayerRow, Report

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
SILERO = FIXTURES / "published/silero-vad/silero_vad_16k.safetensors"


@cache
def silero(law: str = "fan-sum") -> Report:
    return weightstats.inspect(str(SILERO), law=law)


def layer(fan_sum: int, mean_square: float, *, fitted: bool = True, scale_free: bool = False) -> LayerRow:
    """One of half that many inputs and outputs."""
    half = fan_sum // 2
    known = {"n_in": half, "n_out": fan_sum - half, "elements": half * (fan_sum - half), "mean_square": mean_square}
    return replace(silero().layers[0], **known, fitted=fitted, scale_free=scale_free)


def report_of(layers: Sequence[LayerRow], constant: float = 10.0) -> Report:
    """A report on these layers alone, with a law of this constant."""
    fit = replace(silero().fit, layers=sum(each.fitted for each in layers), constant=constant)
    return replace(silero(), layers=tuple(layers), fit=fit)


LADDER = [layer(10, 1.0), layer(100, 0.1), layer(1000, 0.01)]


def cells(text: str) -> dict[tuple[int, int], str]:
    """What stands within the frame, by column and line."""
    lines = text.splitlines()
    inside = [(row, re.search(r"[│┤](.*)│", line)) for row, line in enumerate(lines)]
    found = [(row, match.start(1), match[1]) for row, match in inside if match]
    return {
        (start + column, row): sign for row, start, line in found for column, sign in enumerate(line) if sign != " "
    }


def places(text: str, sign: str) -> list[tuple[int, int]]:
    return sorted(place for place, found in cells(text).items() if found == sign)


def labels_below(text: str) -> dict[str, float]:
    """The labels of the lower axis, with the columns in which their middles are."""
    lines = text.splitlines()
    (frame,) = (row for row, line in enumerate(lines) if "└" in line)
    return {match[0]: (match.start() + match.end() - 1) / 2 for match in re.finditer(r"\S+", lines[frame + 1])}


def test_layers_stand_above_their_fan_sums_and_beside_their_mean_squares() -> None:
    text = characters.render(report_of(LADDER), 80, 25)
    marks = places(text, "o")
    below = labels_below(text)
    assert all(
        abs(below[label] - column) <= 2 for label, (column, _) in zip(("10", "100", "1,000"), marks, strict=True)
    )
    beside = [text.splitlines()[row][: characters.LEAST[0]].split("┤")[0].strip() for _, row in marks]
    assert beside == ["1", "0.1", "0.01"]


def test_the_axes_are_logarithmic() -> None:
    (a, b, c) = places(characters.render(report_of(LADDER), 100), "o")
    assert abs((b[0] - a[0]) - (c[0] - b[0])) <= 1
    assert abs((b[1] - a[1]) - (c[1] - b[1])) <= 1


def test_the_law_passes_through_layers_that_follow_it() -> None:
    text = characters.render(report_of(LADDER), 100)
    line = places(text, "·")
    for column, row in places(text, "o"):
        assert any(abs(column - x) == 1 and abs(row - y) <= 1 for x, y in line)


def test_the_law_is_drawn_with_its_own_constant() -> None:
    through = characters.render(report_of([*LADDER, layer(10, 0.01)]), 100)
    above = characters.render(report_of([*LADDER, layer(10, 0.01)], constant=100.0), 100)
    assert min(column for column, _ in places(above, "·")) > min(column for column, _ in places(through, "·"))


def test_the_law_falls_and_a_constant_does_not() -> None:
    falling = places(characters.render(silero(), 100), "·")
    assert falling[0][1] < falling[-1][1]
    assert len({row for _, row in places(characters.render(silero("constant"), 100), "·")}) == 1


def test_a_constant_law_is_drawn_over_the_fan_sums() -> None:
    fan_sums = {column for column, _ in places(characters.render(silero()), "o")}
    assert {column for column, _ in places(characters.render(silero("constant")), "o")} == fan_sums


@pytest.mark.parametrize(("count", "sign"), [(1, "o"), (2, "2"), (9, "9"), (10, "#"), (12, "#")])
def test_layers_in_one_place_are_counted(count: int, sign: str) -> None:
    text = characters.render(report_of([layer(100, 0.2)] * count, constant=math.nan))
    assert Counter(cells(text).values()) == {sign: 1}


def test_marks_tell_what_the_fit_takes_a_layer_for_without_colour() -> None:
    layers = [layer(100, 1.0), layer(200, 1.0, scale_free=True), layer(400, 1.0, fitted=False)]
    text = characters.render(report_of(layers, constant=1e-9))
    assert [cells(text)[place] for place in sorted(cells(text))] == ["o", "s", "x"]
    assert "o  a layer of the fit (1)\n" in text
    assert "s  a layer of the fit whose scale does not change what the network computes (1)\n" in text
    assert "x  a layer that the fit leaves out (1)\n" in text


def test_a_layer_that_is_left_out_is_so_whatever_its_scale() -> None:
    text = characters.render(report_of([layer(100, 1.0, fitted=False, scale_free=True)], constant=math.nan))
    assert Counter(cells(text).values()) == {"x": 1}


def test_a_layer_that_is_left_out_and_far_away_is_said_and_does_not_squeeze_the_others() -> None:
    far = layer(1_000_000, 0.01, fitted=False)
    text = characters.render(report_of([*LADDER, far]))
    assert not places(text, "x")
    assert places(text, "o") == places(characters.render(report_of(LADDER)), "o")
    assert "Not drawn: 1 layer that the fit leaves out, and that lies far from the others." in text
    assert "Not drawn" not in characters.render(report_of([*LADDER, layer(2000, 0.01, fitted=False)]))


def test_several_layers_of_other_standings_are_written_large() -> None:
    layers = [layer(100, 1.0, scale_free=True)] * 2 + [layer(300, 1.0, fitted=False)] * 3 + [layer(900, 1.0)]
    text = characters.render(report_of(layers, constant=1e-9))
    assert [cells(text)[place] for place in sorted(cells(text))] == ["S", "X", "o"]
    assert "(2); S  several" in text
    assert "(3); X  several" in text


def test_a_layer_of_the_fit_is_not_hidden_by_others_in_its_place() -> None:
    text = characters.render(report_of([layer(100, 1.0, fitted=False), layer(100, 1.0, scale_free=True), LADDER[1]]))
    assert len(places(text, "X")) == 0
    hidden = characters.render(report_of([layer(100, 0.1, fitted=False), layer(100, 0.1, scale_free=True), LADDER[1]]))
    assert len(places(hidden, "3")) == 1


def test_only_marks_that_are_there_are_explained() -> None:
    text = characters.render(report_of(LADDER))
    assert [line[0] for line in text.splitlines()[-2:]] == ["o", "·"]


@pytest.mark.parametrize("law", [law.key for law in LAWS])
def test_every_law_is_drawn_over_what_it_depends_on(law: str) -> None:
    report = silero(law)
    text = characters.render(report, 120)
    assert len(places(text, "·")) > 20
    assert f"against {report.fit.measure}, both" in text
    marks = Counter(cells(text).values())
    assert marks["o"] + sum(int(sign) * count for sign, count in marks.items() if sign.isdecimal()) == 13


def test_a_law_with_a_constant_of_its_own_says_both() -> None:
    text = characters.render(silero("glorot"), 200)
    assert "the law c/(n_in+n_out) with c = 31.2, fitted to 13 layers (glorot says 2)" in text


@pytest.mark.parametrize("width", [60, 80, 100, 137, 200])
@pytest.mark.parametrize("colour", [False, True])
def test_no_line_is_longer_than_the_width(width: int, colour: bool) -> None:
    layers = [*LADDER, layer(30, 1e-30, fitted=False), layer(70, 0.3, scale_free=True), layer(50, math.nan)]
    text = characters.render(report_of(layers), width, colour=colour)
    lengths = [len(plotext.uncolorize(line)) for line in text.splitlines()]
    assert max(lengths) == width


@pytest.mark.parametrize("height", [8, 24, 50])
def test_the_plot_has_the_height_that_is_asked_for(height: int) -> None:
    text = characters.render(report_of(LADDER), height=height)
    assert len(text.splitlines()) == height + 3  # the line above, and two of the legend


def test_the_terminal_that_there_is_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = characters.render(silero(), 160)
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("LINES", "10")
    assert characters.render(silero(), 160) == wide


def test_colour_is_there_only_when_asked_for_and_changes_no_character() -> None:
    plain = characters.render(silero(), 100)
    coloured = characters.render(silero(), 100, colour=True)
    assert "\x1b" not in plain
    assert "\x1b[" in coloured
    assert [line.rstrip() for line in plotext.uncolorize(coloured).splitlines()] == plain.splitlines()


@pytest.mark.parametrize("law", ["fan-sum", "spectral", "largest-fan", "constant"])
def test_a_terminal_without_other_characters_gets_ascii_alone(law: str) -> None:
    layers = [layer(10, 1.0)] * 3 + LADDER
    text = characters.render(replace(report_of(layers), fit=silero(law).fit), 100, ascii_only=True)
    assert text.isascii()
    assert ".  the law c" in text
    assert len(re.findall(r"^ *\S*[|+].*\|$", text, re.MULTILINE)) == characters.HEIGHT - 4


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [("utf-8", True), ("cp437", True), ("ascii", False), ("latin-1", False), (None, False), ("no-such", False)],
)
def test_an_encoding_shows_the_plot_or_not(encoding: str | None, shown: bool) -> None:
    assert characters.is_shown_by(encoding) is shown


def test_plots_do_not_remember_each_other_and_leave_plotext_as_it_was() -> None:
    mine = plotext.figure.clear().plot_size(40, 10).title("mine")
    before = mine.build().string(colorless=True)
    first = characters.render(silero(), 100)
    characters.render(report_of(LADDER), 60, 40, colour=True)
    assert characters.render(silero(), 100) == first
    assert mine.build().string(colorless=True) == before


def test_no_layers_is_a_sentence() -> None:
    assert characters.render(report_of([])) == "Nothing to plot: the checkpoint has no layers.\n"


@pytest.mark.parametrize("value", [0.0, math.nan, math.inf])
def test_layers_without_a_logarithm_are_said_and_not_drawn(value: float) -> None:
    said = "no mean square that is a number above 0.\n"
    assert characters.render(report_of([layer(10, value)])) == f"Nothing to plot. Not drawn: 1 layer has {said}"
    text = characters.render(report_of([layer(10, value), layer(20, value), *LADDER]))
    assert text.endswith(f"Not drawn: 2 layers have {said}")
    assert len(places(text, "o")) == 3


def test_one_layer_is_in_the_middle() -> None:
    text = characters.render(report_of([layer(100, 0.1)]), 81)
    ((column, row),) = places(text, "o")
    (frame,) = (line for line in text.splitlines() if "┌" in line)
    assert abs(column - (frame.index("┌") + frame.index("┐")) / 2) <= 1
    assert abs(row - (1 + characters.HEIGHT - 3) / 2) <= 1
    assert "fitted to 1 layer\n" in text


def test_layers_of_one_fan_sum_stand_in_one_column() -> None:
    text = characters.render(report_of([layer(100, value) for value in (1.0, 0.1, 0.01)]))
    assert len({column for column, _ in places(text, "o")}) == 1


def test_layers_that_are_close_together_do_not_look_far_apart() -> None:
    text = characters.render(report_of([layer(1000, 0.01), layer(1001, 0.010001)]), 100)
    (first, *_), (last, *_) = min(cells(text)), max(cells(text))
    marked = [place for place, sign in cells(text).items() if sign in "o2"]
    assert max(marked)[0] - min(marked)[0] <= 1 < last - first


@pytest.mark.parametrize("values", [(1e-38, 1e30), (5e-324, 1.7e308), (1e-300, 1e-299)])
def test_mean_squares_of_any_size_are_drawn(values: tuple[float, float]) -> None:
    text = characters.render(report_of([layer(10, value) for value in values]), 60)
    assert len(places(text, "o")) == 2
    exponents = [Decimal(label).log10() for label in re.findall(r"^ *(\S+)┤", text, re.MULTILINE)]
    assert 2 <= len(exponents) <= characters.HEIGHT // 3
    assert exponents == sorted(exponents, reverse=True)


def test_a_law_without_a_constant_is_not_drawn() -> None:
    left_out = characters.render(report_of([layer(10, 1.0, fitted=False)], constant=math.nan))
    assert "No law is drawn: there is no layer to fit it to.\n" in left_out
    assert not places(left_out, "·")
    beyond = characters.render(report_of(LADDER, constant=math.inf))
    assert "No law is drawn: its constant is beyond what float64 can hold.\n" in beyond


def test_ten_thousand_layers_are_drawn() -> None:
    rows = [layer(2 + index % 5000, (1 + index % 7) / (2 + index % 5000)) for index in range(10_000)]
    text = characters.render(report_of(rows), 100)
    assert "o  a layer of the fit (10,000)\n" in text
    assert places(text, "#")


def test_names_from_the_file_are_not_in_the_plot() -> None:
    evil = replace(layer(10, 1.0), name="\x1b[31m\u202e<script>" + "x" * 1000, kind="\x1b]0;")
    text = characters.render(report_of([evil, *LADDER]), 60)
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f\u202e]", text)
    assert "script" not in text
