"""Base class of specs, and limits on their numbers and names."""

from pydantic import ConfigDict

from jobs.specs.growth import Growing

ALL = -1
"""``images: -1`` means the whole training set, ``blocks: -1`` the whole network."""

MOST = 2**31 - 1
"""Largest integer in a spec; every storage and generator can represent it."""

MOST_EPOCHS = 1_000_000

NAME_BYTES = 255
"""Maximum length of a file name that every storage accepts, in bytes."""

NAME_PATTERN = r"^[a-z0-9][a-z0-9_.-]*$"
"""Pattern of source, dataset and study names. They become parts of file names, so every storage must accept them."""


class Spec(Growing):
    """Base of all models that are part of an identity: frozen, keyword-only, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True, allow_inf_nan=False)
