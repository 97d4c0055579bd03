"""Figures 2 and 3 with own trials and imported published trials on common axes, compared cell by cell."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

import pandas as pd

from analysis.evaluations.frames import HEADLINE_BLOCKS, Epoch, at_epoch
from analysis.evaluations.lengths import lengths_text
from analysis.evaluations.recipes import Choices
from analysis.figures.drawing.axis import ACCURACY, AXES, DELTA
from analysis.figures.drawing.model import INTERVALS, Figure, Panel
from analysis.figures.points import accuracy_points, delta_points
from analysis.figures.roles import Role, cast
from analysis.paired.contrasts import Comparison, Declared
from analysis.paired.table import delta_cells
from analysis.statistics.paired_t import FEW_VALUES, ROUNDING
from analysis.tables.model import Table, TableRow
from analysis.tables.published import NOT_COMPARED, PUBLISHED, Agreement, listed, other_choices, other_length
from analysis.words import counted, in_a_sentence, of_few, without_width
from jobs.specs.base import ALL

_OWN, _PUBLISHED = "own trials", "published trials"
_FIGURE_3 = 3200  # images
_PLACE = ["dataset", "images"]
_EITHER = "differences of own or of published trials"
Against: TypeAlias = Literal["images", "epoch"]
_IMPORT = (
    "No published trials have been imported, so there is no comparison. `deltasweep import-trials FILE.csv --results "
    "ROOT` imports the authors' file: results/consolidated_results.csv in the history of "
    "utrerf/robust_transfer_learning."
)


class Beside(NamedTuple):
    """Own and published trials in one figure, and their deltas in a table."""

    figure: Figure
    table: Table


class Published(NamedTuple):
    """The comparisons with the published trials."""

    pairs: list[Beside]
    why_not: str
    """Why there is no comparison, in a sentence or two; otherwise empty."""


class _Arms(NamedTuple):
    """Trials of the L2 source and the natural one, own or published."""

    rows: pd.DataFrame
    source: str
    natural: str

    def narrowed(self, cells: pd.DataFrame, epochs: str) -> "_Arms":
        """Keep only the trials of some cells, with the length in the cells' column ``epochs``."""
        kept = cells[[*_PLACE, epochs]].rename(columns={epochs: "epochs"})
        rows = self.rows.merge(kept, on=[*_PLACE, "epochs"], how="inner")
        return self._replace(rows=rows.assign(length=""))  # a single one in each cell

    def of(self, source: str, dataset: str) -> pd.DataFrame:
        return self.rows[(self.rows["source"] == source) & (self.rows["dataset"] == dataset)]

    def deltas(self, epoch: Epoch) -> pd.DataFrame:
        """Return one row per cell with pairs (``delta_cells``)."""
        cells = delta_cells(self.rows, [Comparison(self.source, self.natural)], Declared(()), epoch)
        return cells[cells["n_pairs"] > 0]


def beside_published(data: pd.DataFrame, recipes: Mapping[str, Choices]) -> Published:
    """Return Figures 2 and 3 for the cells that own and imported trials share; own trials are those of one recipe.

    It is the recipe of the published trials if there are such trials, else, of the newest numerics, the one with most
    trials. Where a cell has trials of several lengths, trials of equal length are compared if both sides have them.

    Args:
        data: evaluations of a root (``frames.frame``).
        recipes: the choices of recorded recipes, by digest.
    """
    imported = data["origin"] == "imported"
    if not imported.any():
        return Published([], _IMPORT)
    parts = cast(data[imported])
    if not {Role.L2, Role.NATURAL} <= parts.keys():
        return Published(
            [], "The imported trials do not include a natural and an L2 source, which Figures 2 and 3 compare."
        )
    source, natural = parts[Role.L2], parts[Role.NATURAL]
    shown = data[data["source"].isin([source, natural]) & (data["blocks"] == HEADLINE_BLOCKS)]
    published = shown[shown["origin"] == "imported"]
    places = published[_PLACE].drop_duplicates()
    own, others = _one_recipe(shown[shown["origin"] != "imported"].merge(places, on=_PLACE, how="inner"), recipes)
    arms = _Arms(own, source, natural), _Arms(published, source, natural)
    nothing = (
        f"No cell (dataset, images) has pairs of {source} and {natural} at {HEADLINE_BLOCKS} blocks among both the own "
        "and the imported trials."
    )
    if own.empty or published.empty:
        return Published([], nothing)
    cells = _matched(arms[0].deltas("last"), arms[1].deltas("last"), _PLACE)
    if cells.empty:
        return Published([], nothing)
    recipe = recipes.get(str(own["recipe"].iloc[0]))
    choices = {name: other_choices(recipe, str(name)) for name in cells["dataset"].unique()}
    ours, theirs = arms[0].narrowed(cells, "epochs_own"), arms[1].narrowed(cells, "epochs_published")
    pairs = [Beside(_figure("2", ours, theirs), _table("2", cells, choices, others))]
    sizes = sorted(set(cells["images"]) - {ALL}, key=lambda size: max(size / _FIGURE_3, _FIGURE_3 / size))
    if sizes:
        at_size = cells[cells["images"] == sizes[0]]
        ours, theirs = arms[0].narrowed(at_size, "epochs_own"), arms[1].narrowed(at_size, "epochs_published")
        epochs = _matched(ours.deltas("all"), theirs.deltas("all"), [*_PLACE, "epoch"])
        pairs.append(Beside(_figure("3", ours, theirs), _table("3", epochs, choices, others)))
    return Published(pairs, "")


