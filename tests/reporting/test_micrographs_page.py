"""The page of new micrographs: honest words, no script, escaped names, drawn by a browser."""

import io
import re
import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tests.learning.test_segmentation import field, network_set

from temshift.config.deployment import DeploymentParameters
from temshift.config.trust import TrustParameters
from temshift.learning.segmentation import segment
from temshift.reporting.micrographs import histogram, render_micrographs
from temshift.study.sizes import SIZE_COLUMNS, sizes_table

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
    assert "<script" not in text
    assert "&lt;script&gt;" in text
    assert not re.search(r'(?:src|href)="(?!#|data:)', text)


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


def test_the_table_of_sizes_has_a_row_a_file():
    table = sizes_table([result("a.tif"), {"path": "b.tif", "failed": "why"}])
    assert list(table) == list(SIZE_COLUMNS)
    assert list(table["verdict"]) == ["trust", "failed"]
    assert table["reasons"][1] == "why"
    assert table["mean"][0] == RESULT.sizes["mean"]


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 200])
def test_a_browser_shows_it(tmp_path, count):
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("there is no Chromium on this machine")
    file = tmp_path / "page.html"
    file.write_text(page(*(result(f"m{i}.tif") for i in range(count))), encoding="utf-8")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    done = subprocess.run(
        [
            browser,
            *flags,
            f"--user-data-dir={tmp_path / 'profile'}",
            "--window-size=1200,900",
            f"--screenshot={tmp_path / 'page.png'}",
            "--virtual-time-budget=2000",
            file.as_uri(),
        ],
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-1000:]
    picture = np.asarray(Image.open(tmp_path / "page.png").convert("L"), float)
    assert picture.std() > 10, "the page is blank"
