"""The card of a source model: its network, how it was trained, and where its weights come from."""

from typing import Literal, Self

from pydantic import Field, model_validator

from jobs.catalog.card import Card, Deviation, FileName, Radius
from jobs.specs.canonical import digest
from jobs.specs.growth import later
from jobs.specs.recipes import PretrainRecipe
from jobs.specs.threat_model import Constraint, require_band
from jobs.system.commands import command


class Pretraining(Card):
    """How DeltaSweep trains a source, beyond the other fields of its card."""

    seed: int = Field(description="seed of every random choice of the training")
    epochs: int = Field(description="passes over the training images")
    steps: int = Field(description="k of PGD(k); 0: no search")
    step_scale: float = Field(default=2.5, description="c in alpha = c * epsilon / k, the size of a step")
    start: Literal["zero", "random"] = Field(
        default="zero", description="where the search starts: at the image, or at a random point of the ball"
    )
    recipe: PretrainRecipe = Field(default=PretrainRecipe(), description="choices of training other than the defaults")


PUBLISHED_PATTERN = r"^(torchvision:\w+\.\w+|timm:\w+(\.\w+)?(@[0-9a-f]{40})?)$"
"""Names of published weights: of torchvision, or of timm with the tag and the commit in the repository on the hub."""

Format = Literal["torchvision", "data-parallel", "robustness", "safetensors"]
"""Tensor names in a released file: those of torchvision; prefixed with ``module.``; those of the robustness library,
with normalizer and attacker; or those of torchvision in a safetensors file."""


class Release(Card):
    """A published file with a source's weights, and its known digest and size."""

    file: FileName = Field(description="name of the file; `--mirror URL` fetches `URL/FILE`")
    format: Format = Field(description="how the file names its tensors")
    urls: tuple[str, ...] = Field(description="addresses, in the order to try them")
    sha256: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$", description="its sha256, where one is known")
    sha256_prefix: str | None = Field(
        default=None,
        pattern=r"^[0-9a-f]{8,63}$",
        description="the first digits of its sha256, where only these are known",
    )
    size: int | None = Field(default=None, description="its size in bytes")
    known_from: str | None = Field(default=None, description="who published the digest and the size")


class AttackAccuracy(Card):
    """Accuracy in percent under PGD(``steps``) with step size 2.5 epsilon / steps (A.2)."""

    constraint: Constraint = Field(description="norm of the ball")
    epsilon: Radius = Field(description="radius of the ball, images in [0, 1]")
    band: tuple[Radius, Radius] | None = Field(
        default=None, description="only for fourier: from, to; shares of the frequencies"
    )
    steps: int = Field(description="k of PGD(k)")
    accuracy: float = Field(description="accuracy in percent")


class Expected(Card):
    """Published accuracies of a source, in percent, on the test images of ``dataset`` (None: ``trained_on``)."""

    clean: float = Field(description="accuracy on clean images, in percent")
    origin: str = Field(description="who published or measured it")
    dataset: str | None = Field(default=None, description="whose test images; by default those of `trained_on`")
    pgd: tuple[AttackAccuracy, ...] = Field(default=(), description="accuracies under attack")


