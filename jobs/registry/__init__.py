"""The cards of source models and datasets, read from the YAML files beside this module. No torch.

A card says what a name stands for; it holds enough for a study to be checked and planned on a machine
that has neither the weights nor the images.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from enum import StrEnum
from fractions import Fraction
from functools import cache
from importlib import resources
from pathlib import PurePath
from typing import Annotated, Any, Literal, Self, TypeVar

import yaml
from pydantic import BeforeValidator, ConfigDict, Field, TypeAdapter, model_validator

from jobs.canonical import digest
from jobs.errors import Code, InvalidRequest
from jobs.growth import Growing, later
from jobs.home import weights_directory
from jobs.specs import Constraint, PretrainRecipe, PretrainSpec, ThreatModel, require_band

T = TypeVar("T")

Deviation = Annotated[float, Field(gt=0, allow_inf_nan=False)]
"""A standard deviation of a channel, by which images are divided."""


def _fraction(value: object) -> object:
    """Radii are written the way the papers write them: ``4/255``."""
    if not isinstance(value, str):
        return value
    try:
        return float(Fraction(value))
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise ValueError("a radius is a number or a fraction, such as 0.5 or 4/255") from error


Radius = Annotated[float, BeforeValidator(_fraction)]


class Card(Growing):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Architecture(Card):
    """A network's shape as far as a plan needs it."""

    blocks: int
    image_size: int


class Pretraining(Card):
    """How DeltaSweep makes a source, beyond what its card says already."""

    seed: int
    epochs: int
    steps: int
    step_scale: float = 2.5
    start: Literal["zero", "random"] = "zero"
    recipe: PretrainRecipe = PretrainRecipe()


Format = Literal["torchvision", "data-parallel", "robustness", "safetensors"]
"""How a released file names its tensors: as torchvision does, behind ``module.``, as the robustness library does with
normaliser and attacker, or as torchvision does in a safetensors file."""


class Release(Card):
    """A file with a source's weights that somebody publishes, and what is known of it beforehand."""

    file: str
    format: Format
    urls: tuple[str, ...]
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    sha256_prefix: str | None = Field(default=None, pattern=r"^[0-9a-f]{8,63}$")
    size: int | None = None
    known_from: str | None = None


class AttackAccuracy(Card):
    """Accuracy in percent under PGD(``steps``) with steps of 2.5 epsilon / steps (A.2)."""

    constraint: Constraint
    epsilon: Radius
    band: tuple[Radius, Radius] | None = None
    steps: int
    accuracy: float


class Expected(Card):
    """Accuracies in percent of a source on the test images of ``dataset`` (None: what it was trained on)."""

    clean: float
    origin: str
    dataset: str | None = None
    pgd: tuple[AttackAccuracy, ...] = ()


class SourceCard(Card):
    """One source model: the network, how it was trained, and where its weights come from.

    The digest of the weights that are here stands in the card beside them.
    """

    name: str
    architecture: str
    trained_on: str
    constraint: Constraint
    epsilon: Radius
    band: tuple[Radius, Radius] | None = None
    attack_steps: int | None = None
    mean: tuple[float, float, float]
    std: tuple[Deviation, Deviation, Deviation]
    licence: str = "not stated"
    expected: Expected | None = None
    pretrain: Pretraining | None = None
    release: Release | None = None
    bundled: bool = False
    random: bool = False

    @model_validator(mode="after")
    def _from_somewhere(self) -> Self:
        if sum((self.random, self.release is not None, self.pretrain is not None)) != 1:
            raise ValueError(f"{self.name}: a source has one of pretrain, release and random")
        require_band(self.constraint, self.band)
        return self

    @property
    def test_dataset(self) -> str:
        """The dataset on whose test images its accuracy is known; its labels are those of the FC layer."""
        return (self.expected and self.expected.dataset) or self.trained_on

    @property
    def carries_normaliser(self) -> bool:
        """Whether its checkpoint has a normaliser, which overwrites the target's in the last released code."""
        return self.constraint is not Constraint.NONE or (
            self.release is not None and self.release.format == "robustness"
        )

    @property
    def how_to_get(self) -> str:
        """What to do on a machine that lacks the weights; of a source of a study's own, STUDY is that study."""
        of_study = "" if self.name in packaged_sources() else " --study STUDY"
        if self.pretrain:
            return f"deltasweep models train {self.name}{of_study} --out {weights_directory()}"
        return f"deltasweep models fetch {self.name}{of_study}"

    def pretrain_spec(self) -> PretrainSpec:
        """The spec of the job that makes this source.

        Raises:
            InvalidRequest: when the source is not one that DeltaSweep trains.
        """
        if self.pretrain is None:
            trainable = ", ".join(name for name, card in sources().items() if card.pretrain)
            raise InvalidRequest(
                Code.WRONG_VALUE,
                f"source {self.name!r} is not trained by DeltaSweep; these are: {trainable}",
                key="source",
            )
        threat = ThreatModel(
            constraint=self.constraint,
            epsilon=self.epsilon,
            steps=self.pretrain.steps,
            step_scale=self.pretrain.step_scale,
            start=self.pretrain.start,
            band=self.band,
        )
        return PretrainSpec(
            architecture=self.architecture,
            dataset=self.trained_on,
            threat=threat,
            seed=self.pretrain.seed,
            epochs=self.pretrain.epochs,
            recipe=self.pretrain.recipe,
        )


