"""The pages of comparisons and trajectories, in a browser."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from axe_playwright_python.sync_playwright import Axe
from builders import ROOT, random_tensors
from playwright.sync_api import Page, expect

import weightstats
from weightstats.comparison import Comparison
from weightstats.trajectories import Trajectory

Opened = Callable[..., Page]
Made = Comparison | Trajectory

TRAINED = ROOT / "fixtures/trained"
WIDTHS = (390, 768, 1280)

HOSTILE = (
    "<script>alert(1)</script>.weight",
    "</script><script>alert(2)</script>.weight",
    "<img src=x onerror=alert(3)>.weight",
    "\x1b[31mred\x1b]0;title\x07.weight",
    "{{7*7}}${7*7}.weight",
    "\u202ereversed.weight",
    "__proto__.weight",
    "x" * 5_000 + ".weight",
)


def saved(folder: Path, name: str, state: dict[str, torch.Tensor]) -> str:
    torch.save(state, folder / name)
    return str(folder / name)


@pytest.fixture(scope="module")
def cnn() -> Comparison:
    return weightstats.compare(TRAINED / "cnn-step0.pt", TRAINED / "cnn-final.pt")


@pytest.fixture(scope="module")
def steps(tmp_path_factory: pytest.TempPathFactory) -> Trajectory:
    folder = tmp_path_factory.mktemp("steps")
    state = random_tensors({f"{place}.weight": (16 + 9 * place, 24) for place in range(7)})
    for number in (0, 5, 40, 300, 1000):
        saved(
            folder, f"step-{number}.pt", {name: one * (1 + number / 500) ** int(name[0]) for name, one in state.items()}
        )
    (folder / "<img src=x onerror=alert(8)>.txt").write_text("")
    return weightstats.trajectory(folder)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Made]:
    folder = tmp_path_factory.mktemp("hostile")
    before = random_tensors({name: (8 + 3 * place, 16) for place, name in enumerate(HOSTILE)})
    after = {name: one * (1.1 + place / 9) for place, (name, one) in enumerate(before.items())}
    after |= {f"only.{name}": torch.randn(4, 5) for name in HOSTILE}
    paths = [saved(folder, "<b>a\x1b[31m.pt", before), saved(folder, "<script>alert(4).pt", after)]
    return {"comparison": weightstats.compare(*paths, root=""), "trajectory": weightstats.trajectory(paths, root="")}


def names(page: Page) -> list[str]:
    """The rows of the table that can be seen, from its top."""
    return page.locator("#layers tbody tr:visible .pick").all_text_contents()


def marks(page: Page, chart: str) -> list[dict[str, float]]:
    """Where a chart's marks that stand for a row are on the screen, by its index."""
    page.locator(f"#chart-{chart}").scroll_into_view_if_needed()
    found: list[dict[str, float]] = page.evaluate(
        """chart => [...document.querySelectorAll(`#chart-${chart} .mark-symbol.role-mark path`)]
        .filter(path => path.__data__.datum.index !== undefined)
        .map(path => path.getBoundingClientRect().toJSON() && ({index: path.__data__.datum.index,
            x: path.getBoundingClientRect().x + path.getBoundingClientRect().width / 2,
            y: path.getBoundingClientRect().y + path.getBoundingClientRect().height / 2}))""",
        chart,
    )
    return found


@pytest.mark.parametrize("chart", ["changes", "law"])
def test_every_layer_is_a_mark_and_a_row(opened: Opened, cnn: Comparison, chart: str) -> None:
    page = opened(cnn.to_html())
    assert names(page) == [layer.name for layer in cnn.layers]
    assert sorted(mark["index"] for mark in marks(page, chart)) == list(range(len(cnn.layers)))


@pytest.mark.parametrize("chart", ["law", "constants", "evenness", "norms", "first"])
def test_every_step_is_a_mark_and_a_row(opened: Opened, steps: Trajectory, chart: str) -> None:
    page = opened(steps.to_html())
    assert names(page) == ["step 0", "step 5", "step 40", "step 300", "step 1,000"]
    expected = {1, 2, 3, 4} if chart == "first" else {0, 1, 2, 3, 4}
    assert {mark["index"] for mark in marks(page, chart)} == expected


