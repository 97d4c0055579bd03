"""The kind ``influence``: influence of training on test images, through the last layer of a fine-tuned network."""

from collections.abc import Iterator, Sequence
from math import isnan
from typing import Any

from jobs.catalog.catalog import Catalog
from jobs.errors import Code, Mistake, Place
from jobs.kind import Contradiction, Kind, ResultRow, Stage
from jobs.kinds.diagnostic.problems import label_problems, section_problems
from jobs.kinds.finetune.spec import FinetuneSpec, images_used
from jobs.kinds.influence.columns import ROWS
from jobs.kinds.influence.spec import MOST_DECOMPOSED, MOST_DENSE, InfluenceSection, InfluenceSpec, expand
from jobs.kinds.influence.workload import matrix_rows, workload
from jobs.kinds.rules import impossible, unknown_labels


def problems(spec: InfluenceSpec, catalog: Catalog) -> list[Mistake]:
    """Require a possible fine-tuned network, enough training images, and a matrix that is not too large."""
    return label_problems(spec, catalog, unknown_labels) or [
        *_more_than_there_are(spec, catalog),
        *_too_large(spec, catalog),
    ]


def _more_than_there_are(spec: InfluenceSpec, catalog: Catalog) -> list[Mistake]:
    used = images_used(spec.network, catalog)
    return impossible(f"top: expected at most {used} training images; got {spec.top}") if spec.top > used else []


def _too_large(spec: InfluenceSpec, catalog: Catalog) -> list[Mistake]:
    rows = matrix_rows(spec, catalog)
    if spec.measure == "pseudo-inverse" and rows > (most := MOST_DECOMPOSED[spec.decomposition]):
        return impossible(
            f"measure: the pseudo-inverse needs at most {most} rows of the Hessian with {spec.decomposition}; "
            f"{spec.source} on {spec.dataset} has {rows}. Fix: use the measure influence, which does not form it"
        )
    if spec.measure == "fisher" and rows > MOST_DENSE:
        return impossible(
            f"measure: fisher needs at most {MOST_DENSE} training images; got {rows}. Fix: use the measure influence"
        )
    return []


def influence_section_problems(
    section: InfluenceSection, tuned: Sequence[FinetuneSpec], catalog: Catalog
) -> list[Mistake]:
    """Apply the rules of all diagnostics, and refuse choices that have no effect on any of the measures."""
    mistakes = section_problems(section, tuned, catalog)
    inverting = {"pseudo-inverse"}
    needs = {"damping": {"influence", "fisher"}, "cutoff_absolute": inverting, "cutoff_relative": inverting}
    for key, measures in needs.items():
        value = getattr(section, key)
        if value != type(section).model_fields[key].default and measures.isdisjoint(section.measures):
            message = (
                f"expected {key} only with the measure {' or '.join(sorted(measures))}; got {key} {value} and measures "
                f"{', '.join(section.measures)}. Fix: leave out {key}"
            )
            mistakes.append(Mistake(Code.WRONG_VALUE, Place(key="measures"), message, section.measures))
    return mistakes


def row_numbers(first: ResultRow, numbers: Sequence[Any]) -> Sequence[Any]:
    """Return the indices of all test images."""
    return range(len(numbers))


def contradictions(rows: Sequence[ResultRow], spec: InfluenceSpec | None) -> Iterator[Contradiction]:
    """Check the lists of training images, which are sorted by their values, and the means of a matrix."""
    for row in rows:
        if broken := _broken(row):
            yield broken
            return


def _broken(row: ResultRow) -> Contradiction | None:
    expected, images = min(row["top"], row["images_used"]), row["train_images"]
    for name in ("train_images", "train_labels", "values"):
        if len(row[name]) != expected:
            return Contradiction(name, f"expected {expected} training images per row; got {len(row[name])}")
    if len(set(images)) != len(images) or min(images, default=0) < 0 or min(row["train_labels"], default=0) < 0:
        return Contradiction("train_images", "expected distinct training images, and indices and labels of at least 0")
    ordered = sorted(row["values"], reverse=row["measure"] == "fisher")
    if not any(map(isnan, row["values"])) and row["values"] != ordered:
        return Contradiction("values", "expected the most helpful or most similar image first")
    cells, labels = row["cells"], row["cell_labels"]
    if (cells is None) != (labels is None) or len(cells or []) != len(labels or []):
        return Contradiction("cells", "expected one mean per label of a group")
    return None


KIND = Kind(
    spec=InfluenceSpec,
    stage=Stage.DIAGNOSTICS,
    rows=ROWS,
    workload=workload,
    problems=problems,
    row_numbers=row_numbers,
    contradictions=contradictions,
    trial="jobs.kinds.influence.trial:InfluenceTrial",
    section=InfluenceSection,
    section_description="fine-tuning trials whose training images are compared; without this section, none",
    section_problems=influence_section_problems,
    expand=expand,
    report_section="analysis.figures.influence:SECTION",
)
