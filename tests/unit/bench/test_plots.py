"""Growth is stated as it is, and its plot is a picture."""

from xml.etree import ElementTree as ET

import pytest

from bench import plots

SIZES = (100, 300, 1000, 3000)


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_exponent_is_the_power_that_a_cost_grows_with(power: float) -> None:
    assert plots.exponent([(n, 7.0 * n**power) for n in SIZES]) == pytest.approx(power)


def test_plot_names_each_line_with_its_growth() -> None:
    lines = {"CPU <all>": [(n, 0.02 * n) for n in SIZES], "memory": [(n, 80 + n / 100) for n in SIZES]}
    picture = ET.fromstring(plots.growth("Cost", lines, "resources"))
    texts = [each.text for each in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert "CPU <all>: n^1.00" in texts
    assert "3,000" in texts
    assert len(list(picture.iter("{http://www.w3.org/2000/svg}polyline"))) == 3


def test_points_lie_where_their_numbers_say_and_have_names() -> None:
    points = {"<none>": (0.0, 0.0), "half": (50.0, 10.0), "most": (100.0, 100.0)}
    picture = ET.fromstring(plots.scatter("Points", points, ("hours", "seconds")))
    found = [
        (float(each.attrib["cx"]), float(each.attrib["cy"]))
        for each in picture.iter("{http://www.w3.org/2000/svg}circle")
    ]
    (left, bottom), middle, (right, top) = found
    assert middle == pytest.approx(((left + right) / 2, (bottom + top) / 2))
    assert left < right
    assert top < bottom, "what is more is above"
    texts = [each.text for each in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert {"1 <none>", "2 half", "3 most", "≤ 1", "100"} <= set(texts)
