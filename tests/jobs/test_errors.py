"""Expected errors: each has a code and a place, kept when passed between processes, and every call site gives them."""

import ast
import json
import pickle
from collections import Counter
from collections.abc import Iterator
from functools import cache
from inspect import getsource
from itertools import pairwise
from pathlib import Path

import pytest

from jobs import errors
from jobs.catalog.catalog import PACKAGED
from jobs.errors import (
    Code,
    DamagedFile,
    DeltaSweepError,
    InvalidRequest,
    MissingData,
    Mistake,
    Place,
    ResultsConflict,
    StorageFailure,
)
from jobs.kinds.finetune.spec import FinetuneSpec
from jobs.possible import require_all_possible, require_possible
from jobs.results.problems import DamagedResult, Problem
from tests.support import refused

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path for package in ("jobs", "orchestrator", "analysis", "deltasweep") for path in (ROOT / package).rglob("*.py")
)
KINDS = {
    kind.__name__: kind
    for kind in (DeltaSweepError, InvalidRequest, MissingData, DamagedFile, ResultsConflict, StorageFailure)
}
MISTAKES = (
    Mistake(Code.UNKNOWN_NAME, Place("a.yaml", 3, "grid.source[0]"), "one"),
    Mistake(Code.WRONG_VALUE, Place("a.yaml", 4, "grid.blocks"), "other"),
)


# --- the contents of an error ---


@pytest.mark.parametrize("kind", KINDS.values())
def test_an_error_travels_whole(kind: type[DeltaSweepError]) -> None:
    error = kind(Code.WRONG_VALUE, "is 3;\nexpected 4", file="a.yaml", line=3, key="blocks", mistakes=MISTAKES)
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind
    assert str(back) == str(error) == "is 3;\nexpected 4"
    assert back.args == error.args == ("is 3;\nexpected 4",)
    assert (back.code, back.place, back.mistakes) == (Code.WRONG_VALUE, ("a.yaml", 3, "blocks"), MISTAKES)
    assert back.code is Code.WRONG_VALUE
    assert isinstance(back.place, Place)
    assert back.plain() == error.plain()


@pytest.mark.parametrize(("newer", "code"), [(False, Code.DAMAGED_RESULT), (True, Code.NEWER_VERSION)])
def test_a_damaged_result_travels_whole(newer: bool, code: Code) -> None:
    error = DamagedResult(Problem.WRONG_VERSION, "no", file=Path("/root/x.parquet"), key="epoch", newer=newer)
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is DamagedResult
    assert (str(back), back.problem, back.code) == ("no", Problem.WRONG_VERSION, code)
    assert back.place == Place("/root/x.parquet", None, "epoch")


def test_what_is_added_on_the_way_stays() -> None:
    error = StorageFailure(Code.STORAGE, "no answer", file="s3://b/r")
    error.add_note("while a trial was committed")
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["while a trial was committed"]


def test_as_machines_see_it() -> None:
    assert InvalidRequest(Code.WRONG_VALUE, "no", key="--images").plain() == {
        "error": {"code": "wrong-value", "message": "no", "file": "", "line": None, "key": "--images"}
    }
    told = InvalidRequest(Code.UNKNOWN_NAME, "two", file=Path("a.yaml"), line=3, mistakes=MISTAKES).plain()["error"]
    assert (told["file"], told["line"], told["key"]) == ("a.yaml", 3, "")
    assert told["mistakes"] == [
        {"code": "unknown-name", "message": "one", "file": "a.yaml", "line": 3, "key": "grid.source[0]"},
        {"code": "wrong-value", "message": "other", "file": "a.yaml", "line": 4, "key": "grid.blocks"},
    ]


def test_each_kind_is_what_its_callers_catch() -> None:
    assert issubclass(InvalidRequest, ValueError)
    assert issubclass(StorageFailure, OSError)
    assert issubclass(DamagedResult, DamagedFile)
    assert all(issubclass(kind, DeltaSweepError) for kind in KINDS.values())


# --- impossible trials ---


def spec(**changes: object) -> FinetuneSpec:
    values = {"source": "fmnist_natural", "dataset": "digits", "blocks": 3, "images": 20, "seed": 7, "epochs": 1}
    return FinetuneSpec.model_validate({**values, "evaluate_every": 1, "recipe": {}, **changes})


def test_a_trial_tells_each_of_its_mistakes() -> None:
    wrong = spec(source="natral", images=3)
    with pytest.raises(InvalidRequest) as caught:
        require_possible(wrong, PACKAGED)
    error = caught.value
    assert [(mistake.code, mistake.place.key) for mistake in error.mistakes] == [
        (Code.IMPOSSIBLE_TRIAL, "images"),
        (Code.UNKNOWN_NAME, "source"),
    ]
    assert (error.code, error.place.key) == (Code.IMPOSSIBLE_TRIAL, "images")
    assert str(error).splitlines()[1:] == [f"- {mistake.message}" for mistake in error.mistakes]
    assert wrong.trial_id in str(error)
    assert "'natral'" in error.mistakes[1].message


