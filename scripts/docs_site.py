"""Build the documentation site from the repository's Markdown, offline; broken internal links and anchors fail.

    python -m scripts.docs_site

The pages are README.md (the front page), CONTRIBUTING.md, CHANGELOG.md, and every Markdown file under docs/ and
examples/. They are copied to build/docs, where links between them are made relative to the site, and zensical
builds build/docs/site. A link to any other file of the repository becomes plain text there, since the site does not
contain that file.
"""

import json
import posixpath
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).parents[1]
STAGE = ROOT / "build" / "docs"
ROOT_PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "development/contributing.md", "CHANGELOG.md": "changelog.md"}
"""Pages outside docs/ and examples/: path in the repository, path in the site."""
SECTIONS = {
    "tutorial": "Tutorial",
    "how-to": "How-to guides",
    "reference": "Reference",
    "explanation": "Explanation",
    "examples": "Examples",
    "decisions": "Decisions",
    "development": "Development",
}
ORDER = (
    "index",
    # tutorial
    "first-sweep",
    "own-images",
    "cluster",
    # how-to
    "study-files",
    "optimizers",
    "run-and-resume",
    "notebooks",
    "estimate-cost",
    "share-a-gpu",
    "bundles",
    "datasets",
    "dataset-variants",
    "source-models",
    "own-weights",
    "own-networks",
    "train-sources",
    "results",
    "query-cookbook",
    "report",
    "secure-a-cluster",
    # reference
    "cli",
    "python",
    "study-keys",
    "packaged-studies",
    "architectures",
    "recipes",
    "schema",
    "errors",
    "exit-codes",
    "environment",
    "files",
    # explanation
    "statistics",
    "recipe",
    "architecture",
    "results-root",
    "device-kinds",
    "why",
    "attacks",
    "texture",
    "stylized-imagenet",
    "shape-bias",
    "adversaries",
    "influence",
    "influence-estimators",
    "normalisation",
    "feature-visualization",
    "fourier",
    "miniature",
    # development
    "contributing",
    "extending",
    "testing",
    "benchmarks",
    # the last pages of the site
    "troubleshooting",
    "glossary",
    "changelog",
)
"""Order within each section, by name; pages that are not listed follow in alphabetical order."""
_CODE_OR_LINK = re.compile(
    r"(```.*?```|~~~.*?~~~|`[^`\n]*`)|(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^()\s]+)\)", re.DOTALL
)

Nav = list[dict[str, "str | Nav"]]


def sources() -> dict[str, str]:
    """Return the path in the site of every file, by its path in the repository."""
    found = {name: page for name, page in ROOT_PAGES.items() if (ROOT / name).is_file()}
    for folder, prefix in (("docs", ""), ("examples", "examples/")):
        for path in sorted((ROOT / folder).rglob("*")):
            inside = path.relative_to(ROOT / folder)
            if path.is_file() and not any(part.startswith((".", "__")) for part in inside.parts):
                page = inside.with_name("index.md") if inside.name == "README.md" else inside
                found[path.relative_to(ROOT).as_posix()] = prefix + page.as_posix()
    return found


def rewritten(text: str, source: str, files: dict[str, str]) -> str:
    """Return a page's text with its links made relative to the site.

    Args:
        source: path of the page in the repository.
        files: as returned by `sources`.
    """

    def link(match: re.Match[str]) -> str:
        code, image, label, target = match.groups()
        if code is not None or re.match(r"[a-z]+:|#", target):
            return match[0]
        path, hash_, anchor = target.partition("#")
        wanted = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        page = files.get(wanted) or files.get(f"{wanted}/README.md")
        if page is None:
            return label if (ROOT / wanted).exists() else match[0]
        relative = posixpath.relpath(page, posixpath.dirname(files[source]) or ".")
        return f"{image}[{label}]({relative}{hash_}{anchor})"

    return _CODE_OR_LINK.sub(link, text)


