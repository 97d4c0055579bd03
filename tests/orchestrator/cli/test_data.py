"""``deltasweep data``: list available datasets, fetch from a local mirror, describe a folder."""

import json
from pathlib import Path

import pytest
import yaml

from jobs.catalog.catalog import PACKAGED, packaged_datasets
from jobs.catalog.dataset_card import DatasetCard
from jobs.data.datasets import cached_dataset
from jobs.data.locate import own_directory
from jobs.errors import Code, DamagedFile
from jobs.results import open_store, read_trials
from jobs.study.expand import expand
from orchestrator.study.load import load_study
from tests.jobs.data import made
from tests.jobs.mirrors import Mirror, mirror
from tests.orchestrator.support import Command
from tests.packaged import packaged_dataset
from tests.support import refused


@pytest.fixture
def deltasweep(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setattr("jobs.data.locate._DEBIAN", {})
    (tmp_path / "work").mkdir()
    return Command(tmp_path / "work", capsys, monkeypatch)


def serve(server: Mirror, monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    for name in names:
        files = made.downloads(monkeypatch, name)
        server.files.update({f"{name}/{file}": content for file, content in files.items()})


def row(text: str, name: str) -> str:
    return next(line for line in text.splitlines() if line.split()[:1] == [name])


def test_fetch_list_and_load(deltasweep: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    assert row(deltasweep("data", "list").out, "cifar10").split()[-1] == "no"
    with mirror() as server:
        serve(server, monkeypatch, "cifar10", "svhn")
        result = deltasweep("data", "fetch", "cifar10", "svhn", "digits", "--mirror", f"{server.url}/")
    assert result.code == 0
    place = own_directory(PACKAGED.dataset("cifar10"))
    assert f"cifar10: 6 + 4 images, verified, in {place}" in result.out
    assert "digits: 1,000 + 797 images, verified, bundled with scikit-learn" in result.out
    listed = deltasweep("data", "list").out
    assert str(place) in row(listed, "cifar10")
    assert "bundled with scikit-learn" in row(listed, "digits")
    cached_dataset.cache_clear()
    assert packaged_dataset("cifar10", 40).train.images_NCHW.shape == (6, 3, 40, 40)
    cached_dataset.cache_clear()


def test_the_mirror_of_the_environment(deltasweep: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with mirror() as server:
        serve(server, monkeypatch, "mnist")
        monkeypatch.setenv("DELTASWEEP_DATA_MIRROR", server.url)
        assert deltasweep("data", "fetch", "mnist").code == 0
    assert len(server.asked) == 4


STUDY = """
name: two
grid: {source: [fmnist_natural], dataset: [svhn, mnist], blocks: [1]}
schedule: [{images: [3], epochs: 1, seeds: 1, evaluate_every: 1}]
"""


def test_a_study_s_datasets(deltasweep: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    made.write(deltasweep.folder, {"two.yaml": STUDY.encode()})
    with mirror() as server:
        serve(server, monkeypatch, "cifar10", "svhn", "mnist")
        result = deltasweep("data", "fetch", "--study", "two.yaml", "--mirror", server.url)
    assert result.code == 0
    assert [line.split(":")[0] for line in result.out.splitlines()] == ["svhn", "mnist"]


def test_the_datasets_that_a_study_examines_networks_on(deltasweep: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only sources are examined, on images of their own labels and of other labels."""
    shown = "visualize: {source: [fmnist_natural], dataset: mnist, units: [0], test_images: 2}"
    text = f"name: attacked\nattack: {{source: [fmnist_natural]}}\n{shown}\n"
    made.write(deltasweep.folder, {"attacked.yaml": text.encode()})
    with mirror() as server:
        serve(server, monkeypatch, "mnist", "fmnist")
        result = deltasweep("data", "fetch", "--study", "attacked.yaml", "--mirror", server.url)
    assert result.code == 0
    assert [line.split(":")[0] for line in result.out.splitlines()] == ["fmnist", "mnist"]


def test_one_dataset_that_cannot_be_had_does_not_keep_the_others(
    deltasweep: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mirror() as server:
        serve(server, monkeypatch, "kmnist", "mnist")
        del server.files["kmnist/t10k-images-idx3-ubyte.gz"]
        result = deltasweep("data", "fetch", "kmnist", "mnist", "--mirror", server.url)
    assert result.code == 3
    assert "mnist: 6 + 4 images" in result.out
    assert "t10k-images-idx3-ubyte.gz could not be downloaded" in result.message
    assert f"{server.url}/kmnist/t10k-images-idx3-ubyte.gz: HTTP 404" in result.message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "expected dataset names or --study STUDY, or --all alone"),
        (["mnist", "--all"], "expected dataset names or --study STUDY, or --all alone"),
        (["imagenet9"], "unknown dataset 'imagenet9' (did you mean imagenet or "),
        (["--study", "nothing"], "unknown study 'nothing'"),
        (
            ["mnist", "--mirror", "ftp://a"],
            "expected https, http, file URLs in ASCII to download from; got ftp://a/mnist/",
        ),
    ],
)
def test_requests_that_cannot_be(deltasweep: Command, arguments: list[str], message: str) -> None:
    result = deltasweep("data", "fetch", *arguments)
    assert result.code == 2
    assert message in result.message
    assert "Traceback" not in result.message


def test_a_study_s_own_dataset_by_name(deltasweep: Command) -> None:
    made.write(deltasweep.folder / "insects", made.folder_files())
    card = deltasweep("data", "describe", "insects").out
    study = "name: own\ngrid: {source: [fmnist_natural], dataset: [insects], blocks: [0]}\n"
    study += "schedule: [{images: [-1], epochs: 1, seeds: 1, evaluate_every: 1}]\n"
    (deltasweep.folder / "own.yaml").write_text(study + card)
    assert "unknown dataset 'insects'" in deltasweep("data", "fetch", "insects").message
    result = deltasweep("data", "fetch", "insects", "--study", "own.yaml")
    assert (result.code, result.message) == (0, "")
    assert f"verified, in {deltasweep.folder / 'insects'}" in result.out
    assert str(deltasweep.folder / "insects") in deltasweep("data", "list", "--study", "own.yaml").out


def test_describe_writes_a_card_that_reads_the_folder(deltasweep: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    made.write(deltasweep.folder / "insects", made.folder_files())
    result = deltasweep("data", "describe", "insects")
    assert result.code == 0
    ((name, fields),) = yaml.safe_load(result.out)["datasets"].items()
    card = DatasetCard(name=name, **fields)
    assert (card.train, card.test, card.labels, card.colour) == (9, 3, 3, True)
    monkeypatch.setitem(packaged_datasets(), name, card)
    cached_dataset.cache_clear()
    data = packaged_dataset("insects", 16)
    assert data.sha256 == card.sha256
    assert data.train.images_NCHW.shape == (9, 3, 16, 16)
    made.write(deltasweep.folder / "insects", {"train/bee/0.png": made.image_bytes(20, 20, seed=77)})
    cached_dataset.cache_clear()
    with refused(Code.DAMAGED_DATA, "'insects'", card.sha256, kind=DamagedFile):
        packaged_dataset("insects", 16)


def test_a_folder_from_its_description_to_a_trial(deltasweep: Command) -> None:
    made.write(deltasweep.folder / "insects", made.folder_files())
    card = deltasweep("data", "describe", "insects").out
    text = STUDY.replace("[svhn, mnist]", "[insects]") + card
    made.write(deltasweep.folder, {"own.yaml": text.encode()})
    fetched = deltasweep("data", "fetch", "--study", "own.yaml")
    assert f"insects: 9 + 3 images, verified, in {deltasweep.folder / 'insects'}" in fetched.out
    (spec,) = expand(load_study(str(deltasweep.folder / "own.yaml")))
    assert deltasweep("run", "own.yaml", "--trial", spec.trial_id, "--results", "root").code == 0
    (trial,) = read_trials(open_store(str(deltasweep.folder / "root")), "finetune").to_pylist()
    assert (trial["dataset"], trial["images_used"], trial["test_images"]) == ("insects", 3, 3)
    made.write(deltasweep.folder / "insects", {"test/bee/0.png": made.image_bytes(20, 20, seed=77)})
    cached_dataset.cache_clear()
    result = deltasweep("data", "fetch", "--study", "own.yaml")
    assert result.code == 2
    assert "'insects' to have the digest" in result.message


def test_a_plan_says_that_a_folder_has_changed(deltasweep: Command) -> None:
    folder = made.write(deltasweep.folder / "insects", made.folder_files())
    text = STUDY.replace("[svhn, mnist]", "[insects]") + deltasweep("data", "describe", "insects").out
    made.write(deltasweep.folder, {"own.yaml": text.encode()})
    before = deltasweep("plan", "own.yaml")
    assert before.code == 0
    assert "refuse" not in before.out + before.message
    made.write(folder, {"test/bee/9.png": made.image_bytes(20, 20, seed=77)})
    for command in (("plan", "own.yaml"), ("data", "fetch", "--study", "own.yaml")):
        result = deltasweep(*command)
        told = " ".join(f"{result.out} {result.message}".split())
        assert "9 training and 3 test images" in told
        assert "9 and 4. Fix: restore the images" in told
        assert f"deltasweep data describe {folder} print their card, and give it a new name" in told
    assert deltasweep("plan", "own.yaml").code == 0
    made.write(folder, {"test/bee/notes.txt": b"x"})
    assert "insects/test/bee/notes.txt is not" in " ".join(deltasweep("plan", "own.yaml").out.split())
    folder.rename(deltasweep.folder / "elsewhere")
    assert "refuse" not in deltasweep("plan", "own.yaml").out


def test_photographs_that_are_turned_and_cropped_whole(deltasweep: Command) -> None:
    """From the description of a folder to a trial.

    The root then refuses the images with their stored orientation, and accepts the same dataset cropped to squares.
    """
    cached_dataset.cache_clear()
    sideways = {f"train/bee/{i}.jpg": made.oriented(6) for i in (7, 8)}
    made.write(deltasweep.folder / "insects", made.folder_files() | sideways)
    cards = {}
    for how in ("applied", "ignored"):
        described = deltasweep("data", "describe", "insects", *(["--exif", how] if how == "ignored" else []))
        assert described.code == 0
        assert yaml.safe_load(described.out)["datasets"]["insects"]["exif_orientation"] == how
        assert "note: 2 images: " in described.message
        cards[how] = described.out
    text = STUDY.replace("[svhn, mnist]", "[insects]")
    ids = {}
    for crop in ("whole-image", "centre-square"):
        made.write(deltasweep.folder, {f"{crop}.yaml": f"{text}{cards['applied']}recipe: {{crop: {crop}}}\n".encode()})
        (spec,) = expand(load_study(str(deltasweep.folder / f"{crop}.yaml")))
        ids[crop] = spec.trial_id
        assert deltasweep("run", f"{crop}.yaml", "--trial", spec.trial_id, "--results", "root").code == 0
    rows = read_trials(open_store(str(deltasweep.folder / "root")), "finetune").to_pylist()
    assert {row["trial_id"] for row in rows} == set(ids.values())
    (recorded,) = {row["dataset_sha256"] for row in rows}
    assert cards["applied"].splitlines()[-1] == f"# dataset_sha256 of its results: {recorded}"
    assert json.loads(deltasweep("data", "describe", "insects", "--json").out)["dataset_sha256"] == recorded
    assert "dataset_sha256" not in cards["ignored"], "it is the card's own"
    assert len({row["train_loss"] for row in rows}) == 2
    made.write(deltasweep.folder, {"stored.yaml": f"{text}{cards['ignored']}".encode()})
    (spec,) = expand(load_study(str(deltasweep.folder / "stored.yaml")))
    assert spec.trial_id == ids["centre-square"], "a trial's id has the name alone"
    result = deltasweep("run", "stored.yaml", "--trial", spec.trial_id, "--results", "root")
    assert result.code == 2
    assert "'insects' under datasets refers to sha256" in result.message
    assert deltasweep("data", "describe", "insects", "--exif", "sometimes").code == 2


def test_describe_measures_the_training_images(deltasweep: Command) -> None:
    half = {label: value for value, label in ((0, "ant"), (255, "bee"))}
    files = {f"train/{label}/0.png": made.plain_image(20, 10, value) for label, value in half.items()}
    files |= {f"test/{label}/0.png": made.plain_image(10, 10, 9) for label in half}
    made.write(deltasweep.folder / "grey", files)
    result = deltasweep("data", "describe", "grey", "--name", "mine")
    fields = yaml.safe_load(result.out)["datasets"]["mine"]
    assert fields["colour"] is False
    assert (fields["mean"], fields["std"]) == ([0.5], [0.5])


def test_describe_names_everything_that_is_no_image_at_once(deltasweep: Command) -> None:
    strange = {f"train/ant/IMG_{i}.HEIC": b"x" for i in range(30)}
    strange |= {"notes.txt": b"x", "test/notes.txt": b"x", "test/bee/0.png": b"<html>"}
    strange |= {
        "train/bee/9.jpg": b"\0\0\0\x18ftypheic\0\0\0\0",
        "test/ant/notes.txt": b"x",
        "test/ant/.DS_Store": b"x",
    }
    made.write(deltasweep.folder / "insects", made.folder_files() | strange)
    result = deltasweep("data", "describe", "insects")
    assert (result.code, result.out) == (2, "")
    told = result.message.splitlines()
    for path, words in {
        "train/ant/IMG_0.HEIC and 29 more files": "convert them to JPEG (HEIC is the format of iPhones",
        "test/notes.txt": "move it elsewhere",
        "test/bee/0.png cannot be read as an image": "an HTML page",
        "train/bee/9.jpg cannot be read as an image": "a HEIC image",
        "test/ant/notes.txt": "convert, rename or remove it",
    }.items():
        assert [words in line for line in told if path in line] == [True], path
    assert len(told) == 5, "files beside train and test are nobody's, and hidden files neither"


def test_a_folder_s_name_becomes_the_name_that_a_dataset_can_have(deltasweep: Command) -> None:
    for name, derived in (("Meine  Fotos (2)", "meine-fotos-2"), ("Häuser", "hauser"), ("_a", "a")):
        made.write(deltasweep.folder / name, made.folder_files())
        assert list(yaml.safe_load(deltasweep("data", "describe", name).out)["datasets"]) == [derived]
    made.write(deltasweep.folder / "虫", made.folder_files())
    for arguments in (("虫",), ("Häuser", "--name", "Häuser")):
        result = deltasweep("data", "describe", *arguments)
        assert result.code == 2
        assert f"got {arguments[-1]!r}. Fix: choose a name with --name" in result.message
    assert deltasweep("data", "describe", "虫", "--name", "insects").code == 0


def test_a_wrong_path_is_not_taken_for_a_wrong_name(deltasweep: Command) -> None:
    result = deltasweep("data", "describe", "Meine Fotos")
    assert result.code == 2
    assert "Meine Fotos is missing" in result.message


def test_from_a_folder_of_labels_to_a_trial(deltasweep: Command) -> None:
    """The message about a folder that is not divided contains the command that divides it."""
    photographs = {
        f"{label}/{i}.png": made.image_bytes(20, 30, seed=20 * number + i)
        for number, label in enumerate(("Autos", "Häuser & Dächer"))
        for i in range(20)
    }
    made.write(deltasweep.folder / "Meine Fotos", photographs)
    refused = deltasweep("data", "describe", "Meine Fotos")
    assert "it has" not in refused.message
    assert f"deltasweep data split '{deltasweep.folder}/Meine Fotos' --out DIR" in refused.message
    done = deltasweep("data", "split", "Meine Fotos", "--out", "fotos", "--json")
    counts = json.loads(done.out)
    assert [count["label"] for count in counts] == ["Autos", "Häuser & Dächer"]
    assert all(count["train"] + count["test"] == 20 for count in counts)
    card = deltasweep("data", "describe", "fotos").out
    fields = yaml.safe_load(card)["datasets"]["fotos"]
    assert fields["train"] == sum(count["train"] for count in counts)
    text = STUDY.replace("[svhn, mnist]", "[fotos]") + card
    made.write(deltasweep.folder, {"own.yaml": text.encode()})
    (spec,) = expand(load_study(str(deltasweep.folder / "own.yaml")))
    assert deltasweep("run", "own.yaml", "--trial", spec.trial_id, "--results", "root").code == 0


def test_a_folder_may_be_relative_to_its_study(deltasweep: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    made.write(deltasweep.folder / "insects", made.folder_files())
    card = deltasweep("data", "describe", "insects").out
    place = str(deltasweep.folder / "insects")
    assert f"folder: {place}\n" in card
    monkeypatch.setenv("HOME", str(deltasweep.folder))
    text = STUDY.replace("[svhn, mnist]", "[insects]") + card
    ids = set()
    for number, written in enumerate((place, "insects", "./insects", "../studies/../insects", "~/insects")):
        (deltasweep.folder / "studies").mkdir(exist_ok=True)
        file = Path("studies" if written.startswith("..") else "", f"{number}.yaml")
        made.write(deltasweep.folder, {str(file): text.replace(place, written).encode()})
        study = load_study(str(deltasweep.folder / file))
        assert study.datasets["insects"].folder == place
        assert f"folder: {place}\n" in study.resolved()
        ids |= {(spec.trial_id, study.digest) for spec in expand(study)}
        monkeypatch.chdir("/")
        fetched = deltasweep("data", "fetch", "--study", str(deltasweep.folder / file))
        assert f"verified, in {place}" in fetched.out
    assert len(ids) == 1


def test_a_study_s_card_that_cannot_be_is_named_with_its_line(deltasweep: Command) -> None:
    own = "{train: 9, test: 3, labels: 3, colour: false, mean: [0.5, 0.5], std: [0.5], folder: ant/bee}"
    text = STUDY.replace("[svhn, mnist]", "[insects]") + f"datasets:\n  insects: {own}\n"
    made.write(deltasweep.folder, {"own.yaml": text.encode()})
    (told,) = deltasweep("plan", "own.yaml").message.splitlines()[1:]
    assert told.startswith("  line 6: datasets.insects: expected grey datasets to have 1 means and stds")


def test_a_folder_that_nothing_can_be_normalised_by_is_refused(deltasweep: Command) -> None:
    white = made.plain_image(8, 8, 255)
    made.write(deltasweep.folder / "white", {"train/a/0.png": white, "train/b/0.png": white, "test/a/0.png": white})
    result = deltasweep("data", "describe", "white")
    assert result.code == 2
    assert "/train has standard deviations [0.0, 0.0, 0.0]" in result.message


def test_images_that_are_in_no_folder_are_one_mistake(deltasweep: Command) -> None:
    made.write(deltasweep.folder / "photos", {f"{i}.png": made.image_bytes(9, 9, seed=i) for i in range(30)})
    result = deltasweep("data", "split", "photos", "--out", "divided", "--json")
    error = json.loads(result.message)["error"]
    assert (result.code, error["file"]) == (2, str(deltasweep.folder / "photos" / "0.png"))
    assert "and 29 more images are in none. Fix: make a folder in" in error["message"]
    assert "mistakes" not in error
