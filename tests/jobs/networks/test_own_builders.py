"""Builder files: their code runs only if it is given, once per text, and its errors are one message with a place."""

from pathlib import Path

import pytest
import torch

from jobs.catalog.builder_files import MOST_BYTES, read_builders, sha256_of
from jobs.catalog.catalog import Cards, Catalog
from jobs.errors import Code, InvalidRequest
from jobs.networks.builders import build, built
from jobs.networks.describe import describe
from jobs.networks.network import Network
from tests.jobs.own_networks import BUILDER, MY_NET, NAME, changed
from tests.support import refused


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    """An own architecture, and its builder file as named by the user."""
    card = describe("mine", BUILDER, 32, MY_NET)
    return Catalog(Cards(architectures={"mine": card}), {NAME: MY_NET})


def test_a_card_alone_runs_no_code(catalog: Catalog) -> None:
    """The error names the option that would; so it is for a file of another name."""
    for builders in ({}, {"other.py": MY_NET}):
        known = Catalog(catalog.own, builders)
        with refused(Code.MISSING_KEY, f"--builder {NAME}", kind=InvalidRequest, file=NAME, key="--builder"):
            build(known.architecture("mine"), 10)


def test_a_card_is_built_by_the_file_that_was_given(catalog: Catalog) -> None:
    parts = build(catalog.architecture("mine"), 7, torch.Generator().manual_seed(1))
    again = build(catalog.architecture("mine"), 7, torch.Generator().manual_seed(1))
    other = build(catalog.architecture("mine"), 7, torch.Generator().manual_seed(2))
    assert parts.model.get_submodule("fc").weight.shape == (7, 4)
    drawn, same, different = (made.model.state_dict()["stem.0.weight"] for made in (parts, again, other))
    assert torch.equal(drawn, same)
    assert not torch.equal(drawn, different)


RESNET = """\
from torchvision.models.resnet import BasicBlock, ResNet


def build(labels):
    return ResNet(BasicBlock, [1, 1, 1, 1], num_classes=labels, zero_init_residual=True)
"""


def test_a_network_of_a_file_keeps_its_own_initialization() -> None:
    """Also if it is a ResNet of torchvision, whose packaged architectures are initialized layer by layer."""
    card = Catalog(Cards(architectures={"mine": describe("mine", BUILDER, 64, RESNET)}), {NAME: RESNET})
    parts = build(card.architecture("mine"), 7, torch.Generator().manual_seed(1))
    expected = built(BUILDER, 7, 1, RESNET).model.state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in parts.model.state_dict().items())
    assert not expected["layer1.0.bn2.weight"].any()


def test_a_file_that_changed_so_that_its_card_does_not_fit(catalog: Catalog) -> None:
    longer = {NAME: changed("block(), block(), block()", "block(), block(), block(), block()")}
    with refused(Code.UNUSABLE_NETWORK, "'mine'", BUILDER, "blocks.3", kind=InvalidRequest, key="mine"):
        build(Catalog(catalog.own, longer).architecture("mine"), 10)


def test_stored_activations_belong_to_one_text_of_the_file(catalog: Catalog) -> None:
    """Two files may build networks with the same tensors that compute different numbers."""
    other = MY_NET.replace("nn.BatchNorm2d(4), nn.ReLU())", "nn.BatchNorm2d(4), nn.GELU())")
    assert other != MY_NET
    mean, std = (0.5,) * 3, (0.25,) * 3
    one, two = (
        Network(build(Catalog(catalog.own, {NAME: text}).architecture("mine"), 10, torch.Generator()), mean, std)
        for text in (MY_NET, other)
    )
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert one.trunk_digest(1) != two.trunk_digest(1)


