"""Untrusted results: names that contain code, lists of any length, values that are not numbers."""

import base64
import gzip
import html
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from markupsafe import Markup
from PIL import Image

import analysis
from analysis.evaluations.frames import frame
from analysis.figures.drawing.model import Figure
from analysis.figures.drawing.render import drawing, save
from analysis.figures.drawing.style import COLOURS, MARKERS, Look
from analysis.figures.influence import COLUMNS as CURVES
from analysis.figures.influence import influence_figure
from analysis.figures.influence_examples import examples
from analysis.figures.influence_matrices import matrices
from analysis.figures.paper import figure
from analysis.figures.pictures import picture_name
from analysis.figures.visualize import features
from analysis.page.forest import Forest, Group, Row, svg
from analysis.page.render import environment
from analysis.page.sections.curves import Choice, KindChoice
from analysis.web.templates import environment as templates_in
from jobs.catalog.catalog import PACKAGED
from jobs.data.readers import read_raw
from jobs.errors import Code, DamagedFile
from jobs.results import Failure, FailureKind, LocalStore, commit, record_failure, record_study
from tests.analysis.examined import visualized, weighed
from tests.analysis.support import Build, Rows
from tests.support import present, refused

EVIL = '../x"><img src=x onerror=alert(1)>'
LONG = EVIL + "y" * 300
LABELS = [[7, 4, 7], [5, 7, 7]]


