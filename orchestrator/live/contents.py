"""The contents of a results root as the live page shows them, at one moment. Nothing here changes once it is made.

Plain tuples by trial id: an update looks at each trial a few times, and loops over them cost less processor time than
filters of Arrow tables with millions of values.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from jobs.results import Failure, Launch, StudyRecord
from jobs.results.progress import Progress


class Run(NamedTuple):
    """Where and when a finished trial ran."""

    seconds: float | None
    device_kind: str | None
    """As in results: "A -> B" if it ran on several."""
    host: str | None
    launch: str | None
    finished_at: str
    """UTC, ISO 8601; empty if it was not recorded."""
    mixed: bool
    """Whether it ran on several kinds of device or versions of torch."""
    dataset: str | None = None
    dataset_sha256: str | None = None
    """Of the images and labels; None where it is not recorded."""


class Evaluated(NamedTuple):
    """The columns of a finished fine-tuning trial that deltas and curves need (``analysis.evaluations.frames``)."""

    trial_id: str
    source: str
    constraint: str | None
    epsilon: float | None
    dataset: str
    blocks: int
    images: int
    images_used: int
    seed: int
    epochs: int
    recipe: str
    numerics: int | None
    origin: str
    subset_sha256: str | None
    epoch: tuple[int, ...]
    """The evaluated epochs, in order."""
    test_accuracy: tuple[float, ...]
    """In percent, after each of these."""


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What has been read of a results root. Mappings are by trial id."""

    at: datetime
    """When it was listed, UTC."""
    exists: bool
    """Whether there is such a root; before that it is empty."""
    results: Mapping[str, str]
    """The kind of each finished trial."""
    damaged: Mapping[str, str]
    """Messages about results that cannot be read. They are not among ``results``."""
    unread: int
    """Results that are listed, but whose rows have not been read yet. They are among ``results``."""
    runs: Mapping[str, Run]
    """Of each result that has been read."""
    evaluations: Mapping[str, Evaluated]
    """Of each fine-tuning trial that has been read."""
    sources: frozenset[str]
    """The sources of all results that have been read, of any kind."""
    recipes: Mapping[str, str]
    """The recorded recipes of these, as JSON by digest."""
    failures: tuple[Failure, ...]
    """All failed attempts, the latest last."""
    launches: tuple[Launch, ...]
    """All launches, the latest last."""
    studies: tuple[StudyRecord, ...]
    running: Mapping[str, Progress]
    """The newest checkpoint of each trial that a live launch is running."""
    weights: frozenset[str]
    """The trials whose trained network is in the root."""
    problems: tuple[str, ...]
    """Messages about other files that cannot be used."""

    @property
    def live(self) -> list[Launch]:
        """The launches whose last heartbeat is recent."""
        return [launch for launch in self.launches if launch.alive(self.at)]

    @property
    def in_flight(self) -> set[str]:
        """The trials that live launches are running."""
        return {trial for launch in self.live for trial in launch.in_flight}

    @property
    def shown(self) -> tuple[object, ...]:
        """A key that differs if anything but the time of the look and of heartbeats does."""
        return (
            self.exists,
            id(self.results),
            id(self.runs),
            self.damaged,
            self.unread,
            len(self.failures),
            [launch._replace(heartbeat_at="") for launch in self.launches],
            {launch.launch for launch in self.live},
            [(record.name, record.digest) for record in self.studies],
            self.running,
            len(self.weights),
            self.problems,
        )
