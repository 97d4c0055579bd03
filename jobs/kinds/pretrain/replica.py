"""A replica besides the first: ``python -m jobs.kinds.pretrain.replica ORDER.json``, started by ``data_parallel``."""

import json
import os
import sys
import traceback
from pathlib import Path

import torch
import torch.distributed as dist

from jobs.catalog.catalog import Cards, Catalog
from jobs.errors import Code, DamagedFile
from jobs.execution.gpu_memory import keep_no_images, limit_memory
from jobs.kinds.pretrain.data_parallel import Replicas
from jobs.kinds.pretrain.spec import PretrainSpec
from jobs.kinds.pretrain.trial import Pretraining
from jobs.system.parentage import end_with


def follow(path: Path) -> None:
    """Train with the first replica until it pauses or is done.

    Raises:
        DamagedFile: if its images are not those of the first replica.
    """
    order = json.loads(path.read_text(encoding="utf-8"))
    end_with(order["parent"])  # otherwise it could hang and keep its GPU if the first replica is killed
    spec = PretrainSpec.model_validate(order["spec"])
    device = torch.device("cuda", order["rank"]) if order["device"] == "cuda" else torch.device("cpu")
    limit_memory(device)
    keep_no_images(device)  # only the first replica evaluates
    catalog = Catalog(Cards.model_validate(order["cards"]), order["builders"])
    directory = None if order["directory"] is None else Path(order["directory"])
    trial = Pretraining.load(spec, catalog, device, directory)
    if trial.data.sha256 != order["data_sha256"]:
        raise DamagedFile(
            Code.DAMAGED_DATA,
            f"expected the images of dataset {spec.dataset} that the first replica has, with the digest "
            f"{order['data_sha256']}; this one reads others, {trial.data.sha256}. Fix: restore the files, and "
            "leave them as they are while a trial reads them",
            file=directory or "",
        )
    trial.replicas = Replicas(order["rank"], spec.recipe.replicas)
    Path(order["ready"]).touch()
    trial.replicas.join(Path(order["meeting"]), device)
    try:
        trial.replicas.bring_together(trial)
        trial.advance(lambda: trial.replicas.agree(False))
    except BaseException:  # noqa: BLE001  # it is told by the output
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # a usual exit waits for the first replica's connection, and that one waits for this exit
    Path(order["done"]).touch()
    dist.destroy_process_group()


if __name__ == "__main__":
    follow(Path(sys.argv[1]))
