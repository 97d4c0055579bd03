"""Cards of networks: what ``describe`` writes, and the networks that it refuses because trials could not use them."""

import importlib
import sys

import pytest
import torch
import yaml

from jobs.catalog.architecture_card import Architecture
from jobs.catalog.architecture_files import card_text
from jobs.catalog.catalog import PACKAGED
from jobs.errors import Code, DeltaSweepError, InvalidRequest, MissingData
from jobs.networks import timm_families
from jobs.networks.builders import built
from jobs.networks.describe import describe, require_described
from jobs.networks.image_sizes import image_size_of
from tests.jobs.own_networks import BUILDER, MY_NET, changed
from tests.support import refused

SIZE = 32


def of_file(text: str = MY_NET, builder: str = BUILDER) -> Architecture:
    return describe("mine", builder, SIZE, text)


def refused_network(text: str, *values: object, builder: str = BUILDER) -> None:
    with refused(Code.UNUSABLE_NETWORK, builder, *values, kind=InvalidRequest, key="builder"):
        of_file(text, builder)


@pytest.mark.parametrize("name", ["resnet18", "resnet35-w8"])
def test_a_described_network_has_the_packaged_card(name: str) -> None:
    packaged = PACKAGED.architecture(name)
    assert describe(name, packaged.builder, packaged.image_size) == packaged


@pytest.mark.parametrize("path", timm_families.FAMILIES)
def test_the_families_of_timm_are_its_classes(path: str) -> None:
    module, _, name = path.rpartition(".")
    assert isinstance(getattr(importlib.import_module(module), name), type)


def test_a_resnet_of_timm_has_the_blocks_of_torchvision_s() -> None:
    blocks = describe("mine", "timm:resnet18", 64).blocks
    assert blocks == describe("mine", "torchvision:resnet18", 64).blocks


def test_a_card_is_read_as_it_was_written() -> None:
    card = of_file()
    assert Architecture.model_validate({"name": "mine", **yaml.safe_load(card_text(card))}) == card


def test_a_card_of_a_builder_file_has_its_parts_and_their_costs() -> None:
    card = of_file()
    assert card.block_names == ("blocks.0", "blocks.1", "blocks.2")
    assert (card.fc.modules, card.features, card.image_size) == ("fc", 4, SIZE)
    # 4 x 4 x 9 weights, 4 biases, 8 of BatchNorm; two FLOPs per multiply-add on 8 x 8 pixels
    assert {(block.parameters, block.flops) for block in card.blocks} == {(156, 2 * 144 * 64)}
    assert card.stem.parameters == 3 * 4 * 9 + 4 + 8
    assert card.fc.parameters == 1000 * 5


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (MY_NET, True),
        (changed("nn.BatchNorm2d(4)", "nn.InstanceNorm2d(4, track_running_stats=True)"), True),
        (changed("nn.BatchNorm2d(4)", "nn.GroupNorm(2, 4)"), False),
    ],
)
def test_a_card_says_whether_layers_have_running_statistics(text: str, expected: bool) -> None:
    card = of_file(text)
    assert card.running_statistics is expected
    assert ("running_statistics" in card_text(card)) is not expected, "as in cards that were written before"


def test_progress_is_said() -> None:
    said: list[str] = []
    describe("mine", BUILDER, SIZE, MY_NET, said.append)
    assert said[0] == f"Building {BUILDER}"
    assert said[-1] == "Counting part 5 of 5"


def test_describing_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    of_file()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("builder", ["torchvision:resnet19", "timm:resnet19", "deltasweep:resnet19", "resnet18", "x:y"])
def test_unknown_builders(builder: str) -> None:
    with refused(Code.UNKNOWN_NAME, repr(builder), "torchvision:resnet18", kind=InvalidRequest, key="builder"):
        describe("mine", builder, SIZE)


def test_a_constructor_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise TypeError("no such argument\nsecond line")

    monkeypatch.setattr("torchvision.models.get_model", fail)
    with refused(Code.UNUSABLE_NETWORK, "resnet18", "no such argument. ", kind=InvalidRequest, key="builder"):
        describe("mine", "torchvision:resnet18", 32)


def test_timm_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    values = ("timm:vit_small_patch16_224", "pip install 'deltasweep[timm]'")
    for ask in (lambda: describe("mine", values[0], 224), lambda: image_size_of(values[0])):
        with refused(Code.UNUSABLE_PACKAGE, *values, kind=MissingData, key="builder"):
            ask()


def test_a_network_of_no_known_family() -> None:
    text = changed("return Net(labels)", "return nn.Sequential(nn.Flatten(1), nn.Linear(3072, labels))")
    with refused(Code.UNUSABLE_NETWORK, "Sequential", "Parts", kind=InvalidRequest, key="Sequential"):
        of_file(text)


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        ("nn.Sequential(nn.Linear(4, labels))", "a Sequential"),
        ("nn.Conv2d(4, labels, 1)", "a Conv2d"),
        ("nn.Linear(4, labels, bias=False)", "a Linear without a bias"),
    ],
)
def test_the_last_layer_must_be_linear(layer: str, words: str) -> None:
    """Of parts, since a network's own attribute ``fc`` is only found if it is linear."""
    text = changed("nn.Linear(4, labels)", layer) + PARTS
    with refused(Code.UNUSABLE_NETWORK, words, "torch.nn.Linear", kind=InvalidRequest, key="fc"):
        of_file(text, "my_net.py:parts")


