"""From a network to its parts: by its own names, or by its class."""

from torch import nn

from jobs.errors import Code, InvalidRequest
from jobs.networks import timm_families, torchvision_families
from jobs.networks.parts import Parts, own_parts, require_linear


def parts_of(model: nn.Module | Parts) -> Parts:
    """Divide a network into its parts, unless it is divided already.

    Raises:
        InvalidRequest: if it is of no known family and does not have the parts itself, or its last layer is not linear.
    """
    if isinstance(model, Parts):
        require_linear(model, f"a {type(model.model).__name__}")
        return model
    parts = own_parts(model) or _by_class(model)
    name = type(model).__name__
    if parts is None:
        families = sorted(
            {family.__name__ for family in torchvision_families.FAMILIES}
            | {f"{family.rpartition('.')[2]} of timm" for family in timm_families.FAMILIES}
        )
        raise InvalidRequest(
            Code.UNUSABLE_NETWORK,
            f"expected a network of a known family ({', '.join(families)}), or one with the attributes stem, blocks, "
            f"tail and fc; got a {type(model).__module__}.{name}. Fix: write a builder file whose function returns "
            "jobs.networks.parts.Parts, which says what the blocks are",
            key=name,
        )
    require_linear(parts, f"a {name}")
    return parts


def _by_class(model: nn.Module) -> Parts | None:
    for ancestor in type(model).__mro__:
        if (family := torchvision_families.FAMILIES.get(ancestor)) is not None:
            return family(model)
        if (of_timm := timm_families.FAMILIES.get(f"{ancestor.__module__}.{ancestor.__qualname__}")) is not None:
            return of_timm(model)
    return None
