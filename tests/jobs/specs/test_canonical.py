"""Canonical JSON: equal values give equal text, and values without a single form are refused."""

import hashlib
import math
from pathlib import Path
from types import MappingProxyType

import pytest

from jobs.specs.canonical import canonical_json, digest


def test_text_is_sorted_compact_and_ascii() -> None:
    value = {"b": [1, 2.5, None, True], "a": {"z": "é", "y": ()}}
    assert canonical_json(value) == '{"a":{"y":[],"z":"\\u00e9"},"b":[1,2.5,null,true]}'


def test_order_of_keys_does_not_matter() -> None:
    assert digest({"a": 1, "b": {"c": 2, "d": 3}}) == digest({"b": {"d": 3, "c": 2}, "a": 1})


def test_order_of_lists_matters() -> None:
    assert digest([1, 2]) != digest([2, 1])


def test_lists_and_tuples_are_one() -> None:
    assert canonical_json((1, (2,))) == canonical_json([1, [2]])


@pytest.mark.parametrize(("left", "right"), [(1, "1"), (1, True), (0, False), (0, None), ("", None), (0.1, "0.1")])
def test_values_of_different_types_differ(left: object, right: object) -> None:
    assert canonical_json(left) != canonical_json(right)


def test_floats_keep_every_bit() -> None:
    assert canonical_json(0.1 + 0.2) == "0.30000000000000004"
    assert canonical_json(0.1) != canonical_json(math.nextafter(0.1, 1))


def test_digest_is_sha256_of_the_text() -> None:
    assert digest({"a": 1}) == hashlib.sha256(b'{"a":1}').hexdigest()


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_numbers_that_json_cannot_say_are_refused_with_their_path(number: float) -> None:
    with pytest.raises(ValueError, match=rf"finite; \$\.recipe\[1\] is {number}"):
        canonical_json({"recipe": [1.0, number]})


@pytest.mark.parametrize("thing", [Path("x"), b"bytes", {1, 2}, object(), 1j])
def test_types_without_canonical_form_are_refused_with_their_path(thing: object) -> None:
    with pytest.raises(TypeError, match=rf"a canonical form; \$\.a\[0\]\.b is a {type(thing).__name__}\. Fix"):
        canonical_json({"a": [{"b": thing}]})


def test_keys_must_be_strings() -> None:
    with pytest.raises(TypeError, match=r"\$\.a has the key 1"):
        canonical_json({"a": {1: "x"}})


def test_any_mapping_is_checked() -> None:
    with pytest.raises(ValueError, match=r"\$\.a is nan"):
        canonical_json(MappingProxyType({"a": math.nan}))


def test_any_mapping_is_encoded() -> None:
    assert canonical_json({"a": MappingProxyType({"b": 1})}) == '{"a":{"b":1}}'
