"""The image size that a builder's network is made for."""

import torchvision.models

from jobs.catalog.catalog import PACKAGED
from jobs.networks.builders import timm_package

DEFAULT = 224


def image_size_of(builder: str) -> tuple[int, str]:
    """Return the size in pixels per side, and where it is from.

    Args:
        builder: as in an architecture's card; an unknown one has the default size.

    Raises:
        MissingData: if the package that has the builder is not installed.
    """
    package, _, name = builder.partition(":")
    if package == "torchvision" and name in torchvision.models.list_models(module=torchvision.models):
        # weights may be published for several sizes; constructors have the smallest as their default
        sizes = [weights.transforms.keywords["crop_size"] for weights in torchvision.models.get_model_weights(name)]
        if sizes:
            return min(sizes), "the size of its published weights"
    if package == "timm":
        timm = timm_package(builder)
        if timm.is_model(name) and (known := timm.get_pretrained_cfg(name)) is not None:
            return int(known.input_size[-1]), "the size in timm's configuration"
    for card in PACKAGED.architectures.values():
        if card.builder == builder:
            return card.image_size, f"the size in the packaged card of {card.name}"
    return DEFAULT, "by default"
