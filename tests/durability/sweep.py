"""A study that is launched, disturbed and resumed by real ``deltasweep`` processes, and what it left behind."""

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

from jobs.expansion import expand
from jobs.results import comparable_columns, open_store, read_trials
from jobs.specs import FinetuneSpec
from orchestrator.study_files import load_study
from tests.durability.processes import PATIENCE_SECONDS, Process, alive, descendants, kill, wait_until
from tests.support import finetune_specs

T = TypeVar("T")
Rows = Mapping[str, list[tuple[object, ...]]]
"""By trial id: its rows, of the columns that two runs must agree on."""

HOOK = Path(__file__).parent / "hook"
BATCH_SECONDS = 0.1
"""Added to each batch: trials take seconds, and little of the processor."""
CHECKPOINT_EVERY = 2
SMALL: dict[str, Any] = {"blocks": (0, 3), "images": (75,)}
"""Four trials."""
BATCH_SIZE = 32

STUDY = """
name: {name}
grid: {{source: [fmnist_natural], dataset: [digits], blocks: {blocks}}}
schedule:
  - {{images: {images}, epochs: 12, seeds: 2, evaluate_every: 6}}
recipe: {{batch_size: {batch_size}}}
resources: {{gpu: 0, cpu: 1}}
checkpoint_every: {checkpoint_every}
"""


class Batch(NamedTuple):
    """One line of the trace: a batch that began."""

    trial: str
    epoch: int
    batch: int
    pid: int
    host: str


class Kill(NamedTuple):
    """One kill -9: of what, and the trials that it interrupted, each with whether it had a checkpoint then."""

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
            inside: what to put before the command, where it runs in namespaces of its own.
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
        """What it has printed so far."""
        return self._output.read_text(encoding="utf-8")

    def family(self) -> list[Process]:
        """The living processes that it started, directly or not."""
        found = descendants(self.process.pid) if self.running else []
        self._seen |= set(found)
        return found

    def wait(self, patience: float = PATIENCE_SECONDS) -> int:
        """Its exit code."""
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.arguments} took more than {patience} s; it printed:\n{self.text}") from None

    def wait_until(self, condition: Callable[[], T | None], what: str) -> T:
        """Wait for something that happens while it runs."""

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
        """What Ctrl-C in a terminal does: SIGINT to the whole process group."""
        os.killpg(self.process.pid, signal.SIGINT)

    def end(self) -> None:
        """End whatever is left of it and of all it ever started, as far as it was seen."""
        self.family()
        if self.running:
            self.process.kill()
        self.process.wait()
        for process in self._seen:
            kill(process)

    def survivors(self) -> list[Process]:
        """Processes that it started and that still run."""
        return [process for process in self._seen if alive(process)]


