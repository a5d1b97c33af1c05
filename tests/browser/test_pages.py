"""The pages in headless Chromium: on a desktop, on a phone, in the dark and on paper."""

import pytest
from tests import synthetic_study as synthetic
from tests.browser_checks import NEEDS_CHROMIUM, SCREENS, complaints_of, opened
from tests.reporting.test_micrographs_page import page as micrographs_page
from tests.reporting.test_micrographs_page import result

from temshift.reporting.html import render_report

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
