"""The page in a real browser: numbers, choices, addresses, downloads, keyboard, phone, darkness, print, axe."""

import csv
import importlib
import io
import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from xml.etree import ElementTree

import pyarrow as pa
import pytest
from PIL import Image

import analysis
from benchmarks.query import trials
from jobs.provenance import code_version
from jobs.results import (
    Failure,
    FailureKind,
    Launch,
    LocalStore,
    Store,
    read_trials,
    record_failure,
    record_study,
    write_launch,
)
from jobs.specs.recipes import Recipe
from jobs.specs.trial import recipe_digest
from tests.analysis.support import Build
from tests.machine import module
from tests.support import present

if TYPE_CHECKING:
    from playwright.sync_api import Browser

MINUS = "\N{MINUS SIGN}"


def curve(dataset: str, blocks: int, images: int, source: str, i: int) -> dict[int, float]:
    """Return the accuracies after epochs 1, 11 and 30; l2 gains 4 points, and more for later seeds."""
    gain = {"natural": 0.0, "l2": 4.0 + i / 4, "linf": 2.0 - i / 4}[source]
    end = 40 + 20 * (dataset == "mnist") + 2 * blocks + (i * 7 + images) % 5 / 4 + gain
    return {1: end - 20, 11: end - 5 - gain / 2, 30: end}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    build = Build(tmp_path_factory.mktemp("page"))
    trials = [
        build.trial(source, 20_000_000 + 100_000 * i, curve(dataset, blocks, images, source, i), **columns)
        for dataset, blocks, images in product(("digits", "mnist"), (1, 3), (50, 100, 200, -1))
        for source, constraint in (("natural", "none"), ("l2", "l2"), ("linf", "linf"))
        for i in range(3)
        for columns in [
            {
                "dataset": dataset,
                "blocks": blocks,
                "images": images,
                "constraint": constraint,
                "recipe": recipe_digest(Recipe()),
                "evaluate_every": 10,
            }
        ]
    ]
    directory = build.root(trials)
    contrasts = [
        {"source": "l2", "baseline": "natural", "blocks": [3]},
        {"source": "linf", "baseline": "natural", "blocks": [1], "epoch": 11},
    ]
    record_study(LocalStore(directory), "mine", "d1", json.dumps(STUDY | {"contrasts": contrasts}))
    begun, seen = "2026-03-04T03:00:00+00:00", "2026-03-04T05:06:00+00:00"
    write_launch(LocalStore(directory), Launch("one", "mine", "d1", "me", "here", begun, "0", {}, seen))
    return directory


STUDY = {
    "name": "mine",
    "description": "A study <b>for</b> a test",
    "grid": {"source": ["natural", "l2"], "dataset": ["digits"], "blocks": [3]},
    "schedule": [{"images": [50, 100], "epochs": 30, "seeds": 4, "evaluate_every": 10}],
    "recipe": {},
}


