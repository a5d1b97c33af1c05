"""The documentation, built: no Markdown is left as text, every page is found, links hold."""

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    str(path.relative_to(DOCS).with_suffix(""))
    for path in DOCS.rglob("*.md")
    if path.parent.name != "reference"
)


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.text: list[str] = []
        self.paragraphs: list[str] = []
        self.wordless: list[str] = []
        self.titles = self.blocks = self.in_code = self.in_paragraph = 0

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if "id" in found:
            self.ids.add(found["id"])
        if tag == "a" and found.get("href"):
            self.links.append(found["href"])
        if tag in {"script", "img", "iframe"} and found.get("src"):
            self.fetched.append(found["src"])
        if tag == "link" and {"stylesheet", "icon", "preconnect"} & set(found["rel"].split()):
            self.fetched.append(found["href"])
        if tag == "img" and len(found.get("alt", "").split()) < 3:
            self.wordless.append(found.get("src", ""))
        self.titles += tag == "h1"
        self.blocks += tag == "pre"
        if tag == "p":
            self.in_paragraph += 1
            self.paragraphs.append("")
        self.in_code += tag in {"pre", "code", "script", "style"}

    def handle_endtag(self, tag):
        self.in_code -= tag in {"pre", "code", "script", "style"}
        self.in_paragraph -= tag == "p"

    def handle_data(self, data):
        if self.in_paragraph:
            self.paragraphs[-1] += data
        if not self.in_code:
            self.text.append(data)


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", folder],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stdout + built.stderr
    pages = {}
    for path in folder.rglob("*.html"):
        pages[path] = _Page()
        pages[path].feed(path.read_text(encoding="utf-8"))
    return folder, pages


@pytest.mark.parametrize("name", PAGES)
def test_every_fence_of_the_source_is_a_block_of_the_page(site, name):
    folder, pages = site
    fences = re.findall(r"(?m)^\s*```", (DOCS / f"{name}.md").read_text(encoding="utf-8"))
    page = pages[folder / f"{name}.html"]
    assert page.blocks == len(fences) / 2
    assert "```" not in "".join(page.text)


def left_as_text(page: _Page) -> list[str]:
    """Return the places where Markdown shows instead of what it stands for."""
    listed = re.compile(r"(?m)^ *([-*]|\d+\.) \S")  # a list without an empty line before
    other = re.compile(r"```|\*\*\S|\]\(\S|\|\s*:?---|(?m:^#{1,6} \S)")
    text = "".join(page.text)
    return [p for p in page.paragraphs if listed.search(p)] + [
        text[max(0, m.start() - 30) : m.end() + 30] for m in other.finditer(text)
    ]


@pytest.mark.parametrize("name", PAGES)
def test_no_markdown_is_left_as_text(site, name):
    folder, pages = site
    assert left_as_text(pages[folder / f"{name}.html"]) == []


@pytest.mark.parametrize(
    "source",
    [
        "Words\n- a list\n- without an empty line",
        "```console\na fence that does not end",
        "Words\n| a | b |\n| --- | --- |\n| 1 | 2 |",
        "[a link](no end",
        "Words **that do not end",
    ],
)
def test_markdown_that_is_left_as_text_is_found(source):
    from markdown import markdown

    page = _Page()
    page.feed(markdown(source, extensions=["sane_lists", "tables", "pymdownx.superfences"]))
    assert left_as_text(page)


@pytest.mark.parametrize("name", PAGES)
def test_a_page_has_one_title_and_words_for_its_pictures(site, name):
    folder, pages = site
    page = pages[folder / f"{name}.html"]
    assert page.titles == 1
    assert page.wordless == []


def test_every_page_is_found_from_the_home_page(site):
    folder, pages = site
    home = folder / "index.html"
    linked = {(folder / unquote(urlsplit(link).path)).resolve() for link in pages[home].links}
    assert {p for p in pages if p.name != "404.html"} - linked <= {home}


def test_links_within_the_site_and_their_anchors_hold(site):
    folder, pages = site
    broken = []
    for path, page in pages.items():
        if path.name == "404.html":  # its links are those of a server's root
            continue
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            known = target in pages and (not parts.fragment or parts.fragment in pages[target].ids)
            if not known and not (target.is_file() and target.suffix != ".html"):
                broken.append(f"{path.relative_to(folder)}: {link}")
    assert not broken


def test_a_page_fetches_nothing_from_elsewhere(site):
    _, pages = site
    assert not [src for page in pages.values() for src in page.fetched if urlsplit(src).netloc]
