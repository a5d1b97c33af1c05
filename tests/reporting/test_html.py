import copy
import dataclasses
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests import synthetic_study as synthetic

from temshift.learning.examples import Example
from temshift.reporting.html import render_report
from temshift.reporting.pictures import Pictures, contour_path, scale_bar
from temshift.reporting.sentences import dropped, first_sentences, headlines, limits
from temshift.reporting.summary import summarise
from temshift.study.run_facts import RunFacts
from temshift.study.tables import finding, findings_table

VOID = {"meta", "link", "img", "br", "hr", "input", "wbr"}


class Page(HTMLParser):
    """Checks that tags close and collects ids, links and text."""

    def __init__(self, source):
        super().__init__()
        self.open, self.ids, self.links, self.words = [], [], [], []
        self.feed(source)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids += [attributes["id"]] if "id" in attributes else []
        links = [attributes[k] for k in ("href", "src") if k in attributes]
        self.links += [link for link in links if not link.startswith("data:image/")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "script"} & set(self.open):
            self.words.append(data)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))


#: Files that the run writes beside the page.
BESIDE = {
    *(f"{name}.csv" for name in ["matrix", "gaps", "gains", "remedies", "confounds", "splits"]),
    *(
        "transfer.csv",
        "fingerprints.csv",
        "distances.csv",
        "explanation.csv",
        "integrity.csv",
        "results.json",
    ),
}


@pytest.fixture(scope="module")
def source(content):
    return render_report(content)


@pytest.fixture(scope="module")
def page(source):
    return Page(source)


def test_page_is_whole(page):
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))


def test_page_needs_no_network(source, page):
    beside = {link for link in page.links if not link.startswith("#")}
    assert beside <= BESIDE
    assert not re.search(r"@import|https?://(?!www\.w3\.org)", source)
    assert len(source) < 8e6


def test_contents_lead_somewhere(page):
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_same_content_gives_the_same_bytes(content, source):
    assert render_report(content) == source


def test_page_says_what_was_found(page):
    assert re.search(r"A network trained at 884 e/Å² loses 0\.3\d \[", page.text)
    assert "breaks" in page.text
    assert "high_noise is trained on high with augmentation.noise.rho_max 1.75" in page.text
    assert "The image sets differ in more than material" in page.text


def test_page_says_that_specimens_are_simulated(page):
    assert "These are simulated specimens." in page.text
    assert "say nothing about a calibration" in page.text


def test_calibration_is_shown_where_it_is_given():
    calibration = {
        "summary": "Contrast is 0.9 of the real one.",
        "table": [{"quantity": "contrast at 80 e/Å²", "real": 0.24, "simulated": 0.22}],
    }
    parameters = {**synthetic.PARAMETERS, "calibration": calibration}
    text = Page(render_report(synthetic.report_content(parameters=parameters))).text
    assert "Contrast is 0.9 of the real one." in text
    assert re.search(r"quantity real simulated .*contrast at 80 e/Å² 0.24 0.22", text)
    assert "say nothing about a calibration" not in text


def test_real_micrographs_are_not_called_simulated(content):
    real = dataclasses.replace(content, splits=content.splits.assign(source="doi:10.7941/D1SP93"))
    text = Page(render_report(real)).text
    assert "simulated specimens" not in text
    assert "doi:10.7941/D1SP93" in text


def test_mixed_sources_are_told_apart(content):
    splits = content.splits.assign(source=["simulated", "simulated", "microscope", ""])
    text = Page(render_report(dataclasses.replace(content, splits=splits))).text
    assert "2 of 4 image sets are: low, mid" in text
    assert "of a source that the metadata table does not name" in text


def test_nothing_is_given_in_nm_without_a_pixel_size(content):
    unknown = dataclasses.replace(
        content,
        splits=content.splits.assign(
            **{
                f"{c}_{end}": np.nan
                for c in ("pixel_size_nm", "diameter_nm")
                for end in ("min", "max")
            }
        ),
        fingerprints=content.fingerprints.assign(diameter_nm=np.nan, pixel_size_nm=np.nan),
        parameters={},
    )
    text = Page("<html><body><div>" + render_report(unknown).partition("</nav>")[2]).text
    data, _, rest = text.partition("The published findings")
    results = rest.partition("Methods")[0]
    assert "pixel size not given" in data
    assert not re.search(r"\d nm|nm/px", data)
    assert not re.search(r"\d nm/px", results)
    assert "particle diameter, px" in results
    assert "> nm <" not in results


