"""What a trial is: frozen specifications, one class a kind, and the id that follows from each.

A spec holds every choice that changes numbers and nothing else. Where a trial runs, what the study is
called, where files lie: none of it is here, so none of it can change an id (design, promises 1 and 4).
"""

from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from itertools import product
from types import MappingProxyType
from typing import Annotated, Any, ClassVar, Literal, Self, TypeAlias

from pydantic import (
    ConfigDict,
    Field,
    StrictBool,
    StrictFloat,
    StrictInt,
    field_validator,
    model_validator,
)
from pydantic_core import to_jsonable_python

from jobs.canonical import digest
from jobs.growth import Growing, is_later, later

ALL = -1
"""``images: -1`` is the whole training set, ``blocks: -1`` the whole network."""

MOST = 2**31 - 1
"""The largest whole number that a spec takes: every kind of storage and generator can hold it."""

MOST_EPOCHS = 1_000_000

MOST_DENSE = 32_766
"""Rows of the largest matrix that is held whole and inverted: LAPACK counts the 1 + 6 n + 2 n^2 numbers that its
eigenvectors (``dsyevd``) take on the way in 32 bits. Whether a machine has the memory is asked there (``jobs.dense``).
"""

Decomposition = Literal["eigh", "svd"]
"""How the singular values of a symmetric matrix are found: as its eigenvalues' absolute values, or by an SVD."""

MOST_DECOMPOSED: Mapping[Decomposition, int] = MappingProxyType({"eigh": MOST_DENSE, "svd": 26_753})
"""The same for each decomposition: singular vectors (``dgesdd``) take 7 n + 3 n^2 numbers on the way."""

MOST_KEPT_BYTES = 2 << 30
"""Where activations of a training subset are more, the trunk runs on each batch. A change of it changes numbers: on a
batch as it is trained on, sums are in another order than on the subset in its own.
"""

MATRIX_GROUPS = 100
"""Groups of images on each side of the matrix that an influence trial keeps (Figure 7a); with more labels, as many."""

MOST_PICTURES = 64
"""Pictures that one trial's result holds: at 224 pixels 150,528 bytes each, 10 MB at most."""

NAME_PATTERN = r"^[a-z0-9][a-z0-9_.-]*$"
"""Names of sources, datasets and studies: they become parts of file names on every kind of storage."""


class Constraint(StrEnum):
    """The set that a source model's training perturbed its images in (paper, Sections 4 and 7)."""

    NONE = "none"
    L2 = "l2"
    LINF = "linf"
    GAUSSIAN = "gaussian"
    FOURIER = "fourier"
    """An L2 ball of some frequencies alone (A.12)."""


