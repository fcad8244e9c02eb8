"""Pages and pictures of comparisons and trajectories: what they hold, before a browser shows them."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from test_cli import run
from test_comparison import compared, mlp, normal, saved
from test_trained import TRAINED, file_name

import weightstats
from weightstats import extras
from weightstats.commands.compare import compare as command
from weightstats.comparison import Comparison
from weightstats.fits import Fit
from weightstats.renderers import chart_parts, comparison_charts, pictures, trajectory_charts
from weightstats.renderers.chart_parts import LIGHT, exponents, lines_of
from weightstats.trajectories import Trajectory
from weightstats.version import VERSION

HOSTILE = (
    "<script>alert(1)</script>.weight",
    "</script><script>alert(2)</script>.weight",
    "<img src=x onerror=alert(3)>.weight",
    "\x1b[31mred.weight",
    "\u202ereversed.weight",
    "{{7*7}}.weight",
    "__proto__.weight",
    "x" * 5_000 + ".weight",
)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Of five layers, one did not change and one is zero after; one is only after."""
    after = mlp(1) | {"0.weight": mlp()["0.weight"], "3.weight": torch.zeros(16, 48), "new.weight": normal(5, 6)}
    return compared(tmp_path_factory.mktemp("pair"), mlp(), after)


@pytest.fixture(scope="module")
def trajectory(tmp_path_factory: pytest.TempPathFactory) -> Trajectory:
    folder = tmp_path_factory.mktemp("steps")
    for number, factor in ((0, 1.0), (10, 2.0), (1000, 2.0), (20_000, 3.0)):
        state = {name: tensor * factor ** int(name[0]) for name, tensor in mlp().items()}
        saved(folder, f"step-{number}.pt", state)
    (folder / "<script>alert(9).txt").write_text("")
    return weightstats.trajectory(folder)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, Trajectory]:
    folder = tmp_path_factory.mktemp("hostile")
    before = {name: normal(8 + 3 * index, 16, seed=index) for index, name in enumerate(HOSTILE)}
    after = {name: tensor * (2.0 - index / 9) for index, (name, tensor) in enumerate(before.items())}
    after |= {f"only.{name}": normal(4, 5) for name in HOSTILE}
    paths = [saved(folder, "<b>a\x1b[31m.pt", before), saved(folder, "<script>alert(4).pt", after)]
    return weightstats.compare(*paths, root=""), weightstats.trajectory(paths, root="")


