"""A study that real ``deltasweep`` processes launch, disturb and resume, and the files it leaves."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from jobs.results import comparable_columns, open_store, read_trials
from tests.another_finetuning import trials_in
from tests.durability.processes import PATIENCE_SECONDS, Process, alive, descendants, kill, wait_until
from tests.durability.watched import CONTROL, WatchedSpec

T = TypeVar("T")
Rows = Mapping[str, list[tuple[object, ...]]]
"""Rows by trial id, with the columns that two runs must agree on."""

BATCH_SECONDS = 0.1
"""Delay added to each batch: trials take seconds, and little CPU time."""
CHECKPOINT_EVERY = 1
"""Epochs; the value for every trial of a section."""
SMALL: dict[str, Any] = {"blocks": (0, 3), "images": (75,)}
"""Four trials."""
BATCH_SIZE = 32

STUDY = """
name: {name}
bundle: {bundle}
watched:
  {{source: [fmnist_natural], dataset: [digits], blocks: {blocks}, images: {images}, epochs: 12, seeds: 2,
    evaluate_every: 6, recipe: {{batch_size: {batch_size}}}, resources: {{gpu: 0, cpu: 1}}}}
"""


class Batch(NamedTuple):
    """One line of the trace: a batch that has begun."""

    trial: str
    epoch: int
    batch: int
    pid: int
    host: str


class Kill(NamedTuple):
    """One kill -9: the kind of its victim, and the interrupted trials, each with whether it had a checkpoint then."""

    kind: str
    hit: dict[str, bool]

    @property
    def hit_a_checkpoint(self) -> bool:
        return any(self.hit.values())


class Run:
    """One ``deltasweep`` process and all processes that it started."""

    def __init__(
        self, arguments: tuple[str, ...], environment: Mapping[str, str], output: Path, inside: tuple[str, ...] = ()
    ) -> None:
        """
        Args:
            inside: Command prefix, if it runs in separate namespaces.
        """
        self._output = output
        self._seen: set[Process] = set()
        self.arguments = arguments
        with output.open("wb") as file:
            self.process = subprocess.Popen(
                [*inside, str(Path(sys.executable).parent / "deltasweep"), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    @property
    def text(self) -> str:
        """The output so far."""
        return self._output.read_text(encoding="utf-8")

    def family(self) -> list[Process]:
        """Return the living processes that it started, directly or indirectly."""
        found = descendants(self.process.pid) if self.running else []
        self._seen |= set(found)
        return found

    def wait(self, patience: float = PATIENCE_SECONDS) -> int:
        """Wait for the process and return its exit code."""
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.arguments} took more than {patience} s; it printed:\n{self.text}") from None

    def wait_until(self, condition: Callable[[], T | None], what: str) -> T:
        """Wait for a condition that becomes true while the process runs."""

        def asked() -> T | None:
            if answer := condition():
                return answer
            assert self.running, "it ended before that"
            return None

        try:
            return wait_until(asked, what)
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.arguments} printed:\n{self.text}") from None

    def interrupt(self) -> None:
        """Send SIGINT to the whole process group, as Ctrl-C in a terminal does."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> None:
        """End the rest of it and of all its observed descendants."""
        self.family()
        if self.running:
            self.process.kill()
        self.process.wait()
        for process in self._seen:
            kill(process)

    def survivors(self) -> list[Process]:
        """Return the processes that it started and that still run."""
        return [process for process in self._seen if alive(process)]