@pytest.mark.parametrize("chart", ["changes", "law"])
def test_a_click_on_a_layers_mark_finds_its_row_even_where_it_is_filtered_out(
    opened: Opened, cnn: Comparison, chart: str
) -> None:
    page = opened(cnn.to_html())
    page.get_by_label("Filter by name").fill("nothing")
    mark = next(mark for mark in marks(page, chart) if cnn.layers[int(mark["index"])].name == "9.weight")
    page.mouse.click(mark["x"], mark["y"])
    expect(page.locator("tr.picked .pick")).to_have_text("9.weight")
    expect(page.locator("tr.picked")).to_be_in_viewport()


@pytest.mark.parametrize("chart", ["law", "norms"])
def test_a_click_on_a_steps_mark_finds_its_row(opened: Opened, steps: Trajectory, chart: str) -> None:
    page = opened(steps.to_html())
    mark = next(mark for mark in marks(page, chart) if mark["index"] == 3)
    page.mouse.click(mark["x"], mark["y"])
    expect(page.locator("tr.picked .pick")).to_have_text("step 300")


def test_a_name_in_the_table_shows_its_mark(opened: Opened, cnn: Comparison, steps: Trajectory) -> None:
    for made, name, rings in ((cnn, "9.weight", ("changes", "law")), (steps, "step 40", ("law", "constants"))):
        page = opened(made.to_html())
        before = {chart: len(marks(page, chart)) for chart in rings}
        page.get_by_role("button", name=name, exact=True).click()
        for chart in rings:
            expect(page.locator(f"#chart-{chart} .mark-symbol.role-mark path")).to_have_count(before[chart] + 1)
        expect(page.locator("#chart-law")).to_be_in_viewport()


def test_hovering_over_a_mark_shows_its_numbers(opened: Opened, cnn: Comparison, steps: Trajectory) -> None:
    page = opened(cnn.to_html())
    mark = next(mark for mark in marks(page, "law") if cnn.layers[int(mark["index"])].name == "14.weight")
    page.mouse.move(mark["x"], mark["y"])
    expect(page.locator("#vg-tooltip-element")).to_contain_text("14.weight")
    expect(page.locator("#vg-tooltip-element")).to_contain_text("0.41 → 3.07")
    page = opened(steps.to_html())
    mark = next(mark for mark in marks(page, "law") if mark["index"] == 2)
    page.mouse.move(mark["x"], mark["y"])
    expect(page.locator("#vg-tooltip-element")).to_contain_text("step 40")


def test_columns_sort_by_their_numbers(opened: Opened, cnn: Comparison, steps: Trajectory) -> None:
    page = opened(cnn.to_html())
    page.get_by_role("button", name="change", exact=True).click()
    assert names(page) == [layer.name for layer in sorted(cnn.layers, key=lambda layer: layer.relative_change)]
    page = opened(steps.to_html())
    page.get_by_role("button", name="exponent (95 % interval)", exact=True).click()
    rising = sorted(steps.steps, key=lambda step: step.fit.exponent)
    assert names(page) == [step.step.label for step in rising]


def test_what_is_typed_and_a_kind_filter_the_layers(opened: Opened, cnn: Comparison) -> None:
    page = opened(cnn.to_html())
    page.get_by_label("Kind").select_option("conv2d")
    assert names(page) == [layer.name for layer in cnn.layers if layer.kind == "conv2d"]
    page.get_by_label("Filter by name").fill("6")
    assert names(page) == ["6.weight"]


def test_the_intervals_are_switched_off(opened: Opened, cnn: Comparison) -> None:
    page = opened(cnn.to_html())
    areas = page.locator("#chart-law .mark-area.role-mark path")
    expect(areas).to_have_count(2)
    page.get_by_label("intervals of c").uncheck()
    expect(areas).to_have_count(0)


def test_all_layers_that_were_not_compared_can_be_unfolded(opened: Opened, hostile: dict[str, Made]) -> None:
    page = opened(hostile["comparison"].to_html())
    page.get_by_text("8 × only after: not there before").click()
    expect(page.get_by_text("only.<script>alert(1)</script>.weight", exact=True)).to_be_visible()
    expect(page.get_by_text("only.\\x1b[31mred\\x1b]0;title\\x07.weight", exact=True)).to_be_visible()