@pytest.mark.parametrize(
    "hooking",
    [
        "self.fc.register_forward_hook(lambda *_: None)",
        "self.fc.register_forward_pre_hook(lambda *_: None)",
        pytest.param(
            "nn.utils.weight_norm(self.fc)",
            marks=pytest.mark.filterwarnings("ignore:`torch.nn.utils.weight_norm` is deprecated"),
        ),
    ],
)
def test_the_last_layer_has_no_hooks(hooking: str) -> None:
    """Trials replace it: they would compute without its hooks."""
    with refused(Code.UNUSABLE_NETWORK, "hooks", "weight_norm", kind=InvalidRequest, key="fc"):
        of_file(changed("    def forward", f"        {hooking}\n\n    def forward"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (changed("nn.Sequential(block(), block(), block())", "[block(), block(), block()]"), "a list"),
        (changed("nn.Sequential(block(), block(), block())", "nn.Sequential()"), "at least one block"),
        (changed("nn.Sequential(block(), block(), block())", "nn.ModuleDict({'one': block()})"), "a ModuleDict"),
    ],
)
def test_blocks_that_are_not_in_a_container(text: str, words: str) -> None:
    with refused(Code.UNUSABLE_NETWORK, words, kind=InvalidRequest, key="builder"):
        of_file(text)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("net.stem,", "None,", "as stem"),
        ("tuple(net.blocks)", "()", "at least one block"),
        ("tuple(net.blocks)", "7", "a int"),
        ("tuple(net.blocks)", "(net.blocks[0], 'two')", "a str"),
        ('"fc"', "net.fc", "a Linear"),
    ],
)
def test_parts_of_other_types(old: str, new: str, words: str) -> None:
    with refused(Code.UNUSABLE_NETWORK, words, kind=InvalidRequest, key="builder"):
        of_file((MY_NET + PARTS).replace(old, new), "my_net.py:parts")


def test_a_network_of_timm_with_two_last_layers() -> None:
    with refused(Code.UNUSABLE_NETWORK, "head, head_dist", kind=InvalidRequest, key="builder"):
        built("timm:deit_tiny_distilled_patch16_224", 10)


PARTS = """

from jobs.networks.parts import Parts


def parts(labels):
    net = Net(labels)
    *tail, drop = net.tail
    return Parts(net, net.stem, tuple(net.blocks), nn.Sequential(*tail, drop), "fc")
"""


def test_a_builder_may_return_parts() -> None:
    """Their layers that draw are replaced inside and outside of the network itself."""
    assert of_file(MY_NET + PARTS, "my_net.py:parts") == of_file().model_copy(update={"builder": "my_net.py:parts"})


def test_parts_name_a_last_layer_that_is_not_there() -> None:
    text = (MY_NET + PARTS).replace(', "fc")', ', "head.fc")')
    with refused(Code.UNUSABLE_NETWORK, "'head.fc'", kind=InvalidRequest, key="head.fc"):
        of_file(text, "my_net.py:parts")


@pytest.mark.parametrize(
    ("forward", "words"),
    [
        ("return self.fc(self.tail(self.blocks(self.stem(x)))) + 1", "in evaluation their logits differ by up to 1"),
        ("return self.fc(self.tail(self.blocks(self.stem(x).relu() * 1.5)))", "in evaluation their logits differ"),
        (
            "return self.fc(self.tail(self.blocks(self.stem(x) * (0.5 if self.training else 1))))",
            "in training their logits differ",
        ),
        ("return self.fc(self.tail(self.blocks(self.stem(x))))[:1]", "(1, 1000)"),
    ],
)
def test_parts_that_are_not_the_network(forward: str, words: str) -> None:
    refused_network(changed("return self.fc(self.tail(self.blocks(self.stem(x))))", forward), words)


NOISE = """

class Noise(nn.Module):
    def forward(self, x):
        import torch
        return x + torch.randn_like(x) if self.training else x
"""


def test_a_layer_that_draws_from_global_state_is_named() -> None:
    refused_network(changed("nn.Dropout(0.1)", "nn.Dropout(0.1), Noise()") + NOISE, "tail.3 (Noise)")


def test_a_network_that_draws_itself_is_said() -> None:
    text = changed("return self.fc(", "nn.functional.dropout(x, 0.5, self.training)\n        return self.fc(")
    refused_network(text, "the network (Net)")


def test_dropout_of_one_layer_in_two_places_is_replaced_in_both() -> None:
    text = changed(
        "self.tail = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Dropout(0.1))",
        "drop = nn.Dropout(0.1)\n"
        "        self.tail = nn.Sequential(drop, nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Sequential(drop))",
    )
    parts = built(BUILDER, 10, code=text)
    assert {type(module).__name__ for module in parts.model.modules()} & {"Dropout"} == set()
    assert of_file(text).features == 4


