"""The page in a real browser: no errors, no requests, choices that change marks, keyboard, phone, print, axe."""

import importlib
import json
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

import analysis
from benchmarks.query import trials
from jobs.results import LocalStore, Store, read_trials, record_study
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

    def __init__(self, browser: "Browser", path: Path, width: int = 1280) -> None:
        self.context = browser.new_context(viewport={"width": width, "height": 900}, accept_downloads=True)
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(path.as_uri())
        self.wait()
        self._chosen = self._choices()
        self._open = self.page.locator("details").evaluate_all("all => all.map(one => one.open)")

    def reset(self) -> None:
        """Reset all choices, restore which details are open, and emulate a screen."""
        self.page.emulate_media(media="screen")
        self.page.locator("details").evaluate_all(
            "(all, open) => all.forEach((one, i) => { one.open = open[i] })", self._open
        )
        now = self._choices()
        for name, value in self._chosen.items():
            if now[name] != value:
                self.choose(name, value)

    def _choices(self) -> dict[str, str]:
        found: dict[str, str] = self.page.locator("select[name]").evaluate_all(
            "all => Object.fromEntries(all.map(one => [one.name, one.value]))"
        )
        return found

    def wait(self) -> None:
        """Wait until the charts show the current choices."""
        self.page.wait_for_selector("body[data-ready=yes]")

    def choose(self, name: str, value: str) -> None:
        self.page.select_option(f"select[name={name}]", value)
        self.wait()

    def marks(self, chart: str) -> list[str]:
        """Return the accessible names of a chart's points."""
        labels = self.page.locator(f"#plot-{chart} [aria-label]").evaluate_all(
            "all => all.map(one => one.getAttribute('aria-label'))"
        )
        return [label for label in labels if "mean" in label and "interval" in label]

    def rows(self, chart: str) -> list[list[str]]:
        found: list[list[str]] = self.page.locator(f"#table-{chart} tbody tr").evaluate_all(
            "all => all.map(row => [...row.cells].map(cell => cell.textContent))"
        )
        return found


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
    """The page in its initial state: choices, opened details and print mode of other tests are reset."""
    shared.reset()
    yield shared
    assert shared.said == []


def test_no_console_message_and_no_request(fresh: Opened, path: Path) -> None:
    assert fresh.said == []
    assert [url for url in fresh.asked if not url.startswith(("data:", "blob:"))] == [path.as_uri()]


def test_the_curves_show_the_deltas(opened: Opened, root: Path) -> None:
    rows = opened.rows("delta-images")
    expected = analysis.deltas(root, baseline="natural", source="l2", blocks=3).to_pylist()
    assert len(rows) == len(expected) == len(opened.marks("delta-images")) == 8
    for shown, row in zip(rows, sorted(expected, key=lambda row: (row["dataset"], row["images"] % 10**6)), strict=True):
        assert shown[0] == row["dataset"]
        assert float(shown[5].replace(MINUS, "-")) == pytest.approx(row["mean_delta"], abs=0.005)
        assert float(shown[6].replace(MINUS, "-")) == pytest.approx(row["ci_low"], abs=0.006)
        assert float(shown[9].replace(MINUS, "-")) == pytest.approx(row["ci_high_simultaneous"], abs=0.006)


@pytest.mark.parametrize(
    ("choice", "value", "changed", "same"),
    [
        ("source", "linf", ["delta-images", "delta-epoch"], []),
        ("baseline", "linf", ["delta-images", "delta-epoch"], []),
        ("blocks", "1", ["accuracy-images", "accuracy-epoch"], []),
        ("dataset", "mnist", ["delta-images", "accuracy-epoch"], []),
        ("epoch", "11", ["delta-images", "accuracy-images"], ["delta-epoch", "accuracy-epoch"]),
        ("images", "50", ["accuracy-epoch"], ["delta-images", "accuracy-images"]),
    ],
)
def test_choices_change_marks_and_numbers_in_place(
    opened: Opened, choice: str, value: str, changed: list[str], same: list[str]
) -> None:
    charts = [*changed, *same]
    before = {chart: (opened.marks(chart), opened.rows(chart)) for chart in charts}
    opened.choose(choice, value)
    after = {chart: (opened.marks(chart), opened.rows(chart)) for chart in charts}
    for chart in changed:
        assert after[chart][0] != before[chart][0]
        assert after[chart][1] != before[chart][1]
    for chart in same:
        assert after[chart] == before[chart]
    assert opened.said == []


@pytest.mark.parametrize("chart", ["delta-images", "accuracy-images", "delta-epoch", "accuracy-epoch"])
def test_every_chart_has_a_legend_of_its_datasets(opened: Opened, chart: str) -> None:
    drawn = opened.page.locator(f"#plot-{chart} .role-legend-label text").all_text_contents()
    assert drawn == ["digits", "mnist"]


