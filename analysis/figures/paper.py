"""The paper's figures by name: 2, 3, 4, 5, 8, 10, 11 (numbers of the paper), as data."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import pandas as pd

from analysis.figures.model import Figure, Panel
from analysis.figures.points import accuracy_points, delta_points, with_variants_named
from analysis.figures.roles import Part, cast, need
from analysis.figures.style import ordered
from analysis.frames import at_epoch
from analysis.pairing import CELL
from jobs.errors import Code, InvalidRequest
from jobs.specs import ALL

BLOCKS = 3
"""The paper's headline figures fine-tune three blocks."""

_WITHOUT_BLOCKS = tuple(key for key in CELL if key != "blocks")


class _Scene(NamedTuple):
    """What all figures start from."""

    data: pd.DataFrame
    parts: dict[Part, str]
    blocks: int
    names: Mapping[str, Sequence[str]]
    notes: tuple[str, ...]
    """What is to be said of every figure."""

    def of(self, source: str, blocks: int | None = None) -> pd.DataFrame:
        """All evaluations of a source at some blocks (None: those of the headline figures)."""
        wanted = self.blocks if blocks is None else blocks
        return self.data[(self.data["source"] == source) & (self.data["blocks"] == wanted)]


def figure(name: str, data: pd.DataFrame) -> Figure:
    """The data of a figure of the paper from any evaluations (``analysis.frames.frame``).

    Raises:
        InvalidRequest: for an unknown name, or when the results lack what the figure shows.
    """
    if name not in FIGURES:
        raise InvalidRequest(Code.UNKNOWN_NAME, f"a figure is one of {', '.join(FIGURES)}; it is {name!r}", key="name")
    if data.empty:
        raise InvalidRequest(Code.NO_ANSWER, f"figure {name} needs finished trials; there are none yet")
    return _made(name, _scene(data, names_of(data)))


def figures(data: pd.DataFrame, names: Mapping[str, Sequence[str]]) -> tuple[list[Figure], list[str]]:
    """All figures that the evaluations allow, and why the others are missing; neither where there is no evaluation.

    Args:
        names: what all figures of a report tell apart (``names_of``).
    """
    found: list[Figure] = []
    missing: list[str] = []
    if data.empty:
        return found, missing
    scene = _scene(data, names)
    for name in FIGURES:
        try:
            found.append(_made(name, scene))
        except InvalidRequest as error:
            missing.append(str(error))
    return found, missing


def _scene(data: pd.DataFrame, names: Mapping[str, Sequence[str]]) -> _Scene:
    return _Scene(data, cast(data), _headline_blocks(data), names, tuple(_several_lengths(data)))


def _made(name: str, scene: _Scene) -> Figure:
    try:
        made = FIGURES[name](scene)
    except InvalidRequest as error:
        raise InvalidRequest(error.code, f"figure {name} {error}", **error.place._asdict()) from None
    panels = with_variants_named(made.panels)
    return replace(made, panels=panels, notes=(*made.notes, *scene.notes), names=scene.names)


def names_of(data: pd.DataFrame, sources: Iterable[str] = ()) -> dict[str, list[str]]:
    """What figures of these evaluations tell apart, in the order in which looks are given out.

    Args:
        sources: others that a report shows.
    """
    return {
        "dataset": ordered(set(data["dataset"])),
        "source": sorted({*data["source"], *sources}),
        "blocks": [_blocks_text(blocks) for blocks in sorted(set(data["blocks"]), key=lambda one: (one == ALL, one))],
    }


def _figure2(scene: _Scene) -> Figure:
    source, natural = need(scene.parts, Part.L2), need(scene.parts, Part.NATURAL)
    return Figure(
        name="figure2",
        title="Accuracy and delta by number of training images",
        caption="(a) Test accuracy after the last epoch. (b) The difference of the two sources, paired by seed. "
        f"{_blocks_text(scene.blocks)} fine-tuned.",
        panels=(
            _accuracy("(a) test accuracy", scene.of(source), scene.of(natural)),
            _delta(f"(b) {source} minus {natural}", scene.of(source), scene.of(natural)),
        ),
    )


def _figure3(scene: _Scene) -> Figure:
    return _learning(scene, "figure3", (3200,))


def _figure10(scene: _Scene) -> Figure:
    return _learning(scene, "figure10", (800, 12800))


def _figure4(scene: _Scene) -> Figure:
    return _numbers_of_blocks(scene, "figure4", [need(scene.parts, Part.L2)])


def _figure11(scene: _Scene) -> Figure:
    sources = [scene.parts[part] for part in (Part.L2, Part.LINF_SMALL, Part.LINF_LARGE) if part in scene.parts]
    if not sources:
        need(scene.parts, Part.L2)
    return _numbers_of_blocks(scene, "figure11", sources)


def _figure5(scene: _Scene) -> Figure:
    robust = [need(scene.parts, part) for part in (Part.L2, Part.LINF_SMALL, Part.LINF_LARGE)]
    l2, small, large = robust
    present = sorted(set(scene.data.loc[scene.data["source"].isin(robust), "dataset"]))
    shown = [name for name in ("cifar10", "svhn") if name in present]
    shown = (shown + [name for name in present if name not in shown])[:2]
    accuracy = [
        _accuracy(
            f"({letter}) {name}",
            *(_only(scene.of(one), dataset=name) for one in robust),
            series="source",
            row="Robust sources",
        )
        for letter, name in zip("ab", shown, strict=False)
    ]
    pairs = [("c", small, large), ("d", l2, small), ("e", l2, large)]
    return Figure(
        name="figure5",
        title="Robust sources against one another",
        caption="(a, b) Test accuracy of the robust sources after the last epoch. (c) to (e) Differences of two, "
        f"paired by seed. {_blocks_text(scene.blocks)} fine-tuned.",
        panels=(
            *accuracy,
            *(
                _delta(f"({letter}) {left} minus {right}", scene.of(left), scene.of(right), row="One minus another")
                for letter, left, right in pairs
            ),
        ),
        columns=3,
        notes=() if shown == ["cifar10", "svhn"] else (f"(a, b) show {', '.join(shown)}; the paper: cifar10, svhn",),
    )


