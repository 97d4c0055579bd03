"""From a study to its trials."""

from collections.abc import Callable, Iterable, Iterator
from itertools import product
from typing import Any

from jobs import registry
from jobs.checks import whole_set_as_all
from jobs.specs import (
    ALL,
    AnySpec,
    AttackSpec,
    Constraint,
    FinetuneSpec,
    InfluenceSpec,
    PretrainSpec,
    Recipe,
    ShapeBiasSpec,
    ThreatModel,
    VisualizeSpec,
)
from jobs.study import Attack, Examine, Grid, Influence, ScheduleRow, ShapeBias, Study, Visualize, seeds


def expand(study: Study) -> list[AnySpec]:
    """The trials of a study, each once: those that make its sources first, those that examine networks last."""
    with registry.using(study.cards):
        trials: list[AnySpec] = [
            registry.source(name).pretrain_spec() for name in (study.pretrain.source if study.pretrain else ())
        ]
        tuned: list[FinetuneSpec] = []
        if study.grid is not None:
            grid = study.grid
            recipes = study.recipes
            tuned = [whole_set_as_all(spec) for row in study.schedule for spec in _row(grid, row, recipes)]
        trials += tuned
        for kind, section in study.examinations.items():
            trials += EXAMINATIONS[kind](section, tuned)
    return list({spec.trial_id: spec for spec in trials}.values())


def sources_read(study: Study) -> list[str]:
    """The sources whose weights trials of a study read, in order, but for those that the study makes itself."""
    made = study.pretrain.source if study.pretrain else ()
    read = (spec.source for spec in expand(study) if not isinstance(spec, PretrainSpec))
    return [name for name in dict.fromkeys(read) if name not in made]


def _row(grid: Grid, row: ScheduleRow, recipes: tuple[Recipe, ...]) -> Iterator[FinetuneSpec]:
    for dataset, images, recipe, blocks, source, seed in product(
        grid.dataset, row.images, recipes, grid.blocks, grid.source, seeds(row.seeds)
    ):
        yield FinetuneSpec(
            source=source,
            dataset=dataset,
            blocks=blocks,
            images=images,
            seed=seed,
            epochs=row.epochs,
            evaluate_every=row.evaluate_every,
            recipe=recipe,
        )


def examined(section: Examine, tuned: list[FinetuneSpec]) -> Iterator[FinetuneSpec]:
    """The fine-tuned trials that a section looks at."""
    if section.finetuned is not None:
        chosen = seeds(section.finetuned.seeds)
        for spec in tuned:
            sizes = {whole_set_as_all(spec.model_copy(update={"images": n})).images for n in section.finetuned.images}
            if spec.images in sizes and spec.seed in chosen:
                yield spec


def _attacks(section: Attack, tuned: list[FinetuneSpec]) -> Iterator[AttackSpec]:
    networks: list[tuple[str | FinetuneSpec, str]] = [
        *(
            (name, dataset)
            for name in section.source
            for dataset in section.dataset or (registry.source(name).test_dataset,)
        ),
        *((spec, spec.dataset) for spec in examined(section, tuned)),
    ]
    for network, dataset in networks:
        card = registry.datasets().get(dataset)
        whole = card is not None and section.test_images == card.test
        for threat, restarts in _threats(section):
            yield AttackSpec(
                network=network,
                dataset=dataset,
                threat=threat,
                restarts=restarts,
                test_images=ALL if whole else section.test_images,
                seed=section.seed,
                recipe=section.recipe,
            )


def _threats(section: Attack) -> Iterator[tuple[ThreatModel, int]]:
    """Clean images, then every ball, each with its restarts."""
    yield ThreatModel(constraint=Constraint.NONE, epsilon=0.0), 1
    for ball in section.balls:
        for epsilon in ball.epsilon:
            threat = ThreatModel(
                constraint=Constraint(ball.constraint),
                epsilon=epsilon,
                steps=ball.steps,
                step_scale=ball.step_scale,
                start=ball.start,
                band=ball.band,
            )
            yield threat, ball.restarts


def _influences(section: Influence, tuned: list[FinetuneSpec]) -> Iterator[InfluenceSpec]:
    for network in examined(section, tuned):
        damping = network.recipe.weight_decay if section.damping is None else section.damping
        for measure in section.measures:
            inverts = measure == "pseudo-inverse"
            for cut in section.cuts if inverts else (None,):
                yield InfluenceSpec(
                    network=network,
                    dataset=network.dataset,
                    measure=measure,
                    damping=0.0 if inverts else damping,
                    cutoff_absolute=cut.absolute if cut else None,
                    cutoff_relative=cut.relative if cut else None,
                    decomposition=cut.decomposition if cut else "eigh",
                    top=section.top,
                    seed=network.seed,
                    recipe=section.recipe,
                )


def _decisions(section: ShapeBias, tuned: list[FinetuneSpec]) -> Iterator[ShapeBiasSpec]:
    networks: list[str | FinetuneSpec] = [*section.source, *examined(section, tuned)]
    for network in networks:
        seed = network.seed if isinstance(network, FinetuneSpec) else seeds(1)[0]
        for dataset in section.dataset:
            yield ShapeBiasSpec(network=network, dataset=dataset, seed=seed, recipe=section.recipe)


def _visualizations(section: Visualize, tuned: list[FinetuneSpec]) -> Iterator[VisualizeSpec]:
    for network in (*section.source, *examined(section, tuned)):
        for unit in section.units:
            yield VisualizeSpec(
                network=network,
                dataset=section.dataset,
                unit=unit,
                test_images=section.test_images,
                epsilon=section.epsilon,
                step_size=section.step_size,
                steps=section.steps,
                seed=section.seed,
                recipe=section.recipe,
            )


EXAMINATIONS: dict[str, Callable[[Any, list[FinetuneSpec]], Iterable[AnySpec]]] = {
    "attack": _attacks,
    "influence": _influences,
    "shape_bias": _decisions,
    "visualize": _visualizations,
}
"""By kind: from its section of a study, and the study's fine-tuned trials, to its trials."""
