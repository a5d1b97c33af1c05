from dataclasses import replace

import numpy as np
import pytest
from kedro_datasets.plotly import JSONDataset

from temshift.reporting.figures import gaps_figure, histories_figure, matrix_figure
from temshift.reporting.palette import MARKS, WORST_LOSS, loss_colours, verdict_colour
from temshift.reporting.sentences import with_interval


def figures(content):
    return {
        "matrix": matrix_figure(content, "dose"),
        "gaps": gaps_figure(content),
        "histories": histories_figure(content.histories),
    }


def test_matrix_speaks_the_language_of_the_report(content):
    heat = figures(content)["matrix"].data[0]
    assert list(heat.x) == ["80 e/Å²", "423 e/Å²", "884 e/Å²"]
    assert list(heat.y) == ["80 e/Å²", "423 e/Å²", "884 e/Å²", "high_noise"]
    gaps = content.gaps.set_index(["network", "test_split", "study"])
    cell, gap = content.cell("high", "low"), gaps.loc[("high", "low", "dose")]
    assert heat.z[2][0] == gap["gap"]
    assert heat.z[2][2] == 0  # its own set
    dice, interval, verdict = heat.text[2][0].split("<br>")
    assert f"{dice} {interval}" == with_interval(cell["dice"], cell["low"], cell["high"])
    assert verdict == f"{MARKS[gap['verdict']]} {gap['verdict']}"


def test_matrices_of_all_studies_have_one_scale(content):
    axes = [matrix_figure(content, s).layout.coloraxis for s in content.plan.studies]
    assert {(a.cmin, a.cmax, a.colorscale) for a in axes} == {(0, WORST_LOSS, axes[0].colorscale)}
    assert [colour for _, colour in axes[0].colorscale] == [
        loss_colours(loss)[0] for loss in np.linspace(0, WORST_LOSS, 6)
    ]


def test_gaps_are_coloured_by_verdict(content):
    figure = figures(content)["gaps"]
    breaks = next(t for t in figure.data if t.name == "breaks")
    assert "884 e/Å² → 80 e/Å²" in list(breaks.y)
    assert breaks.marker.color == verdict_colour("breaks")
    assert sum(len(t.y) for t in figure.data) == len(content.gaps)


def test_what_is_called_alike_stays_apart(content):
    """Two sets of one condition are two rows, and nothing is drawn over the other."""
    doses = ["dose_e_per_A2_min", "dose_e_per_A2_max"]
    alike = content.splits.copy()
    alike.loc["mid", doses] = alike.loc["low", doses]
    heat = matrix_figure(replace(content, splits=alike), "dose").data[0]
    assert len(set(heat.x)) == 3
    assert len(set(heat.y)) == 4


def test_histories_have_a_line_a_network_and_quantity(content):
    figure = figures(content)["histories"]
    assert len(figure.data) == 3 * len(content.plan.trained)
    assert len(figure.data[0].x) == 3 * (4 + 1)  # folds with a break behind each


@pytest.mark.parametrize("name", ["matrix", "gaps", "histories"])
def test_kedro_viz_previews_the_figure(content, tmp_path, name):
    dataset = JSONDataset(filepath=str(tmp_path / "figure.json"))
    figure = figures(content)[name]
    dataset.save(figure)
    preview = dataset.preview()
    assert set(preview) >= {"data", "layout"}
    assert len(preview["data"]) == len(figure.data)
    assert dataset.load() == figure


def test_nothing_to_draw_is_no_error(content):
    nothing = replace(content, matrix=content.matrix.iloc[:0], gaps=content.gaps.iloc[:0])
    assert len(matrix_figure(nothing, "dose").data) == 0
    assert len(gaps_figure(nothing).data) == 0
    assert len(histories_figure(content.histories.iloc[:0]).data) == 0


def test_text_on_a_cell_can_be_read():
    """Contrast of at least 4.5 (WCAG AA) all along the scale."""

    def luminance(colour):
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    for dice in np.linspace(0, 1, 101):
        light, dark = sorted((luminance(c) for c in loss_colours(dice)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, dice
