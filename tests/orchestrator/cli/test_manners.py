"""Versions, completion, the results root of the environment, packaged and new studies, lists of trials."""

import os
import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from jobs.results import commit, open_store
from jobs.study.expand import expand
from orchestrator.study.load import load_study, parse_study
from orchestrator.study.packaged_studies import packaged_studies, packaged_text
from orchestrator.study.template import new_study
from tests.documentation import ROOT
from tests.orchestrator.support import Command
from tests.results.rows import result_rows

# --- version ---


def test_the_version_is_that_of_the_package(deltasweep: Command) -> None:
    result = deltasweep("--version")
    assert (result.code, result.message) == (0, "")
    assert result.out.startswith(f"deltasweep {version('deltasweep')} (Python 3.")
    assert f"torch {version('torch')}" in result.out
    assert f"ray {version('ray')}" in result.out


def test_without_a_verb_there_is_help_and_nothing_else(deltasweep: Command) -> None:
    result = deltasweep()
    assert (result.code, result.message) == (2, "")
    assert "Usage: deltasweep" in result.out
    assert "studies" in result.out


# --- completion ---

COMPLETE = """
eval "$(deltasweep completion bash)"
COMP_WORDS=({words}); COMP_CWORD={place}
_deltasweep_completion deltasweep
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def completed(folder: Path, *words: str) -> list[str]:
    """Return what bash completes the last word to, in a shell in which the completion was installed."""
    place = Path(sys.executable).parent
    script = folder / "bin" / "deltasweep"
    script.parent.mkdir(exist_ok=True)
    script.write_text(f"#!{sys.executable}\nfrom orchestrator.entry import main\nmain()\n")
    script.chmod(0o755)
    environment = {**os.environ, "PATH": f"{script.parent}:{place}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT)}
    quoted = " ".join(f"'{word}'" for word in ("deltasweep", *words))
    done = subprocess.run(
        ["bash", "--norc", "-c", COMPLETE.format(words=quoted, place=len(words))],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_bash_completes_verbs_options_and_studies(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("name: mine", encoding="utf-8")
    assert completed(tmp_path, "lau") == ["launch"]
    assert completed(tmp_path, "studies", "n") == ["new"]
    assert completed(tmp_path, "launch", "--not") == ["--notify"]
    assert completed(tmp_path, "plan", "demo-f") == ["demo-fourier", "demo-full"]
    assert completed(tmp_path, "plan", "mi") == ["mine.yaml"]
    assert completed(tmp_path, "studies", "show", "paper-table1") == ["paper-table1a", "paper-table1b"]
    assert completed(tmp_path, "trials", "list", "--state", "d") == ["done", "damaged"]
    assert completed(tmp_path, "completion", "z") in (["zsh"], [])


@pytest.mark.parametrize(
    ("shell", "words"),
    [("zsh", "#compdef deltasweep"), ("zsh", "compinit; }\ncompdef "), ("fish", "complete --command deltasweep")],
)
def test_scripts_of_other_shells(deltasweep: Command, shell: str, words: str) -> None:
    result = deltasweep("completion", shell)
    assert (result.code, result.message) == (0, "")
    assert words in result.out
    unknown = deltasweep("completion", "tcsh")
    assert (unknown.code, unknown.out) == (2, "")
    assert all(name in unknown.message for name in ("bash", "zsh", "fish"))


# --- the results root of the environment ---


@pytest.fixture
def in_environment(deltasweep: Command, monkeypatch: pytest.MonkeyPatch) -> str:
    """A root with one trial of `demo`, which the environment names."""
    root = str(deltasweep.folder / "root of the environment")
    commit(open_store(root), "finetune", result_rows(expand(load_study("demo"))[0].trial_id))
    monkeypatch.setenv("DELTASWEEP_RESULTS", root)
    return root


def test_the_root_of_the_environment_is_the_default(deltasweep: Command, in_environment: str) -> None:
    assert "1 done" in deltasweep("plan", "demo").out
    assert "The index covers 1 trials" in deltasweep("compact").out
    assert deltasweep("trials", "list", "demo", "--state", "done", "--ids").out.startswith("finetune-digits-")


def test_the_option_wins(deltasweep: Command, in_environment: str) -> None:
    assert "0 done" in deltasweep("plan", "demo", "--results", "another").out
    refused = deltasweep("status", "--results", "another")
    assert refused.code == 2
    assert "another" in refused.message
    assert "DELTASWEEP_RESULTS" not in refused.message


def test_a_root_that_fails_is_told_with_the_variable(deltasweep: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELTASWEEP_RESULTS", "ftp://host/root")
    for verb in (("status",), ("launch", "demo"), ("verify",), ("deltas",)):
        result = deltasweep(*verb)
        assert (result.code, result.out, result.message.count("\n")) == (2, "", 0)
        assert "$DELTASWEEP_RESULTS" in result.message
    monkeypatch.setenv("DELTASWEEP_RESULTS", "")
    assert "got neither" in deltasweep("status").message


# --- studies ---


def test_packaged_studies_are_listed_with_what_they_ask(deltasweep: Command) -> None:
    result = deltasweep("studies", "list")
    assert result.code == 0
    for name in packaged_studies():
        (line,) = [line for line in result.out.splitlines() if line.split()[:1] == [name]]
        assert f"{len(expand(load_study(name))):,}" in line
        assert len(line.split()) > 5


@pytest.mark.parametrize("name", packaged_studies())
def test_a_packaged_study_is_shown_as_it_is(deltasweep: Command, name: str) -> None:
    result = deltasweep("studies", "show", name)
    assert (result.code, result.message) == (0, "")
    assert result.out == packaged_text(name)


def test_what_is_shown_can_be_kept_and_planned(deltasweep: Command) -> None:
    (deltasweep.folder / "copy.yaml").write_text(deltasweep("studies", "show", "demo").out, encoding="utf-8")
    assert deltasweep("plan", "copy.yaml").out.startswith("demo: 60 trials")
    unknown = deltasweep("studies", "show", "dem")
    assert (unknown.code, unknown.out) == (2, "")
    assert "did you mean demo?" in unknown.message


@pytest.mark.parametrize(
    ("target", "file"), [("mine", "mine.yaml"), ("a.study-2.yaml", "a.study-2.yaml"), ("folder/mine.yml", None)]
)
def test_a_new_study_is_valid_and_has_all_its_sections_explained(
    deltasweep: Command, target: str, file: str | None
) -> None:
    (deltasweep.folder / "folder").mkdir()
    file = file or target
    result = deltasweep("studies", "new", target)
    assert (result.code, result.message) == (0, "")
    assert f"deltasweep plan {file}" in result.out
    text = (deltasweep.folder / file).read_text(encoding="utf-8")
    plan = deltasweep("plan", file)
    assert (plan.code, plan.message) == (0, "")
    assert plan.out.startswith(f"{Path(file).stem}: 20 trials")
    assert text.count("#") > 15
    again = deltasweep("studies", "new", target)
    assert (again.code, again.out) == (2, "")
    assert "exists" in again.message
    assert (deltasweep.folder / file).read_text(encoding="utf-8") == text


@pytest.mark.parametrize("name", ["2026", "1e3", "1.5", "0x10", "null", "true", "yes", "2026-01-01", "a.b"])
def test_a_new_study_has_its_name_as_text(name: str) -> None:
    """A YAML reader of either version takes some names for numbers, dates or Booleans."""
    assert parse_study(new_study(name, f"{name}.yaml"), f"{name}.yaml").name == name


def test_what_a_new_study_leaves_as_comments_is_valid_too(deltasweep: Command) -> None:
    deltasweep("studies", "new", "mine")
    file = deltasweep.folder / "mine.yaml"
    lines = file.read_text(encoding="utf-8").splitlines()
    for choice in ("# recipe: as-published", "# bundle: blocks", "# keep_weights: true", "# recipe: {base"):
        (number,) = [number for number, line in enumerate(lines) if line.startswith(choice)]
        changed = [*lines[:number], lines[number].removeprefix("# "), *lines[number + 1 :]]
        file.write_text("\n".join(changed), encoding="utf-8")
        assert deltasweep("plan", "mine.yaml").code == 0, choice
    start = lines.index("# attack:")
    attack = [line.removeprefix("# ") for line in lines[start : start + 3]]
    file.write_text("\n".join([*lines[:start], *attack, *lines[start + 3 :]]), encoding="utf-8")
    plan = deltasweep("plan", "mine.yaml")
    assert (plan.code, plan.message) == (0, "")
    assert int(plan.out.split()[1]) > 20


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("Mine", "lower-case letters"),
        ("my study", "lower-case letters"),
        ("nowhere/mine.yaml", "No such file"),
        ("folder/mine", "ends in .yaml"),
        ("a" * 101, "at most 100"),
    ],
)
def test_a_new_study_that_cannot_be_written(deltasweep: Command, target: str, words: str) -> None:
    result = deltasweep("studies", "new", target)
    assert (result.code, result.out, result.message.count("\n")) == (2, "", 0)
    assert words in result.message
    assert list(deltasweep.folder.iterdir()) == []


# --- trials ---


def test_trials_are_listed_in_the_order_of_the_study(deltasweep: Command) -> None:
    trials = [spec.trial_id for spec in expand(load_study("demo"))]
    assert deltasweep("trials", "list", "demo", "--ids").out.split() == trials
    assert deltasweep("trials", "list", "demo").out.split() == trials, "without a root no state is known"
    commit(open_store(deltasweep.folder / "root"), "finetune", result_rows(trials[3]))
    root = ("--results", "root")
    states = dict(line.split() for line in deltasweep("trials", "list", "demo", *root).out.splitlines())
    assert list(states) == trials
    assert states == dict.fromkeys(trials, "pending") | {trials[3]: "done"}
    assert deltasweep("trials", "list", "demo", *root, "--state", "done", "--ids").out == f"{trials[3]}\n"
    assert deltasweep("trials", "list", "demo", *root, "--state", "failed", "--ids").out == ""


def test_a_state_needs_a_root(deltasweep: Command) -> None:
    result = deltasweep("trials", "list", "demo", "--state", "done")
    assert (result.code, result.out) == (2, "")
    assert "--results" in result.message
    assert "DELTASWEEP_RESULTS" in result.message


# --- nothing phones home ---

OFFLINE = """
import socket, sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo") and "127.0.0.1" not in str(arguments):
        print("CONNECTS", event, arguments, file=sys.stderr)
        raise OSError("no network in this test")