@pytest.fixture(scope="module")
def path(root: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DELTASWEEP_HOME", str(root.parent / "home"))
        return analysis.report(root, compare_paper=True)


class Opened:
    """An opened page with all its console messages and requests."""

    def __init__(
        self, browser: "Browser", path: Path, width: int = 1280, scheme: Literal["light", "dark"] = "light"
    ) -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, accept_downloads=True, color_scheme=scheme
        )
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.address = path.as_uri()
        self.open()

    def open(self, fragment: str = "") -> None:
        """Load the page anew, with the view that the fragment names."""
        self.page.goto("about:blank")
        self.page.goto(self.address + fragment)
        self.page.wait_for_selector("body[data-ready=yes]")

    def choose(self, name: str, value: str) -> None:
        self.page.select_option(f"select[name={name}]", value)

    def tick(self, kind: str, *values: str) -> None:
        """Choose exactly these values of a kind."""
        for box in self.page.locator(f"fieldset[data-kind={kind}] input").all():
            if box.get_attribute("type") == "checkbox" or box.get_attribute("value") in values:
                box.set_checked(box.get_attribute("value") in values)

    def view(self) -> dict[str, list[str]]:
        """Return all choices: the value of each select, and the ticked values of each kind."""
        found: dict[str, list[str]] = self.page.evaluate(
            """() => {
                const found = {};
                for (const one of document.querySelectorAll("#choices select")) found[one.name] = [one.value];
                for (const one of document.querySelectorAll("#choices input")) {
                    found[one.name] ??= [];
                    if (one.checked) found[one.name].push(one.value);
                }
                return found;
            }"""
        )
        return found

    def marks(self, chart: str) -> list[str]:
        """Return what a chart says of each of its points."""
        return self.page.locator(f"#plot-{chart} title").all_text_contents()

    def legend(self, chart: str) -> list[str]:
        return self.page.locator(f"#plot-{chart} text.entry").all_text_contents()

    def rows(self, chart: str) -> list[dict[str, str]]:
        """Return the rows of a chart's table, by the names of its columns."""
        self.page.locator(f"details[data-chart={chart}]").evaluate("one => { one.open = true }")
        self.page.wait_for_selector(f"#table-{chart} thead")
        head, *lines = self.page.locator(f"#table-{chart} tr").evaluate_all(
            "all => all.map(row => [...row.cells].map(cell => cell.textContent))"
        )
        return [dict(zip(head, line, strict=True)) for line in lines]

    def saved(self, figure: str, form: str) -> bytes:
        """Download a figure."""
        with self.page.expect_download() as caught:
            self.page.click(f"figure[data-name={figure}] button.{form}")
        assert caught.value.suggested_filename == f"{figure}.{form}"
        return Path(caught.value.path()).read_bytes()


@pytest.fixture
def fresh(browser: "Browser", path: Path) -> Iterator[Opened]:
    """The page, opened for this test and not used before."""
    made = Opened(browser, path)
    yield made
    made.context.close()


@pytest.fixture(scope="module")
def shared(browser: "Browser", path: Path) -> Iterator[Opened]:
    made = Opened(browser, path)
    yield made
    made.context.close()


@pytest.fixture
def opened(shared: Opened) -> Iterator[Opened]:
    """The page as it is when it is opened, on a screen; other tests have used the same browser tab."""
    shared.page.emulate_media(media="screen")
    shared.open()
    yield shared
    assert shared.said == []


def number(text: str) -> float:
    return float(text.replace(MINUS, "-").replace(",", ""))


def test_no_console_message_and_no_request(fresh: Opened, path: Path) -> None:
    assert fresh.said == []
    asked = [url for url in fresh.asked if not url.startswith(("data:", "blob:", "about:"))]
    assert asked == [path.as_uri()]


def test_the_same_results_give_the_same_page(root: Path, path: Path, tmp_path: Path) -> None:
    again = analysis.report(root, tmp_path / "again", compare_paper=True)
    assert again.read_bytes() == path.read_bytes()


def test_the_head_says_what_of_when_and_by_what(opened: Opened, root: Path) -> None:
    said = opened.page.inner_text("header")
    for words in ("DeltaSweep report: mine", str(root), "2026-03-04 05:06 UTC", f"DeltaSweep {code_version()}", "144"):
        assert words in said
    assert opened.page.title() == "mine: DeltaSweep report"


def test_the_forest_plot_shows_the_deltas(opened: Opened, root: Path) -> None:
    """Row by row as ``deltas`` has them: mean, interval, pairs and corrected p; declared contrasts come first."""
    table = analysis.deltas(root).to_pylist()
    drawn = {
        name: opened.page.locator(f"figure[data-name={name}] .broad title").all_text_contents()
        for name in ("forest", "forest-others")
    }
    shown = [row for row in table if row["blocks"] == 3 or row["epoch"] == 11]
    assert sum(map(len, drawn.values())) == len(shown) == 8 + 8 + 2
    assert len(drawn["forest"]) == 8 + 2, "l2 minus natural, of which half is declared, and linf at epoch 11"
    for row in shown:
        size = "all" if row["images"] == -1 else f"{row['images']:,}"
        numbers = f"{row['mean_delta']:+.2f} [{row['ci_low']:+.2f}, {row['ci_high']:+.2f}]".replace("-", MINUS)
        words = f"{row['dataset']}, {size} images: {numbers}, n = {row['n_pairs']}"
        if row["p_holm"] is not None:
            words += f", p = {row['p_holm']:.3f}" if row["p_holm"] >= 0.001 else ", p <0.001"
        assert words in [*drawn["forest"], *drawn["forest-others"]]


