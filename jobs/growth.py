"""Fields that a model gained after its first use: while they have their default, nothing shows that they are there.

Ids and digests are hashes of a model's values. A later field is left out of these while it has its default, which means
what the code did before the field: ids of finished trials stay, and older versions can read what newer ones wrote.
"""

from typing import Any, ClassVar

from pydantic import BaseModel, Field, SerializerFunctionWrapHandler, model_serializer

_SINCE = "since"


def later(default: Any, since: str, **about: Any) -> Any:
    """A field that was added in a version of DeltaSweep, with what the code before it did as its default.

    Args:
        default: never changed afterwards.
        about: as for pydantic's ``Field``.
    """
    return Field(default=default, json_schema_extra={_SINCE: since}, **about)


class Growing(BaseModel):
    """Base of models whose values are hashed: writes values without later fields that have their default."""

    _later: ClassVar[dict[str, Any]] = {}
    """Default of each later field, by name."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        fields = cls.model_fields.items()
        cls._later = {name: field.default for name, field in fields if since(field.json_schema_extra) is not None}

    @model_serializer(mode="wrap")
    def _without_later_defaults(self, fields: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = fields(self)
        for name, default in self._later.items():
            if getattr(self, name) == default:
                values.pop(name, None)
        return values


def since(extra: Any) -> str | None:
    """The version that a field was added in, by its ``json_schema_extra``; None: it was always there."""
    return extra.get(_SINCE) if isinstance(extra, dict) else None
