"""The data of the paper's figures 2, 3, 4, 5, 8, 10 and 11 (by their numbers in the paper)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Literal

import pandas as pd

from analysis.evaluations.frames import at_epoch, whole_last
from analysis.evaluations.lengths import apart_remark
from analysis.figures.drawing.axis import ACCURACY, AXES, DELTA, IMAGES
from analysis.figures.drawing.model import Figure, Panel
from analysis.figures.drawing.style import ordered
from analysis.figures.points import accuracy_points, delta_points, named_variants, with_variants_named
from analysis.figures.roles import NOTHING, Known, Role, cast, need
from analysis.figures.scene import WITHOUT_BLOCKS, Scene
from analysis.words import blocks_text
from jobs.errors import Code, InvalidRequest

_NONE: Mapping[str, str] = {}
_LEFT_OUT = "not shown, for lack of trials or pairs of these sources at these depths and sizes: {}"


def figure(name: str, data: pd.DataFrame, words: Mapping[str, str] = _NONE, known: Known = NOTHING) -> Figure:
    """Return the data of a figure of the paper from any evaluations (``analysis.evaluations.frames.frame``).

    Args:
        words: descriptions of recipes, by digest, for legends.
        known: what studies say of the sources.

    Raises:
        InvalidRequest: for an unknown name, or when the results lack what the figure shows.
    """
    if name not in FIGURES:
        raise InvalidRequest(
            Code.UNKNOWN_NAME, f"expected one of the figures {', '.join(FIGURES)}; got {name!r}", key="name"
        )
    if data.empty:
        raise InvalidRequest(Code.NO_ANSWER, f"Figure {name} needs finished trials; there are none yet")
    return _made(name, Scene(data, cast(data, known)), named_variants(data, words))


def figures(
    data: pd.DataFrame, words: Mapping[str, str] = _NONE, known: Known = NOTHING
) -> tuple[list[Figure], list[str]]:
    """Return all figures that the evaluations allow, and why the others are missing.

    A figure that would show what an earlier one shows is missing, too: of few sizes, the same are the nearest to those
    of Figures 3 and 10; with one robust source, Figure 11 has the panels of Figure 4.

    Args:
        data: evaluations, not empty.
        words, known: as in ``figure``.
    """
    shown: list[Figure] = []
    missing: list[str] = []
    scene, names = Scene(data, cast(data, known)), named_variants(data, words)
    for name in FIGURES:
        try:
            made = _made(name, scene, names)
        except InvalidRequest as error:
            missing.append(str(error))
            continue
        twin = next((known for known in shown if _shows_the_same(known, made)), None)
        if twin is None:
            shown.append(made)
        else:
            missing.append(f"Figure {name} shows what Figure {twin.name.removeprefix('figure')} shows in these results")
    return shown, missing


def _shows_the_same(one: Figure, other: Figure) -> bool:
    """Return whether two figures have the same panels, except for their titles."""
    return [_shown(panel) for panel in one.panels] == [_shown(panel) for panel in other.panels]


def _shown(panel: Panel) -> tuple[object, ...]:
    title_is_arm = panel.quantity == DELTA
    points = panel.points.drop(columns="arm") if title_is_arm else panel.points
    return panel.quantity, panel.against, panel.by, panel.row, points.to_csv(index=False)


def _made(name: str, scene: Scene, variants: Mapping[str, str]) -> Figure:
    """Return a figure in which variants are named, with a remark on those that it does not show."""
    try:
        made = FIGURES[name](scene)
    except InvalidRequest as error:
        raise InvalidRequest(error.code, f"Figure {name} {error}", **error.place._asdict()) from None
    shown = {key for panel in made.panels for key in panel.points["variant"]}
    left_out = sorted(variants[key] for key in variants.keys() - shown)
    remark = [_LEFT_OUT.format("; ".join(left_out))] if left_out else []
    return replace(made, panels=with_variants_named(made.panels, variants), notes=(*made.notes, *remark))


def names_of(data: pd.DataFrame, sources: Iterable[str] = ()) -> dict[str, list[str]]:
    """Return the names of the series in figures of these evaluations, in the order in which looks are assigned.

    Args:
        sources: further sources of the root.
    """
    depths = sorted(set(data["blocks"]), key=whole_last)
    return {
        "dataset": ordered(set(data["dataset"])),
        "source": sorted({*data["source"], *sources}),
        "blocks": [blocks_text(depth) for depth in depths],
    }


def _figure2(scene: Scene) -> Figure:
    source, natural = need(scene.parts, Role.L2), need(scene.parts, Role.NATURAL)
    blocks = scene.blocks((source, natural))
    arms = scene.of(source, blocks), scene.of(natural, blocks)
    return Figure(
        name="figure2",
        title="Accuracy and delta by number of training images",
        caption="(a) Test accuracy after the last epoch. (b) Difference between the two sources, paired by seed. "
        f"{blocks_text(blocks)} fine-tuned.",
        panels=(
            _accuracy("(a) test accuracy", *arms),
            _delta(f"(b) {source} minus {natural}", *arms),
        ),
        notes=_lengths(*arms),
    )


def _figure3(scene: Scene) -> Figure:
    return _learning(scene, "figure3", (3200,))


def _figure10(scene: Scene) -> Figure:
    return _learning(scene, "figure10", (800, 12800))


def _figure4(scene: Scene) -> Figure:
    return _numbers_of_blocks(scene, "figure4", [need(scene.parts, Role.L2)])


def _figure11(scene: Scene) -> Figure:
    sources = [scene.parts[part] for part in (Role.L2, Role.LINF_SMALL, Role.LINF_LARGE) if part in scene.parts]
    if not sources:
        need(scene.parts, Role.L2)
    return _numbers_of_blocks(scene, "figure11", sources)


def _figure5(scene: Scene) -> Figure:
    robust = [need(scene.parts, part) for part in (Role.L2, Role.LINF_SMALL, Role.LINF_LARGE)]
    l2, small, large = robust
    pairs = [(small, large), (l2, small), (l2, large)]
    blocks = scene.blocks(*pairs)
    arms = {source: scene.of(source, blocks) for source in robust}
    present = sorted({name for arm in arms.values() for name in arm["dataset"]})
    shown = [name for name in ("cifar10", "svhn") if name in present]
    shown = (shown + [name for name in present if name not in shown])[:2]
    accuracy = [
        _accuracy(
            f"({letter}) {name}",
            *(_only(arm, dataset=name) for arm in arms.values()),
            series="source",
            row="Robust sources",
        )
        for letter, name in zip("ab", shown, strict=False)
    ]
    drawn, verb = f"({', '.join('ab'[: len(shown)])})", "shows" if len(shown) == 1 else "show"
    as_there = shown == ["cifar10", "svhn"]
    other = [] if as_there else [f"{drawn} {verb} {', '.join(shown)}; the paper shows cifar10 and svhn"]
    return Figure(
        name="figure5",
        title="Comparison of robust sources",
        caption=f"{drawn} Test accuracy of the robust sources after the last epoch. (c\N{EN DASH}e) Differences "
        f"between two of them, paired by seed. {blocks_text(blocks)} fine-tuned.",
        panels=(
            *accuracy,
            *(
                _delta(f"({letter}) {left} minus {right}", arms[left], arms[right], row="Differences")
                for letter, (left, right) in zip("cde", pairs, strict=True)
            ),
        ),
        columns=3,
        notes=(*other, *_lengths(*arms.values())),
    )


def _figure8(scene: Scene) -> Figure:
    natural = need(scene.parts, Role.NATURAL)
    attacked = [need(scene.parts, part) for part in (Role.L2, Role.PGD1, Role.GAUSSIAN)]
    blocks = scene.blocks(*((source, natural) for source in attacked))
    arms = {source: scene.of(source, blocks) for source in (natural, *attacked)}
    return Figure(
        name="figure8",
        title="Effect of the source's adversary: PGD, PGD(1), Gaussian noise",
        caption="Differences in test accuracy after the last epoch, paired by seed, for sources trained with (a) PGD, "
        f"(b) PGD(1), (c) Gaussian noise. {blocks_text(blocks)} fine-tuned.",
        panels=tuple(
            _delta(f"({letter}) {source} minus {natural}", arms[source], arms[natural])
            for letter, source in zip("abc", attacked, strict=True)
        ),
        columns=3,
        notes=_lengths(*arms.values()),
    )


def _learning(scene: Scene, name: str, wanted: tuple[int, ...]) -> Figure:
    """Figures 3 and 10: accuracy and delta by epoch, at given sizes."""
    source, natural = need(scene.parts, Role.L2), need(scene.parts, Role.NATURAL)
    blocks = scene.blocks((source, natural))
    arms = scene.of(source, blocks), scene.of(natural, blocks)
    sizes = [scene.size(source, natural, blocks, size) for size in wanted]
    panels: list[Panel] = []
    shown: list[pd.DataFrame] = []
    for number, size in enumerate(dict.fromkeys(sizes), start=1):
        prefix = f"{number}" if len(wanted) > 1 else ""
        left, right = (_only(arm, images=size) for arm in arms)
        shown += [left, right]
        panels.append(_accuracy(f"(a{prefix}) test accuracy, {size:,} images", left, right, against="epoch"))
        panels.append(_delta(f"(b{prefix}) {source} minus {natural}, {size:,} images", left, right, against="epoch"))
    missing = ", ".join(f"{size:,}" for size in wanted if size not in sizes)
    other = [f"The paper shows {missing} images; the nearest size in these results is shown instead"] if missing else []
    return Figure(
        name=name,
        title="Accuracy and delta during fine-tuning",
        caption="(a) Test accuracy during fine-tuning. (b) Difference between the two sources after the same epoch, "
        f"paired by seed. {blocks_text(blocks)} fine-tuned.",
        panels=tuple(panels),
        notes=(*other, *_lengths(*shown)),
    )


def _numbers_of_blocks(scene: Scene, name: str, sources: list[str]) -> Figure:
    """Figures 4 and 11: one panel per dataset with a curve for each number of blocks, then the delta between two."""
    depths = {source: scene.two_depths(source) for source in sources}
    panels: list[Panel] = []
    notes: dict[str, None] = {}
    for source in sources:
        mine = at_epoch(scene.data[scene.data["source"] == source], "last")
        for dataset in ordered(set(mine["dataset"])):
            points = accuracy_points(_only(mine, dataset=dataset), "blocks", "images")
            panels.append(
                Panel(
                    title=f"(a) {dataset}",
                    quantity=ACCURACY,
                    against=IMAGES,
                    points=_named_blocks(points),
                    by="blocks",
                    row=source,
                )
            )
        high, low = depths[source]
        arms = _only(mine, blocks=high), _only(mine, blocks=low)
        points = delta_points(*arms, "dataset", "images", source, WITHOUT_BLOCKS)
        title = f"(b) {blocks_text(high)} minus {low}"
        _require_pairs(points, f"{title} of {source}", *arms, by="blocks")
        panels.append(Panel(title=title, quantity=DELTA, against=IMAGES, points=points, row=source))
        notes |= dict.fromkeys(_lengths(mine, by="blocks"))
    return Figure(
        name=name,
        title="Accuracy by number of fine-tuned blocks",
        caption="(a) Test accuracy after the last epoch, by number of fine-tuned blocks. (b) Difference between two "
        "numbers of blocks, paired by seed.",
        panels=tuple(panels),
        columns=4,
        notes=tuple(notes),
    )


def _accuracy(
    title: str,
    *arms: pd.DataFrame,
    series: Literal["dataset", "source"] = "dataset",
    against: Literal["images", "epoch"] = "images",
    row: str = "",
) -> Panel:
    rows = pd.concat(arms)
    rows = at_epoch(rows, "last") if against == "images" else rows
    points = accuracy_points(rows, series, against)
    return Panel(title=title, quantity=ACCURACY, against=AXES[against], points=points, by=series, row=row)


def _delta(
    title: str,
    left: pd.DataFrame,
    right: pd.DataFrame,
    against: Literal["images", "epoch"] = "images",
    row: str = "",
) -> Panel:
    if against == "images":
        left, right = at_epoch(left, "last"), at_epoch(right, "last")
    points = delta_points(left, right, "dataset", against, title)
    _require_pairs(points, title, left, right)
    return Panel(title=title, quantity=DELTA, against=AXES[against], points=points, row=row)


def _require_pairs(
    points: pd.DataFrame, what: str, *arms: pd.DataFrame, by: Literal["source", "blocks"] = "source"
) -> None:
    if points.empty:
        why = "; ".join(["the results have none", *_lengths(*arms, by=by)])
        raise InvalidRequest(Code.NO_ANSWER, f"needs pairs of trials for {what}; {why}", key="source")


def _lengths(*arms: pd.DataFrame, by: Literal["source", "blocks"] = "source") -> tuple[str, ...]:
    """Return a remark where arms have no length in common."""
    return tuple(filter(None, [apart_remark(pd.concat(arms), by)]))


def _only(data: pd.DataFrame, **values: object) -> pd.DataFrame:
    for column, value in values.items():
        data = data[data[column] == value]
    return data


def _named_blocks(points: pd.DataFrame) -> pd.DataFrame:
    return points.assign(series=[blocks_text(int(value)) for value in points["series"]])


FIGURES: dict[str, Callable[[Scene], Figure]] = {
    "2": _figure2,
    "3": _figure3,
    "4": _figure4,
    "5": _figure5,
    "8": _figure8,
    "10": _figure10,
    "11": _figure11,
}
"""Number in the paper -> function that returns its data."""
