"""The pages in headless Chromium: on a desktop, on a phone, in the dark and on paper."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from tests import synthetic_study as synthetic
from tests.browser_checks import NEEDS_CHROMIUM, SCREENS, complaints_of, opened, violations
from tests.reporting.test_micrographs_page import page as micrographs_page
from tests.reporting.test_micrographs_page import result

from temshift.reporting.html import render_report
from temshift.reporting.pictures import contour_path

pytestmark = [NEEDS_CHROMIUM, pytest.mark.slow]


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pages")
    many = [result(f"day {i // 50}/grid-{i:03d}.dm4") for i in range(200)]
    texts = {
        "report": render_report(synthetic.report_content()),
        "one micrograph": micrographs_page(result("a.tif")),
        "200 micrographs": micrographs_page(*many),
    }
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in texts}


@pytest.mark.parametrize("screen", SCREENS)
def test_the_report_is_whole_and_accessible(pages, screen):
    assert complaints_of(pages["report"], screen) == []


@pytest.mark.parametrize("screen", SCREENS)
def test_the_page_of_a_micrograph_is_whole_and_accessible(pages, screen):
    assert complaints_of(pages["one micrograph"], screen) == []


@pytest.mark.parametrize("screen", ["desktop", "phone"])
def test_the_page_of_200_micrographs_makes_no_error_no_request_and_no_overflow(pages, screen):
    assert complaints_of(pages["200 micrographs"], screen, axe=False) == []


FAULTS = {
    "error": "<script>throw new Error('broken')</script>",
    "request": "<img alt='x' src='missing.png'>",
    "overflow": "<div style='width:3000px'>wide</div>",
    "image-alt": "<img src='data:image/gif;base64,R0lGODlhAQABAAAAACw='>",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_page_is_found_out(tmp_path, fault):
    file = tmp_path / "page.html"
    file.write_text(
        f"<!doctype html><html lang='en'><title>x</title><main><h1>x</h1>{FAULTS[fault]}</main>"
    )
    assert any(c.startswith(fault) for c in complaints_of(file, "desktop"))


def test_every_disclosure_opens_by_keyboard(pages):
    with opened(pages["report"], "desktop") as (page, complaints):
        summaries = page.locator("details:not([open]) > summary:visible").all()
        assert summaries
        for summary in page.locator("details > summary").all():
            if summary.is_visible():
                before = summary.evaluate("s => s.parentElement.open")
                summary.focus()
                page.keyboard.press("Enter")
                assert summary.evaluate("s => s.parentElement.open") != before
                if before:
                    page.keyboard.press("Enter")
        assert complaints == []


@pytest.mark.parametrize("screen", ["desktop", "phone"])
def test_every_cell_opens_its_panel_and_its_pictures_by_keyboard(pages, screen):
    with opened(pages["report"], screen) as (page, complaints):
        cells = page.locator("table.matrix td button").all()
        assert len(cells) == 16
        for cell in cells[:3]:
            cell.focus()
            page.keyboard.press("Enter")
            panel = page.locator(".panel:popover-open")
            assert panel.get_attribute("id") == cell.get_attribute("popovertarget")
            assert page.evaluate("document.activeElement.className") == "close"
            inside = panel.evaluate("p => p.scrollWidth - p.clientWidth")
            assert inside <= 0, "the panel is not wider than its window"
            picture = panel.locator(".enlarge").first
            small = panel.locator(".view").first.bounding_box()
            picture.focus()
            page.keyboard.press("Enter")
            large = page.locator(".view:popover-open").bounding_box()
            assert large["width"] >= small["width"]
            page.keyboard.press("Escape")
            page.keyboard.press("Escape")
            assert page.locator(":popover-open").count() == 0
            assert page.evaluate("document.activeElement.parentElement.tagName") == "TD"
        assert complaints == []


def test_an_open_cell_has_nothing_that_axe_finds(pages):
    for screen in ("desktop", "dark", "phone"):
        with opened(pages["report"], screen) as (page, _):
            page.locator("table.matrix td:not(.own) button").first.click()
            assert violations(page) == []


def test_contents_are_collapsed_on_a_phone_and_open_on_a_desktop(pages):
    for screen, seen in (("desktop", True), ("phone", False)):
        with opened(pages["report"], screen) as (page, _):
            assert page.locator("nav a").first.is_visible() == seen
            assert page.locator("nav summary").is_visible() != seen


def test_a_browser_draws_contours_around_the_particles(tmp_path):
    """Two discs, as the browser reads the path: inside of them, outside, and how far they reach."""
    y, x = np.mgrid[:64, :64] + 0.5
    discs = (np.hypot(x - 20, y - 20) < 8) | (np.hypot(x - 44, y - 48) < 10)
    path = contour_path(discs.astype(np.uint8))
    file = tmp_path / "page.html"
    file.write_text(f"<!doctype html><svg viewBox='0 0 64 64'><path d='{path}'/></svg>")
    with opened(file, "desktop") as (page, _):
        inside = page.locator("path").evaluate(
            "(p, at) => at.map(([x, y]) => p.isPointInFill(new DOMPoint(x, y)))",
            [[20, 20], [44, 48], [2, 2], [32, 33], [62, 62]],
        )
        assert inside == [True, True, False, False, False]
        box = page.locator("path").evaluate("p => {const b = p.getBBox(); return [b.x, b.y]}")
        assert np.allclose(box, 12, atol=1)


def test_charts_of_losses_are_readable_on_a_phone(pages):
    with opened(pages["report"], "phone") as (page, _):
        sizes = page.locator("figure.forest svg:visible text").evaluate_all(
            "texts => texts.map(t => t.getBoundingClientRect().height)"
        )
        assert len(sizes) > 10
        assert min(sizes) > 11  # px, of a line


def test_paper_shows_what_is_folded_on_the_screen(pages):
    with opened(pages["report"], "print") as (page, _):
        details = page.locator("main details > pre")
        assert details.count() > 0
        assert all(element.is_visible() for element in details.all())
        assert page.locator(".panel:visible").count() == 0


def test_a_table_that_scrolls_shows_on_which_side_there_is_more(pages):
    def edges(table):
        with Image.open(BytesIO(table.screenshot())) as shot:
            grey = np.asarray(shot.convert("L"), dtype=float)
        empty = grey[-4:-1]  # below the last row
        return empty[:, 1:4].mean() < 250, empty[:, -4:-1].mean() < 250

    with opened(pages["report"], "phone") as (page, _):
        found = 0
        for table in page.locator(".scroll:visible").all():
            wide = table.evaluate("e => e.scrollWidth - e.clientWidth")
            table.evaluate("e => { e.style.paddingBottom = '8px'; e.scrollLeft = 0; }")
            if wide == 0:
                assert edges(table) == (False, False)
            if wide < 60:  # the shadow of an end fades out
                continue
            found += 1
            assert edges(table) == (False, True)
            table.evaluate("e => { e.scrollLeft = e.scrollWidth; }")
            assert edges(table) == (True, False)
        assert found
