"""Studies with own architectures: cards inline or in files, builder files that are named, launches, pins, records."""

from pathlib import Path

import pytest
import yaml
from rich.console import Console

from jobs.catalog.architecture_card import Architecture
from jobs.catalog.architecture_files import card_text
from jobs.catalog.builder_files import sha256_of
from jobs.catalog.catalog import PACKAGED
from jobs.errors import Code, InvalidRequest, Mistake, ResultsConflict
from jobs.networks.describe import describe
from jobs.results import all_done, open_store, pinned
from jobs.study.expand import expand
from jobs.study.model import Study
from jobs.verification.verify import verify
from orchestrator.launching.launch import launch
from orchestrator.launching.local import run_locally
from orchestrator.study.history import recorded_study
from orchestrator.study.load import load_study, parse_study, with_builders
from orchestrator.study.name_conflicts import require_same_names
from tests.jobs.own_networks import BUILDER, MY_NET, NAME, changed
from tests.orchestrator.support import check, mistakes
from tests.support import refused

pytestmark = pytest.mark.usefixtures("without_ray", "short_tests")

STUDY = """\
name: own
architectures:
  mine: cards/mine.yaml
sources:
  drawn: &drawn
    architecture: mine
    trained_on: digits
    constraint: none
    epsilon: 0
    mean: [0.305, 0.305, 0.305]
    std: [0.3753, 0.3753, 0.3753]
    random: true
grid: {source: [drawn], dataset: [digits], blocks: [-1]}
schedule:
  - {images: [30], epochs: 1, seeds: 1, evaluate_every: 1}
"""
TRAINED = """\
  trained:
    <<: *drawn
    random: false
    pretrain: {seed: 1, epochs: 1, steps: 0}
pretrain: {source: [trained]}
"""
QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def card() -> Architecture:
    return describe("mine", BUILDER, 32, MY_NET)


@pytest.fixture
def study_file(card: Architecture, tmp_path: Path) -> Path:
    """A study, the card of its architecture in a file beside it, and the builder file."""
    folder = tmp_path / "study"
    (folder / "cards").mkdir(parents=True)
    (folder / "cards" / "mine.yaml").write_text(card_text(card))
    (folder / NAME).write_text(MY_NET)
    (folder / "own.yaml").write_text(STUDY)
    return folder / "own.yaml"


def builder(study_file: Path) -> Path:
    return study_file.with_name(NAME)


def loaded(study_file: Path) -> Study:
    return load_study(str(study_file), [builder(study_file)])


def test_a_card_in_a_file_becomes_part_of_the_study(
    card: Architecture, study_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = load_study(str(study_file))
    assert study.architectures == {"mine": card}
    assert study.catalog.image_size("drawn") == 32
    inline = STUDY.replace("cards/mine.yaml", yaml.safe_dump(yaml.safe_load(card_text(card)), default_flow_style=True))
    assert parse_study(inline, "elsewhere.yaml") == study
    assert parse_study(study.resolved(), "record.yaml", recorded=True) == study
    monkeypatch.chdir(study_file.parent / "cards")
    monkeypatch.setenv("HOME", str(study_file.parent))
    assert load_study("../own.yaml") == study
    for path in (str(study_file.parent / "cards/mine.yaml"), "~/cards/mine.yaml"):
        assert parse_study(STUDY.replace("cards/mine.yaml", path), "elsewhere.yaml") == study


def test_a_record_names_no_files(study_file: Path) -> None:
    """So that a results root cannot make a command read them."""
    with pytest.raises(InvalidRequest) as caught:
        parse_study(STUDY, str(study_file), recorded=True)
    assert caught.value.place.key == "architectures.mine"
    assert caught.value.code is Code.WRONG_VALUE


def found_in(study_file: Path, text: str = STUDY) -> Mistake:
    (found,) = mistakes(text, str(study_file))
    return found


@pytest.mark.parametrize(
    ("old", "new", "code", "key", "line", "words"),
    [
        ("image_size: 32", "image_size: big", Code.WRONG_VALUE, "image_size", 2, "'big'"),
        ("features: 4", "feature: 4", Code.UNKNOWN_KEY, "feature", 3, "did you mean 'features'"),
        ("modules: blocks.1}", "module: blocks.1}", Code.MISSING_KEY, "blocks[1].modules", 7, "required"),
        ("builder: my_net.py", "builder: nets/my_net.py", Code.WRONG_VALUE, "builder", 1, "without its folder"),
        ("{flops: 8000,", "{flops: 8" + 400 * "0" + ",", Code.WRONG_VALUE, "fc.flops", 10, "less than or equal"),
        ("modules: blocks.1}", "modules: blocks.0}", Code.WRONG_VALUE, "", 1, "blocks.0 is there 2 times"),
        ("builder: my_net.py", "builder: keras", Code.WRONG_VALUE, "builder", 1, "'keras:build'"),
        ("image_size: 32", "image_size: 32\nimage_size: 32", Code.REPEATED, "image_size", 2, "line 3"),
    ],
)
def test_a_mistake_in_a_card_s_file_has_the_line_in_that_file(
    old: str, new: str, code: Code, key: str, line: int, words: str, study_file: Path
) -> None:
    """And the place in the study file that names it."""
    file = study_file.parent / "cards" / "mine.yaml"
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new))
    with pytest.raises(InvalidRequest) as caught:
        load_study(str(study_file))
    place = f"architectures.mine.{key}".rstrip(".")
    (found,) = [one for one in caught.value.mistakes if one.place.key == place]
    check(found, code, place, f"{file}:{line}: ", words, line=3)


