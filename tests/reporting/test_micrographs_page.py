"""The page of new micrographs: honest words, escaped names, particles that can be clicked."""

import io
import re
import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.learning.test_segmentation import field, network_set

from temshift.config.deployment import DeploymentParameters
from temshift.config.trust import TrustParameters
from temshift.learning.segmentation import segment
from temshift.microscopy.outlines import particle_outlines
from temshift.reporting.micrographs import histogram, render_micrographs
from temshift.study.sizes import RANKING_COLUMNS, SIZE_COLUMNS, ranking_table, sizes_table

RESULT = segment(field(), {"a": network_set(folds=3)}, pixel_size_nm=0.1)


def result(path, verdict="trust", dice=0.9, **changes):
    return {
        "path": path,
        "failed": None,
        "height_px": 150,
        "width_px": 131,
        "pixel_size_nm": 0.1,
        "network": "a",
        "fold_agreement": 0.97,
        "sizes": RESULT.sizes,
        "fold_means": RESULT.fold_means,
        "n_specks": RESULT.n_specks,
        "judgement": {
            "verdict": verdict,
            "predicted_dice": dice,
            "low": None if dice is None else dice - 0.1,
            "high": dice,
            "novelty": 0.5,
            "reasons": "first; second",
        },
        "networks": [{"network": "a", "distance": 0.1, "predicted_dice": dice, "verdict": verdict}],
        "notes": [],
        **changes,
    }


def page(*results):
    names = [r["path"] for r in results if not r["failed"]]
    tables = [RESULT.particles.assign(micrograph=name) for name in names]
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((15, 13), np.uint8)).save(buffer, "WEBP")
    return render_micrographs(
        results,
        pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(),
        lambda path: buffer.getvalue(),
        lambda path: particle_outlines(RESULT.numbered),
        DeploymentParameters(),
        TrustParameters(),
    )


def test_the_worst_comes_first_and_failures_have_their_reason():
    text = page(
        result("good.tif"),
        result("bad.tif", "do not trust", 0.3),
        result("unsure.tif", "check", 0.7),
        {"path": "broken.tif", "failed": "it is truncated"},
    )
    order = re.findall(r"<h3>(\w+)\.tif</h3>", text)
    assert order == ["bad", "unsure", "good"]
    assert "it is truncated" in text
    assert "4 files" in text
    assert "Sizes in the 1 mask to be trusted" in text


def test_names_are_escaped_and_nothing_is_fetched_or_run():
    text = page(result('<script>alert("x")</script>&.tif'), result("b.tif"))
    assert text.count("<script") == 1
    assert "alert" not in text[text.rindex("<script") :]
    assert "default-src 'none'" in text
    assert "&lt;script&gt;" in text
    assert not re.search(r'(?:src|href)="(?!#|data:)', text)


def test_a_pixel_size_is_not_advised_for_files_that_have_one():
    in_px = {**RESULT.sizes, "unit": "px"}
    unknown = result("a.tif", pixel_size_nm=None, sizes=in_px)
    text = page(unknown, result("b.tif"))
    assert "The pixel size of 1 of 2 micrographs is unknown" in text
    assert "put these files into a folder of their own" in text
    assert "put these files" not in page(unknown)


def test_what_is_not_judged_and_has_no_pixel_size_says_so_at_the_top():
    in_px = {**RESULT.sizes, "unit": "px"}
    text = page(result("a.tif", "not judged", None, pixel_size_nm=None, sizes=in_px))
    assert text.index("The pixel size is unknown") < text.index("<h2>Summary")
    assert text.index("No mask is judged") < text.index("<h2>Summary")
    assert "predicted Dice 0" not in text
    assert "The pixel size is unknown" not in page(result("a.tif"))
    assert "No mask is judged" not in page(result("a.tif"))


def test_sizes_in_nm_and_in_px_are_not_put_together():
    text = page(result("a.tif"), result("b.tif", sizes={**RESULT.sizes, "unit": "px"}))
    assert "they are not put together" in text
    assert "Sizes in all" not in text
    in_px = {"sizes": {**RESULT.sizes, "unit": "px"}, "pixel_size_nm": None}
    text = page(result("a.tif"), result("b.tif"), *(result(f"{n}.tif", **in_px) for n in "cde"))
    assert "Sizes in all 2 micrographs with a pixel size" in text
    assert "Sizes in all 3 micrographs without a pixel size" in text
    assert "Sizes in all 5" not in text


def test_a_page_without_a_mask():
    text = page({"path": "broken.tif", "failed": "it is truncated"})
    assert "No file could be segmented" in text


