"""The data of the paper's figures; drawing them produces identical files every time."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from scipy import stats

from analysis.evaluations.frames import frame
from analysis.figures.drawing.limits import y_limits
from analysis.figures.drawing.model import POINTS, Figure
from analysis.figures.drawing.render import draw, save
from analysis.figures.drawing.style import COLOURS, DARK_COLOURS
from analysis.figures.paper import FIGURES, figure, figures
from analysis.figures.roles import Known, Role, cast
from analysis.page.results import with_variant
from analysis.web.svg import GRID, INK, PANEL, SOFT
from analysis.web.theme import theme
from jobs.catalog.catalog import PACKAGED
from jobs.errors import Code, InvalidRequest
from jobs.specs.contrast import Contrast
from tests.analysis.support import Build, Rows, Values
from tests.support import refused

CONSTRAINTS = {"natural": ("none", 0.0), "l2": ("l2", 3.0), "small": ("linf", 0.01), "large": ("linf", 0.03)}
OTHERS = {"pgd1": ("l2", 3.0), "noise": ("gaussian", 3.0)}


@pytest.fixture
def data(build: Build) -> pd.DataFrame:
    return frame(build.table(trials(build, CONSTRAINTS | OTHERS)))


def trials(build: Build, sources: dict[str, tuple[str, float]], seeds: int = 6, **fixed: object) -> Iterator[Rows]:
    rng = np.random.default_rng(0)
    for index, (source, (constraint, epsilon)) in enumerate(sources.items()):
        for blocks in (1, 3):
            for images in (100, 3200, -1):
                for seed in range(seeds):
                    end = 50 + index + blocks + np.log2(abs(images)) + rng.normal()
                    where = {"blocks": blocks, "images": images, "constraint": constraint, "epsilon": epsilon}
                    yield build.trial(source, seed, {1: end - 20, 21: end - 3, 30: end}, **where, **fixed)


def values(data: pd.DataFrame, **where: object) -> Values:
    last = data[data["epoch"] == data["epochs"]]
    for column, value in where.items():
        last = last[last[column] == value]
    return last.sort_values("seed")["test_accuracy"].to_numpy()


def test_the_cast(data: pd.DataFrame) -> None:
    parts = {Role.NATURAL: "natural", Role.L2: "l2", Role.LINF_SMALL: "small", Role.LINF_LARGE: "large"}
    assert cast(data) == parts | {Role.PGD1: "pgd1", Role.GAUSSIAN: "noise"}


def test_of_sources_with_one_ball_the_one_with_most_trials_is_cast(build: Build) -> None:
    """Also at the largest L-infinity radius."""
    arms = [
        *trials(build, {"small": ("linf", 1.0), "large": ("linf", 4.0)}, seeds=3),
        *trials(build, {"a_large": ("linf", 4.0), "a_small": ("linf", 1.0)}, seeds=2),
    ]
    assert cast(frame(build.table(arms))) == {Role.LINF_SMALL: "small", Role.LINF_LARGE: "large"}


def test_random_initialisation_does_not_play_the_natural_source(build: Build) -> None:
    """Random initialization has no constraint either, and most trials here."""
    arms = [*trials(build, {"natural": ("none", 0.0)}), *trials(build, {"random_init": ("none", 0.0)}, seeds=9)]
    assert cast(frame(build.table(arms))) == {Role.NATURAL: "natural"}


def test_a_source_trained_in_frequencies_plays_no_part_of_the_paper(build: Build) -> None:
    """Even if the source was trained with one step, as PGD(1) was."""
    sources = {"natural": ("none", 0.0), "fmnist_pgd1_fourier_eps1": ("fourier", 1.0)}
    assert cast(frame(build.table(trials(build, sources)))) == {Role.NATURAL: "natural"}


def test_figure_2_is_accuracy_and_delta(data: pd.DataFrame) -> None:
    accuracy, delta = figure("2", data).panels
    assert list(accuracy.points.columns) == list(POINTS)
    assert accuracy.points["arm"].unique().tolist() == ["l2", "natural"]
    assert delta.points["x"].tolist() == [100, 1000, 3200]
    assert delta.points["whole"].tolist() == [False, True, False]
    differences = values(data, source="l2", blocks=3, images=100) - values(data, source="natural", blocks=3, images=100)
    oracle = stats.ttest_1samp(differences, 0).confidence_interval(0.95)
    band = stats.ttest_1samp(differences, 0).confidence_interval(1 - 0.05 / 3)
    first = delta.points.iloc[0]
    assert first["mean"] == pytest.approx(differences.mean(), abs=1e-12)
    assert (first["low"], first["high"]) == pytest.approx((oracle.low, oracle.high), abs=1e-9)
    assert (first["low_simultaneous"], first["high_simultaneous"]) == pytest.approx((band.low, band.high), abs=1e-9)
    assert first["n"] == 6


def test_accuracy_intervals_are_scipys(data: pd.DataFrame) -> None:
    accuracy, _ = figure("2", data).panels
    row = accuracy.points[(accuracy.points["arm"] == "natural") & (accuracy.points["x"] == 3200)].iloc[0]
    found = values(data, source="natural", blocks=3, images=3200)
    oracle = stats.ttest_1samp(found, 0).confidence_interval(0.95)
    assert (row["mean"], row["low"], row["high"]) == pytest.approx((found.mean(), oracle.low, oracle.high), abs=1e-9)


def test_figure_3_takes_the_papers_size_and_says_when_it_cannot(data: pd.DataFrame) -> None:
    made = figure("3", data)
    assert made.panels[0].title == "(a) test accuracy, 3,200 images"
    assert made.panels[1].points["x"].tolist() == [1, 21, 30]
    assert figure("10", data).notes == (
        "The paper shows 800, 12,800 images; the nearest size in these results is shown instead",
    )


def test_figure_4_compares_blocks_of_one_source(data: pd.DataFrame) -> None:
    *_, delta = figure("4", data).panels
    differences = values(data, source="l2", blocks=3, images=100) - values(data, source="l2", blocks=1, images=100)
    assert (delta.row, delta.title) == ("l2", "(b) 3 blocks minus 1")
    assert delta.points.iloc[0]["mean"] == pytest.approx(differences.mean(), abs=1e-12)
    assert len(figure("11", data).panels) == 3 * 2


def test_figures_5_and_8_compare_constraints(data: pd.DataFrame) -> None:
    assert [panel.title for panel in figure("5", data).panels[1:]] == [
        "(c) small minus large",
        "(d) l2 minus small",
        "(e) l2 minus large",
    ]
    assert [panel.title for panel in figure("8", data).panels] == [
        "(a) l2 minus natural",
        "(b) pgd1 minus natural",
        "(c) noise minus natural",
    ]


def test_what_is_missing_is_named(build: Build) -> None:
    few = frame(build.table(trials(build, {"natural": ("none", 0.0), "l2": ("l2", 3.0)}, seeds=2)))
    with refused(Code.NO_ANSWER, "Figure 8", "'l2 by PGD(1)'", "l2: l2", kind=InvalidRequest, key="source"):
        figure("8", few)
    with refused(Code.UNKNOWN_NAME, "2, 3, 4, 5, 8, 10, 11", "'7'", kind=InvalidRequest, key="name"):
        figure("7", few)
    with refused(Code.NO_ANSWER, "Figure 2", kind=InvalidRequest):
        figure("2", few.iloc[:0])


def test_what_an_earlier_figure_shows_is_not_shown_again(build: Build, data: pd.DataFrame) -> None:
    """Of three sizes, 3,200 images are the nearest to all that Figures 3 and 10 show; one robust source has one row."""
    pair = frame(build.table(trials(build, {"natural": ("none", 0.0), "l2": ("l2", 3.0)}, seeds=2)))
    shown, missing = figures(pair)
    assert [one.name for one in shown] == ["figure2", "figure3", "figure4"]
    assert "Figure 11 shows what Figure 4 shows in these results" in missing
    shown, missing = figures(data)
    different = [f"figure{number}" for number in (2, 3, 4, 5, 8, 11)]
    assert [one.name for one in shown] == different
    assert missing == ["Figure 10 shows what Figure 3 shows in these results"]
    more = data.assign(**{name: data[name].replace(100, 800) for name in ("images", "images_used")})
    shown, missing = figures(more)
    assert ([one.name for one in shown], missing) == ([*different[:-1], "figure10", "figure11"], [])


def test_imported_trials_stand_beside_own_ones(build: Build, data: pd.DataFrame) -> None:
    arms = {"natural": ("none", 0.0), "l2": ("l2", 3.0)}
    both = [*trials(build, arms), *trials(build, arms, origin="imported", recipe="imported", numerics=None)]
    made = figure("2", frame(build.table(both)))
    assert set(made.panels[1].points["variant"]) == {"own trials", "imported"}
    assert set(figure("2", data).panels[1].points["variant"]) == {""}
    told = {text.get_text() for legend in draw(made).legends for text in legend.get_texts()}
    assert told >= {f"{source}, {origin}" for source in ("l2", "natural") for origin in ("own trials", "imported")}


def test_each_length_of_a_cell_is_a_curve_of_its_own(build: Build) -> None:
    arms = [*build.arms([50, 51, 52], [55, 56, 59]), *build.arms([60], [99], epochs=1)]
    longer = [
        build.trial(source, 9, {1: 10.0, 200: 20.0 + better}) for source, better in (("natural", 0), ("robust", 9))
    ]
    made = figure("2", frame(build.table([*arms[:6], *longer])))
    points = made.panels[1].points
    assert dict(zip(points["variant"], points["n"], strict=True)) == {
        "own trials, 1 epoch": 3,
        "own trials, 200 epochs": 1,
    }
    told = {text.get_text() for legend in draw(made).legends for text in legend.get_texts()}
    assert told >= {"natural, own trials, 1 epoch", "robust, own trials, 200 epochs"}


def test_curves_by_epoch_are_of_one_length(build: Build) -> None:
    short = [build.trial(s, i, {1: v, 30: v + 1}) for s, v in (("natural", 10.0), ("l2", 20.0)) for i in range(3)]
    often = dict.fromkeys((1, 21, 41, 61, 81, 100), 70.0)
    long = [build.trial(source, i, often) for source in ("natural", "l2") for i in range(2)]
    for panel in figure("3", frame(build.table([*short, *long]))).panels:
        of = dict([*panel.points.groupby("variant")])
        assert set(of["own trials, 30 epochs"]["x"]) == {1, 30}
        assert set(of["own trials, 100 epochs"]["x"]) == set(often)
        assert set(of["own trials, 30 epochs"]["n"]) == {3}


def test_wide_intervals_of_few_trials_do_not_rule_the_axis(build: Build) -> None:
    few = frame(build.table(build.arms([50.0, 60.0], [55.0, 80.0])))
    panel = figure("2", few).panels[1]
    low, high = y_limits(panel.points, panel.quantity)
    assert -2 < low < 0
    assert 12.5 < high < 15


def test_an_interval_is_drawn_where_its_neighbours_have_none(build: Build) -> None:
    """One size stands alone, and one lies between single pairs, where a shaded area between the bounds has no width."""
    seeds = {100: 1, 200: 5, 400: 1, 800: 5, 1600: 5}
    trials = [
        rows
        for images, n in seeds.items()
        for rows in build.arms(np.arange(n) + 50.0, np.arange(n) * 1.5 + 55.0, images=images)
    ]
    axes = draw(figure("2", frame(build.table(trials)))).axes[1]
    bars = [
        np.asarray(path.vertices)
        for one in axes.collections
        if isinstance(one, LineCollection)
        for path in one.get_paths()
    ]
    assert [bar[0, 0] for bar in bars] == [200, 200]
    interval = stats.ttest_1samp(np.arange(5) * 0.5 + 5, 0).confidence_interval(0.95)
    assert bars[1][:, 1] == pytest.approx([interval.low, interval.high])


def test_files_are_the_same_every_time(data: pd.DataFrame, tmp_path: Path) -> None:
    made = figure("2", data)
    first, second = (save(made, tmp_path / name) for name in ("a", "b"))
    assert [path.suffix for path in first] == [".png", ".svg", ".pdf"]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_can_be_drawn(data: pd.DataFrame, name: str) -> None:
    made = figure(name, data)
    canvas = draw(made)
    assert len([ax for ax in canvas.axes if ax.axison]) == len(made.panels)
    for ax, panel in zip(canvas.axes, made.panels, strict=False):
        assert ax.get_title(loc="left") == panel.title
        assert ax.get_xscale() == ("log" if panel.against.column == "images" else "linear")
    assert set(made.table()["panel"]) == {panel.title for panel in made.panels}


def luminance(colour: str) -> float:
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot([0.2126, 0.7152, 0.0722], linear))


def test_colours_stand_out_from_white() -> None:
    """WCAG's minimum contrast for graphics is 3; the green has 2.6 and therefore keeps its marker."""
    assert sum(1.05 / (luminance(colour) + 0.05) < 3 for colour in COLOURS) <= 1


