"""Result columns of the kind ``attack``: one row for a network and a ball."""

from jobs.kinds.diagnostic.columns import DIAGNOSTIC_COLUMNS, SINCE_0_2
from jobs.specs.columns import FLOAT, INT, TEXT, Column, Role, RowSchema

_COLUMNS: tuple[Column, ...] = (
    *DIAGNOSTIC_COLUMNS,
    Column(
        "constraint",
        TEXT,
        Role.IDENTITY,
        "ball in which images are perturbed: none (clean images), l2, linf, gaussian, fourier:BAND",
    ),
    Column("epsilon", FLOAT, Role.IDENTITY, "radius of the ball, for images in [0, 1]"),
    Column("steps", INT, Role.IDENTITY, "k of PGD(k); 0: no search"),
    Column("step_scale", FLOAT, Role.IDENTITY, "c in alpha = c * epsilon / k"),
    Column("start", TEXT, Role.IDENTITY, "starting point of the search: zero, random"),
    Column("restarts", INT, Role.IDENTITY, "attacks per image"),
    Column("test_images", INT, Role.IDENTITY, "size of the random test subset; -1: the whole test set", "images"),
    Column("test_images_used", INT, Role.NUMBER, "attacked images", "images"),
    Column("subset_sha256", TEXT, Role.NUMBER, "sha256 of the attacked images' indices"),
    Column("accuracy", FLOAT, Role.NUMBER, "accuracy on attacked images, over all restarts", "percent"),
    Column("robust_accuracy", FLOAT, Role.NUMBER, "share of images classified correctly in every restart", "percent"),
    Column("loss", FLOAT, Role.NUMBER, "mean cross-entropy on attacked images, over all restarts", "nats"),
)

ROWS = RowSchema(_COLUMNS, "epsilon", "attacks", SINCE_0_2, most_rows=1, most_bytes=64 << 20)
