"""The size of a study, its remaining work, and the estimated cost in time, money, memory and disk. No torch."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, Literal, NamedTuple

from jobs.catalog.catalog import Catalog
from jobs.catalog.costs import Flops, flops_evaluated_image, parameters
from jobs.execution.retention import keeps_weights
from jobs.kind import Stage, Workload, kind_of, workload
from jobs.specs.trial import TrialSpec
from jobs.study.model import Study
from orchestrator.planning.bundles import bundled
from orchestrator.planning.dependencies import networks_needed
from orchestrator.planning.flops import flops_alone, flops_by_format, kept_bytes
from orchestrator.planning.gpu_shares import bundle_memory, even_share
from orchestrator.planning.gpu_table import Device, Format
from orchestrator.planning.gpus import SMALL_FLOPS, Gpu, Reached
from orchestrator.planning.makespan import launch_here
from orchestrator.planning.stages import StageTrials, retention_of, stages_of

_Part = Literal["train", "whole", "test"]
"""Part of a dataset's resized images. Whole images are training images that may be cropped anywhere."""
DENSE_RATE = 1.5e10
"""Assumed float64 operations per second of one core when inverting matrices."""

_CHECKPOINTS_KEPT = 2
_FLOAT = 4


class Matrices(NamedTuple):
    """Pending trials that need a full matrix of the same size (``jobs.kinds.influence.workload``)."""

    measure: str
    decomposition: str | None
    """Inversion method, if there are several."""
    trials: int
    rows: int
    bytes: int
    """Memory per trial: of the GPU if there is one, else of the machine."""
    operations: float
    """Float64 operations per trial."""

    @property
    def core_hours(self) -> float:
        """Hours of one core per trial, at the assumed rate."""
        return self.operations / DENSE_RATE / 3600

    def plain(self) -> dict[str, Any]:
        return {**self._asdict(), "core_hours": self.core_hours}


class StageMemory(NamedTuple):
    """The GPU memory that trials of a stage need, and the share that the study requests for each of them."""

    kind: str
    trials: int
    memory: float
    """Bytes per GPU that the largest actor needs, including matrices that it inverts as a whole."""
    share: float
    """This memory as a fraction of the plan's GPU."""
    requested: float | Literal["auto"]
    """GPUs per process."""
    auto: float
    """The share that ``gpu: auto`` gives them in a cluster of these GPUs."""
    remedy: str
    """What to change if one GPU is too small."""

    def plain(self) -> dict[str, Any]:
        """Return the stage as in ``plan --json``."""
        return {name: value for name, value in self._asdict().items() if name != "remedy"}


class Plan(NamedTuple):
    """Size and cost of a study. done, pending, quarantined and damaged add up to trials.

    Work, time, money, results, activations and matrices are those of the pending trials. Memory, checkpoints and images
    are those of all trials.
    """

    study: str
    trials: int
    done: int
    pending: int
    quarantined: int
    damaged: int
    """Trials whose result is damaged or not a file. It must be moved away before they can run."""
    older_numerics: int
    """Trials that only have results with older numerics versions."""
    accepted_numerics: int
    """The number of these trials that count as done."""
    earlier_versions_done: int
    """Finished trials of earlier versions of the study that are not part of this version."""
    images_trained: int
    images_evaluated: int
    flops: Flops
    flops_alone: float
    """Operations without bundles and caches."""
    flops_by_format: Mapping[Format, float]
    """Operations by the format that recipes compute in."""
    gpu: Gpu
    rates: tuple[Reached, ...]
    """The GPU's rates in these formats; none if the hours were measured."""
    small_networks: bool
    """Whether all pending trials are of networks that are far smaller than the one whose rates these are, ResNet-50."""
    gpu_hours: float
    """Hours of the GPU, or of this machine's processor if ``on_processor``."""
    measured: str
    """Description of the measurement; empty if the hours follow from the GPU's rates."""
    on_processor: bool
    """Whether the hours were measured on this machine's processor."""
    side_by_side: int
    """How many trials (or bundles) a launch runs at once on this machine's cores if ``on_processor``; else 0."""
    seconds_here: float | None
    """Seconds until a launch on this machine ends, if trials take as much processor time side by side as alone, without
    reading images, starting Ray, and what is uncounted; None unless ``on_processor``.
    """
    memory: float
    """Bytes of GPU memory that the largest trial needs, including the CUDA runtime."""
    gpu_share: float
    """This memory as a fraction of the GPU's."""
    actor_memory: float
    """Bytes of GPU memory that the largest actor of any stage needs, including matrices that it inverts as a whole."""
    stages: tuple[StageMemory, ...]
    """The memory of the trials of each stage of a launch, in order."""
    checkpoints: int
    """Bytes of the largest trial's checkpoints."""
    results: int
    """Bytes of all results and kept weights."""
    images_at_rest: int
    """Bytes of all resized images, per machine."""
    activations: int
    """Bytes of all files of cached activations. A machine keeps them up to its limit."""
    matrices: tuple[Matrices, ...]
    """Full matrices that influence trials invert. Their time is not included in the GPU-hours."""
    uncounted: tuple[str, ...]
    """What pending trials compute besides the work above, in words (``Workload.uncounted``). No time includes it."""

    @property
    def on_demand(self) -> float | None:
        """US dollars for all trials at the on-demand price; None if none is known or the hours are a processor's."""
        return None if self.gpu.on_demand is None or self.on_processor else self.gpu_hours * self.gpu.on_demand.dollars

    @property
    def spot(self) -> float | None:
        """US dollars at the spot price, without the work lost to preemptions; None as for ``on_demand``."""
        return None if self.gpu.spot is None or self.on_processor else self.gpu_hours * self.gpu.spot.dollars

    @property
    def gpu_auto(self) -> float:
        """The share that ``gpu: auto`` means in a cluster of these GPUs."""
        return even_share(self.actor_memory, self.gpu.memory)

    def plain(self) -> dict[str, Any]:
        """Return the plan as in ``plan --json``, in bytes, US dollars and operations."""
        return {
            **self._asdict(),
            "flops": self.flops.total,
            "flops_by_part": self.flops._asdict(),
            "matrices": [matrices.plain() for matrices in self.matrices],
            "stages": [stage.plain() for stage in self.stages],
            "gpu": self.gpu.plain(self.rates, self.flops_by_format),
            "rates": [rate.plain() for rate in self.rates],
            "gpu_auto": self.gpu_auto,
            "cost_on_demand": self.on_demand,
            "cost_spot": self.spot,
        }


