"""What the site has beside this folder: the changelog, the notes on deploying, a list of the decisions, the order.

The pages stay as they are read in the repository: their links are made to fit the site here.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
#: Pages from outside of this folder, by their place in the site.
BESIDE = {"changelog.md": "CHANGELOG.md", "contributing.md": "CONTRIBUTING.md", "deploy.md": "deploy/README.md"}
SECTIONS = {
    "Tutorials": "tutorials", "How-to guides": "how-to", "Reference": "reference", "Explanation": "explanation",
    "Decisions": "decisions",
}  # fmt: skip
_DECISIONS = "decisions/index.md"
_LINK = re.compile(r"(\]\()([^)\s#]+)((?:#[^)\s]*)?\))")
_BLOCK = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """The order of the pages: by what somebody wants, and in it by name."""
    sections = [
        {title: [page.relative_to(ROOT / "docs").as_posix() for page in sorted((ROOT / "docs" / folder).glob("*.md"))]}
        for title, folder in SECTIONS.items()
    ]
    sections[-1]["Decisions"].insert(0, _DECISIONS)
    config.nav = ["README.md", *sections, *BESIDE]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for place, source in BESIDE.items():
        files.append(File.generated(config, place, content=(ROOT / source).read_text(encoding="utf-8")))
    decisions = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    listed = [f"- [{page.read_text('utf-8').splitlines()[0].removeprefix('# ')}]({page.name})" for page in decisions]
    files.append(File.generated(config, _DECISIONS, content="\n".join(["# Decisions", "", *listed, ""])))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Every link to a file of the repository, as a link of the site; code is left alone. What leads nowhere stays as it
    is, and the build fails on it."""
    place = page.file.src_uri
    folder = posixpath.dirname(BESIDE.get(place, f"docs/{place}"))

    def placed(link: re.Match[str]) -> str:
        if "://" in link[2]:
            return link[0]
        target = _in_site(posixpath.normpath(posixpath.join(folder, link[2])))
        here = posixpath.relpath(target, posixpath.dirname(place) or ".")
        return f"{link[1]}{here}{link[3]}"

    parts, at = [], 0
    for block in _BLOCK.finditer(markdown):
        parts += [_LINK.sub(placed, markdown[at : block.start()]), block[0]]
        at = block.end()
    return "".join([*parts, _LINK.sub(placed, markdown[at:])])


def _in_site(path: str) -> str:
    """Where a file of the repository is in the site."""
    for place, source in BESIDE.items():
        if path == source:
            return place
    if path == "docs/decisions":
        return _DECISIONS
    return path.removeprefix("docs/") if path.startswith("docs/") else path
