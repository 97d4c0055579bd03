"""The contents of a results root, read once, and the values that all sections of the page derive from them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from analysis.evaluations.frames import frame
from analysis.evaluations.recipes import NUMERICS, Choices, apart_by_numerics, in_words, recipe_choices, recipe_words
from analysis.evaluations.variants import variant_names
from analysis.figures.drawing.style import Look, looks
from analysis.figures.exhibits import KindExhibits
from analysis.figures.paper import names_of
from analysis.page.kind_sections import kind_sections, loaded
from analysis.paired.contrasts import (
    Comparison,
    Declared,
    PlannedEquivalence,
    between_depths,
    comparisons,
    declared,
    declared_equivalences,
    planned_lengths,
)
from analysis.paired.names import sources_in
from analysis.paired.studies import own_cards
from jobs.catalog.catalog import Cards
from jobs.errors import InvalidRequest
from jobs.kind import GRID_KIND
from jobs.results import Launch, Store, StudyRecord, all_done, read_launches, read_trials, recorded_studies
from jobs.results.reader import trial_files


class OfKind(NamedTuple):
    """The trials of a kind, and the section that shows them."""

    section: KindExhibits
    rows: pd.DataFrame


@dataclass(frozen=True, kw_only=True)
class Results:
    """The fine-tuning trials of a root, and the comparisons between them."""

    store: Store
    launches: list[Launch]
    """Oldest first."""
    compare_paper: bool
    """Whether to compare with the paper's own numbers."""
    evaluations: pa.Table
    data: pd.DataFrame
    """``evaluations`` as a frame, with ``variant``, which describes what distinguishes trials besides the grid."""
    studies: list[StudyRecord]
    contrasts: Declared
    equivalences: list[PlannedEquivalence]
    choices: Mapping[str, Choices]
    """The choices of each recipe, by digest."""
    recipes: Mapping[str, str]
    """A description of each recipe, by digest, where there are several."""
    comparisons: list[Comparison]
    """Comparisons at equal blocks."""
    depths: list[Comparison]
    """The declared comparisons of two depths."""
    why_no_comparisons: str

    @cached_property
    def worded(self) -> pd.DataFrame:
        """The evaluations with descriptions of recipes, for display only: nothing may be paired by them."""
        return self.data.assign(recipe=in_words(self.data["recipe"], self.recipes))

    @cached_property
    def trials(self) -> pa.Table:
        """The last evaluation of each trial."""
        return self.evaluations.filter(pc.field("epoch") == pc.field("epochs"))

    @cached_property
    def own_cards(self) -> Cards:
        """The cards that the recorded studies define."""
        return own_cards(self.studies)

    @cached_property
    def finished(self) -> set[str]:
        """The ids of the finished trials of all kinds."""
        return all_done(self.store)

    @cached_property
    def of_kinds(self) -> list[OfKind]:
        """Each kind with a section and with finished trials: the section and the rows it reads."""
        return [
            self._of_kind(kind, loaded(at)) for kind, at in kind_sections().items() if trial_files(self.store, kind)
        ]

    def _of_kind(self, kind: str, section: KindExhibits) -> OfKind:
        """Read a kind's rows; recipes of fine-tuning are described in words and kept apart by numerics version."""
        tuned = "finetuned_recipe" in section.columns
        columns = [*section.columns, *([NUMERICS] if tuned else [])]
        rows: pd.DataFrame = read_trials(self.store, kind, columns).to_pandas()
        if tuned:
            words = in_words(rows["finetuned_recipe"], self.recipes)
            rows["finetuned_recipe"] = apart_by_numerics(words, rows.pop(NUMERICS))
        return OfKind(section, rows)

    @cached_property
    def names(self) -> dict[str, list[str]]:
        """The names of the series in all figures of the report, in the order in which looks are assigned."""
        own = self.evaluations["source"].unique().to_pylist()
        return names_of(self.data, sources_in(self.store, {GRID_KIND: own}))

    @cached_property
    def looks(self) -> dict[str, dict[str, Look]]:
        """The look of each dataset, source, number of blocks and variant, by its name, as in the static figures."""
        names = {**self.names, "variant": variants(self.data)}
        return {kind: looks(series, series) for kind, series in names.items()}

    @property
    def newest(self) -> datetime | None:
        """When the last launch ended or was last heard of, in UTC; None without launches."""
        times = (datetime.fromisoformat(launch.ended_at or launch.heartbeat_at) for launch in self.launches)
        return max((time.astimezone(UTC) for time in times), default=None)

    @cached_property
    def sources(self) -> list[str]:
        return sorted(set(self.data["source"]))


def read(store: Store, compare_paper: bool = False) -> Results:
    """Read a root and determine its comparisons.

    Raises:
        DamagedFile: for a file that is not a valid result.
    """
    evaluations = read_trials(store, GRID_KIND)
    studies = recorded_studies(store)
    launches = read_launches(store)
    contrasts = declared(studies, launches)
    choices = recipe_choices(evaluations)
    recipes = recipe_words(choices)
    data = with_variant(frame(evaluations, partial(planned_lengths, studies, launches)), recipes)
    chosen, why = _comparisons(data, contrasts)
    return Results(
        store=store,
        launches=launches,
        compare_paper=compare_paper,
        evaluations=evaluations,
        data=data,
        studies=studies,
        contrasts=contrasts,
        equivalences=declared_equivalences(studies, launches),
        choices=choices,
        recipes=recipes,
        comparisons=chosen,
        depths=between_depths(data, None, contrasts),
        why_no_comparisons=why,
    )


def with_variant(data: pd.DataFrame, words: Mapping[str, str]) -> pd.DataFrame:
    """Add ``variant`` (``evaluations.variants``): a readable description of what distinguishes trials besides the grid.

    Args:
        words: descriptions of recipes, by digest.
    """
    return data.assign(variant=variant_names(data, words))


def variants(data: pd.DataFrame) -> list[str]:
    """Return the variants of evaluations: own trials before imported ones; of several lengths, the main one first."""
    known = data.groupby("variant", as_index=False).agg(
        length=("length", "first"), main=("main", "first"), epochs=("epochs", "max")
    )
    named = zip(known["variant"], known["length"], strict=True)
    known["base"] = [variant.removesuffix(f", {length}") for variant, length in named]
    return known.sort_values(["base", "main", "epochs"], ascending=False, kind="stable")["variant"].tolist()


def _comparisons(data: pd.DataFrame, contrasts: Declared) -> tuple[list[Comparison], str]:
    """Return the comparisons, or why there are none."""
    if data.empty:
        return [], ""
    try:
        return comparisons(data, None, contrasts), ""
    except InvalidRequest as error:
        return [], str(error)
