import numpy as np
import pytest
from kedro_datasets.plotly import JSONDataset

from temshift.reporting.figures import gaps_figure, histories_figure, matrix_figure
from temshift.reporting.palette import loss_colours, verdict_colour


def figures(content):
    return {
        "matrix": matrix_figure(content.matrix[content.matrix["study"] == "dose"]),
        "gaps": gaps_figure(content.gaps, content.reporting),
        "histories": histories_figure(content.histories),
    }


def test_matrix_shows_every_cell(content):
    heat = figures(content)["matrix"].data[0]
    assert list(heat.x) == ["low", "mid", "high"]
    assert list(heat.y) == ["low", "mid", "high", "high_noise"]
    cell = content.cell("high", "low")
    assert np.asarray(heat.z, float)[2, 0] == cell["dice"]
    assert heat.text[2][0] == f"{cell['dice']:.2f}<br>[{cell['low']:.2f}, {cell['high']:.2f}]"


def test_gaps_are_coloured_by_verdict(content):
    figure = figures(content)["gaps"]
    breaks = next(t for t in figure.data if t.name == "breaks")
    assert "high → low" in list(breaks.y)
    assert breaks.marker.color == verdict_colour("breaks")
    assert sum(len(t.y) for t in figure.data) == len(content.gaps)


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
    assert len(matrix_figure(content.matrix.iloc[:0]).data) == 0
    assert len(gaps_figure(content.gaps.iloc[:0], content.reporting).data) == 0
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
