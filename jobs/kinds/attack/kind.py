"""The kind ``attack``: adversarial evaluation of a network."""

from collections.abc import Sequence
from typing import Any

from jobs.catalog.catalog import Catalog
from jobs.errors import Code, Mistake, Place
from jobs.kind import Kind, ResultRow, Stage, Workload
from jobs.kinds.attack.columns import ROWS
from jobs.kinds.attack.spec import AttackSection, AttackSpec, expand
from jobs.kinds.diagnostic.problems import mismatched, network_problems, section_problems
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.kinds.rules import unknown_labels, within_band, within_test_set
from jobs.specs.base import ALL


def problems(spec: AttackSpec, catalog: Catalog) -> list[Mistake]:
    """Require a network that knows the labels, enough test images, and a band that contains a frequency."""
    return network_problems(spec, catalog) or [
        *mismatched(spec, catalog, unknown_labels),
        *within_test_set(spec.dataset, spec.test_images, catalog),
        *within_band(spec.threat, catalog.source(spec.source).architecture, catalog),
    ]


def attack_section_problems(section: AttackSection, tuned: Sequence[FinetuneSpec], catalog: Catalog) -> list[Mistake]:
    """Apply the rules of all diagnostics; only sources can be shown another dataset's images."""
    mistakes = section_problems(section, tuned, catalog)
    if section.dataset and not section.source:
        message = "only source models (source) can be shown these images; fine-tuning trials use their own test images"
        mistakes.append(Mistake(Code.IMPOSSIBLE_TRIAL, Place(key="dataset"), message))
    return mistakes


def workload(spec: AttackSpec, catalog: Catalog) -> Workload:
    """Count each test image once per restart, and the attack steps on it."""
    batch, chosen = spec.recipe.evaluation_batch_size, spec.test_images
    evaluated = (catalog.dataset(spec.dataset).test if chosen == ALL else chosen) * spec.restarts
    batch = batch if chosen == ALL else min(chosen, batch)
    return Workload(
        architecture=catalog.architecture_of(spec.source),
        gradient_blocks=ALL,
        batch_size=batch,
        evaluation_batch_size=batch,
        images_evaluated=evaluated,
        attack_steps=evaluated * spec.threat.steps,
    )


def row_numbers(first: ResultRow, numbers: Sequence[Any]) -> Sequence[Any]:
    """Return the number of the only row; any radius is accepted."""
    return numbers[:1]


KIND = Kind(
    spec=AttackSpec,
    stage=Stage.DIAGNOSTICS,
    rows=ROWS,
    workload=workload,
    problems=problems,
    row_numbers=row_numbers,
    trial="jobs.kinds.attack.trial:AdversarialEvaluation",
    section=AttackSection,
    section_description="networks to attack; without this section, none",
    section_problems=attack_section_problems,
    expand=expand,
    report_section="analysis.figures.attack:SECTION",
)