def specification(page: str) -> dict[str, Any]:
    """The charts of a page, with their data in place."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    told: dict[str, Any] = json.loads(text)
    return told


def rows(page: str) -> list[list[str]]:
    """The cells of the table that can be sorted, by row."""
    body = page.split('<table id="layers"')[1].split("<tbody>")[1].split("</tbody>")[0]
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL) for row in body.split("</tr>")[:-1]]


def values_of(page: str, index: int) -> list[str]:
    """What the numbers of a row are sorted by."""
    (row,) = re.findall(rf'<tr id="layer-{index}".*?</tr>', page, re.DOTALL)
    return re.findall(r'data-value="([^"]*)"', row)


def parts(value: Any) -> Iterator[dict[str, Any]]:
    """Every object in a chart."""
    if isinstance(value, dict):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from parts(part)


# What a page says.


def test_a_comparisons_page_has_its_findings_its_warnings_and_what_made_it(comparison: Comparison) -> None:
    page = comparison.to_html("weightstats compare 'a b.pt' c.pt")
    for sentence in comparison.findings:
        assert f"<p>{sentence}</p>" in page.replace("&#39;", "'")
    assert "<li>after: 3.weight: all its weights are zero</li>" in page
    assert "<code>weightstats compare &#39;a b.pt&#39; c.pt</code>" in page
    assert f"weightstats {VERSION}" in page


def test_every_layer_is_a_row_with_all_digits_to_sort_by(comparison: Comparison) -> None:
    page = comparison.to_html()
    assert len(rows(page)) == len(comparison.layers) == 5
    layer = comparison.layers[1]
    values = values_of(page, 1)
    assert values[:4] == ["1", repr(layer.relative_change), repr(layer.cosine), repr(layer.norm_ratio)]
    assert values[4:6] == [repr(layer.mean_square.before), repr(layer.mean_square.after)]
    assert values[-2:] == [repr(layer.shares["fan_scaled"].before), repr(layer.shares["fan_scaled"].after)]
    assert rows(page)[0][4] == "same"
    assert values_of(page, 3)[2] == ""  # no cosine with zeros


def test_the_fits_and_the_evenness_stand_side_by_side(comparison: Comparison) -> None:
    page = comparison.to_html()
    for side in (comparison.before, comparison.after):
        assert f"<td>{side.fit.constant:.3g} ({side.fit.constant_interval[0]:.3g} to " in page
        assert f'<td class="number">{side.penalties["plain"].evenness:.2f}</td>' in page


def test_every_layer_that_was_not_compared_is_there_with_its_reason(tmp_path: Path) -> None:
    only = {f"only.{index}.weight": normal(3, 4, seed=index) for index in range(30)}
    page = compared(tmp_path, mlp(), mlp(1) | only | {"4.weight": normal(11, 16)}).to_html()
    assert "<summary>30 × only after: not there before</summary>" in page
    assert all(f"<code>{name}</code>" in page for name in only)
    assert "<summary>1 × only before: its shape is 10×16 before and 11×16 after</summary>" in page
    assert "31 not compared" in page


def test_a_trajectorys_page_has_every_step_and_what_was_skipped(trajectory: Trajectory) -> None:
    page = trajectory.to_html("weightstats compare steps")
    assert [re.sub("<.*?>", "", row[1]) for row in rows(page)] == ["step 0", "step 10", "step 1,000", "step 20,000"]
    last = trajectory.steps[3]
    assert last.from_first is not None
    assert repr(last.from_first.relative_change) in values_of(page, 3)
    assert repr(last.fit.exponent) in values_of(page, 3)
    assert "<summary>1 × tells of no step of this series</summary>" in page
    assert "&lt;script&gt;alert(9).txt" in page
    assert "<code>weightstats compare steps</code>" in page
    assert [re.sub("<.*?>", "", row[-2]) for row in rows(page)][2] == "same"


def test_the_layers_that_moved_most_are_named(trajectory: Trajectory) -> None:
    page = trajectory.to_html()
    listed = re.findall(r"<li><code>(.*?)</code>: (.*?)</li>", page)
    assert [(name, float(change.replace(",", ""))) for name, change in listed][:4] == [
        ("4.weight", 80.0),
        ("3.weight", 26.0),
        ("2.weight", 8.0),
        ("1.weight", 2.0),
    ]


@pytest.mark.parametrize("which", [0, 1])
def test_names_are_text_wherever_they_stand(hostile: tuple[Comparison, Trajectory], which: int) -> None:
    page = hostile[which].to_html("weightstats compare '<script>alert(7)</script>'")
    assert not re.search(r"<script>alert|<img src=x|<b>a|\x1b|\u202e", page)
    assert "&lt;script&gt;alert(1)&lt;/script&gt;.weight" in page
    assert "\\x1b[31mred.weight" in page
    assert "&lt;script&gt;alert(7)" in page
    assert max(map(len, re.findall(r"x+", page))) <= 200


@pytest.mark.parametrize("which", [0, 1])
def test_a_page_is_the_same_each_time(hostile: tuple[Comparison, Trajectory], which: int) -> None:
    assert hostile[which].to_html() == hostile[which].to_html()


# Charts.


def test_a_layer_goes_from_its_mean_square_before_to_the_one_after(comparison: Comparison) -> None:
    found = comparison_charts.drawn(comparison)
    for row, layer in zip(found.rows, comparison.layers, strict=True):
        assert row["before"] == layer.mean_square.before
        assert row["after"] == (layer.mean_square.after or None)
        assert row["measure"] == layer.n_in + layer.n_out
    assert [row["state"] for row in found.rows][0::3] == ["unchanged", "not in both fits"]
    assert {row["state"] for row in found.rows} <= set(comparison_charts.STATES)


def test_layers_that_did_not_change_stand_at_the_lower_end(comparison: Comparison) -> None:
    found = comparison_charts.drawn(comparison)
    assert found.rows[0]["at"] == found.changes[0]
    assert [row["at"] for row in found.rows[1:]] == [layer.relative_change for layer in comparison.layers[1:]]
    assert found.changes[0] < min(layer.relative_change for layer in comparison.layers[1:])


def test_what_is_not_in_a_picture_is_named(comparison: Comparison) -> None:
    page = comparison.to_html()
    assert "since their mean square after is zero or unknown: <code>3.weight</code>." in page
    assert "since they have no relative change" not in page


def fit_with(exponent: float, low: float, high: float) -> Fit:
    fit = weightstats.inspect(TRAINED / file_name("mlp-16-final")).fit
    return fit.__class__(
        **{name: getattr(fit, name) for name in fit.__slots__}
        | {"exponent": exponent, "exponent_interval": (low, high)}
    )


@pytest.mark.parametrize(
    ("fits", "ends"),
    [
        ([(-0.5, -0.7, -0.3)], (-1.15, 0.15)),
        ([(-2.0, -2.5, -1.5), (0.5, 0.0, 1.0)], (-2.65, 1.15)),
        ([(-0.5, -90.0, 80.0)], (-4.15, 3.15)),
        ([(math.nan, math.nan, math.nan)], (-1.15, 0.15)),
    ],
)
def test_an_axis_of_exponents_holds_both_lines_and_no_interval_without_end(
    fits: list[tuple[float, float, float]], ends: tuple[float, float]
) -> None:
    assert exponents([fit_with(*one) for one in fits]) == pytest.approx(ends)


def test_the_lines_are_named_by_the_law() -> None:
    path = TRAINED / file_name("mlp-16-final")
    assert lines_of(weightstats.inspect(path).fit) == "dashed: -1, the law, and 0, no dependence on n_in+n_out"
    assert lines_of(weightstats.inspect(path, law="constant").fit) == "dashed: 0, the law, and -1, 1/(n_in+n_out)"


def test_steps_that_rise_are_numbers_on_their_axis(trajectory: Trajectory) -> None:
    found = trajectory_charts.drawn(trajectory)
    assert (found.unit, [row["number"] for row in found.rows]) == ("step", [0, 10, 1000, 20_000])
    told = trajectory_charts.exponent_chart(found).to_dict(validate=False)
    (x, *_) = [part["x"] for part in parts(told) if "x" in part]
    assert (x["field"], x["scale"]["domain"]) == ("number", [0, 20_000])


@pytest.mark.parametrize("names", [("one.pt", "two.pt"), ("step-5.pt", "step-1.pt"), ("step-5.pt", "final.pt")])
def test_steps_that_are_not_known_or_do_not_rise_stand_in_order(tmp_path: Path, names: tuple[str, str]) -> None:
    made = weightstats.trajectory([saved(tmp_path, name, mlp(index)) for index, name in enumerate(names)])
    found = trajectory_charts.drawn(made)
    assert found.unit == ""
    told = trajectory_charts.exponent_chart(found).to_dict(validate=False)
    (x, *_) = [part["x"] for part in parts(told) if "x" in part]
    labels = [f"{place}. {step.step.label}" for place, step in enumerate(made.steps, 1)]
    assert (x["type"], x["scale"]["domain"]) == ("ordinal", labels)


def test_the_moves_of_each_step_are_drawn_where_there_are_any(trajectory: Trajectory) -> None:
    moves = trajectory_charts.drawn(trajectory).moves["previous"]
    assert {row["index"] for row in moves} == {1, 3}
    together = [row["change"] for row in moves if row["what"] == trajectory_charts.TOGETHER]
    assert together == [
        step.from_previous.relative_change for step in (trajectory.steps[1], trajectory.steps[3]) if step.from_previous
    ]
    most = [row["layer"] for row in moves if row["what"] == trajectory_charts.LARGEST and row["index"] == 1]
    assert most == ["4.weight", "3.weight", "2.weight", "1.weight"]


@pytest.mark.parametrize("which", [0, 1])
def test_every_scale_has_ends_so_that_an_empty_layer_has_none_without_end(
    hostile: tuple[Comparison, Trajectory], which: int
) -> None:
    told = specification(hostile[which].to_html())
    channels = [part[name] for part in parts(told["charts"]) for name in ("x", "y", "color", "shape") if name in part]
    fields = [channel for channel in channels if isinstance(channel, dict) and "field" in channel]
    assert len(fields) > 20
    assert [channel for channel in fields if "domain" not in channel["scale"]] == []


UNUSUAL: dict[str, tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]] = {
    "identical": (mlp(), mlp()),
    "NaN": ({"a.weight": torch.full((4, 5), math.nan)}, {"a.weight": torch.full((4, 5), math.nan)}),
    "zero": ({"a.weight": torch.zeros(4, 5)}, {"a.weight": torch.ones(4, 5)}),
    "one layer": ({"a.weight": normal(4, 5)}, {"a.weight": normal(4, 5, seed=1)}),
    "no layer": ({"bias": torch.zeros(4)}, {"bias": torch.zeros(4)}),
    "nothing in common": ({"a.weight": normal(4, 5)}, {"b.weight": normal(4, 5)}),
    "beyond float32": (
        {name: tensor.double() * 1e300 for name, tensor in mlp().items()},
        {name: tensor.double() * 1e-300 for name, tensor in mlp(1).items()},
    ),
}


@pytest.mark.parametrize("case", UNUSUAL)
def test_unusual_checkpoints_have_pages_and_pictures(tmp_path: Path, case: str) -> None:
    paths = [saved(tmp_path, f"step-{index}.pt", state) for index, state in enumerate(UNUSUAL[case])]
    for made in (weightstats.compare(*paths), weightstats.trajectory(paths)):
        page = made.to_html()
        assert all(sentence.split()[0] in page for sentence in made.findings)
        assert "NaN" not in json.dumps(specification(page), allow_nan=False)
        picture = pictures.render(made.chart(), ".svg").decode()
        assert not re.search(r'(width|height)="(Infinity|1\.79|NaN)', picture)
        assert made._repr_html_().startswith("<div><p>")


def test_more_layers_than_are_drawn_or_listed_are_told(comparison: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chart_parts, "MOST_POINTS", 3)
    monkeypatch.setattr("weightstats.renderers.comparison_html.MOST_ROWS", 2)
    page = comparison.to_html()
    assert "The charts draw 3 of the 5 layers" in page
    assert "lists the first 2 of 5 layers" in page
    assert len(rows(page)) == 2


def test_more_steps_than_are_drawn_or_listed_are_told(trajectory: Trajectory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chart_parts, "MOST_POINTS", 2)
    monkeypatch.setattr("weightstats.renderers.trajectory_html.MOST_ROWS", 3)
    page = trajectory.to_html()
    assert "The charts draw 2 of the 4 checkpoints" in page
    assert "lists the first 3 of 4 checkpoints" in page
    assert len(rows(page)) == 3


# Notebooks.


@pytest.mark.parametrize("installed", [True, False])
def test_a_notebook_shows_the_findings_the_table_and_the_picture_where_it_can_be_drawn(
    hostile: tuple[Comparison, Trajectory], monkeypatch: pytest.MonkeyPatch, *, installed: bool
) -> None:
    monkeypatch.setattr(extras, "is_installed", lambda extra: installed)
    for made in hostile:
        shown = made._repr_html_()
        assert ("<svg" in shown) == installed
        assert "<td>" in shown
        assert not re.search(r"<script|<img|\x1b|\u202e", shown)
    assert "&lt;script&gt;alert(1)" in hostile[0]._repr_html_()


@pytest.mark.parametrize("which", [0, 1])
def test_without_the_extra_it_is_named(
    hostile: tuple[Comparison, Trajectory], monkeypatch: pytest.MonkeyPatch, which: int
) -> None:
    monkeypatch.setattr(extras, "is_installed", lambda extra: False)
    for make in (hostile[which].to_html, hostile[which].chart):
        with pytest.raises(
            weightstats.UsageError, match=r"needs the report extra: pip install 'weightstats\[report\]'"
        ):
            make()


# The command.


def test_the_command_writes_the_page_with_the_command_that_makes_it_again(tmp_path: Path) -> None:
    paths = [TRAINED / file_name(f"mlp-16-{state}") for state in ("step0", "final")]
    done = run("compare", *paths, "--format", "html", "--output", tmp_path / "a.html")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    page = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert f"weightstats compare {paths[0]} {paths[1]} --format html" in page
    assert page.count("<!doctype html>") == 1
    several = run("compare", *paths, paths[0], "--format", "html")
    assert several.stdout.startswith("<!doctype html>")
    assert "3 checkpoints, from " in several.stdout


@pytest.mark.parametrize(("count", "suffix", "start"), [(2, ".png", b"\x89PNG"), (3, ".pdf", b"%PDF")])
def test_the_command_draws_pictures_beside_the_report(tmp_path: Path, count: int, suffix: str, start: bytes) -> None:
    paths = [TRAINED / file_name(f"mlp-16-{state}") for state in ("step0", "final")]
    done = run("compare", *[*paths, paths[0]][:count], "--plot", tmp_path / f"a{suffix}")
    assert done.returncode == 0
    assert "scatter" in done.stdout
    assert (tmp_path / f"a{suffix}").read_bytes().startswith(start)


@pytest.mark.parametrize("plot", ["a.jpg", "a", "-"])
def test_another_picture_is_a_usage_error_before_anything_is_read(plot: str) -> None:
    done = run("compare", "absent.pt", "absent.pt", "--plot", plot)
    assert (done.returncode, done.stdout) == (2, "")
    assert "must end in one of .png, .svg, .pdf" in done.stderr


@pytest.mark.parametrize("options", [["--format", "html"], ["--plot", "a.png"]])
def test_a_missing_extra_is_a_usage_error_before_anything_is_read(
    monkeypatch: pytest.MonkeyPatch, options: list[str]
) -> None:
    monkeypatch.setattr(extras, "is_installed", lambda extra: False)
    with pytest.raises(weightstats.UsageError, match=rf"{' '.join(options)} needs the report extra"):
        command.main(["absent.pt", "absent.pt", *options], standalone_mode=False)


def test_two_networks_are_warned_of_and_reported(tmp_path: Path) -> None:
    stranger = {f"x{index}.weight": normal(7, 9, seed=index) for index in range(5)} | {"0.weight": mlp(1)["0.weight"]}
    paths = [saved(tmp_path, "a.pt", mlp()), saved(tmp_path, "b.pt", stranger)]
    said = "Only 1 of the 5 layers before is among the 6 after: these may well be two networks"
    done = run("compare", *paths, "--format", "csv")
    assert done.returncode == 0
    assert done.stderr.startswith(f"warning: {said}")
    several = run("compare", *paths, paths[0], "--format", "csv")
    assert several.returncode == 0
    assert several.stderr.startswith("warning: 1 of 2 checkpoints after the first (b.pt) has no more than 1 layer")


@pytest.mark.parametrize("format_", ["terminal", "json"])
def test_nothing_in_common_is_reported_with_the_reasons_and_exits_with_2(tmp_path: Path, format_: str) -> None:
    paths = [saved(tmp_path, "a.pt", {"a.weight": normal(4, 5)}), saved(tmp_path, "b.pt", {"b.weight": normal(4, 5)})]
    done = run("compare", *paths, "--format", format_)
    assert done.returncode == 2
    assert "not there after" in done.stdout
    assert re.fullmatch(r"Error: '.*a\.pt' and '.*b\.pt' have no layer in common: there is .* compare\n", done.stderr)
    several = run("compare", *paths, paths[1], "--format", format_)
    assert several.returncode == 2
    assert several.stdout
    assert "have no layer in common" in several.stderr


def test_a_network_that_diverged_to_nan_is_not_taken_for_another_one(tmp_path: Path) -> None:
    lost = {name: torch.full_like(tensor, math.nan) for name, tensor in mlp().items()}
    trajectory = weightstats.trajectory([saved(tmp_path, "step-0.pt", mlp()), saved(tmp_path, "step-1.pt", lost)])
    assert (trajectory.doubts, trajectory.is_disjoint) == ((), False)


def test_the_look_of_a_picture_is_light(comparison: Comparison) -> None:
    assert comparison.chart().to_dict(validate=False)["config"]["background"] == LIGHT.background
