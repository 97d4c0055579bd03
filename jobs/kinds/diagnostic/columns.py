"""Result columns shared by all kinds that examine a network without training it."""

from types import MappingProxyType

from jobs.specs.columns import FLOAT, INT, MEASURED_COLUMNS, TEXT, Column, Role

DIAGNOSTIC_COLUMNS: tuple[Column, ...] = (
    Column("trial_id", TEXT, Role.IDENTITY, "readable prefix and hash of the spec"),
    Column("source", TEXT, Role.IDENTITY, "source model that is examined, or from which the network was fine-tuned"),
    Column(
        "finetuned",
        TEXT,
        Role.IDENTITY,
        "id of the fine-tuning trial whose network is examined; null: the source itself",
        nullable=True,
    ),
    Column("blocks", INT, Role.IDENTITY, "fine-tuned blocks of that trial", "blocks", nullable=True),
    Column("images", INT, Role.IDENTITY, "training subset size of that trial; -1: the whole set", "images", True),
    Column("finetuned_seed", INT, Role.IDENTITY, "seed of that trial", nullable=True),
    Column("finetuned_epochs", INT, Role.IDENTITY, "number of epochs of that trial", "epochs", nullable=True),
    Column("finetuned_recipe", TEXT, Role.IDENTITY, "digest of that trial's recipe", nullable=True),
    Column(
        "finetuned_numerics",
        INT,
        Role.IDENTITY,
        "numerics version of that trial; null in files of 0.1.0, where it is always 2",
        nullable=True,
        since="0.2.0",
    ),
    Column("dataset", TEXT, Role.IDENTITY, "dataset whose test images the network is shown"),
    Column("seed", INT, Role.IDENTITY, "seed of every random choice of the trial"),
    Column("recipe", TEXT, Role.IDENTITY, "digest of the recipe"),
    Column("recipe_json", TEXT, Role.IDENTITY, "the recipe as canonical JSON"),
    Column("numerics", INT, Role.IDENTITY, "numerics version of the kind"),
    Column("origin", TEXT, Role.IDENTITY, "run: by DeltaSweep"),
    Column("source_constraint", TEXT, Role.NUMBER, "how the source was trained: none, l2, linf, gaussian, fourier"),
    Column("source_epsilon", FLOAT, Role.NUMBER, "radius of that constraint, for images in [0, 1]"),
    Column("network_sha256", TEXT, Role.NUMBER, "sha256 of the examined network's file"),
    Column("dataset_sha256", TEXT, Role.NUMBER, "sha256 of the dataset's images and labels"),
    *MEASURED_COLUMNS,
)

FINETUNED_DATASET = Column(
    "finetuned_dataset", TEXT, Role.IDENTITY, "target dataset of the fine-tuning trial", nullable=True
)

SINCE_0_2 = MappingProxyType({1: "0.1.0", 2: "0.2.0"})
"""Schema versions of the kinds that gained ``finetuned_numerics`` in their second version."""
