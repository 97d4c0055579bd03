"""Result columns of the kind ``shape_bias``: one row for each image."""

from jobs.kinds.diagnostic.columns import DIAGNOSTIC_COLUMNS, FINETUNED_DATASET, SINCE_0_2
from jobs.specs.columns import INT, TEXT, Column, Role, RowSchema

_COLUMNS: tuple[Column, ...] = (
    *DIAGNOSTIC_COLUMNS,
    FINETUNED_DATASET,
    Column("test_image", INT, Role.IDENTITY, "index of the image in the dataset, from 0"),
    Column(
        "network_labels",
        INT,
        Role.NUMBER,
        "number of labels of the network; if images have fewer, probabilities are averaged by category",
        "labels",
    ),
    Column("shape", TEXT, Role.NUMBER, "label of the image's shape"),
    Column("texture", TEXT, Role.NUMBER, "label of the image's texture; if it equals shape, the cues do not conflict"),
    Column("decision", TEXT, Role.NUMBER, "label that the network chooses"),
)

_VARYING = frozenset(("shape", "texture", "decision", "seconds"))

ROWS = RowSchema(_COLUMNS, "test_image", "cue_conflicts", SINCE_0_2, _VARYING)
