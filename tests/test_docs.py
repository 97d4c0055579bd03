"""What pages name exists: paths, modules and what they define, links, commands and options, make targets, variables."""

import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import typer
import yaml

from jobs.errors import Code
from orchestrator.cli.main import app
from scripts import cli_page
from tests.documentation import CHANGELOG, PAGES, ROOT, blocks, broken_links, name, prose

PACKAGES = ("deltasweep", "orchestrator", "jobs", "analysis")
MADE = "benchmarks/results/"
"""The folder that `make bench` writes."""
_PATH = re.compile(r"`((?:deltasweep|orchestrator|jobs|analysis|tests|scripts|benchmarks|docs)/[\w./*<>-]+)`")
_DOTTED = re.compile(r"`((?:orchestrator|jobs|analysis)(?:\.[A-Za-z_]\w*)+)[`(]")


def missing_paths(text: str) -> Iterator[str]:
    for path in _PATH.findall(text):
        pattern = re.sub(r"<\w+>|\b[A-Z]+\b", "*", path.rstrip("/"))
        if not path.startswith(MADE) and not any(ROOT.glob(pattern)):
            yield path


def missing_names(text: str) -> Iterator[str]:
    for dotted in _DOTTED.findall(text):
        if not defined(dotted.split(".")):
            yield dotted


def defined(steps: list[str]) -> bool:
    """Return whether the dotted steps name a module, or a module whose text contains the remaining names."""
    for length in range(len(steps), 0, -1):
        module, names = ".".join(steps[:length]), steps[length:]
        try:
            spec = find_spec(module)
        except ModuleNotFoundError:
            continue
        if spec is not None and spec.origin is not None:
            text = Path(spec.origin).read_text(encoding="utf-8")
            return all(re.search(rf"\b{name}\b", text) for name in names)
    return False


every_page = pytest.mark.parametrize("page", PAGES, ids=name)


@every_page
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert [*missing_paths(text), *missing_names(text)] == []


def test_what_is_not_there_is_found() -> None:
    paths = "`jobs/nothing.py`, `jobs/kind.py`, `jobs/kinds/<kind>/spec.py`, `jobs/models/bundled/NAME.json`"
    assert [*missing_paths(paths)] == ["jobs/nothing.py"]
    assert [*missing_names("`jobs.kind.absent`, `jobs.kind.Kind`, `jobs.no.x`")] == ["jobs.kind.absent", "jobs.no.x"]


@pytest.mark.parametrize("page", [*PAGES, CHANGELOG], ids=name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    assert broken_links(page) == []


def test_broken_links_are_found() -> None:
    page = ROOT / "README.md"
    good = ["docs/glossary.md", "docs/glossary.md#more-words", "#install", "LICENSE"]
    bad = ["docs/glossary.html", "docs/glossary.md#fewer-words", "#uninstall", "docs/guide.md"]
    assert broken_links(page, [*good, *bad]) == bad


COMMANDS = dict(cli_page.commands("deltasweep", typer.main.get_command(app)))
_WRITTEN = re.compile(r"\bdeltasweep ([a-z][^\n`]*)")
_OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]*")


def unknown_commands(text: str) -> Iterator[str]:
    """Commands and options in a text that the command line does not have."""
    for line in text.splitlines():
        for words in _WRITTEN.findall(line):
            written = words.partition(" #")[0]
            if not re.match(r"[a-z|-]+( |$)", written):
                continue  # a sentence
            first, second = [*written.split(), ""][:2]
            groups = {f"deltasweep {one}" for one in first.split("|")}
            verbs = groups | {f"{group} {one}" for group in groups for one in second.split("|")}
            chosen = [command for key, command in COMMANDS.items() if key in verbs]
            if not chosen:
                yield f"deltasweep {first} {second}".strip()
            has = {option for command in chosen for parameter in command.params for option in _names(parameter)}
            yield from (f"deltasweep {first}: {one}" for one in _OPTION.findall(written) if one not in {*has, "--help"})


def _names(parameter: typer.core.TyperOption) -> list[str]:
    return [*parameter.opts, *parameter.secondary_opts]