def test_the_curves_show_the_deltas(opened: Opened, root: Path) -> None:
    rows = opened.rows("delta-images")
    expected = analysis.deltas(root, baseline="natural", blocks=3, epoch="last").to_pylist()
    assert len(rows) == len(expected) == len(opened.marks("delta-images")) == 16
    found = {(row["dataset"], row["delta of"], row["images"].split(" ")[0]): row for row in rows}
    for row in expected:
        size = "all" if row["images"] == -1 else str(row["images"])
        shown = found[row["dataset"], f"{row['source']} minus natural", size]
        assert number(shown["mean"]) == pytest.approx(row["mean_delta"], abs=0.005)
        assert number(shown["low"]) == pytest.approx(row["ci_low"], abs=0.006)
        assert number(shown["simultaneous high"]) == pytest.approx(row["ci_high_simultaneous"], abs=0.006)


@pytest.mark.parametrize(
    ("choice", "values", "changed", "same"),
    [
        ("source", ["linf"], ["delta-images", "delta-epoch"], []),
        ("baseline", ["linf"], ["delta-images", "delta-epoch"], []),
        ("blocks", ["1"], ["accuracy-images", "accuracy-epoch"], []),
        ("dataset", ["mnist"], ["delta-images", "accuracy-epoch"], []),
        ("epoch", ["11"], ["delta-images", "accuracy-images"], ["delta-epoch", "accuracy-epoch"]),
        ("images", ["50"], ["accuracy-epoch"], ["delta-images", "accuracy-images"]),
    ],
)
def test_choices_change_marks_and_numbers_in_place(
    opened: Opened, choice: str, values: list[str], changed: list[str], same: list[str]
) -> None:
    charts = [*changed, *same]
    before = {chart: (opened.marks(chart), opened.rows(chart)) for chart in charts}
    if choice in ("source", "blocks", "dataset"):
        opened.tick(choice, *values)
    else:
        opened.choose(choice, values[0])
    after = {chart: (opened.marks(chart), opened.rows(chart)) for chart in charts}
    for chart in changed:
        assert after[chart][0] != before[chart][0]
        assert after[chart][1] != before[chart][1]
    for chart in same:
        assert after[chart] == before[chart]


@pytest.mark.parametrize(
    ("colour", "panel", "legend", "panels"),
    [
        ("source", "dataset", ["l2 minus natural", "linf minus natural"], ["mnist", "digits"]),
        ("dataset", "source", ["mnist", "digits"], ["l2 minus natural", "linf minus natural"]),
        ("blocks", "dataset", ["last block", "last 3 blocks"], ["mnist", "digits"]),
        ("source", "blocks", ["l2 minus natural", "linf minus natural"], ["last block", "last 3 blocks"]),
    ],
)
def test_the_reader_chooses_what_is_colour_and_what_is_panel(
    opened: Opened, colour: str, panel: str, legend: list[str], panels: list[str]
) -> None:
    opened.choose("colour", colour)
    opened.choose("panel", panel)
    if "blocks" in (colour, panel):
        opened.tick("blocks", "1", "3")
    assert opened.legend("delta-images") == legend
    titles = opened.page.locator("#plot-delta-images text[font-weight]").all_text_contents()
    assert titles == panels
    kinds = {"source", "dataset", "blocks"}
    for kind in kinds:
        wanted = "checkbox" if kind in (colour, panel) else "radio"
        assert opened.page.locator(f"fieldset[data-kind={kind}] input[type={wanted}]").count() > 0
    for kind in kinds - {colour, panel}:
        assert len(opened.view()[kind]) == 1, "what is neither has one value"


