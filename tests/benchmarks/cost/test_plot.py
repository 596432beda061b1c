from __future__ import annotations

import xml.etree.ElementTree as ET

from benchmarks.cost.figures import Spread
from benchmarks.cost.plot import bars

SVG = "{http://www.w3.org/2000/svg}"


def test_bars() -> None:
    """Each share has its name, its figure and a bar in proportion, and no text breaks the drawing."""
    drawn = ET.fromstring(bars("a < b", {"bare": Spread(1, 1, 1), "<contrib>": Spread(0.25, 0.2, 0.3)}))  # noqa: S314 - ours
    texts = [text.text for text in drawn.iter(f"{SVG}text")]
    assert {"a < b", "bare", "<contrib>", "1.00", "0.25"} <= set(texts)
    whole, quarter = (float(rect.attrib["width"]) for rect in drawn.iter(f"{SVG}rect"))
    assert quarter == whole / 4
