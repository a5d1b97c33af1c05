"""What a page holds in a browser: no error, no request, no overflow, nothing axe finds."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

pytest.importorskip("playwright", reason="needs the extra dev (playwright)")
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
NEEDS_CHROMIUM = pytest.mark.skipif(
    not CHROMIUM, reason="needs Chromium (apt-get install chromium)"
)
SCREENS = {
    "desktop": {"viewport": {"width": 1280, "height": 900}},
    "phone": {"viewport": {"width": 400, "height": 800}},
    "dark": {"viewport": {"width": 1280, "height": 900}, "color_scheme": "dark"},
    "print": {"viewport": {"width": 800, "height": 1100}},
}


@contextmanager
def opened(path: Path, screen: str) -> Iterator[tuple[Page, list[str]]]:
    """Open a file on one of the screens; the list collects what the page should not do."""
    complaints: list[str] = []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"]
        )
        try:
            page = browser.new_context(**SCREENS[screen]).new_page()
            page.on("pageerror", lambda error: complaints.append(f"error: {error}"))
            page.on(
                "console",
                lambda m: complaints.append(m.text) if m.type in ("error", "warning") else None,
            )
            page.on(
                "request",
                lambda r: (
                    None
                    if r.url == path.as_uri() or r.url.startswith(("data:", "blob:"))
                    else complaints.append(f"request: {r.url}")
                ),
            )
            if screen == "print":
                page.emulate_media(media="print")
            page.goto(path.as_uri(), wait_until="load")
            yield page, complaints
        finally:
            browser.close()


def overflow_px(page: Page) -> int:
    """Return by how many pixels the page is wider than its window."""
    return page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )


def violations(page: Page) -> list[str]:
    """Return what axe finds, one line a rule, with the first element."""
    found = Axe().run(page).response["violations"]
    return [f"{v['id']} ({len(v['nodes'])}): {v['nodes'][0]['html'][:160]}" for v in found]


def complaints_of(path: Path, screen: str, axe: bool = True) -> list[str]:
    """Return all that is wrong with a page on a screen; print is not for axe."""
    with opened(path, screen) as (page, complaints):
        wide = overflow_px(page)
        if wide > 0:
            complaints.append(f"overflow: {wide} px")
        if axe and screen != "print":
            complaints.extend(violations(page))
    return complaints
