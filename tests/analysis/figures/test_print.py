"""Printed figures are 5.5 inches wide and legible at that size, in colour, in grey, and to colour-blind readers."""

import io
from itertools import combinations, product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure as Canvas
from matplotlib.text import Text
from numpy.typing import NDArray
from PIL import Image

from analysis.evaluations.frames import COLUMNS
from analysis.figures.drawing.axis import ACCURACY, EPOCH
from analysis.figures.drawing.layout import TEXT_POINTS, wrapped
from analysis.figures.drawing.model import Figure, Panel
from analysis.figures.drawing.render import draw, drawing, save
from analysis.figures.drawing.style import COLOURS, DARK_COLOURS, SMALLEST_POINTS, WIDTH_INCHES, looks, ordered
from analysis.figures.influence_matrices import matrices
from analysis.figures.paper import FIGURES, figure
from analysis.figures.visualize import features
from tests.analysis.examined import visualized, weighed
from tests.support import present

DATASETS = ("cifar100", "cifar10", "svhn", "fmnist", "kmnist", "mnist")
SOURCES = {
    "natural": ("none", 0.0),
    "l2_eps3": ("l2", 3.0),
    "linf_eps4": ("linf", 4 / 255),
    "linf_eps8": ("linf", 8 / 255),
    "pgd1_l2_eps3": ("l2", 3.0),
    "gaussian_l2_eps3": ("gaussian", 3.0),
}
DEPTHS = (0, 1, 3, 9)
SIZES = (100, 800, 3200, 12800, -1)

SIGHT = {
    "all colours": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
"""Matrices for linear sRGB at severity 1.0 (Machado, Oliveira and Fernandes 2009, Table 1)."""

_XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


Drawn = dict[str, tuple[Figure, Canvas]]
"""Figures by name."""


def lab(colour: str, sight: Any) -> NDArray[np.float64]:
    """Return the CIE L*a*b* (D65) coordinates of a colour as perceived."""
    channels = np.array(to_rgb(colour))
    linear = np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)
    seen = np.clip(np.array(sight) @ linear, 0, 1)
    ratio = _XYZ @ seen / _XYZ.sum(1)
    root = np.where(ratio > 216 / 24389, np.cbrt(ratio), (24389 / 27 * ratio + 16) / 116)
    return np.array([116 * root[1] - 16, 500 * (root[0] - root[1]), 200 * (root[1] - root[2])])


@pytest.fixture(scope="module", params=[1, 4, 6], ids="{} datasets".format)
def data(request: pytest.FixtureRequest) -> pd.DataFrame:
    return evaluations(request.param, lambda images: 6)


@pytest.fixture(scope="module")
def drawn(data: pd.DataFrame) -> Drawn:
    """Every figure, rendered once."""
    made = {name: figure(name, data) for name in FIGURES}
    found = {name: (one, draw(one)) for name, one in made.items()}
    for _, canvas in found.values():
        canvas.draw_without_rendering()
    return found


@pytest.fixture(scope="module")
def few() -> pd.DataFrame:
    """Three seeds of one size, and two of another."""
    return evaluations(2, lambda images: {800: 3, 3200: 2}.get(images, 6))


def evaluations(datasets: int, seeds: Any) -> pd.DataFrame:
    """Return evaluations in the format of ``frame``, with the paper's source names."""
    rng = np.random.default_rng(0)
    rows = [
        (
            *(f"{source}-{dataset}-{blocks}-{images}-{seed}", source, *SOURCES[source], dataset, blocks, images),
            *(50_000 if images < 0 else images, seed, epoch, 30, "0123456789ab", 2, "run"),
            *(end - 20 / epoch, "x"),
        )
        for source, dataset, blocks, images in product(SOURCES, DATASETS[:datasets], DEPTHS, SIZES)
        for seed in range(seeds(images))
        for end in [50 + blocks + 3 * DATASETS.index(dataset) + rng.normal()]
        for epoch in (1, 11, 30)
    ]
    return pd.DataFrame(rows, columns=list(COLUMNS)).assign(length="", main=True)


