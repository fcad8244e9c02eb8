"""The page of a report, in a browser."""

import json
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from builders import ROOT, random_tensors, report_of
from playwright.sync_api import Page, expect

import weightstats
from weightstats.penalties import PENALTIES
from weightstats.report import Report

Opened = Callable[..., Page]

SILERO = ROOT / "fixtures/published/silero-vad/silero_vad_16k.safetensors"
WIDTHS = (390, 768, 1280)

HOSTILE = (
    "<script>alert(1)</script>.weight",
    "</script><script>alert(2)</script>.weight",
    "<img src=x onerror=alert(3)>.weight",
    "\x1b[31mred\x1b]0;title\x07.weight",
    "{{7*7}}${7*7}.weight",
    "javascript:alert(4).weight",
    "'\"--><svg onload=alert(5)>.weight",
    "\u202ereversed.weight",
    "__proto__.weight",
    "a.constructor.weight",
    "x" * 5_000 + ".weight",
)


@pytest.fixture(scope="module")
def silero() -> Report:
    return weightstats.inspect(str(SILERO))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Report:
    shapes = {name: (8 + 3 * place, 16) for place, name in enumerate(HOSTILE)}
    return report_of(tmp_path_factory.mktemp("hostile"), random_tensors(shapes), "<b>model.pt")


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Report:
    """300 layers, of which one is dead and one has no finite weight."""
    tensors = {}
    for block in range(75):
        for part, shape in (("q", (64, 64)), ("up", (256, 64)), ("down", (64, 256)), ("gate", (256, 64))):
            tensors[f"model.layers.{block}.mlp.{part}_proj.weight"] = torch.randn(shape) / math.sqrt(sum(shape))
    tensors["model.layers.7.mlp.up_proj.weight"].zero_()
    tensors["model.layers.8.mlp.up_proj.weight"].fill_(math.nan)
    return report_of(tmp_path_factory.mktemp("network"), tensors, "network.safetensors")


def names(page: Page) -> list[str]:
    """The layers of the table that can be seen, from its top."""
    return page.locator("#layers tbody tr:visible .pick").all_text_contents()


def marks(page: Page, chart: str, kind: str) -> int:
    """Marks of one kind in a chart that are drawn."""
    return page.locator(f"#chart-{chart} .mark-{kind}.role-mark path").count()


def layer_marks(page: Page) -> list[dict[str, float]]:
    """Where the layers' marks of the fit's chart are on the screen, by their index."""
    found: list[dict[str, float]] = page.evaluate(
        """() => [...document.querySelectorAll('#chart-law .mark-symbol.role-mark path')]
        .filter(path => path.__data__.datum.index !== undefined)
        .map(path => ({index: path.__data__.datum.index, x: path.getBoundingClientRect().x
            + path.getBoundingClientRect().width / 2, y: path.getBoundingClientRect().y
            + path.getBoundingClientRect().height / 2}))"""
    )
    return found


def test_every_layer_is_a_mark_and_a_row(opened: Opened, silero: Report) -> None:
    page = opened(silero.to_html())
    assert names(page) == [layer.name for layer in silero.layers]
    assert sorted(mark["index"] for mark in layer_marks(page)) == list(range(len(silero.layers)))
    for penalty in PENALTIES:
        assert marks(page, penalty, "rect") == len(silero.layers)


def test_the_finding_stands_on_top(opened: Opened, silero: Report) -> None:
    page = opened(silero.to_html())
    assert page.locator("main section").first.inner_text().count(silero.fit.verdict)
    for sentence in silero.findings:
        expect(page.locator(".finding")).to_contain_text(sentence)
    box = page.locator(".finding").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] < 900


@pytest.mark.parametrize("column", ["mean square", "n_in", "fan-scaled share", "zeros"])
def test_a_click_on_a_column_sorts_and_another_one_turns_it_round(opened: Opened, network: Report, column: str) -> None:
    values = {
        "mean square": lambda layer: layer.mean_square,
        "n_in": lambda layer: layer.n_in,
        "fan-scaled share": lambda layer: layer.penalties["fan_scaled"].share,
        "zeros": lambda layer: layer.zeros,
    }[column]
    page = opened(network.to_html())
    button = page.get_by_role("button", name=column, exact=True)
    known = [layer for layer in network.layers if not math.isnan(values(layer))]
    unknown = [layer for layer in network.layers if math.isnan(values(layer))]
    button.click()
    assert names(page) == [layer.name for layer in (*sorted(known, key=values), *unknown)]
    expect(page.locator("th", has=button)).to_have_attribute("aria-sort", "ascending")
    button.click()
    falling = sorted(known, key=values, reverse=True)
    assert [values(layer) for layer in falling] == [values(_named(network, name)) for name in names(page)[: len(known)]]
    expect(page.locator("th", has=button)).to_have_attribute("aria-sort", "descending")


