"""The data of the paper's figures 2, 3, 4, 5, 8, 10 and 11 (by their numbers in the paper)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Literal, NamedTuple

import pandas as pd

from analysis.evaluations.frames import HEADLINE_BLOCKS, at_epoch, headline_blocks, shared_blocks, whole_last
from analysis.evaluations.lengths import apart_remark
from analysis.figures.drawing.axis import ACCURACY, AXES, DELTA, IMAGES
from analysis.figures.drawing.model import Figure, Panel
from analysis.figures.drawing.style import ordered
from analysis.figures.points import accuracy_points, delta_points, with_variants_named
from analysis.figures.roles import Role, cast, need
from analysis.paired.pairing import CELL
from jobs.errors import Code, InvalidRequest
from jobs.specs.base import ALL

_WITHOUT_BLOCKS = tuple(key for key in CELL if key != "blocks")
_NONE: Mapping[str, str] = {}


class _Scene(NamedTuple):
    """The input of all figures."""

    data: pd.DataFrame
    parts: dict[Role, str]

    def blocks(self, *sources: str) -> int:
        """Return the number of blocks at which a figure compares sources: three, or else the largest that all have.

        Raises:
            InvalidRequest: if there is none.
        """
        shared = shared_blocks(self.data, sources)
        if not shared:
            raise InvalidRequest(
                Code.NO_ANSWER,
                f"needs trials of {', '.join(sources)} with one number of fine-tuned blocks; there is no such number",
                key="blocks",
            )
        return headline_blocks(shared)

    def of(self, source: str, blocks: int) -> pd.DataFrame:
        """Return all evaluations of a source at some number of blocks."""
        return self.data[(self.data["source"] == source) & (self.data["blocks"] == blocks)]


def figure(name: str, data: pd.DataFrame, words: Mapping[str, str] = _NONE) -> Figure:
    """Return the data of a figure of the paper from any evaluations (``analysis.evaluations.frames.frame``).

    Args:
        words: descriptions of recipes, by digest, for legends.

    Raises:
        InvalidRequest: for an unknown name, or when the results lack what the figure shows.
    """
    if name not in FIGURES:
        raise InvalidRequest(
            Code.UNKNOWN_NAME, f"expected one of the figures {', '.join(FIGURES)}; got {name!r}", key="name"
        )
    if data.empty:
        raise InvalidRequest(Code.NO_ANSWER, f"Figure {name} needs finished trials; there are none yet")
    return _made(name, _Scene(data, cast(data)), words)


def figures(data: pd.DataFrame, words: Mapping[str, str] = _NONE) -> tuple[list[Figure], list[str]]:
    """Return all figures that the evaluations allow, and why the others are missing.

    A figure that would show what an earlier one shows is missing, too: of few sizes, the same are the nearest to those
    of Figures 3 and 10; with one robust source, Figure 11 has the panels of Figure 4.

    Args:
        data: evaluations, not empty.
        words: as in ``figure``.
    """
    shown: list[Figure] = []
    missing: list[str] = []
    scene = _Scene(data, cast(data))
    for name in FIGURES:
        try:
            made = _made(name, scene, words)
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


def _made(name: str, scene: _Scene, words: Mapping[str, str]) -> Figure:
    try:
        made = FIGURES[name](scene)
    except InvalidRequest as error:
        raise InvalidRequest(error.code, f"Figure {name} {error}", **error.place._asdict()) from None
    return replace(made, panels=with_variants_named(made.panels, words))


def names_of(data: pd.DataFrame, sources: Iterable[str] = ()) -> dict[str, list[str]]:
    """Return the names of the series in figures of these evaluations, in the order in which looks are assigned.

    Args:
        sources: further sources of the root.
    """
    depths = sorted(set(data["blocks"]), key=whole_last)
    return {
        "dataset": ordered(set(data["dataset"])),
        "source": sorted({*data["source"], *sources}),
        "blocks": [_blocks_text(depth) for depth in depths],
    }


def _figure2(scene: _Scene) -> Figure:
    source, natural = need(scene.parts, Role.L2), need(scene.parts, Role.NATURAL)
    blocks = scene.blocks(source, natural)
    arms = scene.of(source, blocks), scene.of(natural, blocks)
    return Figure(
        name="figure2",
        title="Accuracy and delta by number of training images",
        caption="(a) Test accuracy after the last epoch. (b) Difference between the two sources, paired by seed. "
        f"{_blocks_text(blocks)} fine-tuned.",
        panels=(
            _accuracy("(a) test accuracy", *arms),
            _delta(f"(b) {source} minus {natural}", *arms),
        ),
        notes=_lengths(*arms),
    )


def _figure3(scene: _Scene) -> Figure:
    return _learning(scene, "figure3", (3200,))


def _figure10(scene: _Scene) -> Figure:
    return _learning(scene, "figure10", (800, 12800))


def _figure4(scene: _Scene) -> Figure:
    return _numbers_of_blocks(scene, "figure4", [need(scene.parts, Role.L2)])


def _figure11(scene: _Scene) -> Figure:
    sources = [scene.parts[part] for part in (Role.L2, Role.LINF_SMALL, Role.LINF_LARGE) if part in scene.parts]
    if not sources:
        need(scene.parts, Role.L2)
    return _numbers_of_blocks(scene, "figure11", sources)


def _figure5(scene: _Scene) -> Figure:
    robust = [need(scene.parts, part) for part in (Role.L2, Role.LINF_SMALL, Role.LINF_LARGE)]
    l2, small, large = robust
    blocks = scene.blocks(*robust)
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
    other = (
        [] if shown == ["cifar10", "svhn"] else [f"(a, b) show {', '.join(shown)}; the paper shows cifar10 and svhn"]
    )
    pairs = [("c", small, large), ("d", l2, small), ("e", l2, large)]
    return Figure(
        name="figure5",
        title="Comparison of robust sources",
        caption="(a, b) Test accuracy of the robust sources after the last epoch. (c\N{EN DASH}e) Differences between "
        f"two of them, paired by seed. {_blocks_text(blocks)} fine-tuned.",
        panels=(
            *accuracy,
            *(
                _delta(f"({letter}) {left} minus {right}", arms[left], arms[right], row="Differences")
                for letter, left, right in pairs
            ),
        ),
        columns=3,
        notes=(*other, *_lengths(*arms.values())),
    )


def _figure8(scene: _Scene) -> Figure:
    natural = need(scene.parts, Role.NATURAL)
    attacked = [need(scene.parts, part) for part in (Role.L2, Role.PGD1, Role.GAUSSIAN)]
    blocks = scene.blocks(natural, *attacked)
    arms = {source: scene.of(source, blocks) for source in (natural, *attacked)}
    return Figure(
        name="figure8",
        title="Effect of the source's adversary: PGD, PGD(1), Gaussian noise",
        caption="Differences in test accuracy after the last epoch, paired by seed, for sources trained with (a) PGD, "
        f"(b) PGD(1), (c) Gaussian noise. {_blocks_text(blocks)} fine-tuned.",
        panels=tuple(
            _delta(f"({letter}) {source} minus {natural}", arms[source], arms[natural])
            for letter, source in zip("abc", attacked, strict=True)
        ),
        columns=3,
        notes=_lengths(*arms.values()),
    )


def _learning(scene: _Scene, name: str, wanted: tuple[int, ...]) -> Figure:
    """Figures 3 and 10: accuracy and delta by epoch, at given sizes."""
    source, natural = need(scene.parts, Role.L2), need(scene.parts, Role.NATURAL)
    blocks = scene.blocks(source, natural)
    arms = scene.of(source, blocks), scene.of(natural, blocks)
    both = set(arms[0]["images"]) & set(arms[1]["images"])
    sizes = [_nearest(both, size) for size in wanted]
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
        f"paired by seed. {_blocks_text(blocks)} fine-tuned.",
        panels=tuple(panels),
        notes=(*other, *_lengths(*shown)),
    )


def _numbers_of_blocks(scene: _Scene, name: str, sources: list[str]) -> Figure:
    """Figures 4 and 11: one panel per dataset with a curve for each number of blocks, then the delta between two."""
    for source in sources:
        _two_blocks(scene.data[scene.data["source"] == source])  # fail before computing anything
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
        high, low = _two_blocks(mine)
        arms = _only(mine, blocks=high), _only(mine, blocks=low)
        points = delta_points(*arms, "dataset", "images", source, _WITHOUT_BLOCKS)
        title = f"(b) {_blocks_text(high)} minus {low}"
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


def _two_blocks(data: pd.DataFrame) -> tuple[int, int]:
    present = sorted(set(data["blocks"]), key=whole_last)
    if {1, HEADLINE_BLOCKS} <= set(present):
        return HEADLINE_BLOCKS, 1
    if len(present) < 2:
        raise InvalidRequest(
            Code.NO_ANSWER,
            f"compares numbers of fine-tuned blocks; the results have only {_blocks_text(present[0])}",
            key="blocks",
        )
    return present[-1], present[0]


def _nearest(sizes: Iterable[int], wanted: int) -> int:
    """Return the size nearest to ``wanted`` by ratio."""
    present = sorted(set(sizes) - {ALL})
    if not present:
        raise InvalidRequest(
            Code.NO_ANSWER, f"shows subsets of about {wanted:,} images of both sources; there are none", key="images"
        )
    return int(min(present, key=lambda size: max(size / wanted, wanted / size)))


def _named_blocks(points: pd.DataFrame) -> pd.DataFrame:
    return points.assign(series=[_blocks_text(int(value)) for value in points["series"]])


def _blocks_text(blocks: int) -> str:
    if blocks == ALL:
        return "all blocks"
    return f"{blocks} block" if blocks == 1 else f"{blocks} blocks"


FIGURES: dict[str, Callable[[_Scene], Figure]] = {
    "2": _figure2,
    "3": _figure3,
    "4": _figure4,
    "5": _figure5,
    "8": _figure8,
    "10": _figure10,
    "11": _figure11,
}
"""Number in the paper -> function that returns its data."""
