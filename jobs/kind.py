"""The definition of a kind of trial, which the rest of the program queries, and the registered kinds. No torch.

A kind is a folder in ``jobs.kinds`` whose ``kind.py`` defines a ``Kind`` named ``KIND``. Other packages add kinds
through entry points in the group ``deltasweep.kinds``, each of which refers to such a ``Kind``.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint
from typing import Any, NamedTuple

from jobs.catalog.architecture_card import Architecture
from jobs.catalog.catalog import Catalog
from jobs.catalog.costs import Flops
from jobs.catalog.source_card import SourceCard
from jobs.errors import Code, InvalidRequest, Mistake
from jobs.provenance import registered_kinds
from jobs.specs.columns import RowSchema
from jobs.specs.section import Section
from jobs.specs.trial import TrialSpec

PACKAGED = (
    "jobs.kinds.finetune.kind:KIND",
    "jobs.kinds.pretrain.kind:KIND",
    "jobs.kinds.attack.kind:KIND",
    "jobs.kinds.influence.kind:KIND",
    "jobs.kinds.shape_bias.kind:KIND",
    "jobs.kinds.visualize.kind:KIND",
)
"""The kinds of this package. To register another one, add a line."""

KIND_NAME = re.compile(r"[a-z][a-z_]*", re.ASCII)
"""A kind's name is also a folder of results and the key of a section in a study file."""
_TAKEN_VIEWS = ("trials", "failures")
"""Query views that do not belong to a kind."""

NOT_INSTALLED = "which no installed package provides"
INSTALL_IT = "Fix: install the package that provides it, or a newer DeltaSweep that includes it"
"""Parts of messages about a kind that is not registered."""

RESULT_BYTES = 23_000
"""Size of a trial's Parquet file: 21 to 23 kB as measured, nearly all of it the schema."""

ResultRow = Mapping[str, Any]
"""A row of a result: value by column name."""


GRID_KIND = "finetune"
"""The kind of the trials that a study's grid and schedule declare. Evaluations and deltas are results of this kind."""


class Stage(IntEnum):
    """When trials of a kind run in a launch: each stage reads the output of the stages before it."""

    SOURCES = 0
    TRANSFER = 1
    DIAGNOSTICS = 2


class Matrix(NamedTuple):
    """The cost of a matrix that a trial keeps in memory."""

    rows: int
    bytes: int
    """Peak memory, in addition to the memory that every trial needs."""
    operations: float
    """FLOPs in float64: to compute the matrix, to invert it, and to apply the inverse to the images."""
    measure: str = ""
    decomposition: str | None = None
    """How the matrix is inverted, where there are several ways."""


class Workload(NamedTuple):
    """The work that a trial requires, known before it runs."""

    architecture: Architecture
    gradient_blocks: int
    """How many of the last blocks gradients pass through; -1: the whole network, or back to the image."""
    batch_size: int
    """Images per training or diagnostic step, over all replicas."""
    evaluation_batch_size: int
    images_trained: int = 0
    """Images processed by training steps, over all epochs; attack steps on them are not counted."""
    images_evaluated: int = 0
    """Images passed forward for evaluation, over all evaluated epochs or restarts."""
    attack_steps: int = 0
    """Attack steps, each on one image: a forward pass, and a backward pass to the image at about the same cost."""
    result_bytes: int = RESULT_BYTES
    """Size of its file in the results root."""
    checkpoint_blocks: int | None = None
    """How many of the last blocks have their parameters and the optimizer's state in checkpoints; -1: all; None: no
    training."""
    number_bytes: int = 4
    """Bytes of a number in activations, which follow from the recipe's precision."""
    state_numbers: int = 1
    """Numbers that the optimizer keeps per trained parameter. Trials without training are counted like those of SGD."""
    replicas: int = 1
    """Processes that share a batch, one GPU each."""
    whole_training_images: bool = False
    """Whether training images are kept uncropped, so that crops can be taken from anywhere."""
    matrix: Matrix | None = None
    uncounted: str = ""
    """What it computes besides this, in words, such as "inverting matrices": no estimate of time includes it."""


