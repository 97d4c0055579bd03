"""Cards of architectures as YAML text, one line a part."""

from jobs.catalog.architecture_card import Architecture
from jobs.system import safe_yaml


def card_text(architecture: Architecture) -> str:
    """Return an architecture's card as a YAML file, without its name, which the file or the study gives it."""
    card = architecture.model_dump(mode="json", exclude={"name"})
    lines = [f"{key}: {_line(value)}" for key, value in card.items() if key != "blocks"]
    place = [line.partition(":")[0] for line in lines].index("tail")
    lines[place:place] = ["blocks:", *(f"- {_line(block)}" for block in card["blocks"])]
    return "\n".join(lines) + "\n"


def _line(value: object) -> str:
    return safe_yaml.dump(value, flow=True, width=1000).removesuffix("...\n").strip()
