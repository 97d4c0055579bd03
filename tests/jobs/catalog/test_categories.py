"""Labels by name, and the sixteen categories of ImageNet labels: compared with the known counts and label names."""

import pytest
from torchvision.models import ResNet50_Weights

from jobs.catalog.catalog import PACKAGED
from jobs.catalog.categories import categories, in_categories, same_labels
from jobs.specs.canonical import digest


def test_sixteen_categories_of_207_labels() -> None:
    """16 categories and 207 labels: Geirhos et al. 2018, who call them 16-class-ImageNet."""
    found = categories()
    assert list(found) == [
        "airplane",
        "bear",
        "bicycle",
        "bird",
        "boat",
        "bottle",
        "car",
        "cat",
        "chair",
        "clock",
        "dog",
        "elephant",
        "keyboard",
        "knife",
        "oven",
        "truck",
    ]
    labels = [label for mine in found.values() for label in mine]
    assert len(labels) == len(set(labels)) == 207, "no label is in two"
    assert set(labels) <= set(range(1000))
    assert all(list(mine) == sorted(mine) for mine in found.values())
    assert {name: len(found[name]) for name in ("bird", "dog", "cat", "truck", "bottle")} == {
        "bird": 49,
        "dog": 109,
        "cat": 6,
        "truck": 8,
        "bottle": 7,
    }


def test_the_labels_are_of_their_category_by_torchvision_s_names() -> None:
    names = ResNet50_Weights.IMAGENET1K_V1.meta["categories"]
    of = {category: [names[label] for label in mine] for category, mine in categories().items()}
    assert of["airplane"] == ["airliner"]
    assert of["bear"] == ["brown bear", "American black bear", "ice bear", "sloth bear"]
    assert of["bicycle"] == ["bicycle-built-for-two", "mountain bike"]
    assert of["elephant"] == ["Indian elephant", "African elephant"]
    assert of["keyboard"] == ["computer keyboard", "typewriter keyboard"]
    assert of["knife"] == ["cleaver"]
    assert of["oven"] == ["rotisserie"]
    assert of["clock"] == ["analog clock", "digital clock", "wall clock"]
    assert of["boat"] == ["canoe", "fireboat", "lifeboat", "speedboat", "yawl"]
    assert of["car"] == ["beach wagon", "convertible", "sports car"]
    assert of["cat"] == ["tabby", "tiger cat", "Persian cat", "Siamese cat", "Egyptian cat", "cougar"]
    assert [name.split()[-1] for name in of["bottle"]] == ["bottle"] * 4 + ["jug"] * 2 + ["bottle"]
    assert {"golden retriever", "pug", "Siberian husky"} <= set(of["dog"])
    assert min(categories()["dog"]) > names.index("sea lion")
    assert max(categories()["dog"]) < names.index("timber wolf")
    assert {"robin", "bald eagle", "king penguin"} <= set(of["bird"])


def test_same_labels_are_those_of_one_dataset_its_variants_or_equal_names() -> None:
    cards = PACKAGED.datasets

    def same(known: str, shown: str) -> bool:
        return same_labels(cards[known], cards[shown])

    assert same("digits", "digits")
    assert same("digits", "digits_conflict")
    assert same("caltech101_lowpass", "caltech101_lowres32")
    assert same("imagenet", "stylized-imagenet")
    assert not same("fmnist", "digits"), "ten labels each, but others"
    assert not same("fmnist", "kmnist")
    assert not same("imagenet", "cue-conflict")
    fewer = cards["imagenet"].model_copy(update={"labels": 999})
    assert not same_labels(cards["imagenet"], fewer)


@pytest.mark.parametrize(
    ("known", "shown", "expected"),
    [
        ("imagenet", "cue-conflict", True),
        ("stylized-imagenet", "cue-conflict", True),
        ("digits", "cue-conflict", False),
    ],
)
def test_who_decides_by_categories(known: str, shown: str, expected: bool) -> None:
    assert in_categories(PACKAGED.dataset(known), PACKAGED.dataset(shown)) is expected
    assert not in_categories(PACKAGED.dataset(known), PACKAGED.dataset("imagenet"))


def test_names_of_the_registry() -> None:
    assert PACKAGED.dataset("cue-conflict").label_names == digest(list(categories()))
    assert PACKAGED.dataset("imagenet").label_names == PACKAGED.dataset("stylized-imagenet").label_names