def test_colours_stand_out_on_a_dark_page() -> None:
    found = re.search(r"prefers-color-scheme: dark.*?--paper: (#\w{6})", theme(), re.DOTALL)
    assert found is not None
    paper = luminance(found[1]) + 0.05
    assert min((luminance(colour) + 0.05) / paper for colour in DARK_COLOURS) >= 3


def test_a_drawing_has_the_light_colours_of_the_page() -> None:
    light = dict(re.findall(r"--(\w+): (#\w+);", theme().partition("@media")[0]))
    light["panel"] = light["panel"].replace("#fff", "#ffffff")
    assert (light["ink"], light["soft"], light["grid"], light["panel"]) == (INK, SOFT, GRID, PANEL)


def test_a_variant_has_one_name_in_all_panels(build: Build) -> None:
    """Even in a panel without other variants: a recipe that was run with only one source has no deltas."""
    both = [
        *trials(build, {"natural": ("none", 0.0), "l2": ("l2", 3.0)}, recipe="both"),
        *trials(build, {"natural": ("none", 0.0)}, recipe="natural alone"),
    ]
    accuracy, delta = figure("2", frame(build.table(both))).panels
    assert set(accuracy.points["variant"]) == {"own trials, recipe both", "own trials, recipe natural alone"}
    assert set(delta.points["variant"]) == {"own trials, recipe both"}