def test_a_mistake_in_an_inline_card_has_its_line(card: Architecture) -> None:
    inline = "\n".join(f"    {line}" for line in card_text(card).splitlines())
    text = STUDY.replace(" cards/mine.yaml", f"\n{inline}").replace("features: 4", "features: 0")
    (found,) = mistakes(text)
    check(found, Code.WRONG_VALUE, "architectures.mine.features", line=6)
    assert ".yaml" not in found.message


@pytest.mark.parametrize(
    ("content", "code", "words"),
    [
        (None, Code.NO_SUCH_FILE, "deltasweep models describe"),
        (b"- builder\n", Code.UNREADABLE_FILE, "not a mapping"),
        (b"builder: {\n", Code.UNREADABLE_FILE, "mine.yaml:2"),
        (b"\xff\xfe", Code.UNREADABLE_FILE, "UTF-8"),
    ],
)
def test_a_card_s_file_that_cannot_be_read(content: bytes | None, code: Code, words: str, study_file: Path) -> None:
    """It is the only mistake: the source that uses the architecture is not another one."""
    file = study_file.parent / "cards" / "mine.yaml"
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    check(found_in(study_file), code, "architectures.mine", str(file), words, line=3)


def test_a_packaged_name(study_file: Path, card: Architecture) -> None:
    text = STUDY.replace("  mine:", "  resnet18:").replace("architecture: mine", "architecture: resnet18")
    check(found_in(study_file, text), Code.WRONG_NAME, "architectures.resnet18", "packaged", line=3)
    packaged = yaml.safe_dump(PACKAGED.architecture("resnet18").model_dump(mode="json"), default_flow_style=True)
    assert parse_study(text.replace("cards/mine.yaml", packaged), "same.yaml").architectures.keys() == {"resnet18"}


def test_a_wrong_name_of_published_weights_is_not_called_a_wrong_name_of_a_source(study_file: Path) -> None:
    text = STUDY.replace("random: true", f"published: resnet18\n    weights_sha256: '{64 * '0'}'")
    assert text != STUDY
    check(found_in(study_file, text), Code.WRONG_NAME, "sources.drawn.published", "torchvision:NAME.WEIGHTS")


def test_an_unknown_architecture_lists_own_ones(study_file: Path) -> None:
    found = found_in(study_file, STUDY.replace("architecture: mine", "architecture: mein"))
    check(found, Code.UNKNOWN_NAME, "sources.drawn.architecture", "'mein'", "resnet18", "mine", line=6)


def test_studies_without_own_architectures_have_the_dump_that_they_had() -> None:
    """So digests of recorded studies stay the same."""
    assert "architectures" not in load_study("demo").model_dump(mode="json")


# --- builder files ---


