"""Result columns of the kind ``influence``: one row for each test image."""

from jobs.kinds.diagnostic.columns import DIAGNOSTIC_COLUMNS
from jobs.specs.columns import FLOAT, FLOATS, INT, INTS, TEXT, Column, Role, RowSchema

_COLUMNS: tuple[Column, ...] = (
    *DIAGNOSTIC_COLUMNS,
    Column(
        "measure",
        TEXT,
        Role.IDENTITY,
        "influence, pseudo-inverse (influence by the pseudo-inverse) or fisher (similarity by the Fisher kernel)",
    ),
    Column("damping", FLOAT, Role.IDENTITY, "added to the diagonal of the Hessian or of the Fisher information"),
    Column(
        "cutoff_absolute",
        FLOAT,
        Role.IDENTITY,
        "pseudo-inverse: singular values up to this one are treated as 0",
        "",
        True,
    ),
    Column(
        "cutoff_relative",
        FLOAT,
        Role.IDENTITY,
        "pseudo-inverse: singular values up to this share of the largest are treated as 0",
        "",
        True,
    ),
    Column(
        "decomposition",
        TEXT,
        Role.IDENTITY,
        "pseudo-inverse: how singular values are computed, eigh (eigenvectors) or svd (singular vectors)",
        nullable=True,
        since="0.3.0",
        fill="eigh",
        fill_where=("measure", "pseudo-inverse"),
    ),
    Column("top", INT, Role.IDENTITY, "number of training images kept per test image", "images"),
    Column("test_image", INT, Role.IDENTITY, "index of the test image in the dataset, from 0"),
    Column(
        "images_used",
        INT,
        Role.NUMBER,
        "number of training images compared: those that the network was fine-tuned on",
        "images",
    ),
    Column("subset_sha256", TEXT, Role.NUMBER, "sha256 of these training images' indices"),
    Column("test_label", INT, Role.NUMBER, "label of the test image"),
    Column("predicted_label", INT, Role.NUMBER, "label predicted by the network"),
    Column("test_loss", FLOAT, Role.NUMBER, "cross-entropy of the test image", "nats"),
    Column(
        "train_images",
        INTS,
        Role.NUMBER,
        "kept training images: indices in the dataset's training set, most helpful or most similar first",
    ),
    Column("train_labels", INTS, Role.NUMBER, "labels of these images"),
    Column(
        "values",
        FLOATS,
        Role.NUMBER,
        "influence of these images (below 0 helps), or their similarity by the Fisher kernel",
    ),
    Column(
        "matrix_norm",
        FLOAT,
        Role.NUMBER,
        "Frobenius norm of the matrix of all compared training images by all test images",
    ),
    Column(
        "cells",
        FLOATS,
        Role.NUMBER,
        "in the row of the first test image of each group of one label: means of the matrix over this group and each "
        "group of training images of one label; null in other rows",
        nullable=True,
    ),
    Column("cell_labels", INTS, Role.NUMBER, "labels of these groups of training images", nullable=True),
)

_VARYING = frozenset(
    (
        "test_label",
        "predicted_label",
        "test_loss",
        "train_images",
        "train_labels",
        "values",
        "cells",
        "cell_labels",
        "seconds",
    )
)

ROWS = RowSchema(_COLUMNS, "test_image", "influences", {2: "0.1.0", 3: "0.2.0", 4: "0.3.0"}, _VARYING)