Seconds = Callable[[TrialSpec], float]
"""Returns the seconds that a trial takes alone on a device."""


class Measured(NamedTuple):
    """Durations of trials as measured on this machine."""

    about: str
    """Description of the measurement."""
    seconds: Seconds
    cores: int = 0
    """Cores of the machine's processor if this is the device, because there is no GPU; else 0."""
    gpu: Device | None = None
    """The GPU of this machine on which they were measured."""


def make_plan(
    study: Study,
    specs: Iterable[TrialSpec],
    done: set[str],
    quarantined: set[str],
    gpu: Gpu,
    measured: Measured | None = None,
    older: Collection[str] = (),
    damaged: Collection[str] = (),
    earlier: Collection[str] = (),
) -> Plan:
    """Count a study's trials and estimate the cost of the pending ones.

    Args:
        older: Trials that only have results with older numerics versions (``Completion``). The accepted ones are also
            in ``done``.
        damaged: Trials whose result is damaged or not a file (``Completion``).
        earlier: Additional finished trials of earlier versions of the study (``earlier_versions``).
        measured: Measured durations. By default they follow from the GPU's rates.

    Raises:
        InvalidRequest: If no rate of the GPU is known in a format that pending trials compute in.
    """
    catalog = study.catalog
    planned = {spec.trial_id: (spec, workload(spec, catalog)) for spec in specs}
    trials, works = [spec for spec, _ in planned.values()], [work for _, work in planned.values()]
    torn = set(damaged) - done
    blocked = quarantined - done - torn
    stays = done | blocked | torn
    pending = {trial: planned[trial] for trial in planned if trial not in stays}
    to_run, to_do = [spec for spec, _ in pending.values()], [work for _, work in pending.values()]
    by_format = flops_by_format(bundled(to_run, study.bundle), catalog)
    flops = Flops(*map(sum, zip(*by_format.values(), strict=True)))
    rates = () if measured else tuple(map(gpu.reached, by_format))
    alone = sum(flops_alone(work).total for work in to_do)
    # measured rates include no sharing: bundles and caches are assumed to save time in proportion to operations
    saved = flops.total / alone if alone else 1
    seconds = (
        saved * sum(map(measured.seconds, to_run))
        if measured
        else sum(by_format[rate.format].total / rate.flops for rate in rates)
    )
    by_id = {trial: spec for trial, (spec, _) in planned.items()}
    here = None
    if measured and measured.cores:
        alone_of = measured.seconds
        here = launch_here(
            study,
            by_id,
            [*pending],
            lambda actor: saved * sum(map(alone_of, actor)),
            measured.cores,
        )
    # memory only of trials that share GPUs, if there are any: training a source uses whole GPUs
    shared = [spec for spec in trials if kind_of(spec).stage is not Stage.SOURCES] or trials
    bundles = [[planned[spec.trial_id][1] for spec in bundle] for bundle in bundled(shared, study.bundle)]
    needed = max(map(bundle_memory, bundles), default=0)
    stages = tuple(_stage_memory(stage, planned[stage.trials[0]], gpu) for stage in stages_of(study, by_id, [*by_id]))
    waited_for = networks_needed(trials)
    kept = sum(
        _FLOAT * parameters(work.architecture)
        for spec, work in pending.values()
        if keeps_weights(spec, work.checkpoint_blocks is not None, retention_of(study, spec, waited_for).weights)
    )
    return Plan(
        study=study.name,
        trials=len(trials),
        done=len(planned.keys() & done),
        pending=len(pending),
        quarantined=len(planned.keys() & blocked),
        damaged=len(planned.keys() & torn),
        older_numerics=len(older),
        accepted_numerics=len(done.intersection(older)),
        earlier_versions_done=len(earlier),
        images_trained=sum(work.images_trained for work in to_do),
        images_evaluated=sum(work.images_evaluated for work in to_do),
        flops=flops,
        flops_alone=alone,
        flops_by_format={form: part.total for form, part in by_format.items()},
        gpu=gpu,
        rates=rates,
        small_networks=0 < max((flops_evaluated_image(work.architecture) for work in to_do), default=0) < SMALL_FLOPS,
        gpu_hours=seconds / 3600,
        measured=measured.about if measured else "",
        on_processor=measured is not None and measured.cores > 0,
        side_by_side=here.actors if here else 0,
        seconds_here=here.seconds if here else None,
        memory=needed,
        gpu_share=needed / gpu.memory,
        actor_memory=max((stage.memory for stage in stages), default=0.0),
        stages=stages,
        checkpoints=max(map(checkpoint_bytes, works), default=0),
        results=sum(work.result_bytes for work in to_do) + kept,
        activations=kept_bytes(to_run, catalog),
        images_at_rest=sum(
            _image_bytes(catalog, *part)
            for part in {part for spec, work in planned.values() for part in _parts(spec, work)}
        ),
        matrices=matrices(to_do),
        uncounted=tuple(sorted({work.uncounted for work in to_do} - {""})),
    )


