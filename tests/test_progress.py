"""Bars count everywhere, and are drawn on terminals only."""

import logging
import time

from temshift import progress


def test_a_bar_without_a_terminal_counts_but_draws_nothing(capsys):
    with progress.bar(total=3, unit="files", delay=0, disable=False) as bar:
        bar.update(2)
        assert progress.how_far() == ["2 of 3 files"]
    assert progress.how_far() == []
    assert capsys.readouterr() == ("", "")


def test_only_the_kernel_of_a_notebook_is_one(capsys, monkeypatch):
    from ipykernel.kernelapp import IPKernelApp

    assert list(progress.bar([1], delay=0, disable=False)) == [1]
    assert capsys.readouterr() == ("", ""), "imported, and no kernel"
    monkeypatch.setattr(IPKernelApp, "initialized", lambda: True)
    assert progress._in_notebook()


def test_on_a_terminal_it_is_drawn(monkeypatch, capsys):
    monkeypatch.setattr(progress, "on_terminal", lambda: True)
    assert list(progress.bar([1, 2], desc="files", delay=0, disable=False)) == [1, 2]
    assert "files" in capsys.readouterr().err


def test_a_log_line_stands_above_the_bars_and_keeps_its_level(monkeypatch, capsys):
    monkeypatch.setattr(progress, "on_terminal", lambda: True)
    root = logging.getLogger()
    console = logging.StreamHandler()
    console.setLevel(logging.INFO)
    monkeypatch.setattr(root, "handlers", [console])
    logger = logging.getLogger("temshift.shown")
    logger.setLevel(logging.DEBUG)
    with progress.lines_above_bars():
        logger.info("told")
        logger.debug("not told")
    shown = "".join(capsys.readouterr())
    assert "told\n" in shown
    assert "not told" not in shown
    assert root.handlers == [console]


def test_what_takes_long_is_said_and_what_does_not_is_not(monkeypatch, caplog):
    monkeypatch.setattr(progress, "PATIENCE_S", 0.1)
    caplog.set_level(logging.INFO)
    with progress.said_if_slow("short"):
        pass
    with progress.said_if_slow("long"):
        time.sleep(0.5)
    assert [record.getMessage() for record in caplog.records] == ["long"]
