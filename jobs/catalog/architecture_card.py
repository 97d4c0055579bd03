"""Cards of architectures: the parts of a network, and what each costs. No torch.

``deltasweep models describe`` writes them; the packaged ones are in ``jobs/catalog/architectures``.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import resources
from pathlib import Path
from typing import NamedTuple, Self

from pydantic import Field, PrivateAttr, model_validator

from jobs.catalog.builder_files import file_and_function, sha256_of
from jobs.catalog.card import Card
from jobs.specs.base import ALL
from jobs.specs.canonical import digest
from jobs.specs.growth import later
from jobs.system.safe_yaml import load_packaged

LABELS = 1000
"""Number of labels of the last layer whose costs are in a card."""

_FLOAT = 4
"""Bytes of a float32 number."""

_MOST = 10**18
"""Largest cost; numbers without a bound would not fit into the floating-point numbers of plans."""


class Stored(NamedTuple):
    """Bytes of activations of one part of a network, per image."""

    kept: int
    """What a forward pass stores for the backward pass."""
    peak: int
    """Peak of a forward pass without gradients."""
    output: int


class Part(Card):
    """Costs of one part of a network, per image; bytes are those in float32, and with ``_16`` in 16 bits (autocast)."""

    flops: int = Field(ge=0, le=_MOST, description="FLOPs (two per multiply-add) of a forward pass")
    input_gradient: int = Field(
        ge=0,
        le=_MOST,
        description="FLOPs of the backward pass with respect to its input; the first part of a head does not need it",
    )
    parameters: int = Field(ge=0, le=_MOST, description="number of parameters")
    kept: int = Field(
        ge=0,
        le=_MOST,
        description="bytes that a forward pass stores for the backward pass, with its input, but without its output, "
        "which is the input of the next part",
    )
    peak: int = Field(ge=0, le=_MOST, description="peak bytes of a forward pass without gradients")
    output: int = Field(ge=0, le=_MOST, description="bytes of its output")
    kept_16: int = Field(ge=0, le=_MOST, description="as kept, in 16 bits, without weights that are converted")
    peak_16: int = Field(ge=0, le=_MOST, description="as peak, in 16 bits, without weights that are converted")
    output_16: int = Field(ge=0, le=_MOST, description="as output, in 16 bits")

    def stored(self, number_bytes: int) -> Stored:
        """Return the bytes of its activations.

        Args:
            number_bytes: 4 in float32, 2 in 16 bits; layers that autocast computes in float32 take 4 there, too.
        """
        if number_bytes == _FLOAT:
            return Stored(self.kept, self.peak, self.output)
        return Stored(self.kept_16, self.peak_16, self.output_16)


class Place(Part):
    """A block or the last layer, and where it is in the network."""

    modules: str = Field(description='module path in the network; of several modules, joined by " + "')


class Architecture(Card):
    """A network as its parts, and their costs."""

    name: str = Field(description="name of the architecture; in a study file it is the key above the card")
    builder: str = Field(
        description="what builds it: `torchvision:NAME`, `timm:NAME`, `deltasweep:NAME` or `FILE.py:FUNCTION`"
    )
    image_size: int = Field(ge=1, le=100_000, description="size of its images in pixels per side")
    features: int = Field(ge=1, le=_MOST, description="number of features: inputs of the last layer")
    stem: Part = Field(description="everything before the first block")
    blocks: tuple[Place, ...] = Field(
        min_length=1, description="the blocks in order; `blocks: k` fine-tunes the last k"
    )
    tail: Part = Field(description="everything between the last block and the last layer")
    fc: Place = Field(description=f"the last layer, with {LABELS} labels")
    running_statistics: bool = later(
        True,
        since="0.3.0",
        description="false: no layer has running statistics, as BatchNorm has; `frozen_batchnorm` has no effect",
    )
    _code: str | None = PrivateAttr(default=None)

    @model_validator(mode="after")
    def _each_once(self) -> Self:
        counts = Counter(filter(None, self.block_names))
        if repeated := [name for name, count in counts.items() if count > 1]:
            raise ValueError(f"expected each block once; {repeated[0]} is there {counts[repeated[0]]} times")
        return self

    @property
    def code(self) -> str | None:
        """Text of the builder file, if the user has named it; part of no card, digest, study or root."""
        return self._code

    def with_code(self, builders: Mapping[str, str]) -> Self:
        """Return the card with the text of its builder file, if it has one and this is among ``builders``."""
        named = file_and_function(self.builder)
        copy = self.model_copy()
        copy._code = None if named is None else builders.get(named[0])
        return copy

    @property
    def own_digests(self) -> list[tuple[str, str, str]]:
        """The pins of an own architecture: of the card, without its costs, and of its builder file if that is known."""
        facts = self.model_dump(mode="json", include={"builder", "image_size", "features"})
        pins = [
            ("cards/architectures", self.name, digest({**facts, "blocks": self.block_names, "fc": self.fc.modules}))
        ]
        named = file_and_function(self.builder)
        if named is not None and self.code is not None:
            pins.append(("cards/builders", named[0], sha256_of(self.code)))
        return pins

    @property
    def block_names(self) -> tuple[str, ...]:
        return tuple(block.modules for block in self.blocks)

    def split(self, blocks: int) -> tuple[list[Part], list[Part]]:
        """Return trunk and head if the last ``blocks`` blocks are fine-tuned; with -1, all parts are in the head."""
        parts: list[Part] = [self.stem, *self.blocks, self.tail]
        cut = 0 if blocks == ALL else len(parts) if blocks == 0 else len(parts) - 1 - blocks
        return parts[:cut], [*parts[cut:], self.fc]


class Architectures(Mapping[str, Architecture]):
    """The packaged architectures and a study's own, by name; a packaged card is read when it is first asked for."""

    def __init__(self, own: Mapping[str, Architecture] | None = None) -> None:
        self._own = own or {}

    def __getitem__(self, name: str) -> Architecture:
        if name in self._own:
            return self._own[name]
        if name not in _names():
            raise KeyError(name)
        return _packaged(name)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*_names(), *self._own]))

    def __len__(self) -> int:
        return len({*_names(), *self._own})

    def __contains__(self, name: object) -> bool:
        return name in self._own or name in _names()


@cache
def _names() -> tuple[str, ...]:
    return tuple(sorted(path.stem for path in _directory().glob("*.yaml")))


@cache
def _packaged(name: str) -> Architecture:
    text = (_directory() / f"{name}.yaml").read_text(encoding="utf-8")
    return Architecture.model_validate({"name": name, **load_packaged(text)})


def _directory() -> Path:
    return Path(str(resources.files(__package__).joinpath("architectures")))