@pytest.mark.parametrize("package", ["timm", "torchvision"])
def test_stored_activations_belong_to_one_version_of_the_network_s_package(
    package: str, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its code, too, decides what tensors of one name compute."""
    mean, std = (0.5,) * 3, (0.25,) * 3
    found = []
    for version in ("1.0.0", "2.0.0"):
        monkeypatch.setattr("jobs.networks.builders.packages", lambda version=version: {package: version})
        network = Network(build(catalog.architecture("mine"), 10, torch.Generator()), mean, std)
        found.append(network.trunk_digest(1))
    assert found[0] != found[1]


def test_a_file_runs_once_per_text(tmp_path: Path) -> None:
    log = tmp_path / "ran"
    text = f"{MY_NET}\n\nwith open({str(log)!r}, 'a') as log:\n    log.write('.')\n"
    for _ in range(3):
        built(BUILDER, 10, code=text)
    assert log.read_text() == "."
    built(BUILDER, 10, code=text + "# changed\n")
    assert log.read_text() == ".."


def test_a_file_may_define_data_classes_and_has_no_package() -> None:
    """Data classes look up their module by its name."""
    text = MY_NET.replace(
        "from torch import nn\n",
        "from __future__ import annotations\nfrom dataclasses import dataclass\nfrom torch import nn\n\n\n"
        "@dataclass\nclass Widths:\n    first: int = 4\n\n\n"
        "assert __name__ != '__main__'\nassert Widths().first == 4\n",
    )
    assert len(built(BUILDER, 10, code=text).blocks) == 3


@pytest.mark.parametrize(
    ("text", "line", "values"),
    [
        (
            changed("return Net(labels)", "return Net(labels).blocks[7]"),
            21,
            ("build(1000)", "IndexError", f"{NAME}:21"),
        ),
        (changed("def build(labels):", "def build(labels:"), 20, ("SyntaxError", f"{NAME}:20")),
        (changed("return Net(labels)", "raise SystemExit(0)"), 21, ("SystemExit: 0", f"{NAME}:21")),
        (changed("from torch import nn", "from torch import nm"), 1, ("the file", "ImportError", f"{NAME}:1")),
        (
            changed("from torch import nn", "import my_other_net"),
            1,
            ("ModuleNotFoundError", f"{NAME}:1", "on every machine"),
        ),
        (
            changed("return Net(labels)", "raise ValueError('first line\\nsecond line')"),
            21,
            ("ValueError: first line (my_net.py:21)",),
        ),
        (
            changed("return Net(labels)", "import urllib.error\n    raise urllib.error.URLError('no route')"),
            22,
            ("no route", "fresh weights, without network access"),
        ),
        (
            changed(
                "return Net(labels)",
                "try:\n        raise ConnectionError('refused')\n"
                "    except OSError:\n        raise RuntimeError('hub') from None",
            ),
            24,
            ("RuntimeError: hub", "fresh weights, without network access"),
        ),
    ],
)
def test_errors_of_a_file_are_one_message_with_their_place(text: str, line: int, values: tuple[str, ...]) -> None:
    with refused(Code.UNUSABLE_NETWORK, NAME, *values, kind=InvalidRequest, file=NAME, line=line, key="builder"):
        built(BUILDER, 1000, code=text)
    with refused(Code.UNUSABLE_NETWORK, kind=InvalidRequest, file=NAME, line=line, key="builder"):
        built(BUILDER, 1000, code=text)


def test_a_function_that_is_not_in_the_file() -> None:
    for name in ("biuld", "nn"):
        with refused(Code.UNKNOWN_NAME, name, NAME, kind=InvalidRequest, file=NAME, key="builder"):
            built(f"{NAME}:{name}", 10, code=MY_NET)


@pytest.mark.parametrize(("value", "words"), [("None", "a NoneType"), ("Net", "a type"), ("[Net(labels)]", "a list")])
def test_a_function_that_returns_no_network(value: str, words: str) -> None:
    text = changed("return Net(labels)", f"return {value}")
    with refused(Code.UNUSABLE_NETWORK, "build(10)", words, kind=InvalidRequest, file=NAME, key="builder"):
        built(BUILDER, 10, code=text)


def test_files_are_read_by_name(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(MY_NET.encode())
    assert read_builders([tmp_path / NAME, tmp_path / NAME]) == {NAME: MY_NET}
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / NAME).write_text(MY_NET + "#")
    with refused(Code.REPEATED, NAME, kind=InvalidRequest, file=tmp_path / "other" / NAME, key="--builder"):
        read_builders([tmp_path / NAME, tmp_path / "other" / NAME])


@pytest.mark.parametrize(
    ("name", "content", "code"),
    [
        ("absent.py", None, Code.NO_SUCH_FILE),
        ("net.txt", b"", Code.WRONG_NAME),
        ("my net.py", b"", Code.WRONG_NAME),
        (".hidden.py", b"", Code.WRONG_NAME),
        ("latin.py", "# é".encode("latin-1"), Code.UNREADABLE_FILE),
        ("large.py", b"#" * (MOST_BYTES + 1), Code.UNREADABLE_FILE),
    ],
)
def test_files_that_are_no_builder_files(name: str, content: bytes | None, code: Code, tmp_path: Path) -> None:
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with refused(code, path, kind=InvalidRequest, file=path, key="--builder"):
        read_builders([path])


def test_a_folder_is_no_builder_file(tmp_path: Path) -> None:
    (tmp_path / "net.py").mkdir()
    with refused(Code.UNREADABLE_FILE, "a folder", kind=InvalidRequest, file=tmp_path / "net.py", key="--builder"):
        read_builders([tmp_path / "net.py"])


def test_the_digest_is_that_of_the_file(tmp_path: Path) -> None:
    """So that a user can compare it with sha256sum, whatever its line ends are."""
    (tmp_path / NAME).write_bytes(b"# one\r\n# two\n")
    assert (
        sha256_of(read_builders([tmp_path / NAME])[NAME])
        == "343b243239523a3ca2f978b08d6c1dcf093a83cf60928d49a63fa2d4bf78af5b"
    )
