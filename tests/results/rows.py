"""Rows of invented results. No torch."""

PACKAGES = '{"torch": "2.14.1", "torchvision": "0.29.1", "numpy": "2.4"}'
DEVICE_KIND = "A processor, family 1 model 2, avx2 (probe 1: 0123456789ab)"
"""The device kind of invented results."""


def result_rows(trial_id: str = "finetune-x-0123456789abcdef", **changes: object) -> list[dict[str, object]]:
    """Return the rows of an invented result with two evaluated epochs and every column filled."""
    shared: dict[str, object] = {
        "trial_id": trial_id,
        "source": "fmnist_l2_eps1",
        "dataset": "digits",
        "blocks": 3,
        "images": 20,
        "seed": 7,
        "epochs": 2,
        "evaluate_every": 1,
        "recipe": "0123456789ab",
        "recipe_json": "{}",
        "numerics": 2,
        "origin": "run",
        "constraint": "l2",
        "epsilon": 1.0,
        "images_used": 20,
        "test_images": 64,
        "test_accuracy": 50.0,
        "test_loss": 1.5,
        "train_accuracy": 40.0,
        "train_loss": 1.6,
        "learning_rate": 0.1,
        "weights_sha256": "a" * 64,
        "dataset_sha256": "d" * 64,
        "subset_sha256": "5" * 64,
        "trained_sha256": "7" * 64,
        "seconds": 1.0,
        "device_kind": DEVICE_KIND,
        "host": "here",
        "attempt": 1,
        "launch": "",
        "finished_at": "2026-01-01T00:00:00+00:00",
        "code_version": "0.1.0",
        "packages": PACKAGES,
    }
    return [{**shared, "epoch": epoch, **changes} for epoch in (1, 2)]