class Tags(HTMLParser):
    """The attributes of every tag."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def table_of(*trials: Rows) -> pd.DataFrame:
    return pd.DataFrame([row for rows in trials for row in rows])


def test_a_name_in_an_attribute_is_text() -> None:
    parts: Any = environment().get_template("parts.html").module
    figure = Figure(name=EVIL, title=EVIL, caption=EVIL, panels=())
    for made in (
        parts.shell(EVIL, EVIL, "data-table", EVIL),
        parts.table(EVIL, EVIL, [EVIL], [[EVIL]]),
        parts.choice(Choice(EVIL, EVIL, [(EVIL, EVIL)], EVIL)),
        parts.kind_choice(KindChoice(EVIL, EVIL, [(EVIL, EVIL)], [EVIL])),
        parts.drawing(figure, EVIL),
        parts.picture(EVIL, EVIL, EVIL),
        svg(Forest((Group(EVIL, EVIL, Look(COLOURS[0], MARKERS[0]), (Row(EVIL, EVIL, 1.0, 0.0, 2.0, 9, EVIL),)),), "")),
    ):
        tags = Tags(str(made)).found
        assert not any("onerror" in attributes for _, attributes in tags)
        assert EVIL in html.unescape(str(made))


def test_names_of_pictures_are_names_of_files() -> None:
    assert picture_name("figure6", 1, "low_res-0.5", "pseudo-inverse") == "figure6-1-low_res-0.5-pseudo-inverse"
    assert re.fullmatch(r"[a-z0-9_.-]{1,100}", picture_name("figure6", 1, LONG))
    assert picture_name("figure6", 1, "a/b") != picture_name("figure6", 2, "a b")


def test_the_report_of_a_dataset_whose_name_is_code(build: Build) -> None:
    root = build.root([])
    commit(LocalStore(root), "visualize", visualized(dataset=LONG))
    commit(LocalStore(root), "visualize", visualized(dataset=LONG.replace("/", " ")))
    commit(LocalStore(root), "influence", weighed(1, LABELS, dataset=EVIL))
    page = analysis.report(root)
    tags = Tags(page.read_text()).found
    assert not any("onerror" in attributes for _, attributes in tags)
    pictures = [path.name for path in page.parent.glob("figure1b-*.png")]
    assert len(pictures) == 2, "alike but for the number"
    assert {path.parent for path in page.parent.rglob("*") if path != page.parent} == {page.parent}
    assert any("data-name" in attributes for _, attributes in tags)


def test_a_template_shows_marks_and_control_codes(tmp_path: Path) -> None:
    """As every template does, whether it names a filter or not; what is HTML already stays as it is."""
    made = templates_in(tmp_path).from_string("{{ name }} {{ name | join('') }} {{ html }} {{ 1 if false }}{{ names }}")
    assert made.render(name="<\u202ea\x1b", html=Markup("<b>"), names=["\u202e"]) == (
        "&lt;\\u202ea\\u001b &lt;\\u202ea\\u001b <b> [&#39;\\u202e&#39;]"
    )


MARKED, SHOWN = "rob\u202eust\x01\uffff", "rob\\u202eust\\u0001\\uffff"


def test_a_figure_shows_marks_and_control_codes() -> None:
    rows = table_of(weighed(1, LABELS, MARKED))
    drawn = drawing(present(influence_figure(rows[list(CURVES)])))
    written = drawn.rendered("svg").decode()
    assert ElementTree.fromstring(written).tag.endswith("svg")
    assert SHOWN in written
    assert SHOWN in drawn.figure.table().to_csv()


def test_a_report_shows_marks_of_text_direction_and_control_codes(build: Build) -> None:
    """They would reorder the text around them, and no SVG may contain control codes."""
    name, shown = MARKED, SHOWN
    root = build.root(
        build.trial(source, seed, 50.0 + seed, trial_id=f"finetune-{place}{seed}-{place}{seed:015x}", dataset=name)
        for place, source in enumerate(("natural", name))
        for seed in range(3)
    )
    failure = Failure("x-1", 1, FailureKind.ERROR, name, name, name, "l", "2026-01-01T00:00:00+00:00")
    record_failure(LocalStore(root), failure, "log")
    study = {
        "name": "mine",
        "description": name,
        "grid": {"source": ["fmnist_natural"], "dataset": ["digits"], "blocks": [0]},
        "schedule": [{"images": [50], "epochs": 2, "seeds": 1, "evaluate_every": 1}],
        "recipe": {},
    }
    record_study(LocalStore(root), "mine", "d1", json.dumps(study))
    page = analysis.report(root)
    text = page.read_text(encoding="utf-8")
    found = present(re.search(r'id="packed">([^<]*)<', text))
    data = json.loads(gzip.decompress(base64.b64decode(found[1])))
    files = [
        *page.parent.glob("*.svg"),
        *page.parent.glob("*.csv"),
        *page.parent.glob("*.md"),
        *page.parent.glob("*.tex"),
    ]
    for written in (text, json.dumps(data, ensure_ascii=False), *(file.read_text(encoding="utf-8") for file in files)):
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\uffff]", written)
    for drawn in page.parent.glob("*.svg"):
        assert ElementTree.parse(drawn)
    assert text.count(shown) > 10
    choices = {str(attributes.get("value")) for _, attributes in Tags(text).found if attributes.get("name") == "source"}
    assert choices == {"natural", shown} <= set(data["looks"]["source"]), "by these the script looks them up"


@pytest.mark.parametrize(
    ("columns", "key", "values"),
    [
        ({"image": b"123"}, "image", ["image_size at least 1", "it is 3 bytes"]),
        ({"image": b"", "image_size": 0}, "image", ["image_size 0"]),
        ({"image_size": -4}, "image", ["48 bytes", "image_size -4"]),
        ({"finetuned": "finetune-x"}, "blocks", ["must have blocks"]),
    ],
)
def test_pictures_that_are_none(build: Build, columns: dict[str, Any], key: str, values: list[object]) -> None:
    root = build.root([])
    rows = visualized(**columns)
    commit(LocalStore(root), "visualize", rows)
    with refused(Code.DAMAGED_RESULT, rows[0]["trial_id"], *values, "resume", kind=DamagedFile, key=key):
        analysis.report(root)


@pytest.mark.parametrize("index", [-1, 10**6])
def test_seed_images_that_are_not_there(index: int) -> None:
    sha256 = read_raw(PACKAGED.dataset("digits")).sha256
    rows = table_of(visualized(dataset_sha256=sha256)).assign(test_image=index)
    values = ("test_image", "images, from 0", rows["trial_id"].iloc[0], f"it is {index}.", "resume")
    with refused(Code.DAMAGED_RESULT, *values, kind=DamagedFile, key="test_image"):
        list(features(rows))


def one_with_other(column: str, value: object) -> Rows:
    """Return a trial whose second row has another value."""
    first, second = weighed(1, LABELS)
    return [first, {**second, column: value}]


@pytest.mark.parametrize(
    ("rows", "key", "values"),
    [
        (one_with_other("cells", [1.0]), "cells", ["cells must", "[1, 2] numbers"]),
        (one_with_other("cells", []), "cells", ["cells must", "empty"]),
        (one_with_other("cell_labels", None), "cell_labels", ["cell_labels must", "null"]),
        (one_with_other("cell_labels", [5]), "cell_labels", ["cell_labels must", "[1, 2] numbers"]),
        (one_with_other("cell_labels", [7, 5]), "cell_labels", ["cell_labels must", "2 labels for 2 cells"]),
        (weighed(1, LABELS, cell_labels=[5, 6, 7]), "cell_labels", ["3 labels for 2 cells"]),
        (weighed(1, LABELS, cells=None, cell_labels=None), "cells", ["cells", "null"]),
        (weighed(1, LABELS, cells=[1.0, None]), "cells", ["number of cells", "null"]),
        (weighed(1, LABELS, cells=[1.0, float("nan")]), "cells", ["number of cells", "NaN"]),
        (weighed(1, LABELS, matrix_norm=float("nan")), "matrix_norm", ["matrix_norm must", "matrix_norm nan"]),
        (weighed(1, LABELS, images_used=0), "matrix_norm", ["images_used at least 1", "images_used 0"]),
        (one_with_other("train_labels", [7]), "train_labels", ["train_labels must", "[1, 3]"]),
        (weighed(1, LABELS, train_images=[]), "train_images", ["train_images must", "empty"]),
        (weighed(1, LABELS, measure="vibes"), "measure", ["influence, pseudo-inverse, fisher", "'vibes'"]),
        (weighed(1, LABELS, blocks=None), "blocks", ["must have blocks", "null"]),
        (weighed(1, LABELS, finetuned_seed=None), "finetuned_seed", ["must have finetuned_seed", "null"]),
    ],
)
def test_influences_that_are_none(build: Build, rows: Rows, key: str, values: list[object]) -> None:
    root = build.root([])
    commit(LocalStore(root), "influence", rows)
    with refused(Code.DAMAGED_RESULT, rows[0]["trial_id"], *values, "resume", kind=DamagedFile, key=key):
        analysis.report(root)


@pytest.mark.parametrize("train_images", [[-1, 1, 2], [10**9, 1, 2]])
def test_training_images_that_are_not_there(train_images: list[int]) -> None:
    sha256 = read_raw(PACKAGED.dataset("digits")).sha256
    rows = table_of(weighed(1, LABELS, dataset_sha256=sha256, train_images=train_images))
    values = ("train_image must", rows["trial_id"].iloc[0], train_images[0])
    with refused(Code.DAMAGED_RESULT, *values, kind=DamagedFile, key="train_image"):
        list(examples(rows))


def test_a_source_may_lack_test_images_of_another() -> None:
    sha256 = read_raw(PACKAGED.dataset("digits")).sha256
    trials = weighed(1, LABELS, "a", dataset_sha256=sha256), weighed(1, LABELS, "b", dataset_sha256=sha256)[:1]
    (found,) = examples(table_of(*trials))
    assert len(found.numbers) == 3
    assert np.asarray(Image.open(io.BytesIO(present(found.png)))).size


@pytest.mark.parametrize("name", [r"$\frac$", "$x$", "$_$"])
def test_no_name_is_a_formula(build: Build, tmp_path: Path, name: str) -> None:
    sha256 = read_raw(PACKAGED.dataset("digits")).sha256
    looked = [visualized(name), visualized(name, dataset_sha256=sha256)]
    assert all(one.png for one in features(table_of(*looked)))
    rows = table_of(weighed(1, LABELS, name, dataset_sha256=sha256))
    assert all(one.png for one in matrices(rows))
    assert all(one.png for one in examples(rows))
    drawn = present(influence_figure(rows[list(CURVES)]))
    assert name in drawing(drawn).svg()
    arms = frame(build.table(build.arms([50.0, 51.0], [55.0, 56.0], name)))
    assert save(figure("2", arms), tmp_path, ("png",))
    assert mpl.rcParams["text.parse_math"], "only while drawing"