def test_a_launch_without_the_option_runs_no_code_and_writes_nothing(study_file: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    builder(study_file).write_text(f"open({str(ran)!r}, 'w').close()\n{MY_NET}")
    study = load_study(str(study_file))
    with refused(Code.MISSING_KEY, f"--builder {NAME}", kind=InvalidRequest, file=NAME, key="--builder"):
        launch(study, open_store(str(tmp_path / "root")), QUIET)
    with refused(Code.MISSING_KEY, f"--builder {NAME}", kind=InvalidRequest, file=NAME, key="--builder"):
        run_locally(study, expand(study)[0].trial_id, open_store(str(tmp_path / "root")), QUIET)
    assert not ran.exists()
    assert not (tmp_path / "root").exists()


def test_a_launch_sends_the_file_and_pins_it(study_file: Path, tmp_path: Path) -> None:
    """Of a fine-tuned source and of one that is trained first; the record has no code, and resume needs the file."""
    study_file.write_text(
        STUDY.replace("grid:", TRAINED + "grid:").replace("[drawn], dataset", "[drawn, trained], dataset")
    )
    study, store = loaded(study_file), open_store(str(tmp_path / "root"))
    summary = launch(study, store, QUIET)
    assert (summary.done, summary.failed) == (3, {})
    assert pinned(store, "cards/builders", NAME) == sha256_of(MY_NET)
    assert pinned(store, "cards/architectures", "mine") is not None
    assert [
        finding for finding in verify(store, [spec.trial_id for spec in expand(study)]) if not finding.problem.harmless
    ] == []
    record = recorded_study(store, None)
    assert record.digest == study.digest
    assert record.catalog.builders == {}
    for path in (tmp_path / "root" / "trials").rglob("*.parquet"):
        path.unlink()
    with refused(Code.MISSING_KEY, f"--builder {NAME}", kind=InvalidRequest, key="--builder", file=NAME):
        launch(record, store, QUIET)
    assert launch(with_builders(record, [builder(study_file)]), store, QUIET).done == 3


def test_a_changed_file_is_refused_in_the_same_root(study_file: Path, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "root"))
    launch(loaded(study_file), store, QUIET)
    builder(study_file).write_text(changed("nn.ReLU()", "nn.GELU()"))
    study_file.write_text(STUDY.replace("images: [30]", "images: [40]"))
    values = (NAME, sha256_of(MY_NET), sha256_of(builder(study_file).read_text()))
    for ask in (
        lambda: require_same_names(loaded(study_file), store),
        lambda: launch(loaded(study_file), store, QUIET),
        lambda: run_locally(loaded(study_file), expand(loaded(study_file))[0].trial_id, store, QUIET),
    ):
        with refused(Code.OTHER_DIGEST, *values, kind=ResultsConflict, file=store.uri, key="--builder"):
            ask()
    assert len(all_done(store)) == 1
    assert launch(loaded(study_file), open_store(str(tmp_path / "another")), QUIET).done == 1


def test_another_card_under_the_name_is_refused_in_the_same_root(study_file: Path, tmp_path: Path) -> None:
    store = open_store(str(tmp_path / "root"))
    launch(loaded(study_file), store, QUIET)
    file = study_file.parent / "cards" / "mine.yaml"
    file.write_text(file.read_text().replace("image_size: 32", "image_size: 36"))
    with refused(Code.OTHER_DIGEST, "'mine'", kind=ResultsConflict, file=store.uri, key="architectures.mine"):
        launch(loaded(study_file), store, QUIET)
    file.write_text(file.read_text().replace("image_size: 36", "image_size: 32").replace("kept: ", "kept: 1"))
    assert launch(loaded(study_file), store, QUIET).done == 1  # costs change no number


def test_a_card_that_does_not_fit_is_refused_before_anything_is_written(study_file: Path, tmp_path: Path) -> None:
    file = study_file.parent / "cards" / "mine.yaml"
    file.write_text(file.read_text().replace("features: 4", "features: 5"))
    with refused(Code.UNUSABLE_NETWORK, "'mine'", "4 features", kind=InvalidRequest, key="mine"):
        launch(loaded(study_file), open_store(str(tmp_path / "root")), QUIET)
    assert not (tmp_path / "root").exists()


def test_a_file_whose_parts_are_not_the_network_any_more_is_refused(study_file: Path, tmp_path: Path) -> None:
    """The card was written before the file was changed."""
    builder(study_file).write_text(changed("return self.fc(", "return 2 * self.fc("))
    with refused(Code.UNUSABLE_NETWORK, BUILDER, "bit for bit", kind=InvalidRequest, key="builder"):
        launch(loaded(study_file), open_store(str(tmp_path / "root")), QUIET)


def test_a_file_that_no_architecture_uses_is_said(study_file: Path) -> None:
    other = builder(study_file).with_name("my_nett.py")
    other.write_text(MY_NET)
    with refused(Code.UNKNOWN_NAME, "my_nett.py", NAME, kind=InvalidRequest, file="my_nett.py", key="--builder"):
        load_study(str(study_file), [other])
    with refused(Code.UNKNOWN_NAME, NAME, "none", kind=InvalidRequest, file=NAME, key="--builder"):
        load_study("demo", [builder(study_file)])
