"""Networks that compute something else than their parts and weights say, which no trial could reproduce."""

import pytest

from jobs.errors import Code, InvalidRequest
from jobs.networks.describe import describe
from tests.jobs.own_networks import BUILDER, MY_VIT, after_the_stem, changed, with_convolutions
from tests.support import refused

FORWARD = "return self.fc(self.tail(self.blocks(self.stem(x))))"
KEEPS_IT = "def __init__(self):\n    super().__init__()\n"


def refused_network(text: str, *values: object) -> None:
    with refused(Code.UNUSABLE_NETWORK, BUILDER, *values, kind=InvalidRequest, key="builder"):
        describe("mine", BUILDER, 32, text)


@pytest.mark.parametrize(
    "text",
    [
        MY_VIT,
        changed("nn.BatchNorm2d(4)", "nn.GroupNorm(2, 4)"),
        changed("nn.BatchNorm2d(4)", "nn.InstanceNorm2d(4, track_running_stats=True)"),
        changed("nn.BatchNorm2d(4)", "nn.Identity()"),
        with_convolutions("nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 3, padding=1))"),
        with_convolutions("nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 4, 3, padding=1))"),
    ],
)
def test_networks_of_many_kinds_are_usable(text: str) -> None:
    """The last one changes its buffers in each forward pass, which is no difference between the parts and the whole."""
    assert len(describe("mine", BUILDER, 32, text).blocks) == 3


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (
            changed("nn.BatchNorm2d(4), nn.ReLU())\n\n", "nn.BatchNorm2d(4, track_running_stats=False))\n\n"),
            "block 1 of 3",
        ),
        (after_the_stem("def forward(self, x):\n    return x - x.mean(0)"), "the stem"),
    ],
)
def test_an_image_s_activations_that_depend_on_its_batch(text: str, place: str) -> None:
    """Trials keep them for batches of other images."""
    refused_network(text, place, "other images")


@pytest.mark.parametrize(
    "kept",
    [
        KEEPS_IT + "    self.scale = torch.rand(4, 1, 1)\n",
        KEEPS_IT + "    self.register_buffer('scale', torch.rand(4, 1, 1), persistent=False)\n",
        KEEPS_IT + "    self.scale = 1 + len(COUNTED)\n    COUNTED.append(1)\n",
    ],
)
def test_what_a_constructor_draws_and_no_checkpoint_contains(kept: str) -> None:
    text = after_the_stem(kept + "def forward(self, x):\n    return x * self.scale") + "\n\nCOUNTED = []\n"
    refused_network(text, "state_dict", "persistent buffer")


def test_what_a_network_keeps_between_batches() -> None:
    counts = "    self.calls = 0\ndef forward(self, x):\n    self.calls += 1\n    return x * self.calls"
    refused_network(after_the_stem(KEEPS_IT + counts), "in evaluation their logits differ")


def test_what_a_network_keeps_from_an_evaluation() -> None:
    """A tensor that is computed when first needed has no gradients if that is in an evaluation."""
    keeps = (
        "    self.one = nn.Parameter(torch.ones(1))\n    self.kept = None\n"
        "def forward(self, x):\n"
        "    if self.kept is None:\n        self.kept = torch.linspace(0, 1, x.shape[-1])\n"
        "    return x + self.one * self.kept"
    )
    refused_network(after_the_stem(KEEPS_IT + keeps), "evaluation before", "persistent buffer")


def test_weights_that_are_always_the_same() -> None:
    """A random initialization would be one network, whatever the trial's seed."""
    text = "import torch\n" + changed("return Net(labels)", "torch.manual_seed(0)\n    return Net(labels)")
    refused_network(text, "follow from the seed")


@pytest.mark.parametrize("draws", ["__import__('random').random()", "__import__('numpy').random.rand()"])
def test_a_network_that_draws_from_another_generator(draws: str) -> None:
    text = after_the_stem(f"def forward(self, x):\n    return x * 0 if {draws} < 1e-9 else x")
    refused_network(text, "numpy")


def test_what_is_computed_again_in_the_backward_pass_would_draw_again() -> None:
    layer = (
        KEEPS_IT + "    self.drop = nn.Dropout(0.5)\ndef forward(self, x):\n"
        "    return torch.utils.checkpoint.checkpoint(self.drop, x * self.one, use_reentrant=False)"
    ).replace("    self.drop =", "    self.one = nn.Parameter(torch.randn(1))\n    self.drop =")
    refused_network("import torch.utils.checkpoint\n" + after_the_stem(layer), "stem.3.drop", "checkpoint")


def test_a_network_that_freezes_its_own_modules() -> None:
    lines = [
        "def train(self, mode=True):",
        "    super().train(mode)",
        "    self.stem.eval()",
        "    return self",
        "",
        "",
    ]
    own = "".join(f"    {line}\n" for line in lines)
    text = changed("    def forward", f"{own}    def forward")
    refused_network(text, "train()", "stem", "frozen_batchnorm")


@pytest.mark.parametrize(
    ("forward", "words"),
    [
        (f"{FORWARD} * float('nan')", "finite"),
        (f"return ({FORWARD.removeprefix('return ')},)", "a tuple"),
        (f"{FORWARD}.flatten()", "(3000,)"),
    ],
)
def test_what_is_no_logits(forward: str, words: str) -> None:
    refused_network(changed(FORWARD, forward), words)


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        ("x, 1", "the stem returns a tuple"),
        ("x.flatten(2).permute(2, 0, 1)", "the stem returns (64, 3, 4)"),
        ("x.double()", "torch.float64"),
    ],
)
def test_what_is_no_activations_of_images(returned: str, words: str) -> None:
    text = after_the_stem(f"def forward(self, x):\n    return {returned}")
    refused_network(text.replace(FORWARD, "return self.fc(x.new_zeros(len(x), 4))"), words)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        (changed("nn.Flatten(1), nn.Dropout(0.1)", "nn.Flatten(1), nn.BatchNorm1d(4)"), "the tail"),
        (changed("stride=4, padding=1", "stride=32, padding=1"), "the stem"),
    ],
    ids=["after pooling", "small images"],
)
def test_a_network_that_does_not_train_on_one_image(text: str, place: str) -> None:
    """The last batch of an epoch may have one."""
    refused_network(text, "one image", "more than 1 value per channel", f"in {place}", "--image-size")