class DatasetFormat(StrEnum):
    """How a dataset's files are laid out; ``jobs.data.readers`` has a reader for each."""

    DIGITS = "digits"  # comes with scikit-learn
    IDX = "idx"  # four IDX files, gzipped or not: the MNIST family
    CIFAR = "cifar"  # pickled batches
    SVHN = "svhn"  # two MATLAB files
    CALTECH101 = "caltech101"  # 101_ObjectCategories/LABEL/*.jpg, split by DeltaSweep
    IMAGENET = "imagenet"  # the user's own copy, train/LABEL/* and test/LABEL/* or val/LABEL/*
    IMAGE_FOLDER = "image-folder"  # FOLDER/train/LABEL/* and FOLDER/test/LABEL/* or FOLDER/val/LABEL/*
    CUE_CONFLICT = "cue-conflict"  # the user's own copy, SHAPE/SHAPEn-TEXTUREm.png; in a folder if the card names one


_OF_IMAGE_FILES = (
    DatasetFormat.CALTECH101,
    DatasetFormat.IMAGENET,
    DatasetFormat.IMAGE_FOLDER,
    DatasetFormat.CUE_CONFLICT,
)

ExifOrientation = Literal["ignored", "applied"]
"""Whether images of a dataset are turned and mirrored as their EXIF asks."""


class DataFile(Card):
    """One file as it is known beforehand. Where nobody has published a sha256, an md5 has to do."""

    name: str
    sha256: str | None = None
    md5: str | None = None
    size: int | None = None

    @model_validator(mode="after")
    def _known(self) -> "DataFile":
        if self.sha256 is None and self.md5 is None:
            raise ValueError(f"a file has a sha256 or an md5; {self.name!r} has neither")
        return self


