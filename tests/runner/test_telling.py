"""A line a step, one when nothing is to do, and how far it is while one takes long."""

import logging
import re
import time
from functools import partial

import pytest
import tqdm
from kedro.pipeline import Node, Pipeline

from temshift import progress
from temshift.runner import telling
from temshift.runner.telling import FORCED, NEVER_RUN, Teller, duration


def node(stage, **options):
    """Return a node whose function is one of a pipeline's."""

    def work(x):
        return x

    work.__module__ = f"temshift.pipelines.{stage}.nodes"
    return Node(work, **options)


PLAN = node("simulation", inputs="params:x", outputs="plan", name="plan_acquisitions")
TRAIN = node("modelling", inputs="plan", outputs="networks", name="train", namespace="au_5nm")


@pytest.fixture
def told(caplog):
    caplog.set_level(logging.INFO, "temshift")
    return lambda: [record.getMessage() for record in caplog.records]


@pytest.fixture
def teller():
    return Teller(Pipeline([PLAN, TRAIN]), logging.getLogger("temshift.runner"))


def test_a_step_is_one_line_of_stage_owner_what_and_seconds(teller, told):
    with teller.following():
        for step, why, seconds in ((PLAN, NEVER_RUN, 0.04), (TRAIN, FORCED, 192)):
            teller.begin(step, why)
            teller.end(step, why, seconds)
            teller.done += 1
    teller.finish(2)
    first, second, last = told()
    assert first.split() == ["1/2", "simulation", "plan_acquisitions", "0.0", "s"]
    assert second.split() == ["2/2", "modelling", "au_5nm", "train", "3", "min", "12", "s"]
    assert first.index("simulation") == second.index("modelling"), "columns stand below each other"
    assert first.index("plan_") == second.index("train ")
    assert re.fullmatch(r"2 steps run in 0\.\d s", last)


def test_a_step_that_is_repeated_says_why(teller, told):
    teller.begin(TRAIN, "input au_5nm.patches changed")
    teller.end(TRAIN, "input au_5nm.patches changed")
    assert told()[0].endswith("(input au_5nm.patches changed)")


def test_nothing_to_do_is_one_line(teller, told):
    with teller.following():
        teller.done = 2
    teller.finish(0)
    assert told() == [
        "Nothing to do: all 2 steps are up to date (--runner-params force=true repeats them)"
    ]


def test_what_was_up_to_date_is_counted(teller, told):
    teller.finish(1)
    assert told()[0].endswith("1 of 2 were up to date")


def test_a_long_step_without_a_terminal_is_told_while_it_is_at_work(teller, told, monkeypatch):
    monkeypatch.setattr(telling, "PATIENCE_S", 0.2)
    with teller.following(), progress.bar(total=40, unit="steps", disable=False) as bar:
        teller.begin(TRAIN, NEVER_RUN)
        bar.update(7)
        until = time.monotonic() + 10
        while not told() and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.7)
        assert len(told()) == 1, "the next line comes half a minute later"
        teller.end(TRAIN, NEVER_RUN)
    at_work, end = told()
    assert re.search(r"modelling +au_5nm +train +at work  \(.* s, 7 of 40 steps\)", at_work)
    assert "at work" not in end


def test_a_short_step_is_not(teller, told):
    with teller.following():
        teller.begin(TRAIN, NEVER_RUN)
        time.sleep(0.7)
        teller.end(TRAIN, NEVER_RUN)
    assert len(told()) == 1


def test_on_a_terminal_the_last_line_shows_what_is_at_work(teller, told, monkeypatch, capsys):
    monkeypatch.setattr(tqdm, "tqdm", partial(tqdm.tqdm, disable=False))
    monkeypatch.setattr(telling, "on_terminal", lambda: True)
    with teller.following():
        teller.begin(TRAIN, NEVER_RUN)
        time.sleep(0.1)
        teller.end(TRAIN, NEVER_RUN)
    assert "modelling au_5nm train, 0." in capsys.readouterr().err


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        *((0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.4, "59 s"), (59.6, "1 min 0 s")),
        *((552, "9 min 12 s"), (3599.7, "1 h 0 min"), (7500, "2 h 5 min")),
    ],
)
def test_durations_are_read_at_a_glance(seconds, text):
    assert duration(seconds) == text