class Spec(Growing):
    """Base of everything that takes part in an identity: frozen, keyword-only, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)


class ThreatModel(Spec):
    """How images are perturbed: the constraint, its radius, and the search inside it."""

    constraint: Constraint
    epsilon: StrictFloat = Field(ge=0, description="radius, images in [0, 1]; linf 4/255 is 0.01568...")
    steps: StrictInt = Field(default=0, ge=0, description="k of PGD(k), equation (4)")
    step_scale: StrictFloat = Field(default=2.5, gt=1.5, lt=4, description="c in alpha = c * epsilon / k (A.2)")
    start: Literal["zero", "random"] = Field(
        default="zero", description="random: a random point, of the cube (linf) or on the sphere (l2, fourier)"
    )
    band: tuple[StrictFloat, StrictFloat] | None = later(
        None,
        since="0.1.0",
        description="of fourier, and of it alone: (a, b); the frequencies (u, v) of perturbations, in cycles an image "
        "of S pixels a side, have a S/2 < max(|u|, |v|) <= b S/2, and bands that begin at 0 have the mean, too",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        searches = self.constraint in (Constraint.L2, Constraint.LINF, Constraint.FOURIER)
        if searches != (self.steps > 0):
            raise ValueError(
                f"l2, linf and fourier need steps of at least 1, none and gaussian need 0; "
                f"constraint is {self.constraint} and steps is {self.steps}"
            )
        if (self.constraint is Constraint.NONE) != (self.epsilon == 0):
            raise ValueError(
                f"epsilon is 0 for the constraint none and above 0 for every other; "
                f"constraint is {self.constraint} and epsilon is {self.epsilon}"
            )
        if self.start == "random" and not searches:
            raise ValueError(
                f"only l2, linf and fourier have a start; constraint is {self.constraint} and start is random"
            )
        require_band(self.constraint, self.band)
        return self

    @property
    def ball(self) -> str:
        """The constraint as results name it: with its band."""
        return self.constraint.value if self.band is None else f"fourier:{self.band[0]:g}-{self.band[1]:g}"

    @property
    def choices(self) -> dict[str, Any]:
        """The columns of a result row."""
        return {**self.model_dump(mode="json", exclude={"band"}), "constraint": self.ball}

    @property
    def step_size(self) -> float:
        """alpha of A.2, in the units of epsilon; equation (5) prints epsilon where alpha is meant."""
        return self.step_scale * self.epsilon / self.steps


def require_band(constraint: str, band: tuple[float, float] | None) -> None:
    """Refuse a band where there is nothing for it to bound, or none where there is.

    Raises:
        ValueError: with the rule.
    """
    if (constraint == Constraint.FOURIER) != (band is not None):
        raise ValueError(f"fourier, and it alone, has a band; constraint is {constraint} and band is {band}")
    if band is not None and not 0 <= band[0] < band[1] <= 1:
        raise ValueError(f"a band goes from a share of 0 or more up to one of 1 or less; it is {list(band)}")


class Execution(Spec):
    """Choices about arithmetic. They change sums in the last bits, so they are part of the recipe."""

    precision: Literal["float32"] = "float32"
    threads: StrictInt = Field(default=1, ge=1, le=1024, description="of torch on the CPU, whatever the actor's share")
    memory_format: Literal["contiguous", "channels_last"] = "channels_last"
    compile: StrictBool = Field(default=False, description="torch.compile; only False so far")
    tf32: StrictBool = Field(default=False, description="TF32 in matrix products and convolutions on CUDA")
    evaluation_batch_size: StrictInt = Field(
        default=256, ge=1, le=MOST, description="images; the split changes sums in the last bits"
    )

    @field_validator("compile")
    @classmethod
    def _not_compiled(cls, value: bool) -> bool:
        if value:
            raise ValueError("torch.compile is not supported so far: only false")
        return value


class Sgd(Execution):
    """Stochastic gradient descent with momentum and step decay (Tables 3 and 4)."""

    optimizer: Literal["sgd"] = "sgd"
    learning_rate: StrictFloat = Field(default=0.1, gt=0, le=1e6)
    momentum: StrictFloat = Field(default=0.9, ge=0, lt=1)
    weight_decay: StrictFloat = Field(default=5e-4, ge=0)
    batch_size: StrictInt = Field(
        default=128, ge=1, le=MOST, description="images; an epoch's last, smaller batch is kept"
    )
    lr_decay: StrictFloat = Field(default=0.1, gt=0, le=1, description="factor at each milestone")
    lr_milestones: Literal["paper", "as-released"] = Field(
        default="paper",
        description="paper: after 1/3 and 2/3 of the epochs; as-released: every epochs // 3, so also after 99 of 100",
    )

    def learning_rate_at(self, epoch: int, epochs: int) -> float:
        """The learning rate during ``epoch`` (from 1) of ``epochs``. Fewer than 3 epochs never decay."""
        period = epochs // 3
        if period == 0:
            return self.learning_rate
        decays = (epoch - 1) // period
        if self.lr_milestones == "paper":
            decays = min(decays, 2)
        return self.learning_rate * self.lr_decay**decays


class Recipe(Sgd):
    """Every choice of fine-tuning that changes the numbers. The defaults are Tables 3 and 4."""

    transforms: Literal["as-released", "as-published", "none"] = Field(
        default="as-released",
        description="of training images. as-released: grey datasets: resize only; colour: crop, flip, jitter and "
        "rotation, each image its own; as-published: these for grey datasets, too; none: resize only",
    )
    normalization: Literal["as-released", "source", "target"] = Field(
        default="source",
        description="whose mean and std: the source's, the target's, or as-released: target's for the natural "
        "source and the source's for robust ones",
    )
    frozen_batchnorm: Literal["batch", "calibrated", "source"] = Field(
        default="batch",
        description="batch: frozen blocks normalise with batch statistics and drift (released code); calibrated: with "
        "statistics estimated once on the trial's own subset; source: with the source's. With blocks -1 nothing is "
        "frozen and all three compute the same",
    )
    fc_init: Literal["normal", "default"] = Field(
        default="normal", description="normal: weights N(0, 1), bias 0 (released code); default: torch's"
    )
    crop: Literal["centre-square", "whole-image"] = later(
        "centre-square",
        since="0.3.0",
        description="where training images that are not square are cropped at random: within 4 pixels of their centre "
        "square, or all along their longer side (released code). Square images, and images that the transforms do not "
        "crop, are the same by both",
    )


Numerics: TypeAlias = Mapping[str, int]
"""By kind."""


class _Today(dict[str, int]):
    """Today's numerics by kind, looked up when asked: most identities ask for one."""

    def __missing__(self, kind: str) -> int:
        return _KINDS[kind].numerics


