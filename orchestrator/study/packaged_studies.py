"""The packaged studies: names and texts. Imports nothing, because the shell's completion asks for the names."""

from importlib import resources

_FOLDER = resources.files("orchestrator").joinpath("study", "packaged")


def packaged_studies() -> list[str]:
    """Return the names of the packaged studies, sorted."""
    return sorted(file.name.removesuffix(".yaml") for file in _FOLDER.iterdir() if file.name.endswith(".yaml"))


def packaged_text(name: str) -> str | None:
    """Return the YAML text of a packaged study; None if there is none of this name."""
    return _FOLDER.joinpath(f"{name}.yaml").read_text(encoding="utf-8") if name in packaged_studies() else None
