"""What a builder makes: plain modules with float32 weights and the labels that were asked for; nothing else happens."""

import random

import numpy as np
import pytest
import torch

from jobs.errors import Code, InvalidRequest
from jobs.networks.builders import built
from jobs.networks.describe import describe
from tests.jobs.own_networks import BUILDER, MY_NET, changed
from tests.support import refused


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (changed("return Net(labels)", "return nn.DataParallel(Net(labels))"), ("the network", "DataParallel")),
        (
            "import torch\n" + changed("return Net(labels)", "return torch.compile(Net(labels), backend='eager')"),
            ("the network", "torch.compile"),
        ),
        (
            "import torch\n" + changed("nn.Sequential(block(),", "nn.Sequential(torch.compile(block()),"),
            ("blocks.0", "torch.compile"),
        ),
        pytest.param(
            "import torch\n" + changed("nn.Flatten(1)", "torch.jit.script(nn.Flatten(1))"),
            ("tail.1", "TorchScript"),
            marks=pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated"),
        ),
        (changed("nn.Conv2d(3, 4, 3,", "nn.LazyConv2d(4, 3,"), ("stem.0.weight", "number of inputs")),
        (changed("nn.Linear(4, labels)", "nn.LazyLinear(labels)"), ("fc.weight", "number of inputs")),
        (changed("nn.Linear(4, labels)", "nn.Linear(4, labels, device='meta')"), ("fc.weight", "on the CPU")),
        (changed("return Net(labels)", "return Net(labels).double()"), ("stem.0.weight", "torch.float64")),
        (changed("return Net(labels)", "return Net(labels).half()"), ("stem.0.weight", "torch.float16")),
        (changed("return Net(labels)", "return Net(7)"), ("1000 labels", "fc has 7")),
    ],
)
def test_what_trials_could_not_use(text: str, words: tuple[str, ...]) -> None:
    with refused(Code.UNUSABLE_NETWORK, BUILDER, *words, kind=InvalidRequest, key="builder"):
        describe("mine", BUILDER, 32, text)


@pytest.mark.parametrize("labels", [10, 1000])
def test_a_builder_that_ignores_its_argument(labels: int) -> None:
    """Also one that always returns the number of labels with which cards are written."""
    with refused(Code.UNUSABLE_NETWORK, f"fc has {labels}", kind=InvalidRequest, key="builder"):
        describe("mine", BUILDER, 32, changed("return Net(labels)", f"return Net({labels})"))


def test_settings_of_the_process_stay() -> None:
    text = "import random, numpy, torch\n" + changed(
        "return Net(labels)",
        "torch.set_default_dtype(torch.float64)\n    torch.set_grad_enabled(False)\n    torch.set_num_threads(1)\n"
        "    torch.use_deterministic_algorithms(True)\n    torch.set_default_device('cpu')\n    torch.manual_seed(0)\n"
        "    random.seed(0)\n    numpy.random.seed(0)\n    return Net(labels).float()",
    )

    def settings() -> list[object]:
        states = random.getstate(), str(np.random.get_state()), torch.get_rng_state().tolist()
        kept = torch.get_default_dtype(), torch.is_grad_enabled(), torch.get_num_threads(), torch.get_default_device()
        return [*states, *kept, torch.are_deterministic_algorithms_enabled()]

    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        before = settings()
        built(BUILDER, 10, code=text)
        assert settings() == before
    finally:
        torch.set_num_threads(threads)


def test_what_a_file_draws_when_it_is_run_is_always_the_same_and_changes_no_state() -> None:
    drawn = "\n\nimport random, numpy, torch\nDRAWN = torch.rand(1).item(), random.random(), numpy.random.rand()\n"
    texts = [
        f"{MY_NET}{drawn}# {number}\n" + "\n\ndef drawn(labels):\n    raise ValueError(DRAWN)\n" for number in (1, 2)
    ]
    found = []
    for number, text in enumerate(texts):
        torch.rand(number)
        before = torch.get_rng_state()
        with pytest.raises(InvalidRequest) as error:
            built("my_net.py:drawn", 10, code=text)
        assert torch.equal(before, torch.get_rng_state())
        found.append(str(error.value))
    assert found[0] == found[1]


def test_what_a_builder_prints_is_not_in_the_output(capsys: pytest.CaptureFixture[str]) -> None:
    """Standard output may be a card."""
    built(BUILDER, 10, code=changed("return Net(labels)", "print('hello')\n    return Net(labels)"))
    assert capsys.readouterr() == ("", "hello\n")
