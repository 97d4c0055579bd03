"""What the report says beside its headline deltas, and which headlines it has."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

import analysis
from analysis.page.report import contents
from analysis.page.results import read
from analysis.page.sections.headlines import Findings
from jobs.results import LocalStore, record_study
from tests.analysis.support import Build, Rows
from tests.support import present

CONTRAST: dict[str, Any] = {"source": "l2", "baseline": "natural", "blocks": [3]}


def record(root: Path, *contrasts: dict[str, Any], schedule: Mapping[int, int], digest: str = "d1") -> None:
    """Record a version of a study of three sources.

    Args:
        schedule: epochs by images.
    """
    rows = [{"images": [size], "epochs": last, "seeds": 3, "evaluate_every": 10} for size, last in schedule.items()]
    grid = {"source": ["natural", "l2", "linf"], "dataset": ["digits"], "blocks": [3]}
    study = {"name": "mine", "grid": grid, "schedule": rows, "recipe": {}, "contrasts": list(contrasts)}
    record_study(LocalStore(root), "mine", digest, json.dumps(study))


def finished(build: Build, schedule: Mapping[int, int], sources: Sequence[str] = ("natural", "l2")) -> list[Rows]:
    """Return three trials of each source at each size, evaluated every ten epochs."""
    return [
        build.trial(source, seed, dict.fromkeys([*range(1, last, 10), last], 50.0 + seed * number), images=images)
        for images, last in schedule.items()
        for number, source in enumerate(sources, 1)
        for seed in range(3)
    ]


def findings(root: Path) -> list[Findings]:
    shown = next(one for one in contents(read(LocalStore(root))) if one.title == "Headline deltas")
    return [*shown.values["findings"]]


def said(root: Path) -> dict[str, str]:
    """Return the sentences by comparison and place."""
    return {f"{one.what}; {one.where}": one.sentence for of in findings(root) for one in of.headlines}


def test_trials_that_ended_too_early_are_told(build: Build) -> None:
    def of(rise: float) -> str:
        trials = [
            build.trial(source, seed, {1: 40.0, 6: 60.0, 8: 60.0 + rise}, constraint=constraint)
            for source, constraint in (("natural", "none"), ("l2", "l2"))
            for seed in range(2)
        ]
        return analysis.report(build.root(trials, f"root{rise:g}")).read_text()

    assert "by more than 1 point between the last two evaluations in 2 of 2 groups of trials, by up to 5.0" in of(5.0)
    assert "still rose" not in of(0.5)


@pytest.mark.parametrize(
    ("schedule", "epoch", "places"),
    [
        ({100: 30, 200: 30}, 30, ["last epoch, declared in advance"]),
        ({100: 11, 200: 21}, 11, ["last epoch, partly declared in advance", "epoch 11, declared in advance"]),
    ],
)
def test_a_contrast_at_the_last_epoch_of_some_trials_is_no_other_than_that_at_the_last(
    build: Build, schedule: dict[int, int], epoch: int, places: list[str]
) -> None:
    root = build.root(finished(build, schedule))
    record(root, CONTRAST | {"epoch": epoch}, schedule=schedule)
    found = said(root)
    assert list(found) == [f"l2 minus natural; last 3 blocks, {place}" for place in places]
    assert not any("planned" in text for text in found.values())
    record(root, CONTRAST | {"epoch": epoch}, schedule=schedule | {400: epoch}, digest="d2")
    assert [text.endswith("1 planned cell has no trial yet.") for text in said(root).values()] == [
        place.startswith("last epoch") for place in places
    ]


def test_what_was_declared_is_never_among_what_was_not(build: Build) -> None:
    """Also while only comparisons that no study declared have results."""
    root = build.root(finished(build, {100: 30}, ("natural", "linf")))
    record(root, CONTRAST, schedule={100: 30})
    (alone,) = findings(root)
    assert [(one.what, one.declared) for one in alone.headlines] == [
        ("linf minus natural", False),
        ("l2 minus natural", True),
    ]
    assert "that no study declared in advance" not in analysis.report(root).read_text()
    build.root(finished(build, {100: 30}, ("natural", "l2"))[3:])
    first, others = findings(root)
    assert [one.what for one in first.headlines] == ["l2 minus natural"]
    assert [one.what for one in others.headlines] == ["linf minus natural"]


def test_declared_contrasts_are_in_the_order_of_their_families(build: Build) -> None:
    """A plot of many comparisons draws the first ones: the study's own family, as declared, before named families."""
    root = build.root(finished(build, {100: 30}, ("natural", "l2", "linf")))
    norms = CONTRAST | {"baseline": "linf", "family": "norms"}
    fast = CONTRAST | {"epoch": 11, "family": "a-fast"}
    record(root, norms, CONTRAST | {"source": "linf"}, fast, CONTRAST, schedule={100: 30})
    assert list(said(root)) == [
        "linf minus natural; last 3 blocks, last epoch, declared in advance",
        "l2 minus natural; last 3 blocks, last epoch, declared in advance",
        "l2 minus linf; last 3 blocks, last epoch, declared in advance",
        "l2 minus natural; last 3 blocks, epoch 11, declared in advance",
    ]