def test_a_frame_shows_two_points_of_percent_at_least(build: Build) -> None:
    alone = frame(build.table([build.trial(source, 0, {1: 84.5}) for source in ("natural", "l2")]))
    for panel in figure("2", alone.assign(epochs=1)).panels:
        low, high = y_limits(panel.points, panel.quantity)
        assert high - low > 2
        assert low < panel.points["mean"].iloc[0] < high


@pytest.mark.parametrize(
    ("variants", "names"),
    [
        ([{}, {"origin": "imported", "recipe": "imported", "numerics": None}], {"own trials", "imported"}),
        (
            [{"numerics": 2}, {"numerics": 3}, {"origin": "imported", "recipe": "imported", "numerics": None}],
            {"own trials, numerics 2", "own trials, numerics 3", "imported"},
        ),
        ([{"numerics": 2}, {"numerics": 3}], {"own trials, numerics 2", "own trials, numerics 3"}),
        ([{"recipe": "a"}, {"recipe": "b"}], {"own trials, slow", "own trials, recipe b"}),
    ],
)
def test_legends_name_variants_as_headlines_do(
    build: Build, variants: list[dict[str, object]], names: set[str]
) -> None:
    sources = {"natural": ("none", 0.0), "l2": ("l2", 3.0)}
    rows = [one for columns in variants for one in trials(build, sources, seeds=2, **columns)]
    data, words = frame(build.table(rows)), {"a": "slow"}
    assert set(figure("2", data, words).panels[0].points["variant"]) == names
    assert set(with_variant(data, words)["variant"]) == names


