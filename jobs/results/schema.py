"""What a finished trial leaves behind: one explicit Arrow schema a kind, every column with a role.

Units and roles stand in the field metadata, so a Parquet file explains itself.

A kind's columns may grow, and nothing else about them may change: a column that a release adds says so (``since``), and
what it is in files that were written before (``fill``). Files of every version are read.
"""

from collections.abc import Mapping
from enum import StrEnum
from functools import cache
from types import MappingProxyType
from typing import NamedTuple

import pyarrow as pa

from jobs.specs import MOST_EPOCHS, MOST_PICTURES


class Role(StrEnum):
    """What a column says about its trial."""

    IDENTITY = "identity"
    """Follows from the spec."""
    NUMBER = "number"
    """Follows from running the spec: equal in every run on one kind of device with the same torch and torchvision
    (design, promise 1)."""
    MEASURED = "measured"
    """Differs from run to run: time, place, versions. Ignored when two runs are compared."""


class Column(NamedTuple):
    name: str
    type: pa.DataType
    role: Role
    description: str
    unit: str = ""
    nullable: bool = False
    since: str = "0.1.0"
    """The release of DeltaSweep whose files are the first to have it."""
    fill: object = None
    """What it is for the rows of older files; None: null, which needs a nullable column."""
    fill_where: tuple[str, str] | None = None
    """A column of text that older files have, and what it is in the rows that are filled; the others have null."""


_I, _N, _M = Role.IDENTITY, Role.NUMBER, Role.MEASURED
_TEXT, _INT, _FLOAT = pa.string(), pa.int64(), pa.float64()
_INTS, _FLOATS = pa.list_(_INT), pa.list_(_FLOAT)
_BYTES = pa.binary()

FINETUNE_COLUMNS: tuple[Column, ...] = (
    Column("trial_id", _TEXT, _I, "readable prefix and hash of the spec"),
    Column("source", _TEXT, _I, "source model"),
    Column("dataset", _TEXT, _I, "target dataset"),
    Column("blocks", _INT, _I, "fine-tuned residual blocks besides the FC layer; -1: all", "blocks"),
    Column("images", _INT, _I, "size of the training subset; -1: the whole set", "images"),
    Column("seed", _INT, _I, "seed of every random choice of the trial"),
    Column("epochs", _INT, _I, "length of the trial", "epochs"),
    Column("evaluate_every", _INT, _I, "distance between evaluations", "epochs", nullable=True),
    Column("recipe", _TEXT, _I, "digest of the recipe; 'imported' when it is not known"),
    Column("recipe_json", _TEXT, _I, "the recipe as canonical JSON", nullable=True),
    Column("numerics", _INT, _I, "version of the kind's numbers", nullable=True),
    Column("origin", _TEXT, _I, "run: by DeltaSweep; imported: from elsewhere"),
    Column("epoch", _INT, _I, "the evaluation was made after this epoch, from 1", "epochs"),
    Column("constraint", _TEXT, _N, "how the source was trained: none, l2, linf, gaussian, fourier", nullable=True),
    Column("epsilon", _FLOAT, _N, "radius of that constraint, images in [0, 1]", nullable=True),
    Column("images_used", _INT, _N, "training images drawn", "images"),
    Column("test_images", _INT, _N, "images in the test set", "images", nullable=True),
    Column("test_accuracy", _FLOAT, _N, "accuracy on the whole test set", "percent"),
    Column("test_loss", _FLOAT, _N, "mean cross-entropy on the whole test set", "nats", nullable=True),
    Column("train_accuracy", _FLOAT, _N, "running accuracy over the epoch's batches", "percent", nullable=True),
    Column("train_loss", _FLOAT, _N, "running mean cross-entropy over the epoch's batches", "nats", nullable=True),
    Column("learning_rate", _FLOAT, _N, "during this epoch", nullable=True),
    Column("weights_sha256", _TEXT, _N, "of the source's weights file", nullable=True),
    Column("dataset_sha256", _TEXT, _N, "of the dataset's images and labels", nullable=True),
    Column("subset_sha256", _TEXT, _N, "of the subset's indices", nullable=True),
    Column("trained_sha256", _TEXT, _N, "of the trained network's safetensors file", nullable=True, since="0.3.0"),
    Column("seconds", _FLOAT, _M, "spent on the trial up to this evaluation, all attempts", "seconds", nullable=True),
    Column(
        "device_kind", _TEXT, _M, "kind of device the numbers are reproducible on; A -> B: on A, then B", nullable=True
    ),
    Column("host", _TEXT, _M, "name of the machine", nullable=True),
    Column("attempt", _INT, _M, "which attempt finished, from 1", nullable=True),
    Column("launch", _TEXT, _M, "id of the launch, empty outside of one", nullable=True),
    Column("finished_at", _TEXT, _M, "UTC, ISO 8601", nullable=True),
    Column("code_version", _TEXT, _M, "of DeltaSweep", nullable=True),
    Column("packages", _TEXT, _M, "versions of packages, JSON; A -> B: by A, then B", nullable=True),
)