@pytest.mark.usefixtures("no_figure_files")
def test_one_size_alone_shows_its_interval(browser: "Browser", build: Build) -> None:
    made = Opened(browser, analysis.report(build.root(build.arms([50.0, 51.0, 52.0], [55.0, 57.0, 58.0]))))
    for chart in ("delta-images", "accuracy-images", "delta-epoch", "accuracy-epoch"):
        heights = made.page.locator(f"#plot-{chart} .mark-rule.role-mark line[stroke-width='3']").evaluate_all(
            "all => all.map(one => one.getBoundingClientRect().height)"
        )
        assert heights
        assert min(heights) > 10
    assert made.said == []
    made.context.close()


def test_turning_a_comparison_round_turns_the_sign(opened: Opened) -> None:
    before = [row[5] for row in opened.rows("delta-images")]
    opened.choose("source", "natural")
    opened.choose("baseline", "l2")
    after = [row[5] for row in opened.rows("delta-images")]
    assert after == [value.replace("+", MINUS) for value in before]
    opened.choose("baseline", "natural")
    assert opened.page.inner_text("#said") == "Choose two different sources to see a delta."
    assert opened.said == []


def test_by_keyboard_alone(fresh: Opened) -> None:
    fresh.page.keyboard.press("Tab")
    assert fresh.page.evaluate("document.activeElement.className") == "skip"
    fresh.page.focus("select[name=blocks]")
    before = fresh.rows("accuracy-images")
    fresh.page.keyboard.press("ArrowUp")
    fresh.page.wait_for_selector("select[name=blocks]:has(option[value='1']:checked)", state="attached")
    fresh.wait()
    assert fresh.rows("accuracy-images") != before
    fresh.page.focus("#figures-of-the-paper summary >> nth=0")
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


@pytest.mark.parametrize("width", [1280, 390])
def test_axe_finds_nothing(browser: "Browser", path: Path, width: int) -> None:
    axe = module(
        "axe_playwright_python.sync_playwright", "that the page is accessible", "`pip install axe-playwright-python`"
    )
    made = Opened(browser, path, width)
    for details in made.page.locator("details").all():
        details.evaluate("one => { one.open = true }")
    found = axe.Axe().run(made.page)
    assert found.violations_count == 0, found.generate_report()
    made.context.close()


def test_a_phone_scrolls_down_only(browser: "Browser", path: Path) -> None:
    made = Opened(browser, path, 390)
    assert made.page.evaluate("document.documentElement.scrollWidth") <= 390
    assert present(made.page.locator("#plot-delta-images svg").bounding_box())["width"] <= 390
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
    assert "l2 minus natural, blocks 3, last epoch; linf minus natural, blocks 1, epoch 11" in said


def test_headlines_in_words(opened: Opened) -> None:
    said = " ".join(opened.page.inner_text("#headline-deltas").split())
    assert (
        "l2 minus natural (last 3 blocks, last epoch, partly declared in advance): the interval is above zero in 8 "
        "of 8 cells and below zero in none; after Holm correction over 4 cells of the contrasts of mine, 2 of 2 "
        "differ"
    ) in said
    assert "digits: +4.25 points at 50 images (+3.63 to +4.87, n = 3)" in said


def test_a_contrast_at_a_numbered_epoch_is_a_headline(opened: Opened, root: Path) -> None:
    """Its headline has its own blocks and epoch, and the p-value that ``deltas`` gives it over the whole family."""
    said = " ".join(opened.page.inner_text("#headline-deltas").split())
    assert "linf minus natural (last block, epoch 11, declared in advance): the interval is" in said
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
    values = {name: made.page.input_value(f"select[name={name}]") for name in ("source", "baseline", "blocks", "epoch")}
    assert values == {"source": "robust", "baseline": "natural", "blocks": "1", "epoch": "11"}
    assert "robust minus natural after epoch 11: 1 point;" in made.page.inner_text("#said")
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
    made.choose("source", "other")
    made.choose("baseline", "one")
    assert [row[5] for row in made.rows("delta-images")] == ["+5.00"]
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
    assert made.page.locator("#choices select[name=source] option").all_inner_texts() == sorted(["natural", trap])
    made.choose("source", trap)
    made.choose("baseline", "natural")
    assert made.page.evaluate("window.ran") is None
    made.page.evaluate("trap => { document.body.innerHTML = trap }", trap)
    made.page.wait_for_function("window.ran === 1", timeout=30_000)  # if inserted as HTML, it runs
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
    assert len(made.rows("delta-images")) == 60
    made.context.close()