def test_the_baseline_is_named_and_dashed(opened: Opened) -> None:
    assert opened.legend("accuracy-images") == ["l2", "linf", "natural (baseline)"]
    assert opened.page.locator("#plot-accuracy-images path.line[stroke-dasharray]").count() == 1 + 2
    assert opened.page.locator("#plot-delta-images path.line[stroke-dasharray]").count() == 0


def test_the_address_keeps_the_view(opened: Opened) -> None:
    before = opened.view()
    opened.choose("colour", "dataset")
    opened.choose("panel", "none")
    opened.tick("source", "linf")
    opened.choose("epoch", "11")
    opened.tick("dataset", "mnist")
    view, marks, address = opened.view(), opened.marks("delta-images"), opened.page.url
    assert (view["source"], view["dataset"], view["epoch"]) == (["linf"], ["mnist"], ["11"])
    opened.open("#" + address.partition("#")[2])
    assert opened.view() == view
    assert opened.marks("delta-images") == marks
    opened.page.click("nav a:text-is('Tables')")
    assert opened.page.url.startswith(f"{opened.address}#tables&")
    assert opened.view() == view, "a link to a section changes no choice"
    opened.page.go_back()
    assert opened.view() == view
    opened.open()
    opened.choose("epoch", "11")
    opened.page.go_back()
    assert opened.view() == before


@pytest.mark.parametrize(
    "fragment",
    [
        "#",
        "#nowhere",
        "#curves&epoch=7&source=none&colour=size&panel=",
        "#source=%E0%A4%A&=&&&epoch",
        "#curves&dataset=<img src=x onerror=ran=1>",
        "#constructor&__proto__=1",
    ],
)
def test_an_address_that_names_nothing_here_shows_the_default(opened: Opened, fragment: str) -> None:
    default = opened.view()
    opened.open(fragment)
    assert opened.view() == default
    assert len(opened.marks("delta-images")) == 16


@pytest.mark.parametrize("figure", ["forest", "delta-images", "figure2"])
def test_figures_are_downloaded_light_and_whole(browser: "Browser", path: Path, figure: str) -> None:
    """A page that lies alone in another folder has them, too, and also on a dark screen they are for white paper."""
    alone = path.parent.parent / "mailed.html"
    alone.write_bytes(path.read_bytes())
    saved = {}
    for scheme in ("light", "dark"):
        made = Opened(browser, alone, scheme=scheme)
        saved[scheme] = made.saved(figure, "svg"), made.saved(figure, "png")
        assert made.said == []
        made.context.close()
    assert saved["light"] == saved["dark"]
    svg, png = saved["light"]
    drawing = ElementTree.fromstring(svg)
    assert drawing.tag == "{http://www.w3.org/2000/svg}svg"
    assert b"var(" not in svg, "other programs know no variables of a style sheet"
    picture = Image.open(io.BytesIO(png))
    assert picture.width > 1500
    colours = picture.convert("RGB")
    assert colours.getpixel((0, 0)) == (255, 255, 255)
    assert len(colours.getcolors(10**6) or ()) > 20