sys.addaudithook(refuse)
sys.argv[0] = "deltasweep"
from orchestrator.entry import main
main()
"""


SMALL = """
name: small
grid: {source: [fmnist_natural], dataset: [digits], blocks: [0]}
schedule: [{images: [20], epochs: 1, seeds: 1, evaluate_every: 1}]
"""
SMALL_TRIAL = expand(parse_study(SMALL, "mine.yaml"))[0].trial_id


@pytest.mark.parametrize(
    "words",
    [
        ("--version",),
        ("plan", "demo"),
        ("models", "list"),
        ("schema",),
        ("studies", "list"),
    ],
    ids=" ".join,
)
def test_commands_open_no_connection(words: tuple[str, ...], tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", OFFLINE, *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_trial_opens_no_connection(deltasweep: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    (deltasweep.folder / "mine.yaml").write_text(SMALL, encoding="utf-8")
    for name in ("connect", "connect_ex", "sendto"):
        monkeypatch.setattr(socket.socket, name, lambda *_: pytest.fail("a connection"))
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: pytest.fail("a name was looked up"))
    result = deltasweep("run", "mine.yaml", "--trial", SMALL_TRIAL, "--results", "root")
    assert (result.code, result.message) == (0, "")


def test_the_hub_is_told_nothing() -> None:
    code = (
        "from jobs.networks.builders import timm_package; timm_package('x'); "
        "import huggingface_hub.constants as c; print(c.HF_HUB_DISABLE_TELEMETRY)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HF_HUB_DISABLE_TELEMETRY": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True"]