def two_studies(build: Build) -> list[Rows]:
    """Return the trials of two studies: one of the last block alone, and one of three blocks with another source."""
    return [
        build.trial(source, seed, 50.0 + seed * number, blocks=blocks, constraint=constraint, dataset=dataset)
        for blocks, dataset, sources in (
            (1, "digits", {"natural": "none", "l2": "l2"}),
            (3, "mnist", {"natural": "none", "linf": "linf"}),
        )
        for number, (source, constraint) in enumerate(sources.items(), 1)
        for seed in range(3)
    ]


def test_a_figure_has_the_depth_that_its_sources_share(build: Build) -> None:
    made = figure("2", frame(build.table(two_studies(build))))
    assert "1 block fine-tuned." in made.caption
    assert [len(panel.points) > 0 for panel in made.panels] == [True, True]
    apart = [rows for rows in two_studies(build) if (rows[0]["source"], rows[0]["blocks"]) != ("natural", 1)]
    with refused(Code.NO_ANSWER, "Figure 2", "l2, natural", kind=InvalidRequest, key="blocks"):
        figure("2", frame(build.table(apart)))


def test_all_blocks_are_the_largest_number(build: Build) -> None:
    sources = {"natural": "none", "l2": "l2"}
    rows = [
        build.trial(source, seed, 50.0 + seed, blocks=blocks, constraint=constraint)
        for source, constraint in sources.items()
        for blocks in (1, -1)
        for seed in range(2)
    ]
    data = frame(build.table(rows))
    assert "all blocks fine-tuned." in figure("2", data).caption
    assert figure("4", data).panels[-1].title == "(b) all blocks minus 1"


