"""Result columns of the kind ``visualize``: one row for each seed image."""

from jobs.kinds.diagnostic.columns import DIAGNOSTIC_COLUMNS, FINETUNED_DATASET, SINCE_0_2
from jobs.kinds.visualize.spec import MOST_PICTURES
from jobs.specs.columns import BYTES, FLOAT, INT, TEXT, Column, Role, RowSchema

_COLUMNS: tuple[Column, ...] = (
    *DIAGNOSTIC_COLUMNS,
    FINETUNED_DATASET,
    Column("unit", INT, Role.IDENTITY, "feature of the penultimate layer whose activation is maximized, from 0"),
    Column("test_images", INT, Role.IDENTITY, "number of seed images: size of the random test subset", "images"),
    Column("epsilon", FLOAT, Role.IDENTITY, "L2 radius around each seed image, for images in [0, 1]"),
    Column("step_size", FLOAT, Role.IDENTITY, "L2 length of a step, for images in [0, 1]"),
    Column("steps", INT, Role.IDENTITY, "number of gradient ascent steps"),
    Column("test_image", INT, Role.IDENTITY, "index of the seed image in the dataset, from 0"),
    Column("subset_sha256", TEXT, Role.NUMBER, "sha256 of the seed images' indices"),
    Column("activation_before", FLOAT, Role.NUMBER, "activation of the seed image"),
    Column(
        "activation_after",
        FLOAT,
        Role.NUMBER,
        "activation of the resulting image, before its pixels are rounded to bytes",
    ),
    Column("distance", FLOAT, Role.NUMBER, "L2 distance between the two, for images in [0, 1]"),
    Column("image_size", INT, Role.NUMBER, "size of both images", "pixels a side"),
    Column("image", BYTES, Role.NUMBER, "resulting image: rows from the top, pixels as red, green, blue", "bytes"),
)

_VARYING = frozenset(("activation_before", "activation_after", "distance", "image", "seconds"))

ROWS = RowSchema(_COLUMNS, "test_image", "visualizations", SINCE_0_2, _VARYING, MOST_PICTURES, 64 << 20)
