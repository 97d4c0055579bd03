"""The rows of a trial of the kind ``darkness``: one per level."""

from jobs.kinds.diagnostic.columns import DIAGNOSTIC_COLUMNS
from jobs.specs.columns import FLOAT, INT, Column, Role, RowSchema

_COLUMNS = (
    *DIAGNOSTIC_COLUMNS,
    Column("test_images", INT, Role.IDENTITY, "shown images", "images"),
    Column("levels", INT, Role.IDENTITY, "of darkness"),
    Column("level", INT, Role.IDENTITY, "from 1: images as they are"),
    Column("brightness", FLOAT, Role.NUMBER, "what images are multiplied by"),
    Column("accuracy", FLOAT, Role.NUMBER, "on the shown images", "percent"),
)

ROWS = RowSchema(
    _COLUMNS,
    number="level",
    view="darknesses",
    releases={1: "0.3.0"},
    varying=frozenset(("brightness", "accuracy", "seconds")),
)