def test_a_histogram_counts_every_particle():
    values = np.linspace(3, 7, 40)
    drawn = histogram(values, np.ones(40), "nm", 5.0)
    notes = [float(n) for n in re.findall(r": ([\d.]+)</title></rect>", drawn)]
    assert sum(notes) == 40
    assert "mean 5 nm" in drawn
    assert histogram(np.array([4.0]), np.ones(1), "px").count("<rect") >= 1


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0.05, 500), min_size=1, max_size=60))
def test_a_histogram_holds_every_particle_and_not_much_more(values):
    values = np.array(values)
    drawn = histogram(values, np.ones(len(values)), "nm")
    bars = re.findall(r"<title>([\d.e+-]+) to ([\d.e+-]+) nm: ([\d.e+-]+)</title>", drawn)
    low, high, counts = np.array(bars, float).T
    assert counts.sum() == len(values)
    beside = max(values.max() - values.min(), 0.1 * values.max()) / 2 * 1.01
    middle, bar = (values.max() + values.min()) / 2, (high - low).max()
    assert low[0] >= middle - beside - bar
    assert high[-1] <= middle + beside + bar


def test_the_table_of_sizes_has_a_row_a_file():
    table = sizes_table([result("a.tif"), {"path": "b.tif", "failed": "why"}])
    assert list(table) == list(SIZE_COLUMNS)
    assert list(table["verdict"]) == ["trust", "failed"]
    assert table["reasons"][1] == "why"
    assert table["mean"][0] == RESULT.sizes["mean"]


def test_as_many_particles_can_be_clicked_as_a_page_can_hold():
    few = page(*(result(f"m{i}.tif") for i in range(2)))
    assert len(re.findall(r'<tr id="m\d+-r', few)) == 2 * len(RESULT.particles)
    assert len(re.findall(r'<a href="#m\d+-r\d+" id="m\d+-o', few)) == 2 * len(RESULT.particles)
    many = pd.concat([RESULT.particles] * 300, ignore_index=True)
    many = many.assign(micrograph="a.tif", particle=range(1, 601), area_px2=range(600))
    text = render_micrographs(
        [result("a.tif")],
        many,
        lambda path: b"",
        lambda path: {600: "M0 0L1 1Z"},
        DeploymentParameters(),
        TrustParameters(),
    )
    assert "The 500 largest of 600 particles" in text
    assert 'id="m0-r101"' in text
    assert 'id="m0-r100"' not in text
    assert 'id="m0-o600"' in text


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("there is no Chromium on this machine")
    with playwright.sync_playwright() as p:
        started = p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield started
        started.close()


def opened(browser, file, **options):
    tab = browser.new_context(**options).new_page()
    tab.set_default_timeout(120_000)  # on a busy machine
    tab.wrong = []
    tab.on("pageerror", lambda error: tab.wrong.append(str(error)))
    tab.on("console", lambda message: tab.wrong.append(message.text))
    tab.on(
        "request", lambda r: None if r.url.startswith(("file:", "data:")) else tab.wrong.append(r)
    )
    tab.goto(file.as_uri())
    return tab


def until(tab, true):
    """Wait without evaluating a string in the page, which its content policy forbids."""
    for _ in range(600):
        if true():
            return
        tab.wait_for_timeout(50)
    raise AssertionError("it never came true")


@pytest.mark.slow
@pytest.mark.parametrize(("count", "width"), [(1, 400), (200, 1280)])
def test_particles_are_found_both_ways_by_mouse_and_by_keyboard(browser, tmp_path, count, width):
    file = tmp_path / "page.html"
    file.write_text(page(*(result(f"m{i}.tif") for i in range(count))), encoding="utf-8")
    tab = opened(browser, file, viewport={"width": width, "height": 900})

    def picked():
        return set(tab.eval_on_selector_all(".picked", "found => found.map(e => e.id)"))

    def focused():
        return tab.evaluate("(document.activeElement.closest('[id]') || {}).id")

    assert picked() == set()
    tab.locator("#m0-o2 path").click()
    until(tab, lambda: focused() == "m0-r2")
    assert picked() == {"m0-r2", "m0-o2"}
    assert focused() == "m0-r2"
    tab.keyboard.press("Enter")  # the link of the row, back to the picture
    until(tab, lambda: focused() == "m0-o2")
    tab.keyboard.press("ArrowRight")
    until(tab, lambda: focused() == "m0-o1")
    until(tab, lambda: picked() == {"m0-r1", "m0-o1"})
    tab.keyboard.press("Enter")
    until(tab, lambda: focused() == "m0-r1")
    assert tab.evaluate("document.documentElement.scrollWidth") <= width
    assert tab.wrong == []


@pytest.mark.slow
def test_without_scripts_particles_are_links(browser, tmp_path):
    file = tmp_path / "page.html"
    file.write_text(page(result("m.tif")), encoding="utf-8")
    tab = opened(browser, file, java_script_enabled=False, color_scheme="dark")
    tab.locator("#m0-o2 path").click()
    assert tab.url.endswith("#m0-r2")
    picture = np.asarray(Image.open(io.BytesIO(tab.screenshot())).convert("L"), float)
    assert picture.std() > 10, "the page is blank"
    assert picture.mean() < 120, "it is not dark"