def test_names_are_escaped():
    metadata = copy.deepcopy(synthetic.METADATA)
    metadata["silver"]["material"] = "<script>alert(1)</script>"
    source = render_report(synthetic.report_content(metadata=metadata))
    assert "<script>" not in source
    assert "&lt;script&gt;" in source


def test_both_protocols_are_shown():
    results = pd.concat(
        [synthetic.results_table(protocol=protocol) for protocol in ("grouped", "published")],
        ignore_index=True,
    )
    text = Page(render_report(synthetic.report_content(results))).text
    assert "(protocol published)" in text
    assert "Sentences and figures speak of grouped" in text


def test_one_specimen_gives_no_interval_and_no_verdict():
    content = synthetic.report_content(synthetic.results_table(groups=1, folds=1))
    page = Page(render_report(content))
    assert page.open == []
    assert "undecided" in page.text
    assert "nan" not in page.text


def test_a_run_without_training_is_reported(content):
    bare = dataclasses.replace(content, histories=content.histories.iloc[:0], examples={})
    assert "No network of this run was trained here." in Page(render_report(bare)).text


def test_summary_is_strict_json(content):
    summary = json.loads(json.dumps(summarise(content), allow_nan=False))
    assert summary["simulated_splits"] == ["low", "mid", "high", "silver"]
    assert [f["study"] for f in summary["findings"]] == ["dose", "material"]
    assert len(summary["published_findings"]) == 4
    assert len(summary["matrix"]) == 16
    worst = [g for g in summary["gaps"] if (g["network"], g["test_split"]) == ("high", "low")]
    assert worst[0]["verdict"] == "breaks"
    silent = [e for e in summary["explanation"] if e["scope"] == "material"]
    assert {e["rho"] for e in silent} == {None}


# ------------------------------------------------------------------ pictures
def disc(side=64, radius=20):
    y, x = np.mgrid[:side, :side] - side / 2 + 0.5
    return (x**2 + y**2 < radius**2).astype(np.uint8)


def test_a_contour_goes_around_its_particle():
    path = contour_path(disc())
    assert path.startswith("M")
    assert path.endswith("z")
    assert path.count("M") == 1
    points = points_of(path)
    assert np.allclose(np.hypot(*(points - 32).T), 20, atol=1)
    assert contour_path(np.zeros((8, 8), np.uint8)) == ""


def test_a_contour_is_open_at_the_edge_and_keeps_holes():
    half = disc()[:, 32:]
    assert "z" not in contour_path(half)
    ring = disc() - disc(radius=10)
    assert contour_path(ring).count("z") == 2


def points_of(path):
    """Of a path of one line, read as SVG reads it: pairs behind M are places, behind l steps."""
    ((_, first, steps),) = re.findall(r"(M)([^lz]*)l([^z]*)z?", path)
    first, steps = (
        np.array(re.findall(r"-?(?:\d*\.\d+|\d+)", part), float).reshape(-1, 2)
        for part in (first, steps)
    )
    return np.vstack([first, first[-1] + steps.cumsum(axis=0)])


@pytest.mark.parametrize("shift", [1, 5, 60, 83])
def test_a_mask_moved_by_pixels_moves_its_contour_by_as_many(shift):
    wide = np.pad(disc(), ((0, 0), (0, 100)))
    moved = points_of(contour_path(np.roll(wide, shift, axis=1))) - points_of(contour_path(wide))
    assert moved.tolist() == [[shift, 0]] * len(moved)


@pytest.mark.parametrize(
    ("width", "pixel_nm", "shrunk", "expected"),
    [
        (512, 0.02, 1, (100.0, "2 nm")),
        (512, 0.02, 2, (125.0, "5 nm")),
        (512, 0.1, 1, (100.0, "10 nm")),
        (512, 0.0005, 1, (100.0, "0.05 nm")),
        (512, None, 1, (100.0, "100 px")),
        (512, None, 4, (125.0, "500 px")),
        (512, float("nan"), 1, (100.0, "100 px")),
    ],
)
def test_a_scale_bar_is_round_and_true(width, pixel_nm, shrunk, expected):
    length, words = scale_bar(width, pixel_nm, shrunk)
    assert (length, words) == expected
    known = pixel_nm is not None and pixel_nm == pixel_nm
    unit = (pixel_nm if known else 1) * shrunk
    assert length * unit == pytest.approx(float(words.split()[0]))
    assert length <= 0.3 * width + 1e-6