def test_a_trial_without_a_partner_in_several_comparisons_is_not_counted_as_several(build: Build) -> None:
    trials = finished(build, {100: 30}, ("natural", "l2", "linf"))
    root = build.root([*trials, build.trial("natural", 9, {30: 50.0})])
    text = analysis.report(root).read_text()
    assert "In 2 cells, trials without a partner in the other arm do not enter the delta." in text
    build.root(finished(build, {200: 30}, ("natural",)))
    text = analysis.report(root).read_text()
    assert "do not enter the delta; 2 cells have no pair, since trials of one arm are missing." in text


def test_a_comparison_is_shown_at_its_own_depth(build: Build) -> None:
    """One study fine-tuned the last block of two sources, another one three blocks of others."""
    trials = [
        build.trial(source, seed, 50.0 + seed * number, blocks=blocks)
        for blocks, other in ((1, "l2"), (3, "linf"))
        for number, source in enumerate(("natural", other), 1)
        for seed in range(3)
    ]
    assert list(said(build.root(trials))) == [
        "l2 minus natural; last block, last epoch",
        "linf minus natural; last 3 blocks, last epoch",
    ]
    more = [build.trial("l2", seed, 60.0 + seed, blocks=-1) for seed in range(3)]
    more += [build.trial("natural", seed, 50.0 - seed, blocks=-1) for seed in range(3)]
    assert next(iter(said(build.root(more)))) == "l2 minus natural; all blocks, last epoch"


def test_a_forest_plot_says_over_what_its_p_values_are_corrected(build: Build) -> None:
    root = build.root(finished(build, {100: 30}))
    plot = present(findings(root)[0].plot)
    assert plot.families == "1 cell"
    assert (
        "declared" not in analysis.report(root).read_text().partition("<figcaption>")[2].partition("</figcaption>")[0]
    )
    record(root, CONTRAST, schedule={100: 30})
    assert present(findings(root)[0].plot).families == "1 cell of the contrasts of mine"
    assert "n: pairs; p: Holm over 1 cell of the contrasts of mine." in analysis.report(root).read_text()
    single = build.root([build.trial(source, 0, 50.0) for source in ("natural", "l2")], "single")
    assert present(findings(single)[0].plot).families == ""


def test_diverged_trials_are_told_as_deltas_does(build: Build) -> None:
    trials = finished(build, {100: 30})
    healthy = build.root(trials, "healthy")
    lost = [[row | {"test_loss": float("nan")} for row in trials[0]], *trials[1:]]
    clause = "1 trial with a loss that is not finite (diverged) is among the pairs"
    assert f"{clause}." in analysis.report(build.root(lost)).read_text()
    assert "(diverged)" not in analysis.report(healthy).read_text()