class Sweep:
    """A study file, a results root, the trace, and the processes that work on it."""

    def __init__(
        self,
        folder: Path,
        home: Mapping[str, str],
        blocks: tuple[int, ...] = (0, 3, 9),
        images: tuple[int, ...] = (75, 100),
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
                checkpoint_every=CHECKPOINT_EVERY,
            )
        )
        self.specs = {spec.trial_id: spec for spec in finetune_specs(expand(load_study(str(self.study))))}
        self.environment = {**home, "DELTASWEEP_TEST_CONTROL": str(self.control)}
        self.disturb()

    def disturb(self, seconds: float = BATCH_SECONDS, fail: list[dict[str, Any]] | None = None) -> None:
        """Say what happens to every batch from now on."""
        disturb(self.control, seconds, fail)

    # -- commands

    def start(self, verb: str, *options: str, temporary: Path | None = None) -> Run:
        """Start ``launch`` or ``resume``; ``temporary`` is where a Ray of its own keeps its files."""
        environment = {**self.environment, **({"RAY_TMPDIR": str(temporary)} if temporary else {})}
        return self._run(environment, verb, *options)

    def say(self, verb: str, *options: str) -> str:
        """The output of a command that must succeed."""
        run = self._run(self.environment, verb, *options)
        assert run.wait() == 0, run.text
        return run.text

    def status(self) -> dict[str, Any]:
        """``status --json``, its counts held against the plan."""
        counts: dict[str, Any] = json.loads(self.say("status", "--json"))
        states = ("done", "running", "pending", "failed", "quarantined")
        assert sum(counts[state] for state in states) == counts["planned"] == len(self.specs), counts
        return counts

    def _run(self, environment: Mapping[str, str], verb: str, *options: str) -> Run:
        arguments = (verb, *((str(self.study),) if verb == "launch" else ()), *options, "--results", str(self.root))
        run = Run(arguments, environment, self.control / f"output-{len(self.runs)}")
        self.runs.append(run)
        return run

    # -- what is there

    def trace(self) -> list[Batch]:
        """All batches that began so far, in order."""
        return read_trace(self.control)

    def actors(self, family: list[Process]) -> list[Process]:
        """Those of the processes that have trained a batch; Ray's names for them are its own affair."""
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
        """The bytes of a finished trial's file."""
        (file,) = (self.root / "trials").rglob(f"{trial}.parquet")
        return file.read_bytes()

    def checkpoints(self, trial: str) -> list[Path]:
        """A trial's checkpoints, newest first."""
        return sorted((self.root / "checkpoints" / trial).glob("*.safetensors"), reverse=True)

    def last_checkpoint(self, trial: str) -> tuple[int, int]:
        """Epoch and batch that the newest checkpoint goes on with."""
        match = re.match(r"e(\d+)-b(\d+)-", self.checkpoints(trial)[0].name)
        assert match is not None
        return int(match[1]), int(match[2])

    def batches_an_epoch(self, trial: str) -> int:
        return -(-self.specs[trial].images // BATCH_SIZE)

    def next_position(self, trial: str) -> tuple[int, int]:
        """Epoch and batch that follow the last batch in the trace."""
        last = [b for b in self.trace() if b.trial == trial][-1]
        whole = last.batch + 1 == self.batches_an_epoch(trial)
        return (last.epoch + 1, 0) if whole else (last.epoch, last.batch + 1)

    def twice(self) -> Counter[str]:
        """For each trial, how many batches began beyond the first time."""
        times = Counter((b.trial, b.epoch, b.batch) for b in self.trace())
        found: Counter[str] = Counter()
        for (trial, _, _), count in times.items():
            found[trial] += count - 1
        return +found

    # -- kills

    def strike(self, kind: str, victims: list[Process], actors: list[Process]) -> Kill:
        """kill -9 of all victims at once; ``actors`` are the trial actors that do not survive it.

        A trial that was committed in the last moment is not counted as hit.
        """
        hit = {trial: bool(self.checkpoints(trial)) for trial in self.running_trials(actors).values()}
        for victim in victims:
            kill(victim)
        wait_until(lambda: not any(map(alive, victims)), f"{kind} was killed")
        made = Kill(kind, {trial: saved for trial, saved in hit.items() if trial not in self.done()})
        self.kills.append(made)
        return made

    def hits(self) -> Counter[str]:
        """How many kills interrupted each trial."""
        return Counter(trial for made in self.kills for trial in made.hit)

    # -- what must hold

    def require_same_as(self, reference: Rows) -> None:
        """Each trial of the study once, with the reference's numbers bit for bit, and nothing left over."""
        found = rows(self.root)
        assert found.keys() == self.specs.keys()
        for trial in self.specs:
            assert found[trial] == reference[trial], f"{trial} has other numbers than undisturbed"
        assert len(self.done()) == len(list((self.root / "trials").rglob("*.parquet")))
        assert not list((self.root / "conflicts").rglob("*")), "there are conflicts"
        assert not list((self.root / "checkpoints").rglob("*.safetensors")), "checkpoints of done trials are left"
        assert {b.trial for b in self.trace()} <= self.specs.keys()
        counts = self.status()
        assert counts["done"] == counts["planned"], counts

    def require_little_twice(self) -> None:
        """At most one checkpoint interval of batches is executed twice a kill and trial that it hit."""
        hits, twice = self.hits(), self.twice()
        most = {trial: CHECKPOINT_EVERY * self.batches_an_epoch(trial) * hits[trial] for trial in self.specs}
        over = {trial: f"{count} > {most[trial]}" for trial, count in twice.items() if count > most[trial]}
        assert not over, f"more batches executed twice than one checkpoint interval a kill: {over}"
        print(self.summary())

    def summary(self) -> str:
        """For people who read the log of the tests."""
        kinds = Counter(made.kind for made in self.kills)
        saved = sum(made.hit_a_checkpoint for made in self.kills)
        return (
            f"kills {dict(kinds)}, {saved} hit a trial with a checkpoint; {len(self.specs)} trials; "
            f"{len(self.trace())} batches, {self.twice().total()} of them twice"
        )

    def end(self) -> None:
        for run in self.runs:
            run.end()
        # what was just killed may still be on its way out
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and any(run.survivors() for run in self.runs):
            time.sleep(0.05)


def read_trace(control: Path) -> list[Batch]:
    """All batches that began so far, in order."""
    file = control / "trace"
    whole = file.read_text().rpartition("\n")[0] if file.exists() else ""
    fields = [line.split() for line in whole.splitlines()]
    return [Batch(trial, int(epoch), int(batch), int(pid), host) for trial, epoch, batch, pid, host in fields]


def disturb(control: Path, seconds: float, fail: list[dict[str, Any]] | None = None) -> None:
    """Say what happens to every batch from now on."""
    new = control / "control.new"
    new.write_text(json.dumps({"seconds": seconds, "fail": fail or []}))
    new.replace(control / "control.json")


def rows(root: str | Path) -> dict[str, list[tuple[object, ...]]]:
    """By trial id: its rows without what is measured, floats as their bits."""
    table = read_trials(open_store(str(root)), FinetuneSpec.kind).select(comparable_columns(FinetuneSpec.kind))
    found: dict[str, list[tuple[object, ...]]] = {}
    for row in table.to_pylist():
        bits = tuple(value.hex() if isinstance(value, float) else value for value in row.values())
        found.setdefault(row["trial_id"], []).append(bits)
    return found
