"""A replica that is not the first: what ``python -m jobs.replica ORDER.json`` does, started by ``jobs.replicas``."""

import json
import sys
from pathlib import Path

import torch
import torch.distributed as dist

from jobs import registry
from jobs.parentage import end_with
from jobs.pretrain import open_pretraining
from jobs.replicas import Replicas
from jobs.specs import PretrainSpec


def follow(path: Path) -> None:
    """Train along with the first replica until it pauses or is done."""
    order = json.loads(path.read_text(encoding="utf-8"))
    end_with(order["parent"])  # it would keep its GPU if it hung when the first one is killed
    spec = PretrainSpec.model_validate(order["spec"])
    device = torch.device("cuda", order["rank"]) if order["device"] == "cuda" else torch.device("cpu")
    with registry.using(registry.Cards.model_validate(order["cards"])):
        trial = open_pretraining(spec, device)
        trial.replicas = Replicas(order["rank"], spec.recipe.replicas)
        Path(order["ready"]).touch()
        trial.replicas.join(Path(order["meeting"]), device)
        trial.replicas.bring_together(trial)
        trial.advance(lambda: trial.replicas.agree(False))
    dist.destroy_process_group()


if __name__ == "__main__":
    follow(Path(sys.argv[1]))
