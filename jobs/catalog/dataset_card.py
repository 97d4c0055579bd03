"""The card of a dataset: its size, the statistics of its training images, and its files."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from jobs.catalog.card import Card, Deviation, Radius, RelativePath
from jobs.specs.canonical import digest
from jobs.specs.growth import later


class DatasetFormat(StrEnum):
    """File layout of a dataset; ``jobs.data.readers`` has a reader for each."""

    DIGITS = "digits"  # included in scikit-learn
    IDX = "idx"  # four IDX files, gzipped or not: the MNIST family
    CIFAR = "cifar"  # pickled batches
    SVHN = "svhn"  # two MATLAB files
    CALTECH101 = "caltech101"  # 101_ObjectCategories/LABEL/*.jpg, split by DeltaSweep
    IMAGENET = "imagenet"  # the user's copy: train/LABEL/* and test/LABEL/* or val/LABEL/*
    IMAGE_FOLDER = "image-folder"  # FOLDER/train/LABEL/* and FOLDER/test/LABEL/* or FOLDER/val/LABEL/*
    CUE_CONFLICT = "cue-conflict"  # the user's copy: SHAPE/SHAPEn-TEXTUREm.png, below ``folder`` if the card has one


_OF_IMAGE_FILES = (
    DatasetFormat.CALTECH101,
    DatasetFormat.IMAGENET,
    DatasetFormat.IMAGE_FOLDER,
    DatasetFormat.CUE_CONFLICT,
)

ExifOrientation = Literal["ignored", "applied"]
"""Whether image files are rotated and mirrored according to their EXIF orientation."""


class DataFile(Card):
    """One file with its known digest. An md5 is accepted where no sha256 has been published."""

    name: RelativePath = Field(description="name of the file")
    sha256: str | None = Field(default=None, description="its sha256, where one is known")
    md5: str | None = Field(default=None, description="its md5, where no sha256 is published")
    size: int | None = Field(default=None, description="its size in bytes")

    @model_validator(mode="after")
    def _known(self) -> "DataFile":
        if self.sha256 is None and self.md5 is None:
            raise ValueError(f"expected a sha256 or an md5 for each file; {self.name!r} has neither")
        return self


class DatasetCard(Card):
    """One dataset: the columns of Table 6, the statistics of its training images, and its files.

    A variant is ``of`` a packaged dataset and inherits its files and other facts. Variants with less texture set
    ``low_resolution`` or ``low_pass`` (``jobs.data.low_pass``); ``aspect`` says of what: the centre square, or the
    whole image. The test images of a variant with ``cue_conflict`` have the shape of one image and the texture of
    another (``jobs.data.cue_conflict``).

    A user's own dataset has a ``folder`` (in a loaded study an absolute path) with ``train/LABEL/*``
    and ``test/LABEL/*``; ``deltasweep data describe FOLDER`` writes its card. It needs ``mean`` and ``std``, too,
    because images are normalized only with statistics from a card.

    ``exif_orientation`` says whether image files are rotated and mirrored according to their EXIF orientation, or used
    as stored. ``label_names`` is the digest of the label names in order (``jobs.specs.canonical``): datasets with
    equal digests have equal labels, and files that contain label names are checked against it.
    """

    name: str = Field(description="name of the dataset; in a study file it is the key above the card")
    train: int = Field(description="number of training images")
    test: int = Field(description="number of test images")
    labels: int = Field(description="number of labels")
    colour: bool = Field(description="true: three channels; false: grey")
    mean: tuple[float, ...] = Field(description="mean of the training images' pixels in [0, 1], one value per channel")
    std: tuple[Deviation, ...] = Field(description="their standard deviation, one value per channel")
    sha256: str | None = Field(default=None, description="digest of the images and labels")
    label_names: str | None = Field(
        default=None, pattern=r"^[0-9a-f]{64}$", description="digest of the labels' names in their order"
    )
    of: str | None = Field(default=None, description="of a variant: the packaged dataset whose files it reads")
    low_resolution: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="reduce images to this many pixels, then enlarge them to the network's size"
    )
    low_pass: Annotated[Radius, Field(gt=0, lt=1)] | None = Field(
        default=None, description="share of the highest frequencies of each direction that is set to zero"
    )
    cue_conflict: Literal["fourier"] | None = Field(
        default=None, description="fourier: test images have the phases of one image and the amplitudes of another"
    )
    aspect: Literal["square", "kept"] = later(
        "square",
        since="0.3.0",
        description="of what texture is reduced. square: low_resolution r reduces the centre square to r x r, and "
        "low_pass filters what is cropped from: the centre square, or whole training images; kept: the image's shorter "
        "side is reduced to r, or all images are filtered whole, and the square is cut at the network's size",
    )
    exif_orientation: ExifOrientation = later(
        "ignored",
        since="0.3.0",
        description="applied: images are rotated and mirrored as their EXIF says; ignored: read as they are stored",
    )
    folder: str | None = Field(
        default=None,
        min_length=1,
        description="image folder: a path, relative to the folder of the study file; the same on every machine",
    )
    format: DatasetFormat = Field(default=DatasetFormat.IMAGE_FOLDER, description="layout of the files")
    mirrors: tuple[str, ...] = Field(default=(), description="URLs of folders with the files, in the order to try them")
    files: tuple[DataFile, ...] = Field(default=(), description="files to fetch")
    members: tuple[DataFile, ...] = Field(default=(), description="files to read, where `files` are archives")

    @model_validator(mode="after")
    def _consistent(self) -> "DatasetCard":
        channels = 3 if self.colour else 1
        if (len(self.mean), len(self.std)) != (channels, channels):
            raise ValueError(
                f"expected {'colour' if self.colour else 'grey'} datasets to have {channels} means and stds, one per "
                f"channel; {self.name!r} has {len(self.mean)} and {len(self.std)}"
            )
        if self.format is not DatasetFormat.CUE_CONFLICT and (self.folder is None) == (
            self.format is DatasetFormat.IMAGE_FOLDER
        ):
            raise ValueError(
                f"expected a folder for image folders only; {self.name!r} has {self.folder or 'none'}. "
                "Fix: add or remove folder, or change format"
            )
        if self.low_resolution is not None and self.low_pass is not None:
            raise ValueError(f"expected low_resolution or low_pass; {self.name!r} has both. Fix: remove one")
        if self.aspect != "square" and self.low_resolution is None and self.low_pass is None:
            raise ValueError(
                f"expected aspect only with low_resolution or low_pass; {self.name!r} has neither. Fix: remove aspect"
            )
        if self.exif_orientation != "ignored" and not self.of_image_files:
            raise ValueError(
                f"expected exif_orientation only for image files; {self.name!r} has the format {self.format}. "
                "Fix: remove exif_orientation"
            )
        if self.cue_conflict is not None and (self.low_resolution is not None or self.low_pass is not None):
            raise ValueError(
                f"expected cue_conflict, or low_resolution or low_pass; {self.name!r} has both. Fix: remove one"
            )
        if self.cue_conflict is not None and (self.labels < 2 or self.format is DatasetFormat.CUE_CONFLICT):
            raise ValueError(
                "expected cue_conflict only for datasets of at least two labels whose cues do not conflict already; "
                f"{self.name!r} has {self.labels} labels and the format {self.format}. Fix: remove cue_conflict"
            )
        return self

    @property
    def of_image_files(self) -> bool:
        """Whether its images are image files, each with its own size and orientation; all other images are square."""
        return self.format in _OF_IMAGE_FILES

    @property
    def files_of(self) -> str:
        """Name of the dataset whose files are read."""
        return self.of or self.name

    @property
    def conflicting(self) -> bool:
        """Whether each test image has one label by its shape and one by its texture."""
        return self.cue_conflict is not None or self.format is DatasetFormat.CUE_CONFLICT

    @property
    def altered(self) -> bool:
        """Whether networks are shown modified images (less texture, or conflicting cues)."""
        return any((self.low_resolution, self.low_pass, self.cue_conflict))

    def shown_digest(self, sha256: str) -> str:
        """Return the digest of the images as shown to networks, given the digest of the original images."""
        how: dict[str, Any] = self.model_dump(include={"aspect", "exif_orientation"})  # only non-default values
        if self.cue_conflict is not None:
            how["cue_conflict"] = self.cue_conflict
        elif self.altered:
            how |= {"low_resolution": self.low_resolution, "low_pass": self.low_pass}
        return digest({"images": sha256, **how}) if how else sha256

    def channel_statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and std for three channels; a grey channel is repeated."""
        repeat = 3 // len(self.mean)
        return self.mean * repeat, self.std * repeat
