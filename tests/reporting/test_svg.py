import xml.etree.ElementTree as ET

import numpy as np
import pytest

from temshift.reporting import svg

NAN = float("nan")


def parse(drawing):
    return ET.fromstring(drawing)


def texts(root):
    return [element.text for element in root.iter("text")]


def test_forest_places_estimates_on_their_axis():
    rows = [
        svg.Whisker("a <b>", 0.0, NAN, NAN, "v-robust", "0.00"),
        svg.Whisker("c", 0.4, 0.3, 0.5, "v-breaks", "0.40 [0.30, 0.50]"),
    ]
    root = parse(svg.forest(rows, (0.03, 0.15), "loss"))
    zero, far = (float(e.get("x")) for e in root.iter("text") if e.get("class") == "mark")
    line = next(e for e in root.iter("line") if e.get("class") == "zero")
    assert float(line.get("x1")) == pytest.approx(zero, abs=0.1)
    (whisker,) = [e for e in root.iter("line") if e.get("class") == "whisker"]
    low, high = float(whisker.get("x1")), float(whisker.get("x2"))
    assert (low + high) / 2 == pytest.approx(far, abs=0.2)
    assert (high - low) / (far - zero) == pytest.approx(0.5, abs=0.01)
    assert "a <b>" in texts(root)
    assert [e.get("class") for e in root.iter("rect")] == ["band0", "band1", "band2"]


def test_strips_place_all_studies_on_one_axis_and_draw_the_interval_of_the_last():
    marks = [
        svg.Whisker("a", 0.0, -0.1, 0.1, "v-robust", ""),
        svg.Whisker("b", 0.2, 0.1, 0.3, "v-degrades", "", mark="▲"),
    ]
    rows = [svg.Strip("one", "#one", marks), svg.Strip("two", "#two", marks[:1])]
    root = parse(svg.strips(rows, (0.03, 0.15), ("robust", "degrades", "breaks"), "loss"))
    placed = [float(e.get("x")) for e in root.iter("text") if e.get("class") == "mark"]
    assert placed[0] == placed[2] < placed[1]
    whiskers = [e for e in root.iter("line") if e.get("class") == "whisker"]
    assert len(whiskers) == 2
    assert [a.get("href") for a in root.iter("a")] == ["#one", "#two"]


def test_bands_below_the_axis_are_left_out():
    rows = [svg.Whisker("a", -0.5, -0.6, -0.4, "v-robust", "")]
    root = parse(svg.forest(rows, (-0.9, 0.15), "loss"))
    assert [e.get("class") for e in root.iter("rect")] == ["band1", "band2"]


def test_missing_values_break_a_line():
    line = svg.Line([0, 1, 2, 3, 4], [0.5, 0.6, NAN, 0.7, NAN], "dice")
    root = parse(svg.line_chart([line], "a network", (0, 1), "step"))
    assert len(list(root.iter("polyline"))) == 2
    assert len(list(root.iter("circle"))) == 1  # a single value is still seen
    assert "a network" in texts(root)


def test_empty_charts_are_drawn():
    assert not list(parse(svg.line_chart([], "none", (0, 1))).iter("polyline"))
    assert not list(parse(svg.scatter([], "none", "x", (0, 1))).iter("circle"))


def test_points_say_what_they_are():
    root = parse(svg.scatter([svg.Point(0.2, 0.1, "s0", "a → b")], "noise", "rho", (0, 1)))
    assert next(root.iter("title")).text == "a → b"


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-0.031, 0.4), (0.1, 0.1004), (0, 250)])
def test_ticks_are_round_and_inside(low, high):
    ticks = svg._ticks(low, high)
    assert 3 <= len(ticks) <= 9
    assert low - 1e-9 <= ticks[0]
    assert ticks[-1] <= high + 1e-9
    steps = np.diff(ticks)
    assert steps == pytest.approx(np.full(len(steps), steps[0]))


@pytest.mark.parametrize(("n", "width"), [(2, 321), (10, 321), (10, 643), (25, 643)])
def test_a_matrix_of_any_size_keeps_its_marks_and_no_text_leaves_its_cell(n, width):
    names = [f"{100 + i} – {421 + i} e/Å²" for i in range(n)]
    cell = svg.Cell("0.85", "0.83 – 0.86", "◐", "v-robust-or-degrades", "#fce4cd", "#000000")
    rows = [(name, [cell] * (n - 1) + [None]) for name in [*names, "a_network_of_a_long_name"]]
    titles = ("trained at", "tested at")
    root = parse(svg.matrix(rows, names, titles, [("0", "#ffffff")], "loss", width))
    cells = [e for e in root.iter("rect") if e.get("class") == "cell"]
    assert len(cells) == (n - 1) * (n + 1)
    written = [e for e in root.iter("text") if (e.get("class") or "").startswith("cell-")]
    assert sum(e.text == "◐" for e in written) == len(cells)
    broad = float(cells[0].get("width"))
    assert max(len(e.text) for e in written) * 5.5 <= broad or broad < 12
    assert float(cells[n - 2].get("x")) + broad < width
    assert ("0.85" in texts(root)) == (broad > 28)


@pytest.mark.parametrize("narrow", [True, False])
def test_long_labels_are_broken_and_keep_clear_of_values(narrow):
    label = "a_network_whose_name_is_longer_than_a_line → 421 – 425 e/Å² and something else"
    row = svg.Whisker(label, 0.4, 0.3, 0.5, "v-breaks", "0.40 [0.30, 0.50]")
    root = parse(svg.forest([row], (0.03, 0.15), "loss", 321 if narrow else 643, None, narrow))
    (group,) = list(root.iter("g"))
    parts = [e for e in group.iter("text") if e.get("class") == "tick"]
    assert len(parts) > 1
    assert "".join(e.text for e in parts).replace(" ", "") == label.replace(" ", "")
    (value,) = [e for e in group.iter("text") if e.get("class") == "value"]
    heights = [float(e.get("y")) for e in parts]
    if narrow:
        assert float(value.get("y")) > max(heights)
    high = float(root.get("viewBox").split()[3])
    assert min(heights) > 8
    assert max(heights) < high
