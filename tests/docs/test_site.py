"""The documentation as a site: every link and anchor leads somewhere, and nothing is loaded from elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from support.pages import DOCS, ROOT

pytestmark = pytest.mark.slow


def build(root: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """What `make docs` runs. Not `--quiet`: what is not logged does not count as a warning."""
    command = [str(Path(sys.executable).with_name("mkdocs")), "build", "--strict", "--site-dir", str(site)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, timeout=120)


class Html(HTMLParser):
    """The links, the anchors, and what is loaded with the page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = {name: value or "" for name, value in attrs}
        self.anchors |= {found[name] for name in ("id", "name") if found.get(name)}
        if tag == "a" and "href" in found:
            self.links.append(found["href"])
        if tag in ("script", "img", "iframe", "source") and "src" in found:
            self.loaded.append(found["src"])
        if tag == "link" and found.get("rel") in ("stylesheet", "icon", "preconnect", "preload"):
            self.loaded.append(found["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    built = build(ROOT, folder)
    assert built.returncode == 0, built.stdout + built.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Html]:
    found = {path: Html(path.read_text("utf-8")) for path in site.rglob("*.html") if path.name != "404.html"}
    assert len(found) > len(list(DOCS.rglob("*.md")))
    return found


def test_every_link_leads_somewhere(site: Path, pages: dict[Path, Html]) -> None:
    for page, html in pages.items():
        assert len(html.links) > 10
        for link in html.links:
            parts = urlsplit(link)
            if parts.scheme:
                continue
            target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
            target = target / "index.html" if target.is_dir() else target
            assert target.is_relative_to(site), (page, link)
            assert target.is_file(), (page, link)
            if parts.fragment and target.suffix == ".html":
                assert unquote(parts.fragment) in pages[target].anchors, (page, link)


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, Html]) -> None:
    for page, html in pages.items():
        for source in html.loaded:
            assert not urlsplit(source).netloc, (page, source)
            assert (page.parent / urlsplit(source).path).resolve().is_relative_to(site)


def test_every_page_is_there_and_no_program(site: Path) -> None:
    for source in DOCS.rglob("*.md"):
        name = "index.html" if source == DOCS / "README.md" else source.relative_to(DOCS).with_suffix(".html")
        assert (site / name).is_file(), source
    assert not list(site.rglob("*.py"))
    assert {"changelog.html", "contributing.html", "deploy.html"} <= {path.name for path in site.iterdir()}


BROKEN = ["one.md", "../../two.md", "cli.md#three", "#four", "../five/", "/docs/reference/six.md"]


def test_a_broken_link_fails_the_build(tmp_path: Path) -> None:
    for name in ("docs", "deploy"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("mkdocs.yml", "CHANGELOG.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / name, tmp_path / name)
    with (tmp_path / "docs" / "reference" / "where.md").open("a", encoding="utf-8") as page:
        page.writelines(f"\n[a link]({link})\n" for link in BROKEN)
    built = build(tmp_path, tmp_path / "site")
    assert built.returncode != 0
    said = [line for line in built.stderr.splitlines() if line.startswith("WARNING")]
    assert len(said) == len(BROKEN), built.stderr
    for word in ("one.md", "two.md", "#three", "#four", "five", "six.md"):
        assert any(word in line for line in said), word