class DatasetCard(Card):
    """One dataset: Table 6's columns, the statistics of its training images, and its files.

    A variant with less texture has ``low_resolution`` or ``low_pass`` (``jobs.data.degraded``), and is ``of`` a
    packaged dataset, whose files and other facts are its own; so has one with ``cue_conflict``, whose test images have
    the shape of one image and the texture of another (``jobs.data.conflicts``). ``aspect`` says what ``low_resolution``
    reduces. ``exif_orientation`` says whether image files are turned and mirrored as their EXIF asks, or read as they
    are stored. A dataset of the user's own has a
    ``folder`` (absolute, since trials run elsewhere) with ``train/LABEL/*`` and ``test/LABEL/*``; ``deltasweep data
    describe FOLDER`` writes its card. ``mean`` and ``std`` are required of it too: nothing is normalised by statistics
    that nobody wrote down. ``label_names`` is the digest of the names of the labels in their order
    (``jobs.canonical``): datasets that share it have the same labels, and files that name theirs are held against it.
    """

    name: str
    train: int
    test: int
    labels: int
    colour: bool
    mean: tuple[float, ...]
    std: tuple[Deviation, ...]
    sha256: str | None = None
    label_names: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    of: str | None = None
    low_resolution: Annotated[int, Field(ge=1)] | None = None
    low_pass: Annotated[Radius, Field(gt=0, lt=1)] | None = None
    cue_conflict: Literal["fourier"] | None = None
    aspect: Literal["square", "kept"] = later(
        "square",
        since="0.3.0",
        description="of low_resolution r: square: the centre square is reduced to r x r; kept: the image's shorter "
        "side is reduced to r, and the square is cut at the network's size",
    )
    exif_orientation: ExifOrientation = later("ignored", since="0.3.0")
    folder: str | None = None
    format: DatasetFormat = DatasetFormat.IMAGE_FOLDER
    mirrors: tuple[str, ...] = ()  # URLs of folders that have the files, in the order to ask them
    files: tuple[DataFile, ...] = ()
    members: tuple[DataFile, ...] = ()  # files that are read, where ``files`` are archives

    @model_validator(mode="after")
    def _consistent(self) -> "DatasetCard":
        channels = 3 if self.colour else 1
        if (len(self.mean), len(self.std)) != (channels, channels):
            raise ValueError(
                f"a {'colour' if self.colour else 'grey'} dataset has {channels} means and stds, one a channel; "
                f"{self.name!r} has {len(self.mean)} and {len(self.std)}"
            )
        if self.format is not DatasetFormat.CUE_CONFLICT and (self.folder is None) == (
            self.format is DatasetFormat.IMAGE_FOLDER
        ):
            raise ValueError(
                f"an image folder, and nothing else, has a folder; {self.name!r} has {self.folder or 'none'}"
            )
        if self.folder is not None and not PurePath(self.folder).is_absolute():
            raise ValueError(f"a folder is an absolute path, since trials run elsewhere; given: {self.folder}")
        if self.low_resolution is not None and self.low_pass is not None:
            raise ValueError(f"a variant has low_resolution or low_pass; {self.name!r} has both")
        if self.aspect != "square" and self.low_resolution is None:
            raise ValueError(f"aspect says how low_resolution reduces images; {self.name!r} has no low_resolution")
        if self.exif_orientation != "ignored" and not self.of_image_files:
            raise ValueError(
                f"only image files have an EXIF orientation; {self.name!r} has the format {self.format}: leave "
                "exif_orientation out"
            )
        if self.cue_conflict is not None and (self.low_resolution is not None or self.low_pass is not None):
            raise ValueError(f"a variant has cue_conflict or less texture; {self.name!r} has both")
        if self.cue_conflict is not None and (self.labels < 2 or self.format is DatasetFormat.CUE_CONFLICT):
            raise ValueError(
                "cue_conflict is made of images of two labels or more, whose cues do not conflict already; "
                f"{self.name!r} has {self.labels} labels and the format {self.format}"
            )
        return self

    @property
    def of_image_files(self) -> bool:
        """Whether its images are files, each with a size and an orientation of its own; the others are square."""
        return self.format in _OF_IMAGE_FILES

    @property
    def files_of(self) -> str:
        """The name of the dataset whose files are read."""
        return self.of or self.name

    @property
    def conflicting(self) -> bool:
        """Whether its test images have a label by their shape and one by their texture."""
        return self.cue_conflict is not None or self.format is DatasetFormat.CUE_CONFLICT

    @property
    def altered(self) -> bool:
        """Whether networks are shown something else than the images as they are read."""
        return any((self.low_resolution, self.low_pass, self.cue_conflict))

    def shown_digest(self, sha256: str) -> str:
        """The digest of the images as networks are shown them, given that of the original ones."""
        how: dict[str, Any] = self.model_dump(include={"aspect", "exif_orientation"})  # those that are not the default
        if self.cue_conflict is not None:
            how["cue_conflict"] = self.cue_conflict
        elif self.altered:
            how |= {"low_resolution": self.low_resolution, "low_pass": self.low_pass}
        return digest({"images": sha256, **how}) if how else sha256

    def channel_statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and std for three channels; a grey image is repeated to three."""
        repeat = 3 // len(self.mean)
        return self.mean * repeat, self.std * repeat


@cache
def _read(file: str) -> dict[str, Any]:
    text = resources.files(__package__).joinpath(file).read_text(encoding="utf-8")
    return dict(yaml.safe_load(text))


@cache
def architectures() -> dict[str, Architecture]:
    return TypeAdapter(dict[str, Architecture]).validate_python(_read("sources.yaml")["architectures"])


def _named(cards: object) -> object:
    """A card's name is its key in the mapping."""
    return (
        {n: {**c, "name": n} if isinstance(c, dict) else c for n, c in cards.items()}
        if isinstance(cards, dict)
        else cards
    )


