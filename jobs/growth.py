"""Fields that a model gained after its first use: while they have their default, nothing shows that they are there.

Ids and digests are hashes of a model's values. A later field is left out of these while it has its default, which means
what the code did before the field: ids of finished trials stay, and older versions can read what newer ones wrote.
"""

from typing import Any

from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

_SINCE = "since"


class Growing(BaseModel):
    """Base of models whose values are hashed: ``later`` says how their fields are added to."""


def later(default: Any, since: str, **about: Any) -> Any:
    """A field that was added in a version of DeltaSweep, with what the code before it did as its default.

    Args:
        default: never changed afterwards; while the field has it, no dump of the model has the field.
        about: as for pydantic's ``Field``.
    """
    return Field(
        default=default,
        exclude_if=lambda value: bool(value == default),
        json_schema_extra={_SINCE: since},
        **about,
    )


def is_later(field: FieldInfo) -> bool:
    """Whether a field was added after the first release of its model."""
    return since(field.json_schema_extra) is not None


def since(extra: Any) -> str | None:
    """The version that a field was added in, by its ``json_schema_extra``; None: it was always there."""
    return extra.get(_SINCE) if isinstance(extra, dict) else None