def test_what_is_drawn_for_paper_is_beside_the_page(path: Path) -> None:
    ElementTree.fromstring((path.parent / "forest.svg").read_bytes())
    drawn = Image.open(path.parent / "forest.png").convert("RGB")
    assert drawn.width == 1833, "880 pixels of 1/96 inch, at 200 dots per inch"
    assert drawn.getpixel((0, 0)) == (255, 255, 255)
    assert (path.parent / "forest.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.usefixtures("no_figure_files")
def test_one_size_alone_shows_its_interval(browser: "Browser", build: Build) -> None:
    natural, robust = [50.0, 51.0, 52.0, 50.5, 51.5], [55.0, 57.0, 58.0, 55.5, 57.5]
    for count in (5, 3):
        made = Opened(browser, analysis.report(build.root(build.arms(natural[:count], robust[:count]), str(count))))
        for chart in ("delta-images", "accuracy-images", "delta-epoch", "accuracy-epoch"):
            heights = made.page.locator(f"#plot-{chart} path.bar").evaluate_all(
                "all => all.map(one => one.getBoundingClientRect().height)"
            )
            assert heights
            assert min(heights) > 10
        assert made.said == []
        made.context.close()


def chart(made: Opened, name: str) -> str:
    """Return all text of a chart."""
    return " ".join(made.page.locator(f"#plot-{name} svg > text").all_text_contents())


@pytest.mark.usefixtures("no_figure_files")
def test_a_chart_says_how_many_intervals_it_cuts(browser: "Browser", build: Build) -> None:
    wide = Opened(browser, analysis.report(build.root(build.arms([50.0, 60.0], [55.0, 80.0]), "wide")))
    assert "last epoch \N{MIDDLE DOT} 1 of 1 intervals are cut at the frame" in chart(wide, "delta-images")
    assert b"1 of 1 intervals are cut at the frame" in wide.saved("delta-images", "svg")
    assert "counts those that it cuts" in present(wide.page.locator("#curves details").last.text_content())
    wide.context.close()
    values = [50.0, 51.0, 52.0, 50.5, 51.5]
    firm = Opened(browser, analysis.report(build.root(build.arms(values, [55.0, 57.0, 58.0, 55.5, 57.5]), "firm")))
    assert "frame" not in chart(firm, "delta-images") + chart(firm, "accuracy-images")
    firm.context.close()


@pytest.mark.usefixtures("no_figure_files")
def test_charts_say_which_sources_have_no_common_length(browser: "Browser", build: Build) -> None:
    trials = [
        build.trial(source, seed, {last: 50.0 + seed})
        for source, last in (("natural", 30), ("l2", 10))
        for seed in (0, 1)
    ]
    made = Opened(browser, analysis.report(build.root(trials)))
    words = "sources without a common length, never paired (l2: 10 epochs; natural: 30 epochs)"
    for name in ("accuracy-images", "delta-images", "accuracy-epoch", "delta-epoch"):
        assert words in chart(made, name)
    assert "No results for these choices." in chart(made, "delta-images")
    assert made.said == []
    made.context.close()


@pytest.mark.usefixtures("no_figure_files")
def test_intervals_without_width_are_told_above_the_charts(browser: "Browser", build: Build) -> None:
    made = Opened(browser, analysis.report(build.root(build.arms([50.0, 51.0], [55.0, 56.0]))))
    assert made.page.inner_text("#said") == (
        "1 delta after the last epoch: the 95 % interval is above zero in 1, below zero in 0, and contains it in 0. In "
        "1 all differences are equal: an interval without width, not precision."
    )
    made.context.close()


def test_turning_a_comparison_round_turns_the_sign(opened: Opened) -> None:
    opened.tick("source", "l2")
    before = [row["mean"] for row in opened.rows("delta-images")]
    opened.choose("baseline", "l2")
    opened.tick("source", "natural")
    after = [row["mean"] for row in opened.rows("delta-images")]
    assert after == [value.replace("+", MINUS) for value in before]
    opened.choose("baseline", "natural")
    assert "Choose a source that is not the baseline" in opened.page.inner_text("#plot-delta-images")


def test_by_keyboard_alone(fresh: Opened) -> None:
    fresh.page.keyboard.press("Tab")
    assert fresh.page.evaluate("document.activeElement.className") == "skip"
    fresh.page.focus("fieldset[data-kind=blocks] input:checked")
    before = fresh.marks("accuracy-images")
    fresh.page.keyboard.press("ArrowUp")
    assert fresh.view()["blocks"] == ["1"]
    assert fresh.marks("accuracy-images") != before
    fresh.page.focus("fieldset[data-kind=dataset] input >> nth=0")
    fresh.page.keyboard.press("Space")
    assert fresh.view()["dataset"] == ["digits"]
    fresh.page.focus("#figures-of-the-paper summary:text-is('Data of figure 2')")
    fresh.page.keyboard.press("Enter")
    fresh.page.wait_for_selector("#table-figure2-numbers tbody tr")


def test_tables_can_be_copied_and_downloaded(opened: Opened) -> None:
    opened.page.click("text=All headline deltas")
    with opened.page.expect_download() as caught:
        opened.page.click(".tools[data-name=headline-deltas] .download")
    lines = Path(caught.value.path()).read_text(encoding="utf-8").splitlines()
    assert caught.value.suggested_filename == "headline-deltas.csv"
    assert lines[0].startswith("source,baseline,blocks,epoch,dataset,images,n,delta")
    assert len(lines) == 1 + 16 + 2
    opened.context.grant_permissions(["clipboard-read", "clipboard-write"])
    opened.page.click(".tools[data-name=headline-deltas] .copy")
    opened.page.wait_for_selector(".tools[data-name=headline-deltas] output:has-text('Copied.')")
    assert opened.page.evaluate("navigator.clipboard.readText()").startswith("source\tbaseline")


def test_no_cell_is_a_formula_or_another_cell_where_it_is_pasted(browser: "Browser", build: Build) -> None:
    root = build.root([])
    said = {"error": '=HYPERLINK("http://x")', "reason": "a\tb\nc", "host": "@SUM(1)", "launch": "l"}
    failure = Failure(trial_id="x-1", attempt=1, kind=FailureKind.ERROR, failed_at="2026-01-01T00:00:00+00:00", **said)
    record_failure(LocalStore(root), failure, "log")
    made = Opened(browser, analysis.report(root))
    made.context.grant_permissions(["clipboard-read", "clipboard-write"])
    with made.page.expect_download() as caught:
        made.page.click(".tools[data-name=failures] .download")
    made.page.click(".tools[data-name=failures] .copy")
    made.page.wait_for_selector(".tools[data-name=failures] output:has-text('Copied.')")
    copied = made.page.evaluate("navigator.clipboard.readText()")
    downloaded = Path(caught.value.path()).read_text(encoding="utf-8")
    made.context.close()
    for text, between in ((downloaded, ","), (copied, "\t")):
        head, row = csv.reader(io.StringIO(text, newline=""), delimiter=between)
        found = dict(zip(head, row, strict=True))
        assert (found["error"], found["host"]) == (f"'{said['error']}", f"'{said['host']}")
        assert (found["reason"], found["attempt"]) == (said["reason"], "1")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "light"), (1280, "dark")])