def test_a_figure_without_pairs_is_not_drawn(build: Build) -> None:
    rows = [build.trial(source, seed, 50.0) for source, seed in (("natural", 1), ("l2", 2))]
    with refused(Code.NO_ANSWER, "Figure 2", "(b) l2 minus natural", kind=InvalidRequest, key="source"):
        figure("2", frame(build.table(rows)))


def test_datasets_of_other_depths_are_not_in_figure_5(build: Build) -> None:
    robust = {"l2": ("l2", 3.0), "small": ("linf", 0.01), "large": ("linf", 0.03)}
    deep = list(trials(build, robust, seeds=2, dataset="svhn"))
    flat = [rows for rows in trials(build, robust, seeds=2, dataset="cifar10") if rows[0]["blocks"] == 1]
    made = figure("5", frame(build.table([*deep, *flat])))
    assert [panel.title for panel in made.panels[:2]] == ["(a) svhn", "(c) small minus large"]
    assert all(len(panel.points) for panel in made.panels)


def test_figures_by_epoch_take_a_size_of_both_sources(build: Build) -> None:
    sources = {"natural": ("none", 0.0), "l2": ("l2", 3.0)}
    more = [build.trial("l2", seed, {1: 30.0, 30: 50.0 + seed}, images=6400) for seed in range(2)]
    few = [rows for rows in trials(build, sources, seeds=2) if rows[0]["images"] == 100]
    assert figure("3", frame(build.table([*few, *more]))).panels[0].title == "(a) test accuracy, 100 images"


OLD: dict[str, Any] = {"origin": "imported", "recipe": "imported", "numerics": None}
PAIR = {"natural": ("none", 0.0), "l2": ("l2", 3.0)}


def learned(build: Build, images: int, blocks: int = 3, seeds: Iterable[int] = range(3), **columns: Any) -> list[Rows]:
    """Return trials of a natural and an L2 source, evaluated twice."""
    return [
        build.trial(source, seed, {1: 40.0, 30: 50.0 + seed * number}, images=images, blocks=blocks, **columns)
        for number, source in enumerate(PAIR)
        for seed in seeds
    ]


def shown_in(made: Figure) -> set[str]:
    return {name for panel in made.panels for name in panel.points["variant"]}


def test_a_figure_of_one_origin_says_which_and_what_it_leaves_out(build: Build) -> None:
    old = [rows for size in (100, 3200) for rows in learned(build, size, **OLD)]
    both = frame(build.table([*old, *learned(build, 100), *learned(build, 3200, recipe="other")]))
    words = {"other": "a new one"}
    made = figure("3", both, words)
    assert shown_in(made) == {"imported", "own trials, a new one"}
    (note,) = made.notes
    assert note.startswith(
        "not shown, for lack of trials or pairs of these sources at these depths and sizes: own trials"
    )
    assert "a new one" not in note
    told = {text.get_text() for legend in draw(made).legends for text in legend.get_texts()}
    assert "l2, own trials, a new one" in told
    assert figure("2", both, words).notes == (), "it shows all sizes"


def test_one_variant_of_several_is_in_the_legend(build: Build) -> None:
    other = [build.trial("linf", seed, {30: 50.0}, constraint="linf", **OLD) for seed in range(2)]
    made = figure("2", frame(build.table([*learned(build, 100), *other])))
    assert shown_in(made) == {"own trials"}
    assert made.notes[0].endswith(": imported")
    told = {text.get_text() for legend in draw(made).legends for text in legend.get_texts()}
    assert told >= {"l2, own trials", "natural, own trials"}


def test_depths_and_sizes_are_those_of_own_pairs(build: Build) -> None:
    """Imported trials have three blocks and 3,200 images, as the paper's figures; own trials have one and 400."""
    own = learned(build, 400, blocks=1)
    old = [rows for blocks in (1, 3) for size in (400, 3200) for rows in learned(build, size, blocks, **OLD)]
    both = frame(build.table([*own, *old]))
    for name in ("2", "3"):
        made = figure(name, both)
        assert "1 block fine-tuned." in made.caption
        assert shown_in(made) == {"own trials", "imported"}
    assert figure("3", both).panels[0].title == "(a) test accuracy, 400 images"
    unpaired = frame(build.table([*own[:3], *old]))
    assert "3 blocks fine-tuned." in figure("2", unpaired).caption, "those of imported pairs"


