"""What a study amounts to, what of it is still to do, and what that takes. No torch."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any, Literal, NamedTuple

from jobs import registry
from jobs.dense import dense
from jobs.recipes import crops_whole
from jobs.registry.costs import Flops, memory, parameters
from jobs.specs import (
    MATRIX_GROUPS,
    AnySpec,
    Decomposition,
    ExaminationSpec,
    InfluenceSpec,
    Measure,
    PretrainSpec,
    ShapeBiasSpec,
    TrainingSpec,
    VisualizeSpec,
)
from jobs.study import Resources, Study
from orchestrator.bundling import bundled
from orchestrator.finished import examined
from orchestrator.operations import kept_bytes, study_flops, trial_flops
from orchestrator.prices import Gpu
from orchestrator.work import batch_size, images_evaluated, images_trained, network_of

RUNTIME_BYTES = 0.6e9
"""Assumed: what CUDA and its libraries take of a GPU's memory for each process."""

SPARE = 1.25
"""Assumed: the allocator's gaps and the libraries' workspaces, over the tensors."""

RESULT_BYTES = 23_000
"""A trial's Parquet file, measured: 21 to 23 kB, nearly all of it schema."""

ROW_BYTES, TOP_BYTES = 10, 12
"""For each test image of an influence trial, and for each training image that is kept of it: 797 test images with ten
each made files of 121 to 125 kB, the matrix aside.
"""

CELL_BYTES = 10
"""For each cell of an influence trial's matrix: 100 x 100 made the same files 223 kB."""

_Part = Literal["train", "whole", "test"]
"""Of a dataset's resized images: whole ones are training images that are cropped anywhere."""
DENSE_RATE = 1.5e10
"""Assumed: operations a second of one core in float64, where matrices are inverted."""

_TOLD_BYTES = 1e9
"""The words tell of matrices from this size on; JSON has all."""

_CHECKPOINTS_KEPT = 2
_FLOAT = 4


class Matrices(NamedTuple):
    """Pending trials that hold a matrix of one size whole (``jobs.dense``)."""

    measure: Measure
    decomposition: Decomposition | None
    """Of the pseudo-inverse."""
    trials: int
    rows: int
    bytes: int
    """That each trial needs, of the GPU's memory where there is one, else of the machine's."""
    operations: float
    """Of each trial, in float64."""

    @property
    def core_hours(self) -> float:
        """Of one core for each trial, at the assumed rate."""
        return self.operations / DENSE_RATE / 3600

    def plain(self) -> dict[str, Any]:
        return {**self._asdict(), "core_hours": self.core_hours}


class Plan(NamedTuple):
    """The size of a study. Cost counts what is pending; done, pending, quarantined and damaged add up to trials."""

    study: str
    trials: int
    done: int
    pending: int
    quarantined: int
    damaged: int
    """Trials whose result is torn, or no file: it has to be moved away before they run."""
    older_numerics: int
    """Trials whose results are of older numerics alone."""
    accepted_numerics: int
    """Those of these that count as done."""
    earlier_versions_done: int
    """Finished trials of earlier versions of the study that are no part of it."""
    images_trained: int
    images_evaluated: int
    flops: Flops
    flops_alone: float
    """Operations of trials that share and keep nothing."""
    gpu: Gpu
    gpu_hours: float
    measured: str
    """What the hours were measured on; empty when they follow from the GPU's assumed rate."""
    memory: float
    """Bytes of GPU memory that the largest trial needs, the runtime's share included."""
    gpu_share: float
    """The share of the GPU that this is."""
    checkpoints: int
    """Bytes of the largest trial's checkpoints."""
    results: int
    """Bytes of all results and kept weights."""
    images_at_rest: int
    """Bytes of all resized images, once a machine."""
    activations: int
    """Bytes of all files of activations, kept on a machine until its limit is reached."""
    matrices: tuple[Matrices, ...]
    """What influence trials hold and invert whole; their time is not among the GPU's hours."""

    @property
    def on_demand(self) -> float:
        """US dollars, all trials on machines at the on-demand price."""
        return self.gpu_hours * self.gpu.on_demand

    @property
    def spot(self) -> float:
        """US dollars, all trials on spot machines; what is lost with a machine is not counted."""
        return self.gpu_hours * self.gpu.spot

    def plain(self) -> dict[str, Any]:
        """For machines: names as in ``plan --json``. Bytes, US dollars, operations."""
        return {
            **self._asdict(),
            "flops": self.flops.total,
            "flops_by_part": self.flops._asdict(),
            "matrices": [one.plain() for one in self.matrices],
            "gpu": self.gpu._asdict(),
            "cost_on_demand": self.on_demand,
            "cost_spot": self.spot,
        }


Seconds = Callable[[AnySpec], float]
"""How long a trial takes alone on a device."""