@pytest.mark.parametrize(
    ("text", "one", "other"),
    [
        (changed("block(), block(), block()", "*[block()] * 2, block()"), "block 1 of 3", "block 2 of 3"),
        (changed("def forward", "    self.tail[1].w = self.stem[0].weight\n\n    def forward"), "the stem", "the tail"),
    ],
)
def test_weights_in_two_parts(text: str, one: str, other: str) -> None:
    refused_network(text, one, other)


@pytest.mark.parametrize(
    ("pooling", "operation"),
    [("nn.AdaptiveAvgPool2d(2)", "_adaptive_avg_pool2d"), ("nn.AdaptiveMaxPool2d(2)", "adaptive_max_pool2d")],
)
def test_an_operation_without_a_deterministic_backward_pass(pooling: str, operation: str) -> None:
    text = changed("nn.AdaptiveAvgPool2d(1)", pooling).replace("nn.Linear(4,", "nn.Linear(16,")
    refused_network(text, operation, "tail.0", "deterministic")


def test_a_weight_that_is_in_no_part() -> None:
    text = changed(
        "self.fc = ", "self.scale = nn.Parameter(self.stem[0].weight[:1].detach().clone())\n        self.fc = "
    )
    refused_network(text, "scale is in none")


def test_weights_that_do_not_follow_from_the_seed() -> None:
    text = changed("return Net(labels)", "net = Net(labels)\n    net.fc.bias.data += COUNT.pop()\n    return net")
    refused_network(text + "\n\nCOUNT = list(range(9))\n", "fc.bias")


@pytest.mark.parametrize(
    ("builder", "size", "words"),
    [("torchvision:vit_b_16", 100, "(--image-size)"), ("torchvision:vgg11", 64, "2 x 2")],
)
def test_a_wrong_image_size(builder: str, size: int, words: str) -> None:
    with refused(
        Code.UNUSABLE_NETWORK, builder, f"{size} x {size}", words, "--image-size", kind=InvalidRequest, key="builder"
    ):
        describe("mine", builder, size)


def test_an_error_on_images_has_its_place_in_the_file() -> None:
    text = changed("        return self.fc(", "        x = {}[x.ndim]\n        return self.fc(")
    refused_network(text, "KeyError: 4", "my_net.py:13", "32 x 32")


def test_a_block_that_writes_into_its_input_is_refused() -> None:
    """The input may belong to another trial of the bundle, or to a file of activations."""
    text = changed("return nn.Sequential(nn.Conv2d(4", "return nn.Sequential(nn.ReLU(inplace=True), nn.Conv2d(4")
    refused_network(text, "block 1 of 3", "inplace=False")


@pytest.mark.parametrize(
    ("builder", "size", "words"),
    [
        ("torchvision:resnet50", 224, "published weights"),
        ("torchvision:vit_h_14", 224, "published weights"),
        ("torchvision:efficientnet_v2_s", 384, "published weights"),
        ("deltasweep:resnet35-w8", 32, "resnet35-w8"),
        (BUILDER, 224, "default"),
        ("torchvision:nothing", 224, "default"),
    ],
)
def test_the_size_that_a_network_is_made_for(builder: str, size: int, words: str) -> None:
    found, why = image_size_of(builder)
    assert found == size
    assert words in why


def test_the_size_that_timm_knows() -> None:
    assert image_size_of("timm:efficientnet_b3") == (288, "the size in timm's configuration")
    assert image_size_of("timm:vit_small_patch16_224")[0] == 224


def test_the_torchvision_sizes_are_those_of_weights_that_their_constructors_accept() -> None:
    """Every published size is a number, so that no name fails."""
    models = importlib.import_module("torchvision.models")
    for name in models.list_models(module=models):
        assert 32 <= image_size_of(f"torchvision:{name}")[0] <= 600, name


@pytest.mark.parametrize(
    ("update", "values"),
    [
        ({"builder": "torchvision:resnet34"}, ("16", "8")),
        ({"features": 256}, ("fc with 512 features", "fc with 256 features")),
        ({"builder": "torchvision:resnet19"}, ("torchvision:resnet19",)),
    ],
)
def test_a_card_that_is_not_of_its_network(update: dict[str, object], values: tuple[str, ...]) -> None:
    card = PACKAGED.architecture("resnet18").model_copy(update={"name": "mine", **update})
    with pytest.raises(DeltaSweepError) as caught:
        require_described(card)
    assert caught.value.code in (Code.UNUSABLE_NETWORK, Code.UNKNOWN_NAME)
    assert [value for value in values if value not in str(caught.value)] == []


def test_a_card_of_images_that_are_too_small_for_a_batch_of_one() -> None:
    """Before the trials start: the last block's activations have 1 x 1 pixels, and BatchNorm needs two values."""
    card = PACKAGED.architecture("resnet18").model_copy(update={"name": "mine", "image_size": 32})
    values = ("torchvision:resnet18", "one image", "32 x 32 pixels", "block 7 of 8")
    with refused(Code.UNUSABLE_NETWORK, *values, kind=InvalidRequest, key="builder"):
        require_described(card)