def noisy(side=256, seed=0):
    image = np.random.default_rng(seed).integers(0, 255, (side, side), dtype=np.uint8)
    mask = disc(side, side / 4)
    return Example("a", "m", "best", 0.5, image, mask, mask, 0.02)


def test_pictures_are_full_unless_the_page_would_grow_too_large():
    import base64
    import io

    from PIL import Image

    example = noisy()
    full = Pictures([example])
    assert full.factor == 1
    length = len(full.show(example).uri)
    small = Pictures([example, example], budget=2 * length - 1)
    assert small.factor == 2
    shown = small.show(example)
    data = base64.b64decode(shown.uri.partition(",")[2])
    assert Image.open(io.BytesIO(data)).size == (128, 128)
    # contours and bar are measured on the example in any case
    assert (shown.width, shown.bar, shown.truth) == (256, "1 nm", full.show(example).truth)


def test_every_picture_says_what_it_shows(source, content):
    found = re.findall(r'<img src="data:image/avif;base64,[^"]+"[^>]* alt="([^"]+)"', source)
    assert len(found) == source.count("<img") > 20
    for example in content.examples["high"]:
        assert any(example.micrograph_id in alt and "network high " in alt for alt in found)
    assert all(re.search(r"1\.28 nm wide.*Dice 0\.\d\d", alt) for alt in found)


def test_a_caption_breaks_between_the_parts_of_a_path_only(content):
    examples = {
        n: [dataclasses.replace(e, micrograph_id="2024-01-15/au 5") for e in found]
        for n, found in content.examples.items()
    }
    source = render_report(dataclasses.replace(content, examples=examples))
    whole = '<span class="whole">2024-01-15</span>/<wbr><span class="whole">au 5</span>'
    assert whole in source


def test_every_cell_opens_its_own_panel(source, content):
    panels = dict(
        re.findall(r'id="(cell-\d+)" class="panel"[^>]*data-network="(.*?)" data-split', source)
    )
    cells = re.findall(
        r'<td class="[^"]*" data-network="(.*?)" data-split="(.*?)"><button[^>]* '
        r'popovertarget="(cell-\d+)"',
        source,
    )
    assert len(cells) == len(content.matrix)
    assert {panels[panel] == network for network, _, panel in cells} == {True}
    assert len({panel for *_, panel in cells}) == len(panels)
    places = content.matrix.groupby(["network", "test_split"]).ngroups
    assert len(panels) == places


def test_a_panel_shows_every_specimen_once(source, content):
    of_panel = (
        r'class="panel"[^>]* data-network="high" data-split="low".*?class="spread">(.*?)</svg>'
    )
    panel = re.search(of_panel, source, re.DOTALL)
    titles = re.findall(r'<circle class="dot"[^>]*><title>(\S+): ([\d.]+) \(', panel[1])
    of = content.results[content.results["test_split"] == "low"]
    for network, shown in (("high", titles[:6]), ("low", titles[6:])):
        own = of[of["network"] == network].groupby("group")["dice"].mean()
        assert {g: float(v) for g, v in shown} == own.round(2).to_dict()


def test_the_report_says_which_folds_were_started_again_and_which_have_not_learned(content, page):
    total = len(content.histories.groupby(["network", "fold"]))
    assert f"All {total} folds learned at the first attempt." in page.text

    histories, results = content.histories.copy(), content.results.copy()
    network = histories["network"].iloc[0]
    fold = (histories["network"] == network) & (histories["fold"] == 1)
    second = histories[fold].assign(restart=1)
    again = dataclasses.replace(content, histories=pd.concat([histories, second]))
    text = Page(render_report(again)).text
    assert f"1 of {total} trained folds had not learned and were started again" in text
    assert f"{network} fold 1 (1 x)." in text
    assert "have not learned (" not in text

    results.loc[(results["network"] == network) & (results["fold"] == 1), "learned"] = False
    failed = dataclasses.replace(again, results=results)
    assert "1 folds have not learned" in (text := Page(render_report(failed)).text)
    assert f"below 0.6): {network} fold 1. What is said" in text