def _stage_memory(stage: StageTrials, first: tuple[TrialSpec, Workload], gpu: Gpu) -> StageMemory:
    """
    Args:
        first: one of its trials.
    """
    (spec, work), asked = first, stage.resources.gpu
    return StageMemory(
        kind=spec.kind,
        trials=len(stage.trials),
        memory=stage.memory,
        share=stage.memory / gpu.memory,
        requested=asked if isinstance(asked, str) else asked / work.replicas,
        auto=even_share(stage.memory, gpu.memory),
        remedy=stage.remedy,
    )


def matrices(works: Iterable[Workload]) -> tuple[Matrices, ...]:
    """Return the full matrices that trials need, largest first."""
    counts = Counter(work.matrix for work in works if work.matrix is not None)
    held = [
        Matrices(matrix.measure, matrix.decomposition, trials, matrix.rows, matrix.bytes, matrix.operations)
        for matrix, trials in counts.items()
    ]
    return tuple(sorted(held, key=lambda matrices: -matrices.bytes))


def checkpoint_bytes(work: Workload) -> int:
    """Return the bytes of a running trial's checkpoints: the head's parameters and the optimizer's state, kept twice.

    Trials that train nothing only store sums, which are smaller than their results, and count as 0.
    """
    if work.checkpoint_blocks is None:
        return 0
    numbers = (1 + work.state_numbers) * parameters(work.architecture, work.checkpoint_blocks)
    return _CHECKPOINTS_KEPT * _FLOAT * numbers


def _parts(spec: TrialSpec, work: Workload) -> tuple[tuple[str, int, _Part], ...]:
    """Return the resized images that a trial reads: dataset, size and part."""
    size = work.architecture.image_size
    return (spec.dataset, size, "whole" if work.whole_training_images else "train"), (spec.dataset, size, "test")


def _image_bytes(catalog: Catalog, name: str, size: int, part: _Part) -> int:
    """Return the bytes of resized images. Whole images are assumed to be 4:3: only the files have their sizes."""
    card = catalog.dataset(name)
    images = {"train": card.train, "whole": card.train * 4 // 3, "test": card.test}[part]
    return images * (3 if card.colour else 1) * size * size
