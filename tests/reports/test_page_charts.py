"""Charts of the pages: where a value is drawn, gaps, labels that need escaping, the data as a table."""

import math
import re
import xml.etree.ElementTree as ET

import pytest

from vpoc_ml.reports.inline_svg import Threshold, bar_chart, heat_map, line_chart
from vpoc_ml.reports.templating import environment

NAN = math.nan


def points(path):
    return [tuple(map(float, point.split())) for point in path[1:].split("L")]


def classes(chart, name):
    return [each for each in ET.fromstring(chart.svg).iter() if name in each.get("class", "").split()]


def test_line_chart_draws_values_to_scale_breaks_at_gaps_and_lists_them():
    chart = line_chart("Loss", ["a", "b", "c", "d"], {"x": [0.0, 1.0, None, 0.5]}, [Threshold(1.0, "limit", "bad")])
    first, single = classes(chart, "line")
    (x0, y0), (x1, y1) = points(first.get("d"))
    assert (x1 - x0, y0) == (144.0, 178.0), "a quarter of 576 pixels; zero lies on the axis"
    # 170 pixels for 0 to 1.08
    assert y1 == round(178 - 170 / 1.08, 1)
    (limit,) = classes(chart, "limit")
    assert limit.get("d").startswith(f"M56 {y1}H")
    assert single.get("d").endswith("h.1"), "a single point is a dot"
    assert chart.rows == (("a", "0"), ("b", "1.00"), ("c", "n/a"), ("d", "0.500"))


def test_band_is_an_outline_forth_and_back():
    chart = line_chart("t", ["a", "b"], {"x": [1.0, 1.0]}, band=("train", [0.0, 0.0], [2.0, 2.0]))
    (band,) = classes(chart, "band")
    xs = [x for x, _ in points(band.get("d").removesuffix("Z"))]
    assert xs == [xs[0], xs[1], xs[1], xs[0]]
    assert chart.columns == ("", "x", "train, from", "train, to")


def test_bars_start_at_zero_on_both_sides():
    chart = bar_chart("Net, $", ["a", "b", "c"], [2.0, -2.0, NAN], ["good", "bad", "none"])
    up, down = classes(chart, "fill")
    assert float(up.get("y")) + float(up.get("height")) == pytest.approx(float(down.get("y")))
    assert up.get("height") == down.get("height")
    assert up.find("{*}title").text == "a: 2.00"


def test_heat_map_has_a_cell_for_each_value_and_words_in_its_table():
    words = {"good": "passed", "bad": "critical", "none": "not run"}
    tones = [["good", "bad"], ["good", "none"]]
    chart = heat_map("Checks", ["close", "v" * 40], ["may", "june"], tones, words)
    cells = {each.get("class"): each.get("d").count("M") for each in classes(chart, "fill")}
    assert cells == {"fill good": 2, "fill bad": 1, "fill none": 1}
    assert chart.rows[0] == ("close", "passed", "critical")


def test_cells_of_a_heat_map_are_links_in_the_picture_and_in_its_table():
    words = {"good": "a", "bad": "b"}
    chart = heat_map("Checks", ["close"], ["may", "june"], [["good", "bad"]], words, {(0, 1): "/x&"})
    assert 'role="group"' in chart.svg
    assert '<a href="/x&amp;" tabindex="-1" aria-label="close, june: b">' in chart.svg
    assert chart.svg.count("<a ") == 1
    figure = environment().filters["chart"](chart)
    assert '<td>a</td><td><a href="/x&amp;">b</a></td>' in figure
    ET.fromstring(chart.svg)


def test_labels_are_escaped_and_nothing_needs_a_style_or_an_identifier():
    bad = '<b>&"'
    for chart in (
        line_chart(bad, [bad], {bad: [1.0]}, [Threshold(1.0, bad)]),
        bar_chart(bad, [bad], [1.0]),
        heat_map(bad, [bad], [bad], [["good"]], {"good": bad}),
        heat_map(bad, [bad], [bad], [["good"]], {"good": bad}, {(0, 0): f"/?{bad}"}),
        line_chart(bad, [], {}),
        bar_chart(bad, [], []),
    ):
        assert "<b>" not in chart.svg
        assert not re.search(r"\b(style|id|on\w+)=", chart.svg)
        figure = environment().filters["chart"](chart)
        assert "<b>" not in figure
        ET.fromstring(figure)