def with_temperature(**values):
    """The study of doses as one of temperatures, a column of the user's own."""
    parameters = copy.deepcopy(synthetic.PARAMETERS)
    own = {"type": "number", "unit": "K", "title": "stage temperature"}
    parameters["curation"] = {"columns": {"temp_K": own}}
    metadata = copy.deepcopy(synthetic.METADATA)
    for split, value in values.items():
        metadata[split]["temp_K"] = value
    return parameters, metadata


def test_a_study_may_vary_a_column_of_ones_own():
    parameters, metadata = with_temperature(low=80.0, mid=295.0, high=500.5)
    parameters["studies"]["dose"] = {**parameters["studies"]["dose"], "varies": "temp_K"}
    parameters["studies"]["dose"]["title"] = "Temperature of the stage"
    content = synthetic.report_content(parameters=parameters, metadata=metadata)
    text = Page(render_report(content)).text
    assert "Temperature of the stage" in text
    assert "A network trained at stage temperature 500.5 K loses" in text
    assert "at stage temperature 80 K" in text
    assert "trained at 80 K 295 K 500.5 K" in " ".join(text.split())
    assert "The image sets differ in more than stage temperature" in text  # the dose does too


@pytest.mark.parametrize("silver", [80.0, 295.0])
def test_a_column_of_ones_own_confounds_where_it_differs(silver):
    parameters, metadata = with_temperature(low=295.0, mid=295.0, high=295.0, silver=silver)
    content = synthetic.report_content(parameters=parameters, metadata=metadata)
    text = " ".join(Page(render_report(content)).text.split())
    differs = silver != 295
    assert ("also differ in session and stage temperature" in text) == differs
    shared = text.partition("All sets share: ")[2].partition("The in-domain")[0]
    assert ("stage temperature 295 K" in shared) != differs
    rows = [r for r in summarise(content)["confounds"] if r["column"] == "temp_K"]
    assert [(r["split"], r["min"], r["max"]) for r in rows] == (
        [("mid", 295.0, 295.0), ("silver", 80.0, 80.0)] if differs else []
    )


@pytest.mark.parametrize("group_by", ["specimen_id", "session"])
def test_the_report_names_the_unit_that_intervals_count(group_by):
    parameters = {**synthetic.PARAMETERS, "curation": {"group_by": group_by}}
    text = Page(render_report(synthetic.report_content(parameters=parameters))).text
    unit = {"specimen_id": "specimens", "session": "sessions"}[group_by]
    assert f"networks (folds) and {unit} are both taken as random" in text
    assert ("(folds) and specimens" in text) == (group_by == "specimen_id")


def test_warnings_of_the_integrity_check_stand_in_the_report():
    replace = dataclasses.replace
    content = synthetic.report_content()
    assert "this run has not checked them" in render_report(content)
    none = replace(content, integrity=findings_table([]))
    assert "gave no warning" in render_report(none)
    unused = "3 of 9 micrographs in no split"
    found = finding("warning", "a.dm3 and 2 more", "splits", unused, "all")
    page = render_report(replace(content, integrity=findings_table([found])))
    assert "gave 1 warning" in page
    assert "3 of 9 micrographs in no split" in page


FACTS = RunFacts(
    written="2026-11-26T03:00:00Z",
    commit="0123456789abcdef",
    modified=True,
    machine=["Linux x86_64", "2 cores"],
    began="2026-11-25T22:00:00Z",
    ended="2026-11-26T02:00:00Z",
    busy_s=3905.0,
    timed_steps=3,
    steps=4,
)


def section(source, name):
    return Page(source.partition(f'<section id="{name}">')[2].partition("</section>")[0]).text


def test_the_report_says_when_where_and_by_which_code_it_was_made(content, source):
    text = section(render_report(dataclasses.replace(content, facts=FACTS)), "run")
    assert "report written 2026-11-26 03:00:00 UTC" in text
    assert "commit 0123456789ab, with changes" in text
    assert "Linux x86_64, 2 cores" in text
    assert "from 2026-11-25 22:00:00 UTC to 2026-11-26 02:00:00 UTC" in text
    assert "1 h 5 min (3 of 4 steps have recorded times)" in text
    assert "reporting.permutation_seed" not in text  # not given: the default stands in Methods
    without = section(source, "run")
    assert "report written" not in without
    assert "versions temshift" in without
    clean = dataclasses.replace(FACTS, modified=False, timed_steps=4)
    text = section(render_report(dataclasses.replace(content, facts=clean)), "run")
    assert "with changes" not in text
    assert "recorded times" not in text