def test_networks_are_ranked_by_what_their_masks_are_probably_worth():
    judged = [
        {"network": "far", "distance": 0.1, "predicted_dice": 0.4, "low": 0.2, "high": 0.5},
        {"network": "a", "distance": 0.9, "predicted_dice": 0.8, "low": 0.7, "high": 0.9},
        {"network": "twin", "distance": 0.2, "predicted_dice": 0.8, "low": 0.7, "high": 0.9},
    ]
    unjudged = [{"network": "b", "distance": 0.5}, {"network": "a", "distance": 0.4}]
    table = ranking_table(
        [
            result("x.tif", networks=judged),
            {"path": "broken.tif", "failed": "why"},
            result("y.tif", networks=unjudged),
        ]
    )
    assert list(table) == list(RANKING_COLUMNS)
    assert list(table["micrograph"]) == ["x.tif"] * 3 + ["y.tif"] * 2
    assert list(table["network"]) == ["twin", "a", "far", "a", "b"]
    assert list(table["rank"]) == [1, 2, 3, 1, 2]
    assert list(table["network"][table["drew"]]) == ["a", "a"]
    assert table["dice_low"].isna().sum() == 2
    assert list(ranking_table([])) == list(RANKING_COLUMNS)


def test_masks_made_elsewhere_have_a_row_with_their_verdict_and_are_no_networks():
    other = {
        "file": "<i>hand.png",
        "network": "mask: <i>hand.png",
        "sizes": RESULT.sizes,
        "n_specks": 0,
        "judgement": {
            "verdict": "do not trust",
            "predicted_dice": 0.21,
            "low": 0.0,
            "high": 0.43,
            "novelty": 0.5,
            "reasons": "its Dice with the mask of a is 0.23",
            "jury_dice": 0.23,
        },
        "notes": ["No particle was found."],
    }
    rows = [
        {"network": "a", "distance": 0.1, "predicted_dice": 0.9, "verdict": "trust"},
        {"network": other["network"], "distance": None, "predicted_dice": 0.21},
    ]
    text = page(result("x.tif", networks=rows, outside=[other]))
    assert "Masks made elsewhere" in text
    assert "&lt;i&gt;hand.png" in text
    assert "<i>hand" not in text
    assert "its Dice with the mask of a is 0.23. No particle was found." in text
    assert "1 network by predicted Dice" in text
    assert "Masks made elsewhere" not in page(result("x.tif"))
    table = ranking_table([result("x.tif", networks=rows, outside=[other])])
    assert list(table["network"]) == ["a", "mask: <i>hand.png"]
    assert list(table["n_particles"]) == [RESULT.sizes["n_particles"]] * 2


def test_to_label_next_is_what_is_typical_then_what_is_unlike_it():
    unlike = {**RESULT.sizes, "mean": 9 * RESULT.sizes["mean"]}
    results = [
        result("worst.tif", "do not trust", 0.10, sizes=unlike),
        result("a.tif", dice=0.90),
        result("typical.tif", dice=0.91),
        result("b.tif", dice=0.92),
        {"path": "broken.tif", "failed": "why"},
    ]
    table = sizes_table(results).set_index("micrograph")["label_next"]
    assert table["typical.tif"] == 1
    assert table["worst.tif"] == 2
    assert pd.isna(table["broken.tif"])
    assert sorted(table.dropna()) == [1, 2, 3, 4]
    text = page(*results)
    listed = re.search(r"might begin with(.*?)in this order", text, re.DOTALL)[1]
    assert re.findall(r">([\w.]+)</a>", listed)[:2] == ["typical.tif", "worst.tif"]


def test_without_judgement_the_page_says_what_the_order_is_made_of():
    unknown = {
        **result("a.tif")["judgement"],
        **dict.fromkeys(("predicted_dice", "low", "high", "novelty")),
        "verdict": "not judged",
    }
    text = page(result("a.tif", judgement=unknown), result("b.tif", judgement=unknown))
    assert "in this order: first what is typical of all, then what is unlike it." in text
    assert "predicted error" not in text.partition("To label next")[2].partition("</p>")[0]


def test_a_micrograph_without_a_particle_is_to_be_labelled_only_if_there_is_one():
    nothing = {**RESULT.sizes, "n_particles": 0, "n_cut": 0}
    bare = result("bare.tif", "do not trust", 0.0, sizes=nothing)
    text = page(bare, result("gold.tif"))
    assert "On bare.tif nothing was found: an empty mask teaches nothing" in text
    assert "nothing was found: an empty" not in page(result("gold.tif"), result("other.tif"))