def navigation(pages: list[str]) -> Nav:
    """Return the navigation: the front page, the sections with their pages, the other pages.

    Args:
        pages: paths in the site.
    """
    top = [page for page in pages if "/" not in page]
    first, *rest = sorted(top, key=_place)
    nav: Nav = [{"Overview": first}]
    known = sorted({page.partition("/")[0] for page in pages if "/" in page}, key=_section_place)
    nav += [{SECTIONS.get(name, name.capitalize()): _folder(name, pages)} for name in known]
    return nav + [{title(page): page} for page in rest]


def _folder(folder: str, pages: list[str]) -> Nav:
    inside = [page for page in pages if page.startswith(f"{folder}/")]
    children = sorted({"/".join(page.split("/")[: folder.count("/") + 2]) for page in inside}, key=_place)
    nav: Nav = []
    for child in children:
        if child in inside:
            nav.append({title(child): child})
        else:
            index = f"{child}/index.md"
            nav.append({title(index) if index in inside else PurePosixPath(child).name: _folder(child, pages)})
    return nav


def _place(page: str) -> tuple[int, str]:
    stem = PurePosixPath(page).stem
    return (ORDER.index(stem) if stem in ORDER else len(ORDER), stem)


def _section_place(name: str) -> tuple[int, str]:
    order = [*SECTIONS]
    return (order.index(name) if name in order else len(order), name)


def title(page: str) -> str:
    """Return a page's first heading. `page` is a path in the site."""
    by_page = {site: source for source, site in sources().items()}
    lines = (ROOT / by_page[page]).read_text(encoding="utf-8").splitlines()
    return next(line.removeprefix("# ") for line in lines if line.startswith("# ")).replace("`", "")


def linked(nav: Nav) -> Iterator[str]:
    """Yield every page of a navigation."""
    for entry in nav:
        for value in entry.values():
            if isinstance(value, str):
                yield value
            else:
                yield from linked(value)


def _toml(nav: Nav) -> str:
    entries = []
    for entry in nav:
        for name, value in entry.items():
            entries.append(
                f"{{ {json.dumps(name)} = {json.dumps(value) if isinstance(value, str) else _toml(value)} }}"
            )
    return f"[{', '.join(entries)}]"


def stage(folder: Path = STAGE) -> None:
    """Write the site's configuration and pages to a folder."""
    shutil.rmtree(folder, ignore_errors=True)
    files = sources()
    for source, page in files.items():
        target = folder / "pages" / page
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.endswith(".md"):
            target.write_text(rewritten((ROOT / source).read_text(encoding="utf-8"), source, files), encoding="utf-8")
        else:
            shutil.copyfile(ROOT / source, target)
    config = (ROOT / "zensical.toml").read_text(encoding="utf-8")
    nav = navigation([page for page in files.values() if page.endswith(".md")])
    head = f'[project]\ndocs_dir = "pages"\nsite_dir = "site"\nnav = {_toml(nav)}\n'
    (folder / "zensical.toml").write_text(config.replace("[project]\n", head, 1), encoding="utf-8")


def build(folder: Path = STAGE) -> Path:
    """Build the site from the files that `stage` wrote to a folder, and return the site's folder.

    Raises:
        BrokenSite: with the warnings, such as links to pages or headings that do not exist.
    """
    zensical = [str(Path(sys.executable).with_name("zensical")), "build", "--strict", "--clean"]
    done = subprocess.run(zensical, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BrokenSite(re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr).partition("Traceback (most rec")[0])
    return folder / "site"


class BrokenSite(Exception):
    """The site was not built; the message contains the warnings."""


def main() -> None:
    stage()
    try:
        site = build()
    except BrokenSite as error:
        sys.exit(f"{error}\nThe documentation site was not built: see the warnings above.")
    print(f"{len(list(site.rglob('*.html')))} pages: {site.relative_to(ROOT)}/index.html")


if __name__ == "__main__":
    main()