class Sweep:
    """A study file, a results root, the trace, and the processes that work on them."""

    def __init__(
        self,
        folder: Path,
        home: Mapping[str, str],
        blocks: tuple[int, ...] = (0, 3, 9),
        images: tuple[int, ...] = (75, 100),
        bundle: str = "none",
    ) -> None:
        self.root = folder / "root"
        self.control = folder / "control"
        self.control.mkdir(parents=True)
        self.runs: list[Run] = []
        self.kills: list[Kill] = []
        self.study = folder / "study.yaml"
        self.study.write_text(
            STUDY.format(
                name="durability",
                blocks=list(blocks),
                images=list(images),
                batch_size=BATCH_SIZE,
                bundle=bundle,
            )
        )
        self.specs = {spec.trial_id: spec for spec in trials_in(WatchedSpec, self.study)}
        self.environment = {**home, CONTROL: str(self.control)}
        self.disturb()

    def disturb(self, seconds: float = BATCH_SECONDS, fail: list[dict[str, Any]] | None = None) -> None:
        """Set what happens to every batch from now on."""
        disturb(self.control, seconds, fail)

    # -- commands

    def start(self, verb: str, *options: str, temporary: Path | None = None) -> Run:
        """Start ``launch`` or ``resume``; ``temporary`` is the folder for the files of a separate Ray."""
        environment = {**self.environment, **({"RAY_TMPDIR": str(temporary)} if temporary else {})}
        return self._run(environment, verb, *options)

    def say(self, verb: str, *options: str) -> str:
        """Return the output of a command that must succeed."""
        run = self._run(self.environment, verb, *options)
        assert run.wait() == 0, run.text
        return run.text

    def status(self) -> dict[str, Any]:
        """Return ``status --json`` after checking its counts against the plan."""
        counts: dict[str, Any] = json.loads(self.say("status", "--json"))
        states = ("done", "running", "pending", "failed", "quarantined")
        assert sum(counts[state] for state in states) == counts["planned"] == len(self.specs), counts
        return counts

    def _run(self, environment: Mapping[str, str], verb: str, *options: str) -> Run:
        arguments = (verb, *((str(self.study),) if verb == "launch" else ()), *options, "--results", str(self.root))
        run = Run(arguments, environment, self.control / f"output-{len(self.runs)}")
        self.runs.append(run)
        return run

    # -- state

    def trace(self) -> list[Batch]:
        """Return all batches that have begun so far, in order."""
        return read_trace(self.control)

    def actors(self, family: list[Process]) -> list[Process]:
        """Return the processes that have trained a batch; Ray's names for them are not part of its interface."""
        pids = {b.pid for b in self.trace()}
        return [process for process in family if process.pid in pids]

    def running_trials(self, actors: list[Process]) -> dict[int, str]:
        """By pid of an actor: the trial whose batch it began last, if that trial is not done."""
        pids, finished = {actor.pid for actor in actors}, self.done()
        last = {b.pid: b.trial for b in self.trace() if b.pid in pids}
        return {pid: trial for pid, trial in last.items() if trial not in finished}

    def done(self) -> set[str]:
        return {file.stem for file in (self.root / "trials").rglob("*.parquet")}

    def result(self, trial: str) -> bytes:
        """Return the bytes of a finished trial's file."""
        (file,) = (self.root / "trials").rglob(f"{trial}.parquet")
        return file.read_bytes()

    def checkpoints(self, trial: str) -> list[Path]:
        """Return a trial's checkpoints, newest first."""
        return sorted((self.root / "checkpoints" / trial).glob("*.safetensors"), reverse=True)

    def last_checkpoint(self, trial: str) -> tuple[int, int]:
        """Return the epoch and batch at which the newest checkpoint resumes."""
        match = re.match(r"e(\d+)-b(\d+)-", self.checkpoints(trial)[0].name)
        assert match is not None
        return int(match[1]), int(match[2])

    def batches_an_epoch(self, trial: str) -> int:
        return -(-self.specs[trial].images // BATCH_SIZE)

    def next_position(self, trial: str) -> tuple[int, int]:
        """Return the epoch and batch that follow the last batch in the trace."""
        last = [b for b in self.trace() if b.trial == trial][-1]
        whole = last.batch + 1 == self.batches_an_epoch(trial)
        return (last.epoch + 1, 0) if whole else (last.epoch, last.batch + 1)

    def twice(self) -> Counter[str]:
        """For each trial, count the batches that began again after the first time."""
        times = Counter((b.trial, b.epoch, b.batch) for b in self.trace())
        found: Counter[str] = Counter()
        for (trial, _, _), count in times.items():
            found[trial] += count - 1
        return +found

    # -- kills

    def strike(self, kind: str, victims: list[Process], actors: list[Process]) -> Kill:
        """Send SIGKILL to all victims at once; ``actors`` are the trial actors that do not survive it.

        A trial that was committed at the last moment does not count as hit.
        """
        hit = {trial: bool(self.checkpoints(trial)) for trial in self.running_trials(actors).values()}
        for victim in victims:
            kill(victim)
        wait_until(lambda: not any(map(alive, victims)), f"{kind} was killed")
        made = Kill(kind, {trial: saved for trial, saved in hit.items() if trial not in self.done()})
        self.kills.append(made)
        return made

    def hits(self) -> Counter[str]:
        """Count how many kills interrupted each trial."""
        return Counter(trial for made in self.kills for trial in made.hit)

    # -- checks

    def require_same_as(self, reference: Rows) -> None:
        """Require each trial of the study once, with the reference's numbers bit for bit, and no leftover files."""
        found = rows(self.root)
        assert found.keys() == self.specs.keys()
        for trial in self.specs:
            assert found[trial] == reference[trial], f"{trial} has other numbers than undisturbed"
        assert len(self.done()) == len(list((self.root / "trials").rglob("*.parquet")))
        assert not list((self.root / "conflicts").rglob("*")), "there are conflicts"
        assert not list((self.root / "checkpoints").rglob("*.safetensors")), "checkpoints of done trials are left"
        assert {b.trial for b in self.trace()} == self.specs.keys(), "some trials were not watched"
        counts = self.status()
        assert counts["done"] == counts["planned"], counts

    def require_little_twice(self) -> None:
        """Require that each kill repeats at most one checkpoint interval of batches per trial it hit."""
        hits, twice = self.hits(), self.twice()
        most = {trial: CHECKPOINT_EVERY * self.batches_an_epoch(trial) * hits[trial] for trial in self.specs}
        over = {trial: f"{count} > {most[trial]}" for trial, count in twice.items() if count > most[trial]}
        assert not over, f"more batches executed twice than one checkpoint interval a kill: {over}"
        print(self.summary())

    def summary(self) -> str:
        """Return a summary for readers of the test log."""
        kinds = Counter(made.kind for made in self.kills)
        saved = sum(made.hit_a_checkpoint for made in self.kills)
        return (
            f"kills {dict(kinds)}, {saved} hit a trial with a checkpoint; {len(self.specs)} trials; "
            f"{len(self.trace())} batches, {self.twice().total()} of them twice"
        )

    def end(self) -> None:
        for run in self.runs:
            run.end()
        # killed processes may take a moment to disappear
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and any(run.survivors() for run in self.runs):
            time.sleep(0.05)


def read_trace(control: Path) -> list[Batch]:
    """Return all batches that have begun so far, in order."""
    file = control / "trace"
    whole = file.read_text().rpartition("\n")[0] if file.exists() else ""
    fields = [line.split() for line in whole.splitlines()]
    return [Batch(trial, int(epoch), int(batch), int(pid), host) for trial, epoch, batch, pid, host in fields]


def disturb(control: Path, seconds: float, fail: list[dict[str, Any]] | None = None) -> None:
    """Set what happens to every batch from now on."""
    new = control / "control.new"
    new.write_text(json.dumps({"seconds": seconds, "fail": fail or []}))
    new.replace(control / "control.json")


def rows(root: str | Path) -> dict[str, list[tuple[object, ...]]]:
    """Return rows by trial id without measured columns, with floats as their bits."""
    table = read_trials(open_store(str(root)), WatchedSpec.kind).select(comparable_columns(WatchedSpec.kind))
    found: dict[str, list[tuple[object, ...]]] = {}
    for row in table.to_pylist():
        bits = tuple(value.hex() if isinstance(value, float) else value for value in row.values())
        found.setdefault(row["trial_id"], []).append(bits)
    return found