_MEASURED = tuple(column for column in FINETUNE_COLUMNS if column.role is Role.MEASURED)

PRETRAIN_COLUMNS: tuple[Column, ...] = (
    Column("trial_id", _TEXT, _I, "readable prefix and hash of the spec"),
    Column("architecture", _TEXT, _I, "network"),
    Column("dataset", _TEXT, _I, "dataset that the source is trained on"),
    Column("constraint", _TEXT, _I, "ball that images are perturbed in: none, l2, linf, gaussian, fourier:BAND"),
    Column("epsilon", _FLOAT, _I, "its radius, images in [0, 1]"),
    Column("steps", _INT, _I, "k of PGD(k); 0: no search"),
    Column("step_scale", _FLOAT, _I, "c in alpha = c * epsilon / k"),
    Column("start", _TEXT, _I, "where the search starts: zero, random"),
    Column("seed", _INT, _I, "seed of every random choice of the trial"),
    Column("epochs", _INT, _I, "length of the trial", "epochs"),
    Column("recipe", _TEXT, _I, "digest of the recipe"),
    Column("recipe_json", _TEXT, _I, "the recipe as canonical JSON"),
    Column("numerics", _INT, _I, "version of the kind's numbers"),
    Column("origin", _TEXT, _I, "run: by DeltaSweep"),
    Column("epoch", _INT, _I, "the numbers are those after this epoch, from 1", "epochs"),
    Column("images_used", _INT, _N, "training images", "images"),
    Column("test_images", _INT, _N, "images in the test set", "images"),
    Column("test_accuracy", _FLOAT, _N, "accuracy on the whole test set", "percent"),
    Column("test_loss", _FLOAT, _N, "mean cross-entropy on the whole test set", "nats"),
    Column(
        "adversarial_accuracy",
        _FLOAT,
        _N,
        "accuracy on the test set under PGD(20) in the source's own ball; after the last epoch",
        "percent",
        nullable=True,
    ),
    Column("train_accuracy", _FLOAT, _N, "running accuracy over the epoch's perturbed batches", "percent"),
    Column("train_loss", _FLOAT, _N, "running mean cross-entropy over the epoch's perturbed batches", "nats"),
    Column("learning_rate", _FLOAT, _N, "during this epoch"),
    Column("dataset_sha256", _TEXT, _N, "of the dataset's images and labels"),
    Column("trained_sha256", _TEXT, _N, "of the trained network's safetensors file"),
    *_MEASURED,
)

