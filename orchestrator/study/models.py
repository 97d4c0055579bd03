"""The models that validate the parts of a study file."""

from types import NoneType, UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from jobs.kind import kinds
from jobs.specs.recipes import Recipe
from jobs.study.model import Grid, Study
from orchestrator.study.yaml_lines import Location


def sections() -> dict[str, type[BaseModel]]:
    """Return the models of the sections that declare trials, by key."""
    return {"grid": Grid} | {name: kind.section for name, kind in kinds().items() if kind.section is not None}


def type_of(annotation: Any) -> Any:
    """Return the type in an annotation, without metadata and None; the first of several alternatives."""
    while get_origin(annotation) in (Annotated, Union, UnionType):
        annotation = next(part for part in get_args(annotation) if part is not NoneType)
    return annotation


def model_at(location: Location) -> type[BaseModel]:
    """Return the model that validates the mapping at a location."""
    of: Any = Study
    for step in location:
        field = isinstance(of, type) and issubclass(of, BaseModel)
        of = type_of(of.model_fields[step].annotation if field else get_args(of)[get_origin(of) is dict])
    if get_origin(of) is dict:  # choices by name, as in grid.recipe, where each has a list
        return Recipe
    model: type[BaseModel] = of
    return model
