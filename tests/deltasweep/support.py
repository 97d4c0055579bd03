"""A small study of the bundled models and data."""

from typing import Any

import deltasweep as ds

KEYS: dict[str, Any] = {
    "name": "small",
    "description": "Is <b>it</b> & is it not?",
    "grid": {"source": ["fmnist_natural", "fmnist_l2_eps1"], "dataset": ["digits"], "blocks": [0]},
    "schedule": [{"images": [20, 40], "epochs": 1, "seeds": 2, "evaluate_every": 1}],
    "contrasts": [{"source": "fmnist_l2_eps1", "baseline": "fmnist_natural", "blocks": [0]}],
}


def small(**keys: Any) -> ds.Study:
    """Return the study of eight trials, with other values for some keys."""
    return ds.Study(**KEYS | keys)
