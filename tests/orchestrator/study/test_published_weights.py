"""Studies whose sources are weights that torchvision publishes: runs, records, pins of the results root."""

import hashlib
import io
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from rich.console import Console
from torchvision.models import ShuffleNet_V2_X1_0_Weights

from jobs.catalog.catalog import PACKAGED
from jobs.errors import Code, MissingData, ResultsConflict
from jobs.models.fetch_published import card_text, fetch_by_name
from jobs.models.weights import load_source
from jobs.results import open_store, pinned, read_trials
from jobs.study.expand import expand
from jobs.study.model import Study
from orchestrator.launching.launch import launch
from orchestrator.launching.local import run_locally
from orchestrator.study.load import load_study
from orchestrator.study.name_conflicts import require_same_names
from tests.jobs.mirrors import mirror
from tests.jobs.support import built
from tests.support import refused

pytestmark = pytest.mark.usefixtures("without_ray", "short_tests")

NAME = "torchvision:shufflenet_v2_x1_0.IMAGENET1K_V1"
USES = """\
name: by-name
grid: {source: [mine], dataset: [digits], blocks: [0]}
schedule:
  - {images: [10], epochs: 1, seeds: 1, evaluate_every: 1}
"""


@pytest.fixture(autouse=True)
def _no_cache() -> None:
    load_source.cache_clear()


@pytest.fixture
def studies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Study]]:
    """Two studies with one name for two files that were published under one name, one after the other."""
    made = []
    with mirror() as server:
        for add in (0, 1):
            file = io.BytesIO()
            torch.save(
                {key: tensor + add for key, tensor in built("shufflenet_v2_x1_0", 1000).state_dict().items()}, file
            )
            name = f"shufflenetv2_x1-{hashlib.sha256(file.getvalue()).hexdigest()[:10]}.pth"
            server.files[name] = file.getvalue()
            monkeypatch.setattr(ShuffleNet_V2_X1_0_Weights.IMAGENET1K_V1.value, "url", f"{server.url}/{name}")
            card, _ = fetch_by_name(NAME, "mine", PACKAGED, lambda *_: None, replace=True)
            (tmp_path / f"{add}.yaml").write_text(USES + card_text([card]), encoding="utf-8")
            made.append(load_study(str(tmp_path / f"{add}.yaml")))
        yield made


def test_a_trial_of_published_weights_pins_them(studies: list[Study], tmp_path: Path) -> None:
    study, other = studies
    store = open_store(str(tmp_path / "root"))
    run_locally(study, expand(study)[0].trial_id, store, Console(quiet=True))
    weights = load_source(study.sources["mine"]).sha256
    assert pinned(store, "sources", "mine") == weights
    assert set(read_trials(store, "finetune", ["weights_sha256"])["weights_sha256"].to_pylist()) == {weights}
    require_same_names(study, store)
    with refused(Code.OTHER_DIGEST, "'mine'", kind=ResultsConflict):
        require_same_names(other, store)


def test_a_launch_without_the_weights_says_how_to_get_them(studies: list[Study], tmp_path: Path) -> None:
    for path in (tmp_path / "home" / "weights").glob("*.safetensors"):
        path.unlink()
    with refused(Code.MISSING_WEIGHTS, "deltasweep models fetch mine --study STUDY", kind=MissingData):
        launch(studies[0], open_store(str(tmp_path / "root")), Console(quiet=True))
    assert not (tmp_path / "root").exists()