@pytest.mark.parametrize(
    "names",
    [DATASETS, list(SOURCES)[:4], [f"{blocks} blocks" for blocks in DEPTHS], list("abcdefgh")],
    ids=["datasets", "sources", "depths", "eight"],
)
@pytest.mark.parametrize("dark", [False, True])
def test_no_two_series_of_a_legend_look_alike(names: list[str], dark: bool) -> None:
    found = looks(names)
    for one, other in combinations(names, 2):
        assert found[one].marker != found[other].marker
        colours = [found[name].colour for name in (one, other)]
        first, second = (DARK_COLOURS[COLOURS.index(colour)] if dark else colour for colour in colours)
        for sight, seen in SIGHT.items():
            distance = np.linalg.norm(lab(first, seen) - lab(second, seen))
            assert distance > 20, (one, other, sight)
        grey = [lab(colour, np.eye(3))[0] for colour in (first, second)]
        assert abs(grey[0] - grey[1]) > 8, (one, other, "grey")


def test_a_name_keeps_its_look_in_a_report() -> None:
    order = ordered(["digits", *DATASETS])
    assert order == [*DATASETS, "digits"]
    assert looks(["svhn", "mnist"], order)["mnist"] == looks(order)["mnist"]
    many = [f"s{number:02}" for number in range(40)]
    assert len(set(looks(many, many).values())) == 40
    assert looks(["s30", "s39"], many) == looks(["s30", "s39"]), "more names than looks: by place in the legend"


@pytest.mark.parametrize("name", FIGURES)
def test_no_two_curves_of_a_panel_are_drawn_alike(drawn: Drawn, name: str) -> None:
    made, canvas = drawn[name]
    for ax, panel in zip(canvas.axes, made.panels, strict=True):
        found = [look_of(line) for line in ax.lines if line.get_marker() != "None"]
        curves = panel.points.groupby(["series", "arm", "variant"]).ngroups
        assert len(found) == len(set(found)) == curves


def look_of(line: Any) -> tuple[Any, ...]:
    return line.get_color(), line.get_marker(), line.get_fillstyle(), str(line._dash_pattern)


def test_variants_and_arms_are_told_apart() -> None:
    points = [
        {"series": series, "arm": arm, "variant": variant, "x": x, "mean": float(x), "n": 1}
        for series, arm, variant, x in product("ab", ("one", "other"), ("u", "v", "w", "x", "y"), (1, 2))
    ]
    none = dict.fromkeys(("low", "high", "low_simultaneous", "high_simultaneous"), np.nan)
    table = pd.DataFrame(points).assign(whole=False, **none)
    panel = Panel(title="t", quantity=ACCURACY, against=EPOCH, points=table)
    canvas = draw(Figure(name="f", title="t", caption="c", panels=(panel,)))
    drawn = [look_of(line) for line in canvas.axes[0].lines]
    assert len(set(drawn)) == len(drawn) == 20
    assert said(canvas) >= {"a", "b", *(f"{arm}, {variant}" for arm in ("one", "other") for variant in "uvwxy")}
    told = [look_of(line)[2:] for legend in canvas.legends for line in legend.get_lines()]
    assert {look[2:] for look in drawn} <= set(told), "what tells curves of one series apart is in a legend"


def said(canvas: Canvas) -> set[str]:
    return {text.get_text() for legend in canvas.legends for text in legend.get_texts()}


@pytest.mark.parametrize("name", FIGURES)
def test_figures_fit_the_papers_width_and_can_be_read_there(drawn: Drawn, name: str) -> None:
    _, canvas = drawn[name]
    assert canvas.get_figwidth() == WIDTH_INCHES == 5.5
    texts = [one for one in canvas.findobj(Text) if isinstance(one, Text) and one.get_text()]
    assert len(texts) > 20
    assert min(float(text.get_fontsize()) for text in texts) >= SMALLEST_POINTS == 6
    box = canvas.get_tightbbox()
    assert box.x0 >= 0
    assert box.y0 >= 0
    assert box.x1 <= 5.5
    assert box.y1 <= canvas.get_figheight()