_TODAY = _Today()


class TrialSpec(Spec):
    """Base of the kinds. ``numerics`` rises whenever a golden number of the kind changes on purpose."""

    kind: ClassVar[str]
    numerics: ClassVar[int]
    first_numerics: ClassVar[int] = 1
    """The oldest that a release wrote."""

    seed: StrictInt = Field(ge=0, le=MOST)
    recipe: Execution

    @property
    def prefix(self) -> str:
        """The readable part of the trial id."""
        raise NotImplementedError

    @property
    def trial_id(self) -> str:
        """Readable prefix + the first 16 hexadecimal digits of the identity's sha256 (design, section 1)."""
        return _trial_id(self, tuple([_KINDS[kind].numerics for kind in self._rests_on]))

    @property
    def identity(self) -> dict[str, Any]:
        """All that the trial's numbers follow from, as plain values."""
        return self.identity_by(_TODAY)

    def identity_by(self, numerics: Mapping[str, int]) -> dict[str, Any]:
        """The identity that the trial had, or would have, under these numerics of the kinds."""
        return {"kind": self.kind, "numerics": numerics[self.kind], "spec": self.model_dump(mode="json")}

    @property
    def _rests_on(self) -> tuple[str, ...]:
        """The kinds whose numerics are part of the identity."""
        return (self.kind,)

    @property
    def older_ids(self) -> Mapping[str, Numerics]:
        """The ids that this trial had before ``numerics`` of its kind rose, or of the kind of the network that it
        examines: each with those numerics of then that are others today.
        """
        today = {kind: spec.numerics for kind, spec in _KINDS.items()}
        return _older_ids(self, tuple(today.items()))

    @property
    def choices(self) -> dict[str, Any]:
        """The spec's own columns of a result row: every field but the recipe, which all kinds have.

        Later fields are columns while they have their default, too: there is no row without its columns.
        """
        later = {name: getattr(self, name) for name, field in type(self).model_fields.items() if is_later(field)}
        return {**to_jsonable_python(later), **self.model_dump(mode="json", exclude={"recipe"})}


@lru_cache(maxsize=65_536)
def _trial_id(spec: TrialSpec, numerics: tuple[int, ...]) -> str:
    """Hashed once a process; ``numerics`` that the id rests on take part, so that it outlives no change of one."""
    return f"{spec.prefix}-{digest(spec.identity)[:16]}"


@lru_cache(maxsize=65_536)
def _older_ids(spec: TrialSpec, today: tuple[tuple[str, int], ...]) -> Mapping[str, Numerics]:
    """Hashed once a process, as ``_trial_id``."""
    numerics, kinds = dict(today), spec._rests_on
    found = {}
    for numbers in product(*map(numerics_ever, kinds)):
        risen = {kind: number for kind, number in zip(kinds, numbers, strict=True) if number < numerics[kind]}
        if risen:
            found[f"{spec.prefix}-{digest(spec.identity_by({**numerics, **risen}))[:16]}"] = risen
    return found


class TrainingSpec(TrialSpec):
    """Base of the kinds that train a network, epoch by epoch."""

    epochs: StrictInt = Field(ge=1, le=MOST_EPOCHS)
    recipe: Sgd


class FinetuneSpec(TrainingSpec):
    """One fine-tuning trial: the last ``blocks`` blocks of ``source`` on ``images`` images of ``dataset``."""

    kind: ClassVar[str] = "finetune"
    numerics: ClassVar[int] = 2
    first_numerics: ClassVar[int] = 2

    source: str = Field(pattern=NAME_PATTERN)
    dataset: str = Field(pattern=NAME_PATTERN)
    blocks: StrictInt = Field(ge=ALL, le=MOST, description="fine-tuned blocks besides the FC layer; -1: everything")
    images: StrictInt = Field(ge=ALL, le=MOST, description="size of the random training subset; -1: the whole set")
    evaluate_every: StrictInt = Field(
        ge=1, le=MOST, description="f: test accuracy after epoch 1, 1 + f, 1 + 2f, ... and the last"
    )
    recipe: Recipe

    @model_validator(mode="after")
    def _some_images(self) -> Self:
        if self.images == 0:
            raise ValueError("images is the size of the training subset: at least 1, or -1 for the whole set; it is 0")
        return self

    @property
    def prefix(self) -> str:
        return f"{self.kind}-{self.dataset}-{self.source}-k{self.blocks}-n{self.images}-s{self.seed}"

    @property
    def evaluated_epochs(self) -> list[int]:
        """Epochs (from 1) after which the whole test set is evaluated (Section A.4)."""
        return sorted({*range(1, self.epochs + 1, self.evaluate_every), self.epochs})

    @property
    def keeps_activations(self) -> bool:
        """Whether what is frozen stays as it is, so that what it makes of an image is computed once."""
        return self.blocks != ALL and self.recipe.frozen_batchnorm != "batch"