_EXAMINED: tuple[Column, ...] = (
    Column("trial_id", _TEXT, _I, "readable prefix and hash of the spec"),
    Column("source", _TEXT, _I, "source model that is examined, or was fine-tuned"),
    Column("finetuned", _TEXT, _I, "id of the fine-tuned trial that is examined; null: the source is", nullable=True),
    Column("blocks", _INT, _I, "of that trial", "blocks", nullable=True),
    Column("images", _INT, _I, "of that trial: size of its training subset; -1: the whole set", "images", True),
    Column("finetuned_seed", _INT, _I, "of that trial", nullable=True),
    Column("finetuned_epochs", _INT, _I, "length of that trial", "epochs", nullable=True),
    Column("finetuned_recipe", _TEXT, _I, "digest of that trial's recipe", nullable=True),
    Column(
        "finetuned_numerics",
        _INT,
        _I,
        "of that trial: version of its kind's numbers; null in files of 0.1.0, whose fine-tuned trials are all of 2",
        nullable=True,
        since="0.2.0",
    ),
    Column("dataset", _TEXT, _I, "dataset whose test images are shown"),
    Column("seed", _INT, _I, "seed of every random choice of the trial"),
    Column("recipe", _TEXT, _I, "digest of the recipe"),
    Column("recipe_json", _TEXT, _I, "the recipe as canonical JSON"),
    Column("numerics", _INT, _I, "version of the kind's numbers"),
    Column("origin", _TEXT, _I, "run: by DeltaSweep"),
    Column("source_constraint", _TEXT, _N, "how the source was trained: none, l2, linf, gaussian, fourier"),
    Column("source_epsilon", _FLOAT, _N, "radius of that constraint, images in [0, 1]"),
    Column("network_sha256", _TEXT, _N, "of the examined network's file"),
    Column("dataset_sha256", _TEXT, _N, "of the dataset's images and labels"),
    *_MEASURED,
)
"""What all kinds have that look at a network as it is."""

ATTACK_COLUMNS: tuple[Column, ...] = (
    *_EXAMINED,
    Column(
        "constraint", _TEXT, _I, "ball that images are moved in: none (clean images), l2, linf, gaussian, fourier:BAND"
    ),
    Column("epsilon", _FLOAT, _I, "its radius, images in [0, 1]"),
    Column("steps", _INT, _I, "k of PGD(k); 0: no search"),
    Column("step_scale", _FLOAT, _I, "c in alpha = c * epsilon / k"),
    Column("start", _TEXT, _I, "where the search starts: zero, random"),
    Column("restarts", _INT, _I, "attacks on each image"),
    Column("test_images", _INT, _I, "size of the random part of the test set; -1: the whole", "images"),
    Column("test_images_used", _INT, _N, "attacked images", "images"),
    Column("subset_sha256", _TEXT, _N, "of the attacked images' indices"),
    Column("accuracy", _FLOAT, _N, "accuracy on attacked images, over all restarts", "percent"),
    Column("robust_accuracy", _FLOAT, _N, "images that are right in every restart", "percent"),
    Column("loss", _FLOAT, _N, "mean cross-entropy on attacked images, over all restarts", "nats"),
)

