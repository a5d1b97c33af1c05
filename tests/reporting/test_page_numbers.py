"""Every number of the page is worked out again from the tables; and the check finds wrong ones."""

import dataclasses
import re

import numpy as np
import pandas as pd
import pytest
from tests import synthetic_study as synthetic
from tests.page_numbers import Study, unexplained, wrong_tables

from temshift.reporting.html import render_report


@pytest.fixture(scope="module")
def source(content):
    return render_report(content)


@pytest.fixture(scope="module")
def study(content):
    return Study.of(content)


def test_every_number_of_the_page_comes_from_its_tables(source, study):
    assert wrong_tables(study) == []
    assert unexplained(source, study) == []


@pytest.mark.parametrize("protocols", [["published"], ["grouped", "published"]])
def test_the_same_under_other_protocols(protocols):
    parameters = {**synthetic.PARAMETERS, "modelling": {"folds": 3, "protocols": protocols}}
    tables = [synthetic.results_table(protocol=protocol) for protocol in protocols]
    content = synthetic.report_content(pd.concat(tables, ignore_index=True), parameters)
    assert wrong_tables(Study.of(content)) == []
    assert unexplained(render_report(content), Study.of(content)) == []


def test_the_same_where_a_network_is_trained_otherwise():
    own = {"train_on": ["low"], "training": {"steps": 6, "crop_px": 160}}
    networks = {**synthetic.PARAMETERS["networks"], "low": own}
    content = synthetic.report_content(parameters={**synthetic.PARAMETERS, "networks": networks})
    page = render_report(content)
    assert page.count("low (training.steps 6, training.crop_px 160)") > 1
    assert unexplained(page, Study.of(content)) == []
    assert unexplained(page.replace("crop_px 160)", "crop_px 161)"), Study.of(content))


def test_the_same_where_no_interval_is_known():
    content = synthetic.report_content(synthetic.results_table(groups=1, folds=1))
    assert unexplained(render_report(content), Study.of(content)) == []


#: Pieces of the page whose numbers may be nothing but one: a pattern with the number in a group.
EXACT = {
    "Dice of a cell": r'<td class="[^"]*" data-network[^>]*><button[^>]*><b>(0\.\d\d)',
    "interval of a cell": r"</b><small>(0\.\d\d) – ",
    "n of a panel": r'data-key="n">(\d+) ',
    "p of a panel": r'data-key="p_value">(?:&lt; )?(0\.\d+)',
    "corrected p": r'data-key="p_holm">(?:&lt; )?(0\.\d+)',
    "precision": r'data-key="precision">(0\.\d\d)',
    "recall": r'data-key="recall">(0\.\d\d)',
    "standard deviation": r'data-key="fold_std">(0\.\d\d)',
    "loss of a panel": r'data-key="gap">[^<]*\[−?(0\.\d\d)',
    "specimen": r'<circle class="dot"[^>]*><title>[^<:]*: (0\.\d\d)',
    "answer": r'<ul class="answers">\s*<li[^>]*><span[^>]*>.</span> (\d+) of',
    "loss in an answer": r'<ul class="answers">.*?loses (0\.\d\d)',
    "open shifts": r'<ul class="answers">.*?</li>.*?</li>.*?</span> (\d+) of',
    "tally": r'<ul class="findings">.*?Of (\d+) shifts',
    "part of a tally": r'<ul class="findings">.*?Of \d+ shifts, (\d+)',
    "loss of a finding": r'<ul class="findings">.*?loses (0\.\d\d)',
    "row of a forest": r'<text class="value"[^>]*>(0\.\d\d)',
    "title in a chart": r"<title>high on low: (0\.\d\d)",
    "gain": r'<td class="n">(0\.\d\d) \[[^<]*</td><td class="n">(?:&lt; )?0\.\d+</td>',
    "G_OOD": r'<tr data-from(?:(?!</tr>).)*?\[(?:(?!</tr>).)*?<td class="n">−?(0\.\d\d) \[',
    "asymmetry": r'<tr data-from(?:(?!</tr>).)*\[(?:(?!</tr>).)*<td class="n">−?(0\.\d\d) \[',
    "pairs that are harder": r"<p>In (\d+) of \d+ pairs",
    "asymmetry in words": r"a network loses (0\.\d\d) [^<]*more than",
    "share of area": r'<td class="n">(\d+) %</td>',
    "micrographs of a set": r'<td class="n">(\d+)</td><td class="n">\d+</td><td class="n">\d+<',
    "example": r"</strong>, Dice (0\.\d\d)",
    "scale bar": r'<span class="bar"[^>]*><span>(\d\.\d) nm',
    "contrast": r'<th scope="row">low</th><td class="n">(\d\.\d\d)</td>',
}


@pytest.mark.parametrize("piece", EXACT)
def test_a_wrong_number_is_found_out(source, study, piece):
    places = list(re.finditer(EXACT[piece], source, re.DOTALL))
    assert places, "the page has such a number"
    start, end = places[len(places) // 2].span(1)
    right = source[start:end]
    step = 1 if "." not in right else 10 ** -len(right.partition(".")[2])
    digits = len(right.partition(".")[2])
    wrong = f"{float(right) + step:.{digits}f}"
    assert unexplained(source[:start] + wrong + source[end:], study) != []


def test_a_way_that_is_not_harder_is_found_out(source, study):
    place = re.search(r"<tr data-from.*?<td>(harder|easier|not shown)</td></tr>", source, re.DOTALL)
    start, end = place.span(1)
    other = "not shown" if place[1] != "not shown" else "harder"
    assert unexplained(source[:start] + other + source[end:], study) != []


@pytest.mark.parametrize("right", ["breaks", "degrades"])
def test_a_wrong_verdict_is_found_out(source, study, right):
    # the mark stands before it in a cell
    place = re.search(rf'<td class="" data-network[^>]*>.*?</span> ({right})</small>', source)
    start, end = place.span(1)
    assert unexplained(f"{source[:start]}robust{source[end:]}", study) != []


@pytest.mark.parametrize(
    ("table", "column"),
    [
        ("matrix", "dice"),
        ("matrix", "n_groups"),
        ("matrix", "precision"),
        ("gaps", "low"),
        ("gaps", "p_value"),
        ("gaps", "p_holm"),
        ("gains", "gain"),
        ("transfer", "g_ood"),
        ("transfer", "reverse_gap"),
        ("transfer", "asymmetry"),
        ("transfer", "low"),
    ],
)
def test_a_wrong_table_is_found_out(study, table, column):
    changed = getattr(study, table).copy()
    changed[column] = changed[column].where(np.arange(len(changed)) != 1, 0.123)
    assert wrong_tables(dataclasses.replace(study, **{table: changed})) != []


def test_a_number_in_a_new_sentence_is_found_out(source, study):
    for section in ("findings", "data", "methods", "study-dose", "why", "limits", "run", "cite"):
        place = source.index(f'<section id="{section}">')
        ends = "</p>" if section == "run" else "</(p|li|dd|td)>"  # its table is of facts
        end = re.compile(ends).search(source, place).start()
        added = source[:end] + " That is 0.777 of 4321." + source[end:]
        assert len(unexplained(added, study)) >= 1, section
