"""Published weights by name: what torchvision and timm themselves say about them. Nothing is downloaded.

``torchvision:NAME.WEIGHTS`` is a member of torchvision's enumerations of weights, ``timm:NAME.TAG`` one of timm's
pretrained configurations; without a tag it is timm's default. ``@COMMIT`` is a commit of its repository on the hub.
"""

import re
from difflib import get_close_matches
from typing import Any, NamedTuple

import torchvision.models

from jobs.catalog.source_card import PUBLISHED_PATTERN, Expected
from jobs.errors import Code, InvalidRequest
from jobs.networks.builders import timm_package

_IMAGENET = "imagenet"
_DIGITS = re.compile(r"-([0-9a-f]{8,63})\.\w+$")
"""The beginning of the sha256 in the names of torchvision's files."""
_LISTED = 10  # names in a message


class FileAtUrl(NamedTuple):
    """A file at a fixed address."""

    url: str
    sha256_prefix: str | None
    """The first digits of its sha256, if they are in its name."""

    @property
    def name(self) -> str:
        return self.url.rpartition("/")[2]


class FileOnHub(NamedTuple):
    """A file in a repository of huggingface.co."""

    repository: str
    names: tuple[str, ...]
    """Names that it may have, the preferred one first."""
    commit: str | None
    """None: the newest one."""


class PublishedWeights(NamedTuple):
    """Weights that were published for natural images, and what their publisher says about them."""

    name: str
    builder: str
    """The network that they are for, as in the cards of architectures."""
    trained_on: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    licence: str
    expected: Expected | None
    file: FileAtUrl | FileOnHub


def published_weights(name: str) -> PublishedWeights:
    """Return what is known about published weights.

    Args:
        name: ``torchvision:NAME.WEIGHTS``, ``timm:NAME``, ``timm:NAME.TAG`` or ``timm:NAME.TAG@COMMIT``.

    Raises:
        InvalidRequest: if there are no weights of that name; it lists similar ones.
        MissingData: if timm is not installed.
    """
    package, _, rest = name.partition(":")
    if package == "torchvision":
        return _of_torchvision(name, *rest.partition(".")[::2])
    if package == "timm" and re.match(PUBLISHED_PATTERN, name):
        return _of_timm(name, *rest.partition("@")[::2])
    raise _unknown(name, "a name such as torchvision:resnet18.IMAGENET1K_V1 or timm:vit_small_patch16_224", [])


def _of_torchvision(name: str, network: str, member: str) -> PublishedWeights:
    networks = torchvision.models.list_models(module=torchvision.models)
    if network not in networks:
        similar = get_close_matches(network, networks, _LISTED)
        raise _unknown(name, "a classification network of torchvision", [f"torchvision:{known}" for known in similar])
    weights = torchvision.models.get_model_weights(network)
    if member not in weights.__members__:
        known = [f"torchvision:{network}.{known}" for known in weights.__members__]
        raise _unknown(name, f"weights that torchvision has for {network}", known)
    chosen: Any = weights[member]
    test = chosen.transforms()
    (resized,), (cropped,) = test.resize_size, test.crop_size
    accuracy = chosen.meta["_metrics"]["ImageNet-1K"]["acc@1"]
    digits = _DIGITS.search(chosen.url)
    return PublishedWeights(
        name=name,
        builder=f"torchvision:{network}",
        trained_on=_IMAGENET,
        mean=tuple(test.mean),
        std=tuple(test.std),
        licence=chosen.meta.get("license", "BSD-3-Clause (torchvision); ImageNet's own terms are for research"),
        expected=Expected(
            clean=accuracy, origin=f"torchvision's metadata; {cropped} pixels of {resized} on the shorter side"
        ),
        file=FileAtUrl(chosen.url, digits and digits[1]),
    )


def _of_timm(name: str, model: str, commit: str) -> PublishedWeights:
    timm = timm_package(name)
    try:
        configuration = timm.get_pretrained_cfg(model, allow_unregistered=False)
    except RuntimeError as error:
        network = model.partition(".")[0]
        tagged = timm.list_pretrained(f"{network}.*")
        similar = tagged or get_close_matches(network, timm.list_models(pretrained=False), _LISTED)
        raise _unknown(
            name, "a network of timm, with a tag of its weights", [f"timm:{one}" for one in similar]
        ) from error
    repository = configuration.hf_hub_id
    if not repository:
        raise InvalidRequest(
            Code.WRONG_VALUE,
            f"expected weights that timm has on huggingface.co; {name} are elsewhere, or nowhere. Fix: download their "
            "file, and name it as weights in the card of a source",
            key="NAME",
        )
    if not configuration.num_classes:
        raise InvalidRequest(
            Code.WRONG_VALUE,
            f"expected weights of a network with a last layer; {name} has none. Fix: choose weights that were trained "
            "on labels",
            key="NAME",
        )
    named = configuration.hf_hub_filename
    complete = model if "." in model or not configuration.tag else f"{model}.{configuration.tag}"
    subset = timm.data.infer_imagenet_subset(configuration)
    return PublishedWeights(
        name=f"timm:{complete}" + (f"@{commit}" if commit else ""),
        builder=f"timm:{configuration.architecture}",
        trained_on=_IMAGENET if subset == "imagenet-1k" else subset or configuration.tag or "unknown",
        mean=tuple(configuration.mean),
        std=tuple(configuration.std),
        licence=f"{configuration.license} (timm)" if configuration.license else "not stated by timm",
        expected=None,
        file=FileOnHub(repository, (named,) if named else ("model.safetensors", "pytorch_model.bin"), commit or None),
    )


def _unknown(name: str, expected: str, known: list[str]) -> InvalidRequest:
    fix = f"Fix: name one of {', '.join(known)}" if known else "Fix: correct the name"
    return InvalidRequest(Code.UNKNOWN_NAME, f"expected {expected}; got {name!r}. {fix}", key="NAME")