INFLUENCE_COLUMNS: tuple[Column, ...] = (
    *_EXAMINED,
    Column("measure", _TEXT, _I, "influence, pseudo-inverse (influence by it) or fisher (similarity by its kernel)"),
    Column("damping", _FLOAT, _I, "added to the diagonal of the Hessian, or of the Fisher information"),
    Column("cutoff_absolute", _FLOAT, _I, "of the pseudo-inverse: singular values up to this count as 0", "", True),
    Column("cutoff_relative", _FLOAT, _I, "of the pseudo-inverse: those up to this share of the largest", "", True),
    Column(
        "decomposition",
        _TEXT,
        _I,
        "of the pseudo-inverse: how singular values are found, eigh (eigenvectors) or svd (singular vectors)",
        nullable=True,
        since="0.3.0",
        fill="eigh",
        fill_where=("measure", "pseudo-inverse"),
    ),
    Column("top", _INT, _I, "training images that are kept", "images"),
    Column("test_image", _INT, _I, "index of the test image in the dataset, from 0"),
    Column("images_used", _INT, _N, "training images that were weighed: those that the network was tuned on", "images"),
    Column("subset_sha256", _TEXT, _N, "of their indices"),
    Column("test_label", _INT, _N, "of the test image"),
    Column("predicted_label", _INT, _N, "by the network"),
    Column("test_loss", _FLOAT, _N, "cross-entropy of the test image", "nats"),
    Column(
        "train_images", _INTS, _N, "indices in the dataset's training set: what helps most, or is most alike, first"
    ),
    Column("train_labels", _INTS, _N, "of these images"),
    Column("values", _FLOATS, _N, "of these images: influence (below 0 helps), or similarity by the Fisher kernel"),
    Column("matrix_norm", _FLOAT, _N, "Frobenius norm of the matrix of all these training images and all test images"),
    Column(
        "cells",
        _FLOATS,
        _N,
        "of the first test image of each group of one label: means of the matrix over its group and each group of "
        "training images of one label; null for the others",
        nullable=True,
    ),
    Column("cell_labels", _INTS, _N, "of these groups of training images", nullable=True),
)

_TUNED_ON = Column("finetuned_dataset", _TEXT, _I, "dataset that the fine-tuned trial was tuned on", nullable=True)

SHAPE_BIAS_COLUMNS: tuple[Column, ...] = (
    *_EXAMINED,
    _TUNED_ON,
    Column("test_image", _INT, _I, "index of the image in the dataset, from 0"),
    Column("network_labels", _INT, _N, "labels of the network; averaged by category where images have fewer", "labels"),
    Column("shape", _TEXT, _N, "label of the image's shape"),
    Column("texture", _TEXT, _N, "label of its texture; where it is that of the shape no cues conflict"),
    Column("decision", _TEXT, _N, "label that the network decides for"),
)

VISUALIZE_COLUMNS: tuple[Column, ...] = (
    *_EXAMINED,
    _TUNED_ON,
    Column("unit", _INT, _I, "feature of the penultimate layer whose activation is raised, from 0"),
    Column("test_images", _INT, _I, "seed images: size of the random part of the test set", "images"),
    Column("epsilon", _FLOAT, _I, "L2 radius around each seed image, images in [0, 1]"),
    Column("step_size", _FLOAT, _I, "L2 length of a step, images in [0, 1]"),
    Column("steps", _INT, _I, "steps up the gradient"),
    Column("test_image", _INT, _I, "index of the seed image in the dataset, from 0"),
    Column("subset_sha256", _TEXT, _N, "of the seed images' indices"),
    Column("activation_before", _FLOAT, _N, "of the seed image"),
    Column("activation_after", _FLOAT, _N, "of the image that it became, before its pixels were rounded to bytes"),
    Column("distance", _FLOAT, _N, "L2, between the two, images in [0, 1]"),
    Column("image_size", _INT, _N, "of both", "pixels a side"),
    Column("image", _BYTES, _N, "what it became: rows from the top, of pixels of red, green and blue", "bytes"),
)


class _Rows(NamedTuple):
    """What the rows of a kind's trials are."""

    columns: tuple[Column, ...]
    number: str
    """The column that numbers a trial's rows: no two of them share a value, and they are in its order."""
    view: str
    """What a query calls them."""
    releases: Mapping[int, str] = MappingProxyType({1: "0.1.0"})
    """Version of the schema, which every file says, to the release that wrote it first; a release that adds columns
    adds the next one.
    """
    varying: frozenset[str] = frozenset()
    """Columns besides ``number`` in which the rows of one trial differ."""
    most_rows: int = MOST_EPOCHS
    """Of one trial's file: a file that says it has more is not read."""
    most_bytes: int = 4 << 30
    """Of one trial's file, as a table."""


