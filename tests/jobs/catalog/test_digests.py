"""Digests that results roots record. The words that they hash are data: renaming a property must not change them."""

from jobs.catalog.catalog import PACKAGED, Catalog
from jobs.models.weights import load_source


def test_cards_of_own_sources_have_the_digest_that_released_versions_recorded() -> None:
    own = Catalog(PACKAGED.own.model_copy(update={"sources": {"mine": PACKAGED.source("fmnist_natural")}}))
    assert own.own_digests(["mine"], []) == [
        ("cards/sources", "mine", "9460118336010a6927bd58650e7018454552e04893e394f4ee5d8f1ab0aa3678")
    ]


def test_random_sources_have_the_digest_that_released_versions_recorded() -> None:
    recorded = "224a9765ffc336892a8d7afe3f3efe36ae7a271556ea9278afa5b2a70321169e"
    assert load_source(PACKAGED.source("random_init")).sha256 == recorded


def test_cards_of_own_datasets_have_the_digest_that_released_versions_recorded() -> None:
    own = Catalog(PACKAGED.own.model_copy(update={"datasets": {"mine": PACKAGED.dataset("digits")}}))
    assert own.own_digests([], ["mine"]) == [
        ("cards/datasets", "mine", "11a77ed02b21f5c8a19b091e70132bcc472136c59ff25caf18faf79e94477bc8")
    ]