class PretrainRecipe(Sgd):
    """Every choice of pretraining that changes the numbers, besides the threat model. Defaults: A.10."""

    transforms: Literal["none", "random-resized-crop"] = Field(
        default="none",
        description="of training images: none, or a random crop of 8 to 100 % of the area, resized, and a flip",
    )
    replicas: StrictInt = Field(
        default=1,
        ge=1,
        le=1024,
        description="processes that share each batch, one GPU each; BatchNorm sees the replica's part of the batch",
    )

    @model_validator(mode="after")
    def _an_image_each(self) -> Self:
        if self.replicas > self.batch_size:
            raise ValueError(
                f"every replica needs an image of the batch; there are {self.replicas} for {self.batch_size}"
            )
        return self


class PretrainSpec(TrainingSpec):
    """One source model trained from random initialisation, naturally or adversarially (A.2, A.10)."""

    kind: ClassVar[str] = "pretrain"
    numerics: ClassVar[int] = 1

    architecture: str = Field(pattern=NAME_PATTERN)
    dataset: str = Field(pattern=NAME_PATTERN)
    threat: ThreatModel
    recipe: PretrainRecipe

    @property
    def prefix(self) -> str:
        return f"{self.kind}-{self.dataset}-{self.architecture}-{self.threat.constraint}-s{self.seed}"

    @property
    def choices(self) -> dict[str, Any]:
        fields = super().choices
        del fields["threat"]
        return {**self.threat.choices, **fields}


class ExaminationSpec(TrialSpec):
    """Base of the kinds that look at a network as it is: a source model's, or that of a fine-tuned trial."""

    network: FinetuneSpec | Annotated[str, Field(pattern=NAME_PATTERN)] = Field(
        description="a source's name, or the whole fine-tuning trial, so that the id follows from what is examined"
    )
    dataset: str = Field(pattern=NAME_PATTERN, description="whose test images are shown to it")

    @property
    def source(self) -> str:
        """The source that the network is, or was fine-tuned from."""
        return self.network if isinstance(self.network, str) else self.network.source

    @property
    def finetuned_dataset(self) -> str | None:
        """What the network was fine-tuned on: for kinds that show it images of another dataset."""
        return None if isinstance(self.network, str) else self.network.dataset

    @property
    def prefix(self) -> str:
        tuned = self.network
        of = "" if isinstance(tuned, str) else f"-k{tuned.blocks}-n{tuned.images}-s{tuned.seed}"
        return f"{self.kind}-{self.dataset}-{self.source}{of}"

    def identity_by(self, numerics: Mapping[str, int]) -> dict[str, Any]:
        found = super().identity_by(numerics)
        if isinstance(self.network, FinetuneSpec):
            found["spec"]["network"] = self.network.identity_by(numerics)
        return found

    @property
    def _rests_on(self) -> tuple[str, ...]:
        return (self.kind,) if isinstance(self.network, str) else (self.kind, FinetuneSpec.kind)

    @property
    def choices(self) -> dict[str, Any]:
        tuned = self.network if isinstance(self.network, FinetuneSpec) else None
        return {
            **{name: value for name, value in super().choices.items() if name != "network"},
            "source": self.source,
            "finetuned": tuned and tuned.trial_id,
            "blocks": tuned and tuned.blocks,
            "images": tuned and tuned.images,
            "finetuned_seed": tuned and tuned.seed,
            "finetuned_epochs": tuned and tuned.epochs,
            "finetuned_recipe": tuned and recipe_digest(tuned.recipe),
            "finetuned_numerics": tuned and tuned.numerics,
        }


