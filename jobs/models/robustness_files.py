"""What the ``robustness`` library saves beside a network: its normalizer, and an attacker with copies of both."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jobs.catalog.source_card import SourceCard
from jobs.errors import Code, DamagedFile
from jobs.models.checkpoint_files import some

_NORMALISER_TOLERANCE = 1e-6  # float32 rounding of a mean or std


def require_robustness(state: dict[str, Tensor], card: SourceCard, path: Path) -> None:
    """Require an ``AttackerModel`` of the robustness library: normalizer, network, and an attacker with copies of both.

    Raises:
        DamagedFile: if the normalizer is not the card's, or the attacker has another network or normalizer.
    """
    model = under("model.", state)
    attacker = under("attacker.", state)
    normalizer = under("normalizer.", state)
    if other := [key for key in state if not key.startswith(("model.", "normalizer.", "attacker."))]:
        raise DamagedFile(
            Code.DAMAGED_WEIGHTS,
            f"{path} has tensors that the robustness library does not save: {some(other)}",
            file=path,
            key=other[0],
        )
    _require_normalizer(normalizer, card, path, f"{path}")
    if attacker:
        _require_normalizer(under("normalize.", attacker), card, path, f"the attacker in {path}")
        copy = under("model.", attacker)
        differing = [key for key in model.keys() | copy.keys() if not _equal(model.get(key), copy.get(key))]
        if differing:
            raise DamagedFile(
                Code.DAMAGED_WEIGHTS,
                f"{path}: the attacker's copy of the network differs from the network in {some(sorted(differing))}; "
                "the robustness library does not save such files. Fix: get it again",
                file=path,
            )


def _require_normalizer(found: dict[str, Tensor], card: SourceCard, path: Path, what: str) -> None:
    if set(found) != {"new_mean", "new_std"}:
        raise DamagedFile(
            Code.DAMAGED_WEIGHTS,
            f"{what} has no complete normalizer: expected new_mean and new_std; got {some(found)}",
            file=path,
        )
    for key, expected in (("new_mean", card.mean), ("new_std", card.std)):
        tensor = found[key]
        values = tensor.flatten().tolist() if tensor.numel() == len(expected) else [f"of shape {tuple(tensor.shape)}"]
        wanted = torch.tensor(expected).to(tensor.dtype).tolist()  # rounded like the file's values
        if len(values) != len(wanted) or any(
            not abs(value - there) <= _NORMALISER_TOLERANCE for value, there in zip(values, wanted, strict=True)
        ):
            raise DamagedFile(
                Code.DAMAGED_WEIGHTS,
                f"{what} has other normalization statistics than {card.name!r}: {key} is "
                f"{_rounded(values)}; expected {list(expected)}, as in its card. It is another source",
                file=path,
                key=key,
            )


def _rounded(values: list[Any]) -> list[Any]:
    return [round(value, 6) if isinstance(value, float) else value for value in values]


def _equal(one: Tensor | None, other: Tensor | None) -> bool:
    return one is not None and other is not None and torch.equal(one, other)


def under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names have a prefix, without it."""
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