class Sharing(NamedTuple):
    """How trials of a kind run together in one actor, and which files they cache on a machine for each other."""

    bundle: str
    """``module:class`` that runs several trials together (``jobs.execution.bundles``)."""
    key: Callable[[Any], TrialSpec]
    """A key that is equal for trials that can run together."""
    flops: Callable[[Sequence[Any], Catalog, set[object]], Flops]
    """FLOPs of trials in one actor, given the set of already cached files, to which theirs are added."""
    kept_bytes: Callable[[Iterable[Any], Catalog], int]
    """Total size of all files that the trials cache."""


class Contradiction(NamedTuple):
    """A contradiction in the rows of a result."""

    column: str
    message: str
    """The rule, and the value in the file."""


def _no_contradictions(rows: Sequence[ResultRow], spec: Any) -> Iterator[Contradiction]:
    yield from ()


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of trial.

    Functions that need cards receive the study's catalogue; none of the functions loads torch.
    """

    spec: type[TrialSpec]
    """The class of its specs, which has the kind's name and numerics."""
    stage: Stage
    rows: RowSchema
    """The columns of its results."""
    workload: Callable[[Any, Catalog], Workload]
    """Map a spec to the trial's workload."""
    problems: Callable[[Any, Catalog], list[Mistake]]
    """Map a spec to every rule that it breaks, with the field that breaks it; an empty list means that it can run."""
    row_numbers: Callable[[ResultRow, Sequence[Any]], Sequence[Any]]
    """Map a result's first row and the numbers of its rows to the row numbers that it should have."""
    trial: str
    """``module:class`` that runs a trial, a ``jobs.execution.trial.Trial``; loaded when one runs."""
    contradictions: Callable[[Sequence[ResultRow], Any], Iterator[Contradiction]] = _no_contradictions
    """Map a result's rows, and its spec where known, to the contradictions in the columns that only this kind has."""
    section: type[Section] | None = None
    """Its section of a study file, under the kind's name; None: the study's grid and schedule."""
    section_description: str = ""
    section_since: str | None = None
    """The release that added the section; None: it has always existed."""
    section_problems: Callable[[Any, Sequence[Any], Catalog], list[Mistake]] = lambda section, tuned, catalog: []
    """Map its section and the study's fine-tuning trials to broken rules that no single trial shows."""
    expand: Callable[[Any, Sequence[Any], Catalog], Iterable[TrialSpec]] | None = None
    """Map its section and the study's fine-tuning trials to its trials."""
    makes_source: Callable[[SourceCard, Catalog], TrialSpec | None] = lambda card, catalog: None
    """Map a source's card to the trial that trains the source; None if no trial of the kind does."""
    sharing: Sharing | None = None
    """None: each trial runs alone and caches nothing for others."""
    report_section: str | None = None
    """``module:name`` of its section of the report (``analysis.page``)."""

    def __post_init__(self) -> None:
        """Check the definition.

        Raises:
            ValueError: if its name is invalid, or its rows lack required columns.
        """
        if not KIND_NAME.fullmatch(self.name):
            raise ValueError(f"expected a kind name of lower-case letters and '_'; got {self.name!r}")
        self.rows.require_complete()

    @property
    def name(self) -> str:
        return self.spec.kind

    @property
    def keeps_weights(self) -> bool:
        """Whether every trial's network is kept in the results root, because other trials start from it."""
        return self.stage is Stage.SOURCES


