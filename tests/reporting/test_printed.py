import re
import xml.etree.ElementTree as ET
import zlib
from itertools import pairwise

import pytest
from PIL import ImageFont
from tests import synthetic_study as synthetic

from temshift.reporting import charts
from temshift.reporting.palette import BAND_COLOURS
from temshift.reporting.printed import WIDTHS_MM, printed_figures

SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(scope="module")
def figures(content):
    return printed_figures(content)


def words(source):
    return [t.text for t in ET.fromstring(source).iter(f"{SVG}text")]


def unpacked(pdf):
    return b"\n".join(
        zlib.decompress(found) if found[:1] == b"x" else found
        for found in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL)
    )


def test_every_study_has_a_matrix_and_a_forest_beside_the_overview(figures):
    assert list(figures) == [
        *("overview", "dose_matrix", "dose_forest", "material_matrix", "material_forest")
    ]
    for files in figures.values():
        assert list(files) == ["_85mm.svg", "_85mm.pdf", "_170mm.svg", "_170mm.pdf"]


@pytest.mark.parametrize("width_mm", WIDTHS_MM)
def test_both_formats_are_as_wide_as_their_name_says(figures, width_mm):
    for files in figures.values():
        root = ET.fromstring(files[f"_{width_mm}mm.svg"])
        assert root.get("width") == f"{width_mm}mm"
        _, _, width, height = map(float, root.get("viewBox").split())
        assert float(root.get("height")[:-2]) == pytest.approx(width_mm * height / width, abs=0.01)
        box = re.search(rb"/MediaBox \[ ?([^\]]+)\]", files[f"_{width_mm}mm.pdf"]).group(1)
        _, _, wide, high = map(float, box.split())
        assert wide == pytest.approx(width_mm * 72 / 25.4, abs=0.5)
        assert high == pytest.approx(wide * height / width, abs=0.5)


def test_drawings_say_what_the_page_says(figures, content):
    for study in content.plan.studies:
        page = ET.fromstring(charts.forest(content, study))
        told = [t.text for t in page.iter("text") if t.get("class") == "value"]
        assert told
        for width_mm in WIDTHS_MM:
            assert set(told) <= set(words(figures[f"{study}_forest"][f"_{width_mm}mm.svg"]))
            matrix = words(figures[f"{study}_matrix"][f"_{width_mm}mm.svg"])
            for row in charts.matrix_rows(content, study, content.protocol):
                assert row["label"] in matrix
                for cell in filter(None, row["cells"]):
                    assert f"{cell['dice']:.2f}" in matrix


def test_an_effect_is_seen_and_a_null_is_not(figures):
    null = synthetic.report_content(
        synthetic.results_table(dict.fromkeys(synthetic.DICE, 0.8)),
    )
    assert "breaks" in words(figures["dose_forest"]["_170mm.svg"])
    marks = [t.text for t in ET.fromstring(charts.forest(null, "dose")).iter("text")]
    assert "■" not in marks
    assert "●" in marks


def test_nothing_is_left_to_a_style_sheet(figures):
    for files in figures.values():
        root = ET.fromstring(files["_85mm.svg"])
        assert not [e for e in root.iter() if e.get("class") or e.get("style")]
        assert {e.tag for e in root.iter()} <= {
            SVG + tag for tag in ("svg", "title", "line", "rect", "text")
        }
        for element in root.iter(f"{SVG}text"):
            assert re.fullmatch(r"#[0-9a-f]{6}", element.get("fill")), element.attrib
            assert float(element.get("font-size")) * 0.75 >= 6  # pt


@pytest.mark.parametrize("width_mm", WIDTHS_MM)
def test_no_text_leaves_the_drawing_or_lies_on_another(figures, width_mm):
    for name, files in figures.items():
        root = ET.fromstring(files[f"_{width_mm}mm.svg"])
        width = float(root.get("viewBox").split()[2])
        rows = {}
        for text in root.iter(f"{SVG}text"):
            long = measured(text.text, float(text.get("font-size")), text.get("font-weight"))
            left = (
                float(text.get("x"))
                - long * {"start": 0, "middle": 0.5, "end": 1}[text.get("text-anchor")]
            )
            assert left >= -1, (name, text.text)
            assert left + long <= width + 1, (name, text.text)
            if len(text.text) > 1:  # marks may lie on each other
                rows.setdefault(text.get("y"), []).append((left, left + long, text.text))
        for row in rows.values():
            row.sort()
            for (_, end, one), (start, _, other) in pairwise(row):
                assert end <= start + 1, (name, one, other)


def measured(text, size, weight):
    from matplotlib import get_data_path

    face = "DejaVuSans-Bold" if weight == "bold" else "DejaVuSans"
    return ImageFont.truetype(f"{get_data_path()}/fonts/ttf/{face}.ttf", 100).getlength(text) * (
        size / 100
    )


def test_text_of_a_pdf_is_text_in_an_embedded_typeface(figures):
    for files in figures.values():
        inside = unpacked(files["_85mm.pdf"])
        assert b"/FontFile2" in files["_85mm.pdf"]
        assert b"/Type3" not in files["_85mm.pdf"]
        shown = len(re.findall(rb"\bT[jJ]\b", inside))
        drawn = [w for w in words(files["_85mm.svg"]) if w.strip()]
        assert shown >= len(drawn)
        maps = b"".join(re.findall(rb"begincmap.*?endcmap", inside, re.DOTALL)).upper()
        assert maps
        for mark in {c for w in drawn for c in w if ord(c) > 0xFF}:
            assert f"<{ord(mark):04X}>".encode() in maps, mark


def test_colours_of_the_bands_are_those_of_the_page():
    from importlib import resources

    css = (resources.files("temshift.reporting") / "report.css").read_text()
    light = css.split("@media")[0]
    found = [re.search(rf"--{v}-bg: (#\w+)", light)[1] for v in ("robust", "degrades", "breaks")]
    assert tuple(found) == BAND_COLOURS