def make_plan(
    study: Study,
    specs: Iterable[AnySpec],
    done: set[str],
    quarantined: set[str],
    gpu: Gpu,
    measured: tuple[str, Seconds] | None = None,
    older: Collection[str] = (),
    damaged: Collection[str] = (),
    earlier: Collection[str] = (),
) -> Plan:
    """Count a study's trials and the work that the pending ones are.

    Args:
        older: the trials whose results are of older numerics alone (``Standing``); those of them that are accepted are
            ``done``.
        damaged: the trials whose result is no whole file (``Standing``).
        earlier: what earlier versions of the study have finished besides (``earlier_versions``).
        measured: what was measured on, and the seconds of a trial by it; by default they follow from the GPU's rate.
    """
    trials = list(specs)
    finished = [spec for spec in trials if spec.trial_id in done]
    torn = set(damaged) - done
    blocked = [spec for spec in trials if spec.trial_id in quarantined - done - torn]
    pending = [spec for spec in trials if spec.trial_id not in done | quarantined | torn]
    flops = study_flops(bundled(study, pending))
    alone = sum(trial_flops(spec).total for spec in pending)
    # what is measured is a trial that keeps nothing; bundles and kept activations save in proportion to operations
    saved = flops.total / alone if alone else 1
    seconds = saved * sum(map(measured[1], pending)) if measured else flops.total / gpu.rate
    # of what shares GPUs; a source that is made has its own to itself
    shared = [spec for spec in trials if not isinstance(spec, PretrainSpec)] or trials
    needed = max(map(bundle_memory, bundled(study, shared)), default=0)
    waited_for = examined(trials)
    kept = sum(
        trained_bytes(spec)
        for spec in pending
        if isinstance(spec, TrainingSpec) and (study.keep_weights or spec.trial_id in waited_for)
    )
    return Plan(
        study=study.name,
        trials=len(trials),
        done=len(finished),
        pending=len(pending),
        quarantined=len(blocked),
        damaged=len(torn & {spec.trial_id for spec in trials}),
        older_numerics=len(older),
        accepted_numerics=len(done.intersection(older)),
        earlier_versions_done=len(earlier),
        images_trained=sum(map(images_trained, pending)),
        images_evaluated=sum(map(images_evaluated, pending)),
        flops=flops,
        flops_alone=alone,
        gpu=gpu,
        gpu_hours=seconds / 3600,
        measured=measured[0] if measured else "",
        memory=needed,
        gpu_share=needed / gpu.memory,
        checkpoints=max(map(checkpoint_bytes, trials), default=0),
        results=sum(map(result_bytes, pending)) + kept,
        activations=kept_bytes(pending),
        images_at_rest=sum(_image_bytes(*part) for part in {part for spec in trials for part in _parts(spec)}),
        matrices=matrices(pending),
    )


def matrices(specs: Iterable[AnySpec]) -> tuple[Matrices, ...]:
    """The matrices that trials hold whole, the largest first."""
    weighing = [spec for spec in specs if isinstance(spec, InfluenceSpec)]
    counts = Counter(
        (spec.measure, spec.choices["decomposition"], held) for spec in weighing if (held := dense(spec)) is not None
    )
    found = [Matrices(measure, by, trials, *held) for (measure, by, held), trials in counts.items()]
    return tuple(sorted(found, key=lambda one: -one.bytes))