def _whole(cards: object) -> object:
    """What a variant does not say is as on the packaged card that it is ``of``."""

    def whole(card: object) -> object:
        if not isinstance(card, dict) or "of" not in card:
            return card
        return {**_read("datasets.yaml").get(str(card["of"]), {}), **card}

    return {name: whole(card) for name, card in cards.items()} if isinstance(cards, dict) else cards


SourceCards = Annotated[dict[str, SourceCard], BeforeValidator(_named)]
DatasetCards = Annotated[dict[str, DatasetCard], BeforeValidator(_named), BeforeValidator(_whole)]


class Cards(Card):
    """Source models and datasets that a study brings along, besides the packaged ones."""

    sources: SourceCards = Field(default={})
    datasets: DatasetCards = Field(default={})


_NONE = Cards()
_in_use: ContextVar[Cards] = ContextVar("cards of the study at hand", default=_NONE)


@contextmanager
def using(cards: Cards) -> Iterator[None]:
    """Know these cards, too, inside the block."""
    token = _in_use.set(cards)
    try:
        yield
    finally:
        _in_use.reset(token)


def own_digests(sources: Iterable[str], datasets: Iterable[str]) -> list[tuple[str, str, str]]:
    """What of the cards in use changes numbers beside weights and images, for those of the names that are a study's
    own: kind of card as a pin names it, name, sha256. A trial's id has the names alone.
    """
    own = _in_use.get()
    source_parts = {"architecture", "constraint", "epsilon", "mean", "std", "random"}
    found = []
    for name in sources:
        if (card := own.sources.get(name)) is not None:
            parts = card.model_dump(mode="json", include=source_parts | ({"band"} if card.band else set()))
            found.append(("cards/sources", name, digest({**parts, "carries_normaliser": card.carries_normaliser})))
    return found + [
        ("cards/datasets", name, digest(own.datasets[name].model_dump(mode="json", include={"colour", "mean", "std"})))
        for name in datasets
        if name in own.datasets
    ]


def cards_in_use() -> Cards:
    """The cards known besides the packaged ones."""
    return _in_use.get()


@cache
def packaged_sources() -> dict[str, SourceCard]:
    return {name: SourceCard(name=name, **card) for name, card in _read("sources.yaml")["sources"].items()}


@cache
def packaged_datasets() -> dict[str, DatasetCard]:
    return TypeAdapter(DatasetCards).validate_python(_read("datasets.yaml"))


def sources() -> dict[str, SourceCard]:
    """All known source models: the packaged ones and those in use."""
    own = _in_use.get().sources
    return packaged_sources() | own if own else packaged_sources()


def datasets() -> dict[str, DatasetCard]:
    """All known datasets: the packaged ones and those in use."""
    own = _in_use.get().datasets
    return packaged_datasets() | own if own else packaged_datasets()


def source(name: str) -> SourceCard:
    """The card of a source. Raises InvalidRequest with the known names."""
    return _lookup(sources(), "source", name)


def dataset(name: str) -> DatasetCard:
    """The card of a dataset. Raises InvalidRequest with the known names."""
    return _lookup(datasets(), "dataset", name)


def architecture(name: str) -> Architecture:
    """An architecture. Raises InvalidRequest with the known names."""
    return _lookup(architectures(), "architecture", name)


def _lookup(cards: dict[str, T], what: str, name: str) -> T:
    if name not in cards:
        raise InvalidRequest(
            Code.UNKNOWN_NAME, f"unknown {what} {name!r}; known {what}s: {', '.join(sorted(cards))}", key=what
        )
    return cards[name]