@pytest.mark.parametrize("name", FIGURES)
def test_panels_and_their_numbers_do_not_lie_on_each_other(drawn: Drawn, name: str) -> None:
    _, canvas = drawn[name]
    boxes = [ax.get_tightbbox() for ax in canvas.axes]
    for one, other in combinations(boxes, 2):
        assert one is not None
        assert other is not None
        assert min(one.x1, other.x1) - max(one.x0, other.x0) < 1 or min(one.y1, other.y1) - max(one.y0, other.y0) < 1


@pytest.mark.parametrize("name", FIGURES)
def test_a_caption_has_two_lines(drawn: Drawn, name: str) -> None:
    made, _ = drawn[name]
    assert len(wrapped(made.shows, TEXT_POINTS, WIDTH_INCHES - 0.12)) <= 2


def test_panels_of_several_sources_have_rows_and_names(drawn: Drawn) -> None:
    made, canvas = drawn["11"]
    assert list(dict.fromkeys(panel.row for panel in made.panels)) == ["l2_eps3", "linf_eps4", "linf_eps8"]
    names = {text.get_text(): text.get_position()[1] for text in canvas.texts}
    for source in ("l2_eps3", "linf_eps4", "linf_eps8"):
        mine = [ax for ax, panel in zip(canvas.axes, made.panels, strict=True) if panel.row == source]
        others = [ax for ax, panel in zip(canvas.axes, made.panels, strict=True) if panel.row != source]
        top, bottom = names[source], min(ax.get_position().y0 for ax in mine)
        assert all(bottom <= ax.get_position().y0 < top for ax in mine)
        assert not any(bottom < ax.get_position().y0 < top for ax in others)


@pytest.mark.parametrize("name", ["3", "10"])
def test_epochs_are_whole(drawn: Drawn, name: str) -> None:
    _, canvas = drawn[name]
    for ax in canvas.axes:
        assert all(float(tick).is_integer() for tick in ax.get_xticks())
        assert len(ax.get_xticks()) >= 2


def test_one_epoch_alone_is_a_whole_one() -> None:
    one = evaluations(1, lambda images: 6).query("epoch == 30")
    for ax in draw(figure("3", one)).axes:
        assert 30 in ax.get_xticks()
        assert all(float(tick).is_integer() for tick in ax.get_xticks())


@pytest.mark.parametrize("name", FIGURES)
def test_intervals_of_few_are_dotted_and_their_marks_small(few: pd.DataFrame, name: str) -> None:
    made = figure(name, few)
    canvas = draw(made)
    assert "2 to 4 trials or pairs: small markers, dotted bars" in said(canvas)
    for ax, panel in zip(canvas.axes, made.panels, strict=True):
        known = panel.points[panel.points["low"].notna()]
        dotted = [one for one in ax.collections if isinstance(one, LineCollection) and dashes(one)]
        assert sum(len(one.get_paths()) for one in dotted) == (known["n"] < 5).sum()
        sizes: list[float] = []
        for line in ax.lines:
            if line.get_marker() != "None":
                sizes += [line.get_markersize()] * len(np.asarray(line.get_xdata()))
        assert sizes.count(min(sizes)) == ((known["n"] < 5).sum() or len(sizes))


def dashes(one: LineCollection) -> bool:
    styles: Any = one.get_linestyle()
    return styles[0][1] is not None


def test_enough_trials_need_no_word_on_few(drawn: Drawn) -> None:
    assert not any("small markers" in text for text in said(drawn["2"][1]))


@pytest.mark.parametrize("name", FIGURES)
def test_intervals_that_are_cut_are_counted_under_the_figure(few: pd.DataFrame, name: str) -> None:
    made = figure(name, few)
    cut = shown = 0
    for ax, panel in zip(draw(made).axes, made.panels, strict=True):
        low, high = ax.get_ylim()
        firm = panel.points["n"] >= 5
        ends = panel.points[["low", "high"]].assign(
            low_simultaneous=panel.points["low_simultaneous"].where(firm),
            high_simultaneous=panel.points["high_simultaneous"].where(firm),
        )
        cut += int(((ends < low) | (ends > high)).any(axis=1).sum())
        shown += int(ends["low"].notna().sum())
    words = f"{cut} of {shown} intervals are clipped at the frame."
    assert (words in made.words) == (cut > 0)
    written = " ".join(" ".join(text.get_text().split()) for text in draw(made).texts)
    assert (words in written) == (cut > 0)
    assert cut > 0 or name not in ("2", "8"), "the data of this test"