def _named(report: Report, name: str) -> weightstats.report.LayerRow:
    return next(layer for layer in report.layers if layer.name == name)


def test_names_sort_by_their_numbers(opened: Opened, network: Report) -> None:
    page = opened(network.to_html())
    page.get_by_role("button", name="layer", exact=True).click()
    numbers = [int(re.search(r"\d+", name)[0]) for name in names(page)]  # type: ignore[index]
    assert numbers == sorted(numbers)


def test_what_is_typed_filters_by_name_and_the_count_is_announced(opened: Opened, network: Report) -> None:
    page = opened(network.to_html())
    expect(page.get_by_role("status")).to_have_text("300 of 300 shown")
    page.get_by_label("Filter by name").fill("LAYERS.7.")
    assert names(page) == [layer.name for layer in network.layers if "layers.7." in layer.name]
    expect(page.get_by_role("status")).to_have_text("4 of 300 shown")


def test_a_glob_filters_by_the_whole_name(opened: Opened, network: Report) -> None:
    page = opened(network.to_html())
    page.get_by_label("Filter by name").fill("*.7?.*.q_proj.weight")
    assert names(page) == [f"model.layers.{block}.mlp.q_proj.weight" for block in range(70, 75)]


@pytest.fixture(scope="module")
def with_embedding(tmp_path_factory: pytest.TempPathFactory) -> Report:
    shapes = {
        "embed.weight": (100_000, 8),
        "a.weight": (8, 8),
        "b.weight": (16, 8),
        "c.weight": (8, 16),
        "d.weight": (9, 7),
    }
    return report_of(tmp_path_factory.mktemp("embedding"), random_tensors(shapes))


def test_layers_far_beyond_the_fit_are_drawn_when_they_are_switched_on(opened: Opened, with_embedding: Report) -> None:
    assert [layer.name for layer in with_embedding.layers if not layer.fitted] == ["embed.weight"]
    page = opened(with_embedding.to_html())
    places = page.locator("#chart-law .role-axis-label text").all_text_contents()
    assert len(layer_marks(page)) == 4
    assert "100k" not in places
    page.get_by_label("layers that the fit leaves out").check()
    expect(page.locator("#chart-law .mark-symbol.role-mark path")).to_have_count(5)
    assert "100k" in page.locator("#chart-law .role-axis-label text").all_text_contents()


def test_a_name_switches_on_its_mark_where_that_is_off(opened: Opened, with_embedding: Report) -> None:
    page = opened(with_embedding.to_html())
    page.get_by_role("button", name="embed.weight").click()
    expect(page.get_by_label("layers that the fit leaves out")).to_be_checked()
    expect(page.locator("#chart-law .mark-symbol.role-mark path")).to_have_count(6)


def test_a_kind_filters_too(opened: Opened, silero: Report) -> None:
    page = opened(silero.to_html())
    page.get_by_label("Kind").select_option("conv1d")
    assert names(page) == [layer.name for layer in silero.layers if layer.kind == "conv1d"]
    page.get_by_label("Filter by name").fill("final")
    assert names(page) == ["final_conv.weight"]


def test_hovering_over_a_mark_shows_its_layer(opened: Opened, silero: Report) -> None:
    page = opened(silero.to_html())
    page.locator("#chart-law").scroll_into_view_if_needed()
    mark = next(mark for mark in layer_marks(page) if silero.layers[int(mark["index"])].name == "conv3.weight")
    page.mouse.move(mark["x"], mark["y"])
    expect(page.locator("#vg-tooltip-element")).to_contain_text("conv3.weight")
    expect(page.locator("#vg-tooltip-element")).to_contain_text("0.326")