def test_a_study_tells_each_mistake_once_and_how_many_trials_have_it() -> None:
    with pytest.raises(InvalidRequest) as caught:
        require_all_possible([*(spec(images=3, seed=seed) for seed in range(1200)), spec(blocks=99), spec()], PACKAGED)
    images, blocks = caught.value.mistakes
    assert (images.place.key, blocks.place.key) == ("images", "blocks")
    assert images.message.endswith("(trials affected: 1,200)")
    assert blocks.message.endswith("(trials affected: 1)")
    with refused(Code.UNKNOWN_NAME, "'nothing'", "affected: 2", kind=InvalidRequest, key="dataset"):
        require_all_possible([spec(dataset="nothing"), spec(dataset="nothing", seed=8)], PACKAGED)


# --- codes ---


def documented() -> Iterator[tuple[str, str]]:
    """Yield the codes in the source, each with the docstring below it."""
    (body,) = (
        node.body
        for node in ast.parse(getsource(errors)).body
        if isinstance(node, ast.ClassDef) and node.name == Code.__name__
    )
    for node, after in pairwise([*body, None]):
        if isinstance(node, ast.Assign):
            said = after.value if isinstance(after, ast.Expr) else None
            (target,) = node.targets
            yield ast.unparse(target), str(said.value) if isinstance(said, ast.Constant) else ""


def test_every_code_says_what_it_means() -> None:
    found = dict(documented())
    assert list(found) == [code.name for code in Code]
    assert [name for name, said in found.items() if len(said.strip()) < 10 or not said.endswith(".")] == []


def test_a_code_is_its_name_and_stands_for_one_thing() -> None:
    assert [code for code in Code if code.value != code.name.lower().replace("_", "-")] == []
    assert len(Code.__members__) == len(list(Code)), "an alias is a second name"
    meanings = Counter(said for _, said in documented())
    assert [said for said, count in meanings.items() if count > 1] == []


# --- every call site ---


@cache
def trees() -> dict[Path, ast.Module]:
    return {path: ast.parse(path.read_text(encoding="utf-8")) for path in SOURCES}


@cache
def kinds() -> dict[str, ast.ClassDef]:
    """Return every class of expected errors, in all packages."""
    classes = [node for tree in trees().values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    found = {node.name: node for node in classes if node.name == DeltaSweepError.__name__}
    while new := {
        node.name: node
        for node in classes
        if node.name not in found and {ast.unparse(base).split(".")[-1] for base in node.bases} & found.keys()
    }:
        found |= new
    return found


def test_the_kinds_are_found() -> None:
    assert kinds().keys() >= {*KINDS, DamagedResult.__name__}


def first_parameter(kind: str) -> str:
    """Return the first parameter of the constructor of an error class."""
    for part in kinds()[kind].body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            return part.args.args[1].arg
    bases = [ast.unparse(base).split(".")[-1] for base in kinds()[kind].bases]
    return first_parameter(next(base for base in bases if base in kinds()))


def is_said(node: ast.expr, what: str) -> bool:
    """Return whether an expression is a ``Code`` (``what``: code) or a ``Problem``.

    It may be a member, or an attribute or variable of that name, whose type mypy checks.
    """
    match node:
        case ast.Attribute(value=ast.Name(id=name)) if name == what.capitalize():
            return True
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name == what
        case ast.IfExp(body=body, orelse=orelse):
            return is_said(body, what) and is_said(orelse, what)
    return False


def sites_without(tree: ast.Module) -> Iterator[str]:
    """Yield calls that create an expected error without a code.

    An error class whose parameters do not include a code must pass one itself.
    """
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name), args=args) if name in kinds():
                what = first_parameter(name)
                if what in ("code", "problem") and not (args and is_said(args[0], what)):
                    yield f"{node.lineno}: {name}"
            case ast.ClassDef(name=name) if name in kinds() and first_parameter(name) != "code":
                calls = [call for call in ast.walk(node) if isinstance(call, ast.Call)]
                made = [call.args[0] for call in calls if ast.unparse(call.func) == "super().__init__"]
                if any(not is_said(code, "code") for code in made):
                    yield f"{node.lineno}: {name}"


def test_every_expected_error_is_raised_with_a_code() -> None:
    assert [f"{path.relative_to(ROOT)}:{site}" for path, tree in trees().items() for site in sites_without(tree)] == []


def test_an_error_without_a_code_is_found() -> None:
    wrong = 'raise InvalidRequest("no")\nraise errors.MissingData()\nraise DamagedResult(Code.INTERNAL, "no")'
    right = 'raise InvalidRequest(Code.A if x else error.code, "no")\nraise DamagedResult(Problem.TORN, "no")'
    found = list(sites_without(ast.parse(wrong)))
    assert found == ["1: InvalidRequest", "2: MissingData", "3: DamagedResult"]
    assert list(sites_without(ast.parse(right))) == []


# --- codes stay ---

CODES = Path(__file__).with_name("codes.json")


def test_codes_are_those_of_every_release() -> None:
    """Programs rely on codes: a code is never removed and never changes its meaning.

    A new code is listed with its release.
    """
    known: dict[str, str] = json.loads(CODES.read_text())
    assert sorted(known) == sorted(code.value for code in Code)