def test_axe_finds_nothing(browser: "Browser", path: Path, width: int, scheme: Literal["light", "dark"]) -> None:
    axe = module(
        "axe_playwright_python.sync_playwright", "that the page is accessible", "`pip install axe-playwright-python`"
    )
    made = Opened(browser, path, width, scheme)
    for details in made.page.locator("details").all():
        details.evaluate("one => { one.open = true }")
    found = axe.Axe().run(made.page)
    assert found.violations_count == 0, found.generate_report()
    made.context.close()


def test_a_phone_scrolls_down_only_and_shows_every_panel(browser: "Browser", path: Path) -> None:
    made = Opened(browser, path, 360)
    for details in made.page.locator("details").all():
        details.evaluate("one => { one.open = true }")
    assert made.page.evaluate("document.documentElement.scrollWidth") <= 360
    assert present(made.page.locator("#plot-delta-images svg").bounding_box())["width"] <= 360
    assert made.page.is_visible("figure[data-name=forest] .narrow")
    assert not made.page.is_visible("figure[data-name=forest] .broad")
    panels = made.page.locator("[data-figure=figure2] img:not(.strip)")
    assert [image.get_attribute("alt") for image in panels.all()] == [
        f"Figure 2: Accuracy and delta by number of training images: part {part} of 3" for part in (2, 3)
    ]
    boxes = [present(image.bounding_box()) for image in panels.all()]
    assert all(300 < box["width"] <= 360 and box["x"] >= 0 for box in boxes)
    assert boxes[0]["y"] + boxes[0]["height"] <= boxes[1]["y"]
    assert made.said == []
    made.context.close()


