"""Fields added to a model after its first release: omitted from every dump while they have their default.

Ids and digests are hashes of a model's values. A later field is omitted from them while it has its default, which must
mean what the code did before the field existed. So ids of finished trials do not change, and older versions can read
files written by newer ones.
"""

from typing import Any

from pydantic import BaseModel, Field
from pydantic.fields import FieldInfo

_SINCE = "since"


class Growing(BaseModel):
    """Base of models whose values are hashed; fields added later are declared with ``later``."""


def later(default: Any, since: str, **about: Any) -> Any:
    """Declare a field that was added in a later release, whose default means the behaviour before that release.

    Args:
        default: must never change. While the field has this value, it is omitted from dumps of the model.
        since: release of DeltaSweep that added the field.
        about: further arguments of pydantic's ``Field``.
    """
    return Field(
        default=default,
        exclude_if=lambda value: bool(value == default),
        json_schema_extra={_SINCE: since},
        **about,
    )


def is_later(field: FieldInfo) -> bool:
    """Return whether a field was added after the first release of its model."""
    return since(field.json_schema_extra) is not None


def since(extra: Any) -> str | None:
    """Return the release that added a field, from its ``json_schema_extra``; None for original fields."""
    return extra.get(_SINCE) if isinstance(extra, dict) else None
