"""The pictures with which README and the home page begin, and the script that makes them."""

import io
import re
import textwrap
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests import synthetic_study as synthetic
from tests.scripts import load_script

ROOT = Path(__file__).parents[1]
PICTURES = ("overview.svg", "matrix.svg", "overlay.png")
PAGES = {"README.md": "docs/img/", "docs/index.md": "img/"}


@pytest.fixture(scope="module")
def script():
    return load_script("docs/pictures.py")


@pytest.fixture(scope="module")
def content():
    return synthetic.report_content()


@pytest.mark.parametrize("page", PAGES)
def test_pages_say_of_the_pictures_what_the_pictures_say_of_themselves(page, script):
    """Else make both again: python docs/pictures.py DATA."""
    text = (ROOT / page).read_text(encoding="utf-8")
    shown = {path: words for words, path in re.findall(r"!\[([^\]]*)\]\((\S+?)\)", text)}
    for name in PICTURES:
        alternative, caption = script.words_of(name, (ROOT / "docs/img" / name).read_bytes())
        assert len(alternative.split()) > 8
        assert shown[PAGES[page] + name] == alternative
        assert caption in " ".join(text.split())


def test_the_words_of_a_page_are_those_of_its_pictures(script, content):
    files = {**script.drawings(content), "overlay.png": script.overlay(content)}
    page = (ROOT / "README.md").read_text(encoding="utf-8")
    changed = script.with_words(page, files)
    assert changed != page
    assert script.with_words(changed, files) == changed
    for name, source in files.items():
        alternative, caption = script.words_of(name, source)
        assert f"![{alternative}](docs/img/{name})" in changed
        assert caption in " ".join(changed.split())
    # wherever its lines end: a caption that had broken before its last word was left as it was
    caption = script.words_of("overlay.png", files["overlay.png"])[1]
    for width in (20, 45, 300):
        lines = textwrap.fill(caption.replace("simulated", "real"), width)
        assert script.with_words(f"{lines}\n", files).split() == caption.split()
    # all else is as it was
    assert changed.partition("## Start")[2] == page.partition("## Start")[2]
    assert changed.partition("![")[0] == page.partition("![")[0]


def test_pictures_are_small(script):
    for name in PICTURES:
        assert 1000 < (ROOT / "docs/img" / name).stat().st_size <= script.MOST_BYTES


def test_drawings_show_the_study_with_the_largest_loss_on_white(script, content):
    drawn = script.drawings(content)
    matrix = ET.fromstring(drawn["matrix.svg"])
    words = [e.text for e in matrix.iter("{http://www.w3.org/2000/svg}text")]
    assert "884 e/Å²" in words  # the study of doses loses 0.38
    assert "Ag" not in words
    for source in drawn.values():
        ground = ET.fromstring(source)[0]
        assert ground.get("fill") == "#ffffff"
        width, height = ET.fromstring(source).get("viewBox").split()[2:]
        assert (ground.get("width"), ground.get("height")) == (width, height)


def test_the_overlay_shows_one_micrograph_twice(script, content):
    png = script.overlay(content)
    assert script.overlay(content) == png
    words, caption = script.words_of("overlay.png", png)
    sheet = np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))
    side = (sheet.shape[1] - script.GAP) // 2
    home, away = re.findall(r"trained (at [\d.]+ e/Å²)", words)
    assert home != away
    told = rf"{home} \(left, Dice of the whole micrograph 0\.\d\d\).*{away} \(right, 0\.\d\d\)"
    assert re.search(told, caption)
    assert (sheet[:, side : side + script.GAP] == 255).all()
    # beside the outlines both are the same picture
    same = (sheet[:, :side] == sheet[:, side + script.GAP :]).all(axis=2)
    assert 0.5 < same.mean() <= 1


def test_too_large_a_picture_replaces_none(script, content, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "IMAGES", tmp_path)
    monkeypatch.setattr(script, "PAGES", ())
    monkeypatch.setattr(script, "content_of", lambda data: content)
    monkeypatch.setattr(script, "MOST_BYTES", 10)
    with pytest.raises(SystemExit, match="more than 10"):
        script.main(tmp_path)
    assert not list(tmp_path.iterdir())
    monkeypatch.setattr(script, "MOST_BYTES", 1_000_000)
    script.main(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == set(PICTURES)


def test_a_folder_without_a_study_is_named(script, tmp_path):
    with pytest.raises(SystemExit, match=f"{tmp_path}: no finished study"):
        script.content_of(tmp_path)