_SINCE_0_2 = MappingProxyType({1: "0.1.0", 2: "0.2.0"})
_EVALUATED = frozenset(
    ("test_accuracy", "test_loss", "train_accuracy", "train_loss", "learning_rate", "seconds", "adversarial_accuracy")
)
_WEIGHED = frozenset(
    ("test_label", "predicted_label", "test_loss", "train_images", "train_labels", "values", "cells", "cell_labels")
)
_SHOWN = frozenset(("activation_before", "activation_after", "distance", "image"))
_TIMED = frozenset(("seconds",))

_KINDS: dict[str, _Rows] = {
    "finetune": _Rows(FINETUNE_COLUMNS, "epoch", "evaluations", {1: "0.1.0", 2: "0.3.0"}, _EVALUATED),
    "pretrain": _Rows(PRETRAIN_COLUMNS, "epoch", "pretrain", varying=_EVALUATED),
    "attack": _Rows(ATTACK_COLUMNS, "epsilon", "attacks", _SINCE_0_2, most_rows=1, most_bytes=64 << 20),
    "influence": _Rows(
        INFLUENCE_COLUMNS, "test_image", "influences", {2: "0.1.0", 3: "0.2.0", 4: "0.3.0"}, _WEIGHED | _TIMED
    ),
    "shape_bias": _Rows(
        SHAPE_BIAS_COLUMNS, "test_image", "cue_conflicts", _SINCE_0_2, _TIMED | {"shape", "texture", "decision"}
    ),
    "visualize": _Rows(
        VISUALIZE_COLUMNS, "test_image", "visualizations", _SINCE_0_2, _SHOWN | _TIMED, MOST_PICTURES, 64 << 20
    ),
}

KIND_KEY, VERSION_KEY, WRITER_KEY = "deltasweep_kind", "deltasweep_schema", "deltasweep_version"
ROWS_KEY = "deltasweep_rows_sha256"


def kinds() -> tuple[str, ...]:
    """The kinds of trials that have a schema."""
    return tuple(_KINDS)


def version(kind: str) -> int:
    """The version of a kind's schema that is written now."""
    return max(_KINDS[kind].releases)


def releases(kind: str) -> Mapping[int, str]:
    """Every version of a kind's schema that can be read, and the release that wrote it first."""
    return _KINDS[kind].releases


def columns(kind: str, at: int | None = None) -> tuple[Column, ...]:
    """The columns of a kind, as of a version of its schema; None: of today's."""
    rows = _KINDS[kind]
    known = {release for number, release in rows.releases.items() if at is None or number <= at}
    return tuple(column for column in rows.columns if column.since in known)


def numbering(kind: str) -> str:
    """The column that numbers the rows of one trial."""
    return _KINDS[kind].number


def varying(kind: str) -> frozenset[str]:
    """The columns in which the rows of one trial may differ."""
    return _KINDS[kind].varying | {_KINDS[kind].number}


def most_rows(kind: str) -> int:
    """The rows that one trial's result can have."""
    return _KINDS[kind].most_rows


def most_bytes(kind: str) -> int:
    """The memory that one trial's result can take."""
    return _KINDS[kind].most_bytes


def view(kind: str) -> str:
    """What a query calls the rows of a kind."""
    return _KINDS[kind].view


@cache
def schema(kind: str, at: int | None = None) -> pa.Schema:
    """The Arrow schema of a kind, as of a version (None: today's).

    Its metadata say kind and version, and each field's role, unit and description.
    """
    return pa.schema(
        [
            pa.field(
                column.name,
                column.type,
                nullable=column.nullable,
                metadata={"role": column.role.value, "unit": column.unit, "description": column.description},
            )
            for column in columns(kind, at)
        ],
        metadata={KIND_KEY: kind, VERSION_KEY: str(at or version(kind))},
    )


def comparable_columns(kind: str, at: int | None = None) -> list[str]:
    """The columns that two runs of a trial must agree on: everything but what is measured.

    Args:
        at: those that files of this version of the schema have; None: today's.
    """
    return [column.name for column in columns(kind, at) if column.role is not Role.MEASURED]
