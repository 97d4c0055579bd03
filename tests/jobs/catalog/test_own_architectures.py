"""Own architectures in the catalogue: names, digests of what changes numbers, and nothing else that moves."""

import pytest

from jobs.catalog.architecture_card import Architecture
from jobs.catalog.builder_files import sha256_of
from jobs.catalog.catalog import PACKAGED, Cards, Catalog
from jobs.errors import Code, InvalidRequest
from tests.jobs.own_networks import BUILDER, MY_NET, NAME
from tests.support import refused

SOURCE = {
    "architecture": "mine",
    "trained_on": "digits",
    "constraint": "none",
    "epsilon": 0,
    "mean": [0.3, 0.3, 0.3],
    "std": [0.4, 0.4, 0.4],
    "random": True,
}


def own(**update: object) -> Architecture:
    return PACKAGED.architecture("resnet35-w8").model_copy(update={"name": "mine", **update})


def catalog(card: Architecture, builders: dict[str, str] | None = None) -> Catalog:
    cards = Cards.model_validate({"sources": {"drawn": SOURCE}, "architectures": {"mine": card.model_dump()}})
    return Catalog(cards, builders or {})


def test_own_architectures_are_known_besides_the_packaged_ones() -> None:
    known = catalog(own(image_size=48))
    assert known.architecture_of("drawn").image_size == known.image_size("drawn") == 48
    assert {*known.architectures} == {*PACKAGED.architectures, "mine"}
    assert len(known.architectures) == len(PACKAGED.architectures) + 1
    assert known.architecture("resnet50") == PACKAGED.architecture("resnet50")
    with refused(Code.UNKNOWN_NAME, "'theirs'", "mine", kind=InvalidRequest, key="architecture"):
        known.architecture("theirs")


def test_own_digests_are_those_of_the_architectures_of_sources_and_of_given_ones() -> None:
    known = catalog(own())
    of_source = dict(pin[1::-1] for pin in known.own_digests(["drawn"], []))
    assert of_source.keys() == {"drawn", "mine"}
    assert known.own_digests([], [], ["mine"]) == [pin for pin in known.own_digests(["drawn"], []) if pin[1] == "mine"]
    assert known.own_digests(["natural"], ["digits"], ["resnet50", "unknown"]) == []


def test_the_digest_of_an_own_architecture_is_recorded_in_roots() -> None:
    assert catalog(own()).own_digests([], [], ["mine"]) == [("cards/architectures", "mine", DIGEST)]


DIGEST = "c9aca2976f2a75686fb8c8518c548f6af6f5b425d67c66923599d49cb6b9ac60"


@pytest.mark.parametrize(
    "update",
    [
        {"builder": "deltasweep:other"},
        {"image_size": 33},
        {"features": 33},
        {"blocks": own().blocks[1:]},
        {"fc": own().fc.model_copy(update={"modules": "head.fc"})},
    ],
)
def test_what_changes_numbers_changes_the_digest(update: dict[str, object]) -> None:
    assert catalog(own(**update)).own_digests([], [], ["mine"])[0][2] != DIGEST


def test_costs_change_no_digest() -> None:
    costs = {"flops": 1, "kept": 2, "peak": 3, "output": 4, "parameters": 5, "input_gradient": 6}
    blocks = tuple(block.model_copy(update=costs) for block in own().blocks)
    card = own(blocks=blocks, fc=own().fc.model_copy(update=costs), stem=own().stem.model_copy(update=costs))
    assert catalog(card).own_digests([], [], ["mine"])[0][2] == DIGEST


def test_a_builder_file_that_was_named_is_pinned_by_its_name() -> None:
    card = own(builder=BUILDER)
    pins = catalog(card, {NAME: MY_NET, "other.py": ""}).own_digests(["drawn"], [], ["mine"])
    assert pins[-1] == ("cards/builders", NAME, sha256_of(MY_NET))
    assert len(pins) == len({*pins}) == 3
    assert [what for what, *_ in catalog(card).own_digests(["drawn"], [])] == ["cards/sources", "cards/architectures"]


def test_the_code_of_a_builder_file_is_in_no_dump() -> None:
    card = catalog(own(builder=BUILDER), {NAME: MY_NET}).architecture("mine")
    assert card.code == MY_NET
    assert "torch" not in card.model_dump_json()
    assert Architecture.model_validate(card.model_dump()).code is None


def test_cards_without_own_architectures_have_the_dump_that_they_had() -> None:
    assert Cards().model_dump() == {"sources": {}, "datasets": {}}
