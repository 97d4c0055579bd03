"""The number of the project's modules between the command and a trial's first step, and on the way of a study."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import torch

from jobs.study.expand import expand
from jobs.study.model import Study
from orchestrator.entry import main
from orchestrator.ray_tune import tuner
from orchestrator.study.load import parse_study
from tests.orchestrator.in_process import replace_ray

MOST_MODULES = 10
STUDY = """
name: mini
grid: {source: [fmnist_natural], dataset: [digits], blocks: [0, 3]}
schedule: [{images: [20], epochs: 1, seeds: 1, evaluate_every: 1}]
"""


def module_of(frame: FrameType) -> str | None:
    """Return the project's module that a frame is in."""
    name = str(frame.f_globals.get("__name__"))
    return name if name.partition(".")[0] in ("jobs", "orchestrator", "analysis") else None


def stack() -> list[str]:
    """Return the project's modules on the call stack, from the command line on, each once."""
    modules, frame = list[str](), sys._getframe()
    while frame.f_back is not None:
        frame = frame.f_back
        if (name := module_of(frame)) is not None:
            modules.append(name)
    called = list(dict.fromkeys(reversed(modules)))
    return called[called.index("orchestrator.cli.main") :]


@pytest.fixture
def first_step(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The call stack at the first backward pass, once there was one."""
    stacks, backward = list[list[str]](), torch.Tensor.backward

    def noted(loss: torch.Tensor, *arguments: Any, **options: Any) -> None:
        if not stacks:
            stacks.append(stack())
        backward(loss, *arguments, **options)  # type: ignore[no-untyped-call]  # untyped in torch

    monkeypatch.setattr(torch.Tensor, "backward", noted)
    return stacks


def deltasweep(monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str) -> None:
    (folder / "mini.yaml").write_text(STUDY, encoding="utf-8")
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["deltasweep", *arguments, "--results", "root"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code


def test_run(first_step: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = expand(parse_study(STUDY, "mini.yaml"))[0].trial_id
    deltasweep(monkeypatch, tmp_path, "run", "mini.yaml", "--trial", trial)
    (modules,) = first_step
    assert modules[-1] == "jobs.kinds.finetune.trial"
    assert len(modules) <= MOST_MODULES, sorted(modules)


@pytest.mark.parametrize("bundle", ["none", "blocks"])
def test_launch(bundle: str, first_step: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver's part, up to the call of Tune, and the actor's, from Tune's call of it."""
    replace_ray(monkeypatch, tmp_path)
    monkeypatch.setattr(sys.modules[__name__], "STUDY", f"{STUDY}bundle: {bundle}\n")
    drivers, run_round = list[list[str]](), tuner.run_round

    def noted(*arguments: Any) -> None:
        drivers.append(stack())
        run_round(*arguments)

    monkeypatch.setattr(tuner, "run_round", noted)
    deltasweep(monkeypatch, tmp_path, "launch", "mini.yaml")
    (drivers_part, *_), (both,) = drivers, first_step
    actors_part = [module for module in both if module not in drivers_part]
    modules = [*drivers_part, tuner.__name__, *actors_part]
    assert "orchestrator.ray_tune.trainable" in actors_part
    assert len(modules) <= MOST_MODULES, sorted(modules)


@contextmanager
def receivers(kind: type[object]) -> Iterator[set[str]]:
    """Collect the project's modules whose functions receive an instance of a class."""
    modules = set[str]()

    def noted(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and (name := module_of(frame)) is not None:
            code = frame.f_code
            parameters = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
            if any(isinstance(frame.f_locals.get(parameter), kind) for parameter in parameters):
                modules.add(name)

    before = sys.getprofile()
    sys.setprofile(noted)
    try:
        yield modules
    finally:
        sys.setprofile(before)


def test_few_modules_are_given_the_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replace_ray(monkeypatch, tmp_path)
    with receivers(Study) as modules:
        deltasweep(monkeypatch, tmp_path, "launch", "mini.yaml")
    assert "orchestrator.launching.launch" in modules
    assert len(modules) <= MOST_MODULES, sorted(modules)