def load(name: str) -> Any:
    """Import the module of ``module:attribute`` and return the attribute."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


@cache
def kinds() -> Mapping[str, Kind]:
    """Return all registered kinds by name: those of this package, then those of other packages.

    Raises:
        InvalidRequest: if a kind of another package cannot be loaded, or has the name or view of another kind.
    """
    registered: dict[str, Kind] = {kind.name: kind for kind in map(load, PACKAGED)}
    registered_by = dict.fromkeys(registered, "DeltaSweep itself")
    for point in registered_kinds():
        kind = _of_package(point)
        for name, other in registered.items():
            _require_apart(kind, other, point, registered_by[name])
        _require_fitting(kind, point)
        registered[kind.name], registered_by[kind.name] = kind, _in_words(point)
    return registered


def _of_package(point: EntryPoint) -> Kind:
    try:
        kind = point.load()
    except Exception as error:
        raise _unusable(point, f"{type(error).__name__}: {error}") from error
    if not isinstance(kind, Kind):
        raise _unusable(point, f"expected a jobs.kind.Kind; got {type(kind).__name__}")
    return kind


def _require_fitting(kind: Kind, point: EntryPoint) -> None:
    """Refuse a kind that would change existing views or the digests of existing studies."""
    if kind.rows.view in _TAKEN_VIEWS:
        raise _unusable(point, f"expected a view other than {' or '.join(_TAKEN_VIEWS)}; got {kind.rows.view!r}")
    if kind.section is not None and kind.section_since is None:
        raise _unusable(point, "expected section_since: digests of studies without the section must not change")


def _require_apart(kind: Kind, other: Kind, point: EntryPoint, registered_by: str) -> None:
    for what, name, taken in (("name", kind.name, other.name), ("view", kind.rows.view, other.rows.view)):
        if name == taken:
            raise InvalidRequest(
                Code.REPEATED,
                f"expected kinds of trial with different names and views; got two with the {what} {name!r}, from "
                f"{registered_by} and from {_in_words(point)}. Fix: uninstall one of them",
                key=point.name,
            )


def _unusable(point: EntryPoint, why: str) -> InvalidRequest:
    return InvalidRequest(
        Code.UNUSABLE_PACKAGE,
        f"the kind of trial from {_in_words(point)} cannot be used: {why}. Fix: repair or uninstall that package",
        key=point.name,
    )


def _in_words(point: EntryPoint) -> str:
    package = f"the package {point.dist.name} {point.dist.version}" if point.dist else "a package"
    return f"{package} (entry point {point.name} = {point.value})"


def kind_of(spec: TrialSpec) -> Kind:
    """Return the kind of a trial."""
    return kinds()[spec.kind]


def workload(spec: TrialSpec, catalog: Catalog) -> Workload:
    """Return the workload of a trial."""
    return kind_of(spec).workload(spec, catalog)._replace(number_bytes=spec.recipe.number_bytes)


def source_trial(card: SourceCard, catalog: Catalog) -> TrialSpec | None:
    """Return the trial that trains a source; None if no trial does."""
    trials = (kind.makes_source(card, catalog) for kind in kinds().values())
    return next((trial for trial in trials if trial is not None), None)


def sources_made(specs: Iterable[TrialSpec], catalog: Catalog) -> dict[str, str]:
    """Return the sources that the given trials train, each with the id of its trial."""
    made = {spec.trial_id for spec in specs if kind_of(spec).keeps_weights}
    trials = {name: source_trial(card, catalog) for name, card in catalog.sources.items()} if made else {}
    return {name: trial.trial_id for name, trial in trials.items() if trial is not None and trial.trial_id in made}


def plain(spec: TrialSpec) -> dict[str, Any]:
    """Return a trial as plain values that can be passed between processes; ``from_plain`` is the inverse."""
    return {"kind": spec.kind, **spec.model_dump(mode="json")}


def from_plain(values: Mapping[str, Any]) -> TrialSpec:
    """Return the trial that ``plain`` converted."""
    fields = {key: value for key, value in values.items() if key != "kind"}
    return kinds()[values["kind"]].spec.model_validate(fields)
