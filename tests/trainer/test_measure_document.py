"""What docs/thresholds.md tells a quality engineer is what the trainer computes."""

import re
from pathlib import Path

from ssn_trainer.measure.bounds import images_needed, upper_bound
from ssn_trainer.measure.tail import FEWEST_PARTS, fit_needs

TEXT = (Path(__file__).parents[2] / "docs" / "thresholds.md").read_text("utf-8")


def test_the_table_of_images_needed_is_computed_so() -> None:
    rows = re.findall(r"^\| ([\d.]+) \| (\d+) \| (\d+) \| (\d+) \|$", TEXT, re.MULTILINE)
    assert len(rows) == 5
    for limit, *shown in rows:
        rate = float(limit)
        expected = [images_needed(rate), images_needed(rate, rate / 2), fit_needs(rate)]
        assert [int(n) for n in shown] == expected


def test_the_example_is_true() -> None:
    assert upper_bound(0, 80) < 0.05
    # Significant digits as `fit` prints them.
    assert f"a rate below {float(upper_bound(0, 30)):.3g} " in " ".join(TEXT.split())
    assert f"it takes {images_needed(0.02)} bad parts" in TEXT
    assert round(0.9**30 * 100) == 4
    assert f"from {FEWEST_PARTS} parts on" in TEXT