class AttackSpec(ExaminationSpec):
    """Accuracy of a network on test images that are moved as a threat model says (Table 1b)."""

    kind: ClassVar[str] = "attack"
    numerics: ClassVar[int] = 1

    threat: ThreatModel = Field(description="none: clean images")
    restarts: StrictInt = Field(
        default=1, ge=1, le=1000, description="attacks on each image, each with its own draws; the worst counts"
    )
    test_images: StrictInt = Field(
        default=ALL, ge=ALL, le=MOST, description="size of the random part of the test set; -1: the whole"
    )

    @model_validator(mode="after")
    def _worth_it(self) -> Self:
        draws = self.threat.start == "random" or self.threat.constraint is Constraint.GAUSSIAN
        if self.restarts > 1 and not draws:
            raise ValueError(
                f"an attack that draws nothing ends where it ended before: restarts need start random; there are "
                f"{self.restarts}, of constraint {self.threat.constraint} and start {self.threat.start}"
            )
        if self.test_images == 0:
            raise ValueError("test_images is the number of attacked images: at least 1, or -1 for all; it is 0")
        return self

    @property
    def prefix(self) -> str:
        radius = f"-{self.threat.epsilon:.4g}" if self.threat.epsilon else ""
        return f"{super().prefix}-{self.threat.constraint}{radius}"

    @property
    def choices(self) -> dict[str, Any]:
        fields = super().choices
        del fields["threat"]
        return {**self.threat.choices, **fields}


Measure = Literal["influence", "pseudo-inverse", "fisher"]
"""How training and test images are compared through the last layer: influence with a damped Hessian, by conjugate
gradients; influence by the pseudo-inverse of the whole Hessian, without damping (A.9); similarity by the Fisher kernel.
"""