@pytest.mark.parametrize("which", ["comparison", "trajectory"])
def test_names_from_the_file_are_shown_as_text_and_never_run(
    opened: Opened, hostile: dict[str, Made], which: str
) -> None:
    page = opened(hostile[which].to_html("weightstats compare '<img src=x onerror=alert(6)>'"))
    expect(page.get_by_role("heading", level=1)).to_contain_text("<script>alert(4).pt")
    for chart in ("law", "changes" if which == "comparison" else "first"):
        for mark in marks(page, chart):
            page.mouse.move(mark["x"], mark["y"])
    page.wait_for_timeout(200)
    assert page.locator("img, main script, svg script, #vg-tooltip-element script").count() == 0


def test_skipped_files_are_shown_as_text(opened: Opened, steps: Trajectory) -> None:
    page = opened(steps.to_html())
    page.get_by_text("1 × tells of no step of this series").click()
    expect(page.get_by_text("<img src=x onerror=alert(8)>.txt", exact=True)).to_be_visible()


@pytest.mark.parametrize("which", ["comparison", "trajectory"])
@pytest.mark.parametrize("width", WIDTHS)
def test_nothing_is_wider_than_the_page(opened: Opened, hostile: dict[str, Made], which: str, width: int) -> None:
    page = opened(hostile[which].to_html(), width=width)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for chart in page.locator(".canvas svg").all():
        box = chart.bounding_box()
        assert box is not None
        assert box["x"] + box["width"] <= width


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("which", ["comparison", "trajectory"])
def test_axe_finds_no_violation(
    opened: Opened, cnn: Comparison, steps: Trajectory, which: str, width: int, scheme: str
) -> None:
    made: Made = cnn if which == "comparison" else steps
    page = opened(made.to_html(), width=width, color_scheme=scheme)
    for part in page.locator("details").all():
        part.evaluate("part => { part.open = true }")
    assert [violation["id"] for violation in Axe().run(page).response["violations"]] == []


STATES: dict[str, tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]] = {
    "identical": (random_tensors({"a.weight": (4, 5), "b.weight": (6, 7)}),) * 2,
    "NaN": ({"a.weight": torch.full((4, 5), math.nan)},) * 2,
    "zero": ({"a.weight": torch.zeros(4, 5)}, {"a.weight": torch.ones(4, 5)}),
    "no layer": ({"bias": torch.zeros(4)},) * 2,
    "nothing in common": (random_tensors({"a.weight": (4, 5)}), random_tensors({"b.weight": (4, 5)})),
}


@pytest.mark.parametrize("case", STATES)
def test_unusual_checkpoints_have_quiet_pages(opened: Opened, tmp_path: Path, case: str) -> None:
    paths = [saved(tmp_path, f"step-{place}.pt", state) for place, state in enumerate(STATES[case])]
    for made in (weightstats.compare(*paths), weightstats.trajectory(paths)):
        page = opened(made.to_html())
        for sentence in made.findings:
            expect(page.locator(".finding")).to_contain_text(sentence)


def test_5000_layers_have_a_page(opened: Opened, tmp_path: Path) -> None:
    before = {f"layers.{place}.weight": torch.full((2, 2 + place % 7), 1.0 + place) for place in range(5_000)}
    after = {name: tensor * 1.5 for name, tensor in before.items()}
    paths = saved(tmp_path, "a.pt", before), saved(tmp_path, "b.pt", after)
    page = opened(weightstats.compare(*paths, limits={"crowded_tensors": 10_000}).to_html())
    expect(page.locator("main")).to_contain_text("The charts draw 2500 of the 5000 layers")
    assert page.locator("#layers tbody tr").count() == 5_000


def test_200_steps_have_a_page(opened: Opened, tmp_path: Path) -> None:
    state = random_tensors({f"{place}.weight": (16 + 9 * place, 24) for place in range(5)})
    steps = [{name: one * (1.0 + number / 200) for name, one in state.items()} for number in range(200)]
    page = opened(
        weightstats.trajectory([saved(tmp_path, f"step-{n}.pt", one) for n, one in enumerate(steps)]).to_html()
    )
    assert len(names(page)) == 200
    assert {mark["index"] for mark in marks(page, "law")} == set(range(200))
