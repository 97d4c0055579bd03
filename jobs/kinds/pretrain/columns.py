"""Result columns of the kind ``pretrain``: one row for each epoch."""

from jobs.specs.columns import FLOAT, INT, MEASURED_COLUMNS, TEXT, Column, Role, RowSchema

_COLUMNS: tuple[Column, ...] = (
    Column("trial_id", TEXT, Role.IDENTITY, "readable prefix and hash of the spec"),
    Column("architecture", TEXT, Role.IDENTITY, "architecture of the network"),
    Column("dataset", TEXT, Role.IDENTITY, "dataset on which the source is trained"),
    Column(
        "constraint",
        TEXT,
        Role.IDENTITY,
        "ball in which images are perturbed: none, l2, linf, gaussian, fourier:BAND",
    ),
    Column("epsilon", FLOAT, Role.IDENTITY, "radius of the ball, for images in [0, 1]"),
    Column("steps", INT, Role.IDENTITY, "k of PGD(k); 0: no search"),
    Column("step_scale", FLOAT, Role.IDENTITY, "c in alpha = c * epsilon / k"),
    Column("start", TEXT, Role.IDENTITY, "starting point of the search: zero, random"),
    Column("seed", INT, Role.IDENTITY, "seed of every random choice of the trial"),
    Column("epochs", INT, Role.IDENTITY, "number of epochs of the trial", "epochs"),
    Column("recipe", TEXT, Role.IDENTITY, "digest of the recipe"),
    Column("recipe_json", TEXT, Role.IDENTITY, "the recipe as canonical JSON"),
    Column("numerics", INT, Role.IDENTITY, "numerics version of the kind"),
    Column("origin", TEXT, Role.IDENTITY, "run: by DeltaSweep"),
    Column("epoch", INT, Role.IDENTITY, "epoch after which the numbers were measured, from 1", "epochs"),
    Column("images_used", INT, Role.NUMBER, "number of training images", "images"),
    Column("test_images", INT, Role.NUMBER, "number of images in the test set", "images"),
    Column("test_accuracy", FLOAT, Role.NUMBER, "accuracy on the whole test set", "percent"),
    Column("test_loss", FLOAT, Role.NUMBER, "mean cross-entropy on the whole test set", "nats"),
    Column(
        "adversarial_accuracy",
        FLOAT,
        Role.NUMBER,
        "accuracy on the test set under PGD(20) in the source's own ball; only after the last epoch",
        "percent",
        nullable=True,
    ),
    Column("train_accuracy", FLOAT, Role.NUMBER, "running accuracy over the epoch's perturbed batches", "percent"),
    Column("train_loss", FLOAT, Role.NUMBER, "running mean cross-entropy over the epoch's perturbed batches", "nats"),
    Column("learning_rate", FLOAT, Role.NUMBER, "learning rate during this epoch"),
    Column("dataset_sha256", TEXT, Role.NUMBER, "sha256 of the dataset's images and labels"),
    Column("trained_sha256", TEXT, Role.NUMBER, "sha256 of the trained network's safetensors file"),
    *MEASURED_COLUMNS,
)

_VARYING = frozenset(
    ("test_accuracy", "test_loss", "train_accuracy", "train_loss", "learning_rate", "seconds", "adversarial_accuracy")
)

ROWS = RowSchema(_COLUMNS, "epoch", "pretrain", varying=_VARYING)
