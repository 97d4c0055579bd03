"""Result columns of the kind ``finetune``: one row for each evaluated epoch."""

from jobs.specs.columns import FLOAT, INT, MEASURED_COLUMNS, TEXT, Column, Role, RowSchema

_COLUMNS: tuple[Column, ...] = (
    Column("trial_id", TEXT, Role.IDENTITY, "readable prefix and hash of the spec"),
    Column("source", TEXT, Role.IDENTITY, "source model"),
    Column("dataset", TEXT, Role.IDENTITY, "target dataset"),
    Column("blocks", INT, Role.IDENTITY, "fine-tuned residual blocks besides the FC layer; -1: all", "blocks"),
    Column("images", INT, Role.IDENTITY, "size of the training subset; -1: the whole set", "images"),
    Column("seed", INT, Role.IDENTITY, "seed of every random choice of the trial"),
    Column("epochs", INT, Role.IDENTITY, "number of epochs of the trial", "epochs"),
    Column("evaluate_every", INT, Role.IDENTITY, "interval between evaluations", "epochs", nullable=True),
    Column("recipe", TEXT, Role.IDENTITY, "digest of the recipe; 'imported' if it is unknown"),
    Column("recipe_json", TEXT, Role.IDENTITY, "the recipe as canonical JSON", nullable=True),
    Column("numerics", INT, Role.IDENTITY, "numerics version of the kind", nullable=True),
    Column("origin", TEXT, Role.IDENTITY, "run: by DeltaSweep; imported: from elsewhere"),
    Column("epoch", INT, Role.IDENTITY, "epoch after which the numbers were measured, from 1", "epochs"),
    Column(
        "constraint", TEXT, Role.NUMBER, "how the source was trained: none, l2, linf, gaussian, fourier", nullable=True
    ),
    Column("epsilon", FLOAT, Role.NUMBER, "radius of that constraint, for images in [0, 1]", nullable=True),
    Column("images_used", INT, Role.NUMBER, "number of training images drawn", "images"),
    Column("test_images", INT, Role.NUMBER, "number of images in the test set", "images", nullable=True),
    Column("test_accuracy", FLOAT, Role.NUMBER, "accuracy on the whole test set", "percent"),
    Column("test_loss", FLOAT, Role.NUMBER, "mean cross-entropy on the whole test set", "nats", nullable=True),
    Column("train_accuracy", FLOAT, Role.NUMBER, "running accuracy over the epoch's batches", "percent", nullable=True),
    Column(
        "train_loss", FLOAT, Role.NUMBER, "running mean cross-entropy over the epoch's batches", "nats", nullable=True
    ),
    Column("learning_rate", FLOAT, Role.NUMBER, "learning rate during this epoch", nullable=True),
    Column("weights_sha256", TEXT, Role.NUMBER, "sha256 of the source's weights file", nullable=True),
    Column("dataset_sha256", TEXT, Role.NUMBER, "sha256 of the dataset's images and labels", nullable=True),
    Column("subset_sha256", TEXT, Role.NUMBER, "sha256 of the subset's indices", nullable=True),
    Column(
        "trained_sha256",
        TEXT,
        Role.NUMBER,
        "sha256 of the trained network's safetensors file",
        nullable=True,
        since="0.3.0",
    ),
    *MEASURED_COLUMNS,
)

VARYING = frozenset(("test_accuracy", "test_loss", "train_accuracy", "train_loss", "learning_rate", "seconds"))

ROWS = RowSchema(_COLUMNS, "epoch", "evaluations", {1: "0.1.0", 2: "0.3.0"}, VARYING)
