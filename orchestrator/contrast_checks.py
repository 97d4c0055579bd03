"""Rules of the contrasts that a study declares, checked on the raw values."""

from typing import Any

from jobs.errors import Code
from jobs.specs import Contrast
from orchestrator.raw_values import Found, items, repeated

_UNSAID = {name: field.default for name, field in Contrast.model_fields.items() if not field.is_required()}


def contrasts(raw: dict[str, Any]) -> Found:
    """Contrasts of sources, blocks and epochs that the study has, each in one family."""
    yield from _repeated_contrasts(raw)
    yield from _in_two_families(raw)
    sources = [name for _, name in items(raw, ("grid", "source"))]
    depths = [blocks for _, blocks in items(raw, ("grid", "blocks"))]
    rows = [row for _, row in items(raw, ("schedule",))]
    for location, contrast in items(raw, ("contrasts",)):
        if not isinstance(contrast, dict):
            continue
        for key in ("source", "baseline"):
            name = contrast.get(key)
            if isinstance(name, str) and name not in sources:
                yield (
                    (*location, key),
                    Code.UNKNOWN_NAME,
                    f"{name!r} is not a source of this study's grid ({', '.join(map(str, sources))})",
                )
        epoch = contrast.get("epoch", "last")
        if isinstance(epoch, int) and epoch >= 1 and not any(_evaluates(row, epoch) for row in rows):
            rules = "; ".join(dict.fromkeys(map(_evaluated, rows)))
            said = (
                f"expected an epoch after which a row of the schedule evaluates ({rules}); got {epoch}. "
                "Fix: name one of these, or change evaluate_every"
            )
            yield (*location, "epoch"), Code.IMPOSSIBLE_TRIAL, said
        yield from repeated([((*location, *place), item) for place, item in items(contrast, ("blocks",))])
        for (_, index), blocks in items(contrast, ("blocks",)):
            if blocks not in depths:
                said = f"{blocks} is not among this study's blocks ({depths})"
                yield (*location, "blocks", index), Code.IMPOSSIBLE_TRIAL, said
        depth = contrast.get("baseline_blocks")
        if depth is not None and depth not in depths:
            said = f"{depth} is not among this study's blocks ({depths})"
            yield (*location, "baseline_blocks"), Code.IMPOSSIBLE_TRIAL, said


def _repeated_contrasts(raw: dict[str, Any]) -> Found:
    """The same comparison twice would enlarge the family of Holm's correction."""
    seen: set[str] = set()
    for location, contrast in items(raw, ("contrasts",)):
        text = repr(_said(contrast))
        if text in seen:
            yield location, Code.REPEATED, "this contrast is there twice"
        seen.add(text)


def _said(contrast: Any) -> Any:
    """What a contrast says, however it is written: what is left out is the default, as a record of the study has it."""
    if not isinstance(contrast, dict):
        return contrast
    return sorted(({**_UNSAID, **contrast}).items(), key=str)


def _in_two_families(raw: dict[str, Any]) -> Found:
    """A cell has one corrected p-value: what one family compares, no other of the study does, not the other way round
    either, which is the same test.
    """
    rows = [row.get("epochs") for _, row in items(raw, ("schedule",)) if isinstance(row, dict)]
    lasts: set[int | str] = {epochs for epochs in rows if isinstance(epochs, int)}
    seen: dict[tuple[str, int | str], dict[str, object]] = {}
    for location, one in items(raw, ("contrasts",)):
        epoch = one.get("epoch", "last") if isinstance(one, dict) else None
        if not isinstance(epoch, int | str):
            continue
        name, others = str(one.get("family") or "the study's own"), {epoch}
        others |= lasts if epoch == "last" else {"last"} if epoch in lasts else set()
        met: dict[str, object] = {}
        for _, blocks in items(one, ("blocks",)):
            depth = one.get("baseline_blocks")
            arms = ((one.get("source"), blocks), (one.get("baseline"), blocks if depth is None else depth))
            told = repr(sorted(arms, key=repr))
            for other in others:
                met |= {family: at for family, at in seen.get((told, other), {}).items() if family != name}
            seen.setdefault((told, epoch), {}).setdefault(name, location[-1])
        for family, first in list(met.items())[:1]:
            said = (
                "expected each comparison in one family, since a cell has one corrected p-value; got one that "
                f"contrast {first} has in the family {family!r}, here in {name!r}. Fix: leave it out of one"
            )
            yield location, Code.REPEATED, said


def _rhythm(row: Any) -> tuple[int, int] | None:
    """Epochs and ``evaluate_every`` of a schedule row; None where it has mistakes of its own."""
    epochs, every = (row.get(key) if isinstance(row, dict) else None for key in ("epochs", "evaluate_every"))
    return (epochs, every) if isinstance(epochs, int) and isinstance(every, int) and every >= 1 else None


def _evaluates(row: Any, epoch: int) -> bool:
    """Whether a schedule row evaluates after an epoch; a row with mistakes of its own is given the benefit."""
    rhythm = _rhythm(row)
    if rhythm is None:
        return True
    epochs, every = rhythm
    return epoch == epochs or (1 <= epoch < epochs and (epoch - 1) % every == 0)


def _evaluated(row: Any) -> str:
    """The epochs after which a schedule row evaluates, in words."""
    epochs, every = _rhythm(row) or (1, 1)
    first = [*range(1, epochs, every)]
    shown = [*map(str, first[:3]), *(["..."] if len(first) > 3 else []), str(epochs)]
    return f"images {', '.join(str(images) for _, images in items(row, ('images',)))}: {', '.join(shown)}"