def test_whole_intervals_are_not_said_to_be_cut(drawn: Drawn) -> None:
    assert "cut" not in drawn["2"][0].words


def test_files_are_as_wide_as_the_paper_and_the_page_leaves_the_words_out(few: pd.DataFrame, tmp_path: Path) -> None:
    made = figure("2", few)
    png, svg, pdf = save(made, tmp_path)
    with Image.open(png) as image:
        assert image.width / image.info["dpi"][0] == pytest.approx(5.5, abs=0.01)
    assert 'width="396pt"' in svg.read_text()
    assert b"/MediaBox [ 0 0 396 " in pdf.read_bytes()
    page = drawing(made).svg()
    for words in (made.title, "paired by seed"):
        assert words in svg.read_text()
        assert words not in page
    assert "(a) test accuracy" in page


def test_pictures_are_as_wide_as_the_paper() -> None:
    sources = [f"source{number}" for number in range(4)]
    shown = pd.DataFrame([row for source in sources for row in visualized(source)])
    heavy = pd.DataFrame([row for source in sources for row in weighed(0, [[7, 7, 5], [5, 7, 5]], source=source)])
    for png in (present(one.png) for one in (*features(shown), *matrices(heavy))):
        with Image.open(io.BytesIO(png)) as image:
            assert image.width / image.info["dpi"][0] == pytest.approx(5.5, abs=0.01)


def varied(*variants: str) -> pd.DataFrame:
    """Return points of two series in several variants, without intervals."""
    points = [
        {"series": series, "arm": "one", "variant": variant, "x": x, "mean": float(x), "n": 1}
        for series, variant, x in product("ab", variants, (1, 2))
    ]
    none = dict.fromkeys(("low", "high", "low_simultaneous", "high_simultaneous"), np.nan)
    return pd.DataFrame(points).assign(whole=False, **none)


def drawn_with(*points: pd.DataFrame) -> Canvas:
    panels = tuple(Panel(title="t", quantity=ACCURACY, against=EPOCH, points=one) for one in points)
    canvas = draw(Figure(name="f", title="t", caption="c", panels=panels))
    canvas.draw_without_rendering()
    return canvas


def test_long_names_stay_within_the_figure_and_above_its_panels() -> None:
    names = [f"own trials, frozen_batchnorm batch, normalization {letter * 90}, numerics 2" for letter in "xyz"]
    canvas = drawn_with(varied(*names))
    lines = [text.get_text() for legend in canvas.legends for text in legend.get_texts()]
    assert any("\n" in line for line in lines)
    assert {"".join(line.split()) for line in lines} >= {"".join(name.split()) for name in names}
    boxes = [legend.get_window_extent() for legend in canvas.legends]
    assert all(box.x1 <= canvas.bbox.x1 for box in boxes)
    above = [present(ax.get_tightbbox()).y1 for ax in canvas.axes]
    assert min(box.y0 for box in boxes) >= max(above) - 1
    for one, other in combinations(boxes, 2):
        assert min(one.y1, other.y1) - max(one.y0, other.y0) < 1


def test_a_panel_without_points_may_come_first() -> None:
    points = varied("u", "v")
    assert said(drawn_with(points.iloc[:0], points)) >= {"a", "b", "u", "v"}


def test_intervals_without_width_are_told_under_the_figure() -> None:
    points = varied("u").assign(n=2, low=[1.0, 2.0, 0.5, 2.0], high=[1.0, 2.0, 1.5, 2.0])
    panel = Panel(title="t", quantity=ACCURACY, against=EPOCH, points=points)
    words = "In 3 points all values are equal: an interval without width, not precision."
    assert Figure(name="f", title="t", caption="c", panels=(panel,)).remarks == [words]