def bundle_memory(bundle: Sequence[AnySpec]) -> float:
    """Bytes of GPU memory that the actor of these trials needs (of each GPU, with several replicas)."""
    spec = bundle[0]
    replicas = spec.recipe.replicas if isinstance(spec, PretrainSpec) else 1
    batch = -(-batch_size(spec) // replicas)
    evaluated = batch if isinstance(spec, ExaminationSpec) else spec.recipe.evaluation_batch_size
    depths = [network_of(spec)[1] for spec in bundle]
    return RUNTIME_BYTES + SPARE * memory(network_of(spec)[0], depths, batch, evaluated)


def trained_bytes(spec: AnySpec) -> int:
    """Bytes of a trial's trained network."""
    return _FLOAT * parameters(network_of(spec)[0])


def result_bytes(spec: AnySpec) -> int:
    """Bytes of a trial's result; those of influence and shape bias have a row for each test image, those
    of visualizations pictures.
    """
    match spec:
        case InfluenceSpec():
            card = registry.dataset(spec.dataset)
            cells = max(MATRIX_GROUPS, card.labels) ** 2
            return RESULT_BYTES + card.test * (ROW_BYTES + spec.top * TOP_BYTES) + cells * CELL_BYTES
        case ShapeBiasSpec():
            return RESULT_BYTES + registry.dataset(spec.dataset).test * ROW_BYTES
        case VisualizeSpec():
            return RESULT_BYTES + spec.test_images * 3 * registry.architecture(network_of(spec)[0]).image_size ** 2
        case _:
            return RESULT_BYTES


def checkpoint_bytes(spec: AnySpec) -> int:
    """Bytes of a trial's checkpoints while it runs: parameters and momentum of the head, the last two kept.

    An examination trains nothing: it keeps sums, smaller than its result.
    """
    if not isinstance(spec, TrainingSpec):
        return 0
    return _CHECKPOINTS_KEPT * 2 * _FLOAT * parameters(*network_of(spec))


def _parts(spec: AnySpec) -> tuple[tuple[str, int, _Part], ...]:
    """The resized images that a trial reads: dataset, size, and which."""
    size = registry.architecture(network_of(spec)[0]).image_size
    return (spec.dataset, size, "whole" if crops_whole(spec) else "train"), (spec.dataset, size, "test")


def _image_bytes(name: str, size: int, part: _Part) -> int:
    """Whole images are taken for photographs of 4 : 3: how long they are is known where the files are."""
    card = registry.dataset(name)
    images = {"train": card.train, "whole": card.train * 4 // 3, "test": card.test}[part]
    return images * (3 if card.colour else 1) * size * size


def three_digits(value: float) -> str:
    """A number to three digits, and without a power of ten where it has more: 2,550."""
    return f"{value:.3g}" if value < 999.5 else f"{float(f'{value:.3g}'):,.0f}"


def describe(plan: Plan, study: Study, about_older: str | None = None) -> str:
    """The plan in words, for a terminal; ``about_older`` in words, too."""
    gpu, parts = plan.gpu, plan.flops
    shares = ", ".join(
        f"{name.replace('_', ' ')} {amount / parts.total:.0%}"
        for name, amount in parts._asdict().items()
        if parts.total and amount
    )
    rate = plan.measured or f"{three_digits(gpu.rate / 1e12)} TFLOP/s, {gpu.rate_from}"
    asked = _asked(study).gpu
    lines = [
        f"{plan.study}: {plan.trials:,} trials: {plan.done:,} done, {plan.pending:,} pending, "
        f"{plan.quarantined:,} quarantined" + (f", {plan.damaged:,} damaged" if plan.damaged else ""),
        f"pending work: {plan.images_trained:,} images trained, {plan.images_evaluated:,} evaluated, "
        f"{_flop(parts.total)}{f' ({shares})' if shares else ''}",
        f"time: about {three_digits(plan.gpu_hours)} GPU-hours ({rate})",
        f"money: about ${plan.on_demand:,.2f} on demand (${gpu.on_demand:,.3g} an hour of one {gpu.name}), "
        f"${plan.spot:,.2f} on spot (${gpu.spot:,.3g}); {gpu.prices_from}",
    ]
    if plan.flops_alone > parts.total:
        lines.append(f"{_savings(study)}: {plan.flops_alone / parts.total:.3g} times less work than each trial alone")
    if about_older:
        lines.insert(1, about_older)
    actor = "bundle" if study.bundle == "blocks" else "trial"
    lines.append(
        f"memory: about {plan.memory / 1e9:.2g} GB a {actor}, {plan.gpu_share:.2f} of one {gpu.name}"
        + (f"; the study asks for gpu: {asked:g}" if asked else "; the study asks for no GPU")
        + (f", too little: say {plan.gpu_share:.2f} or more" if 0 < asked < plan.gpu_share else "")
    )
    lines.append(
        f"disk: {_bytes(plan.results)} of results, {_bytes(plan.checkpoints)} of checkpoints for each running trial, "
        f"{_bytes(plan.images_at_rest)} of images on each machine"
    )
    lines[-1:-1] = [_held(one, gpu) for one in plan.matrices if one.bytes >= _TOLD_BYTES]
    if plan.activations:
        lines[-1] += f", and {_bytes(plan.activations)} of activations, or what $DELTASWEEP_ACTIVATIONS_GB allows"
    return "\n".join(lines)


def _held(one: Matrices, gpu: Gpu) -> str:
    """What the trials of one matrix take besides."""
    fits = "" if one.bytes + RUNTIME_BYTES <= gpu.memory else f", more than one {gpu.name} has"
    plural = "s" if one.trials > 1 else ""
    by = f" by {one.decomposition}" if one.decomposition else ""
    return (
        f"matrices: {one.measure}{by}, {one.trials:,} trial{plural} of {one.rows:,} rows, each about "
        f"{_bytes(one.bytes)} of memory (of the GPU's, if there is one{fits}) and {_flop(one.operations)} in float64, "
        f"{one.core_hours:,.2g} hours of one core (assumed: {DENSE_RATE / 1e9:g} GFLOP/s), in one piece: a trial that "
        "leaves before the end begins it again. Not counted above"
    )


def _savings(study: Study) -> str:
    bundles = study.bundle == "blocks"
    kept = any(recipe.frozen_batchnorm != "batch" for recipe in study.recipes)
    return " and ".join(["bundles"] * bundles + ["kept activations"] * kept)


def _asked(study: Study) -> Resources:
    """The share of those trials whose memory a plan tells: fine-tuned ones, or else what there is."""
    if study.grid is not None:
        return study.resources
    if study.pretrain is not None:
        return study.pretrain.resources
    return next(iter(study.examinations.values())).resources


def _flop(amount: float) -> str:
    for unit, size in (("EFLOP", 1e18), ("PFLOP", 1e15), ("TFLOP", 1e12)):
        if amount >= size:
            return f"{three_digits(amount / size)} {unit}"
    return f"{amount / 1e9:,.3g} GFLOP"


def _bytes(amount: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if amount >= size:
            return f"{amount / size:,.2g} {unit}" if amount < 10 * size else f"{amount / size:,.0f} {unit}"
    return f"{amount / 1e3:,.0f} kB"