def _one_recipe(own: pd.DataFrame, recipes: Mapping[str, Choices]) -> tuple[pd.DataFrame, int]:
    """Return the trials of the recipe and numerics to show, and the number of all other trials."""
    if own.empty:
        return own, 0
    last = own[own["epoch"] == own["epochs"]]
    recipes_run = last.groupby(["recipe", "numerics"]).size().reset_index(name="n")
    recipes_run["like"] = [
        not any(other_choices(recipes.get(recipe), name) for name in last["dataset"].unique())
        for recipe in recipes_run["recipe"]
    ]
    chosen = recipes_run.sort_values(["like", "numerics", "n", "recipe"]).iloc[-1]
    mine = (own["recipe"] == chosen["recipe"]) & (own["numerics"] == chosen["numerics"])
    return own[mine], int(own.loc[~mine, "trial_id"].nunique())


def _matched(own: pd.DataFrame, published: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Return one row per shared cell, of equal lengths if there are any, else of the lengths with most pairs."""
    both = own.merge(published, on=keys, suffixes=("_own", "_published"))
    both["same"] = both["epochs_own"] == both["epochs_published"]
    order = ["same", "n_pairs_own", "n_pairs_published", "epochs_own", "epochs_published"]
    best = both.sort_values(order, kind="stable").drop_duplicates(keys, keep="last")
    return best.sort_values(["dataset", "images_used_own", *keys[2:]], ignore_index=True)


def _figure(number: str, ours: _Arms, theirs: _Arms) -> Figure:
    against: Against = "images" if number == "2" else "epoch"
    datasets = sorted(set(ours.rows["dataset"]))
    panels = [panel for name in datasets for panel in _panels(name, against, ours, theirs)]
    size = "" if number == "2" else f" on {int(ours.rows['images'].iloc[0]):,} images"
    when = "after the last epoch" if number == "2" else "during fine-tuning"
    return Figure(
        name=f"figure{number}-published",
        title=f"Figure {number}: own and published trials",
        caption=f"Test accuracy {when}{size}, with {HEADLINE_BLOCKS} blocks fine-tuned, and the difference between the "
        f"two sources, paired by seed. Filled: {_OWN}; hollow: {_PUBLISHED}.",
        intervals=f"{ours.source} and {ours.natural}, in the cells that both share: {_OWN} of "
        f"{lengths_text(ours.rows['epochs'])}, {_PUBLISHED} of {lengths_text(theirs.rows['epochs'])}. {INTERVALS}",
        panels=tuple(panels),
        columns=2,
    )


def _panels(dataset: str, against: Against, ours: _Arms, theirs: _Arms) -> tuple[Panel, Panel]:
    accuracy, delta = [], []
    for arms, variant in ((ours, _OWN), (theirs, _PUBLISHED)):
        left, right = (arms.of(source, dataset) for source in (arms.source, arms.natural))
        if against == "images":
            left, right = at_epoch(left, "last"), at_epoch(right, "last")
        accuracy.append(accuracy_points(pd.concat([left, right]), "dataset", against).assign(variant=variant))
        what = f"{arms.source} minus {arms.natural}"
        delta.append(delta_points(left, right, "dataset", against, what).assign(variant=variant))
    return (
        Panel(
            title=f"{dataset}: test accuracy",
            quantity=ACCURACY,
            against=AXES[against],
            points=pd.concat(accuracy, ignore_index=True),
        ),
        Panel(
            title=f"{dataset}: difference",
            quantity=DELTA,
            against=AXES[against],
            points=pd.concat(delta, ignore_index=True),
        ),
    )


def _table(number: str, cells: pd.DataFrame, choices: Mapping[str, tuple[str, ...]], others: int) -> Table:
    unlike = [
        "; ".join([*other_length(row["epochs_own"], row["epochs_published"]), *choices[row["dataset"]]])
        for row in cells.to_dict("records")
    ]
    rows = cells.assign(unlike=unlike, difference=cells["mean_delta_own"] - cells["mean_delta_published"])
    by_epoch = number == "3"
    both = [f"{which} {what}" for which in ("own", "published") for what in ("delta", "interval", "n", "epochs")]
    columns = ("dataset", "images", *(["epoch"] if by_epoch else []), *both, "difference")
    return Table(
        name=f"figure{number}-published-deltas",
        title=f"Deltas of Figure {number}: own and published trials (percentage points)",
        columns=(*columns, "other settings (published)"),
        rows=tuple(_row(row, by_epoch) for row in rows.to_dict("records")),
        numbers=frozenset(columns[1:]),
        notes=_notes(rows, others),
    )


def _row(row: dict[Any, Any], by_epoch: bool) -> TableRow:
    size = "all" if row["images"] == ALL else f"{row['images']:,}"
    arms = []
    for which in ("own", "published"):
        low, high = row[f"ci_low_{which}"], row[f"ci_high_{which}"]
        interval = "" if pd.isna(low) else f"{low:+.2f} to {high:+.2f}"
        arms += [
            f"{row[f'mean_delta_{which}']:+.2f}",
            interval,
            str(row[f"n_pairs_{which}"]),
            str(row[f"epochs_{which}"]),
        ]
    at = [str(row["epoch"])] if by_epoch else []
    return (str(row["dataset"]), size, *at, *arms, f"{row['difference']:+.2f}", str(row["unlike"]))


def _notes(rows: pd.DataFrame, others: int) -> tuple[str, ...]:
    like, unlike = rows[rows["unlike"] == ""], rows[rows["unlike"] != ""]
    notes = []
    if like.empty:
        notes.append("No cell has own trials with the recipe and length of the published ones.")
    else:
        largest = like["difference"].abs().max()
        notes.append(
            f"{counted(len(like), 'row')} with the published trials' recipe ({PUBLISHED}, although they record none) "
            f"and length: the largest difference is {largest:.2f} percentage points; {_overlap(like)}."
        )
    if not unlike.empty:
        differences, verb = ", ".join(listed(unlike["unlike"])), "differs" if len(unlike) == 1 else "differ"
        notes.append(f"Not counted: {counted(len(unlike), 'row')} that {verb} in recipe or length: {differences}.")
    limits = [*_few(rows)]
    if equal := int((_narrow(unlike, "own") | _narrow(unlike, "published")).sum()):
        limits.append(without_width(equal, "row", _EITHER))
    if limits:
        notes.append(in_a_sentence(limits))
    if others:
        notes.append(f"Own trials of a single recipe are shown; {counted(others, 'trial')} of others are left out.")
    return (*notes, NOT_COMPARED)


def _overlap(like: pd.DataFrame) -> str:
    known = like["ci_low_own"].notna() & like["ci_low_published"].notna()
    overlap = (like["ci_low_own"] <= like["ci_high_published"]) & (like["ci_low_published"] <= like["ci_high_own"])
    width = ~(_narrow(like, "own") | _narrow(like, "published"))
    single = "no row has two pairs of own and of published trials"
    return Agreement(known, width, overlap).words("the intervals overlap", single, _EITHER)


def _narrow(rows: pd.DataFrame, which: str) -> "pd.Series[bool]":
    """Return in which rows an interval has no width."""
    return rows[f"ci_high_{which}"] - rows[f"ci_low_{which}"] < ROUNDING


def _few(rows: pd.DataFrame) -> list[str]:
    """Return a clause on the rows with an interval of few pairs."""
    pairs = rows[["n_pairs_own", "n_pairs_published"]].to_numpy()
    few = (pairs > 1) & (pairs < FEW_VALUES)
    number, known = few.any(axis=1).sum(), (pairs > 1).any(axis=1).sum()
    where = "" if number == known else f" in {counted(int(number), 'row')}"
    return [of_few(pairs[few].tolist(), where)] if number else []