def test_seeds_are_those_of_the_parameters():
    parameters = {**synthetic.PARAMETERS, "simulation": {"seed": 4321}}
    text = section(render_report(synthetic.report_content(parameters=parameters)), "run")
    assert "simulation.seed 4321" in text


def test_limits_are_said_where_they_hold_only(content):
    limited = " ".join(limits(content))
    assert "All micrographs are simulated" in limited
    assert "All sets come from one instrument" in limited
    assert "from one session" not in limited
    assert "In Material more than the studied property differs" in limited
    real = content.splits.assign(source="microscope", instrument=["a", "b", "a", "a"])
    free = dataclasses.replace(content, splits=real, confounds=content.confounds.iloc[:0])
    text = " ".join(limits(free))
    assert "simulated" not in text
    assert "instrument" not in text
    assert "more than the studied property" not in text
    unnamed = dataclasses.replace(content, splits=content.splits.assign(instrument=""))
    assert "No instrument is named" in " ".join(limits(unnamed))


def test_what_was_dropped_is_counted(content):
    assert dropped(content) == []
    fewer = content.results[content.results["micrograph_id"] != "low/0"]
    found = dropped(dataclasses.replace(content, results=fewer))
    assert found == ["1 of 6 micrographs of low were never tested."]
    histories = content.histories.copy()
    histories.loc[histories.index[:1], "restart"] = 1
    (again,) = dropped(dataclasses.replace(content, histories=histories))
    assert "trainings were started again" in again


def test_what_is_to_be_cited_is_what_the_project_says(source):
    import yaml

    citation = yaml.safe_load((Path(__file__).parents[2] / "CITATION.cff").read_text())
    text = section(source, "cite")
    assert citation["authors"][0]["name"].lower() in text.lower()
    assert citation["license"] in text
    article, data = citation["references"]
    assert article["title"] in text
    assert str(article["year"]) in text
    assert all(author["family-names"] in text for author in article["authors"])
    assert f"doi:{data['doi']}" in text


def test_figures_and_tables_are_numbered_and_have_captions(source):
    tables = re.findall(r"<table.*?</table>", source, re.DOTALL)
    assert all("<caption" in table for table in tables)
    for kind in ("Figure", "Table"):
        numbers = [int(n) for n in re.findall(rf"(?:caption>){kind} (\d+)\.", source)]
        assert numbers == list(range(1, len(numbers) + 1))
        assert len(numbers) > 3
    heads = re.findall(r"<th(?=[ >])[^>]*>", source)
    assert all("scope=" in head for head in heads)


def test_the_first_screen_answers_the_title(page, content):
    for _, sentence in first_sentences(content):
        assert sentence in page.text
    texts = [finding.text for finding in headlines(content)]
    places = [page.text.index(text) for text in texts]
    assert places == sorted(places)


def test_the_files_beside_the_page_are_those_of_the_catalog():
    import yaml

    catalog = {}
    for path in (Path(__file__).parents[2] / "conf/base").glob("catalog*.yml"):
        catalog |= yaml.safe_load(path.read_text())
    written = {
        str(entry["filepath"]).rpartition("/")[2]
        for entry in catalog.values()
        if isinstance(entry, dict) and "filepath" in entry
    }
    assert written >= BESIDE


def test_every_verdict_has_a_mark_and_a_colour_of_its_own():
    from temshift.reporting.palette import MARKS, PLOTLY_SYMBOLS, VERDICT_COLOURS

    assert set(MARKS) == set(PLOTLY_SYMBOLS) == set(VERDICT_COLOURS)
    assert len(set(MARKS.values())) == len(set(PLOTLY_SYMBOLS.values())) == len(MARKS)
    judged = [c for v, c in VERDICT_COLOURS.items() if v not in ("undecided", "reference weak")]
    assert len(set(judged)) == len(judged)


def test_no_chart_is_empty(content):
    """Without a validation set there are no charts of its Dice."""
    histories = content.histories.assign(validation_dice=float("nan"), validation_loss=float("nan"))
    text = Page(render_report(dataclasses.replace(content, histories=histories))).text
    assert "Dice on the validation set" not in text
    assert "No validation set was kept out" in text
