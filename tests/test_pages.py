"""Pages, charts, pictures and what a notebook shows, without a browser: tests/browser opens them in one."""

import base64
import hashlib
import html.parser
import json
import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html import escape as html_escape
from pathlib import Path
from typing import Any

import altair
import numpy as np
import pytest
import torch
from builders import FIXTURES, random_tensors, report_of
from click.testing import CliRunner

import weightstats
from weightstats import extras
from weightstats.cli import cli
from weightstats.laws import LAWS
from weightstats.penalties import PENALTIES
from weightstats.renderers import chart_parts, charts, pictures
from weightstats.renderers.points import make_scatter
from weightstats.report import Report

SILERO = FIXTURES / "published/silero-vad/silero_vad_16k.safetensors"
SCRIPT = "<script>alert(1)</script>.weight"
RED = "\x1b[31mred.weight"


@pytest.fixture(scope="module")
def silero() -> Report:
    return weightstats.inspect(str(SILERO))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Report:
    names = {SCRIPT: (4, 5), RED: (6, 7), "]]>&amp;\"'.weight": (8, 9), "\ud800.weight": (3, 9)}
    return report_of(tmp_path_factory.mktemp("hostile"), random_tensors(names))


class Elements(html.parser.HTMLParser):
    """What a page is made of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")

    def handle_data(self, data: str) -> None:
        if self.cdata_elem == "script":
            self.scripts[-1] += data
        else:
            self.text += data


def test_a_page_names_nothing_that_it_would_have_to_load(silero: Report) -> None:
    page = Elements(silero.to_html())
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "img", "object", "embed", "base")
        assert "src" not in attributes
        assert (attributes.get("href") or "#").startswith("#")


def test_the_policy_allows_the_two_scripts_of_the_page_and_no_other(silero: Report) -> None:
    page = Elements(silero.to_html())
    (policy,) = [attributes["content"] for _, attributes in page.tags if "http-equiv" in attributes]
    data, *scripts = page.scripts
    allowed = re.findall(r"'sha256-([^']+)'", policy or "")
    assert allowed == [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    assert "default-src 'none'" in (policy or "")
    assert "unsafe-eval" not in (policy or "")
    assert json.loads(data)["charts"].keys() == {"law", *PENALTIES, "multipliers"}


def test_a_page_is_the_same_each_time(silero: Report) -> None:
    assert silero.to_html() == weightstats.inspect(str(SILERO)).to_html()


def test_a_page_says_which_command_and_version_made_it(tmp_path: Path) -> None:
    output = tmp_path / "it's.html"
    arguments = ["inspect", str(SILERO), "--format", "html", "--output", str(output)]
    assert CliRunner().invoke(cli, arguments).exit_code == 0
    text = Elements(output.read_text(encoding="utf-8")).text
    assert f"weightstats {weightstats.__version__}; altair" in text


def test_names_are_text_in_a_page(hostile: Report) -> None:
    page = Elements(hostile.to_html())
    assert SCRIPT in page.text
    assert r"\x1b[31mred.weight" in page.text
    assert len(page.scripts) == 3
    assert "\x1b" not in hostile.to_html()


def test_every_tensor_that_is_left_out_is_named(tmp_path: Path) -> None:
    tensors = random_tensors({"a.weight": (4, 5), "b.weight": (6, 7)}) | {
        f"a.{i}.bias": torch.ones(4) for i in range(30)
    }
    tensors["dead.weight"] = torch.zeros(3, 4)
    report = report_of(tmp_path, tensors)
    text = Elements(report.to_html()).text
    for row in (*report.layers, *report.others):
        assert row.name in text
        reason = row.left_out_because if hasattr(row, "left_out_because") else row.reason
        assert (reason or "") in text


def test_warnings_and_damage_are_on_the_page(silero: Report) -> None:
    part = replace(silero.checkpoint, warnings=("a <b>warning</b>",), damage="its end is missing")
    text = Elements(replace(silero, checkpoint=part).to_html()).text
    assert "a <b>warning</b>" in text
    assert "damaged: its end is missing" in text


def test_the_charts_are_valid_vega_lite(silero: Report, hostile: Report) -> None:
    for report in (silero, hostile):
        found = charts.report_chart(report).to_dict(validate=True)
        assert found["$schema"].endswith(f"v{chart_parts.VEGA_LITE}.1.json")


@pytest.mark.parametrize("law", [law.key for law in LAWS])
def test_the_line_of_the_law_goes_through_its_predictions(law: str) -> None:
    report = weightstats.inspect(str(SILERO), law=law)
    scatter = make_scatter(report)
    first, last = scatter.law
    slope = math.log(last.mean_square / first.mean_square) / math.log(last.measure / first.measure)
    for point in scatter.points:
        row = report.layers[point.index]
        drawn = first.mean_square * (point.measure / first.measure) ** slope
        assert drawn == pytest.approx(row.predicted_mean_square, rel=1e-9)
        assert point.mean_square == row.mean_square
    assert slope == pytest.approx(-1.0 if law not in ("constant", "normal-0.02", "truncated-0.02") else 0.0)


def test_the_band_is_the_interval_of_the_constant(silero: Report) -> None:
    low, high = silero.fit.constant_interval
    for place in make_scatter(silero).law:
        assert (place.low * place.measure, place.high * place.measure) == (pytest.approx(low), pytest.approx(high))


def test_the_dashed_line_has_the_free_exponent_and_its_ends_have_those_of_its_interval(silero: Report) -> None:
    left, middle, right = make_scatter(silero).free
    steps = math.log(right.measure / middle.measure)
    assert math.log(right.mean_square / left.mean_square) / math.log(right.measure / left.measure) == pytest.approx(
        silero.fit.exponent
    )
    assert math.log(right.low / middle.mean_square) / steps == pytest.approx(silero.fit.exponent_interval[0])
    assert math.log(right.high / middle.mean_square) / steps == pytest.approx(silero.fit.exponent_interval[1])
    assert middle.low == middle.high == middle.mean_square
    assert left.low < left.mean_square < left.high


def test_the_free_constant_belongs_to_the_free_exponent(tmp_path: Path) -> None:
    shapes = ((8, 24), (30, 90), (100, 300), (200, 200))
    tensors = {
        f"layers.{i}.weight": random_tensors({"w": shape})["w"] * math.sqrt(5.0) * sum(shape) ** -0.75
        for i, shape in enumerate(shapes)
    }
    fit = report_of(tmp_path, tensors).fit
    assert fit.exponent == pytest.approx(-1.5, abs=0.15)
    for shape in shapes:
        assert fit.free_constant * sum(shape) ** fit.exponent == pytest.approx(5.0 * sum(shape) ** -1.5, rel=0.2)


def test_rivals_are_where_the_contest_has_them(silero: Report) -> None:
    standings = {standing.law: standing for standing in silero.contest.standings}
    rivals = make_scatter(silero).rivals
    assert {rival.law for rival in rivals} == set(standings)
    pairs = {(row.n_in + row.n_out, row.n_in) for row in silero.layers if row.fitted}
    said = sorted((rival.measure, rival.mean_square) for rival in rivals if rival.law == "fan-in")
    expected = sorted((fan_sum, standings["fan-in"].constant / n_in) for fan_sum, n_in in pairs)
    assert np.array(said) == pytest.approx(np.array(expected))


def test_layers_without_a_logarithm_are_listed_and_not_drawn(tmp_path: Path) -> None:
    tensors = random_tensors({"a.weight": (4, 5), "b.weight": (6, 7)})
    tensors |= {"dead.weight": torch.zeros(3, 4), "nan.weight": torch.full((3, 5), math.nan)}
    report = report_of(tmp_path, tensors)
    scatter = make_scatter(report)
    assert {report.layers[index].name for index in scatter.not_drawn} == {"dead.weight", "nan.weight"}
    assert {report.layers[point.index].name for point in scatter.points} == {"a.weight", "b.weight"}


@pytest.mark.parametrize(
    "tensors",
    [
        {"bias": torch.ones(3)},
        {"a.weight": torch.ones(2, 3)},
        {"a.weight": torch.randn(2, 3)},
        {"a.weight": torch.randn(2, 3), "b.weight": torch.randn(3, 2)},
        {"a.weight": torch.randn(2, 3) * 1e-38, "b.weight": torch.randn(300, 2) * 1e30, "c.weight": torch.randn(9, 9)},
        {"a.weight": torch.full((2, 3), math.nan)},
        {f"{i}.weight": torch.randn(2, 3 + i % 3) for i in range(chart_parts.MOST_POINTS + 10)},
    ],
    ids=["nothing", "constant", "one", "one sum", "extremes", "no number", "many"],
)
def test_whatever_there_is_can_be_drawn(tensors: dict[str, torch.Tensor], tmp_path: Path) -> None:
    report = report_of(tmp_path, tensors, limits={"crowded_tensors": 10_000})
    assert report.to_html().endswith("</html>\n")
    drawn = charts.drawn(report)
    assert len(drawn.rows) <= chart_parts.MOST_POINTS
    assert pictures.render(report.chart(), ".svg").startswith(b"<svg")


@pytest.mark.parametrize(("suffix", "head"), [(".png", b"\x89PNG\r\n\x1a\n"), (".pdf", b"%PDF-"), (".svg", b"<svg")])
def test_a_picture_is_what_its_name_says(suffix: str, head: bytes, tmp_path: Path) -> None:
    plot = tmp_path / f"fit{suffix.upper()}"
    result = CliRunner().invoke(cli, ["inspect", str(SILERO), "--plot", str(plot)])
    assert result.exit_code == 0
    assert plot.read_bytes().startswith(head)
    assert "15 tensors, 243,585 parameters" in " ".join(result.stdout.split())


def test_a_picture_names_its_layers_and_shows_the_finding(silero: Report) -> None:
    root = ET.fromstring(pictures.render(silero.chart(), ".svg"))  # noqa: S314  what vl-convert has just made
    text = " ".join("".join(element.itertext()) for element in root.iter() if element.tag.endswith("text"))
    assert "silero_vad_16k.safetensors" in text
    assert "undetermined" in text
    assert "1. conv1.weight" in text


def test_names_are_text_in_a_picture(hostile: Report) -> None:
    picture = pictures.render(hostile.chart(), ".svg").decode()
    assert "<script" not in picture
    assert "&lt;script" in picture
    assert "\x1b" not in picture
    assert ET.fromstring(picture).tag.endswith("svg")  # noqa: S314


@pytest.mark.parametrize("name", ["fit.jpg", "fit", "fit.html"])
def test_a_picture_of_another_kind_is_refused_before_anything_is_read(name: str) -> None:
    result = CliRunner().invoke(cli, ["inspect", "there-is-no-such-file.pt", "--plot", name])
    assert isinstance(result.exception, weightstats.UsageError)
    assert "must end in one of .png, .svg, .pdf" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (["--format", "html"], "report"),
        (["--plot", "fit.png"], "report"),
        (["--plot", "-"], "plot"),
        (["--format", "parquet"], "data"),
    ],
)
def test_what_an_output_lacks_is_said_before_anything_is_read(
    arguments: list[str], extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "is_installed", lambda name: name != extra)
    result = CliRunner().invoke(cli, ["inspect", "there-is-no-such-file.pt", *arguments])
    assert isinstance(result.exception, weightstats.UsageError)
    assert f"pip install 'weightstats[{extra}]'" in str(result.exception)


def test_characters_go_below_the_terminals_report_only() -> None:
    result = CliRunner().invoke(cli, ["inspect", str(SILERO), "--plot", "-"])
    assert "15 tensors, 243,585 parameters" in " ".join(result.stdout.split())
    assert "Mean square of each layer against n_in+n_out" in result.stdout
    refused = CliRunner().invoke(cli, ["inspect", str(SILERO), "--plot", "-", "--format", "json"])
    assert isinstance(refused.exception, weightstats.UsageError)
    assert "--plot - draws below the terminal's report" in str(refused.exception)


def test_a_notebook_shows_the_sentences_the_picture_and_the_table(silero: Report) -> None:
    shown: Any = silero._repr_html_()
    assert html_escape(silero.findings[0]) in shown
    assert "<svg" in shown
    assert "<script" not in shown
    assert shown.count("<tr>") == len(silero.layers) + 1


def test_a_notebook_shows_names_as_text(hostile: Report) -> None:
    shown = hostile._repr_html_()
    assert "<script" not in shown
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in shown


def test_a_notebook_has_no_picture_where_what_draws_it_is_missing(
    silero: Report, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "is_installed", lambda name: False)
    shown = silero._repr_html_()
    assert "<svg" not in shown
    assert "conv1.weight" in shown


def test_the_interactive_chart_is_altairs(silero: Report) -> None:
    assert isinstance(silero.chart(), altair.VConcatChart)