class InfluenceSpec(ExaminationSpec):
    """The training images that stand first for each test image of a fine-tuned trial (Section 6). It draws nothing: its
    seed is that of the fine-tuned trial.
    """

    kind: ClassVar[str] = "influence"
    numerics: ClassVar[int] = 1

    network: FinetuneSpec
    measure: Measure
    damping: StrictFloat = Field(ge=0, description="added to the diagonal of what is inverted; pseudo-inverse: 0")
    cutoff_absolute: StrictFloat | None = Field(ge=0, description="singular values up to this count as 0")
    cutoff_relative: StrictFloat | None = Field(ge=0, lt=1, description="those up to this share of the largest too")
    top: StrictInt = Field(ge=1, le=1000, description="training images that are kept for each test image")
    decomposition: Decomposition = later(
        "eigh",
        since="0.3.0",
        description="how the pseudo-inverse finds singular values; where the cut-offs keep rounding, it decides",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        inverts = self.measure == "pseudo-inverse"
        if inverts == (self.damping > 0):
            raise ValueError(
                f"the pseudo-inverse has a damping of 0, influence and fisher one above 0; measure is {self.measure} "
                f"and damping is {self.damping}"
            )
        if inverts == (self.cutoff_absolute is None or self.cutoff_relative is None):
            raise ValueError(f"both cut-offs belong to the pseudo-inverse, and to it alone; measure is {self.measure}")
        if self.decomposition != "eigh" and not inverts:
            raise ValueError(
                f"a decomposition belongs to the pseudo-inverse alone; measure is {self.measure} and decomposition is "
                f"{self.decomposition}. Fix: leave decomposition out"
            )
        if self.dataset != self.network.dataset:
            raise ValueError(
                f"test images are those of the dataset that was fine-tuned on, {self.network.dataset}; "
                f"dataset is {self.dataset}"
            )
        return self

    @property
    def prefix(self) -> str:
        return f"{super().prefix}-{self.measure}"

    @property
    def choices(self) -> dict[str, Any]:
        inverts = self.measure == "pseudo-inverse"
        return {**super().choices, "decomposition": self.decomposition if inverts else None}


class ShapeBiasSpec(ExaminationSpec):
    """What a network decides on images whose shape and texture are of two labels (Section 5; Geirhos et al. 2019). It
    draws nothing: its seed is that of the fine-tuned trial, or the first.
    """

    kind: ClassVar[str] = "shape_bias"
    numerics: ClassVar[int] = 1

    @property
    def choices(self) -> dict[str, Any]:
        return {**super().choices, "finetuned_dataset": self.finetuned_dataset}


class VisualizeSpec(ExaminationSpec):
    """What raises the activation of one feature of the penultimate layer, from some seed images (Figure 1b, A.1).

    ``dataset`` is the seed images': of any labels. The defaults are those of the robustness library's authors, for
    images of 224 pixels: no distance in the cube is as far as the radius, so that the cube alone binds.
    """

    kind: ClassVar[str] = "visualize"
    numerics: ClassVar[int] = 1

    unit: StrictInt = Field(ge=0, le=MOST, description="the feature, from 0; the pooled ones before the FC layer")
    test_images: StrictInt = Field(ge=1, le=MOST_PICTURES, description="seed images: a random part of the test set")
    epsilon: StrictFloat = Field(default=1000.0, gt=0, description="L2 radius around each seed, images in [0, 1]")
    step_size: StrictFloat = Field(default=1.0, gt=0, description="L2 length of a step up the gradient")
    steps: StrictInt = Field(default=200, ge=1, le=MOST)

    @property
    def prefix(self) -> str:
        return f"{super().prefix}-u{self.unit}"

    @property
    def choices(self) -> dict[str, Any]:
        return {**super().choices, "finetuned_dataset": self.finetuned_dataset}


AnySpec = FinetuneSpec | PretrainSpec | AttackSpec | InfluenceSpec | ShapeBiasSpec | VisualizeSpec
"""A trial of any kind."""

_KINDS: dict[str, type[AnySpec]] = {
    spec.kind: spec for spec in (PretrainSpec, FinetuneSpec, AttackSpec, InfluenceSpec, ShapeBiasSpec, VisualizeSpec)
}


def numerics_of(kind: str) -> int:
    """Today's numerics of a kind."""
    return _KINDS[kind].numerics


def numerics_ever(kind: str) -> range:
    """All numerics that a kind has had, today's last."""
    return range(_KINDS[kind].first_numerics, _KINDS[kind].numerics + 1)


def spec_class(kind: str) -> type[AnySpec]:
    """The class of a kind's specs."""
    return _KINDS[kind]


def plain(spec: AnySpec) -> dict[str, Any]:
    """A trial as plain values, to travel between processes; ``from_plain`` reads it back."""
    return {"kind": spec.kind, **spec.model_dump(mode="json")}


def from_plain(values: Mapping[str, Any]) -> AnySpec:
    """The trial that ``plain`` gave."""
    return _KINDS[values["kind"]].model_validate({key: value for key, value in values.items() if key != "kind"})


def recipe_digest(recipe: Execution) -> str:
    """A short name for a recipe, equal exactly when every choice is: 12 hexadecimal digits."""
    return digest(recipe.model_dump(mode="json"))[:12]


def apart_from_blocks(spec: FinetuneSpec) -> FinetuneSpec:
    """What the trials of a bundle have in common: equal exactly when they differ only in ``blocks``."""
    return spec.model_copy(update={"blocks": ALL})


class Contrast(Spec):
    """A comparison that a study declares beforehand: ``source`` minus ``baseline``, or two depths of one source.

    Its cells are the (dataset, images) of the study at the given blocks and epoch. All cells of the contrasts of one
    ``family`` of a study are corrected together by Holm's method (design, section 10).
    """

    source: str = Field(pattern=NAME_PATTERN)
    baseline: str = Field(pattern=NAME_PATTERN)
    blocks: tuple[StrictInt, ...] = Field(min_length=1)
    epoch: Annotated[int, Field(strict=True, ge=1)] | Literal["last"] = "last"
    baseline_blocks: StrictInt | None = later(
        None,
        since="0.3.0",
        description="fine-tuned blocks of the baseline, where it is the same source at another depth; by default those "
        "of the source",
    )
    family: str | None = later(
        None,
        since="0.3.0",
        pattern=NAME_PATTERN,
        max_length=60,
        description="the set of contrasts that is corrected together; by default the study's own set",
    )

    @model_validator(mode="after")
    def _unlike_arms(self) -> Self:
        if self.source == self.baseline and self.baseline_blocks is None:
            raise ValueError(
                f"expected two sources, or one source at two depths; got {self.source} twice without "
                "baseline_blocks. Fix: name another baseline, or the baseline's depth as baseline_blocks"
            )
        if self.source != self.baseline and self.baseline_blocks is not None:
            raise ValueError(
                f"expected baseline_blocks between depths of one source alone; got {self.source} and {self.baseline}. "
                "Fix: leave baseline_blocks out, or name one source twice"
            )
        if self.baseline_blocks in self.blocks:
            raise ValueError(
                f"expected another depth than baseline_blocks among blocks; got {self.baseline_blocks} in both. "
                "Fix: leave it out of one"
            )
        return self
