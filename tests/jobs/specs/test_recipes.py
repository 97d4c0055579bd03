"""Recipes by name."""

from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from jobs.specs.recipes import RECIPES, Recipe, named_recipe


def recipe(value: object) -> Recipe:
    return TypeAdapter(Recipe).validate_python(named_recipe(value))


def test_paper_is_the_default_recipe() -> None:
    """Tables 3 and 4."""
    assert recipe("paper") == recipe({}) == recipe({"base": "paper"}) == Recipe()


def test_as_released_is_what_the_released_code_does() -> None:
    released = recipe("as-released")
    assert released == recipe({"base": "as-released"})
    changed = {name: value for name, value in released if value != getattr(Recipe(), name)}
    assert changed == {"normalization": "as-released", "lr_milestones": "as-released"}
    assert (released.transforms, released.frozen_batchnorm, released.fc_init) == ("as-released", "batch", "normal")
    assert (released.learning_rate, released.momentum, released.weight_decay) == (0.1, 0.9, 5e-4)
    assert (released.batch_size, released.lr_decay) == (128, 0.1)


def test_as_published_is_what_the_released_code_of_spring_2020_does() -> None:
    """The last code treats arms and datasets differently in places where this one does not."""
    published, released = recipe("as-published"), RECIPES["as-released"]
    changed = {name: value for name, value in published if value != getattr(released, name)}
    assert changed == {"normalization": "source", "transforms": "as-published"}


def test_choices_beside_a_base_win() -> None:
    found = recipe({"base": "as-released", "normalization": "target", "threads": 2})
    assert found == RECIPES["as-released"].model_copy(update={"normalization": "target", "threads": 2})


def test_a_recipe_stays_what_it_is() -> None:
    assert named_recipe(Recipe(threads=2)) == Recipe(threads=2)
    assert recipe({"threads": 2}) == Recipe(threads=2)


def test_the_page_has_every_choice_of_every_recipe() -> None:
    page = (Path(__file__).parents[3] / "docs" / "reference" / "recipes.md").read_text(encoding="utf-8")
    paragraphs = page.split("\n\n")
    (table,) = (paragraph for paragraph in paragraphs if paragraph.startswith("| key | values | `paper`"))
    found = {}
    for line in table.splitlines()[2:]:
        name, _, first, *others = (cell.strip().strip("`") for cell in line.strip("|").split("|"))
        found[name] = [first, *(first if other == "same" else other for other in others[: len(RECIPES) - 1])]
    columns = [cell.strip().split("`")[1] for cell in table.splitlines()[0].split("|")[3 : 3 + len(RECIPES)]]
    assert sorted(columns) == sorted(RECIPES)
    recipes = [RECIPES[name] for name in columns]
    assert found == {name: [_written(getattr(of, name)) for of in recipes] for name in Recipe.model_fields}


def _written(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


@pytest.mark.parametrize(
    ("value", "place"), [("table3", ()), ({"base": "table3"}, ("base",)), ({"base": 3}, ("base",))]
)
def test_an_unknown_name_is_refused_with_the_known_ones(value: object, place: tuple[str, ...]) -> None:
    with pytest.raises(
        ValidationError, match="unknown recipe; known recipes: paper, as-released, as-published"
    ) as refused:
        named_recipe(value)
    assert [item["loc"] for item in refused.value.errors()] == [place]


def test_an_unknown_name_is_reported_beside_the_other_mistakes() -> None:
    with pytest.raises(ValidationError) as refused:
        named_recipe({"base": "table3", "momentun": 0.5, "threads": 0, "compile": True})
    assert {item["loc"] for item in refused.value.errors()} == {("base",), ("momentun",), ("threads",), ("compile",)}
