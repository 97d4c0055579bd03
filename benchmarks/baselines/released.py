"""B0: a reimplementation of how the released code works: one process per trial, PIL for every image of every epoch.

The data loader uses no worker processes. With fewer cores than trials, as here, they would only add start-up time.

Usage: python -m benchmarks.baselines.released SPEC (as JSON). Prints the measurements as JSON.
"""

import json
import subprocess
import sys

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.baselines.tune_program import Measured, network, require_simple
from jobs.catalog.catalog import PACKAGED
from jobs.data.raw import FolderPart, RawPart
from jobs.data.readers import read_raw
from jobs.data.subsets import draw_subset
from jobs.kind import from_plain, plain
from jobs.kinds.finetune.spec import FinetuneSpec


class Images(Dataset[tuple[Tensor, int]]):
    """PIL images, transformed one by one on each access."""

    def __init__(self, part: RawPart | FolderPart, indices: list[int], size: int) -> None:
        self._part = part
        self._indices = indices
        self._transform = transforms.Compose(
            [transforms.Resize((size, size)), transforms.Grayscale(3), transforms.ToTensor()]
        )

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, place: int) -> tuple[Tensor, int]:
        index = self._indices[place]
        image: Image.Image = self._part.image(index)
        return self._transform(image), int(self._part.labels_N[index])


def run_trial(spec: FinetuneSpec) -> list[Measured]:
    """Run one trial in this process: plain torch, contiguous tensors, a data loader for each of both sets."""
    recipe = spec.recipe
    require_simple(recipe, spec.dataset)
    torch.set_num_threads(recipe.threads)
    torch.manual_seed(spec.seed)
    size = PACKAGED.architecture(PACKAGED.source(spec.source).architecture).image_size
    raw = read_raw(PACKAGED.dataset(spec.dataset))
    subset = draw_subset(torch.from_numpy(raw.train.labels_N), spec.images, spec.seed).tolist()
    train = DataLoader(Images(raw.train, subset, size), recipe.batch_size, shuffle=True)
    test = DataLoader(Images(raw.test, list(range(len(raw.test.labels_N))), size), recipe.evaluation_batch_size)
    model, parameters = network(spec)
    optimizer = torch.optim.SGD(parameters, recipe.learning_rate, recipe.momentum, weight_decay=recipe.weight_decay)
    found = []
    for epoch in range(1, spec.epochs + 1):
        optimizer.param_groups[0]["lr"] = recipe.learning_rate_at(epoch, spec.epochs)
        model.train()
        correct = 0
        for images_NCHW, labels_N in train:
            logits_NK = model(images_NCHW)
            loss = nn.functional.cross_entropy(logits_NK, labels_N)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]  # torch gives it no types
            optimizer.step()
            correct += int((logits_NK.argmax(1) == labels_N).sum())
        if epoch in spec.evaluated_epochs:
            found.append(Measured(epoch, 100 * correct / len(subset), _accuracy(model, test)))
    return found


@torch.no_grad()
def _accuracy(model: nn.Module, batches: DataLoader[tuple[Tensor, int]]) -> float:
    model.eval()
    counts = [(int((model(x_NCHW).argmax(1) == y_N).sum()), len(y_N)) for x_NCHW, y_N in batches]
    return 100 * sum(correct for correct, _ in counts) / sum(count for _, count in counts)


def run_in_a_process(spec: FinetuneSpec) -> list[Measured]:
    """Run one trial in a new process, as a user of the released code would."""
    command = [sys.executable, "-m", __spec__.name, json.dumps(plain(spec))]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [Measured(*row) for row in json.loads(output.splitlines()[-1])]


def main(values: str) -> None:
    spec = from_plain(json.loads(values))
    assert isinstance(spec, FinetuneSpec)
    print(json.dumps(run_trial(spec)))


if __name__ == "__main__":
    main(sys.argv[1])