@every_page
def test_commands_exist_with_their_options(page: Path) -> None:
    in_blocks = [
        re.sub(r"\s*\\\n\s*|\n {10,}", " ", block.text) for block in blocks(page) if block.language in ("", "bash")
    ]
    in_code = re.findall(r"`(deltasweep [^`]*)`", " ".join(prose(page).split()))
    assert [*unknown_commands("\n".join([*in_blocks, *in_code]))] == []


def test_unknown_commands_are_found() -> None:
    text = "deltasweep plan x --gpu A10G\ndeltasweep start x\ndeltasweep launch x --fast\ndeltasweep models list|sell x"
    assert [*unknown_commands(text)] == ["deltasweep start x", "deltasweep launch: --fast"]


@every_page
def test_make_targets_and_modules_exist(page: Path) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    known = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    code = "\n".join([*(block.text for block in blocks(page)), *re.findall(r"`([^`\n]+)`", prose(page))])
    targets = [
        word
        for words in re.findall(r"^\s*(?:sudo )?make ((?:[A-Z]+=\S+ )*[a-z-]+)", code, re.MULTILINE)
        for word in words.split()
    ]
    assert [target for target in targets if "=" not in target and target not in known] == []
    modules = re.findall(r"python -m ((?:scripts|benchmarks|orchestrator|jobs|analysis)(?:\.\w+)*)", code)
    assert [module for module in modules if find_spec(module) is None] == []


def test_environment_variables_are_documented() -> None:
    page = (ROOT / "docs" / "reference" / "environment.md").read_text(encoding="utf-8")
    files = [*ROOT.glob("*/**/*.py"), *ROOT.glob("orchestrator/**/*.yaml"), ROOT / ".ci" / "run", ROOT / "cluster.yaml"]
    texts = [path.read_text(encoding="utf-8") for path in files if not {".venv", "build"} & set(path.parts)]
    used = {variable for text in texts for variable in re.findall(r"\bDELTASWEEP_[A-Z_]+[A-Z]\b", text)}
    assert used >= {"DELTASWEEP_HOME", "DELTASWEEP_CACHE_GB"}
    assert set(re.findall(r"DELTASWEEP_[A-Z_]+[A-Z]", page)) == used


def test_every_packaged_study_is_described() -> None:
    page = (ROOT / "docs" / "reference" / "packaged-studies.md").read_text(encoding="utf-8")
    first_cells = re.findall(r"^\| (`[^|]+) \|", page, re.MULTILINE)
    described = {study for cell in first_cells for study in re.findall(r"`([^`]+)`", cell)}
    assert described == {path.stem for path in (ROOT / "orchestrator" / "study" / "packaged").glob("*.yaml")}


def test_error_codes_of_troubleshooting_exist() -> None:
    page = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
    symptoms = "".join(re.findall(r"^\| ([^|]+) \|", page, re.MULTILINE))
    codes = re.findall(r"`([a-z]+(?:-[a-z]+)+)`", symptoms)
    assert len(codes) > 5
    assert [code for code in codes if code not in {*Code}] == []


def test_the_glossary_begins_with_the_ten_words() -> None:
    page = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
    words = re.findall(r"^\| \*\*([^*]+)\*\* \| \w", page, re.MULTILINE)
    ten = ["Study", "Trial", "Kind", "Source", "Target", "Blocks", "Subset", "Recipe", "Contrast", "Delta"]
    assert words[:10] == ten
    assert words[10:] == sorted(words[10:], key=str.lower)


def test_the_citation_is_of_the_latest_release() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors", "version", "date-released"} <= citation.keys()
    version, date = re.findall(r"^## (\d\S+) - (\S+)$", CHANGELOG.read_text(encoding="utf-8"), re.MULTILINE)[0]
    assert (citation["version"], citation["date-released"]) == (version, date)
    (bibtex,) = [block.text for block in blocks(ROOT / "README.md") if block.language == "bibtex"]
    assert f"version = {{{version}}}" in bibtex
    assert f"title   = {{{citation['title']}}}" in bibtex
    assert f"title     = {{{citation['references'][0]['title']}}}" in bibtex