def test_a_size_and_a_depth_are_chosen_among_those_with_pairs(build: Build) -> None:
    """Of each dataset one source has 3,200 images, and three blocks."""
    halves = [
        *learned(build, 3200, dataset="mnist")[:3],
        *learned(build, 3200, dataset="digits")[3:],
        *learned(build, 400, blocks=1, dataset="digits"),
        *learned(build, 100, dataset="digits"),
    ]
    made = figure("3", frame(build.table(halves)))
    assert [panel.title for panel in made.panels] == [
        "(a) test accuracy, 100 images",
        "(b) l2 minus natural, 100 images",
    ]
    made = figure("3", frame(build.table(halves[:-6])))
    assert "1 block fine-tuned." in made.caption
    assert len(made.panels[1].points)


def test_two_depths_have_pairs(build: Build) -> None:
    rows = [
        build.trial("l2", seed, 50.0 + seed, blocks=blocks)
        for blocks, seeds in ((0, (0, 1)), (1, (2, 3)), (3, (0, 1)), (9, (4, 5)))
        for seed in seeds
    ]
    assert figure("4", frame(build.table(rows))).panels[-1].title == "(b) 3 blocks minus 0"


NETWORKS = {
    "fmnist_resnet18_natural": "none",
    "fmnist_resnet18_l2_eps1": "l2",
    "fmnist_vit6_natural": "none",
    "fmnist_vit6_l2_eps1": "l2",
}


def of_networks(build: Build, *left_out: tuple[str, int]) -> pd.DataFrame:
    trials = [
        build.trial(source, seed, 50.0 + seed, constraint=constraint)
        for source, constraint in NETWORKS.items()
        for seed in range(4)
        if (source, seed) not in left_out
    ]
    return frame(build.table(trials))


def test_sources_of_two_architectures_are_not_compared(build: Build) -> None:
    data = of_networks(build, ("fmnist_resnet18_natural", 0))
    assert cast(data) == {Role.NATURAL: "fmnist_vit6_natural", Role.L2: "fmnist_vit6_l2_eps1"}
    apart = data[data["source"].isin(["fmnist_resnet18_natural", "fmnist_vit6_l2_eps1"])]
    assert len(cast(apart)) == 1


def test_declared_contrasts_determine_who_is_compared(build: Build) -> None:
    data = of_networks(build, ("fmnist_resnet18_natural", 0))
    mixed = Contrast(source="fmnist_vit6_l2_eps1", baseline="fmnist_resnet18_natural", blocks=(3,))
    first = Contrast(source="fmnist_resnet18_l2_eps1", baseline="fmnist_resnet18_natural", blocks=(3,))
    parts = {Role.NATURAL: first.baseline, Role.L2: first.source}
    assert cast(data, Known([first, mixed])) == parts
    assert cast(data, Known([mixed]))[Role.L2] == mixed.source, "a study may ask for it"
    none = data[(data["source"] != first.source) | (data["seed"] == 0)]
    assert cast(none, Known([first]))[Role.L2] == "fmnist_vit6_l2_eps1", "the declared contrast has no pair"


def test_architectures_are_also_those_of_cards_that_studies_define(build: Build) -> None:
    arms = [*trials(build, {"natural": ("none", 0.0)}), *trials(build, {"mine": ("l2", 3.0)})]
    data = frame(build.table(arms))
    assert cast(data) == {Role.NATURAL: "natural", Role.L2: "mine"}
    card = PACKAGED.sources["resnet18_l2_eps3"].model_copy(update={"name": "mine"})
    assert len(cast(data, Known(sources={"mine": card}))) == 1


def test_figure_5_names_the_panels_that_it_has(build: Build) -> None:
    robust = {"l2": ("l2", 3.0), "small": ("linf", 0.01), "large": ("linf", 0.03)}
    one = figure("5", frame(build.table(trials(build, robust, seeds=2, dataset="cifar10"))))
    assert one.caption.startswith("(a) Test accuracy")
    assert one.notes == ("(a) shows cifar10; the paper shows cifar10 and svhn",)
    two = [rows for name in ("svhn", "cifar10") for rows in trials(build, robust, seeds=2, dataset=name)]
    both = figure("5", frame(build.table(two)))
    assert both.caption.startswith("(a, b) Test accuracy")
    assert both.notes == ()