class SourceCard(Card):
    """One source model: its network, how it was trained, and where its weights come from.

    The digest of local weights is in the JSON card next to the weight file.

    ``weights`` is a path on this machine: a study's loader makes it absolute. Weights in other files under the same
    name, and weights that were compared with another card, have other names on this machine (``file_stem``).
    """

    name: str = Field(description="name of the source; in a study file it is the key above the card")
    architecture: str = Field(
        description="network, by name: one of `jobs/catalog/architectures`, or of the study's own `architectures`"
    )
    trained_on: str = Field(description="dataset that the source is trained on")
    constraint: Constraint = Field(description="ball in which its training images were perturbed")
    epsilon: Radius = Field(description="radius of that set, images in [0, 1]; `4/255` is allowed")
    band: tuple[Radius, Radius] | None = Field(
        default=None, description="only for fourier: from, to; shares of the frequencies"
    )
    attack_steps: int | None = Field(default=None, description="attack steps of its training, where they are known")
    mean: tuple[float, float, float] = Field(description="mean that its images are normalized with, per channel")
    std: tuple[Deviation, Deviation, Deviation] = Field(description="their standard deviation, per channel")
    licence: str = Field(default="not stated", description="licence of the weights")
    expected: Expected | None = Field(default=None, description="its accuracies, as published or measured")
    pretrain: Pretraining | None = Field(default=None, description="how DeltaSweep trains it")
    release: Release | None = Field(default=None, description="the published file with its weights")
    weights: str | None = later(
        None,
        since="0.3.0",
        min_length=1,
        description="your own checkpoint file: a path, relative to the folder of the study file, in any format that "
        "`models convert` reads",
    )
    published: str | None = later(
        None,
        since="0.3.0",
        pattern=PUBLISHED_PATTERN,
        description="published weights by name, `torchvision:NAME.WEIGHTS` or `timm:NAME.TAG@COMMIT`; "
        "`models fetch torchvision:NAME.WEIGHTS` and `models fetch timm:NAME.TAG` print the whole card",
    )
    weights_sha256: str | None = later(
        None,
        since="0.3.0",
        pattern=r"^[0-9a-f]{64}$",
        description="sha256 of the file, required with `weights` and `published`; if it is left out, the error says "
        "what it is, or which command prints it",
    )
    bundled: bool = Field(default=False, description="true: its weights are part of the package")
    random: bool = Field(default=False, description="true: random initialization, drawn from the trial's seed")

    @model_validator(mode="after")
    def _from_somewhere(self) -> Self:
        given = [key for key in ("pretrain", "release", "weights", "published") if getattr(self, key) is not None]
        given += ["random"] if self.random else []
        if len(given) != 1:
            raise ValueError(
                f"expected exactly one of pretrain, release, weights, published and random; source {self.name} has "
                f"{' and '.join(given) or 'none of them'}"
            )
        if self.weights is None and self.published is None and self.weights_sha256 is not None:
            raise ValueError(
                f"expected weights_sha256 only with weights or published; source {self.name} has {given[0]}"
            )
        if self.published is not None and self.weights_sha256 is None:
            raise ValueError(
                f"expected weights_sha256 with published, so that every machine uses the same file; source {self.name} "
                f"has none. Fix: copy it from the card that this prints: {command('models', 'fetch', self.published)}"
            )
        if self.bundled and given[0] in ("weights", "published"):
            raise ValueError(f"expected {given[0]} or bundled; source {self.name} has both. Fix: remove bundled")
        require_band(self.constraint, self.band)
        return self

    @property
    def test_dataset(self) -> str:
        """Dataset on whose test images its accuracy is known; its labels are those of the FC layer."""
        return (self.expected and self.expected.dataset) or self.trained_on

    @property
    def file_stem(self) -> str:
        """Name of the file with its weights on this machine, without extension.

        Own and published weights are named after everything that their conversion depends on: the file's digest, and
        what it is compared with. So studies that give one name to several files do not share weights, and those that
        give several names to one published file do.
        """
        compared = {"weights_sha256", "architecture"} | ({"mean", "std"} if self.published is None else set())
        facts = {**self.model_dump(mode="json", include=compared), "labels_of": self.test_dataset}
        if self.published is not None:
            return f"{stem_of(self.published)}-{digest(facts)[:16]}"
        return self.name if self.weights is None else f"{self.name}-{digest(facts)[:16]}"

    @property
    def carries_normalizer(self) -> bool:
        """Whether its checkpoint contains a normalizer, which replaces the target's in the last released code."""
        return self.constraint is not Constraint.NONE or (
            self.release is not None and self.release.format == "robustness"
        )


def stem_of(published: str) -> str:
    """Return the beginning of the names of files with published weights on this machine."""
    return published.partition("@")[0].replace(":", ".")