def _figure8(scene: _Scene) -> Figure:
    natural = need(scene.parts, Part.NATURAL)
    attacked = [need(scene.parts, part) for part in (Part.L2, Part.PGD1, Part.GAUSSIAN)]
    return Figure(
        name="figure8",
        title="What the source's adversary adds: PGD, PGD(1), Gaussian noise",
        caption="Differences of test accuracy after the last epoch, paired by seed, for sources trained by (a) PGD, "
        f"(b) PGD(1), (c) Gaussian noise. {_blocks_text(scene.blocks)} fine-tuned.",
        panels=tuple(
            _delta(f"({letter}) {source} minus {natural}", scene.of(source), scene.of(natural))
            for letter, source in zip("abc", attacked, strict=True)
        ),
        columns=3,
    )


def _learning(scene: _Scene, name: str, wanted: tuple[int, ...]) -> Figure:
    """Figures 3 and 10: accuracy and delta against the epoch, at given sizes."""
    source, natural = need(scene.parts, Part.L2), need(scene.parts, Part.NATURAL)
    sizes = [_nearest(scene.of(source)["images"], size) for size in wanted]
    panels = []
    for number, size in enumerate(dict.fromkeys(sizes), start=1):
        prefix = f"{number}" if len(wanted) > 1 else ""
        left, right = _only(scene.of(source), images=size), _only(scene.of(natural), images=size)
        panels.append(_accuracy(f"(a{prefix}) test accuracy, {size:,} images", left, right, against="epoch"))
        panels.append(_delta(f"(b{prefix}) {source} minus {natural}, {size:,} images", left, right, against="epoch"))
    missing = [f"{size:,}" for size in wanted if size not in sizes]
    return Figure(
        name=name,
        title="Accuracy and delta while fine-tuning",
        caption="(a) Test accuracy while fine-tuning. (b) The difference of the two sources after the same epoch, "
        f"paired by seed. {_blocks_text(scene.blocks)} fine-tuned.",
        panels=tuple(panels),
        notes=(f"The paper shows {', '.join(missing)} images; these results have none, so the nearest size is shown",)
        if missing
        else (),
    )


def _numbers_of_blocks(scene: _Scene, name: str, sources: list[str]) -> Figure:
    """Figures 4 and 11: one panel a dataset with a curve for each number of blocks, then the delta 3 minus 1."""
    for source in sources:
        _two_blocks(scene.data[scene.data["source"] == source])  # before anything is computed
    panels = []
    for source in sources:
        mine = at_epoch(scene.data[scene.data["source"] == source], "last")
        for dataset in ordered(set(mine["dataset"])):
            points = accuracy_points(_only(mine, dataset=dataset), "blocks", "images")
            panels.append(
                Panel(
                    title=f"(a) {dataset}",
                    quantity="accuracy",
                    against="images",
                    points=_named_blocks(points),
                    by="blocks",
                    row=source,
                )
            )
        high, low = _two_blocks(mine)
        points = delta_points(
            _only(mine, blocks=high), _only(mine, blocks=low), "dataset", "images", source, _WITHOUT_BLOCKS
        )
        title = f"(b) {_blocks_text(high)} minus {low}"
        panels.append(Panel(title=title, quantity="delta", against="images", points=points, row=source))
    return Figure(
        name=name,
        title="Accuracy by number of fine-tuned blocks",
        caption="(a) Test accuracy after the last epoch by number of fine-tuned blocks. (b) The difference between two "
        "numbers of blocks, paired by seed.",
        panels=tuple(panels),
        columns=4,
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
    return Panel(title=title, quantity="accuracy", against=against, points=points, by=series, row=row)


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
    return Panel(title=title, quantity="delta", against=against, points=points, row=row)


def _several_lengths(data: pd.DataFrame) -> list[str]:
    lengths = data.groupby(["source", "dataset", "blocks", "images", "recipe", "numerics", "origin"])[
        "epochs"
    ].nunique()
    return ["Where trials of a cell differ in length, the most frequent length is shown"] if (lengths > 1).any() else []


def _only(data: pd.DataFrame, **values: object) -> pd.DataFrame:
    for column, value in values.items():
        data = data[data[column] == value]
    return data


def _headline_blocks(data: pd.DataFrame) -> int:
    """Three, as in the paper; where no trial has three, the largest number there is."""
    present = set(data["blocks"])
    return BLOCKS if BLOCKS in present else int(max(present))


def _two_blocks(data: pd.DataFrame) -> tuple[int, int]:
    present = sorted(set(data["blocks"]) - {ALL})
    if {1, BLOCKS} <= set(present):
        return BLOCKS, 1
    if len(present) < 2:
        raise InvalidRequest(
            Code.NO_ANSWER,
            f"compares numbers of fine-tuned blocks; the results have only {present or 'all blocks'}",
            key="blocks",
        )
    return present[-1], present[0]


def _nearest(sizes: "pd.Series[int]", wanted: int) -> int:
    """The size nearest to ``wanted`` in ratio."""
    present = sorted(set(sizes) - {ALL})
    if not present:
        raise InvalidRequest(
            Code.NO_ANSWER, f"shows subsets of about {wanted:,} images; the results have none", key="images"
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
"""Number in the paper -> its data."""
