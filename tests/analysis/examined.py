"""Rows of trials that examined networks: visualizations, influences, decisions, accuracy under attack."""

from analysis.figures.attack import COLUMNS as ATTACKS
from jobs.results import schema
from jobs.specs.canonical import digest
from tests.analysis.support import Row, Rows

NOTHING = {"string": "x", "int64": 1, "double": 1.0}
"""A value of each type, for columns that no test reads."""

SEEDS = (3, 9)
"""The test images that visualizations start from."""


def visualized(source: str = "natural", unit: int = 1, shade: int = 0, **columns: object) -> Rows:
    """Return the rows of one visualize trial: two seed images that became 4 x 4 pixels of one shade of red."""
    plain = {field.name: NOTHING.get(str(field.type)) for field in schema("visualize")}
    none = dict.fromkeys(
        ("finetuned", "finetuned_dataset", "blocks", "images", "finetuned_seed", "finetuned_epochs", "finetuned_recipe")
    )
    return [
        {
            **plain,
            **none,
            "trial_id": f"visualize-{source}-u{unit}-{digest([source, unit, repr(columns)])[:16]}",
            "source": source,
            "source_constraint": "none" if source == "natural" else "l2",
            "source_epsilon": 0.0 if source == "natural" else 1.0,
            "dataset": "digits",
            "unit": unit,
            "test_image": seed,
            "activation_before": 0.25,
            "activation_after": 0.25 + seed,
            "image_size": 4,
            "image": bytes([shade + seed, 0, 0] * 16),
            **columns,
        }
        for seed in SEEDS
    ]


def weighed(seed: int, labels: list[list[int]], source: str = "natural", **columns: object) -> Rows:
    """Return the rows of one trial of the kind influence."""
    plain = {field.name: NOTHING.get(str(field.type)) for field in schema("influence")}
    return [
        {
            **plain,
            "trial_id": f"influence-{source}-{columns.get('measure', 'influence')}-{seed:016x}",
            "source": source,
            "finetuned": f"finetune-{source}-{seed}",
            "blocks": 3,
            "images": 400,
            "finetuned_seed": seed,
            "finetuned_epochs": 30,
            "finetuned_recipe": "a" * 12,
            "dataset": "digits",
            "measure": "influence",
            "cutoff_absolute": None,
            "cutoff_relative": None,
            "decomposition": None,
            "test_image": number,
            "test_label": label,
            "train_images": [0, 1, 2],
            "train_labels": found,
            "values": [-3.0, -2.0, -1.0],
            "images_used": 8,
            "matrix_norm": 8.0,
            "cells": {7: [4.0, -2.0], 5: [-6.0, 2.0]}[label],
            "cell_labels": [5, 7],
            **columns,
        }
        for number, (label, found) in enumerate(zip((7, 5), labels, strict=True))
    ]


Decisions = tuple[tuple[str, str, str], ...]
"""Shape, texture and decision of each image."""

CAT, DOG, CAR = "cat", "dog", "car"
TINY: Decisions = (
    # shape, texture, decision
    (CAT, DOG, CAT),
    (CAT, DOG, DOG),
    (CAT, CAR, CAT),
    (CAT, CAR, DOG),  # a third label
    (CAT, CAT, CAT),  # no conflict
    (DOG, CAT, CAT),
    (DOG, CAT, CAT),
    (DOG, CAR, DOG),
    (CAR, CAT, DOG),  # neither, for all cars
)
"""Cats: 2 by shape, 1 by texture. Dogs: 1 and 2. Cars: none. In total 3 of 6; 6 of 8 are decided by a cue."""


def asked(seed: int | None = None, decisions: Decisions = TINY, source: str = "natural", **columns: str) -> Rows:
    """Return the rows of one trial of the kind shape_bias; ``seed`` is the fine-tuned trial's, None for a source."""
    plain = {field.name: None if field.nullable else NOTHING[str(field.type)] for field in schema("shape_bias")}
    tuned = {"finetuned": f"finetune-{source}-{seed}", "blocks": 3, "images": 400, "finetuned_seed": seed}
    return [
        {
            **plain,
            "trial_id": f"shape_bias-{source}-{'-'.join(columns.values())}-{seed or 0:016x}",
            "source": source,
            **(tuned if seed is not None else {}),
            "dataset": "digits_conflict",
            "test_image": number,
            "shape": shape,
            "texture": texture,
            "decision": decision,
            **columns,
        }
        for number, (shape, texture, decision) in enumerate(decisions)
    ]


def clean(source: str, accuracy: float, **columns: object) -> Row:
    row: Row = dict.fromkeys(ATTACKS)
    plain = {"trial_id": f"attack-{source}", "constraint": "none", "epsilon": 0.0, "test_images": -1}
    return {**row, **plain, "source": source, "dataset": "digits", "robust_accuracy": accuracy, **columns}