def test_a_dark_screen_is_dark_and_paper_is_white(browser: "Browser", path: Path) -> None:
    colours = """() => {
        const style = selector => getComputedStyle(document.querySelector(selector));
        return [style("body").backgroundColor, style(".broad .ink").fill, style("#plot-delta-images path.line").stroke];
    }"""
    made = Opened(browser, path, scheme="dark")
    dark = made.page.evaluate(colours)
    made.page.emulate_media(media="print", color_scheme="dark")
    printed = made.page.evaluate(colours)
    made.page.emulate_media(media="screen", color_scheme="light")
    light = made.page.evaluate(colours)
    assert dark[0] == "rgb(20, 23, 26)"
    assert printed[0] == "rgb(255, 255, 255)"
    assert printed[1:] == light[1:] != dark[1:]
    made.context.close()


def test_print_leaves_the_controls_out(opened: Opened) -> None:
    opened.page.emulate_media(media="print")
    assert not opened.page.is_visible("#choices")
    assert not opened.page.is_visible(".tools >> nth=0")
    assert opened.page.is_visible("#plot-delta-images svg")


def test_text_of_studies_is_text(opened: Opened) -> None:
    said = opened.page.inner_text("#what-was-run")
    assert "A study <b>for</b> a test" in said
    assert "12 of 16 trials finished (75%)" in said
    assert "l2 minus natural, last 3 blocks, last epoch; linf minus natural, last block, epoch 11" in said


def test_headlines_in_words(opened: Opened) -> None:
    said = " ".join(opened.page.inner_text("#headline-deltas").split())
    assert (
        "l2 minus natural (last 3 blocks, last epoch, partly declared in advance): Test accuracy is higher in all 8 "
        "cells, by 4.25 points (95 % interval above zero); after Holm correction over 4 cells of the contrasts of "
        "mine, 2 of 2 differ at the 5 % level; with only 3 pairs, an interval assumes normally distributed differences."
    ) in said


def test_a_contrast_at_a_numbered_epoch_is_a_headline(opened: Opened, root: Path) -> None:
    """Its headline has its own blocks and epoch, and the p-value that ``deltas`` gives it over the whole family."""
    said = " ".join(opened.page.inner_text("#headline-deltas").split())
    assert "linf minus natural (last block, epoch 11, declared in advance): Test accuracy is higher in" in said
    opened.page.click("text=All headline deltas")
    lines = opened.page.locator("#table-headline-deltas tbody tr").evaluate_all(
        "all => all.map(row => [...row.cells].map(cell => cell.textContent))"
    )
    shown = [line for line in lines if line[:4] == ["linf", "natural", "1", "11"]]
    expected = [row for row in analysis.deltas(root).to_pylist() if row["epoch"] == 11]
    assert [line[5] for line in shown] == ["50", "100"]
    for line, row in zip(shown, expected, strict=True):
        assert line[7] == f"{row['mean_delta']:+.2f}"
        assert line[10] == (f"{row['p_holm']:.3f}" if row["p_holm"] >= 0.001 else "<0.001")
        assert line[11] == "4 cells of the contrasts of mine"
    assert "11 (declared contrast)" in opened.page.inner_text("select[name=epoch]")


@pytest.mark.usefixtures("no_figure_files")
def test_the_charts_begin_with_the_first_contrast(browser: "Browser", build: Build) -> None:
    trials = [
        build.trial(source, seed, {1: 20.0, 11: 30.0 + gain, 30: 50.0 + gain + seed}, blocks=blocks, constraint=one)
        for source, one, gain in (("natural", "none", 0.0), ("also", "gaussian", 1.0), ("robust", "gaussian", 2.0))
        for blocks in (1, 3)
        for seed in range(3)
    ]
    root = build.root(trials)
    contrast = {"source": "robust", "baseline": "natural", "blocks": [1], "epoch": 11}
    record_study(LocalStore(root), "mine", "d1", json.dumps(STUDY | {"contrasts": [contrast]}))
    made = Opened(browser, analysis.report(root))
    view = {name: made.view()[name] for name in ("source", "baseline", "blocks", "epoch")}
    assert view == {"source": ["also", "robust"], "baseline": ["natural"], "blocks": ["1"], "epoch": ["11"]}
    assert made.page.inner_text("#said").startswith("2 deltas after epoch 11: the 95 % interval is above zero in ")
    made.context.close()