def test_a_click_on_a_mark_finds_its_row_even_where_it_is_filtered_out(opened: Opened, silero: Report) -> None:
    page = opened(silero.to_html())
    page.get_by_label("Filter by name").fill("lstm")
    page.locator("#chart-law").scroll_into_view_if_needed()
    mark = next(mark for mark in layer_marks(page) if silero.layers[int(mark["index"])].name == "conv3.weight")
    page.mouse.click(mark["x"], mark["y"])
    row = page.locator("tr.picked")
    expect(row).to_have_count(1)
    expect(row.locator(".pick")).to_have_text("conv3.weight")
    expect(row.locator(".pick")).to_be_focused()
    expect(row).to_be_in_viewport()


def test_a_click_on_a_bar_finds_its_row(opened: Opened, silero: Report) -> None:
    page = opened(silero.to_html())
    page.locator("#chart-plain .mark-rect.role-mark path").nth(2).click()
    expect(page.locator("tr.picked .pick")).to_have_text("conv3.weight")


def test_a_name_in_the_table_shows_its_mark(opened: Opened, silero: Report) -> None:
    page = opened(silero.to_html())
    before = marks(page, "law", "symbol")
    page.get_by_role("button", name="conv3.weight").click()
    expect(page.locator("#chart-law .mark-symbol.role-mark path")).to_have_count(before + 1)
    expect(page.locator("#chart-law")).to_be_in_viewport()


def test_rivals_and_intervals_are_switched_on_and_off(opened: Opened, silero: Report) -> None:
    page = opened(silero.to_html())
    ticks = page.locator("#chart-law .mark-rect.role-mark path")
    shapes = len({(layer.n_in, layer.n_out, layer.elements) for layer in silero.layers if layer.fitted})
    expect(ticks).to_have_count(0)
    page.get_by_label("c/n_in", exact=True).check()
    expect(ticks).to_have_count(shapes)
    page.get_by_label("2/n_out (he-fan-out)", exact=True).check()
    expect(ticks).to_have_count(2 * shapes)
    inside = page.locator("#chart-law svg").bounding_box()
    for place in range(2 * shapes):
        box = ticks.nth(place).bounding_box()
        assert inside is not None
        assert box is not None
        assert inside["y"] <= box["y"] <= inside["y"] + inside["height"]
    page.get_by_label("c/n_in", exact=True).uncheck()
    page.get_by_label("2/n_out (he-fan-out)", exact=True).uncheck()
    expect(ticks).to_have_count(0)
    areas = page.locator("#chart-law .mark-area.role-mark path")
    expect(areas).to_have_count(2)
    page.get_by_label("interval of c").uncheck()
    expect(areas).to_have_count(1)
    page.get_by_label("free exponent").uncheck()
    expect(areas).to_have_count(0)
    expect(page.locator("#chart-law .mark-line.role-mark path")).to_have_count(1)


def test_the_page_works_by_keyboard(opened: Opened, silero: Report) -> None:
    page = opened(silero.to_html())
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the table")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("h2#table")).to_be_in_viewport()
    page.get_by_role("button", name="mean square", exact=True).focus()
    page.keyboard.press("Enter")
    assert names(page) == [layer.name for layer in sorted(silero.layers, key=lambda layer: layer.mean_square)]
    page.get_by_label("c/n_in", exact=True).focus()
    page.keyboard.press("Space")
    expect(page.get_by_label("c/n_in", exact=True)).to_be_checked()


def test_names_from_the_file_are_shown_as_text_and_never_run(opened: Opened, hostile: Report) -> None:
    page = opened(hostile.to_html("weightstats inspect '<img src=x onerror=alert(6)>'"))
    shown = names(page)
    assert "<script>alert(1)</script>.weight" in shown
    assert "\\x1b[31mred\\x1b]0;title\\x07.weight" in shown
    assert "{{7*7}}${7*7}.weight" in shown
    assert "\\u202ereversed.weight" in shown
    expect(page.get_by_role("heading", level=1)).to_have_text("<b>model.pt")
    page.locator("#chart-law").scroll_into_view_if_needed()
    for mark in layer_marks(page):
        page.mouse.move(mark["x"], mark["y"])
        expect(page.locator("#vg-tooltip-element td.value").first).not_to_be_empty()
    page.wait_for_timeout(200)
    assert page.locator("img, main script, svg script, #vg-tooltip-element script").count() == 0


