"""Writing the report of a results root: figures, tables and one self-contained page."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from analysis.comparison import comparison_table
from analysis.comparisons import Comparison, Declared, between_depths, comparisons, declared
from analysis.delta_table import delta_cells
from analysis.evaluations import load_failures, open_results
from analysis.figures import attacks, influences, shape_bias
from analysis.figures.confound import Confound, confound
from analysis.figures.examples import COLUMNS as EXAMPLE_COLUMNS
from analysis.figures.examples import Examples, examples
from analysis.figures.features import COLUMNS as FEATURE_COLUMNS
from analysis.figures.features import Features, features
from analysis.figures.matrices import COLUMNS as MATRIX_COLUMNS
from analysis.figures.matrices import Matrices, matrices
from analysis.figures.model import Figure
from analysis.figures.paper import figures as paper_figures
from analysis.figures.paper import names_of
from analysis.figures.published import Published, beside_published
from analysis.figures.render import Drawing, drawing
from analysis.frames import frame
from analysis.page import html, sections
from analysis.page.charts import charts
from analysis.page.directory import report_directory, written_into
from analysis.page.payload import payload, shown_pairs, too_many, with_variant
from analysis.page.progress import progress
from analysis.page.provenance import examined
from analysis.page.scripts import vega
from analysis.recipes import NUMERICS, Choices, apart_by_numerics, in_words, recipe_choices, recipe_words
from analysis.tables.accuracy import BLOCKS, table7
from analysis.tables.catalogue import table5, table6
from analysis.tables.markup import save as save_table
from analysis.tables.model import Table
from analysis.tables.stylized import table1a
from jobs.errors import InvalidRequest
from jobs.results import Store, StudyRecord, all_done, mixed_trials, read_launches, read_trials, recorded_studies
from jobs.specs import ALL

_PAGE = "index.html"

_NO_BASELINE = (
    "No headline: no study declared a contrast, and it does not follow which of {} is the baseline. The curves compare "
    "any two of them; `deltasweep deltas --baseline NAME` tells all deltas of one."
)


class Content(NamedTuple):
    """Everything that the page shows, computed."""

    store: Store
    evaluations: pa.Table
    failures: pa.Table
    studies: list[StudyRecord]
    data: pd.DataFrame
    comparisons: list[Comparison]
    """At equal blocks."""
    depths: list[Comparison]
    """The declared ones of two depths."""
    why_no_deltas: str
    contrasts: Declared
    attacks: Figure | None
    influences: Figure | None
    examples: list[Examples]
    shape_bias: Figure | None
    table1a: Table | None
    matrices: list[Matrices]
    recipes: dict[str, str]
    """Words for each recipe by its digest, where there are several."""
    choices: dict[str, Choices]
    """The choices of each recipe by its digest."""
    confound: Confound | None
    examined: dict[str, pa.Table]
    """What the trials of kinds that look at networks say of where they come from, by kind."""
    features: list[Features]

    @property
    def why(self) -> list[Figure]:
        """The figures of what networks were asked."""
        found = (self.attacks, self.influences, self.shape_bias, self.confound.figure if self.confound else None)
        return [replace(one, names=self.names) for one in found if one is not None]

    @property
    def names(self) -> dict[str, list[str]]:
        """All that figures tell apart; each keeps its look in all of them."""
        asked = [one for one in (self.attacks, self.influences, self.shape_bias) if one is not None]
        return names_of(self.data, [name for one in asked for name in one.series("source")])

    @property
    def pictures(self) -> list[Examples | Matrices | Features]:
        """What is drawn once, with numbers of its own."""
        return [*self.examples, *self.matrices, *self.features]

    @property
    def worded(self) -> pd.DataFrame:
        """The evaluations with recipes by their words."""
        return _worded(self.data, self.recipes)


def report(root: str | Path, out: str | Path | None = None, compare_paper: bool = False) -> Path:
    """Write ``index.html``, and beside it the figures (PNG, SVG, PDF) and tables (CSV, Markdown, LaTeX) of a root.

    Args:
        out: a directory; None: ``report`` in the root, or, for a root in an object store, ``NAME-report`` in the
            current directory, after the last part of the root's address.
        compare_paper: put own means beside Table 7 of the paper, and Figures 2 and 3 beside the published trials where
            these are imported.

    Returns:
        The path of ``index.html``.

    Raises:
        InvalidRequest: when there is no such root, or ``out`` is no directory that can be written; nothing is made.
        ResultsConflict: as ``deltas``; nothing is made.
        StorageFailure: when writing fails later on.
        DamagedFile: naming a file that is not what its name promises.
    """
    store = open_results(root)
    directory = report_directory(store, out)
    content = gather(store)
    figures, missing = paper_figures(content.worded, content.names)
    published = beside_published(content.data, content.choices) if compare_paper else None
    beside = [pair.figure for pair in published.pairs] if published else []
    drawn = {one.name: drawing(one) for one in [*figures, *beside, *content.why]}
    tables = [*_tables(content, compare_paper), *([content.table1a] if content.table1a else [])]
    text = render(content, figures, drawn, missing, tables, published)
    with written_into(directory) as folder:
        for made in drawn.values():
            made.save(folder)
            made.figure.table().to_csv(folder / f"{made.figure.name}.csv", index=False)
        for shown in content.pictures:
            shown.numbers.to_csv(folder / f"{shown.name}.csv", index=False)
            if shown.png is not None:
                (folder / f"{shown.name}.png").write_bytes(shown.png)
        confounds = [content.confound.table] if content.confound else []
        for table in [*tables, *confounds, *(pair.table for pair in beside)]:
            save_table(table, folder)
        (folder / _PAGE).write_text(text, encoding="utf-8")
    return directory / _PAGE


def gather(store: Store) -> Content:
    """Read a root and decide what is compared with what."""
    evaluations = read_trials(store, "finetune")
    studies = recorded_studies(store)
    choices = recipe_choices(evaluations)
    recipes = recipe_words(choices)
    data, contrasts = with_variant(frame(evaluations), recipes), declared(studies, read_launches(store))
    chosen: list[Comparison] = []
    why = ""
    if not data.empty:
        try:
            chosen = comparisons(data, None, contrasts)
        except InvalidRequest as error:
            why = str(error)
    attacked = read_trials(store, "attack", [*attacks.COLUMNS, NUMERICS]).to_pandas()
    columns = [*dict.fromkeys([*influences.COLUMNS, *EXAMPLE_COLUMNS, *MATRIX_COLUMNS, NUMERICS])]
    weighed = read_trials(store, "influence", columns).to_pandas()
    decided = read_trials(store, "shape_bias", [*shape_bias.COLUMNS, NUMERICS]).to_pandas()
    visualized = read_trials(store, "visualize", [*FEATURE_COLUMNS, NUMERICS]).to_pandas()
    for rows in (attacked, weighed, decided, visualized):
        rows["finetuned_recipe"] = apart_by_numerics(in_words(rows["finetuned_recipe"], recipes), rows.pop(NUMERICS))
    return Content(
        store,
        evaluations,
        load_failures(store),
        studies,
        data,
        chosen,
        between_depths(data, None, contrasts),
        why,
        contrasts,
        attacks.attack_figure(attacked),
        influences.influence_figure(weighed),
        list(examples(weighed)),
        shape_bias.shape_bias_figure(decided),
        table1a(_worded(data, recipes), attacked),
        list(matrices(weighed)),
        recipes,
        choices,
        confound(data, chosen, choices),
        examined(store),
        list(features(visualized)),
    )


def _worded(data: pd.DataFrame, recipes: Mapping[str, str]) -> pd.DataFrame:
    """The evaluations with recipes by their words: for what is shown and pairs nothing by digest."""
    return data.assign(recipe=in_words(data["recipe"], recipes))


def render(
    content: Content,
    figures: list[Figure],
    drawn: Mapping[str, Drawing],
    missing: list[str],
    tables: list[Table],
    published: Published | None = None,
) -> str:
    """The page as text.

    Args:
        figures: of the paper.
        drawn: all figures, by name.
        missing: why others of the paper are not there.
        published: what stands beside published trials; None: that was not asked for.
    """
    if content.data.empty:
        made, scripts = _empty(content, drawn), ""
    else:
        made = _sections(content, figures, drawn, missing, tables, published)
        scripts = _scripts(content, figures, drawn)
    return html.page(
        title=html.escape(content.store.uri),
        navigation=html.navigation(list(made)),
        sections="".join(html.section(title, inner) for title, inner in made.items()),
        scripts=scripts + html.script(html.template("page.js")),
    )


def _empty(content: Content, drawn: Mapping[str, Drawing]) -> dict[str, str]:
    others = len(all_done(content.store))
    return {
        "Results": sections.nothing_yet(content.store.uri, content.failures.num_rows, others),
        **_why(content, drawn),
        "Failures": sections.failures(content.failures),
        **({"Provenance": _where_from(content, None)} if content.examined else {}),
    }


def _sections(
    content: Content,
    figures: list[Figure],
    drawn: Mapping[str, Drawing],
    missing: list[str],
    tables: list[Table],
    published: Published | None,
) -> dict[str, str]:
    trials = content.evaluations.filter(pc.field("epoch") == pc.field("epochs"))
    finished = all_done(content.store)
    return {
        "Headline deltas": _headlines(content),
        "What was run": sections.what_was_run(trials, [progress(one, finished) for one in content.studies]),
        "Curves": sections.curves(_choices(content), bool(shown_pairs(content.data, content.comparisons))),
        "Figures of the paper": sections.figures(figures, missing),
        **_beside(published, drawn),
        **_confound(content, drawn),
        **_why(content, drawn),
        "Tables": "".join(sections.paper_table(table) for table in tables),
        "Failures": sections.failures(content.failures),
        "Provenance": _where_from(content, trials),
    }


def _where_from(content: Content, trials: pa.Table | None) -> str:
    return sections.where_from(trials, content.examined, len(mixed_trials(content.store)))


def _why(content: Content, drawn: Mapping[str, Drawing]) -> dict[str, str]:
    parts = (
        ("Table 1b of the paper", sections.ATTACKED, content.attacks),
        ("Figure 7b of the paper", sections.WEIGHED, content.influences),
        ("Figure 4 of Geirhos et al. (2019)", sections.DECIDED, content.shape_bias),
    )
    made = {
        f"Why: {found.title[0].lower()}{found.title[1:]}": sections.why(found, drawn[found.name].svg(), part, columns)
        for part, columns, found in parts
        if found is not None
    }
    more = {
        "Why: influence by label": "".join(map(sections.matrices, content.matrices)),
        "Why: the most influential training images": "".join(map(sections.examples, content.examples)),
        "Why: what raises features": "".join(map(sections.features, content.features)),
    }
    return {**made, **{title: shown for title, shown in more.items() if shown}}


def _beside(published: Published | None, drawn: Mapping[str, Drawing]) -> dict[str, str]:
    if published is None:
        return {}
    shown = "".join(sections.beside(one.figure, one.table, drawn[one.figure.name].svg()) for one in published.pairs)
    return {"Beside the published trials": shown or html.paragraph(published.why_not)}


def _confound(content: Content, drawn: Mapping[str, Drawing]) -> dict[str, str]:
    one = content.confound
    return {"Does the delta survive": sections.confound(one, drawn[one.figure.name].svg())} if one else {}


def _headlines(content: Content) -> str:
    if not content.comparisons and not content.depths:
        if not shown_pairs(content.data, []):
            return html.paragraph(content.why_no_deltas or "Deltas need trials of two sources; these are of one.")
        return html.paragraph(_NO_BASELINE.format(", ".join(sorted(set(content.data["source"])))))
    chosen = [*content.comparisons, *content.depths]
    cells = delta_cells(content.data, chosen, content.contrasts, epoch=None)
    variants = content.data[["origin", "recipe", "numerics", "variant"]].drop_duplicates()
    return sections.headlines(cells.merge(variants, how="left"), _blocks(content.data))


def _choices(content: Content) -> str:
    """The controls: what can be chosen is what there is."""
    data = content.data
    sources = sorted(set(data["source"]))
    first, blocks, epoch = _first_shown(content)
    bases = sorted({one.baseline for one in content.comparisons}) if too_many(data) else []
    variants = sorted(set(data["variant"]), reverse=True)
    made = [
        html.choice("source", "Source", [(name, name) for name in sources], first.source),
        html.choice("baseline", "Baseline", [(name, name) for name in bases or sources], first.baseline),
        html.choice("blocks", "Fine-tuned blocks", _numbers(data["blocks"]), str(blocks)),
        html.choice(
            "dataset", "Dataset", [("all", "all"), *((name, name) for name in sorted(set(data["dataset"])))], "all"
        ),
        html.choice(
            "epoch", "Epoch (charts against images)", [("last", "last of each trial"), *_epochs(content)], epoch
        ),
        html.choice("images", "Images (charts against epoch)", _sizes(data), _middle(data)),
    ]
    if len(variants) > 1:
        options = [("all", "all: first filled, others hollow"), *((name, name) for name in variants)]
        made.append(html.choice("variant", "Trials", options, variants[0], f' data-first="{html.escape(variants[0])}"'))
    return "".join(made)


def _first_shown(content: Content) -> tuple[Comparison, int, str]:
    """The comparison, blocks and epoch that the charts begin with: the first declared contrast with results, if any."""
    data, sources = content.data, sorted(set(content.data["source"]))
    for one in content.contrasts.contrasts:
        pair, blocks = Comparison(one.source, one.baseline), set(one.blocks) & set(data["blocks"])
        if pair in content.comparisons and blocks and (one.epoch == "last" or one.epoch in set(data["epoch"])):
            return pair, BLOCKS if BLOCKS in blocks else max(blocks), str(one.epoch)
    pair = content.comparisons[0] if content.comparisons else Comparison(sources[0], sources[-1])
    return pair, _blocks(data), "last"


def _epochs(content: Content) -> list[tuple[str, str]]:
    """The evaluated epochs, those of declared contrasts marked."""
    declared = {str(one.epoch) for one in content.contrasts.contrasts}
    found = _numbers(content.data["epoch"])
    return [(value, f"{words} (declared contrast)" if value in declared else words) for value, words in found]


def _scripts(content: Content, figures: list[Figure], drawn: Mapping[str, Drawing]) -> str:
    data = content.data
    numbers = payload(data, content.comparisons)
    printed = {one.name: sections.figure_data(one, drawn[one.name].svg()) for one in figures}
    specs = charts(sorted(set(data["dataset"])), sorted(set(data["images_used"])))
    return html.packed("numbers", {**numbers, "figures": printed, "charts": specs}) + html.script(vega())


def _numbers(column: "pd.Series[int]") -> list[tuple[str, str]]:
    return [(str(value), "all" if value == ALL else str(value)) for value in sorted(set(column))]


def _sizes(data: pd.DataFrame) -> list[tuple[str, str]]:
    sizes = sorted(set(data["images"]) - {ALL}) + ([ALL] if ALL in set(data["images"]) else [])
    return [(str(size), "all" if size == ALL else f"{size:,}") for size in sizes]


def _middle(data: pd.DataFrame) -> str:
    sizes = _sizes(data)
    return sizes[(len(sizes) - 1) // 2][0]


def _blocks(data: pd.DataFrame) -> int:
    present = set(data["blocks"])
    return BLOCKS if BLOCKS in present else int(max(present))


def _tables(content: Content, compare_paper: bool) -> list[Table]:
    if content.data.empty:
        return []
    data, beside = content.worded, []
    if compare_paper:
        beside = [comparison_table(content.data, content.choices, content.recipes)]
    return [table5(data), table6(data), table7(data), *beside]