def test_an_empty_root_is_told_kindly(browser: "Browser", build: Build) -> None:
    page = analysis.report(build.root([]))
    made = Opened(browser, page)
    assert "No trial has finished here yet." in made.page.inner_text("main")
    assert "deltasweep launch STUDY --results" in made.page.inner_text("main")
    assert made.said == []
    made.context.close()


@pytest.mark.usefixtures("no_figure_files")
def test_one_source_alone_shows_its_accuracy(browser: "Browser", build: Build) -> None:
    page = analysis.report(
        build.root([build.trial("natural", 0, {1: 20.0, 5: 50.0}), build.trial("natural", 1, {1: 22.0, 5: 51.0})])
    )
    made = Opened(browser, page)
    assert len(made.rows("accuracy-epoch")) == 2
    assert "Deltas need trials of two sources" in made.page.inner_text("#headline-deltas")
    assert "only accuracies are shown" in made.page.inner_text("#curves")
    assert made.said == []
    made.context.close()


@pytest.mark.usefixtures("no_figure_files")
def test_without_an_obvious_baseline_the_curves_still_compare(browser: "Browser", build: Build) -> None:
    trials = [
        build.trial(source, seed, 50.0 + gain + seed, constraint="none")
        for source, gain in (("one", 0.0), ("other", 5.0))
        for seed in range(3)
    ]
    made = Opened(browser, analysis.report(build.root(trials)))
    said = made.page.inner_text("main")
    assert "the results do not determine which of one, other is the baseline" in said
    assert "only accuracies are shown" not in said
    made.choose("baseline", "one")
    made.tick("source", "other")
    assert [row["mean"] for row in made.rows("delta-images")] == ["+5.00"]
    made.context.close()


@pytest.mark.usefixtures("no_figure_files")
def test_names_from_a_strangers_root_run_nothing(browser: "Browser", build: Build) -> None:
    """Anyone who can write results controls the values of their columns; the page shows them as text."""
    trap = "</script><img src=x onerror=ran=1>"
    columns = dict.fromkeys(("dataset", "host", "code_version", "launch", "recipe", "device_kind"), trap)
    columns["packages"] = json.dumps({trap: trap})
    trials = [
        build.trial(source, seed, {1: 20.0, 5: 50.0 + seed}, trial_id=f"x-{name}{seed}", **columns)
        for name, source in (("natural", "natural"), ("trap", trap))
        for seed in range(3)
    ]
    root = build.root(trials)
    record_study(LocalStore(root), "mine", "d1", json.dumps(STUDY | {"description": trap, "contrasts": []}))
    made = Opened(browser, analysis.report(root))
    values = made.page.locator("fieldset[data-kind=source] input").evaluate_all("all => all.map(one => one.value)")
    assert values == sorted(["natural", trap])
    made.choose("baseline", "natural")
    made.tick("source", trap)
    made.choose("colour", "dataset")
    made.choose("panel", "source")
    assert len(made.marks("delta-epoch")) == 2
    assert made.page.locator("img[src=x]").count() == 0
    assert made.said == []
    made.page.evaluate("trap => { document.body.innerHTML = trap }", trap)
    assert made.page.locator("img[src=x]").count() == 1
    made.page.wait_for_function("document.querySelector('img[src=x]').complete", timeout=30_000)
    assert made.page.evaluate("window.ran") is None, "and if it were markup, the page's policy would not let it run"
    made.context.close()


@pytest.mark.slow(40)
@pytest.mark.sample
@pytest.mark.usefixtures("no_figure_files")
def test_the_papers_study_fits_in_3_megabytes(
    browser: "Browser", tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The opening time is measured by ``benchmarks/page.py``."""

    def read(store: Store, kind: str, *columns: Any) -> pa.Table:
        return trials(14_400) if kind == "finetune" else read_trials(store, kind, *columns)

    monkeypatch.setattr(importlib.import_module("analysis.page.results"), "read_trials", read)
    path = analysis.report(tmp_path)
    assert path.stat().st_size < 3e6
    made = Opened(browser, path)
    assert len(made.rows("delta-images")) == 180
    made.context.close()