def test_a_script_that_is_not_the_pages_own_does_not_run(opened: Opened, silero: Report) -> None:
    text = silero.to_html().replace("</main>", "<script>document.title = 'run'</script></main>")
    page = opened(text, refused="violates the following Content Security Policy")
    assert page.title() != "run"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_axe_finds_no_violation(opened: Opened, silero: Report, scheme: str, width: int) -> None:
    page = opened(silero.to_html(), width=width, color_scheme=scheme)
    for part in page.locator("details").all():
        part.evaluate("part => { part.open = true }")
    assert [violation["id"] for violation in Axe().run(page).response["violations"]] == []


@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_page(opened: Opened, hostile: Report, width: int) -> None:
    page = opened(hostile.to_html(), width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for chart in page.locator(".canvas svg").all():
        box = chart.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= width


def test_the_page_follows_the_dark_mode(opened: Opened, silero: Report) -> None:
    colours = {}
    for scheme in ("light", "dark"):
        page = opened(silero.to_html(), color_scheme=scheme)
        label = page.locator("#chart-law .role-axis-title text").first
        colours[scheme] = [
            page.evaluate("getComputedStyle(document.body).backgroundColor"),
            label.evaluate("text => getComputedStyle(text).fill"),
        ]
    assert colours["light"] == ["rgb(255, 255, 255)", "rgb(28, 32, 36)"]
    assert colours["dark"] == ["rgb(22, 25, 29)", "rgb(232, 234, 237)"]


def test_print_shows_everything_and_no_controls(opened: Opened, network: Report) -> None:
    page = opened(network.to_html())
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    page.emulate_media(media="print")
    assert page.locator("details:not([open])").count() == 0
    expect(page.locator(".filters")).not_to_be_visible()
    expect(page.locator("fieldset").first).not_to_be_visible()
    last = page.locator("#layers tbody tr").last.bounding_box()
    region = page.locator(".scroll.tall").bounding_box()
    assert last is not None
    assert region is not None
    assert last["y"] + last["height"] <= region["y"] + region["height"] + 1
    assert page.pdf().startswith(b"%PDF")


def test_without_scripts_the_table_is_there_and_the_charts_say_why_they_are_not(opened: Opened, silero: Report) -> None:
    page = opened(silero.to_html(), ready=False, java_script_enabled=False)
    assert names(page) == [layer.name for layer in silero.layers]
    expect(page.get_by_text("The chart needs JavaScript").first).to_be_visible()


def test_a_network_of_300_layers_takes_less_than_2_mb(network: Report) -> None:
    assert len(network.layers) == 300
    assert len(network.to_html().encode()) < 2_000_000


def test_more_layers_than_are_drawn_are_told(opened: Opened, tmp_path: Path) -> None:
    report = report_of(
        tmp_path,
        {f"layers.{place}.weight": torch.full((2, 2 + place % 7), 1.0 + place) for place in range(5_200)}
        | {f"more.{place}.weight": torch.randn(2, 3) for place in range(10)},
        "many.safetensors",
        limits={"crowded_tensors": 10_000},
    )
    page = opened(report.to_html())
    expect(page.locator("main")).to_contain_text("The charts draw 2605 of the 5210 layers")
    expect(page.locator("main")).to_contain_text("lists the first 5000 of 5210 layers")
    assert page.locator("#layers tbody tr").count() == 5_000


def test_a_checkpoint_without_layers_has_a_page(opened: Opened, tmp_path: Path) -> None:
    page = opened(report_of(tmp_path, {"bias": torch.ones(3)}).to_html())
    expect(page.locator("main")).to_contain_text("There are none.")


@pytest.mark.parametrize("law", ["constant", "spectral", "torch"])
def test_other_laws_are_drawn_against_what_they_depend_on(opened: Opened, law: str) -> None:
    report = weightstats.inspect(str(SILERO), law=law)
    page = opened(report.to_html())
    titles = page.locator("#chart-law .role-axis-title text").all_text_contents()
    assert f"{report.fit.measure} (logarithmic)" in titles


def test_the_data_in_the_page_are_strict_json(opened: Opened, network: Report) -> None:
    page = opened(network.to_html())
    data = json.loads(page.locator("#data").text_content() or "")
    assert set(data["charts"]) == {"law", *PENALTIES, "multipliers"}
