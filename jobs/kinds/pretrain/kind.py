"""The kind ``pretrain``: a source model is trained from random initialization."""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from jobs.catalog.catalog import Catalog
from jobs.catalog.source_card import SourceCard
from jobs.errors import Code, InvalidRequest, Mistake, Place, raise_together
from jobs.kind import Kind, ResultRow, Stage, Workload
from jobs.kinds.pretrain.columns import ROWS
from jobs.kinds.pretrain.spec import PretrainSection, PretrainSpec, expand, pretrain_spec, source_trial
from jobs.kinds.rules import in_words, trainable, unknown_names, within_band
from jobs.kinds.training.problems import beyond_warmup
from jobs.kinds.training.rows import contradictions
from jobs.specs.base import ALL
from jobs.specs.threat_model import ThreatModel


def problems(spec: PretrainSpec, catalog: Catalog) -> list[Mistake]:
    """Require a known architecture and dataset, a band that contains a frequency, and epochs after the warm-up."""
    if unknown := unknown_names((catalog.architecture, spec.architecture), (catalog.dataset, spec.dataset)):
        return unknown
    return [
        *trainable(catalog.dataset(spec.dataset)),
        *within_band(spec.threat, spec.architecture, catalog),
        *beyond_warmup(spec),
    ]


def section_problems(section: PretrainSection, tuned: Sequence[object], catalog: Catalog) -> list[Mistake]:
    """Require sources that are not part of the package, with a ``pretrain`` entry whose choices have an effect."""
    return [
        Mistake(code, Place(key="source"), message, name)
        for name in section.source
        for code, message in _nothing_to_train(catalog.source(name)) or _untrainable(catalog.source(name), catalog)
    ]


def require_trainable(card: SourceCard, catalog: Catalog) -> None:
    """Require a source with a ``pretrain`` entry whose choices are possible and have an effect.

    Raises:
        InvalidRequest: listing every choice that is not.
    """
    raise_together([InvalidRequest(code, message, key="source") for code, message in _untrainable(card, catalog)])


def _nothing_to_train(card: SourceCard) -> list[tuple[Code, str]]:
    message = f"the weights of {card.name} are part of the package; there is nothing to train"
    return [(Code.IMPOSSIBLE_TRIAL, message)] if card.bundled else []


def _untrainable(card: SourceCard, catalog: Catalog) -> list[tuple[Code, str]]:
    try:
        threat = pretrain_spec(card, catalog).threat
    except InvalidRequest as error:
        return [(error.code, str(error))]
    except ValidationError as error:
        return [(Code.WRONG_VALUE, f"{card.name}: {in_words(mistake)}") for mistake in error.errors()]
    if not threat.steps and threat.step_scale != ThreatModel.model_fields["step_scale"].default:
        message = (
            f"{card.name}: expected step_scale only with l2, linf or fourier; got constraint {threat.constraint} and "
            f"step_scale {threat.step_scale}. Fix: leave out step_scale"
        )
        return [(Code.WRONG_VALUE, message)]
    return []


def workload(spec: PretrainSpec, catalog: Catalog) -> Workload:
    """Count the training set with its attack steps, and the whole test set, once per epoch."""
    card = catalog.dataset(spec.dataset)
    trained = card.train * spec.epochs
    return Workload(
        architecture=catalog.architecture(spec.architecture),
        gradient_blocks=ALL,
        batch_size=spec.recipe.batch_size,
        evaluation_batch_size=spec.recipe.evaluation_batch_size,
        images_trained=trained,
        images_evaluated=card.test * spec.epochs,
        attack_steps=trained * spec.threat.steps,
        checkpoint_blocks=ALL,
        state_numbers=spec.recipe.state_numbers,
        replicas=spec.recipe.replicas,
    )


def row_numbers(first: ResultRow, numbers: Sequence[Any]) -> Sequence[Any]:
    """Return all epochs."""
    return range(1, len(numbers) + 1) if len(numbers) == first["epochs"] else []


KIND = Kind(
    spec=PretrainSpec,
    stage=Stage.SOURCES,
    rows=ROWS,
    workload=workload,
    problems=problems,
    row_numbers=row_numbers,
    contradictions=contradictions,
    trial="jobs.kinds.pretrain.trial:Pretraining",
    section=PretrainSection,
    section_description="sources that are trained first; without this section, none",
    section_problems=section_problems,
    expand=expand,
    makes_source=source_trial,
)
