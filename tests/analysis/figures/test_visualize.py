"""Feature visualizations: the layout of images in the report, and image bytes in queries."""

import base64
import io
import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import analysis
from analysis.figures.exhibits import Exhibit
from analysis.figures.visualize import COLUMNS, features, pixels
from analysis.output.formats import text
from jobs.catalog.catalog import PACKAGED
from jobs.data.readers import read_raw
from jobs.results import LocalStore, commit
from tests.analysis.examined import SEEDS, visualized
from tests.analysis.support import Build, Rows
from tests.support import present

NO_SEEDS = "The seed images that were used are not available on this machine"


def figures(*trials: Rows) -> list[Exhibit]:
    return list(features(pd.DataFrame([row for rows in trials for row in rows])[list(COLUMNS)]))


def test_a_picture_is_its_bytes() -> None:
    image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    found = pixels({"image": image.tobytes(), "image_size": 4})
    assert np.array_equal(found, image)


def test_sources_stand_side_by_side_the_natural_one_first_and_numbers_are_all_there() -> None:
    (one,) = figures(visualized("a_robust"), visualized("natural", 2), visualized("natural", 1))
    assert one.title == "sources, from test images of digits"
    assert "penultimate layer: 1 steps of L2 length 1 within a radius of 1." in one.caption
    assert one.numbers.to_dict("split")["data"] == [
        [source, unit, seed, 0.25, 0.25 + seed, 1.0]
        for source, unit in (("natural", 1), ("natural", 2), ("a_robust", 1))
        for seed in SEEDS
    ]
    assert NO_SEEDS in one.caption, "these seed images are no digits of this machine"


def test_each_picture_stands_in_its_place() -> None:
    """Natural on the left, units from the top, seeds from the left: shades of red increase in that order."""
    shades = {("natural", 1): 60, ("natural", 2): 110, ("robust", 1): 160, ("robust", 2): 210}
    (one,) = figures(*(visualized(*place, shade=shade) for place, shade in shades.items()))
    drawn = np.asarray(Image.open(io.BytesIO(present(one.png))).convert("RGB")).astype(int)
    centres = {}
    for shade in shades.values():
        for seed in SEEDS:
            found = np.argwhere((drawn == (shade + seed, 0, 0)).all(axis=2))
            assert len(found) > 500, "a cell of its own"
            centres[shade, seed] = found.mean(axis=0)
    for left, right in ((60, 160), (110, 210)):
        assert centres[left, 3][0] == pytest.approx(centres[right, 3][0], abs=2), "one row for the first unit of each"
        assert centres[left, 9][1] < centres[right, 3][1]
    assert centres[60, 3][0] < centres[110, 3][0]
    assert centres[60, 3][1] < centres[60, 9][1]


def test_seed_images_are_shown_where_the_dataset_is_at_hand() -> None:
    sha256 = read_raw(PACKAGED.dataset("digits")).sha256
    (with_seeds,), (without,) = figures(visualized(dataset_sha256=sha256)), figures(visualized())
    assert (NO_SEEDS in with_seeds.caption, NO_SEEDS in without.caption) == (False, True)
    heights = [Image.open(io.BytesIO(present(one.png))).height for one in (with_seeds, without)]
    assert heights[0] > heights[1] + 50


def test_other_ways_and_other_networks_are_figures_of_their_own() -> None:
    tuned: dict[str, Any] = {
        "finetuned": "finetune-cifar10-natural-k0-n400-s1-0",
        "finetuned_dataset": "cifar10",
        "blocks": 0,
        "images": 400,
        "finetuned_seed": 1,
        "finetuned_epochs": 30,
        "finetuned_recipe": "a" * 12,
    }
    found = figures(visualized(), visualized(steps=7), visualized(**tuned))
    assert [one.title for one in found] == [
        "cifar10, 0 blocks, 400 images, from test images of digits",
        "sources, from test images of digits",
        "sources, from test images of digits",
    ]
    assert len({one.name for one in found}) == 3


def test_titles_tell_apart_what_differs_in_nothing_else() -> None:
    tuned: dict[str, Any] = {"finetuned": "finetune-x", "finetuned_dataset": "cifar10", "blocks": 0, "images": 400}
    tuned |= {"finetuned_epochs": 30, "finetuned_recipe": "a" * 12}
    found = figures(*(visualized(**tuned, finetuned_seed=seed) for seed in (1, 2)), visualized())
    assert [one.title for one in found] == [
        "cifar10, 0 blocks, 400 images, from test images of digits, fine-tuning seed 1",
        "cifar10, 0 blocks, 400 images, from test images of digits, fine-tuning seed 2",
        "sources, from test images of digits",
    ]
    others: tuple[dict[str, Any], ...] = (
        {"seed": 3},
        {"test_images": 1200},
        {"test_images": -1},
        {"recipe": "b" * 12},
        {"numerics": 2},
    )
    titles = [one.title for one in figures(visualized(), *(visualized(**other) for other in others))]
    assert len(set(titles)) == 6
    told = "seed {}, recipe of the pictures {}, numerics {}"
    plain = "sources, from test images of digits, {} seed images, " + told
    assert set(titles) == {
        plain.format(1, 1, "x", 1),
        plain.format(1, 3, "x", 1),
        plain.format("1,200", 1, "x", 1),
        plain.format("all", 1, "x", 1),
        plain.format(1, 1, "b" * 12, 1),
        plain.format(1, 1, "x", 2),
    }


def test_no_trial_no_figure() -> None:
    assert list(features(pd.DataFrame(columns=list(COLUMNS)))) == []


@pytest.mark.usefixtures("no_figure_files")
def test_the_page_shows_it_with_its_numbers(build: Build) -> None:
    root = build.root([build.trial("natural", 0, 50.0)])
    for source in ("natural", "robust"):
        commit(LocalStore(root), "visualize", visualized(source))
    page = analysis.report(root)
    shown = page.read_text()
    assert "Diagnostics: feature visualization" in shown
    assert "sources, from test images of digits (cf. Figure 1b of the paper)" in shown
    assert '<td class="number">9.2500</td>' in shown
    assert "The seed images that were used are not available on this machine" in shown
    assert {f"figure1b-1-digits.{form}" for form in ("png", "csv")} <= {p.name for p in page.parent.iterdir()}


def test_bytes_in_queries(build: Build) -> None:
    """The terminal shows their size, other formats base64."""
    root = build.root([])
    commit(LocalStore(root), "visualize", visualized())
    found = analysis.query(root, "SELECT test_image, image FROM visualizations WHERE test_image = 3")
    encoded = base64.b64encode(bytes([3, 0, 0] * 16)).decode()
    assert "48 bytes" in text(found, "table")
    assert text(found, "csv") == f"test_image,image\n3,{encoded}\n"
    assert json.loads(text(found, "json")) == [{"test_image": 3, "image": encoded}]
